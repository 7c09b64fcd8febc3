"""What is known of a callback beside itself: who has claimed it, and what has happened to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from pollin_actors.resources import Callback

__all__ = ["MAX_REPEATS", "Claim", "Claims", "EndpointStats", "Kind", "Record", "RecordPage"]

MAX_REPEATS = 20
"""So many records of one callback say at most that the same came again: or a sender that repeats
itself could fill the store."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A callback that somebody has taken to work on, until it is acknowledged or given back.

    Arguments:
        endpoint_id: the callback's endpoint.
        callback: as it is queued; its ``attempts`` counts this claim.
        token: proves that the claim still holds; each claim has its own.
        until: when the lease ends: nanoseconds since the epoch.
    """

    endpoint_id: str
    callback: Callback
    token: str = field(repr=False)
    until: int

    @property
    def key(self) -> str:
        """The callback's id."""
        return self.callback.id

    @property
    def attempt(self) -> int:
        """1 for the first time that the callback is claimed in its phase."""
        return self.callback.attempts


class Claims(NamedTuple):
    """The reply to a claim.

    ``next_at`` is the earliest time at which more may become available without any operation, as
    when a delay or a lease ends: nanoseconds since the epoch; None if there is no such time.
    """

    claims: list[Claim]
    next_at: int | None


class Kind(StrEnum):
    """What happened to a callback."""

    PUSHED = "pushed"
    MOVED = "moved"
    """Into another phase, by an update."""
    CLAIMED = "claimed"
    ACKNOWLEDGED = "acknowledged"
    """Work on it is done: it went into another phase, or out of the queue."""
    FAILED = "failed"
    """An attempt failed; it is tried again."""
    RELEASED = "released"
    """Given back before work had begun: no attempt."""
    LAPSED = "lapsed"
    """The lease ran out."""
    DEAD = "dead"
    """An attempt failed and was the last: it went into another phase."""
    DISCARDED = "discarded"
    POPPED = "popped"
    DELETED = "deleted"
    REPEATED = "repeated"
    """The same came again and added nothing: the phase, if it is still queued, stays."""
    EXPIRED = "expired"
    RESET = "reset"
    """The whole queue was emptied, and all earlier records with it; it has no callback."""


class Record(NamedTuple):
    """One change of one callback. Nothing ever changes a record."""

    position: int
    """Ascending within an endpoint, with gaps; never given out twice."""
    endpoint_id: str
    callback_id: str
    """Empty where the change is the whole endpoint's."""
    kind: Kind
    from_phase: str | None
    """The phase it was in; None for what was not queued before."""
    to_phase: str | None
    """The phase it is in now; None for what is not queued any more."""
    at: int
    """Nanoseconds since the epoch."""
    by: str
    """Who claimed it; empty where nobody had."""
    attempt: int
    """Of what was claimed: which claim it is, or was, counted from 1 in each phase; else 0."""
    reason: str
    """What was said of it. Of what came again with another id: that id."""


class RecordPage(NamedTuple):
    """Records, oldest first, and how far was read: where the next page starts."""

    records: list[Record]
    cursor: int


class EndpointStats(NamedTuple):
    """How an endpoint stands."""

    queued: int
    """Callbacks in the queue; all that follow are of these, but for expired."""
    size: int
    """The sum of their sizes in bytes."""
    claimed: int
    """Claimed, and the lease has not ended."""
    delayed: int
    """Not available yet: they wait for their time, or for others of the same ordering key."""
    expired: int
    """How many have expired and were swept since the endpoint was created or reset."""
