"""The actor that keeps the endpoints, and knows which of them exist."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import structlog

from pollin_actors.actors.callback_actor import FUTURES, Identify
from pollin_actors.actors.changes import Changes
from pollin_actors.backends.interface import Backend
from pollin_actors.errors import BackendUnavailable, EndpointNotFound, InvalidValue, PollinError
from pollin_actors.instruments import NOBODY, Instrumentation
from pollin_actors.messages import (
    ENDPOINT_OPERATIONS,
    Consume,
    CreateEndpoint,
    DeleteEndpoint,
    FindEndpoint,
    RotateSecret,
    Sweep,
    UpdateEndpoint,
)
from pollin_actors.otp import Actor, EnsureChild, Later, Registry, ReplyFuture, TerminateChild
from pollin_actors.resources import Endpoint

if TYPE_CHECKING:
    from pollin_actors.otp.cell import Cell

__all__ = ["EndpointActor", "Locate"]

log = structlog.get_logger("pollin_actors")

SWEEP_LIMIT = 1_000


class Locate(NamedTuple):
    """Somebody sent to an endpoint whose actor is not running: have it started if it exists.

    If it does not, its senders are answered ``EndpointNotFound``.
    """

    endpoint_id: str


class SweepDue(NamedTuple):
    """Urgent, to itself: time to remove what has expired."""

    cell: Cell
    """The incarnation whose timer it was."""


class EndpointActor(Actor):
    """Keeps the endpoints: every endpoint operation goes through it.

    Args:
        backend: what executes the messages.
        registry: the names of the callback actors.
        supervisor: the name, in the runtime's registry, of the supervisor of callback actors.
        sweep_interval: seconds between two sweeps of what has expired.
        changes: is told of every change of an endpoint once it has taken effect.
        phases_of: which phases of an endpoint the handlers of this application consume: its
            endpoint says so, whoever updates it.
        instruments: are told of every operation.
    """

    never_blocks: ClassVar[bool] = True
    takes_proxies: ClassVar[bool] = False
    constant_time: ClassVar[frozenset[type]] = frozenset({Locate, FindEndpoint, Identify})
    replies: ClassVar[tuple[type[Exception], ...]] = (PollinError,)
    ignored_in_tell: ClassVar[tuple[type[Exception], ...]] = (PollinError,)

    def __init__(
        self,
        backend: Backend,
        registry: Registry,
        supervisor: str,
        sweep_interval: float,
        changes: Changes,
        phases_of: Callable[[Endpoint], Iterable[str]] = lambda endpoint: (),
        instruments: Instrumentation = NOBODY,
    ) -> None:
        super().__init__()
        self._phases_of = phases_of
        self._backend = backend
        self._instruments = instruments
        self._registry = registry
        self._supervisor = supervisor
        self._sweep_interval = sweep_interval
        self._changes = changes
        self._cancel_sweep: Callable[[], None] | None = None
        # How many endpoints were created: an older answer of the backend may not know of them.
        self._creations = 0

    def on_start(self) -> None:
        self._sweep_later()
        # An earlier incarnation may have ended between a change and the telling of it.
        self._changes.anywhere()
        # It may have crashed while senders waited to be located.
        for name in self._registry.names():
            mailbox = self._registry.find(name)
            if mailbox is not None and mailbox.queue and mailbox.cell is None:
                self._locate(str(name))

    def on_stop(self) -> None:
        if self._cancel_sweep is not None:
            self._cancel_sweep()

    def on_receive(self, message: Any) -> Any:
        """Execute one operation.

        Raises:
            InvalidValue: it is none of the endpoint operations.
            PollinError: as the operation's own docstring says.
        """
        kind = message.__class__
        if kind is Locate:
            return self._locate(message.endpoint_id)
        if kind is CreateEndpoint:
            self._creations += 1
        if kind is CreateEndpoint or kind is UpdateEndpoint:
            message = self._consumed(message)
        if kind is DeleteEndpoint:
            reply = self._execute(message)
            self._then(reply, partial(self._deleted, message.endpoint_id, self._creations), _log)
        elif kind in ENDPOINT_OPERATIONS:
            try:
                reply = self._execute(message)
            except BackendUnavailable:
                changed = _changed_by(message)
                if changed is not None:
                    self._changes.revised(changed)  # it may have been stored all the same
                raise
        elif kind is Identify:
            return self.actor_ref
        else:
            raise InvalidValue(
                "message",
                "an endpoint operation of pollin_actors.messages",
                kind.__name__,
                "callback operations go to the endpoint's CallbackActor",
            )
        changed = _changed_by(message)
        if isinstance(reply, FUTURES):
            later = Later(reply, detached=True)
            if changed is not None:
                changes = self._changes
                later.future.add_done_callback(lambda _: changes.revised(changed))
            return later
        if changed is not None:
            self._changes.revised(changed)
        return reply

    def _execute(self, message: Any) -> Any:
        """Have the backend carry out an operation, and tell those who want to know how it went."""
        if not self._instruments.operated_by:
            return self._backend.execute(message)
        runtime = self._cell.mailbox.runtime
        assert runtime is not None
        clock = runtime.clock.monotonic
        return self._instruments.execute(self._backend.execute, message, clock)

    def _consumed(self, message: CreateEndpoint | UpdateEndpoint) -> Any:
        """The message with what is consumed: or a backlog would expire unseen."""
        endpoint: Any = message.endpoint
        if not isinstance(endpoint, Endpoint):
            return message  # the backend refuses it
        phases = {*endpoint.consumes, *self._phases_of(endpoint)}
        if len(phases) == len(endpoint.consumes):
            return message
        return message._replace(endpoint=endpoint.replace(consumes=phases))

    # -- endpoints come and go ---------------------------------------------------------------------

    def _locate(self, endpoint_id: str) -> None:
        failed = partial(self._fail_senders, endpoint_id)
        try:
            found = self._execute(FindEndpoint(endpoint_id))
        except PollinError as error:
            failed(error)
            return
        self._then(found, partial(self._located, endpoint_id, self._creations), failed)

    def _located(self, endpoint_id: str, creations: int, endpoint: Any) -> None:
        if endpoint is None and creations != self._creations:
            self._locate(endpoint_id)  # it may have been created since we asked
        elif endpoint is None:
            self._forget(endpoint_id)
        elif endpoint_id in self._registry:
            self._tell_supervisor(EnsureChild(endpoint_id))

    def _deleted(self, endpoint_id: str, creations: int, existed: Any) -> None:
        if creations != self._creations:
            self._locate(endpoint_id)
        else:
            self._forget(endpoint_id)

    def _forget(self, endpoint_id: str) -> None:
        self._registry.give_up(endpoint_id, lambda: EndpointNotFound(endpoint_id))
        self._tell_supervisor(TerminateChild(endpoint_id))

    def _fail_senders(self, endpoint_id: str, error: PollinError) -> None:
        # Nobody knows whether it exists: its senders get the error, its name is not kept.
        self._registry.give_up(endpoint_id, lambda: error)
        self._tell_supervisor(TerminateChild(endpoint_id))

    def _tell_supervisor(self, message: Any) -> None:
        runtime = self._cell.mailbox.runtime
        assert runtime is not None
        # An ask, although nobody waits: then the thread that runs us may run the supervisor too.
        runtime.registry.ask(self._supervisor, message, timeout=None)

    def _then(
        self, reply: Any, action: Callable[[Any], None], failed: Callable[[PollinError], None]
    ) -> None:
        """Act on a backend's reply, now or, in a turn of its own, when it comes."""
        if isinstance(reply, concurrent.futures.Future):
            reply = Later(reply).future
        if not isinstance(reply, ReplyFuture):
            action(reply)
            return
        cell, once = self._cell, iter((True,))
        reply.add_done_callback(
            lambda done: cell.mailbox.post_urgent(Answered(cell, done, action, failed, once))
        )

    # -- sweeping ----------------------------------------------------------------------------------

    def on_info(self, message: Any) -> None:
        if isinstance(message, SweepDue):
            if message.cell is self._cell:
                self._sweep()
        elif isinstance(message, Answered) and message.cell is self._cell and next(message.once, 0):
            try:
                value = message.reply.get(timeout=0)
            except PollinError as error:
                message.failed(error)
            else:
                message.action(value)

    def _sweep_later(self) -> None:
        runtime = self._cell.mailbox.runtime
        assert runtime is not None
        mailbox = self._cell.mailbox
        timer = runtime.timers.call_later(
            self._sweep_interval, lambda: mailbox.post_urgent(SweepDue(self._cell))
        )
        self._cancel_sweep = timer.cancel

    def _sweep(self) -> None:
        try:
            self._then(self._execute(Sweep(SWEEP_LIMIT)), self._swept, self._sweep_failed)
        except PollinError as error:
            self._sweep_failed(error)

    def _sweep_failed(self, error: PollinError) -> None:
        _log(error)
        self._sweep_later()

    def _swept(self, expired: int) -> None:
        if expired:
            log.info("callback.expired", count=expired)
            self._changes.anywhere()  # which endpoints it was, nobody says
        if expired >= SWEEP_LIMIT:
            self._cell.mailbox.post_urgent(SweepDue(self._cell))
        else:
            self._sweep_later()


class Answered(NamedTuple):
    """Urgent, to itself: a backend has answered."""

    cell: Cell
    """The incarnation that waits for it."""

    reply: ReplyFuture[Any]
    action: Callable[[Any], None]
    failed: Callable[[PollinError], None]
    once: Iterator[bool]
    """It may be told twice, if the first time was interrupted."""


def _changed_by(message: Any) -> str | None:
    """The id of the endpoint that an operation changes."""
    kind = message.__class__
    if kind is CreateEndpoint or kind is UpdateEndpoint:
        return str(message.endpoint.id)
    if kind is DeleteEndpoint or kind is Consume or kind is RotateSecret:
        return str(message.endpoint_id)
    return None


def _log(error: PollinError) -> None:
    log.warning("backend.failed", error=str(error))
