"""What the queue in memory is made of: rows, claims on them, and the trail each one leaves.

All of it is immutable: a change of a row is a new row in its place, and so takes effect in one
single step, its records with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pollin_actors.backends.checks import repeat_reason
from pollin_actors.records import MAX_REPEATS

if TYPE_CHECKING:
    from pollin_actors.resources import Callback, Endpoint

__all__ = [
    "Change",
    "Ended",
    "Event",
    "Hold",
    "Row",
    "Terms",
    "Trail",
    "ended_row",
    "marked",
    "may_repeat",
    "moved_row",
    "read_terms",
    "repeat_event",
    "repeated_ended",
    "repeated_row",
]

# A named tuple's own constructor takes four times as long.
_new_tuple = tuple.__new__

# Position, number of the row, kind, from phase, to phase, at, by, attempt, reason. A plain tuple of
# plain values, not a Record: it is made often and seldom read, and the garbage collector need not
# look at it.
Event: TypeAlias = "tuple[int, int, str, str | None, str | None, int, str, int, str]"

# The newest event and the trail before it: one more costs the same however many there are.
Trail: TypeAlias = "tuple[Event, Trail | None]"


class Hold(NamedTuple):
    """A claim on a row: ``until`` is nanoseconds since the epoch."""

    token: str
    until: int
    by: str


class Row(NamedTuple):
    """A callback that is queued. Times are nanoseconds since the epoch.

    Its number in the queue is also the position of the record that says that it was pushed. That
    record is told from the row; the trail holds those that follow. Without ``keep_ns`` there are
    no records. ``repeats`` of them say that the same came again.
    """

    callback: Callback
    expires_at: int | None
    remembered_until: int | None
    keep_ns: int
    pushed_at: int
    pushed_phase: str
    trail: Trail | None
    hold: Hold | None
    retry_at: int
    repeats: int

    @property
    def ready_at(self) -> int:
        """Before when it is not available, even if nobody has claimed it."""
        return max(self.retry_at, self.callback.not_before or 0)

    @property
    def ends_at(self) -> int | None:
        """When it expires: not while it is claimed."""
        if self.hold is None or self.expires_at is None:
            return self.expires_at
        return max(self.expires_at, self.hold.until)


class Ended(NamedTuple):
    """A callback that has left the queue and is kept ``until`` then."""

    callback: Callback
    until: int
    pushed_at: int
    pushed_phase: str
    trail: Trail | None
    repeats: int


class Terms(NamedTuple):
    """The endpoint and what is needed of it at every push, replaced together in one step."""

    endpoint: Endpoint
    ttl_ns: int
    dedup_ns: int
    keep_ns: int
    limited: bool

    def expires_at(self, phase: str, now: int) -> int | None:
        """When a callback expires that is pushed into this phase now."""
        return now + self.ttl_ns if self.ttl_ns and phase not in self.endpoint.consumes else None


class Change(NamedTuple):
    """A change that is decided. To carry it out twice is the same as once.

    Arguments:
        rows: rows that are new, or have changed, by number.
        ended: rows that leave the queue; None for one that is not kept.
        expired: how many have expired when it is done.
        forgotten: numbers of those that are kept no longer.
        cursor: a cursor's name and its new position.
        terms: the new terms, if they change.
        kept: what is kept already and has changed, by number.
    """

    rows: dict[int, Row]
    ended: dict[int, Ended | None]
    expired: int
    forgotten: tuple[int, ...] = ()
    cursor: tuple[str, int] | None = None
    terms: Terms | None = None
    kept: dict[int, Ended] | None = None


def read_terms(endpoint: Endpoint) -> Terms:
    """Return the terms of an endpoint."""
    return Terms(
        endpoint,
        endpoint.ttl * 1_000_000,
        round(endpoint.dedup_for * 1e9),
        round(endpoint.keep_for * 1e9),
        endpoint.capacity is not None or endpoint.capacity_bytes is not None,
    )


def marked(
    row: Row,
    number: int,
    position: int,
    kind: str,
    to: str | None,
    now: int,
    hold: Hold | None = None,
    reason: str = "",
) -> Trail | None:
    """Return the row's trail with one event more. ``hold`` is the claim that it is about."""
    if not row.keep_ns:
        return None
    by, attempt = ("", 0) if hold is None else (hold.by, row.callback.attempts)
    event = (position, number, kind, row.callback.phase, to, now, by, attempt, reason)
    return event, row.trail


def moved_row(row: Row, phase: str, trail: Trail | None, terms: Terms, now: int) -> Row:
    """Return the row in a phase that it enters now, claimed by nobody."""
    # Where nothing is consumed the ttl runs from the push.
    entered = terms.expires_at(phase, now) if terms.endpoint.consumes else row.expires_at
    callback = row.callback
    return row._replace(
        # Acknowledged into the phase that it is in, it goes on counting.
        callback=callback if callback.phase == phase else callback.with_phase(phase),
        expires_at=entered,
        trail=trail,
        hold=None,
        retry_at=0,
    )


def ended_row(row: Row, trail: Trail | None, now: int) -> Ended | None:
    """Return what is kept of a row that leaves the queue now, if anything is."""
    if not row.keep_ns:
        return None
    until = now + row.keep_ns
    return Ended(row.callback, until, row.pushed_at, row.pushed_phase, trail, row.repeats)


def may_repeat(life: Row | Ended) -> bool:
    """Say whether it is to have one more record that says that the same came again."""
    return life.repeats < MAX_REPEATS and (not isinstance(life, Row) or life.keep_ns > 0)


def repeated_row(row: Row, event: Event) -> Row:
    """Return the row with one event more: the same came again."""
    # Half the time of _replace; so for what is kept.
    parts = (*row[:6], (event, row.trail), row.hold, row.retry_at, row.repeats + 1)
    return _new_tuple(Row, parts)


def repeated_ended(ended: Ended, event: Event) -> Ended:
    """Return what is kept with one event more: the same came again."""
    return _new_tuple(Ended, (*ended[:4], (event, ended.trail), ended.repeats + 1))


def repeat_event(
    life: Row | Ended, number: int, position: int, callback: Callback, now: int
) -> Event:
    """Return the event that says of what is queued or kept that this came, and is the same."""
    phase = life.callback.phase if isinstance(life, Row) else None
    reason = repeat_reason(callback, life.callback.id)
    return position, number, "repeated", phase, phase, now, "", 0, reason
