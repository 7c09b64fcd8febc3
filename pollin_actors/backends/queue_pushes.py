"""Pushes into a queue in memory that need more than the usual one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pollin_actors.backends.checks import natural, note, pushes_of
from pollin_actors.backends.id_memory import fence_key
from pollin_actors.backends.queue_rows import (
    Change,
    Ended,
    Row,
    may_repeat,
    repeat_event,
    repeated_ended,
    repeated_row,
)
from pollin_actors.errors import CallbackNotFound, CursorConflict, Full
from pollin_actors.records import MAX_REPEATS
from pollin_actors.resources import Outcome, PushResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from pollin_actors import messages
    from pollin_actors.backends.queue_state import QueueState
    from pollin_actors.resources import Callback

    Clock = Callable[[], int]

__all__ = ["find_cursor", "like_fence", "move_cursor", "push_again", "push_rarely"]

# A named tuple's own constructor takes four times as long.
_new_tuple = tuple.__new__
_DUPLICATE = Outcome.DUPLICATE


def push_rarely(queue: QueueState, callback: Callback, now: int) -> PushResult:
    """Push a callback that has a parent, an ordering key and the like, or has to find room."""
    plan = _Plan(queue, now)
    result = plan.push(callback)
    plan.commit()
    return result


def push_again(queue: QueueState, callback: Callback, number: int | None, now: int) -> PushResult:
    """Answer the push of a duplicate, and record it. The number is of the row, if it is queued."""
    past = queue.past
    if number is not None:
        row = queue.rows[number]
        if row.repeats < MAX_REPEATS and row.keep_ns:
            event = repeat_event(row, number, next(queue.positions), callback, now)
            row = repeated_row(row, event)
            queue.pending = callback
            queue.rows[number] = row
            past.log.append(event)
            queue.pending = None
        return _new_tuple(PushResult, (row.callback, _DUPLICATE))
    number = past.last_like(callback)
    ended = None if number is None else past.kept[number]
    if number is not None and ended is not None and ended.repeats < MAX_REPEATS:
        event = repeat_event(ended, number, next(queue.positions), callback, now)
        queue.pending = callback
        past.kept[number] = repeated_ended(ended, event)
        past.log.append(event)
        queue.pending = None
    return _new_tuple(PushResult, (callback, _DUPLICATE))


def like_fence(queue: QueueState, fence: str | None) -> int | None:
    """Return the number of the row that is queued with a fence, if any."""
    if fence is not None:
        for number in queue.past.fences.get(fence, ()):
            if number in queue.rows:
                return number
    return None


def find_cursor(queue: QueueState, message: messages.FindCursor, time_ns: Clock) -> int:
    name = note(message, "name", least=1)
    if queue.pending is not None:
        queue.settle()
    return queue.cursors.get(name, 0)


def move_cursor(
    queue: QueueState, message: messages.MoveCursor, time_ns: Clock
) -> tuple[PushResult, ...]:
    name = note(message, "name", least=1)
    position = natural("MoveCursor.position", message.position)
    expect, pushes = message.expect, pushes_of(message)
    if expect is not None:
        natural("MoveCursor.expect", expect)
    now = time_ns()
    queue.bring_to(now)
    found = queue.cursors.get(name, 0)
    if expect is not None and expect != found:
        raise CursorConflict(queue.endpoint.id, name, expect, found)
    plan = _Plan(queue, now)
    results = tuple([plan.push(callback) for callback in pushes])
    plan.commit((name, position))
    return results


class _Plan:
    """Rows that are to be pushed together, or not at all. What comes later sees the earlier.

    ``rows`` and ``kept`` also have those that there were, with a record more of a duplicate.
    """

    def __init__(self, queue: QueueState, now: int) -> None:
        self.queue = queue
        self.now = now
        self.rows: dict[int, Row] = {}
        self.kept: dict[int, Ended] = {}
        self.keys: dict[str, int] = {}
        self.fences: dict[str, int] = {}
        # Of those that count for the capacity.
        self.counted = 0
        self.bytes = 0

    def push(self, callback: Callback) -> PushResult:
        """Plan one push.

        Raises:
            UnknownPhase, CallbackNotFound, Full: as for a push.
        """
        queue, now = self.queue, self.now
        terms = queue.terms
        phase = callback.phase or terms.endpoint.phases[0]
        queue.know(phase)
        known = self._like(callback)
        if known is not None or self._remembers(callback):
            return self._repeat(callback, known)
        stored = callback if callback.phase else callback.with_phase(phase)
        root = None if callback.parent is None else self._root(callback.parent)
        if root != stored.root:
            stored = stored.with_root(root)
        if stored.attempts:
            stored = stored.with_attempts(0)
        if terms.limited:
            self._find_room(stored)
        number = next(queue.positions)
        self.keys[callback.id] = number
        if callback.fence is not None:
            self.fences[callback.fence] = number
        self.rows[number] = Row(
            stored,
            terms.expires_at(phase, now),
            now + terms.dedup_ns if terms.dedup_ns else None,
            terms.keep_ns,
            now,
            phase,
            None,
            None,
            0,
            0,
        )
        return PushResult(stored, Outcome.QUEUED)

    def _repeat(self, callback: Callback, number: int | None) -> PushResult:
        """Plan the record of a duplicate of the row of this number, or of what is kept."""
        positions, past, now = self.queue.positions, self.queue.past, self.now
        if number is not None:
            row = self._row(number)
            if may_repeat(row):
                event = repeat_event(row, number, next(positions), callback, now)
                self.rows[number] = repeated_row(row, event)
            return PushResult(row.callback, Outcome.DUPLICATE)
        number = past.last_like(callback)
        if number is not None:
            ended = self.kept.get(number) or past.kept[number]
            if may_repeat(ended):
                event = repeat_event(ended, number, next(positions), callback, now)
                self.kept[number] = repeated_ended(ended, event)
        return PushResult(callback, Outcome.DUPLICATE)

    def commit(self, cursor: tuple[str, int] | None = None) -> None:
        """Carry it out."""
        queue = self.queue
        if self.rows or self.kept or cursor is not None:
            queue.commit(Change(self.rows, {}, queue.expired, cursor=cursor, kept=self.kept))

    def _row(self, number: int) -> Row:
        return self.rows.get(number) or self.queue.rows[number]

    def _number(self, key: str) -> int | None:
        return self.keys.get(key) or self.queue.keys.get(key)

    def _like(self, callback: Callback) -> int | None:
        """The number of what is queued with the id of a callback, or else with its fence."""
        number, fence = self._number(callback.id), callback.fence
        if number is not None or fence is None:
            return number
        return self.fences.get(fence) or like_fence(self.queue, fence)

    def _remembers(self, callback: Callback) -> bool:
        ids, fence = self.queue.ids, callback.fence
        if ids.remembers(callback.id, self.now):
            return True
        return fence is not None and ids.remembers(fence_key(fence), self.now)

    def _root(self, parent: str) -> str:
        past = self.queue.past
        number = self._number(parent)
        if number is not None:
            found = self._row(number).callback
        elif parent in past.names:
            found = past.life(past.names[parent][-1]).callback
        else:
            raise CallbackNotFound(self.queue.endpoint.id, parent)
        return found.root or found.id

    def _find_room(self, callback: Callback) -> None:
        endpoint = self.queue.endpoint
        consumes = endpoint.consumes
        if consumes and callback.phase not in consumes:
            return
        capacity = endpoint.capacity
        if capacity is not None:
            count = _count(self.queue, consumes) + self.counted
            if count >= capacity:
                raise Full(endpoint.id, "callbacks", count, capacity)
        capacity, size = endpoint.capacity_bytes, callback.size
        if capacity is not None:
            held = self.queue.measured().total(consumes) + self.bytes
            if held + size > capacity:
                raise Full(endpoint.id, "bytes", held, capacity)
        self.counted += 1
        self.bytes += size


def _count(queue: QueueState, phases: tuple[str, ...]) -> int:
    return sum(map(queue.places.count, phases)) if phases else len(queue.rows)
