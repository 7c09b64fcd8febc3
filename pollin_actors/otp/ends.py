"""How an incarnation ends: in order, by its own word, or by an exception."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from pollin_actors.otp.cell import Cell, Status
from pollin_actors.otp.errors import ActorCrashed
from pollin_actors.otp.exits import NO_REPLY, ExitReason, ExitRecord, Stop, text_of
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.items import TURNS
from pollin_actors.otp.mailbox_state import MailboxState
from pollin_actors.otp.waiting import current_cell

__all__ = ["Ends"]

STOPPING = Status.STOPPING


class Ends(MailboxState):
    """A mailbox as far as the ends of incarnations go; ``Runnable`` adds taking turns."""

    __slots__ = ()

    def run(self, turns: int = TURNS, *, foreign: bool = False, here: bool = False) -> None:
        raise NotImplementedError

    def _reschedule(self) -> None:
        raise NotImplementedError

    # -- in order ----------------------------------------------------------------------------------

    def end(
        self,
        cell: Cell,
        record: ExitRecord,
        answer: Callable[[], object] | None = None,
        *,
        foreign: bool = True,
    ) -> None:
        """End an incarnation in order: its ``on_stop`` runs, then everybody is told.

        Args:
            cell: the incarnation.
            record: what is told, unless ``on_stop`` fails.
            answer: called in between, for the asker whose message has ended it.
            foreign: an interrupt in ``on_stop`` is raised again: this thread is a caller's.
        """
        if cell.status >= STOPPING:
            return
        started = cell.has_started
        cell.begin_exit(record)
        if started:
            try:
                _in_context(cell, cell.actor._call_on_stop, record.reason)
            except BaseException as error:
                if not cell.unstopped:
                    cell.exit = self._crash_record(cell, error, None, started)
                    cell.log_failure(error)
                if foreign and not isinstance(error, Exception):
                    if answer is not None:
                        answer()
                    cell.finish()
                    raise
        if answer is not None:
            answer()
        cell.finish()

    def _stop_itself(
        self, cell: Cell, stop: Stop, future: ReplyFuture[Any] | None, foreign: bool
    ) -> None:
        """A handler has raised ``Stop``: end in order, and answer who asked."""
        if cell.unstopped or cell.status >= STOPPING:
            _answer_stop(cell, stop, future)
            return
        record = cell.exit_record(stop.reason, stop.detail)
        if cell.supervises:
            _in_context(cell, cell.actor.end_with, record)  # its children come first
            _answer_stop(cell, stop, future)
            return
        self.end(cell, record, lambda: _answer_stop(cell, stop, future), foreign=foreign)

    # -- by an exception ---------------------------------------------------------------------------

    def _turn_failed(
        self,
        cell: Cell,
        message: Any,
        future: ReplyFuture[Any] | None,
        error: BaseException,
        foreign: bool,
    ) -> None:
        if isinstance(error, Stop):
            self._stop_itself(cell, error, future, foreign)
        elif cell.unstopped:
            if future is not None:
                future._fail(error)  # it was answered when the actor was abandoned
        elif future is not None and isinstance(error, cell.replies):
            cell.actor._log_reply(error)
            future._fail(error)
        elif future is None and isinstance(error, cell.ignored_in_tell):
            cell.actor._log_reply(error)
        else:
            self._crash(cell, error, message, future, foreign=foreign)

    def _hook_failed(self, cell: Cell, message: Any, error: BaseException, foreign: bool) -> None:
        """A hook has raised: nobody waits for it, and nothing it raises is a reply."""
        if isinstance(error, Stop):
            self._stop_itself(cell, error, None, foreign)
        else:
            self._crash(cell, error, message, None, foreign=foreign)

    def _crash(
        self,
        cell: Cell,
        error: BaseException,
        message: Any,
        future: ReplyFuture[Any] | None,
        *,
        with_state: bool = True,
        foreign: bool = True,
    ) -> None:
        """End an incarnation because of an exception, and answer who waits for this message."""
        if cell.status >= STOPPING:
            if future is not None:
                future._fail(cell.crash_error("stopped before it answered"))
            cell.finish()
            return
        started = cell.has_started
        cell.begin_exit(self._crash_record(cell, error, message, started, with_state=with_state))
        cell.log_failure(error)
        if future is not None:
            if isinstance(error, Exception):
                future._fail(error)
            else:
                crashed = ActorCrashed(
                    f"{cell.ref} crashed on {text_of(error)} while it handled this", cell.exit
                )
                crashed.__cause__ = error
                future._fail(crashed)
        actor = cell.actor
        # A supervisor may have children even if it has not started.
        if actor is not None and (started or cell.supervises):
            try:
                cell.context.run(actor._call_on_failure, error)
            except BaseException as second:
                cell.log_failure(second)
                if foreign and not isinstance(second, Exception):
                    cell.finish()
                    raise
        cell.finish()

    @staticmethod
    def _crash_record(
        cell: Cell, error: BaseException, message: Any, started: bool, *, with_state: bool = True
    ) -> ExitRecord:
        return ExitRecord(
            cell.ref,
            ExitReason.CRASH,
            error,
            message,
            cell.generation,
            started,
            state=_state_of(cell) if with_state else None,
        )

    # -- what an end leaves behind -----------------------------------------------------------------

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
            waiting = False
            for item in list(self.queue):
                if item.cell is cell:
                    item.fail(cell.dead("stopped before handling the message"))
                waiting = waiting or not item.done
            self.cell = None
            if self.bearer is not cell:
                # Somebody took over between our look and our store.
                self.cell = self.bearer
                self._reschedule()
                return
            record = cell.record
            crashed = record is not None and record.exception is not None
            if waiting and self.on_demand is not None and not crashed:
                self.on_demand(self)

    def fail_queued(self, error: Callable[[], BaseException]) -> None:
        """Fail the messages that wait now; what is only for somebody alive goes on waiting."""
        for item in list(self.queue):
            if not item.lasts():
                item.fail(error())
        if self.cell is None:
            self.run(here=True)  # it takes away what is done with


def _in_context(cell: Cell, function: Callable[..., object], *args: Any) -> object:
    """Call in the actor's own Context, also from inside one of its turns."""
    if current_cell.get() is cell:
        return function(*args)
    return cell.context.run(function, *args)


def _answer_stop(cell: Cell, stop: Stop, future: ReplyFuture[Any] | None) -> None:
    if future is None:
        return
    if stop.reply is NO_REPLY:
        future._fail(cell.crash_error("stopped before it answered"))
    else:
        future._settle((stop.reply, None))


def _state_of(cell: Cell) -> Any:
    """What the actor says about its state. Whatever it raises is no second crash."""
    actor = cell.actor
    if actor is None:
        return None
    try:
        return _in_context(cell, actor.format_state)
    except Exception as error:
        return f"format_state raised {type(error).__name__}"
