"""One incarnation of an actor: its state, what it waits for, and its end.

A cell lives from an actor's creation to its exit record. The mailbox may outlive it: messages
sent to a name wait there for the next incarnation.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pykka

from pollin_actors.otp.errors import ActorCrashed, ActorDead, CallCycle
from pollin_actors.otp.exits import ExitReason, ExitRecord, text_of
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.last_words import OWN
from pollin_actors.otp.later import Later
from pollin_actors.otp.waiting import current_cell, find_cycle

if TYPE_CHECKING:
    from pollin_actors.otp.actor import Ref
    from pollin_actors.otp.arrivals import Extras
    from pollin_actors.otp.items import InfoItem
    from pollin_actors.otp.mailbox import Mailbox

__all__ = ["Cell", "ChildExited", "ChildStarted", "ExitRequest", "Status", "StopFlag", "gone"]


class Status(IntEnum):
    """Where an incarnation stands."""

    UNSTARTED = 0
    STARTING = 1
    """Attached to its runtime; ``on_start`` has not returned yet."""
    CONTINUING = 2
    """``on_start`` has returned; ``on_continue`` comes before any message."""
    RUNNING = 3
    STOPPING = 4
    """Its exit has begun, and may be over: no message will be handled any more."""


class ExitRequest(NamedTuple):
    """Urgent: end this incarnation before any queued message."""

    cell: Cell
    reason: ExitReason
    only_if_idle: bool = False


class ChildStarted(NamedTuple):
    """Urgent, to a supervisor: a child's ``on_start`` has returned."""

    cell: Cell


class ChildExited(NamedTuple):
    """Urgent, to a supervisor: a child has ended."""

    cell: Cell
    record: ExitRecord


class StopFlag(ReplyFuture[None]):
    """Pykka's ``actor_stopped``: a ``threading.Event`` that costs nothing until waited for."""

    def is_set(self) -> bool:
        return self._outcome is not None

    def set(self, value: None = None) -> None:
        """Set the flag; again is harmless."""
        self._settle((None, None))

    def clear(self) -> None:
        raise RuntimeError("an actor that has stopped stays stopped; start a new one")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set, at most ``timeout`` seconds; return whether it is."""
        if not self.is_set():
            with contextlib.suppress(pykka.Timeout):
                self.get(timeout=timeout)
        return self.is_set()


class Monitoring(Protocol):
    """Somebody to tell of an end."""

    def _settle(self, outcome: tuple[ExitRecord, None]) -> bool:
        """It has ended. May be called more than once, from any thread; must not raise."""
        ...


class Cell:
    """One incarnation of an actor."""

    __slots__ = (
        "__weakref__",
        "actor",
        "actor_class",
        "caller_runs",
        "constant_time",
        "context",
        "ends",
        "exit",
        "extras",
        "generation",
        "handle",
        "ignored_in_tell",
        "laters",
        "mailbox",
        "monitors",
        "name",
        "never_blocks",
        "ref",
        "replies",
        "started",
        "status",
        "stopped",
        "supervises",
        "supervisor",
        "told",
        "unstopped",
        "urn",
        "waiting_for",
    )

    def __init__(self, actor: Any, mailbox: Mailbox) -> None:
        self.actor: Any = actor
        self.actor_class: type[Any] = type(actor)
        self.mailbox = mailbox
        self.ref: Ref[Any]
        self.urn: str | None = None
        self.name: Any = None
        self.status = Status.UNSTARTED
        self.stopped = StopFlag()
        self.started = False
        self.unstopped = False
        # Whether its end is complete: supervisor and monitors know.
        self.told = False
        self.generation = 0
        self.never_blocks: bool = actor.never_blocks
        self.constant_time: frozenset[type] = actor.constant_time
        self.replies: tuple[type[Exception], ...] = actor.replies
        self.ignored_in_tell: tuple[type[Exception], ...] = actor.ignored_in_tell
        # Whether it has children of its own to stop before it ends.
        self.supervises: bool = actor.supervises
        # True only while any caller may run this actor: running, and it never blocks.
        self.caller_runs = False
        self.context = contextvars.Context()
        self.context.run(current_cell.set, self)
        self.handle: Callable[[Any], Any] = (
            actor._receive if actor.takes_proxies else actor.on_receive
        )
        self.exit: ExitRecord | None = None
        # The records of all who ended it, an abandoner and its own thread: the first one counts.
        self.ends: list[ExitRecord] = []
        self.laters: dict[ReplyFuture[Any], None] | None = None
        # Who is told of its end; a dict, so that one who loses interest is found at once.
        self.monitors: dict[Monitoring, None] = {}
        # Its timers, monitors and idle time-out, if it has any.
        self.extras: Extras | None = None
        self.supervisor: Mailbox | None = None
        self.waiting_for: ReplyFuture[Any] | None = None

    @property
    def label(self) -> str:
        """How errors and logs call it."""
        if self.name is not None:
            return f"{self.actor_class.__name__} {self.name!r}"
        return str(self.ref)

    def dead(self, text: str = "not found") -> ActorDead:
        """The error for a message that this incarnation will never handle."""
        record = self.record or self.exit
        # Pykka's own text for an actor that was stopped says no more.
        if record is not None and (text != "not found" or record.reason is not ExitReason.NORMAL):
            text = f"{text} (it ended: {record.reason})"
        return ActorDead(f"{self.ref} {text}", record)

    @property
    def has_started(self) -> bool:
        """Whether it lives and its ``on_start`` has returned."""
        return self.status is Status.RUNNING or self.status is Status.CONTINUING

    def exit_record(self, reason: ExitReason, detail: Any = None) -> ExitRecord:
        """A record of an end without an exception, made before the end begins."""
        # One whose exit has begun has that status no more.
        started = self.exit.started if self.exit is not None else self.has_started
        return ExitRecord(self.ref, reason, None, None, self.generation, started, detail=detail)

    # -- the beginning -----------------------------------------------------------------------------

    def mark_started(self) -> None:
        """``on_start`` has returned."""
        if self.actor_class._continues:
            self.status = Status.CONTINUING
            self._look_again()
        else:
            self.open()
        if not self.supervises:
            self.report_started()

    def open(self) -> None:
        """From here on messages may be handled."""
        self.status = Status.RUNNING
        runtime = self.mailbox.runtime
        assert runtime is not None
        actor = self.actor
        waits = self.extras is not None or self.actor_class.idle_timeout is not None
        if waits and actor is not None:
            actor._begin_idle()
        self.caller_runs = self.never_blocks and not runtime.scheduler.simulated
        self._look_again()

    def _look_again(self) -> None:
        """Who ended it, or closed its mailbox, may have set these just before we did: they count.

        They say so first and set these afterwards.
        """
        if self.exit is not None:
            self.status = Status.STOPPING
            self.caller_runs = False
        elif self.mailbox.closed is not None:
            self.caller_runs = False

    def inform(self, item: InfoItem) -> None:
        """Handle a queued message for ``on_info``, if it is wanted still."""
        actor = self.actor
        if actor is not None and item.gate():
            actor.on_info(item.message)
            if self.extras is not None:
                self.extras.informed(item.message)

    def report_started(self) -> None:
        """Tell the supervisor; a supervisor does it once its children are up."""
        self.started = True
        if self.supervisor is not None:
            self.supervisor.post_urgent(ChildStarted(self))

    # -- answering later ---------------------------------------------------------------------------

    def answer_later(self, reply: ReplyFuture[Any], later: Later) -> None:
        """Let ``reply`` get the outcome of ``later.future``."""
        inner = later.future
        if not later.detached:
            if self.laters is None:
                self.laters = {}
            self.laters[reply] = None
        forward = _Forward(self, reply, inner)
        inner._add_waiter(forward)
        if reply._deadline is not None:
            reply._add_waiter(_Answered(self, reply, inner, forward))
        # Only now: an interrupt before this finds a reply that nobody else will give.
        reply._via = inner
        if self.ends and not later.detached:
            reply._fail(self.crash_error("ended before it answered"))
        # Somebody may wait for this reply already, and the inner future may be theirs to settle.
        target = inner._target
        waiting = target.cell if target is not None else None
        if waiting is not None and waiting.waiting_for is not None:
            cycle = find_cycle(waiting, waiting.waiting_for)
            if cycle is not None:
                reply._fail(
                    CallCycle(
                        "an answer was left to an actor that waits for it: "
                        + " -> ".join(c.label for c in cycle)
                    )
                )

    # -- the end -----------------------------------------------------------------------------------

    def begin_exit(self, record: ExitRecord) -> None:
        """From here on nothing more is handled; the hooks have yet to run."""
        # In this order: see _look_again.
        if self.exit is None:
            self.exit = record
        self.status = Status.STOPPING
        self.caller_runs = False
        self._say_stopped()

    def _say_stopped(self) -> None:
        actor = self.actor
        if actor is not None:
            actor._unregister()
        self.stopped.set()

    @property
    def record(self) -> ExitRecord | None:
        """The exit record, once it has ended."""
        return self.ends[0] if self.ends else None

    def finish(self, record: ExitRecord | None = None) -> None:
        """The hooks have run: tell everybody. What an interrupt leaves undone is done again."""
        mailbox = self.mailbox
        record = record if record is not None else self.exit
        if record is None or self.told:
            if mailbox.ending is self:
                mailbox.ending = None
            return
        mailbox.ending = self
        self._say_stopped()
        # One step decides, whoever else is at it: its own thread, and a supervisor that gives up.
        self.ends.append(record)
        record = self.ends[0]
        laters = self.laters
        if laters:
            for reply in list(laters):
                reply._fail(self.crash_error("ended before it answered"))
        mailbox.release_cell(self)
        supervisor = self.supervisor
        if supervisor is not None:
            exited = ChildExited(self, record)
            by_others = self.unstopped or record.reason is ExitReason.KILLED
            if by_others or current_cell.get() is self:
                supervisor.post_urgent(exited)
            else:
                # As if sent in a turn: then the thread that ran us may run the supervisor next.
                self.context.run(supervisor.post_urgent, exited)
        for monitor in list(self.monitors):
            monitor._settle((record, None))
            self.monitors.pop(monitor, None)
        if self.extras is not None:
            self.extras.close()
        self.actor = None
        self.handle = partial(gone, self)
        self.laters = None
        self.told = True
        mailbox.ending = None

    def monitor(self) -> ReplyFuture[ExitRecord]:
        """A future of the exit record; settled at once if there is one."""
        future: ReplyFuture[ExitRecord] = ReplyFuture()
        self.add_monitor(future)
        return future

    def add_monitor(self, monitor: Monitoring) -> None:
        """Tell somebody of the end; at once if it is over."""
        self.monitors[monitor] = None
        if self.ends:
            monitor._settle((self.ends[0], None))
            self.monitors.pop(monitor, None)

    def log_failure(self, error: BaseException) -> None:
        """Let the actor log what it failed on; one that was abandoned has nothing to say."""
        actor = self.actor
        if actor is not None:
            with contextlib.suppress(*OWN):  # a host's log that fails must not stop an end
                actor._log_failure(error)

    def crash_error(self, text: str) -> ActorDead:
        """What an asker gets whose answer an exit has taken away."""
        record = self.record or self.exit
        cause = record.exception if record is not None else None
        if cause is None:
            return self.dead(text)
        error = ActorCrashed(f"{self.ref} {text}: it crashed on {text_of(cause)}", record)
        error.__cause__ = cause
        return error


class _Forward:
    """Carries the outcome of a later answer to its asker."""

    __slots__ = ("_cell", "_inner", "_reply")

    def __init__(self, cell: Cell, reply: ReplyFuture[Any], inner: ReplyFuture[Any]) -> None:
        self._cell = cell
        self._reply = reply
        self._inner = inner

    def fire(self) -> None:
        outcome = self._inner._outcome
        if outcome is None:
            return
        self._reply._settle(outcome)
        laters = self._cell.laters
        if laters is not None:
            laters.pop(self._reply, None)


class _Answered:
    """An answer that was given otherwise, by its deadline, is owed no more."""

    __slots__ = ("_cell", "_forward", "_inner", "_reply")

    def __init__(
        self, cell: Cell, reply: ReplyFuture[Any], inner: ReplyFuture[Any], forward: _Forward
    ) -> None:
        self._cell = cell
        self._reply = reply
        self._inner = inner
        self._forward = forward

    def fire(self) -> None:
        laters = self._cell.laters
        if laters is not None:
            laters.pop(self._reply, None)
        if self._inner._outcome is None:
            self._inner._remove_waiter(self._forward)


def gone(cell: Cell, message: Any) -> Any:
    """In place of the handler of one that has ended: for a thread that was shut out."""
    raise cell.dead("was abandoned before it handled the message")
