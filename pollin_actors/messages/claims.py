"""Claiming callbacks, and what becomes of claims."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Ack", "ClaimSlice", "Extend", "Nack", "Release"]


class ClaimSlice(NamedTuple):
    """Claim available callbacks of one phase, or of all: at most ``limit``, oldest first.

    Reply: ``Claims(claims, next_at)``. Until ``lease`` seconds from now, or until it is
    acknowledged, given back, moved or deleted, a claimed callback is not available to others and
    does not expire. ``by`` says who claims it, for its history.

    Errors: ``EndpointNotFound``, ``UnknownPhase``.
    """

    endpoint_id: str
    phase: str | None
    limit: int = 1
    lease: float = 30.0
    by: str = ""


class Ack(NamedTuple):
    """Work on a claimed callback is done: it goes into the phase ``then``, or out of the queue.

    In another phase its attempts are counted anew; into the one that it is in, they go on.

    With ``discard`` it goes out of the queue and is recorded as discarded, with the reason.

    Reply: None. Errors, looked for in this order, nothing changed: ``EndpointNotFound``,
    ``UnknownPhase``, ``ClaimLost``.
    """

    endpoint_id: str
    key: str
    token: str
    then: str | None = None
    discard: bool = False
    reason: str = ""


class Nack(NamedTuple):
    """Work on a claimed callback has failed: it is available again in ``retry_in`` seconds.

    With ``dead_letter`` this was the last attempt: it goes into that phase instead.

    Reply: None. Errors as those of ``Ack``.
    """

    endpoint_id: str
    key: str
    token: str
    retry_in: float = 0.0
    reason: str = ""
    dead_letter: str | None = None


class Extend(NamedTuple):
    """Let a claim hold until ``lease`` seconds from now. Reply: nanoseconds since the epoch.

    Errors: ``EndpointNotFound``, ``ClaimLost``.
    """

    endpoint_id: str
    key: str
    token: str
    lease: float = 30.0


class Release(NamedTuple):
    """Give a claimed callback back at once, as if it had not been claimed: no attempt is counted.

    Reply: None. Errors: ``EndpointNotFound``, ``ClaimLost``.
    """

    endpoint_id: str
    key: str
    token: str
