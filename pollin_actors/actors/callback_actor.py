"""The actor of one endpoint: every operation on the endpoint's callbacks goes through it."""

from __future__ import annotations

import concurrent.futures
from typing import Any, ClassVar, NamedTuple

from pollin_actors.actors.changes import Changes
from pollin_actors.backends.checks import pushes_of
from pollin_actors.backends.interface import Backend
from pollin_actors.errors import BackendUnavailable, InvalidValue, PollinError, TooLarge
from pollin_actors.instruments import NOBODY, Instrumentation
from pollin_actors.messages import (
    CALLBACK_OPERATIONS,
    CHANGES,
    CONSTANT_TIME,
    ClaimSlice,
    MoveCursor,
    Push,
)
from pollin_actors.otp import Actor, Later, ReplyFuture
from pollin_actors.records import Claims

__all__ = ["FUTURES", "CallbackActor", "Identify"]

FUTURES = (ReplyFuture, concurrent.futures.Future)
"""What a backend may answer with instead of a value."""


class Identify(NamedTuple):
    """Ask an actor for its ref."""


class CallbackActor(Actor):
    """Executes the callback operations of one endpoint, in the order in which they come.

    It keeps no state of its own: that lives in the backend, so a crash loses nothing.

    Args:
        endpoint_id: its endpoint.
        backend: what executes the messages.
        max_bytes: the size of the largest callback that it takes, in bytes.
        changes: is told of every change once it has taken effect.
        instruments: are told of every operation.
    """

    never_blocks: ClassVar[bool] = True
    takes_proxies: ClassVar[bool] = False
    constant_time: ClassVar[frozenset[type]] = frozenset({*CONSTANT_TIME, Identify})
    replies: ClassVar[tuple[type[Exception], ...]] = (PollinError,)
    ignored_in_tell: ClassVar[tuple[type[Exception], ...]] = (PollinError,)

    def __init__(
        self,
        endpoint_id: str,
        backend: Backend,
        max_bytes: int,
        changes: Changes,
        instruments: Instrumentation = NOBODY,
    ) -> None:
        super().__init__()
        self._endpoint_id = endpoint_id
        self._execute = backend.execute
        self._max_bytes = max_bytes
        self._changed = changes.happened
        self._instruments = instruments
        self._watchers = instruments.operated_by

    def on_start(self) -> None:
        # An earlier incarnation may have ended between a change and the telling of it.
        if self._cell.generation > 1:
            self._changed(self._endpoint_id)

    def on_receive(self, message: Any) -> Any:
        """Execute one operation.

        Raises:
            InvalidValue: it is none of the callback operations, or is for another endpoint.
            TooLarge: a callback to be pushed is larger than the limit.
            PollinError: as the operation's own docstring says.
        """
        kind = message.__class__
        if kind not in CALLBACK_OPERATIONS:
            if kind is Identify:
                return self.actor_ref
            raise InvalidValue(
                "message",
                "a callback operation of pollin_actors.messages",
                kind.__name__,
                "endpoint operations go to the EndpointActor",
            )
        if message.endpoint_id != self._endpoint_id:
            raise InvalidValue(
                f"{kind.__name__}.endpoint_id",
                f"{self._endpoint_id!r}, the endpoint of this actor",
                repr(message.endpoint_id),
            )
        if kind is Push:
            if (size := message.callback.size) > self._max_bytes:
                raise TooLarge(self._endpoint_id, size, self._max_bytes)
        elif kind is MoveCursor:
            self._check_sizes(message)
        execute = self._execute_told if self._watchers else self._execute
        try:
            reply = execute(message)
        except BackendUnavailable:
            if kind in CHANGES and kind is not ClaimSlice:
                self._changed(self._endpoint_id)  # it may have been stored all the same
            raise
        if isinstance(reply, FUTURES):
            # The backend settles it, whatever becomes of this actor.
            later = Later(reply, detached=True)
            if kind in CHANGES:
                later.future.add_done_callback(
                    self._claimed if kind is ClaimSlice else self._settled
                )
            return later
        if kind in CHANGES and (kind is not ClaimSlice or reply.claims):
            self._changed(self._endpoint_id)
        return reply

    def _execute_told(self, message: Any) -> Any:
        runtime = self._cell.mailbox.runtime
        assert runtime is not None
        return self._instruments.execute(self._execute, message, runtime.clock.monotonic)

    def _check_sizes(self, message: MoveCursor) -> None:
        for callback in pushes_of(message):
            if (size := callback.size) > self._max_bytes:
                raise TooLarge(self._endpoint_id, size, self._max_bytes)

    def _settled(self, _: ReplyFuture[Any]) -> None:
        self._changed(self._endpoint_id)

    def _claimed(self, reply: ReplyFuture[Claims]) -> None:
        # One that found nothing has changed nothing: who waits for more would wake themselves.
        try:
            found = bool(reply.get(timeout=0).claims)
        except Exception:
            return
        if found:
            self._changed(self._endpoint_id)
