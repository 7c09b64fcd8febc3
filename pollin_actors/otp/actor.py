"""Actors on this runtime, as Pykka's: the one module that knows Pykka's private names.

What of Pykka is used although it is private, and why:

- ``Actor._create_actor_inbox``, ``_create_future``, ``_start_actor_loop``: the three methods that
  Pykka names for implementors of new actor types.
- ``Actor._handle_receive``: it understands the messages of Pykka's proxies.
- ``Actor._actor_ref`` and ``ActorRef._actor_weakref``: where actor and proxy look for each other.
- ``messages._ActorStop``: what code written for Pykka may send to stop an actor.
"""

from __future__ import annotations

import itertools
import logging
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, cast, overload

import pykka
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop

from pollin_actors.otp.cell import Cell, Status
from pollin_actors.otp.exits import ExitReason, ExitRecord
from pollin_actors.otp.futures import DerivedFuture, ReplyFuture
from pollin_actors.otp.handlers import Handlers
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.otp.pool import OwnThread
from pollin_actors.otp.runtime import Executor, Runtime, default_runtime

if TYPE_CHECKING:
    from pollin_actors.otp.cell import StopFlag

__all__ = ["Actor", "BlockingActor", "Ref"]

A = TypeVar("A", bound=pykka.Actor)

logger = logging.getLogger("pykka")

_PYKKA_MESSAGES = frozenset({ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop})

_thread_numbers = itertools.count()


class Ref(pykka.ActorRef[A]):
    """A reference to one incarnation of an actor; it never comes to mean another."""

    def __init__(self, cell: Cell) -> None:
        # Pykka's own __init__ would make the weak reference that an actor without a thread
        # cannot live by.
        self._cell = cell

    @property
    def actor_class(self) -> type[A]:  # type: ignore[override]
        """The class of the actor."""
        return self._cell.actor_class

    @property
    def actor_urn(self) -> str:  # type: ignore[override]
        """A universally unique name for this incarnation, made when first asked for."""
        cell = self._cell
        if cell.urn is None:
            cell.urn = uuid.uuid4().urn
        return cell.urn

    @property
    def actor_inbox(self) -> Mailbox:  # type: ignore[override]
        """The actor's mailbox."""
        return self._cell.mailbox

    @property
    def actor_stopped(self) -> StopFlag:  # type: ignore[override]
        """Set as soon as the actor handles nothing more."""
        return self._cell.stopped

    def _actor_weakref(self) -> A | None:  # type: ignore[override]
        return cast("A | None", self._cell.actor)

    def is_alive(self) -> bool:
        """Whether the actor still handles messages."""
        return not self._cell.stopped.is_set()

    def tell(self, message: Any) -> None:
        """Send a message without asking for an answer.

        Raises:
            ActorDead: the actor is not alive.
            MailboxFull: its mailbox is bounded and full.
        """
        self._cell.mailbox.tell(message, self._cell)

    @overload
    def ask(
        self, message: Any, *, block: Literal[False], timeout: float | None = None
    ) -> ReplyFuture[Any]: ...

    @overload
    def ask(
        self, message: Any, *, block: Literal[True] = True, timeout: float | None = None
    ) -> Any: ...

    @overload
    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any: ...

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        """Send a message and wait for the answer, or get a future of it.

        Args:
            message: anything.
            block: wait for the answer; otherwise return a future at once.
            timeout: seconds to wait; None, as in Pykka, waits for ever.

        Raises:
            pykka.Timeout: no answer within ``timeout`` seconds.
            ActorDead: the actor is not alive, or ended before it answered.
            WouldBlock, CallCycle, PoolExhausted: waiting here could not end well.
            Exception: whatever the handler raised.
        """
        cell = self._cell
        future = cell.mailbox.ask(message, None, cell)
        if block:
            return future.get(timeout=timeout)
        return future

    @overload
    def stop(self, *, block: Literal[True] = True, timeout: float | None = None) -> bool: ...

    @overload
    def stop(self, *, block: Literal[False], timeout: float | None = None) -> ReplyFuture[bool]: ...

    @overload
    def stop(
        self, *, block: bool = True, timeout: float | None = None
    ) -> bool | ReplyFuture[bool]: ...

    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | ReplyFuture[bool]:
        """Stop the actor after the messages that are queued now.

        Returns:
            True if it was alive, False if it was dead already; a future of that if not blocking.
        """
        cell = self._cell
        stopped = cell.mailbox.stop(cell)
        answer: ReplyFuture[bool] = DerivedFuture((stopped,), lambda _: True, _was_dead)
        if block:
            return answer.get(timeout=timeout)
        return answer

    def monitor(self) -> ReplyFuture[ExitRecord]:
        """A future of the actor's exit record; settled at once if it is dead."""
        return self._cell.monitor()


def _was_dead(error: BaseException) -> bool:
    if isinstance(error, pykka.ActorDeadError):
        return False
    raise error


class Actor(Handlers, pykka.Actor):
    """An actor without a thread of its own.

    Its turns are taken by a small pool of threads that all such actors share, or by the thread
    that asks. Write it as any Pykka actor: ``on_start``, ``on_receive``, ``on_stop``,
    ``on_failure``, methods for proxies. ``on_continue`` and ``on_info`` are as OTP's. A handler
    that raises ``Stop`` or ``Shutdown`` ends its actor in order.

    One message is handled at a time, but not always in the same thread: what is bound to a thread
    (a ``sqlite3`` connection, thread-local state) belongs in a ``BlockingActor``. Each actor has
    a ``contextvars`` Context of its own.
    """

    never_blocks: ClassVar[bool] = False
    """Declare that no handler ever waits: for a future, a lock held for long, a file, the net.
    Then an asking thread may run the actor itself, which saves two thread switches."""

    constant_time: ClassVar[frozenset[type]] = frozenset()
    """Message classes whose handling takes constant time; with ``never_blocks``, an idle actor
    handles these on a running event loop too."""

    replies: ClassVar[tuple[type[Exception], ...]] = ()
    """Exceptions that are answers: they go to the asker and the actor lives on. Any other goes
    to the asker as well, and crashes the actor."""

    ignored_in_tell: ClassVar[tuple[type[Exception], ...]] = ()
    """Exceptions that are only logged when nobody asked; any other crashes the actor."""

    mailbox_bound: ClassVar[int | None] = None
    """How many messages may be queued; None for no bound. Threads that send at the same moment
    may together pass it by one message each."""

    takes_proxies: ClassVar[bool] = True
    """Whether Pykka's proxies may be used on it. False hands every message to ``on_receive``
    straight away."""

    supervises: ClassVar[bool] = False
    """The actor has children: it reports its own start once they are up, and ends after them."""

    ref_class: ClassVar[type[Ref[Any]]] = Ref
    """What its ref is an instance of."""

    _cell: Cell
    _registered: bool = False

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> Ref[Self]:
        """Start an actor without a supervisor. It is registered in Pykka's ``ActorRegistry``.

        Returns at once: ``on_start`` runs soon, before any message is handled.
        """
        actor = cls(*args, **kwargs)
        cell_of(actor)
        pykka.ActorRegistry.register(actor.actor_ref)
        logger.debug("Starting %s", actor)
        actor._registered = True
        attach(actor, default_runtime())
        return cast("Ref[Self]", actor._actor_ref)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        # Pykka's own __init__ would make an Event, a queue and a URN: 2 KB that most never need.
        mailbox = Mailbox(bound=self.mailbox_bound)
        self._cell = Cell(self, mailbox)
        mailbox.cell = self._cell
        self._actor_ref = self.ref_class(self._cell)
        self._cell.ref = self._actor_ref
        if self.takes_proxies:
            # Proxies look into __dict__ from any thread; CPython 3.11 and 3.12 make it when first
            # asked, and two threads that ask at the same moment can destroy memory.
            vars(self)

    @property
    def actor_urn(self) -> str:  # type: ignore[override]
        """A universally unique name for this incarnation."""
        return self._actor_ref.actor_urn

    @property
    def actor_inbox(self) -> Mailbox:  # type: ignore[override]
        """The actor's mailbox."""
        return self._cell.mailbox

    @property
    def actor_stopped(self) -> StopFlag:  # type: ignore[override]
        """Set as soon as the actor handles nothing more."""
        return self._cell.stopped

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Mailbox()

    @staticmethod
    def _create_future() -> ReplyFuture[Any]:
        return ReplyFuture()

    def _start_actor_loop(self) -> None:
        attach(self, default_runtime())

    @staticmethod
    def _make_executor(runtime: Runtime) -> Executor:
        return runtime.scheduler

    def stop(self) -> None:
        """Stop after the messages that are queued now."""
        self._cell.mailbox.stop(self._cell)

    def _receive(self, message: Any) -> Any:
        if message.__class__ in _PYKKA_MESSAGES:
            if isinstance(message, _ActorStop):
                return self.stop()
            return self._handle_receive(message)
        return self.on_receive(message)

    def _unregister(self) -> None:
        if self._registered:
            pykka.ActorRegistry.unregister(self.actor_ref)
            logger.debug("Stopped %s", self)

    def _call_on_stop(self, reason: ExitReason) -> None:
        if self._stop_takes_reason:
            self.on_stop(reason)
        else:
            self.on_stop()

    def _call_on_failure(self, error: BaseException) -> None:
        self.on_failure(type(error), error, error.__traceback__)

    def _log_failure(self, error: BaseException) -> None:
        if self._cell.supervisor is None:
            info = (type(error), error, error.__traceback__)
            logger.error("Unhandled exception in %s:", self, exc_info=info)

    def _log_reply(self, error: BaseException) -> None:
        if logger.isEnabledFor(logging.INFO):
            info = (type(error), error, error.__traceback__)
            logger.info("Exception returned from %s to caller:", self, exc_info=info)


class BlockingActor(Actor):
    """An actor with a thread of its own, for code that blocks: files, drivers, slow libraries."""

    use_daemon_thread: ClassVar[bool] = False
    """As in Pykka: whether the thread is a daemon, which does not keep the program alive."""

    @classmethod
    def _make_executor(cls, runtime: Runtime) -> Executor:
        if runtime.scheduler.simulated:
            return runtime.scheduler
        return OwnThread(f"{cls.__name__}-{next(_thread_numbers)}", cls.use_daemon_thread)


def attach(
    actor: Actor,
    runtime: Runtime,
    mailbox: Mailbox | None = None,
    supervisor: Mailbox | None = None,
) -> Cell:
    """Bring an actor to life on a runtime: its ``on_start`` is its first turn.

    Args:
        actor: fresh from its constructor.
        runtime: where it lives.
        mailbox: of the name that it takes over; None for one of its own.
        supervisor: who is told when it has started and when it ends.
    """
    cell = cell_of(actor)
    executor = actor._make_executor(runtime)
    try:
        _take_over(cell, runtime, executor, mailbox, supervisor)
    except BaseException:
        if cell.status is Status.UNSTARTED and isinstance(executor, OwnThread):
            executor.discard()
        raise
    return cell


def _take_over(
    cell: Cell,
    runtime: Runtime,
    executor: Executor,
    mailbox: Mailbox | None,
    supervisor: Mailbox | None,
) -> None:
    if isinstance(executor, OwnThread):
        executor.start()  # not before somebody stands ready to end it
    cell.supervisor = supervisor
    own = cell.mailbox
    if mailbox is None:
        mailbox = own
    elif own is not mailbox:
        mailbox.bound = own.bound
        # From here on its ref sends to the name's mailbox. What was sent to its own moves there,
        # and whoever still comes to its own is told: they look again after they have appended.
        cell.mailbox = mailbox
        own.closed = partial(cell.dead, "was being started")
        own.cell = None
        while own.queue:
            mailbox.queue.append(own.queue.popleft())
    mailbox.attach(cell, runtime, executor)


def cell_of(actor: Actor) -> Cell:
    try:
        return actor._cell
    except AttributeError:
        raise AssertionError(
            f"{type(actor).__name__}.__init__() has not called super().__init__(); "
            f"call it first in your override"
        ) from None
