"""What all supervisors share: children, their start, their end, and the restart rules."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import structlog

from pollin_actors.otp.actor import Actor, attach
from pollin_actors.otp.cell import Cell, ChildExited, ChildStarted, ExitRequest
from pollin_actors.otp.child_spec import ChildSpec
from pollin_actors.otp.children import Child, ChildCounts, ChildState, RestartDue, StopTimedOut
from pollin_actors.otp.errors import (
    ActorDead,
    IntensityExceeded,
    InvalidSpec,
    OtpError,
    StartFailed,
)
from pollin_actors.otp.exits import ExitReason, ExitRecord
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.intensity import Backoff, Intensity
from pollin_actors.otp.items import Item
from pollin_actors.otp.later import Later

if TYPE_CHECKING:
    from pollin_actors.otp.mailbox import Mailbox
    from pollin_actors.otp.registry import Registry
    from pollin_actors.otp.runtime import Runtime

__all__ = ["BaseSupervisor"]

log = structlog.get_logger("pollin_actors.otp")


class BaseSupervisor(Actor):
    """Starts, restarts and stops children; what differs is left to the subclasses.

    A supervisor never waits: a child reports its start and its end by message, and meanwhile
    every call is answered.
    """

    never_blocks: ClassVar[bool] = True
    takes_proxies: ClassVar[bool] = False
    supervises: ClassVar[bool] = True
    replies: ClassVar[tuple[type[Exception], ...]] = (OtpError,)
    ignored_in_tell: ClassVar[tuple[type[Exception], ...]] = (OtpError,)

    def __init__(
        self,
        *,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        backoff: Backoff | None = None,
        registry: Registry | None = None,
    ) -> None:
        super().__init__()
        self._intensity = Intensity(max_restarts, max_seconds)
        self._backoff = backoff
        self._registry = registry
        self._restarts: list[float] = []
        self._by_cell: dict[Cell, Child] = {}
        self._ending: ExitRecord | None = None
        self._up: ReplyFuture[None] = ReplyFuture()
        self._cell.monitor().add_done_callback(self._ended)

    # -- for subclasses ----------------------------------------------------------------------------

    def child_started(self, child: Child) -> None:
        """A child's ``on_start`` has returned."""

    def child_start_failed(self, child: Child, error: StartFailed) -> None:
        """A child did not start (not at a restart: those are tried again here)."""

    def child_gone(self, child: Child) -> None:
        """A child has ended and is not restarted."""

    def stop_children(self) -> None:
        """Have every child end; call ``children_stopped`` once all have."""
        raise NotImplementedError

    def handle(self, message: Any) -> Any:
        """Handle a call."""
        raise NotImplementedError

    # -- calls -------------------------------------------------------------------------------------

    def on_receive(self, message: Any) -> Any:
        if self._ending is not None:
            raise self._cell.dead("is stopping; it takes no more calls")
        return self.handle(message)

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
                self._restart_due(message.child)
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
        for child in tuple(self._by_cell.values()):
            if child.timer is not None:
                child.timer.cancel()
        for cell in tuple(self._by_cell):
            cell.mailbox.post_urgent(ExitRequest(cell, ExitReason.SHUTDOWN))

    def _ended(self, monitor: ReplyFuture[ExitRecord]) -> None:
        """Whoever waits for the start of a supervisor that has ended need not wait longer."""
        reason = monitor.get(timeout=0).exception
        self._up._fail(reason if reason is not None else self._cell.dead("has ended"))

    # -- starting ----------------------------------------------------------------------------------

    @property
    def runtime(self) -> Runtime:
        """Where it lives, and its children."""
        runtime = self._cell.mailbox.runtime
        assert runtime is not None, "a supervisor has a runtime once it is started"
        return runtime

    @property
    def registry(self) -> Registry:
        """Where the names of its children are."""
        return self._registry if self._registry is not None else self.runtime.registry

    def report_up(self) -> None:
        """All children that had to be up are."""
        self._cell.report_started()
        self._up._settle((None, None))

    def begin_start(self, child: Child) -> None:
        """Make a fresh actor and bring it to life; it reports when it has started."""
        spec = child.spec
        child.state = ChildState.STARTING
        try:
            actor = spec.start()
            if not isinstance(actor, Actor):
                raise TypeError(
                    f"ChildSpec.start of {spec.id!r}: expected it to make a pollin_actors Actor, "
                    f"got {actor!r}"
                )
            mailbox = None
            if spec.name is not None:
                mailbox = self.registry.mailbox(spec.name)
                bearer = mailbox.cell
                if bearer is not None and not self._inherit(bearer):
                    mailbox = self.registry.claim(spec.name)
            child.cell = actor._cell
            self._by_cell[actor._cell] = child
            attach(actor, self.runtime, mailbox, self._cell.mailbox)
            if mailbox is not None and mailbox.closed is not None:
                self.registry.restore(spec.name, mailbox)
        except Exception as error:
            if child.cell is not None:
                self._by_cell.pop(child.cell, None)
                child.cell = None
            self._start_failed(child, error)

    def _inherit(self, cell: Cell) -> bool:
        """Free a name from an orphan that an earlier incarnation of this supervisor left."""
        left_by = cell.supervisor
        if left_by is None or cell in self._by_cell:
            return False
        # One without a name had another mailbox, which was closed with it.
        if left_by is not self._cell.mailbox and left_by.closed is None:
            return False
        log.warning("actor.orphan_abandoned", supervisor=self._cell.label, name=cell.name)
        cell.mailbox.abandon(cell)
        return True

    def _on_child_started(self, cell: Cell) -> None:
        child = self._by_cell.get(cell)
        if child is None or child.state is not ChildState.STARTING:
            return
        child.state = ChildState.RUNNING
        child.running_since = self.runtime.clock.monotonic()
        if child.started is not None:
            asked, child.started = child.started, None
            asked._settle((cell.ref, None))
        self.child_started(child)

    def _start_failed(self, child: Child, error: BaseException | None) -> None:
        if child.crashes:
            self._restart(child)  # a failed restart is one more attempt
            return
        child.state = ChildState.STOPPED
        failure = StartFailed(child.spec.id, error)
        if child.started is not None:
            asked, child.started = child.started, None
            asked._fail(failure)
        self.child_start_failed(child, failure)

    # -- ends of children --------------------------------------------------------------------------

    def _on_child_exited(self, cell: Cell, record: ExitRecord) -> None:
        child = self._by_cell.pop(cell, None)
        if child is None:
            return  # told twice, or an orphan of an earlier incarnation
        child.cell = None
        state = child.state
        if state is ChildState.STOPPING:
            self._gone(child)
            return
        if record.reason is ExitReason.CRASH:
            log.error(
                "actor.crashed",
                supervisor=self._cell.label,
                child=child.spec.id,
                generation=record.generation,
                message=type(record.last_message).__name__,
                exc_info=record.exception,
            )
        first = state is ChildState.STARTING and not cell.started and child.crashes == 0
        if first and (record.exception is None or isinstance(record.exception, Exception)):
            self._start_failed(child, record.exception)
            return
        # An interrupt of whoever ran the start is no fault of the child: it is started again.
        restart = child.spec.restart
        crashed = record.reason is ExitReason.CRASH
        if self._ending is None and (
            restart == "permanent" or (restart == "transient" and crashed)
        ):
            now = self.runtime.clock.monotonic()
            calm = self._backoff.reset_after if self._backoff is not None else 0.0
            if child.running_since is not None and now - child.running_since >= calm:
                child.crashes = 0
            self._restart(child)
        else:
            if cell.supervises:
                self._vacate_orphans_of(cell.mailbox)
            self._gone(child)

    def _gone(self, child: Child) -> None:
        child.state = ChildState.STOPPED
        if child.timer is not None:
            child.timer.cancel()
            child.timer = None
        if child.started is not None:
            child.started._fail(StartFailed(child.spec.id, self._cell.dead("ended it")))
            child.started = None
        waiting, child.waiting = child.waiting, []
        self.child_gone(child)
        for future in waiting:
            future._settle((None, None))

    # -- restarting --------------------------------------------------------------------------------

    def _restart(self, child: Child) -> None:
        child.crashes += 1
        child.state = ChildState.RESTARTING
        child.running_since = None
        self._restarts, allowed = self._intensity.record(
            self._restarts, self.runtime.clock.monotonic()
        )
        if not allowed:
            self._give_up(child)
            return
        delay = self._backoff.delay(child.crashes) if self._backoff is not None else 0.0
        log.warning(
            "actor.restarting",
            supervisor=self._cell.label,
            child=child.spec.id,
            crashes=child.crashes,
            delay=delay,
        )
        mailbox = self._cell.mailbox
        if delay > 0.0:
            child.timer = self.runtime.timers.call_later(
                delay, lambda: mailbox.post_urgent(RestartDue(self._cell, child))
            )
        elif child.crashes == 1:
            self.begin_start(child)
        else:
            # By a message to itself, so that calls are answered between two attempts.
            mailbox.post_urgent(RestartDue(self._cell, child))

    def _restart_due(self, child: Child) -> None:
        child.timer = None
        if child.state is ChildState.RESTARTING and self._ending is None:
            self.begin_start(child)

    def _give_up(self, child: Child) -> None:
        most, seconds = self._intensity.max_restarts, self._intensity.max_seconds
        log.error(
            "supervisor.gave_up",
            supervisor=self._cell.label,
            child=child.spec.id,
            max_restarts=most,
            max_seconds=seconds,
        )
        error = IntensityExceeded(
            f"{self._cell.label} gave up: more than {most} restarts within {seconds:g} s, the "
            f"last of child {child.spec.id!r}; see the crashes logged before"
        )
        self.end_with(self._record(ExitReason.SHUTDOWN, error))

    # -- stopping ----------------------------------------------------------------------------------

    def begin_stop(self, children: list[Child]) -> None:
        """Ask children to end; those that do not within their shutdown time are abandoned."""
        by_time: dict[float | None, list[Cell]] = {}
        for child in children:
            if child.timer is not None:
                child.timer.cancel()
                child.timer = None
            cell = child.cell
            if cell is None:
                self._gone(child)
                continue
            child.state = ChildState.STOPPING
            by_time.setdefault(child.spec.shutdown_seconds, []).append(cell)
            cell.mailbox.post_urgent(ExitRequest(cell, ExitReason.SHUTDOWN))
        mailbox = self._cell.mailbox
        for seconds, cells in by_time.items():
            if seconds is not None:
                late = StopTimedOut(tuple(cells))
                timer = self.runtime.timers.call_later(seconds, partial(mailbox.post_urgent, late))
                if len(cells) == 1:
                    self._by_cell[cells[0]].timer = timer

    def terminate(self, child: Child) -> Later:
        """Stop one child; the reply comes once it has ended."""
        future: ReplyFuture[None] = ReplyFuture()
        child.waiting.append(future)
        if child.state is not ChildState.STOPPING:
            self.begin_stop([child])
        return Later(future)

    def _give_up_on(self, cell: Cell) -> None:
        child = self._by_cell.get(cell)
        if child is None or cell.ends:
            return
        log.error(
            "actor.unstopped",
            supervisor=self._cell.label,
            child=child.spec.id,
            shutdown=child.spec.shutdown,
        )
        actor = cell.actor
        cell.mailbox.abandon(cell)
        if isinstance(actor, BaseSupervisor):
            actor.dismiss()

    def _vacate_names(self, record: ExitRecord) -> None:
        """Nobody will bear the children's names again, unless somebody restarts this supervisor."""
        if record.exception is None or self._cell.supervisor is None:
            self._vacate_orphans_of(self._cell.mailbox)

    def _vacate_orphans_of(self, supervisor: Mailbox) -> None:
        """Fail who waits for, or asks, a name below a supervisor that does not come back."""
        gone: set[Mailbox | None] = {supervisor}
        registry, found = self.registry, True
        while found:
            found = False
            for name in registry.names():
                mailbox = registry.find(name)
                if mailbox is None or mailbox.vacant is not None or mailbox.cell is not None:
                    continue
                if mailbox.parent in gone and mailbox.on_demand is None:
                    mailbox.vacate(partial(_vacant, name))
                    gone.add(mailbox)
                    found = True

    def end_with(self, record: ExitRecord) -> None:
        """Stop the children, then end. The first reason counts."""
        if self._ending is None:
            self._ending = record
            self.stop_children()

    def children_stopped(self) -> None:
        """Every child has ended: so does the supervisor."""
        record = self._ending
        assert record is not None
        self._vacate_names(record)
        self._cell.mailbox.end(self._cell, record)

    def _record(self, reason: ExitReason, error: BaseException | None = None) -> ExitRecord:
        cell = self._cell
        return ExitRecord(cell.ref, reason, error, None, cell.generation, cell.started)

    @staticmethod
    def check_spec(spec: object) -> ChildSpec:
        """A spec that a call brought, which may be anything."""
        if not isinstance(spec, ChildSpec):
            raise InvalidSpec("StartChild.spec", "a ChildSpec", spec)
        return spec

    # -- counting ----------------------------------------------------------------------------------

    @staticmethod
    def counts(children: list[Child]) -> ChildCounts:
        """What ``CountChildren`` answers."""
        supervisors = sum(child.spec.type == "supervisor" for child in children)
        return ChildCounts(
            specs=len(children),
            active=sum(child.ref is not None for child in children),
            supervisors=supervisors,
            workers=len(children) - supervisors,
        )


def _vacant(name: Hashable) -> ActorDead:
    return ActorDead(f"actor {name!r} has ended and is not restarted")
