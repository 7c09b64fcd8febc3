"""Running a mailbox: whose turn it is, what a turn may do, and how an incarnation ends.

There is no lock in here. Senders append first and look at the state afterwards; whoever changes
the state changes it first and looks at the queue afterwards. So each message is seen by one side
at least, and what both sides may do (failing a message, asking for a run) is harmless twice.

The right to run is the ``token``, a re-entrant lock that is only ever *tried*: it is taken and
named after its thread in one atomic step, so after an interrupt at any bytecode a thread can tell
whether it holds the token, and give it back.
"""

from __future__ import annotations

import threading
from asyncio import _get_running_loop as running_loop  # documented, and the quick way to ask
from collections import deque
from collections.abc import Callable
from typing import Any

from pollin_actors.otp.cell import Cell, ExitRequest, Status
from pollin_actors.otp.errors import ActorCrashed
from pollin_actors.otp.exits import ExitReason, ExitRecord
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.items import TURNS, Item, StopRequest, pending
from pollin_actors.otp.later import Later
from pollin_actors.otp.mailbox_state import MailboxState
from pollin_actors.otp.waiting import current_cell

__all__ = ["Runnable"]

# Looked up in the class, each costs as much as a tenth of a turn.
UNSTARTED, STARTING = Status.UNSTARTED, Status.STARTING
RUNNING, STOPPING = Status.RUNNING, Status.STOPPING


class Runnable(MailboxState):
    """A mailbox as far as running it goes; ``Mailbox`` adds sending."""

    __slots__ = ()

    # -- being run ---------------------------------------------------------------------------------

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
            pending.mailboxes.append(self)
            turn.mailbox.followed = True
            return
        self.scheduled = True
        self.executor.submit(self)

    def _reschedule(self) -> None:
        """After an interrupt: whatever was under way, somebody looks at this mailbox again."""
        if self.executor is not None:
            self.executor.submit(self)
        pending.hand_over()

    def has_work(self) -> bool:
        """Whether a turn could be taken now."""
        cell = self.cell
        if cell is None or cell.status is UNSTARTED:
            return self.ending is not None
        return bool(self.urgent or self.queue or cell.status is STARTING)

    def run(self, turns: int = TURNS, *, foreign: bool = False) -> None:
        """Take turns until nothing is left, somebody else has the token, or ``turns`` are taken.

        Args:
            turns: how many at most; then the rest is scheduled.
            foreign: this thread is a caller's: an interrupt inside a turn is raised again in it.
        """
        token, executor, followed = self.token, self.executor, False
        self.scheduled = False
        if token._is_owned():  # type: ignore[attr-defined]
            return  # an outer frame of this thread is in a turn, and will look again
        try:
            while True:
                self.scheduled = False
                if not token.acquire(False):
                    break  # whoever holds it looks again after giving it back
                turns = self._drain(token, turns, foreign)
                # Read by who holds the token: the next holder's is another thread's.
                followed = followed or self.followed or self.token is not token
                self.followed = False
                token.release()
                if self.token is not token or not self.has_work():
                    break
                if turns <= 0 or self.executor is not executor:
                    self.schedule()
                    break
            if followed:
                self._run_pending(foreign)
        except BaseException as error:
            self._recover(token, error)
            raise

    def _after_turn(self, followed: bool, foreign: bool) -> None:
        """After a turn that a caller took at the send: others may have sent meanwhile."""
        if running_loop() is not None:
            self._reschedule()
            return
        if self.has_work():
            self.run(TURNS - 1, foreign=foreign)
        if followed:
            self._run_pending(foreign)

    def _run_pending(self, foreign: bool) -> None:
        """Run what the turns on this thread have sent to, here: no thread switch."""
        if running_loop() is not None:
            self._reschedule()
            return
        turns = TURNS
        mailboxes = pending.mailboxes
        while mailboxes:
            mailbox = mailboxes[0]
            if turns <= 0:
                self._reschedule()
                return
            again = mailbox._run_quietly(foreign)
            # A callback may have run them all meanwhile, on top of us.
            first = bool(mailboxes) and mailboxes[0] is mailbox
            if again:
                mailbox.scheduled = True
                mailboxes.append(mailbox)
            if first:
                mailboxes.popleft()
            turns -= 1

    def _run_quietly(self, foreign: bool) -> bool:
        """Like ``run``, but what its turns have sent to is left to our caller; is there more?"""
        token = self.token
        self.scheduled = False
        if token._is_owned():  # type: ignore[attr-defined]
            return False
        try:
            if not token.acquire(False):
                return False
            cell = self.cell
            # After a start its supervisor comes first, and then the messages that waited.
            starts = cell is not None and cell.status is STARTING
            self._drain(token, 1 if starts else TURNS, foreign)
            self.followed = False
            token.release()
            return self.has_work()
        except BaseException as error:
            self._recover(token, error)
            raise

    # -- turns; only the thread that holds the token comes here ------------------------------------

    def _drain(self, token: threading.RLock, turns: int, foreign: bool) -> int:
        queue, urgent, executor = self.queue, self.urgent, self.executor
        while turns > 0 and self.token is token and self.executor is executor:
            if self.ending is not None:
                self.ending.finish()  # an interrupt came in the middle of it
            cell = self.cell
            if cell is None or cell.status is UNSTARTED:
                # Nobody bears the name: what has failed meanwhile need not lie here.
                while queue and queue[0].done:
                    queue.popleft()
                break
            if cell.status is STOPPING:
                cell.finish()  # an interrupt came between its hooks and its end
                if self.cell is cell:
                    self.release_cell(cell)
                continue
            if urgent:
                message = urgent[0]
                self._urgent_turn(cell, message, foreign)
                # Only now: an exit record must not be lost to an interrupt. Twice is harmless.
                if urgent and urgent[0] is message:
                    del urgent[0]
            elif cell.status is STARTING:
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
        if item.done:
            return  # failed while it lay in the queue
        if item.cell is not None and item.cell is not cell:
            item.fail(item.cell.dead("stopped before handling the message"))
            return
        if future is not None and future._is_late():
            future._fail(future._deadline_error())
            return
        message = item.message
        self.used = True
        if message.__class__ is StopRequest:
            if cell.supervises:
                cell.context.run(
                    cell.actor.on_info, item
                )  # it stops its children first, then itself
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
            if cell.status is STARTING:
                cell.context.run(cell.mark_started)
        self.current = None

    def _urgent_turn(self, cell: Cell, message: Any, foreign: bool) -> None:
        if message.__class__ is ExitRequest and not cell.supervises:
            if message.cell is not cell or (message.only_if_idle and (self.queue or cell.laters)):
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

    # -- ends --------------------------------------------------------------------------------------

    def end(self, cell: Cell, record: ExitRecord) -> None:
        """End an incarnation in order: its ``on_stop`` runs, then everybody is told."""
        if cell.status >= STOPPING:
            return
        started = cell.status is RUNNING
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
                    cell.log_failure(error)
                if not isinstance(error, Exception):
                    cell.finish()
                    raise
        cell.finish()

    def _crash(
        self, cell: Cell, error: BaseException, message: Any, future: ReplyFuture[Any] | None
    ) -> None:
        """End an incarnation because of an exception, and answer who waits for this message."""
        if cell.status >= STOPPING:
            if future is not None:
                future._fail(cell.crash_error("stopped before it answered"))
            cell.finish()
            return
        started = cell.status is RUNNING
        cell.begin_exit(
            ExitRecord(cell.ref, ExitReason.CRASH, error, message, cell.generation, started)
        )
        cell.log_failure(error)
        if future is not None:
            if isinstance(error, Exception):
                future._fail(error)
            else:
                crashed = ActorCrashed(f"{cell.ref} crashed on {error!r} while it handled this")
                crashed.__cause__ = error
                future._fail(crashed)
        actor = cell.actor
        # A supervisor may have children even if it has not started.
        if actor is not None and (started or cell.supervises):
            try:
                cell.context.run(actor._call_on_failure, error)
            except BaseException as second:
                cell.log_failure(second)
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
            if cell is not None and cell.status >= STOPPING:
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
            self.closed = cell.dead
            self.fail_queued(lambda: cell.dead("stopped before handling the message"))
            # Fresh ones: a thread that was shut out may still look into the old.
            self.queue, self.urgent = deque(), []
            self.cell = None
        else:
            for item in tuple(self.queue):
                if item.cell is cell:
                    item.fail(cell.dead("stopped before handling the message"))
            self.cell = None
            if self.bearer is not cell:
                # Somebody took over between our look and our store.
                self.cell = self.bearer
                self._reschedule()
                return
            record = cell.record
            crashed = record is not None and record.exception is not None
            if self.queue and self.on_demand is not None and not crashed:
                self.on_demand(self)

    def fail_queued(self, error: Callable[[], BaseException]) -> None:
        """Fail the messages that wait now."""
        for item in tuple(self.queue):
            item.fail(error())
        if self.cell is None:
            self.run()  # it takes away what is done with
