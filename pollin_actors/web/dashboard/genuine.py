"""Whether a callback that is stored was signed by who knows the secret, looked at once more."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from pollin_actors.errors import PollinError
from pollin_actors.resources import Callback, Endpoint, Request
from pollin_actors.signatures import Refused, SharedSecret
from pollin_actors.web.waiting import HIDDEN, unpacked

__all__ = ["Verdict", "verdict_of"]

Outcome: TypeAlias = Literal["genuine", "refused", "unknown"]


class Verdict(NamedTuple):
    """What verifying again has said."""

    outcome: Outcome
    scheme: str
    reason: str
    """Why not, or with which secret."""


def verdict_of(endpoint: Endpoint, callback: Callback, quarantined: bool = False) -> Verdict | None:
    """Verify a stored request by the scheme of an endpoint, with the secrets that it has now.

    It is judged by the time of its arrival. None: it is no request.

    Arguments:
        endpoint: which it is for.
        callback: the request, as it is stored.
        quarantined: whether it was stored without having been verified.
    """
    request = callback.request
    if not isinstance(request, Request):
        return None
    scheme = endpoint.intake.scheme
    shows = isinstance(scheme, SharedSecret) and not quarantined
    if shows and any(value == HIDDEN.decode() for _, value in request.headers):
        reason = "the header that showed the secret was checked at its arrival, and is not stored"
        return Verdict("unknown", scheme.name, reason)
    if callback.origin is not None and not request.headers:
        return Verdict("unknown", scheme.name, "it was made here, and has no headers")
    at = callback.created_at
    try:
        secrets = endpoint.secrets_at(at)
        found = scheme.verify(unpacked(request).delivery(secrets), secrets, at / 1e9)
    except PollinError as error:
        return Verdict("unknown", scheme.name, str(error))
    if isinstance(found, Refused):
        return Verdict("refused", scheme.name, found.reason)
    if found.secret is None:
        return Verdict("unknown", scheme.name, "the scheme asks for no secret")
    return Verdict("genuine", scheme.name, f"with the secret {found.secret.fingerprint()}")
