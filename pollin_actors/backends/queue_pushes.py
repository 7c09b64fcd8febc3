"""Pushes into a queue in memory that need more than the usual one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pollin_actors.backends.checks import natural, note, pushes_of
from pollin_actors.backends.queue_rows import Change, Row
from pollin_actors.errors import CallbackNotFound, CursorConflict, Full
from pollin_actors.resources import Outcome, PushResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from pollin_actors import messages
    from pollin_actors.backends.queue_state import QueueState
    from pollin_actors.resources import Callback

    Clock = Callable[[], int]

__all__ = ["find_cursor", "move_cursor", "push_rarely"]


def push_rarely(queue: QueueState, callback: Callback, now: int) -> PushResult:
    """Push a callback that has a parent, an ordering key and the like, or has to find room."""
    plan = _Plan(queue, now)
    result = plan.push(callback)
    if plan.rows:
        queue.commit(Change(plan.rows, {}, queue.expired))
    return result


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
    queue.commit(Change(plan.rows, {}, queue.expired, cursor=(name, position)))
    return results


class _Plan:
    """Rows that are to be pushed together, or not at all. What comes later sees the earlier."""

    def __init__(self, queue: QueueState, now: int) -> None:
        self.queue = queue
        self.now = now
        self.rows: dict[int, Row] = {}
        self.keys: dict[str, int] = {}
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
        known = self._find(callback.id)
        if known is not None or queue.ids.remembers(callback.id, now):
            return PushResult(callback if known is None else known.callback, Outcome.DUPLICATE)
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
        )
        return PushResult(stored, Outcome.QUEUED)

    def _find(self, key: str) -> Row | None:
        number = self.keys.get(key)
        if number is not None:
            return self.rows[number]
        number = self.queue.keys.get(key)
        return None if number is None else self.queue.rows[number]

    def _root(self, parent: str) -> str:
        past = self.queue.past
        row = self._find(parent)
        if row is not None:
            found = row.callback
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
