"""The backend that keeps everything in memory."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pollin_actors.backends import queue_claims, queue_history, queue_pushes, queue_slices
from pollin_actors.backends.callback_queue import CallbackQueue, OneAtATime
from pollin_actors.backends.checks import endpoint_of, natural, text
from pollin_actors.errors import (
    BackendUnavailable,
    EndpointExists,
    EndpointNotFound,
    InvalidValue,
)
from pollin_actors.messages import (
    CALLBACK_OPERATIONS,
    Ack,
    CheckReady,
    Children,
    ClaimSlice,
    Consume,
    Count,
    CreateEndpoint,
    DeleteCallback,
    DeleteEndpoint,
    DumpPage,
    Extend,
    Fetch,
    FetchReverse,
    FetchSlice,
    FindCursor,
    FindEndpoint,
    History,
    HistoryPage,
    IndexEndpoints,
    MoveCursor,
    Nack,
    PastPage,
    Pop,
    PopSlice,
    Push,
    Release,
    Reset,
    RotateSecret,
    Stats,
    Sweep,
    UpdateEndpoint,
    UpdatePhase,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pollin_actors.resources import Endpoint

__all__ = ["MemoryBackend"]

_QUEUE_OPERATIONS: Mapping[type, Callable[..., Any]] = MappingProxyType(
    {
        Push: CallbackQueue.push,
        Pop: CallbackQueue.pop,
        PopSlice: queue_slices.pop_slice,
        Fetch: CallbackQueue.fetch,
        FetchSlice: queue_slices.fetch_slice,
        FetchReverse: queue_slices.fetch_reverse,
        Count: queue_slices.count,
        DumpPage: queue_slices.dump_page,
        Reset: CallbackQueue.reset,
        DeleteCallback: CallbackQueue.delete_callback,
        UpdatePhase: queue_claims.update_phase,
        ClaimSlice: queue_claims.claim_slice,
        Ack: queue_claims.ack,
        Nack: queue_claims.nack,
        Extend: queue_claims.extend,
        Release: queue_claims.release,
        History: queue_history.history,
        HistoryPage: queue_history.history_page,
        FindCursor: queue_pushes.find_cursor,
        MoveCursor: queue_pushes.move_cursor,
        Children: queue_history.children,
        PastPage: queue_history.past_page,
        Stats: queue_history.stats,
    }
)
assert frozenset(_QUEUE_OPERATIONS) == CALLBACK_OPERATIONS


def _unbound() -> int:
    raise BackendUnavailable("memory", "it is not open", "call open() first")


class MemoryBackend:
    """Keeps endpoints and callbacks in this process, and loses them with it.

    Push, the head of a queue and a callback by its id cost the same however long the queue is.
    Any thread may call; each endpoint has its own lock. An exception from a signal handler, such
    as ``KeyboardInterrupt``, may come at any point: an operation has then taken effect as a
    whole or not at all, and the next one finds everything in order. A signal handler or finaliser
    that interrupts an operation cannot start another on the same endpoint: that is refused with
    ``BackendUnavailable``. The contents survive
    :meth:`close` and are there again after :meth:`open`.

    What has left a queue is kept with its records for as long as its endpoint says, but of each
    endpoint no more than ``kept``: the first that left are forgotten first, sub events and their
    parents too. How many records a callback has while it is queued is not bounded.

    Arguments:
        kept: how many callbacks of each endpoint are kept at most after they have left the queue.

    Raises:
        InvalidValue: ``kept`` is no int of at least 0.
    """

    def __init__(self, *, kept: int = 10_000) -> None:
        self._kept = natural("MemoryBackend.kept", kept)
        # One for all endpoints: one that is deleted and created anew must not begin again.
        self._positions = count(1)
        self._queues: dict[str, CallbackQueue] = {}
        self._guard = OneAtATime()
        self._time_ns: Callable[[], int] = _unbound
        # Empty while the backend is not open, so that an open one need not look.
        self._queue_operations: Mapping[type, Callable[..., Any]] = {}
        self._handlers: dict[type, Callable[[Any], Any]] = {
            IndexEndpoints: self._index,
            FindEndpoint: self._find,
            CreateEndpoint: self._create,
            UpdateEndpoint: self._update,
            DeleteEndpoint: self._delete,
            Consume: self._consume,
            RotateSecret: self._rotate,
            CheckReady: self._check_ready,
            Sweep: self._sweep,
        }

    @classmethod
    def from_url(cls, url: str, /) -> MemoryBackend:
        """Make an empty backend from the URL ``memory://``.

        Raises:
            InvalidValue: the URL has more than that.
        """
        if url.lower() != "memory://":
            raise InvalidValue("backend", "memory://", f"{len(url)} characters")
        return cls()

    @property
    def shared(self) -> bool:
        """False: the store belongs to this process."""
        return False

    @property
    def durable(self) -> bool:
        """False: the store ends with the process."""
        return False

    def open(self, time_ns: Callable[[], int]) -> None:
        """Make ready for use with this clock: nanoseconds since the epoch."""
        self._time_ns = time_ns
        self._queue_operations = dict(_QUEUE_OPERATIONS)

    def close(self) -> None:
        """Refuse messages until the next :meth:`open`. The contents stay."""
        self._queue_operations = {}

    def execute(self, message: Any) -> Any:
        """Carry out a message and return its reply.

        Raises:
            PollinError: what the message's docstring names; ``BackendUnavailable`` when the
                backend is not open; ``InvalidValue`` for a message of another type.
        """
        operation = self._queue_operations.get(type(message))
        if operation is None:
            return self._other(message)
        endpoint_id = message.endpoint_id
        if endpoint_id.__class__ is not str:
            text(message, "endpoint_id")
        queue = self._queues.get(endpoint_id)
        if queue is None:
            raise EndpointNotFound(endpoint_id)
        return queue.guard.run(operation, queue, message, self._time_ns)

    def _other(self, message: Any) -> Any:
        handler = self._handlers.get(type(message))
        if handler is None and type(message) not in _QUEUE_OPERATIONS:
            got = f"a {type(message).__module__}.{type(message).__qualname__}"
            raise InvalidValue("message", "one of pollin_actors.messages", got)
        if handler is None or not self._queue_operations:
            raise BackendUnavailable("memory", "it is not open", "call open() first")
        return handler(message)

    # A queue that was deleted may still be in the dict for a moment, or for good if the deletion
    # was interrupted: everything here treats it as absent.

    def _index(self, message: IndexEndpoints) -> list[Endpoint]:
        return [queue.endpoint for queue in list(self._queues.values()) if not queue.deleted]

    def _find(self, message: FindEndpoint) -> Endpoint | None:
        queue = self._queues.get(text(message, "endpoint_id"))
        return None if queue is None or queue.deleted else queue.endpoint

    def _create(self, message: CreateEndpoint) -> Endpoint:
        return self._guard.run(self._insert, endpoint_of(message))

    def _insert(self, endpoint: Endpoint) -> Endpoint:
        queue = self._queues.get(endpoint.id)
        if queue is not None:
            if not queue.deleted:
                raise EndpointExists(endpoint.id)
            # Taken out first: the new one belongs at the end.
            self._queues.pop(endpoint.id, None)
        self._queues[endpoint.id] = CallbackQueue(endpoint, self._positions, self._kept)
        return endpoint

    def _update(self, message: UpdateEndpoint) -> Endpoint:
        endpoint_id = endpoint_of(message).id
        queue = self._queues.get(endpoint_id)
        if queue is None:
            raise EndpointNotFound(endpoint_id)
        return queue.guard.run(queue.update_endpoint, message, self._time_ns)

    def _consume(self, message: Consume) -> Endpoint:
        queue = self._queues.get(text(message, "endpoint_id"))
        if queue is None:
            raise EndpointNotFound(message.endpoint_id)
        return queue.guard.run(queue.consume, message, self._time_ns)

    def _rotate(self, message: RotateSecret) -> Endpoint:
        queue = self._queues.get(text(message, "endpoint_id"))
        if queue is None:
            raise EndpointNotFound(message.endpoint_id)
        return queue.guard.run(queue.rotate, message, self._time_ns)

    def _delete(self, message: DeleteEndpoint) -> bool:
        queue = self._queues.get(text(message, "endpoint_id"))
        if queue is None:
            return False
        # One guard after the other, never both at once: there is no order to get wrong.
        existed = queue.guard.run(queue.delete_endpoint)
        # Refused inside an interrupted create: the next create of this id takes it out.
        with suppress(BackendUnavailable):
            self._guard.run(self._remove, message.endpoint_id, queue)
        return existed

    def _check_ready(self, message: CheckReady) -> None:
        """There is nothing that could be in the way."""

    def _remove(self, endpoint_id: str, queue: CallbackQueue) -> None:
        if self._queues.get(endpoint_id) is queue:
            self._queues.pop(endpoint_id, None)

    def _sweep(self, message: Sweep) -> int:
        limit = natural("Sweep.limit", message.limit)
        expired = forgotten = 0
        for queue in list(self._queues.values()):
            if expired >= limit:
                break
            if queue.has_expired(self._time_ns()) and not queue.guard.is_held():
                bounds = limit - expired, max(0, limit - forgotten)
                found = queue.guard.run(queue.sweep, *bounds, self._time_ns)
                expired, forgotten = expired + found[0], forgotten + found[1]
        return expired
