"""What all supervisors share: children, their start, their end, and the restart rules."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pollin_actors.otp.actor import Actor, attach, cell_of
from pollin_actors.otp.cell import Cell, ChildExited, ChildStarted, ExitRequest
from pollin_actors.otp.children import Child, ChildState, LastCrash, RestartDue, StopTimedOut
from pollin_actors.otp.errors import (
    AlreadyRegistered,
    AlreadyStarted,
    IntensityExceeded,
    InvalidSpec,
    StartFailed,
)
from pollin_actors.otp.events import (
    Crashed,
    Exited,
    GaveUp,
    OrphanAbandoned,
    Restarting,
    Started,
    StartRefused,
    Unstopped,
)
from pollin_actors.otp.exits import ExitReason, ExitRecord, text_of
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.intensity import Backoff, Intensity
from pollin_actors.otp.items import Item
from pollin_actors.otp.later import Later
from pollin_actors.otp.launching import Launches
from pollin_actors.otp.vacancies import forget_name, vacate_below, vacate_name

if TYPE_CHECKING:
    from pollin_actors.otp.child_spec import ChildSpec
    from pollin_actors.otp.registry import Registry
    from pollin_actors.otp.timers import Timer

__all__ = ["BaseSupervisor"]


TEXT = 500
"""How much is kept of a crash's text."""


class BaseSupervisor(Launches):
    """Starts, restarts and stops children; what differs is left to the subclasses.

    A supervisor never waits: a child reports its start and its end by message, and meanwhile
    every call is answered.
    """

    def __init__(
        self,
        *,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        backoff: Backoff | None = None,
        registry: Registry | None = None,
    ) -> None:
        super().__init__(registry)
        if backoff is not None and not isinstance(backoff, Backoff):
            raise InvalidSpec("backoff", "a Backoff, or None", backoff)
        self._intensity = Intensity(max_restarts, max_seconds)
        self._backoff = backoff
        self._restarts: list[float] = []
        self._by_cell: dict[Cell, Child] = {}
        # Of shutdown times that several children share.
        self._stop_timers: list[Timer] = []

    # -- for subclasses ----------------------------------------------------------------------------

    def child_started(self, child: Child) -> None:
        """A child's ``on_start`` has returned."""

    def child_start_failed(self, child: Child, error: StartFailed) -> None:
        """A child did not start (not at a restart: those are tried again here)."""

    def child_gone(self, child: Child) -> None:
        """A child has ended and is not restarted."""

    def proceed(self) -> None:
        """A child has ended, and the books are in order: go on with what waited for that."""

    def child_ended(self, child: Child) -> None:
        """A child has ended by itself and is not restarted."""

    def prepare_restart(self, child: Child) -> list[Hashable]:
        """A child is to be restarted: stop who must not run then. The ids of these others."""
        return []

    def restart_now(self, child: Child) -> None:
        """A child's restart is due."""
        self.begin_start(child)

    def expects_end(self, child: Child) -> bool:
        """Whether a child is about to be stopped anyhow: its end is then no crash to count."""
        return False

    def stop_children(self) -> None:
        """Have every child end; call ``children_stopped`` once all have."""
        raise NotImplementedError

    # -- urgent messages -------------------------------------------------------------------------

    def on_info(self, message: Any) -> None:
        if isinstance(message, ChildStarted):
            self._on_child_started(message.cell)
        elif isinstance(message, ChildExited):
            self._on_child_exited(message.cell, message.record)
        elif isinstance(message, StopTimedOut):
            for cell in message.cells:
                self._give_up_on(cell)
        elif isinstance(message, RestartDue):
            if message.cell is self._cell:
                self._restart_due(message.child, message.attempt)
        elif isinstance(message, ExitRequest):
            if message.cell is self._cell:
                self.end_with(self._record(message.reason))
        elif isinstance(message, Item):
            if message.future is not None:
                asked = message.future
                monitor = self._cell.monitor()
                monitor.add_done_callback(lambda _: asked._settle((None, None)))
            self.end_with(self._record(ExitReason.NORMAL))

    def on_failure(self, *_exc_info: Any) -> None:
        """A supervisor that crashes takes its children with it."""
        self.dismiss()

    def dismiss(self) -> None:
        """Ask every child to end without waiting for it: the supervisor itself cannot."""
        for child in list(self._by_cell.values()):
            if child.timer is not None:
                child.timer.cancel()
        for cell in list(self._by_cell):
            cell.mailbox.post_urgent(ExitRequest(cell, ExitReason.SHUTDOWN))

    # -- starting ----------------------------------------------------------------------------------

    def begin_start(self, child: Child) -> None:
        """Make a fresh actor and bring it to life; it reports when it has started."""
        spec = child.spec
        child.release()
        child.state = ChildState.STARTING
        if not child.fresh:
            child.restarts += 1
        cell = None
        try:
            actor = spec.start()
            if not isinstance(actor, Actor):
                raise TypeError(
                    f"ChildSpec.start of {spec.id!r}: expected it to make a pollin_actors Actor, "
                    f"got {actor!r}; adopt() makes a class of Pykka's fit"
                )
            if cell_of(actor).mailbox.executor is not None:
                raise TypeError(
                    f"ChildSpec.start of {spec.id!r}: expected a fresh actor each time, got "
                    f"{actor}, which was started before"
                )
            cell = actor._cell
            if isinstance(actor, BaseSupervisor):
                child.registry = actor._registry
            mailbox = None
            if spec.name is not None:
                bearer = self.registry.mailbox(spec.name).bearer
                if bearer is not None:
                    self._inherit(bearer, child)
                mailbox = self.registry.claim(spec.name, cell, value=spec.value)
            child.cell = cell
            self._by_cell[cell] = child
            attach(actor, self.runtime, mailbox, self._cell.mailbox)
            if mailbox is not None and mailbox.closed is not None:
                self.registry.restore(spec.name, mailbox)
            if self._cell.ends:
                # We were abandoned while it was being made, and it was not among who was dismissed.
                cell.mailbox.post_urgent(ExitRequest(cell, ExitReason.SHUTDOWN))
        except BaseException as error:
            if cell is not None and spec.name is not None:
                self.registry.release_claim(spec.name, cell)  # harmless once it is attached
            if _is_interrupt(error):
                raise
            if child.cell is not None:
                self._by_cell.pop(child.cell, None)
                child.cell = None
            if not (is_taken(spec, error) and child.started is not None):
                self.emit(StartRefused, child, exception=error)
            self._start_failed(child, error)

    def _inherit(self, cell: Cell, child: Child) -> None:
        """Free a name from an orphan that an earlier incarnation of this supervisor left."""
        left_by = cell.supervisor
        if left_by is None or cell in self._by_cell or cell.record is not None:
            return
        # One without a name had another mailbox, which was closed with it.
        if left_by is not self._cell.mailbox and left_by.closed is None:
            return
        self.emit(OrphanAbandoned, child, ref=cell.ref, generation=cell.generation)
        self._abandon(cell)

    def _on_child_started(self, cell: Cell) -> None:
        child = self._by_cell.get(cell)
        if child is None or child.state is not ChildState.STARTING:
            return
        child.state = ChildState.RUNNING
        child.fresh = False
        child.kept = True
        child.running_since = self.runtime.clock.monotonic()
        child.answer_start()
        for mailbox in child.left:
            # Names below are borne again, but for those of children that are lost.
            vacate_below(child.registry or self.registry, mailbox)
        child.left = []
        self.emit(Started, child, ref=cell.ref, generation=cell.generation, restarts=child.restarts)
        self.child_started(child)

    def _start_failed(self, child: Child, error: BaseException | None) -> None:
        if not child.fresh:
            self._remember_crash(child, error)
            self._restart(child, failed=True)  # a failed restart is one more attempt
            return
        child.state = ChildState.STOPPED
        failure = StartFailed(child.spec.id, error)
        if is_taken(child.spec, error):
            taken = AlreadyStarted(child.spec.id, cast("AlreadyRegistered", error).ref)
            taken.__cause__ = error
            child.answer_start(taken)
        else:
            child.answer_start(failure)
        self.child_start_failed(child, failure)

    # -- ends of children --------------------------------------------------------------------------

    def _on_child_exited(self, cell: Cell, record: ExitRecord) -> None:
        child = self._by_cell.pop(cell, None)
        if child is None:
            return  # told twice, or an orphan of an earlier incarnation
        child.cell = None
        state = child.state
        told = {"ref": cell.ref, "generation": record.generation}
        if cell.supervises and not cell.mailbox.persistent:
            child.left.append(cell.mailbox)
        crashed = record.reason is ExitReason.CRASH
        self.emit(Crashed if crashed else Exited, child, record=record, **told)
        if record.reason is ExitReason.UNSTOPPED:
            self._unstopped += 1
            self.emit(Unstopped, child, shutdown=child.spec.shutdown, **told)
        if crashed:
            self._remember_crash(child, record.exception, record.last_message, record.state)
        if state is ChildState.STOPPING or self.expects_end(child):
            self._gone(child, cell)
            return
        started = state is ChildState.RUNNING or cell.started
        # An interrupt of whoever ran the start is no fault of the child: it is started again.
        if not started and child.fresh and not _is_interrupt(record.exception):
            self._start_failed(child, record.exception)
            self._vacate_below(child, cell)
            return
        restart = child.spec.restart
        if self._ending is None and (
            restart == "permanent" or (restart == "transient" and crashed)
        ):
            now = self.runtime.clock.monotonic()
            calm = self._backoff.reset_after if self._backoff is not None else 0.0
            if child.running_since is not None and now - child.running_since >= calm:
                child.crashes = 0
            self._restart(child, failed=not started)
            return
        self._gone(child, cell)
        if self._ending is None:
            self.child_ended(child)

    def _remember_crash(
        self, child: Child, error: BaseException | None, message: Any = None, state: Any = None
    ) -> None:
        if error is None:
            return
        kind = type(message).__name__ if message is not None else None
        now = self.runtime.clock.time_ns()
        child.last_crash = LastCrash(now, text_of(error)[:TEXT], kind, state)

    def _gone(self, child: Child, cell: Cell | None = None) -> None:
        child.state = ChildState.STOPPED
        child.running_since = None
        child.release()
        waiting, child.waiting = child.waiting, []
        self.child_gone(child)
        if child.state is ChildState.STOPPED:
            child.answer_start(StartFailed(child.spec.id, self._cell.dead("ended it")))
            self.vacate_names(child, cell)
        # Before the supervisor may end over it: that would take their answer away.
        for future in waiting:
            future._settle((None, None))
        self.proceed()

    def vacate_names(self, child: Child, cell: Cell | None = None) -> None:
        """Nobody will bear a child's name again, nor those below it, without somebody's call."""
        if child.listed and self._ending is not None and self._cell.supervisor is not None:
            return  # whoever restarts this supervisor, or does not, knows more
        stays = child.kept and child.spec.restart != "temporary"
        if stays and (child.listed or self._ending is None):
            vacate_name(self.registry, child.spec.name, self._cell.mailbox)
        else:
            forget_name(self.registry, child.spec.name, self._cell.mailbox)
        if cell is not None and self._ending is None:  # else all of them are told at its own end
            self._vacate_below(child, cell)

    def _vacate_below(self, child: Child, cell: Cell) -> None:
        if cell.supervises:
            for mailbox in {cell.mailbox, *child.left}:
                vacate_below(child.registry or self.registry, mailbox)
            child.left = []

    # -- restarting --------------------------------------------------------------------------------

    def _restart(self, child: Child, *, failed: bool) -> None:
        child.crashes += 1
        child.state = ChildState.RESTARTING
        child.fresh = False
        child.running_since = None
        self._restarts, allowed = self._intensity.record(
            self._restarts, self.runtime.clock.monotonic()
        )
        if not allowed:
            self._give_up(child)
            return
        runtime, mailbox = self.runtime, self._cell.mailbox
        delay = 0.0
        if self._backoff is not None:
            delay = self._backoff.delay(child.crashes, runtime.random.random())
        due = RestartDue(self._cell, child, child.hold())
        others = self.prepare_restart(child)
        self.emit(Restarting, child, crashes=child.crashes, delay=delay, others=tuple(others))
        if delay > 0.0:
            child.timer = runtime.timers.call_later(delay, partial(mailbox.post_urgent, due))
        elif child.crashes == 1 and not failed:
            self._restart_due(child, due.attempt)
        else:
            # By a message to itself, so that calls are answered between two attempts.
            mailbox.post_urgent(due)

    def _restart_due(self, child: Child, attempt: int) -> None:
        if child.held and child.attempt == attempt and self._ending is None:
            child.release()
            self.restart_now(child)

    def _give_up(self, child: Child) -> None:
        most, seconds = self._intensity.max_restarts, self._intensity.max_seconds
        self.emit(GaveUp, child, max_restarts=most, max_seconds=seconds)
        error = IntensityExceeded(
            f"{self._cell.label} gave up: more than {most} restarts within {seconds:g} s, the "
            f"last of child {child.spec.id!r}; see the crashes logged before"
        )
        self.end_with(self._record(ExitReason.SHUTDOWN, error))

    # -- stopping ----------------------------------------------------------------------------------

    def begin_stop(self, children: list[Child]) -> None:
        """Ask children to end; those that do not within their shutdown time are abandoned."""
        by_time: dict[float | None, list[Cell]] = {}
        killed: list[Cell] = []
        for child in children:
            child.release()
            cell = child.cell
            if cell is None:
                self._gone(child)
                continue
            child.state = ChildState.STOPPING
            if child.spec.shutdown == "brutal_kill" and not cell.supervises:
                killed.append(cell)
                continue
            by_time.setdefault(child.spec.shutdown_seconds, []).append(cell)
            cell.mailbox.post_urgent(ExitRequest(cell, ExitReason.SHUTDOWN))
        mailbox = self._cell.mailbox
        for seconds, cells in by_time.items():
            if seconds is not None:
                late = StopTimedOut(tuple(cells))
                timer = self.runtime.timers.call_later(seconds, partial(mailbox.post_urgent, late))
                if len(cells) == 1:
                    self._by_cell[cells[0]].timer = timer
                else:
                    self._stop_timers.append(timer)
        for cell in killed:
            cell.mailbox.kill(cell)

    def terminate(self, child: Child) -> Later:
        """Stop one child; the reply comes once it has ended."""
        future: ReplyFuture[None] = ReplyFuture()
        child.waiting.append(future)
        if child.state is not ChildState.STOPPING:
            self.begin_stop([child])
        return Later(future)

    def _give_up_on(self, cell: Cell) -> None:
        if cell in self._by_cell and not cell.ends:
            self._abandon(cell)

    @staticmethod
    def _abandon(cell: Cell) -> None:
        """Give up on an actor; its children are asked to end, which it did not get to."""
        actor = cell.actor
        cell.mailbox.abandon(cell)
        if isinstance(actor, BaseSupervisor):
            actor.dismiss()

    def end_with(self, record: ExitRecord) -> None:
        """Stop the children, then end. The first reason counts."""
        if self._ending is None:
            self._ending = record
            self.stop_children()

    def children_stopped(self) -> None:
        """Every child has ended: so does the supervisor."""
        record = self._ending
        assert record is not None
        for timer in self._stop_timers:
            timer.cancel()
        self._cell.mailbox.end(self._cell, record)

    def _record(self, reason: ExitReason, error: BaseException | None = None) -> ExitRecord:
        cell = self._cell
        return ExitRecord(cell.ref, reason, error, None, cell.generation, cell.started)


def is_taken(spec: ChildSpec, error: object) -> bool:
    """Whether a child did not start because its own name belongs to somebody else."""
    return isinstance(error, AlreadyRegistered) and error.name == spec.name


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether an exception is about who ran the code, and not about the code."""
    own = (Exception, SystemExit, GeneratorExit)
    return error is not None and not isinstance(error, own)
