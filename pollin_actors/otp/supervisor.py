"""The static supervisor: a list of children, started in order and stopped in reverse."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, Literal, get_args

import pykka

from pollin_actors.otp.child_spec import ChildSpec, as_spec
from pollin_actors.otp.children import Child, ChildState, DeleteChild, RestartChild
from pollin_actors.otp.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    InvalidSpec,
    StartFailed,
)
from pollin_actors.otp.events import AutoShutdown
from pollin_actors.otp.exits import ExitReason
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.handle import SupervisorRef
from pollin_actors.otp.intensity import Backoff
from pollin_actors.otp.later import Later
from pollin_actors.otp.registry import Registry
from pollin_actors.otp.runtime import Runtime
from pollin_actors.otp.supervision import BaseSupervisor
from pollin_actors.otp.vacancies import forget_name

__all__ = ["AutoShutdownMode", "Strategy", "Supervisor"]

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdownMode = Literal["never", "any_significant", "all_significant"]


class Round:
    """Children that stop in reverse order, and then start in order.

    Only the last of ``to_stop`` and the first of ``to_start`` are ever under way.
    """

    __slots__ = ("initial", "to_start", "to_stop")

    def __init__(self, to_start: list[Child], to_stop: list[Child], *, initial: bool) -> None:
        self.to_start = to_start
        self.to_stop = to_stop
        # Whether it is the supervisor's own start.
        self.initial = initial


class Supervisor(BaseSupervisor):
    """Supervises a list of children.

    Children start in the order of the list, each one's ``on_start`` finished before the next
    begins, and stop in reverse. If one fails to start, those before it are stopped and the
    supervisor fails with ``StartFailed``: there is never half a tree.

    When a child is to be restarted, ``one_for_one`` restarts it alone; ``one_for_all`` first stops
    all others, in reverse order, and then starts all in order; ``rest_for_one`` does so with
    those that stand after it in the list. Temporary children that are stopped so are removed,
    all others start again. Such a round counts as one restart. If a child does not start in it,
    that is one restart more, and the round is done again (with ``rest_for_one`` from that child
    on).

    Args:
        children: the specs, or actor classes with a default spec; ids must differ.
        strategy: ``one_for_one``, ``one_for_all`` or ``rest_for_one``.
        max_restarts: more restarts than this within ``max_seconds`` and the supervisor gives up:
            it stops its children and exits with reason ``shutdown``. Its own supervisor restarts
            it if it is ``permanent`` there; ``transient`` would not, because ``shutdown`` is no
            crash.
        max_seconds: seconds.
        auto_shutdown: whether it ends, with reason ``shutdown``, when significant children end
            by themselves and are not restarted: ``never``, ``any_significant`` (the first does
            it) or ``all_significant`` (the last one running does it).
        backoff: how long a child that keeps crashing waits for its restart; None: not at all.
        registry: where the children's names are; by default that of the runtime.

    Raises:
        InvalidSpec: a child's id is there twice, or an option has a value that it cannot have.
    """

    calls: ClassVar[str] = (
        "StartChild, TerminateChild, RestartChild, DeleteChild, WhichChildren, WhichChild, "
        "CountChildren, GetChildSpec or Inspect"
    )

    def __init__(
        self,
        children: Sequence[ChildSpec | type[pykka.Actor]] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdownMode = "never",
        backoff: Backoff | None = None,
        registry: Registry | None = None,
    ) -> None:
        super().__init__(
            max_restarts=max_restarts, max_seconds=max_seconds, backoff=backoff, registry=registry
        )
        if not isinstance(strategy, str) or strategy not in get_args(Strategy):
            raise InvalidSpec("strategy", "one_for_one, one_for_all or rest_for_one", strategy)
        if not isinstance(auto_shutdown, str) or auto_shutdown not in get_args(AutoShutdownMode):
            raise InvalidSpec(
                "auto_shutdown", "never, any_significant or all_significant", auto_shutdown
            )
        self.strategy = strategy
        self._auto_shutdown = auto_shutdown
        self._children: dict[Hashable, Child] = {}
        for entry in children:
            spec = as_spec(entry, "children")
            self.check_spec(spec, "children")
            if spec.id in self._children:
                raise InvalidSpec("children", "ids that differ", spec.id)
            child = self._children[spec.id] = Child(spec)
            child.kept = True
        self._round: Round | None = Round(self.children(), [], initial=True)
        self._to_stop: list[Child] = []

    @classmethod
    def start(
        cls,
        children: Sequence[ChildSpec | type[pykka.Actor]] = (),
        *,
        name: Hashable = None,
        runtime: Runtime | None = None,
        timeout: float | None = None,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdownMode = "never",
        backoff: Backoff | None = None,
    ) -> SupervisorRef[Supervisor]:
        """Start a supervisor that nobody supervises, and its children.

        Args:
            children: as for the class, and so are all options not named here.
            name: registered under this name.
            runtime: where it lives; by default one that all such supervisors share.
            timeout: seconds to wait for the start; None for no bound.

        Returns:
            Its handle, once every child's ``on_start`` has returned.

        Raises:
            InvalidSpec: an argument has a value that it cannot have. Nothing was started.
            AlreadyRegistered: the name belongs to somebody alive.
            StartFailed: a child did not start; names it and carries its exception.
            IntensityExceeded: children crashed too often before the others had started.
            pykka.Timeout: it took longer than ``timeout``. What was started is being stopped.
        """
        actor = cls(
            children,
            strategy=strategy,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            auto_shutdown=auto_shutdown,
            backoff=backoff,
        )
        return actor.launch(runtime, name, timeout)

    def on_start(self) -> None:
        self._advance()

    # -- calls -------------------------------------------------------------------------------------

    def children(self) -> list[Child]:
        return list(self._children.values())

    def find(self, key: Hashable) -> Child:
        # Ids before names and refs; compared one by one, as a key may be anything.
        for child in self._children.values():
            if child.spec.id == key:
                return child
        for child in self._children.values():
            named = child.spec.name is not None and child.spec.name == key
            if named or (child.cell is not None and child.cell.ref is key):
                return child
        raise ChildNotFound(key)

    def check_spec(self, spec: ChildSpec, field: str) -> None:
        if self._auto_shutdown == "never":
            super().check_spec(spec, field)

    def handle(self, message: Any) -> Any:
        if isinstance(message, RestartChild):
            return self._restart_child(self.find(message.child))
        if isinstance(message, DeleteChild):
            return self._delete_child(self.find(message.child))
        return super().handle(message)

    def add_child(self, spec: ChildSpec) -> Later:
        known = self._children.get(spec.id)
        if known is not None:
            if known.ref is not None:
                raise AlreadyStarted(spec.id, known.ref)
            raise AlreadyPresent(spec.id)
        child = Child(spec)
        asked: ReplyFuture[Any] = ReplyFuture()
        child.started = asked
        step = self._round
        if step is not None and step.to_stop:
            # Others are being stopped: it starts after them.
            self._children[spec.id] = child
            step.to_start.append(child)
        else:
            self._insert(child)
            self.begin_start(child)
        return Later(asked)

    def _insert(self, child: Child) -> None:
        """Put a child where it stands in the order of starts: before those yet to be started."""
        step = self._round
        waiting = step.to_start if step is not None else []
        later = [other for other in waiting if other.state is not ChildState.STARTING]
        for other in later:
            self._children.pop(other.spec.id, None)
        for each in (child, *later):
            self._children[each.spec.id] = each

    def terminate(self, child: Child) -> Later:
        self._leave_round(child)
        return super().terminate(child)

    def _restart_child(self, child: Child) -> Later:
        self._check_stopped(child)
        asked: ReplyFuture[Any] = ReplyFuture()
        child.started = asked
        child.fresh = True
        child.crashes = 0
        step = self._round
        if step is not None and step.to_stop:
            # Others are being stopped: it starts in its turn.
            child.state = ChildState.RESTARTING
            waiting = {*step.to_start, child}
            step.to_start = [each for each in self.children() if each in waiting]
        else:
            self.begin_start(child)
        return Later(asked)

    def _delete_child(self, child: Child) -> None:
        self._check_stopped(child)
        del self._children[child.spec.id]
        forget_name(self.registry, child.spec.name, self._cell.mailbox)

    def _check_stopped(self, child: Child) -> None:
        child_id, step = child.spec.id, self._round
        waits = step is not None and child in step.to_start
        if child.shown is ChildState.RESTARTING or (waits and child.cell is None):
            raise ChildRestarting(child_id)
        if child.state is not ChildState.STOPPED:
            raise ChildRunning(child_id, child.ref)

    # -- rounds ------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Take the next steps of the round; return where something must be waited for."""
        while (step := self._round) is not None and self._ending is None:
            if step.to_stop:
                child = step.to_stop[-1]
                if child.cell is None:
                    step.to_stop.pop()
                    continue
                if child.state is not ChildState.STOPPING:
                    self.begin_stop([child])
                return
            if any(child.held for child in step.to_start):
                return
            if not step.to_start:
                self._round = None
                if step.initial:
                    self.report_up()
                return
            child = step.to_start[0]
            if child.state is ChildState.STARTING:
                return
            if child.state is ChildState.RUNNING:
                step.to_start.pop(0)
            else:
                self.begin_start(child)

    def _leave_round(self, child: Child) -> None:
        if self._round is not None and child in self._round.to_start:
            self._round.to_start.remove(child)

    def expects_end(self, child: Child) -> bool:
        return self._round is not None and child in self._round.to_stop

    def prepare_restart(self, child: Child) -> list[Hashable]:
        if self.strategy == "one_for_one":
            return []
        order, step = self.children(), self._round
        first = 0 if self.strategy == "one_for_all" else order.index(child)
        initial = False
        if step is not None:
            initial = step.initial
            pending = {*step.to_start, *step.to_stop}
            first = min([first, *(i for i, each in enumerate(order) if each in pending)])
        affected = order[first:]
        to_start = [each for each in affected if not each.waiting]  # these are being terminated
        for each in to_start:
            if not initial and each.started is None:
                each.fresh = False
            if each.state is ChildState.STOPPED:
                each.state = ChildState.RESTARTING
        to_stop = [each for each in affected if each.cell is not None]
        self._round = Round(to_start, to_stop, initial=initial)
        self._advance()
        return [each.spec.id for each in affected if each is not child]

    def restart_now(self, child: Child) -> None:
        if self.strategy == "one_for_one":
            self.begin_start(child)
        else:
            self._advance()

    def child_started(self, child: Child) -> None:
        self._advance()

    def child_start_failed(self, child: Child, error: StartFailed) -> None:
        step = self._round
        if child.kept and step is not None and step.initial and child in step.to_start:
            self.end_with(self._record(ExitReason.CRASH, error))
            return
        self._leave_round(child)
        if not child.kept:
            self._children.pop(child.spec.id, None)
        self._advance()

    # -- ends --------------------------------------------------------------------------------------

    def child_gone(self, child: Child) -> None:
        step = self._round
        if self._ending is not None:
            return
        if child.spec.restart == "temporary":
            self._leave_round(child)
            self._children.pop(child.spec.id, None)
        elif step is not None and child in step.to_start and child in step.to_stop:
            child.state = ChildState.RESTARTING
            return
        else:
            self._leave_round(child)

    def proceed(self) -> None:
        if self._ending is not None:
            self._stop_next()
        else:
            self._advance()

    def child_ended(self, child: Child) -> None:
        mode = self._auto_shutdown
        if mode == "never" or not child.spec.significant:
            return
        if mode == "all_significant" and any(
            each.spec.significant and self._goes_on(each) for each in self.children()
        ):
            return
        self.emit(AutoShutdown, child, mode=mode)
        self.end_with(self._record(ExitReason.SHUTDOWN))

    def _goes_on(self, child: Child) -> bool:
        """Whether a child runs, or will again without anybody's call."""
        if child.state in (ChildState.STOPPED, ChildState.STOPPING):
            return self._round is not None and child in self._round.to_start
        return True

    def stop_children(self) -> None:
        self._round = None
        self._to_stop = self.children()
        self._stop_next()

    def _stop_next(self) -> None:
        # A child that is being stopped already is waited for in its turn.
        while self._to_stop:
            child = self._to_stop[-1]
            if child.state is ChildState.STOPPED:
                self._to_stop.pop()
            elif child.cell is None:
                child.state = ChildState.STOPPED
                child.release()
                child.answer_start(StartFailed(child.spec.id, self._cell.dead("is stopping")))
            else:
                if child.state is not ChildState.STOPPING:
                    self.begin_stop([child])
                return
        self.children_stopped()
