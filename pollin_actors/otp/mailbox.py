"""The mailbox of an actor, or of all the incarnations under one name: sending to it."""

from __future__ import annotations

import threading
from asyncio import _get_running_loop as running_loop  # documented, and the quick way to ask
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pollin_actors.otp.cell import Cell, Status
from pollin_actors.otp.errors import MailboxFull
from pollin_actors.otp.exits import ExitReason
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.items import TURNS, InfoItem, Item, StopItem
from pollin_actors.otp.later import Later
from pollin_actors.otp.turns import Runnable
from pollin_actors.otp.waiting import current_cell

if TYPE_CHECKING:
    from pollin_actors.otp.runtime import Executor, Runtime

__all__ = ["Mailbox"]

_new = object.__new__


class Mailbox(Runnable):
    """The queue of one actor, or of all the incarnations under one name."""

    __slots__ = ()

    def ask(
        self, message: Any, timeout: float | None = None, cell: Cell | None = None
    ) -> ReplyFuture[Any]:
        """Send a message; the future gets the answer.

        When the actor is idle and its handlers never block, the calling thread runs it here and
        now: no other thread takes part.

        Args:
            message: what the handler gets.
            timeout: seconds until the call's deadline, which passes only for who waits for the
                answer, and for a message that is still queued; None for no deadline.
            cell: the one incarnation that may handle it; None for whoever bears the name.
        """
        # Without __init__: only a future that others get to know needs a box, see _share.
        future: ReplyFuture[Any] = _new(ReplyFuture)
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
                            # Read by who holds the token: the next holder's is another thread's.
                            followed, self.followed = self.followed, False
                            followed = followed or self.token is not token
                            token.release()
                            # Another incarnation may have come, and found the token taken.
                            if self.queue or self.urgent or followed or self.cell is not owner:
                                self._after_turn(followed, turn is None)
                            return future
                        token.release()
                        if self.has_work():
                            self._reschedule()
                except BaseException as error:
                    self._recover(token, error, message, future)
                    raise
        self._share(future, message, timeout)
        self._enqueue(Item(message, future, cell))
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
            self._turn_failed(cell, message, future, error, foreign)
            if foreign and not isinstance(error, Exception):
                raise  # an interrupt of the caller, or as good as one
        else:
            if reply.__class__ is Later:
                self._share(future, message, timeout)
                cell.answer_later(future, reply)
            else:
                # Nobody else knows this future yet: a plain store will do.
                future._outcome = (reply, None)

    def _share(self, future: ReplyFuture[Any], message: Any, timeout: float | None) -> None:
        """From here on others get to know the future: it needs a box, and its deadline."""
        future._box = {}
        future._target = self
        if timeout is not None and self.runtime is not None:
            future._asked = (type(message).__name__, timeout)
            future._deadline = self.runtime.clock.monotonic() + timeout

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
        self._enqueue(Item(message, None, cell))

    def stop(self, cell: Cell) -> ReplyFuture[Any]:
        """Have an incarnation stop after what is queued now; settled once it has."""
        future: ReplyFuture[Any] = ReplyFuture()
        future._target = self
        self._enqueue(StopItem(future, cell))
        return future

    def post_urgent(self, message: Any) -> None:
        """A message of the runtime's own: it overtakes the queue and passes by the bound."""
        try:
            urgent = self.urgent
            urgent.append(message)
            if self.urgent is not urgent:
                self.urgent.append(message)  # replaced meanwhile; twice is harmless
            self.schedule()
        except BaseException:
            self._reschedule()
            raise

    def post_info(self, item: InfoItem, cell: Cell) -> None:
        """A message for ``on_info``: after what is queued, past the bound, to this incarnation."""
        try:
            if cell.stopped.is_set():
                return
            self.queue.append(item)
            if cell.stopped.is_set():
                item.done = True  # its end may have looked before we appended
            self.schedule()
        except BaseException:
            self._reschedule()
            raise

    def _enqueue(self, item: Item) -> None:
        try:
            if self.bound is not None and item.future is not None and self._is_full(item):
                item.future._fail(self._full())
                return
            if item.personal:
                self._enqueue_personal(item)
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

    def _enqueue_personal(self, item: Item) -> None:
        """A stop: one that lives can be stopped, whatever became of its name."""
        cell = item.cell
        assert cell is not None
        if not item.lasts():
            if item.future is not None:
                item.future._fail(cell.dead())
            return
        self.queue.append(item)
        if not item.lasts():
            item.fail(cell.dead())  # it has ended since we looked
        elif cell.mailbox is not self:
            cell.mailbox._enqueue(item)  # it took a name over meanwhile; twice is harmless
        else:
            self._posted(item)

    def _dead_error(self, cell: Cell | None) -> BaseException | None:
        if cell is not None and cell.stopped.is_set():
            return cell.dead()
        closed = self.closed
        if closed is not None:
            return closed()
        if self.vacant is not None:
            return self.vacant()
        return None

    def _is_full(self, item: Item) -> bool:
        stops = item.__class__ is StopItem  # always welcome
        return self.bound is not None and len(self.queue) >= self.bound and not stops

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
            self.run(TURNS, foreign=turn is None, here=True)
        else:
            self.schedule()

    # -- who bears the name ------------------------------------------------------------------------

    def attach(self, cell: Cell, runtime: Runtime, executor: Executor) -> None:
        """A new incarnation takes over this mailbox and everything in it."""
        self.runtime = runtime
        self.executor = executor
        self.parent = cell.supervisor
        if cell.supervises and isinstance(self.urgent, list):
            self.urgent = deque(self.urgent)
        if self.persistent:
            self.generation += 1
            cell.generation = self.generation
            cell.name = self.name
        cell.mailbox = self
        self.bearer = cell
        self.cell = cell
        try:
            self._begin(cell)
        except BaseException:
            # An interrupt: until it has begun its claim can be given back, afterwards it lives.
            if cell.status is not Status.UNSTARTED:
                self.vacant = None
                self._reschedule()
            raise

    def _begin(self, cell: Cell) -> None:
        cell.status = Status.STARTING
        self.vacant = None  # whoever vacates it meanwhile looks at us afterwards
        # An earlier incarnation's executor may have been told, and be gone.
        self.scheduled = False
        self.schedule()

    def vacate(self, error: Callable[[], BaseException]) -> None:
        """Nobody bears this name until further notice: fail what waits and what comes."""
        self.vacant = error
        if self.is_borne():
            self.vacant = None  # somebody took over between our caller's look and now
        else:
            self.fail_queued(error)

    def is_borne(self) -> bool:
        """Whether somebody bears the name who has not ended."""
        bearer = self.bearer
        return bearer is not None and not bearer.ends

    def close(self, error: Callable[[], BaseException]) -> None:
        """Nobody will bear this name again: fail what is queued and whatever still comes.

        An incarnation that is alive goes on until its supervisor ends it.
        """
        self.refuse(error)
        self.fail_queued(error)

    def refuse(self, error: Callable[[], BaseException]) -> None:
        """Take nothing more; what waits goes on waiting."""
        self.closed = error
        cell = self.cell
        if cell is not None:
            cell.caller_runs = False

    def kill(self, cell: Cell) -> None:
        """End an incarnation now, without its ``on_stop``; abandon it if it is in a turn.

        Its record's reason is ``killed``, or ``unstopped`` if its thread may still run. For actors
        that supervise nobody. Nothing happens if it has ended.
        """
        if cell.record is not None:
            return
        token, executor = self.token, self.executor
        if not token._is_owned():  # type: ignore[attr-defined]
            try:
                if token.acquire(False):
                    self._kill_turn(cell)
                    token.release()
                    if executor is not None:
                        # A thread of its own learns that it is needed no more; and whoever bears
                        # the name now may have found the token taken.
                        executor.submit(self)
                    if self.executor is not executor:
                        self.schedule()
                    return
            except BaseException as error:
                self._recover(token, error)
                raise
        self.abandon(cell)

    def _kill_turn(self, cell: Cell) -> None:
        if cell.status < Status.STOPPING:
            cell.begin_exit(cell.exit_record(ExitReason.KILLED))
        cell.finish()

    def abandon(self, cell: Cell) -> None:
        """Give up on an incarnation that does not end; its thread may still be in a turn.

        A new token shuts that thread out: when its turn ends, it finds that nothing here is its
        own any more. What it answers then comes too late.
        """
        if cell.record is not None:
            return
        token = threading.RLock()
        try:
            token.acquire()  # nobody else gets it until the end is complete
            self._abandon_turn(cell, token)
            token.release()
        except BaseException:
            if self.token is token and not cell.ends:
                cell.begin_exit(cell.exit_record(ExitReason.UNSTOPPED))  # whoever runs it ends it
            if token._is_owned():  # type: ignore[attr-defined]
                token.release()
            self._reschedule()
            raise
        if self.executor is not None:
            # Whoever bears the name now may have found either token taken.
            self.executor.submit(self)

    def _abandon_turn(self, cell: Cell, token: threading.RLock) -> None:
        cell.unstopped = True
        before, self.token = self.token, token
        if cell.ends:
            # It has ended after all, and the old token's holder may run the next one already.
            self.token = before
            cell.unstopped = cell.ends[0].reason is ExitReason.UNSTOPPED
            return
        # Read after the change: its thread says what it takes, and then looks at the token.
        current, self.current = self.current, None
        record = cell.exit_record(ExitReason.UNSTOPPED)
        cell.begin_exit(record)
        if isinstance(current, Item):
            current.fail(cell.dead("was abandoned: it did not end within its shutdown time"))
        cell.finish(record)
