"""The callbacks of one endpoint, in memory: what is stored, and how it is changed.

An interrupt may come between any two instructions, so every change is built the same way: one
single step commits it, and everything else is derived from what was committed. ``rows`` is the
truth, and what is kept of rows that have left it; look-up by id, phases, expiries, records by
position are derived from these. ``pending`` is set while a change is under way. A next operation
that finds it set finishes the change that was interrupted and derives the rest anew
(:meth:`QueueState.settle`); a queue that nobody interrupts never pays.

A change of one row is committed with the row itself: a row carries its records. One that has
ended is in ``kept`` first, and what is there is queued no longer. A change of several is a
:class:`~pollin_actors.backends.queue_rows.Change`, committed with its place in ``pending``.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from pollin_actors.backends.id_memory import IdMemory, fence_key
from pollin_actors.backends.past import Past
from pollin_actors.backends.places import Places
from pollin_actors.backends.queue_rows import (
    Change,
    Ended,
    Event,
    Row,
    ended_row,
    marked,
    read_terms,
)
from pollin_actors.backends.sizes import Sizes
from pollin_actors.errors import BackendUnavailable, EndpointNotFound, UnknownPhase
from pollin_actors.otp.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pollin_actors.resources import Endpoint

    Clock: TypeAlias = Callable[[], int]

__all__ = ["DELETED", "OneAtATime", "QueueState", "Resetting"]

T = TypeVar("T")


class _Mark(Enum):
    """A state of ``pending`` that is no change."""

    DELETED = "deleted"
    UNDER_WAY = "under way"


DELETED, _UNDER_WAY = _Mark.DELETED, _Mark.UNDER_WAY


class Resetting(NamedTuple):
    """That everything is removed is decided; the event says so."""

    event: Event


class OneAtATime(Guard):
    """A guard that refuses a second operation inside one of the same thread.

    Only a signal handler or a finaliser can ask for one, and the first is then half done.
    """

    __slots__ = ()

    def nested(self, function: Callable[..., T], *args: Any) -> T:
        reason = "a signal handler or finaliser called it in the middle of another operation"
        raise BackendUnavailable("memory", reason, "hand the call to another thread")


class QueueState:
    """What is stored of one endpoint. All but the properties is called inside ``guard``.

    Arguments:
        endpoint: whose callbacks these are.
        positions: gives out the positions of records, which are the numbers of rows too.
        kept: how many callbacks are kept at most after they have left the queue.
    """

    __slots__ = (
        "cursors",
        "expired",
        "expiries",
        "guard",
        "ids",
        "keys",
        "past",
        "pending",
        "places",
        "positions",
        "rows",
        "sizes",
        "terms",
    )

    def __init__(self, endpoint: Endpoint, positions: Iterator[int], kept: int) -> None:
        self.guard = OneAtATime()
        self.pending: object = None
        self.terms = read_terms(endpoint)
        self.positions = positions
        # An OrderedDict because the head of a dict from which heads were removed costs O(n).
        self.rows: OrderedDict[int, Row] = OrderedDict()
        self.past = Past(self.rows, kept)
        self.places = Places(self.rows, {})
        self.keys: dict[str, int] = {}
        # A heap; entries whose row has gone stay until they come up or are compacted away.
        self.expiries: list[tuple[int, int]] = []
        self.ids = IdMemory()
        self.cursors: dict[str, int] = {}
        self.expired = 0
        self.sizes: Sizes | None = None

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint as it is now."""
        return self.terms.endpoint

    @property
    def deleted(self) -> bool:
        """Whether the endpoint was deleted: nothing brings this queue back."""
        return self.pending is DELETED

    # -- changes -----------------------------------------------------------------------------------

    def commit(self, change: Change) -> None:
        """Carry out a change, and keep in step what is derived."""
        self.pending = change
        rows, start = self.rows, len(self.past.log)
        for number, row in change.rows.items():
            old = rows.get(number)
            rows[number] = row
            if old is None:
                self._add_row(number, row)
            else:
                self._change_row(number, old, row)
        for number, ended in change.ended.items():
            if ended is not None:
                self.past.kept[number] = ended
            row = rows.pop(number)
            del self.keys[row.callback.id]
            self.places.remove(number, row)
            if ended is not None:
                self.past.ended(number, row.trail, ended)
            self._forget_row(number, row, ended)
        if change.forgotten:
            self.past.forget(change.forgotten)
        if change.kept is not None:
            for number, ended in change.kept.items():
                self.past.replace(number, ended)
        if change.cursor is not None:
            # Of several pushes one may be the same as an earlier one, which then has two records.
            self.past.sort_from(start)
        self._finish(change)
        self.pending = None

    def _finish(self, change: Change) -> None:
        self.expired = change.expired
        if change.cursor is not None:
            name, position = change.cursor
            self.cursors[name] = position
        if change.terms is not None:
            self.terms = change.terms

    def _add_row(self, number: int, row: Row) -> None:
        callback, expires_at, until = row.callback, row.expires_at, row.remembered_until
        self.keys[callback.id] = number
        self.places.add(number, row)
        if expires_at is not None:
            heappush(self.expiries, (expires_at, number))
        self.ids.add(callback.id, until, row.pushed_at)
        if callback.fence is not None:
            self.ids.add(fence_key(callback.fence), until, row.pushed_at)
        self.past.pushed(number, row)
        if self.sizes is not None:
            self.sizes.add(number, row)

    def _change_row(self, number: int, old: Row, row: Row) -> None:
        before, phase = old.callback.phase, row.callback.phase
        if before != phase:
            self.places.remove(number, old)
            self.places.add(number, row)
            if self.sizes is not None:
                self.sizes.move(number, before, phase)
        elif old.hold is not row.hold or old.retry_at != row.retry_at:
            self.places.change(number, old, row)
        ends_at = row.ends_at
        if ends_at is not None and ends_at != old.ends_at:
            heappush(self.expiries, (ends_at, number))
            if len(self.expiries) > 2 * len(self.rows) + 64:
                self.compact_expiries()
        self.past.changed(row.trail, old.trail)

    def _forget_row(self, number: int, row: Row, ended: Ended | None) -> None:
        if self.sizes is not None:
            self.sizes.remove(number, row.callback.phase)
        callback = row.callback
        if ended is None and (callback.parent is not None or callback.fence is not None):
            self.past.unrelate(number, callback)
        if len(self.expiries) > 2 * len(self.rows) + 64:
            self.compact_expiries()

    def compact_expiries(self) -> None:
        """Drop the entries of rows that have gone and, if that is not enough, all wrong ones."""
        rows = self.rows
        left = [entry for entry in self.expiries if entry[1] in rows]
        if len(left) > len(rows) + 32:
            left = self._ends()
        heapify(left)
        self.expiries = left

    def _ends(self) -> list[tuple[int, int]]:
        ends = [
            (at, number)
            for number, row in self.rows.items()
            # Most are not claimed, and need no call.
            if (at := row.expires_at if row.hold is None else row.ends_at) is not None
        ]
        heapify(ends)
        return ends

    def settle(self) -> None:
        """Finish the change that was interrupted, if any, and derive the rest from the rows.

        Raises:
            EndpointNotFound: the endpoint was deleted.
        """
        pending = self.pending
        if pending is None:
            return
        if pending is DELETED:
            raise EndpointNotFound(self.endpoint.id)
        if isinstance(pending, Change):
            self._carry_out(pending)
        elif isinstance(pending, Resetting):
            self.rows = OrderedDict()
            self.past = Past(self.rows, self.past.limit, pending.event)
            self.ids = IdMemory()
            self.cursors = {}
            self.expired = 0
        self._derive()
        self.pending = None

    def _carry_out(self, change: Change) -> None:
        rows, kept = self.rows, self.past.kept
        for number, row in change.rows.items():
            rows[number] = row
        for number, ended in change.ended.items():
            rows.pop(number, None)
            # Taken out first: the order in which they left is the order in which they go.
            kept.pop(number, None)
            if ended is not None:
                kept[number] = ended
        for number in change.forgotten:
            kept.pop(number, None)
        for number, ended in (change.kept or {}).items():
            kept[number] = ended
        self._finish(change)

    def _derive(self) -> None:
        rows = self.rows
        for number in [number for number in self.past.kept if number in rows]:
            rows.pop(number, None)
        keys: dict[str, int] = {}
        for number, row in rows.items():
            key = row.callback.id
            keys[key] = number
            if row.remembered_until is not None:
                self.ids.restore(key, row.remembered_until)
                if row.callback.fence is not None:
                    self.ids.restore(fence_key(row.callback.fence), row.remembered_until)
        self.keys = keys
        self.expiries = self._ends()
        self.sizes = None
        self.places = Places(rows, self.places.groups)
        self.past.derive()

    # -- time --------------------------------------------------------------------------------------

    def begin(self, time_ns: Clock) -> None:
        """Bring everything up to date. The clock is read only if something waits for its time."""
        if self.pending is not None:
            self.settle()
        if self.expiries or self.places.dues:
            self.bring_to(time_ns())

    def bring_to(self, now: int) -> None:
        """Bring everything up to date: nothing is interrupted, has expired or waits in vain."""
        if self.pending is not None:
            self.settle()
        if self.expiries and self.expiries[0][0] <= now:
            self.expire(now)
        # More than once: what has lapsed may have had a time to wait for, long ago.
        while self.places.dues and self.places.dues[0][0] <= now:
            self.pending = _UNDER_WAY
            lapsed = {n: self._lapsed(n, self.rows[n], now) for n in self.places.notice(now)}
            if lapsed:
                self.commit(Change(lapsed, {}, self.expired))
            self.pending = None

    def _lapsed(self, number: int, row: Row, now: int) -> Row:
        phase, position = row.callback.phase, next(self.positions)
        trail = marked(row, number, position, "lapsed", phase, now, row.hold)
        return row._replace(trail=trail, hold=None, retry_at=0)

    def has_expired(self, now: int) -> bool:
        """Say whether :meth:`sweep` may find something. It may be asked outside the guard."""
        # A slice, because the heap may become empty between a test and an index.
        head = self.expiries[:1]
        due = bool(head and head[0][0] <= now) or self.past.next_due <= now
        return due or self.pending is not None

    def sweep(self, limit: int, forget: int, time_ns: Clock) -> tuple[int, int]:
        """Remove at most ``limit`` expired rows and forget at most ``forget`` that were kept.

        Returns:
            How many have expired, and how many were forgotten.
        """
        if self.pending is DELETED:
            return 0, 0
        if self.pending is not None:
            self.settle()
        now = time_ns()
        forgotten = self.past.due(now, forget)
        return self.expire(now, limit, forgotten), len(forgotten)

    def expire(self, now: int, limit: int | None = None, forgotten: tuple[int, ...] = ()) -> int:
        """Remove the rows that expire at ``now`` or before and return how many."""
        expiries, rows = self.expiries, self.rows
        ended: dict[int, Ended | None] = {}
        self.pending = _UNDER_WAY
        while expiries and expiries[0][0] <= now and len(ended) != limit:
            number = heappop(expiries)[1]
            row = rows.get(number)
            # Every change of a row's end adds an entry: one that is wrong is dropped.
            if row is None or number in ended or (ends_at := row.ends_at) is None or ends_at > now:
                continue
            if row.hold is not None:
                row = self._lapsed(number, row, now)
            trail = marked(row, number, next(self.positions), "expired", None, now)
            ended[number] = ended_row(row, trail, now)
        if ended or forgotten:
            self.commit(Change({}, ended, self.expired + len(ended), forgotten))
        self.pending = None
        return len(ended)

    def know(self, phase: str) -> None:
        """Make sure that the endpoint has this phase.

        Raises:
            UnknownPhase: it has not.
        """
        endpoint = self.endpoint
        if phase not in endpoint.phases:
            raise UnknownPhase(endpoint.id, phase, endpoint.phases)

    def measured(self) -> Sizes:
        """The sizes of the rows, from now on kept up to date."""
        sizes = self.sizes
        if sizes is None:
            self.sizes = sizes = Sizes(self.rows)
        return sizes
