"""Running a mailbox: whose turn it is, and what a turn may do.

There is no lock in here. Senders append first and look at the state afterwards; whoever changes
the state changes it first and looks at the queue afterwards. So each message is seen by one side
at least, and what both sides may do (failing a message, asking for a run) is harmless twice.

The right to run is the ``token``, a re-entrant lock that is only ever *tried*: it is taken and
named after its thread in one atomic step, so after an interrupt at any bytecode a thread can tell
whether it holds the token, and give it back.
"""

from __future__ import annotations

import contextlib
import threading
from asyncio import _get_running_loop as running_loop  # documented, and the quick way to ask
from collections import deque
from typing import TYPE_CHECKING, Any

from pollin_actors.otp.cell import Cell, ExitRequest, Status
from pollin_actors.otp.ends import Ends
from pollin_actors.otp.errors import ActorCrashed
from pollin_actors.otp.exits import ExitReason
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.items import TURNS, InfoItem, Item, StopItem, pending
from pollin_actors.otp.later import Later
from pollin_actors.otp.waiting import current_cell

if TYPE_CHECKING:
    from pollin_actors.otp.runtime import Executor

__all__ = ["Runnable"]

# Looked up in the class, each costs as much as a tenth of a turn.
UNSTARTED, STARTING, CONTINUING = Status.UNSTARTED, Status.STARTING, Status.CONTINUING
RUNNING, STOPPING = Status.RUNNING, Status.STOPPING


class Runnable(Ends):
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
        return bool(self.urgent or self.queue or cell.status is not RUNNING)

    def run(
        self,
        turns: int = TURNS,
        *,
        foreign: bool = False,
        here: bool = False,
        executor: Executor | None = None,
    ) -> None:
        """Take turns until nothing is left, somebody else has the token, or ``turns`` are taken.

        Args:
            turns: how many at most; then the rest is scheduled.
            foreign: this thread is a caller's: an interrupt inside a turn is raised again in it.
            here: this thread sends, and must not block: run only actors that never do.
            executor: run only incarnations of this executor's; None for those there are now.
        """
        token, followed = self.token, False
        if executor is None:
            executor = self.executor
        self.scheduled = False
        if token._is_owned():  # type: ignore[attr-defined]
            return  # an outer frame of this thread is in a turn, and will look again
        try:
            while True:
                self.scheduled = False
                if not token.acquire(False):
                    break  # whoever holds it looks again after giving it back
                turns = self._drain(token, turns, foreign, here, executor)
                # Read by who holds the token: the next holder's is another thread's.
                followed = followed or self.followed or self.token is not token
                self.followed = False
                token.release()
                if self.token is not token or not self.has_work():
                    break
                if turns <= 0 or self.executor is not executor or (here and self._may_block()):
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
            self.run(TURNS - 1, foreign=foreign, here=True)
        if followed:
            self._run_pending(foreign)

    def _may_block(self) -> bool:
        """Whether its actor, another one by now, is not for a thread that only sends."""
        cell = self.cell
        return cell is not None and not cell.never_blocks

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
            self._drain(token, 1 if starts else TURNS, foreign, True, self.executor)
            self.followed = False
            token.release()
            if self._may_block():
                if self.has_work():
                    self.schedule()
                return False
            return self.has_work()
        except BaseException as error:
            self._recover(token, error)
            raise

    # -- turns; only the thread that holds the token comes here ------------------------------------

    def _drain(
        self,
        token: threading.RLock,
        turns: int,
        foreign: bool,
        here: bool,
        executor: Executor | None,
    ) -> int:
        queue, urgent = self.queue, self.urgent
        while turns > 0:
            ending = self.ending
            if ending is not None:
                ending.finish()  # an interrupt came in the middle of it
            cell = self.cell
            # Looked at last: whoever attaches an incarnation sets the cell last, and whoever shuts
            # us out sets the token before that.
            if self.executor is not executor or self.token is not token:
                break
            if cell is None or cell.status is UNSTARTED:
                _sweep(queue)
                break
            if here and not cell.never_blocks:
                break
            status = cell.status
            if status is STOPPING:
                cell.finish()  # an interrupt came between its hooks and its end
                if self.cell is cell:
                    self.release_cell(cell)
                continue
            if status is CONTINUING:
                self._continue_turn(cell, foreign)
            elif urgent:
                try:
                    message = urgent[0]
                except IndexError:
                    break  # handled by a thread that has shut us out
                self._urgent_turn(cell, message, foreign)
                # Only now: an exit record must not be lost to an interrupt. Twice is harmless.
                if self.token is token:
                    self._drop_urgent(urgent, message)
            elif status is STARTING:
                self._start_turn(cell, foreign)
            elif queue:
                try:
                    item = queue[0]
                    self.current = item
                    queue.remove(item)  # not whatever is first by now
                except (IndexError, ValueError):
                    break  # a thread that has shut us out has taken it
                # Looked at last: whoever shuts us out looks at what is current afterwards.
                if self.token is not token:
                    self._hand_back(item)
                    break
                self._queued_turn(cell, item, foreign)
            else:
                break
            if self.token is token:
                self.current = None
            turns -= 1
        return turns

    def _hand_back(self, item: Item) -> None:
        """Taken although we are shut out: it is for the next incarnation, if one comes."""
        if self.current is item:
            self.current = None
        self.queue.appendleft(item)
        refusal = self.closed if self.closed is not None else self.vacant
        if item.cell is not None and item.cell.stopped.is_set():
            item.fail(item.cell.dead("stopped before handling the message"))
        elif refusal is not None and not item.lasts():
            item.fail(refusal())
        elif self.cell is None and self.on_demand is not None:
            self.on_demand(self)
        self._reschedule()

    def _drop_urgent(self, urgent: Any, message: Any) -> None:
        """It has been handled: take it away, and no other."""
        try:
            if urgent[0] is not message:
                return
            first = urgent.popleft() if urgent.__class__ is deque else urgent.pop(0)
        except IndexError:
            return
        if first is not message:
            # Who has shut us out was quicker.
            urgent.insert(0, first)
            self._reschedule()

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
        if item.__class__ is not Item:
            self._special_turn(cell, item, foreign)
            return
        message = item.message
        self.used = True
        try:
            reply = cell.context.run(cell.handle, message)
        except BaseException as error:
            self._turn_failed(cell, message, future, error, foreign)
            if foreign and not isinstance(error, Exception):
                raise
        else:
            if future is not None:
                if reply.__class__ is Later:
                    cell.answer_later(future, reply)
                else:
                    future._settle((reply, None))

    def _special_turn(self, cell: Cell, item: Item, foreign: bool) -> None:
        """What is queued beside the messages for ``on_receive``."""
        if item.__class__ is InfoItem:
            self._info_turn(cell, item, foreign)
            return
        assert item.__class__ is StopItem
        self.used = True
        if cell.supervises:
            # It stops its children first, then itself.
            cell.context.run(cell.actor.on_info, item)
            return
        try:
            self.end(cell, cell.exit_record(ExitReason.NORMAL), foreign=foreign)
        finally:
            # Also if on_stop has raised an interrupt: it was alive, and has ended.
            if item.future is not None and cell.ends:
                item.future._settle((None, None))

    def _info_turn(self, cell: Cell, item: InfoItem, foreign: bool) -> None:
        try:
            cell.context.run(cell.inform, item)
        except BaseException as error:
            self._hook_failed(cell, item.message, error, foreign)
            if foreign and not isinstance(error, Exception):
                raise

    def _start_turn(self, cell: Cell, foreign: bool) -> None:
        self.current = cell
        try:
            cell.context.run(cell.actor.on_start)
        except BaseException as error:
            self._hook_failed(cell, None, error, foreign)
            if foreign and not isinstance(error, Exception):
                raise
        else:
            if cell.status is STARTING:
                cell.context.run(cell.mark_started)

    def _continue_turn(self, cell: Cell, foreign: bool) -> None:
        self.current = cell
        try:
            cell.context.run(cell.actor.on_continue)
        except BaseException as error:
            self._hook_failed(cell, None, error, foreign)
            if foreign and not isinstance(error, Exception):
                raise
        else:
            if cell.status is CONTINUING:
                cell.context.run(cell.open)

    def _urgent_turn(self, cell: Cell, message: Any, foreign: bool) -> None:
        if message.__class__ is ExitRequest and not cell.supervises:
            if message.cell is not cell or (message.only_if_idle and (self.queue or cell.laters)):
                return
            self.current = cell
            self.end(cell, cell.exit_record(message.reason), foreign=foreign)
            return
        self.current = cell
        try:
            cell.context.run(cell.actor.on_info, message)
        except BaseException as error:
            self._hook_failed(cell, message, error, foreign)
            if foreign and not isinstance(error, Exception):
                raise

    def _recover(
        self,
        token: threading.RLock,
        error: BaseException,
        message: Any = None,
        future: ReplyFuture[Any] | None = None,
    ) -> None:
        """An interrupt has left a frame that may hold the token: put everything right."""
        try:
            self._put_right(token, error, message, future)
        finally:
            if token._is_owned():  # type: ignore[attr-defined]
                token.release()
            self._reschedule()

    def _put_right(
        self,
        token: threading.RLock,
        error: BaseException,
        message: Any,
        future: ReplyFuture[Any] | None,
    ) -> None:
        current, cell = self.current, self.cell
        # Looked at last, as in a turn.
        if not token._is_owned() or self.token is not token:  # type: ignore[attr-defined]
            return  # abandoned meanwhile: the mailbox is not ours any more
        if current is not None:
            if isinstance(current, Item):
                message, future = current.message, current.future
                with contextlib.suppress(ValueError):
                    self.queue.remove(current)
            elif current is not future:
                message = future = None
            unanswered = future is None or future._outcome is None
            if cell is not None and unanswered and not (future is not None and future._via):
                # Without its state: what it raises would go past the release.
                self._crash(cell, error, message, future, with_state=False)
            elif future is not None and future._outcome is None and not future._via:
                future._fail(ActorCrashed("its actor has ended"))
        cell = self.cell
        if cell is not None and cell.status >= STOPPING:
            cell.finish()
        ending = self.ending
        if ending is not None:
            ending.finish()
        if self.token is token:
            self.current = None


def _sweep(queue: deque[Item]) -> None:
    """Nobody bears the name: what has failed meanwhile need not lie there."""
    with contextlib.suppress(IndexError, ValueError):  # somebody else does the same
        while (item := queue[0]).done:
            queue.remove(item)
