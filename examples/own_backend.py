"""A backend of your own: everything in plain lists, behind one lock.

It is complete, and slow on long queues: the shortest way to keep every rule, to start from.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from pollin_actors import messages
from pollin_actors.backends.conformance import check_backend
from pollin_actors.errors import (
    BackendUnavailable,
    CallbackNotFound,
    EndpointExists,
    EndpointNotFound,
    InvalidValue,
    PhaseConflict,
    UnknownPhase,
    WrongSecret,
)
from pollin_actors.resources import Callback, Endpoint, Outcome, Page, PushResult

NEVER = float("inf")


class Row:
    """One queued callback."""

    def __init__(self, position: int, callback: Callback, expires_at: float) -> None:
        self.position = position
        self.callback = callback
        self.expires_at = expires_at


class Queue:
    """One endpoint with what is queued, oldest first, and until when its ids are remembered."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.rows: list[Row] = []
        self.remembered: dict[str, float] = {}

    def known(self, phase: str) -> None:
        if phase not in self.endpoint.phases:
            raise UnknownPhase(self.endpoint.id, phase, self.endpoint.phases)

    def find(self, key: str) -> Row | None:
        return next((row for row in self.rows if row.callback.id == key), None)

    def one(self, message: messages.Pop | messages.Fetch) -> Row | None:
        """The row that the message names, or the oldest if it names none."""
        if message.key is not None:
            return self.find(text(message, "key"))
        return self.rows[0] if self.rows else None

    def select(self, message: Any) -> list[Row]:
        offset = natural(message, "offset")
        limit = natural(message, "limit")
        rows = self.in_phase(message.phase)
        if isinstance(message, messages.FetchReverse):
            rows.reverse()
        return rows[offset : offset + limit]

    def in_phase(self, phase: str | None) -> list[Row]:
        rows = [row for row in self.rows if phase in (None, row.callback.phase)]
        if not rows and phase is not None:
            self.known(phase)
        return rows


class ListBackend:
    """Keeps everything in lists."""

    shared = False
    durable = False

    def __init__(self) -> None:
        self._queues: dict[str, Queue] = {}
        self._lock = threading.Lock()
        self._time_ns: Callable[[], int] | None = None

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
        endpoint = new_endpoint(message)
        if endpoint.id in self._queues:
            raise EndpointExists(endpoint.id)
        self._queues[endpoint.id] = Queue(endpoint)
        return endpoint

    def _update(self, message: messages.UpdateEndpoint, now: int) -> Endpoint:
        endpoint = new_endpoint(message)
        self._live(endpoint.id, now).endpoint = endpoint
        return endpoint

    def _delete(self, message: messages.DeleteEndpoint, now: int) -> bool:
        return self._queues.pop(text(message, "endpoint_id"), None) is not None

    def _check_ready(self, message: messages.CheckReady, now: int) -> None:
        """Lists are always ready."""

    # -- callbacks ---------------------------------------------------------------------------------

    def _queue(self, message: Any, now: int) -> Queue:
        return self._live(text(message, "endpoint_id"), now)

    def _live(self, endpoint_id: str, now: int) -> Queue:
        """The queue without what has expired: nothing else ever looks at a queue."""
        queue = self._queues.get(endpoint_id)
        if queue is None:
            raise EndpointNotFound(endpoint_id)
        queue.rows = [row for row in queue.rows if row.expires_at > now]
        queue.remembered = {id: until for id, until in queue.remembered.items() if until > now}
        return queue

    def _push(self, message: messages.Push, now: int) -> PushResult:
        queue = self._queue(message, now)
        endpoint, callback = queue.endpoint, message.callback
        if not message.trusted and not endpoint.secret.matches(message.secret):
            raise WrongSecret(endpoint.id)
        if callback.phase:
            queue.known(callback.phase)
        queued = queue.find(callback.id)
        if queued is not None:
            return PushResult(queued.callback, Outcome.DUPLICATE)
        if callback.id in queue.remembered:
            return PushResult(callback, Outcome.DUPLICATE)
        callback = callback.with_phase(callback.phase or endpoint.phases[0])
        self._position += 1
        expires_at = now + endpoint.ttl * 1_000_000 if endpoint.ttl else NEVER
        queue.rows.append(Row(self._position, callback, expires_at))
        queue.remembered[callback.id] = now + round(endpoint.dedup_for * 1e9)
        return PushResult(callback, Outcome.QUEUED)

    _position = 0

    def _fetch(self, message: messages.Fetch, now: int) -> Callback | None:
        row = self._queue(message, now).one(message)
        return None if row is None else row.callback

    def _pop(self, message: messages.Pop, now: int) -> Callback | None:
        queue = self._queue(message, now)
        row = queue.one(message)
        if row is None:
            return None
        queue.rows.remove(row)
        return row.callback

    def _delete_callback(self, message: messages.DeleteCallback, now: int) -> bool:
        queue = self._queue(message, now)
        row = queue.find(text(message, "key"))
        if row is None:
            return False
        queue.rows.remove(row)
        return True

    def _fetch_slice(
        self, message: messages.FetchSlice | messages.FetchReverse, now: int
    ) -> list[Callback]:
        rows = self._queue(message, now).select(message)
        return [row.callback for row in rows]

    def _pop_slice(self, message: messages.PopSlice, now: int) -> list[Callback]:
        queue = self._queue(message, now)
        rows = queue.select(message)
        queue.rows = [row for row in queue.rows if row not in rows]
        return [row.callback for row in rows]

    def _count(self, message: messages.Count, now: int) -> int:
        return len(self._queue(message, now).in_phase(message.phase))

    def _dump_page(self, message: messages.DumpPage, now: int) -> Page:
        queue = self._queue(message, now)
        after = 0 if message.after is None else natural(message, "after")
        limit = natural(message, "limit", 1)
        rows = [row for row in queue.rows if row.position > after]
        cursor = rows[limit - 1].position if len(rows) > limit else None
        return Page([row.callback for row in rows[:limit]], cursor)

    def _reset(self, message: messages.Reset, now: int) -> int:
        queue = self._queue(message, now)
        count = len(queue.rows)
        queue.rows, queue.remembered = [], {}
        return count

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
        row.callback = row.callback.with_phase(message.phase)
        return row.callback

    def _sweep(self, message: messages.Sweep, now: int) -> int:
        left = limit = natural(message, "limit")
        for queue in self._queues.values():
            due: Sequence[Row] = [row for row in queue.rows if row.expires_at <= now][:left]
            queue.rows = [row for row in queue.rows if row not in due]
            left -= len(due)
        return limit - left


def new_endpoint(message: messages.CreateEndpoint | messages.UpdateEndpoint) -> Endpoint:
    """The endpoint in a message."""
    value: object = message.endpoint
    if not isinstance(value, Endpoint):
        name = f"{type(message).__name__}.endpoint"
        raise InvalidValue(name, "an Endpoint", f"a {type(value).__name__}")
    return value


def text(message: Any, field: str) -> str:
    """The text in a field of a message."""
    value = getattr(message, field)
    if not isinstance(value, str):
        name = f"{type(message).__name__}.{field}"
        raise InvalidValue(name, "a str", f"a {type(value).__name__}")
    return value


def natural(message: Any, field: str, least: int = 0) -> int:
    """The number in a field of a message."""
    value = getattr(message, field)
    if type(value) is not int or value < least:
        name = f"{type(message).__name__}.{field}"
        raise InvalidValue(name, f"an int, at least {least}", repr(value))
    return value


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
    messages.FetchReverse: ListBackend._fetch_slice,
    messages.Count: ListBackend._count,
    messages.DumpPage: ListBackend._dump_page,
    messages.Reset: ListBackend._reset,
    messages.DeleteCallback: ListBackend._delete_callback,
    messages.UpdatePhase: ListBackend._update_phase,
    messages.Sweep: ListBackend._sweep,
}


def new_store() -> Callable[[], ListBackend]:
    """A new store: here each backend is one."""
    return ListBackend


if __name__ == "__main__":
    check_backend(new_store)
    print("keeps every rule")
