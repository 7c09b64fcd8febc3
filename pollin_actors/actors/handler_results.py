"""What a handler may return, and what becomes of a callback then."""

from __future__ import annotations

from dataclasses import dataclass
from traceback import walk_tb
from typing import NamedTuple

from pollin_actors.actors.handler_spec import HandlerSpec, check_seconds
from pollin_actors.errors import InvalidValue
from pollin_actors.messages import Ack, Nack
from pollin_actors.records import Claim
from pollin_actors.resources import MAX_DEDUP_FOR_S

__all__ = [
    "Advance",
    "Discard",
    "Reject",
    "Retry",
    "Verdict",
    "failed",
    "judge",
    "reason_of",
    "where_of",
]

MAX_REASON = 500
"""Characters of a reason that are kept."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Returned by a handler: this attempt has failed, without an exception.

    The last attempt that ``max_attempts`` allows goes to the dead letters, as after an exception.

    Arguments:
        after: seconds until the next attempt; None: as the handler's back-off says.
        reason: for the callback's history.

    Raises:
        InvalidValue: ``after`` is no number of seconds of at least 0.
    """

    after: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.after is not None:
            check_seconds("Retry.after", self.after, zero=True)
        _check_text("Retry.reason", self.reason)


@dataclass(frozen=True, slots=True)
class Discard:
    """Returned by a handler: the callback is of no use; it leaves the queue, and that is recorded.

    Arguments:
        reason: for the callback's history.
    """

    reason: str = ""

    def __post_init__(self) -> None:
        _check_text("Discard.reason", self.reason)


@dataclass(frozen=True, slots=True)
class Reject:
    """Returned by a handler: this attempt has failed, and another one would too.

    The callback goes to the dead letters at once; without ``dead_letter`` it is discarded.

    Arguments:
        reason: for the callback's history.
    """

    reason: str = ""

    def __post_init__(self) -> None:
        _check_text("Reject.reason", self.reason)


@dataclass(frozen=True, slots=True)
class Advance:
    """Returned by a handler: done, and the callback goes into this phase instead of ``then``.

    Arguments:
        phase: one of the endpoint's; if it has no such phase, the attempt has failed.
    """

    phase: str

    def __post_init__(self) -> None:
        _check_text("Advance.phase", self.phase)


class Verdict(NamedTuple):
    """What is sent to the backend about a claim, and how the log calls it."""

    message: Ack | Nack
    event: str | None
    """``handler.failed``, ``handler.dead``, or None for what went well."""
    kind: str
    """What it failed on: the exception's type, or a few words; never more."""
    where: str = ""
    """The file and line of the handler's code at which it was raised, if it was."""


def judge(spec: HandlerSpec, claim: Claim, result: object, draw: float) -> Verdict:
    """What becomes of a claimed callback whose handler has returned.

    Arguments:
        spec: the handler.
        claim: the claim.
        result: what the handler returned for it.
        draw: a random number between 0 and 1, for the back-off.
    """
    key, token = claim.callback.id, claim.token
    if result is None:
        return Verdict(Ack(claim.endpoint_id, key, token, spec.then), None, "")
    if isinstance(result, Retry):
        return failed(spec, claim, result.reason, "Retry", draw, after=result.after)
    if isinstance(result, Reject) and spec.dead_letter is not None:
        reason = clean(result.reason)
        message = Nack(claim.endpoint_id, key, token, 0.0, reason, spec.dead_letter)
        return Verdict(message, "handler.dead", "Reject")
    if isinstance(result, Discard | Reject):
        reason = clean(result.reason)
        return Verdict(Ack(claim.endpoint_id, key, token, None, True, reason), None, "")
    then = result.phase if isinstance(result, Advance) else spec.then
    return Verdict(Ack(claim.endpoint_id, key, token, then), None, "")


def failed(
    spec: HandlerSpec,
    claim: Claim,
    reason: str,
    kind: str,
    draw: float,
    *,
    after: float | None = None,
    bury: bool = True,
) -> Verdict:
    """What becomes of a claimed callback whose attempt has failed.

    Arguments:
        spec: the handler.
        claim: the claim.
        reason: for its history; it is cut and cleaned.
        kind: for the log.
        draw: a random number between 0 and 1, for the back-off.
        after: seconds until the next attempt; None: as the back-off says.
        bury: whether it goes to the dead letters after the last attempt.
    """
    key, token, reason = claim.callback.id, claim.token, clean(reason)
    if bury and spec.is_last(claim.attempt):
        message = Nack(claim.endpoint_id, key, token, 0.0, reason, spec.dead_letter)
        return Verdict(message, "handler.dead", kind)
    delay = spec.backoff.delay(claim.attempt + 1, draw) if after is None else float(after)
    delay = min(delay, MAX_DEDUP_FOR_S)  # more than a backend takes
    return Verdict(Nack(claim.endpoint_id, key, token, delay, reason), "handler.failed", kind)


def reason_of(error: BaseException) -> str:
    """``TypeName: text`` of an exception, whatever its text does."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = "<its text failed>"
    return f"{name}: {text}" if text else name


def where_of(error: BaseException) -> str:
    """``file:line`` of the handler's own code at which an exception came; empty if in none.

    It is for the log, which must not have what an exception says.
    """
    # The first frame is ours, that of the call; the next is the handler's.
    code = [(f.f_code.co_filename, line) for f, line in walk_tb(error.__traceback__)][1:]
    own = [line for file, line in code if file == code[0][0]]
    return f"{code[0][0]}:{own[-1]}" if own else ""


def clean(reason: str) -> str:
    """A reason as every backend can store it: not too long, no NUL, no lone surrogates."""
    reason = reason[:MAX_REASON]
    if reason.isprintable():
        return reason
    return "".join("�" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in reason)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidValue(name, "a str", f"a {type(value).__name__}")
