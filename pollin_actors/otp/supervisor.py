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
from pollin_actors.otp.rounds import Round
from pollin_actors.otp.runtime import Runtime
from pollin_actors.otp.supervision import BaseSupervisor, is_taken
from pollin_actors.otp.vacancies import forget_name

__all__ = ["AutoShutdownMode", "Strategy", "Supervisor"]

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdownMode = Literal["never", "any_significant", "all_significant"]


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
            child.kept = child.listed = True
        self._round: Round | None = Round(self.children(), [], [], initial=True)
        self._advancing = self._again = False
        self._shutdown_due = False
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
        try:
            # Ids before names and refs.
            known = self._children.get(key) or self._by_name_or_ref(key)
        except Exception as error:
            # What the caller gave cannot be compared, or not be hashed.
            raise ChildNotFound(key) from error
        if known is None:
            raise ChildNotFound(key)
        return known

    def _by_name_or_ref(self, key: Hashable) -> Child | None:
        for child in self._children.values():
            named = child.spec.name is not None and child.spec.name == key
            if named or (child.cell is not None and child.cell.ref is key):
                return child
        return None

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
        if step is not None and step.stopping:
            # Others are being stopped: it starts after them.
            self._children[spec.id] = child
            step.join(child, self.children())
        else:
            self._insert(child)
            self.begin_start(child)
        return Later(asked)

    def _insert(self, child: Child) -> None:
        """Put a child where it stands in the order of starts: before those yet to be started."""
        step = self._round
        waiting = step.waiting() if step is not None else []
        later = [each for each in waiting if each.state is not ChildState.STARTING]
        for each in later:
            self._children.pop(each.spec.id, None)
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
        if step is not None and step.stopping:
            # Others are being stopped: it starts in its turn.
            child.state = ChildState.RESTARTING
            step.join(child, self.children())
        else:
            self.begin_start(child)
        return Later(asked)

    def _delete_child(self, child: Child) -> None:
        self._check_stopped(child)
        del self._children[child.spec.id]
        forget_name(self.registry, child.spec.name, self._cell.mailbox)

    def _check_stopped(self, child: Child) -> None:
        child_id, step = child.spec.id, self._round
        waits = step is not None and step.starts(child)
        if child.shown is ChildState.RESTARTING or (waits and child.cell is None):
            raise ChildRestarting(child_id)
        if child.state is not ChildState.STOPPED:
            raise ChildRunning(child_id, child.ref)

    # -- rounds ------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Take the next steps of the round; return where something must be waited for."""
        self._again = True
        if self._advancing:
            return  # a start has failed at once, or a stop: whoever is at it goes on
        self._advancing = True
        try:
            while self._again:
                self._again = False
                while self._step():
                    pass
        finally:
            self._advancing = False

    def _step(self) -> bool:
        """One step; whether there may be another at once."""
        step = self._round
        if step is None or self._ending is not None:
            return False
        if step.stopping:
            child = step.stopping[-1]
            if child.cell is None:
                step.stopping.pop()
                return True
            if child.state is not ChildState.STOPPING:
                self.begin_stop([child])
            return False
        if any(child.held for child in step.causes):
            return False
        first = step.first()
        if first is None:
            self._round = None
            if step.initial:
                self.report_up()
                self._end_if_due()
            return False
        if first.state is ChildState.STARTING:
            return False
        if first.state is ChildState.RUNNING:
            step.leave(first)
        else:
            self.begin_start(first)
        return True

    def _leave_round(self, child: Child) -> None:
        if self._round is not None:
            self._round.leave(child)

    def expects_end(self, child: Child) -> bool:
        return self._round is not None and child in self._round.stopping

    def prepare_restart(self, child: Child) -> list[Hashable]:
        if self.strategy == "one_for_one":
            return []
        order, step = self.children(), self._round
        first = 0 if self.strategy == "one_for_all" else order.index(child)
        initial, causes = False, [child]
        if step is not None:
            initial, pending = step.initial, step.pending
            causes += [each for each in step.causes if each.held and each is not child]
            first = min([first, *(i for i, each in enumerate(order) if each in pending)])
        affected = order[first:]
        to_start = [each for each in affected if not each.waiting]  # these are being terminated
        for each in to_start:
            if not initial and each.started is None:
                each.fresh = False
            if each.state is ChildState.STOPPED:
                each.state = ChildState.RESTARTING
        to_stop = [each for each in affected if each.cell is not None]
        self._round = Round(to_start, to_stop, causes, initial=initial)
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
        if child.kept and step is not None and step.initial and step.starts(child):
            self.end_with(self._record(ExitReason.CRASH, error))
            return
        self._leave_round(child)
        if not child.kept:
            self._children.pop(child.spec.id, None)
        if not is_taken(child.spec, error.reason):
            self.vacate_names(child)
        self._advance()

    # -- ends --------------------------------------------------------------------------------------

    def child_gone(self, child: Child) -> None:
        step = self._round
        if self._ending is not None:
            return
        if child.spec.restart == "temporary":
            self._leave_round(child)
            self._children.pop(child.spec.id, None)
        elif step is not None and step.starts(child) and child in step.stopping:
            child.state = ChildState.RESTARTING
        else:
            self._leave_round(child)
            if not child.kept:
                self._children.pop(child.spec.id, None)

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
        self._shutdown_due = True
        self._end_if_due()

    def _end_if_due(self) -> None:
        # Not in the middle of its own start: that would be a failed one.
        starting = self._round is not None and self._round.initial
        if self._shutdown_due and not starting and self._ending is None:
            self.end_with(self._record(ExitReason.SHUTDOWN))

    def _goes_on(self, child: Child) -> bool:
        """Whether a child runs, or will again without anybody's call."""
        if child.state in (ChildState.STOPPED, ChildState.STOPPING):
            return self._round is not None and self._round.starts(child)
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
                self.vacate_names(child)
            else:
                if child.state is not ChildState.STOPPING:
                    self.begin_stop([child])
                return
        self.children_stopped()
