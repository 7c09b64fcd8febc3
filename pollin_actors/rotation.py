"""Giving an endpoint another secret, while the present one stays valid for a while."""

from __future__ import annotations

import time

from pollin_actors.calls import Steps, failed, run_steps
from pollin_actors.checking import describe
from pollin_actors.errors import EndpointNotFound, InvalidValue
from pollin_actors.messages import FindEndpoint, RotateSecret
from pollin_actors.otp import ReplyFuture
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.resources import MAX_DEDUP_FOR_S, Endpoint, Secret

__all__ = ["DEFAULT_OVERLAP_S", "rotate"]

DEFAULT_OVERLAP_S = 86_400.0


def rotate(
    mailbox: Mailbox,
    endpoint_id: str,
    secret: str | Secret | None,
    overlap: float,
    timeout: float | None,
) -> ReplyFuture[Endpoint]:
    """As ``app.endpoints.rotate``, by way of the mailbox of the endpoints."""
    try:
        overlap_ns = _read_overlap(overlap)
        wanted = secret if secret is None or isinstance(secret, Secret) else Secret(secret)
    except InvalidValue as error:
        return failed(error)
    steps = _rotating(mailbox, endpoint_id, wanted, overlap_ns, timeout)
    return run_steps(steps, mailbox, "rotate", timeout)


def _rotating(
    mailbox: Mailbox,
    endpoint_id: str,
    secret: Secret | None,
    overlap_ns: int,
    timeout: float | None,
) -> Steps[Endpoint]:
    if secret is None:
        found: Endpoint | None = yield mailbox.ask(FindEndpoint(endpoint_id), timeout)
        if found is None:
            raise EndpointNotFound(endpoint_id)
        secret = found.intake.scheme.generate_secret()
    runtime = mailbox.runtime
    now = time.time_ns() if runtime is None else runtime.clock.time_ns()
    message = RotateSecret(endpoint_id, secret, now + overlap_ns)
    changed: Endpoint = yield mailbox.ask(message, timeout)
    return changed


def _read_overlap(value: object) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= MAX_DEDUP_FOR_S  # neither is NaN
    ):
        expected = f"seconds, at least 0 and at most {MAX_DEDUP_FOR_S:.0f}"
        raise InvalidValue("overlap", expected, describe(value))
    return round(value * 1e9)
