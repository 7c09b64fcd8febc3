"""A backend of your own: everything in plain lists, behind one lock.

It is complete, and slow on long queues: the shortest way to keep every rule, to start from. What
becomes of callbacks is in ``own_backend_queue.py``. Try it with
``python -m examples.own_backend``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

from examples.own_backend_queue import NEVER, Queue, Row
from pollin_actors import messages
from pollin_actors.backends import checks
from pollin_actors.backends.checks import (
    check_expected,
    endpoint_of,
    kinds_of,
    note,
    pushes_of,
    rotated,
    seconds,
    text,
)
from pollin_actors.backends.conformance import check_backend
from pollin_actors.errors import (
    BackendUnavailable,
    CallbackNotFound,
    ClaimLost,
    EndpointExists,
    EndpointNotFound,
    InvalidValue,
    PhaseConflict,
    WrongSecret,
)
from pollin_actors.records import Claims, EndpointStats, Kind, Record, RecordPage
from pollin_actors.resources import Callback, Endpoint, Page, PushResult


class ListBackend:
    """Keeps everything in lists."""

    shared = False
    durable = False

    def __init__(self) -> None:
        self._queues: dict[str, Queue] = {}
        self._lock = threading.Lock()
        self._time_ns: Callable[[], int] | None = None
        # For callbacks and for records, and for all endpoints: none is ever given out twice.
        self._positions = count(1)

    @classmethod
    def from_url(cls, url: str, /) -> ListBackend:
        """What the entry point's scheme leads to, here ``list://``."""
        return cls()

    def open(self, time_ns: Callable[[], int]) -> None:
        self._time_ns = time_ns

    def close(self) -> None:
        self._time_ns = None

    def execute(self, message: Any) -> Any:
        operation = OPERATIONS.get(type(message))
        if operation is None:
            raise InvalidValue("message", "one of pollin_actors.messages", repr(type(message)))
        with self._lock:
            if self._time_ns is None:
                raise BackendUnavailable("list", "it is not open", "call open() first")
            return operation(self, message, self._time_ns())

    # -- endpoints ---------------------------------------------------------------------------------

    def _index(self, message: messages.IndexEndpoints, now: int) -> list[Endpoint]:
        return [queue.endpoint for queue in self._queues.values()]

    def _find(self, message: messages.FindEndpoint, now: int) -> Endpoint | None:
        queue = self._queues.get(text(message, "endpoint_id"))
        return None if queue is None else queue.endpoint

    def _create(self, message: messages.CreateEndpoint, now: int) -> Endpoint:
        endpoint = endpoint_of(message)
        if endpoint.id in self._queues:
            raise EndpointExists(endpoint.id)
        self._queues[endpoint.id] = Queue(endpoint, self._positions)
        return endpoint

    def _update(self, message: messages.UpdateEndpoint, now: int) -> Endpoint:
        endpoint = endpoint_of(message)
        queue = self._live(endpoint.id, now)
        check_expected(message, queue.endpoint)
        queue.endpoint = endpoint
        return endpoint

    def _delete(self, message: messages.DeleteEndpoint, now: int) -> bool:
        return self._queues.pop(text(message, "endpoint_id"), None) is not None

    def _consume(self, message: messages.Consume, now: int) -> Endpoint:
        queue = self._queue(message, now)
        phase = text(message, "phase")
        queue.known(phase)
        consumes = queue.endpoint.consumes
        if phase not in consumes:
            queue.endpoint = queue.endpoint.replace(consumes=(*consumes, phase))
            for row in queue.in_phase(phase):
                row.expires_at = NEVER
        return queue.endpoint

    def _rotate(self, message: messages.RotateSecret, now: int) -> Endpoint:
        queue = self._queue(message, now)
        queue.endpoint = rotated(message, queue.endpoint, now)
        return queue.endpoint

    def _check_ready(self, message: messages.CheckReady, now: int) -> None:
        """Lists are always ready."""

    # -- callbacks ---------------------------------------------------------------------------------

    def _queue(self, message: Any, now: int) -> Queue:
        return self._live(text(message, "endpoint_id"), now)

    def _live(self, endpoint_id: str, now: int) -> Queue:
        """The queue as it is now: nothing else ever looks at a queue."""
        queue = self._queues.get(endpoint_id)
        if queue is None:
            raise EndpointNotFound(endpoint_id)
        queue.pass_time(now)
        return queue

    def _push(self, message: messages.Push, now: int) -> PushResult:
        queue = self._queue(message, now)
        if not message.trusted and not queue.endpoint.accepts(message.secret, now):
            raise WrongSecret(message.endpoint_id)
        return queue.push(message.callback, now)

    def _fetch(self, message: messages.Fetch, now: int) -> Callback | None:
        queue = self._queue(message, now)
        rows = named(queue.rows, message)
        if not rows and message.kept and message.key is not None:
            rows = named(queue.kept, message)[-1:]
        return rows[0].callback if rows else None

    def _pop(self, message: messages.Pop, now: int) -> Callback | None:
        queue = self._queue(message, now)
        rows = named([row for row in queue.rows if row.available(now)], message)
        return queue.leave(rows[0], now, Kind.POPPED) if rows else None

    def _delete_callback(self, message: messages.DeleteCallback, now: int) -> bool:
        queue = self._queue(message, now)
        row = queue.find(text(message, "key"))
        if row is not None:
            queue.leave(row, now, Kind.DELETED)
        return row is not None

    def _fetch_slice(self, message: messages.FetchSlice, now: int) -> list[Callback]:
        rows = self._queue(message, now).in_phase(message.phase)
        return [row.callback for row in sliced(rows, message)]

    def _fetch_reverse(self, message: messages.FetchReverse, now: int) -> list[Callback]:
        rows = self._queue(message, now).in_phase(message.phase)
        return [row.callback for row in sliced(rows[::-1], message)]

    def _pop_slice(self, message: messages.PopSlice, now: int) -> list[Callback]:
        queue = self._queue(message, now)
        rows = [row for row in queue.in_phase(message.phase) if row.available(now)]
        return [queue.leave(row, now, Kind.POPPED) for row in sliced(rows, message)]

    def _count(self, message: messages.Count, now: int) -> int:
        return len(self._queue(message, now).in_phase(message.phase))

    def _dump_page(self, message: messages.DumpPage, now: int) -> Page:
        return page(self._queue(message, now).rows, message)

    def _reset(self, message: messages.Reset, now: int) -> int:
        return self._queue(message, now).reset(now)

    def _update_phase(self, message: messages.UpdatePhase, now: int) -> Callback:
        queue = self._queue(message, now)
        queue.known(message.phase)
        # Only Pop and Fetch take the oldest where no key is given.
        key: str | None = message.key
        row = None if key is None else queue.find(text(message, "key"))
        if row is None:
            raise CallbackNotFound(message.endpoint_id, message.key)
        found, expect = row.callback.phase, message.expect
        if expect is not None and text(message, "expect") != found:
            raise PhaseConflict(message.endpoint_id, message.key, expect, found)
        if message.phase != found:
            queue.enter(row, now, Kind.MOVED, message.phase)
        return row.callback

    def _sweep(self, message: messages.Sweep, now: int) -> int:
        left = limit = natural(message, "limit")
        for queue in self._queues.values():
            left -= queue.expire(now, left)
            queue.forget(now)
        return limit - left

    # -- claims ------------------------------------------------------------------------------------

    def _claim_slice(self, message: messages.ClaimSlice, now: int) -> Claims:
        queue = self._queue(message, now)
        limit, until, by = natural(message, "limit"), now + seconds(message, "lease"), message.by
        note(message, "by")
        rows = [row for row in queue.in_phase(message.phase) if row.available(now)][:limit]
        claims = [queue.claim(row, now, until, by) for row in rows]
        return Claims(claims, queue.next_at(now))

    def _claimed(self, queue: Queue, message: Any) -> Row:
        """The row whose claim has the token of the message."""
        row, token = queue.find(text(message, "key")), text(message, "token")
        if row is None or not token or row.token != token:
            raise ClaimLost(message.endpoint_id, message.key)
        return row

    def _ack(self, message: messages.Ack, now: int) -> None:
        queue = self._queue(message, now)
        reason = note(message, "reason")
        if message.then is not None:
            queue.known(text(message, "then"))
        row = self._claimed(queue, message)
        if message.discard:
            queue.leave(row, now, Kind.DISCARDED, reason)
        elif message.then is None:
            queue.leave(row, now, Kind.ACKNOWLEDGED, reason)
        else:
            queue.enter(row, now, Kind.ACKNOWLEDGED, message.then, reason)

    def _nack(self, message: messages.Nack, now: int) -> None:
        queue = self._queue(message, now)
        retry_at, reason = now + seconds(message, "retry_in", zero=True), note(message, "reason")
        if message.dead_letter is not None:
            queue.known(text(message, "dead_letter"))
        row = self._claimed(queue, message)
        if message.dead_letter is not None:
            queue.enter(row, now, Kind.DEAD, message.dead_letter, reason)
        else:
            queue.enter(row, now, Kind.FAILED, row.callback.phase, reason)
            row.retry_at = retry_at

    def _extend(self, message: messages.Extend, now: int) -> int:
        until = now + seconds(message, "lease")
        row = self._claimed(self._queue(message, now), message)
        row.until = until
        return until

    def _release(self, message: messages.Release, now: int) -> None:
        queue = self._queue(message, now)
        row = self._claimed(queue, message)
        queue.enter(row, now, Kind.RELEASED, row.callback.phase)
        row.callback = row.callback.with_attempts(row.callback.attempts - 1)

    # -- history -----------------------------------------------------------------------------------

    def _history(self, message: messages.History, now: int) -> list[Record]:
        key = text(message, "key")
        return [item for _, item in self._queue(message, now).history if item.callback_id == key]

    def _history_page(self, message: messages.HistoryPage, now: int) -> RecordPage:
        queue, kinds = self._queue(message, now), kinds_of(message)
        after, limit = natural(message, "after"), natural(message, "limit", 1)
        records = [record for _, record in queue.history if record.position > after]
        found = [record for record in records if kinds is None or record.kind in kinds]
        if len(found) >= limit:
            return RecordPage(found[:limit], found[limit - 1].position)
        return RecordPage(found, records[-1].position if records else after)

    def _find_cursor(self, message: messages.FindCursor, now: int) -> int:
        return self._queue(message, now).cursors.get(note(message, "name", 200, 1), 0)

    def _move_cursor(self, message: messages.MoveCursor, now: int) -> tuple[PushResult, ...]:
        queue, pushes = self._queue(message, now), pushes_of(message)
        name, position = note(message, "name", 200, 1), natural(message, "position")
        expect = None if message.expect is None else natural(message, "expect")
        return queue.move_cursor(name, position, expect, pushes, now)

    def _children(self, message: messages.Children, now: int) -> list[Callback]:
        callbacks = [row.callback for row in self._queue(message, now).all()]
        key = text(message, "key")
        if key not in [callback.id for callback in callbacks]:
            raise CallbackNotFound(message.endpoint_id, key)
        parents, found = {key}, [item for item in callbacks if item.parent == key]
        while message.deep and not parents.issuperset(item.id for item in found):
            parents.update(item.id for item in found)
            found = [item for item in callbacks if item.parent in parents]
        return found

    def _past_page(self, message: messages.PastPage, now: int) -> Page:
        rows = self._queue(message, now).all()
        if message.since is not None:
            since = natural(message, "since")
            rows = [row for row in rows if row.callback.created_at >= since]
        if message.until is not None:
            until = natural(message, "until")
            rows = [row for row in rows if row.callback.created_at < until]
        return page(rows, message)

    def _stats(self, message: messages.Stats, now: int) -> EndpointStats:
        queue = self._queue(message, now)
        claimed = sum(1 for row in queue.rows if row.token)
        available = sum(1 for row in queue.rows if row.available(now))
        size = sum(row.callback.size for row in queue.rows)
        delayed = len(queue.rows) - claimed - available
        return EndpointStats(len(queue.rows), size, claimed, delayed, queue.expired)


def natural(message: Any, field: str, least: int = 0) -> int:
    """The number in a field of a message."""
    return checks.natural(f"{type(message).__name__}.{field}", getattr(message, field), least)


def named(rows: list[Row], message: messages.Pop | messages.Fetch) -> list[Row]:
    """The row that the message names, or all if it names none."""
    if message.key is None:
        return rows
    key = text(message, "key")
    return [row for row in rows if row.callback.id == key]


def sliced(rows: list[Row], message: Any) -> list[Row]:
    """The part of the rows that a message for a slice asks for."""
    offset, limit = natural(message, "offset"), natural(message, "limit")
    return rows[offset : offset + limit]


def page(rows: list[Row], message: messages.DumpPage | messages.PastPage) -> Page:
    """The page of these rows that the message asks for."""
    after = 0 if message.after is None else natural(message, "after")
    limit = natural(message, "limit", 1)
    rows = [row for row in rows if row.position > after]
    cursor = rows[limit - 1].position if len(rows) > limit else None
    return Page([row.callback for row in rows[:limit]], cursor)


OPERATIONS: dict[type, Callable[[ListBackend, Any, int], Any]] = {
    messages.IndexEndpoints: ListBackend._index,
    messages.FindEndpoint: ListBackend._find,
    messages.CreateEndpoint: ListBackend._create,
    messages.UpdateEndpoint: ListBackend._update,
    messages.DeleteEndpoint: ListBackend._delete,
    messages.CheckReady: ListBackend._check_ready,
    messages.Push: ListBackend._push,
    messages.Pop: ListBackend._pop,
    messages.PopSlice: ListBackend._pop_slice,
    messages.Fetch: ListBackend._fetch,
    messages.FetchSlice: ListBackend._fetch_slice,
    messages.FetchReverse: ListBackend._fetch_reverse,
    messages.Count: ListBackend._count,
    messages.DumpPage: ListBackend._dump_page,
    messages.Reset: ListBackend._reset,
    messages.DeleteCallback: ListBackend._delete_callback,
    messages.UpdatePhase: ListBackend._update_phase,
    messages.Sweep: ListBackend._sweep,
    messages.Consume: ListBackend._consume,
    messages.RotateSecret: ListBackend._rotate,
    messages.ClaimSlice: ListBackend._claim_slice,
    messages.Ack: ListBackend._ack,
    messages.Nack: ListBackend._nack,
    messages.Extend: ListBackend._extend,
    messages.Release: ListBackend._release,
    messages.History: ListBackend._history,
    messages.HistoryPage: ListBackend._history_page,
    messages.FindCursor: ListBackend._find_cursor,
    messages.MoveCursor: ListBackend._move_cursor,
    messages.Children: ListBackend._children,
    messages.PastPage: ListBackend._past_page,
    messages.Stats: ListBackend._stats,
}


def new_store() -> Callable[[], ListBackend]:
    """A new store: here each backend is one."""
    return ListBackend


if __name__ == "__main__":
    check_backend(new_store)
    print("keeps every rule")
