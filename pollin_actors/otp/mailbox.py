"""The mailbox: who may run an actor, in which order, and what becomes of each message.

There is no lock in here. Senders append first and look at the state afterwards; whoever changes
the state changes it first and looks at the queue afterwards. So each message is seen by one side
at least, and what both sides may do (failing a message, asking for a run) is harmless twice.

The right to run is the ``token``, a re-entrant lock that is only ever *tried*: it is taken and
named after its thread in one atomic step, so after an interrupt at any bytecode a thread can tell
whether it holds the token, and give it back.
"""

from __future__ import annotations

import threading
from asyncio import _get_running_loop as running_loop  # public in asyncio's docs, for speed
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from pollin_actors.otp.cell import Cell, ExitRequest, Status
from pollin_actors.otp.errors import ActorCrashed, MailboxFull
from pollin_actors.otp.exits import ExitReason, ExitRecord
from pollin_actors.otp.futures import Later, ReplyFuture
from pollin_actors.otp.waiting import current_cell

if TYPE_CHECKING:
    from pollin_actors.otp.runtime import Executor, Runtime

__all__ = ["TURNS", "Item", "Mailbox", "StopRequest"]

TURNS = 64
"""How many turns a thread gives to one mailbox before others get theirs."""


class StopRequest:
    """The message behind ``ref.stop()``: it waits its turn in the queue, as in Pykka."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "StopRequest()"


class Item:
    """A queued message."""

    __slots__ = ("cell", "deadline", "future", "message")

    def __init__(
        self,
        message: Any,
        future: ReplyFuture[Any] | None,
        cell: Cell | None,
        deadline: float | None,
    ) -> None:
        self.message = message
        self.future = future
        # Sent to this incarnation only; None: sent to the name, for whoever bears it.
        self.cell = cell
        self.deadline = deadline

    def fail(self, error: BaseException) -> None:
        """It will not be handled. Whoever asked for a stop has got what they wanted."""
        if self.future is not None:
            if self.message.__class__ is StopRequest:
                self.future._settle((None, None))
            else:
                self.future._fail(error)


class _Pending(threading.local):
    """Mailboxes that the turn on this thread has sent to; this thread runs them next."""

    def __init__(self) -> None:
        self.mailboxes: deque[Mailbox] = deque()


_pending = _Pending()


class Mailbox:
    """The queue of one actor, or of all the incarnations under one name."""

    __slots__ = (
        "__weakref__",
        "bound",
        "cell",
        "closed",
        "current",
        "ending",
        "executor",
        "followed",
        "generation",
        "name",
        "on_demand",
        "persistent",
        "queue",
        "runtime",
        "scheduled",
        "token",
        "urgent",
        "used",
        "vacant",
    )

    def __init__(self, name: Hashable = None, *, bound: int | None = None) -> None:
        self.name = name
        self.bound = bound
        self.queue: deque[Item] = deque()
        # Short, and mostly empty: a list takes a tenth of a deque's memory. Supervisors, who may
        # have many, get a deque.
        self.urgent: list[Any] | deque[Any] = []
        self.token = threading.RLock()
        self.cell: Cell | None = None
        self.generation = 0
        # A named mailbox keeps its messages while nobody bears the name.
        self.persistent = name is not None
        self.runtime: Runtime | None = None
        self.executor: Executor | None = None
        self.current: Any = None
        # The incarnation whose end is being told, until all have been.
        self.ending: Cell | None = None
        self.scheduled = False
        self.followed = False
        self.used = False
        self.closed: Callable[[], BaseException] | None = None
        self.on_demand: Callable[[Mailbox], None] | None = None
        # Set while nobody bears the name and nobody is about to: senders get this error.
        self.vacant: Callable[[], BaseException] | None = None

    @property
    def label(self) -> str:
        """How errors call whoever should answer."""
        cell = self.cell
        if cell is not None:
            return cell.label
        return f"actor {self.name!r}"

    # -- sending --------------------------------------------------------------------------------

    def ask(
        self, message: Any, timeout: float | None = None, cell: Cell | None = None
    ) -> ReplyFuture[Any]:
        """Send a message; the future gets the answer.

        When the actor is idle and its handlers never block, the calling thread runs it here and
        now: no other thread takes part.

        Args:
            message: what the handler gets.
            timeout: seconds until the call's deadline; None for no deadline.
            cell: the one incarnation that may handle it; None for whoever bears the name.
        """
        future: ReplyFuture[Any] = ReplyFuture()
        owner = self.cell
        if (
            owner is not None
            and owner.caller_runs
            and not self.queue
            and not self.urgent
            and (cell is None or cell is owner)
            and ((turn := current_cell.get()) is None or not turn.never_blocks)
            and (running_loop() is None or message.__class__ in owner.constant_time)
        ):
            token = self.token
            if not token._is_owned():  # type: ignore[attr-defined]
                try:
                    if token.acquire(False):
                        if owner.caller_runs and not self.queue and not self.urgent:
                            self.current = future
                            self.used = True
                            self._own_turn(owner, message, future, timeout, turn is None)
                            if self.token is token:
                                self.current = None
                            token.release()
                            if self.queue or self.urgent or self.followed:
                                self._after_turn()
                            return future
                        token.release()
                except BaseException as error:
                    self._recover(token, error, message, future)
                    raise
        self._enqueue(Item(message, future, cell, self._give_deadline(future, message, timeout)))
        return future

    def _own_turn(
        self,
        cell: Cell,
        message: Any,
        future: ReplyFuture[Any],
        timeout: float | None,
        foreign: bool,
    ) -> None:
        """A caller's turn with its own message.

        A frame of its own: an interrupt between a ``try`` and its body is caught by the ``try``
        of the frame above, never by one in the same frame.
        """
        try:
            reply = cell.context.run(cell.handle, message)
        except BaseException as error:
            self._turn_failed(cell, message, future, error)
            if foreign and not isinstance(error, Exception):
                raise  # an interrupt of the caller, or as good as one
        else:
            if reply.__class__ is Later:
                future._target = self
                cell.answer_later(future, reply)
                self._give_deadline(future, message, timeout)
            else:
                # Nobody else knows this future yet: a plain store will do.
                future._outcome = (reply, None)

    def _give_deadline(
        self, future: ReplyFuture[Any], message: Any, timeout: float | None
    ) -> float | None:
        future._target = self
        if timeout is None or self.runtime is None:
            return None
        future._asked = (type(message).__name__, timeout)
        future._deadline = self.runtime.clock.monotonic() + timeout
        return future._deadline

    def tell(self, message: Any, cell: Cell | None = None) -> None:
        """Send a message that nobody waits for.

        Raises:
            ActorDead: the mailbox is closed, or ``cell`` has ended.
            MailboxFull: the mailbox is bounded and full.
        """
        error = self._dead_error(cell)
        if error is not None:
            raise error
        if self.bound is not None and len(self.queue) >= self.bound:
            raise self._full()
        self._enqueue(Item(message, None, cell, None))

    def stop(self, cell: Cell) -> ReplyFuture[Any]:
        """Have an incarnation stop after what is queued now; settled once it has."""
        future: ReplyFuture[Any] = ReplyFuture()
        future._target = self
        self._enqueue(Item(StopRequest(), future, cell, None))
        return future

    def post_urgent(self, message: Any) -> None:
        """A message of the runtime's own: it overtakes the queue and passes by the bound."""
        try:
            self.urgent.append(message)
            self.schedule()
        except BaseException:
            self._reschedule()
            raise

    def _enqueue(self, item: Item) -> None:
        try:
            if self.bound is not None and item.future is not None and len(self.queue) >= self.bound:
                item.future._fail(self._full())
                return
            error = self._dead_error(item.cell)
            if error is not None:
                if item.future is not None:
                    item.future._fail(error)
                return
            self.queue.append(item)
            error = self._dead_error(item.cell)  # it may have ended since we looked
            if error is not None:
                item.fail(error)
                return
            self._posted(item)
        except BaseException:
            self._reschedule()
            raise

    def _dead_error(self, cell: Cell | None) -> BaseException | None:
        closed = self.closed
        if closed is not None:
            return closed()
        if self.vacant is not None:
            return self.vacant()
        if cell is not None and cell.stopped.is_set():
            return cell.dead()
        return None

    def _full(self) -> MailboxFull:
        return MailboxFull(
            f"{self.label} has {len(self.queue)} messages waiting, its mailbox takes {self.bound}; "
            f"try again later"
        )

    def _posted(self, item: Item) -> None:
        """A message was appended: see that somebody runs it."""
        cell = self.cell
        if cell is None:
            if self.on_demand is not None:
                self.on_demand(self)
            return
        runtime = self.runtime
        if (
            cell.never_blocks
            and item.future is not None
            and runtime is not None
            and runtime.scheduler.caller_may_run()
            and ((turn := current_cell.get()) is None or not turn.never_blocks)
            and running_loop() is None
        ):
            self.run(TURNS, foreign=turn is None)
        else:
            self.schedule()

    # -- being run ------------------------------------------------------------------------------

    def schedule(self) -> None:
        """Have this mailbox run soon, by a thread of the pool or after the turn on this thread."""
        if self.scheduled or self.executor is None:
            return
        turn = current_cell.get()
        cell = self.cell
        if (
            turn is not None
            and turn.never_blocks
            and cell is not None
            and cell.never_blocks
            and self.runtime is not None
            and not self.runtime.scheduler.simulated
            and turn.mailbox.token._is_owned()  # type: ignore[attr-defined]
        ):
            self.scheduled = True
            _pending.mailboxes.append(self)
            turn.mailbox.followed = True
            return
        self.scheduled = True
        self.executor.submit(self)

    def _reschedule(self) -> None:
        """After an interrupt: whatever was under way, somebody looks at this mailbox again."""
        if self.executor is not None:
            self.executor.submit(self)
        while _pending.mailboxes:
            other = _pending.mailboxes[0]
            if other.executor is not None:
                other.executor.submit(other)
            _pending.mailboxes.popleft()

    def has_work(self) -> bool:
        """Whether a turn could be taken now."""
        cell = self.cell
        if cell is None or cell.status is Status.UNSTARTED:
            return self.ending is not None
        return bool(self.urgent or self.queue or cell.status is Status.STARTING)

    def run(self, turns: int = TURNS, *, foreign: bool = False) -> None:
        """Take turns until nothing is left, somebody else has the token, or ``turns`` are taken.

        Args:
            turns: how many at most; then the rest is scheduled.
            foreign: this thread is a caller's: an interrupt inside a turn is raised again in it.
        """
        token = self.token
        if token._is_owned():  # type: ignore[attr-defined]
            return  # an outer frame of this thread is in a turn, and will look again
        try:
            while True:
                self.scheduled = False
                if not token.acquire(False):
                    return  # whoever holds it looks again after giving it back
                turns = self._drain(token, turns, foreign)
                token.release()
                if self.token is not token or not self.has_work():
                    break
                if turns <= 0:
                    self.schedule()
                    break
            if self.followed:
                self._run_pending(foreign)
        except BaseException as error:
            self._recover(token, error)
            raise

    def _after_turn(self) -> None:
        """After a turn that a caller took at the send: others may have sent meanwhile."""
        if running_loop() is not None:
            self.followed = False
            self._reschedule()
            return
        if self.queue or self.urgent:
            self.run(TURNS - 1, foreign=True)
        if self.followed:
            self._run_pending(foreign=True)

    def _run_pending(self, foreign: bool) -> None:
        """Run what the turns on this thread have sent to, here: no thread switch."""
        self.followed = False
        if running_loop() is not None:
            self._reschedule()
            return
        turns = TURNS
        mailboxes = _pending.mailboxes
        while mailboxes:
            mailbox = mailboxes[0]
            if turns <= 0:
                self._reschedule()
                return
            mailbox.followed = False
            mailbox._run_quietly(foreign)
            mailboxes.popleft()
            turns -= 1

    def _run_quietly(self, foreign: bool) -> None:
        """Like ``run``, without looking at what its own turns have sent to: our caller does."""
        token = self.token
        self.scheduled = False
        if token._is_owned():  # type: ignore[attr-defined]
            return
        try:
            if not token.acquire(False):
                return
            self._drain(token, TURNS, foreign)
            token.release()
            if self.has_work():
                self.schedule()
        except BaseException as error:
            self._recover(token, error)
            raise

    # -- turns; only the thread that holds the token comes here -----------------------------------

    def _drain(self, token: threading.RLock, turns: int, foreign: bool) -> int:
        queue, urgent = self.queue, self.urgent
        while turns > 0 and self.token is token:
            if self.ending is not None:
                self.ending.finish()  # an interrupt came in the middle of it
            cell = self.cell
            if cell is None or cell.status is Status.UNSTARTED:
                break
            if cell.status is Status.STOPPING:
                cell.finish()  # an interrupt came between its hooks and its end
                continue
            if urgent:
                message = urgent[0]
                self._urgent_turn(cell, message, foreign)
                # Only now: an exit record must not be lost to an interrupt. Twice is harmless.
                if urgent and urgent[0] is message:
                    del urgent[0]
            elif cell.status is Status.STARTING:
                self._start_turn(cell, foreign)
            elif queue:
                item = queue[0]
                self.current = item
                queue.popleft()
                self._queued_turn(cell, item, foreign)
                if self.token is token:
                    self.current = None
            else:
                break
            turns -= 1
        return turns

    def _queued_turn(self, cell: Cell, item: Item, foreign: bool) -> None:
        future = item.future
        if future is not None and future._outcome is not None:
            return  # failed or withdrawn while it lay in the queue
        if item.cell is not None and item.cell is not cell:
            item.fail(item.cell.dead("stopped before handling the message"))
            return
        if item.deadline is not None and self.runtime is not None:
            if self.runtime.clock.monotonic() >= item.deadline:
                assert future is not None
                future._fail(future._deadline_error())
                return
        message = item.message
        self.used = True
        if message.__class__ is StopRequest:
            if cell.supervises:
                cell.context.run(cell.actor.on_info, item)  # it stops its children first, then itself
                return
            self.end(cell, ExitRecord(cell.ref, ExitReason.NORMAL, generation=cell.generation))
            if future is not None:
                future._settle((None, None))
            return
        try:
            reply = cell.context.run(cell.handle, message)
        except BaseException as error:
            self._turn_failed(cell, message, future, error)
            if foreign and not isinstance(error, Exception):
                raise
        else:
            if future is not None:
                if reply.__class__ is Later:
                    cell.answer_later(future, reply)
                else:
                    future._settle((reply, None))

    def _start_turn(self, cell: Cell, foreign: bool) -> None:
        self.current = cell
        try:
            cell.context.run(cell.actor.on_start)
        except BaseException as error:
            self._crash(cell, error, None, None)
            if foreign and not isinstance(error, Exception):
                raise
        else:
            if cell.status is Status.STARTING:
                cell.context.run(cell.mark_started)
        self.current = None

    def _urgent_turn(self, cell: Cell, message: Any, foreign: bool) -> None:
        if message.__class__ is ExitRequest and not cell.supervises:
            if message.cell is not cell or (message.only_if_idle and self.queue):
                return
            self.current = cell
            self.end(cell, ExitRecord(cell.ref, message.reason, generation=cell.generation))
            self.current = None
            return
        self.current = cell
        try:
            cell.context.run(cell.actor.on_info, message)
        except BaseException as error:
            self._crash(cell, error, message, None)
            if foreign and not isinstance(error, Exception):
                raise
        self.current = None

    def _turn_failed(
        self, cell: Cell, message: Any, future: ReplyFuture[Any] | None, error: BaseException
    ) -> None:
        if cell.unstopped:
            if future is not None:
                future._fail(error)  # it was answered when the actor was abandoned
        elif future is not None and isinstance(error, cell.replies):
            cell.actor._log_reply(error)
            future._fail(error)
        elif future is None and isinstance(error, cell.ignored_in_tell):
            cell.actor._log_reply(error)
        else:
            self._crash(cell, error, message, future)

    # -- ends -----------------------------------------------------------------------------------

    def end(self, cell: Cell, record: ExitRecord) -> None:
        """End an incarnation in order: its ``on_stop`` runs, then everybody is told."""
        if cell.status >= Status.STOPPING:
            return
        started = cell.status is Status.RUNNING
        cell.begin_exit(record)
        if started:
            try:
                if current_cell.get() is cell:
                    cell.actor.on_stop()  # a supervisor ends itself, inside its own turn
                else:
                    cell.context.run(cell.actor.on_stop)
            except BaseException as error:
                if not cell.unstopped:
                    cell.exit = ExitRecord(
                        cell.ref, ExitReason.CRASH, error, None, cell.generation, started
                    )
                    cell.actor._log_failure(error)
                if not isinstance(error, Exception):
                    cell.finish()
                    raise
        cell.finish()

    def _crash(
        self, cell: Cell, error: BaseException, message: Any, future: ReplyFuture[Any] | None
    ) -> None:
        """End an incarnation because of an exception, and answer who waits for this message."""
        if cell.status >= Status.STOPPING:
            if future is not None:
                future._fail(cell.crash_error("stopped before it answered"))
            if cell.status is Status.STOPPING:
                cell.finish()
            return
        started = cell.status is Status.RUNNING
        cell.begin_exit(
            ExitRecord(cell.ref, ExitReason.CRASH, error, message, cell.generation, started)
        )
        cell.actor._log_failure(error)
        if future is not None:
            if isinstance(error, Exception):
                future._fail(error)
            else:
                crashed = ActorCrashed(f"{cell.ref} crashed on {error!r} while it handled this")
                crashed.__cause__ = error
                future._fail(crashed)
        if started:
            try:
                cell.context.run(cell.actor._call_on_failure, error)
            except BaseException as second:
                cell.actor._log_failure(second)
                if not isinstance(second, Exception):
                    cell.finish()
                    raise
        cell.finish()

    def _recover(
        self,
        token: threading.RLock,
        error: BaseException,
        message: Any = None,
        future: ReplyFuture[Any] | None = None,
    ) -> None:
        """An interrupt has left a frame that may hold the token: put everything right."""
        if token._is_owned() and self.token is not token:  # type: ignore[attr-defined]
            token.release()  # abandoned meanwhile: the mailbox is not ours any more
        if token._is_owned():  # type: ignore[attr-defined]
            current, cell = self.current, self.cell
            if current is not None:
                if current.__class__ is Item:
                    message, future = current.message, current.future
                    if self.queue and self.queue[0] is current:
                        self.queue.popleft()
                elif current is not future:
                    message = future = None
                unanswered = future is None or future._outcome is None
                if cell is not None and unanswered and not (future is not None and future._via):
                    self._crash(cell, error, message, future)
                elif future is not None and future._outcome is None and not future._via:
                    future._fail(ActorCrashed("its actor has ended"))
            cell = self.cell
            if cell is not None and cell.status >= Status.STOPPING:
                cell.finish()
            if self.ending is not None:
                self.ending.finish()
            self.current = None
            token.release()
        self._reschedule()

    def release_cell(self, cell: Cell) -> None:
        """An incarnation has ended: fail what only it could answer, keep what others may."""
        if self.cell is not cell:
            return
        if not self.persistent:
            self.close(lambda: cell.dead("stopped before handling the message"))
            self.closed = cell.dead
            self.cell = None
            self.urgent.clear()
        else:
            for item in tuple(self.queue):
                if item.cell is cell:
                    item.fail(cell.dead("stopped before handling the message"))
            self.cell = None
            if self.queue and cell.exit is not None and cell.exit.exception is None:
                if self.on_demand is not None:
                    self.on_demand(self)

    def vacate(self, error: Callable[[], BaseException]) -> None:
        """Nobody bears this name until further notice: fail what waits and what comes."""
        self.vacant = error
        self.fail_queued(error)

    def abandon(self, cell: Cell) -> None:
        """Give up on an incarnation that does not end; its thread may still be in a turn.

        A new token shuts that thread out: when its turn ends, it finds that nothing here is its
        own any more. What it answers then comes too late.
        """
        if cell.status is Status.DEAD:
            return
        cell.unstopped = True
        current = self.current
        self.token = threading.RLock()
        self.current = None
        cell.begin_exit(
            ExitRecord(cell.ref, ExitReason.UNSTOPPED, generation=cell.generation)
        )
        if current.__class__ is Item:
            current.fail(cell.dead("was abandoned: it did not end within its shutdown time"))
        cell.finish()

    def close(self, error: Callable[[], BaseException]) -> None:
        """Nobody will bear this name again: fail what is queued and whatever still comes.

        An incarnation that is alive goes on until its supervisor ends it.
        """
        self.closed = error
        cell = self.cell
        if cell is not None:
            cell.caller_runs = False
        self.fail_queued(error)
        self.queue.clear()

    def fail_queued(self, error: Callable[[], BaseException]) -> None:
        """Fail the messages that wait now."""
        for item in tuple(self.queue):
            item.fail(error())

    def attach(self, cell: Cell, runtime: Runtime, executor: Executor) -> None:
        """A new incarnation takes over this mailbox and everything in it."""
        self.runtime = runtime
        self.executor = executor
        self.vacant = None
        if cell.supervises and isinstance(self.urgent, list):
            self.urgent = deque(self.urgent)
        if self.persistent:
            self.generation += 1
            cell.generation = self.generation
            cell.name = self.name
        cell.mailbox = self
        cell.status = Status.STARTING
        self.cell = cell
        self.schedule()

