"""The callbacks of one endpoint, in memory.

An interrupt may come between any two instructions, so every change is built the same way: one
single step commits it, and everything else is derived from what was committed. ``rows`` is the
truth; look-up by id, phases and expiries are derived from it. ``pending`` is set while a change
is under way. A next operation that finds it set finishes the change that was interrupted and
derives the rest anew (:meth:`CallbackQueue.settle`); a queue that nobody interrupts never pays.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from pollin_actors.backends.checks import natural, text
from pollin_actors.backends.id_memory import IdMemory
from pollin_actors.backends.ordered_index import OrderedIndex
from pollin_actors.errors import (
    BackendUnavailable,
    CallbackNotFound,
    EndpointNotFound,
    PhaseConflict,
    UnknownPhase,
    WrongSecret,
)
from pollin_actors.otp.guard import Guard
from pollin_actors.resources import Callback, Endpoint, Outcome, Page, PushResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pollin_actors import messages

    Clock: TypeAlias = Callable[[], int]
    Slice: TypeAlias = messages.PopSlice | messages.FetchSlice | messages.FetchReverse

__all__ = ["CallbackQueue", "OneAtATime"]

T = TypeVar("T")

# The callback, when it expires and until when its id is remembered: ns since the epoch or None.
Row: TypeAlias = "tuple[Callback, int | None, int | None]"


class _Mark(Enum):
    """A state of ``pending`` that is no message."""

    DELETED = "deleted"
    EXPIRING = "expiring"


_DELETED, _EXPIRING = _Mark.DELETED, _Mark.EXPIRING

# A named tuple's own constructor takes four times as long.
_new_result = tuple.__new__
_DUPLICATE, _QUEUED = Outcome.DUPLICATE, Outcome.QUEUED


class _Removal(NamedTuple):
    """Rows whose removal is decided: setting ``pending`` to this commits it as a whole."""

    sequence_numbers: list[int]
    forget_ids: bool


class OneAtATime(Guard):
    """A guard that refuses a second operation inside one of the same thread.

    Only a signal handler or a finaliser can ask for one, and the first is then half done.
    """

    __slots__ = ()

    def nested(self, function: Callable[..., T], *args: Any) -> T:
        reason = "a signal handler or finaliser called it in the middle of another operation"
        raise BackendUnavailable("memory", reason, "hand the call to another thread")


class CallbackQueue:
    """The queue of one endpoint. Every method but ``endpoint`` is called inside ``guard``.

    Arguments:
        endpoint: whose callbacks these are.
    """

    __slots__ = (
        "expired",
        "expiries",
        "guard",
        "ids",
        "indexes",
        "keys",
        "pending",
        "pushed",
        "rows",
        "terms",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self.guard = OneAtATime()
        self.pending: object = None
        self.terms = _terms(endpoint)
        # An OrderedDict because the head of a dict from which heads were removed costs O(n).
        self.rows: OrderedDict[int, Row] = OrderedDict()
        self.keys: dict[str, int] = {}
        self.indexes: dict[str, OrderedIndex] = {}
        # A heap; entries whose row has gone stay until they come up or are compacted away.
        self.expiries: list[tuple[int, int]] = []
        self.ids = IdMemory()
        self.pushed = 0
        self.expired = 0

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint as it is now."""
        return self.terms[0]

    @property
    def deleted(self) -> bool:
        """Whether the endpoint was deleted: nothing brings this queue back."""
        return self.pending is _DELETED

    # -- one callback ------------------------------------------------------------------------------

    def push(self, message: messages.Push, time_ns: Clock) -> PushResult:
        if self.pending is not None:
            self.settle()
        _, callback, secret, trusted = message
        endpoint, ttl_ns, dedup_ns = self.terms
        if not trusted and not endpoint.secret.matches(secret):
            raise WrongSecret(endpoint.id)
        phase = callback.phase
        if not phase:
            phase = endpoint.phases[0]
            callback = callback.with_phase(phase)
        elif phase not in endpoint.phases:
            raise UnknownPhase(endpoint.id, phase, endpoint.phases)
        now = time_ns()
        expiries = self.expiries
        if expiries and expiries[0][0] <= now:
            self.expire(now)
        key = callback.id
        keys = self.keys
        if key in keys:
            return _new_result(PushResult, (self.rows[keys[key]][0], _DUPLICATE))
        ids = self.ids
        if key in ids.recent or ids.older:
            if ids.remembers(key, now):
                return _new_result(PushResult, (message.callback, _DUPLICATE))
            ids.recent.pop(key, None)
        expires_at = now + ttl_ns if ttl_ns else None
        until = now + dedup_ns if dedup_ns else None
        self.pending = message
        # Never given out twice, also after an interrupt: the count only grows.
        self.pushed = number = self.pushed + 1
        self.rows[number] = (callback, expires_at, until)
        keys[key] = number
        index = self.indexes.get(phase)
        if index is None:
            index = self.indexes[phase] = OrderedIndex()
        index.add(number)
        if expires_at is not None:
            heappush(expiries, (expires_at, number))
        if until is not None:
            # The bound first: it must hold also if an interrupt comes in between.
            if until < ids.next_purge:
                ids.next_purge = until
            ids.recent[key] = until
        if ids.next_purge <= now:
            ids.purge(now)
        self.pending = None
        return _new_result(PushResult, (callback, _QUEUED))

    def pop(
        self, message: messages.Pop | messages.DeleteCallback, time_ns: Clock
    ) -> Callback | None:
        if self.pending is not None:
            self.settle()
        expiries = self.expiries
        if expiries and expiries[0][0] <= (now := time_ns()):
            self.expire(now)
        rows = self.rows
        key = message.key
        if key is None:
            if not rows:
                return None
            self.pending = message
            number, row = rows.popitem(False)
        else:
            found = self.keys.get(key if key.__class__ is str else text(message, "key"))
            if found is None:
                return None
            number = found
            self.pending = message
            row = rows.pop(number)
        callback = row[0]
        del self.keys[callback.id]
        self.indexes[callback.phase].discard(number)
        if len(expiries) > 2 * len(rows) + 64:
            self._compact_expiries()
        self.pending = None
        return callback

    def delete_callback(self, message: messages.DeleteCallback, time_ns: Clock) -> bool:
        text(message, "key")  # for None, pop would take the head
        return self.pop(message, time_ns) is not None

    def fetch(self, message: messages.Fetch, time_ns: Clock) -> Callback | None:
        if self.pending is not None:
            self.settle()
        expiries = self.expiries
        if expiries and expiries[0][0] <= (now := time_ns()):
            self.expire(now)
        key = message.key
        if key is None:
            for row in self.rows.values():
                return row[0]
            return None
        number = self.keys.get(key if key.__class__ is str else text(message, "key"))
        return None if number is None else self.rows[number][0]

    def update_phase(self, message: messages.UpdatePhase, time_ns: Clock) -> Callback:
        self._begin(time_ns)
        _, key, phase, expect = message
        endpoint = self.terms[0]
        if phase not in endpoint.phases:
            raise UnknownPhase(endpoint.id, phase, endpoint.phases)
        known: object = key
        number = None if known is None else self.keys.get(text(message, "key"))
        if number is None:
            raise CallbackNotFound(endpoint.id, key)
        callback, expires_at, until = self.rows[number]
        if expect is not None and callback.phase != text(message, "expect"):
            raise PhaseConflict(endpoint.id, key, expect, callback.phase)
        if callback.phase == phase:
            return callback
        changed = callback.with_phase(phase)
        self.pending = message
        self.rows[number] = (changed, expires_at, until)
        self.indexes[callback.phase].discard(number)
        if phase not in self.indexes:
            self.indexes[phase] = OrderedIndex()
        self.indexes[phase].add(number)
        self.pending = None
        return changed

    # -- many callbacks ----------------------------------------------------------------------------

    def count(self, message: messages.Count, time_ns: Clock) -> int:
        self._begin(time_ns)
        phase = message.phase
        return len(self.rows) if phase is None else len(self._filter(text(message, "phase")))

    def fetch_slice(self, message: messages.FetchSlice, time_ns: Clock) -> list[Callback]:
        self._begin(time_ns)
        rows = self.rows
        return [rows[number][0] for number in self._select(message)]

    def fetch_reverse(self, message: messages.FetchReverse, time_ns: Clock) -> list[Callback]:
        self._begin(time_ns)
        rows = self.rows
        return [rows[number][0] for number in self._select(message, reverse=True)]

    def pop_slice(self, message: messages.PopSlice, time_ns: Clock) -> list[Callback]:
        self._begin(time_ns)
        rows = self.rows
        numbers = self._select(message)
        if not numbers:
            return []
        callbacks = [rows[number][0] for number in numbers]
        removal = _Removal(numbers, forget_ids=False)
        self.pending = removal
        for number, callback in zip(numbers, callbacks, strict=True):
            del rows[number]
            self._forget_row(number, callback)
        if len(self.expiries) > 2 * len(rows) + 64:
            self._compact_expiries()
        self.pending = None
        return callbacks

    def dump_page(self, message: messages.DumpPage, time_ns: Clock) -> Page:
        after, limit = message.after, natural("DumpPage.limit", message.limit, least=1)
        if after is not None:
            natural("DumpPage.after", after)
        self._begin(time_ns)
        rows = self.rows
        # One more than asked for tells whether this page is the last.
        wanted = min(limit, len(rows)) + 1
        if after is None:
            numbers = list(islice(rows, wanted))
        else:
            numbers = sorted(
                number for index in self.indexes.values() for number in index.after(after, wanted)
            )
        page = numbers[:limit]
        cursor = page[-1] if len(numbers) > limit else None
        return Page([rows[number][0] for number in page], cursor)

    def reset(self, message: messages.Reset, time_ns: Clock) -> int:
        self._begin(time_ns)
        removed = len(self.rows)
        self.pending = _Removal(list(self.rows), forget_ids=True)
        self.settle()
        return removed

    # -- the endpoint ------------------------------------------------------------------------------

    def update_endpoint(self, message: messages.UpdateEndpoint, time_ns: Clock) -> Endpoint:
        self._begin(time_ns)
        terms = _terms(message.endpoint)
        if terms[2] != self.terms[2]:
            self.ids.delay_changed()
        self.terms = terms
        self.indexes = {phase: index for phase, index in self.indexes.items() if index}
        return message.endpoint

    def delete_endpoint(self) -> bool:
        if self.pending is _DELETED:
            return False
        self.pending = _DELETED
        self.rows = OrderedDict()
        self.keys, self.indexes, self.expiries = {}, {}, []
        self.ids = IdMemory()
        return True

    # -- expiry ------------------------------------------------------------------------------------

    def has_expired(self, now: int) -> bool:
        """Say whether :meth:`sweep` may find something. It may be asked outside the guard."""
        # A slice, because the heap may become empty between a test and an index.
        head = self.expiries[:1]
        return self.pending is not None or bool(head and head[0][0] <= now)

    def sweep(self, limit: int, time_ns: Clock) -> int:
        """Remove at most ``limit`` expired rows and return how many."""
        if self.pending is _DELETED:
            return 0
        if self.pending is not None:
            self.settle()
        return self.expire(time_ns(), limit)

    def expire(self, now: int, limit: int | None = None) -> int:
        """Remove the rows that expire at ``now`` or before and return how many."""
        expiries, rows = self.expiries, self.rows
        expired = 0
        self.pending = _EXPIRING
        while expiries and expiries[0][0] <= now and expired != limit:
            number = heappop(expiries)[1]
            row = rows.pop(number, None)
            if row is not None:
                expired += 1
                self.expired += 1
                self._forget_row(number, row[0])
        self.pending = None
        return expired

    def settle(self) -> None:
        """Finish the change that was interrupted, if any, and derive the rest from the rows.

        Raises:
            EndpointNotFound: the endpoint was deleted.
        """
        pending = self.pending
        if pending is None:
            return
        if pending is _DELETED:
            raise EndpointNotFound(self.terms[0].id)
        if isinstance(pending, _Removal):
            for number in pending.sequence_numbers:
                self.rows.pop(number, None)
            if pending.forget_ids:
                self.ids = IdMemory()
        self._derive()
        self.pending = None

    def _derive(self) -> None:
        keys: dict[str, int] = {}
        numbers: dict[str, list[int]] = {}
        expiries: list[tuple[int, int]] = []
        for number, (callback, expires_at, until) in self.rows.items():
            key = callback.id
            keys[key] = number
            numbers.setdefault(callback.phase, []).append(number)
            if expires_at is not None:
                expiries.append((expires_at, number))
            if until is not None:
                self.ids.restore(key, until)
        heapify(expiries)
        self.keys = keys
        self.indexes = {phase: OrderedIndex(values) for phase, values in numbers.items()}
        self.expiries = expiries

    def _begin(self, time_ns: Clock) -> None:
        if self.pending is not None:
            self.settle()
        if self.expiries and self.expiries[0][0] <= (now := time_ns()):
            self.expire(now)

    def _filter(self, phase: str) -> OrderedIndex:
        index = self.indexes.get(phase)
        if index:
            return index
        endpoint = self.terms[0]
        if phase not in endpoint.phases:
            raise UnknownPhase(endpoint.id, phase, endpoint.phases)
        return OrderedIndex()

    def _select(self, message: Slice, reverse: bool = False) -> list[int]:
        _, phase, offset, limit = message
        name = type(message).__name__
        rows = self.rows
        # No more than there is: islice refuses what does not fit a machine word.
        offset = min(natural(f"{name}.offset", offset), len(rows))
        limit = min(natural(f"{name}.limit", limit), len(rows))
        if phase is not None:
            index = self._filter(text(message, "phase"))
            return index.slice_reverse(offset, limit) if reverse else index.slice(offset, limit)
        numbers: Iterable[int] = reversed(rows) if reverse else rows
        return list(islice(numbers, offset, offset + limit))

    def _forget_row(self, number: int, callback: Callback) -> None:
        del self.keys[callback.id]
        self.indexes[callback.phase].discard(number)

    def _compact_expiries(self) -> None:
        rows = self.rows
        self.expiries = expiries = [entry for entry in self.expiries if entry[1] in rows]
        heapify(expiries)


def _terms(endpoint: Endpoint) -> tuple[Endpoint, int, int]:
    """The endpoint with its ttl and dedup_for in nanoseconds, replaced together in one step."""
    return endpoint, endpoint.ttl * 1_000_000, round(endpoint.dedup_for * 1e9)
