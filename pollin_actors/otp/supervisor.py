"""The static supervisor: a fixed list of children, started in order and stopped in reverse."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, cast

from pollin_actors.otp.actor import Ref, attach
from pollin_actors.otp.cell import ExitRequest
from pollin_actors.otp.child_spec import ChildSpec
from pollin_actors.otp.children import (
    Child,
    ChildState,
    CountChildren,
    StartChild,
    TerminateChild,
    WhichChildren,
)
from pollin_actors.otp.errors import (
    AlreadyStarted,
    ChildNotFound,
    InvalidSpec,
    StartFailed,
)
from pollin_actors.otp.exits import ExitReason
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.later import Later
from pollin_actors.otp.runtime import Runtime, default_runtime
from pollin_actors.otp.supervision import BaseSupervisor, _vacant

__all__ = ["Supervisor"]


class Supervisor(BaseSupervisor):
    """Supervises children one for one: whoever crashes is restarted, the others go on.

    Children start in the order of the list, each one's ``on_start`` finished before the next
    begins, and stop in reverse. If one fails to start, those before it are stopped and the
    supervisor fails with ``StartFailed``: there is never half a tree.

    Args:
        children: the specs; ids must differ.
        max_restarts: more restarts than this within ``max_seconds`` and the supervisor gives up:
            it stops its children and exits with reason ``shutdown``. Its own supervisor restarts
            it if it is ``permanent`` there; ``transient`` would not, because ``shutdown`` is no
            crash.
        max_seconds: seconds.

    Raises:
        InvalidSpec: a child's id is there twice, or an option has a value that it cannot have.
    """

    def __init__(
        self,
        children: Sequence[ChildSpec] = (),
        *,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
    ) -> None:
        super().__init__(max_restarts=max_restarts, max_seconds=max_seconds)
        self._children: dict[Hashable, Child] = {}
        for spec in children:
            if not isinstance(spec, ChildSpec):
                raise InvalidSpec("children", "ChildSpec instances", spec)
            if spec.id in self._children:
                raise InvalidSpec("children", "ids that differ", spec.id)
            self._children[spec.id] = Child(spec)
        self._to_start = list(self._children.values())
        self._to_stop: list[Child] = []

    @classmethod
    def start(
        cls,
        children: Sequence[ChildSpec] = (),
        *,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        runtime: Runtime | None = None,
        timeout: float | None = None,
    ) -> Ref[Supervisor]:
        """Start a supervisor that nobody supervises, and its children.

        Returns:
            Its ref, once every child's ``on_start`` has returned.

        Raises:
            StartFailed: a child did not start; names it and carries its exception.
        """
        actor = cls(children, max_restarts=max_restarts, max_seconds=max_seconds)
        try:
            actor.begin(runtime if runtime is not None else default_runtime())
            actor.wait_until_up(timeout)
            return actor.ref
        except BaseException:
            actor.give_up()
            raise

    @property
    def ref(self) -> Ref[Supervisor]:
        """Its ref, also before it is started."""
        return cast("Ref[Supervisor]", self._actor_ref)

    def begin(self, runtime: Runtime) -> None:
        """Start without waiting, for who must hold the ref whatever happens meanwhile."""
        attach(self, runtime)

    def wait_until_up(self, timeout: float | None = None) -> None:
        """Wait until every child has started, at most ``timeout`` seconds.

        Raises:
            StartFailed: a child did not start.
            pykka.Timeout: it takes longer; the start goes on.
        """
        self._up.get(timeout=timeout)

    def give_up(self) -> None:
        """Stop what has been started, without waiting."""
        cell = self._cell
        cell.mailbox.post_urgent(ExitRequest(cell, ExitReason.SHUTDOWN))

    def on_start(self) -> None:
        self._advance()

    def handle(self, message: Any) -> Any:
        if isinstance(message, StartChild):
            return self._start_child(self.check_spec(message.spec))
        if isinstance(message, TerminateChild):
            return self.terminate(self._find(message.child))
        if isinstance(message, WhichChildren):
            return [child.info() for child in reversed(self._children.values())]
        if isinstance(message, CountChildren):
            return self.counts(list(self._children.values()))
        return super(BaseSupervisor, self).on_receive(message)

    def _find(self, child_id: Hashable) -> Child:
        for known_id, child in self._children.items():
            if known_id == child_id:
                return child
        raise ChildNotFound(child_id)

    def _start_child(self, spec: ChildSpec) -> Later:
        known = self._children.get(spec.id)
        if known is not None:
            raise AlreadyStarted(spec.id, known.ref)
        child = self._children[spec.id] = Child(spec)
        asked: ReplyFuture[Any] = ReplyFuture()
        child.started = asked
        self.begin_start(child)
        return Later(asked)

    # -- starting in order -------------------------------------------------------------------------

    def _advance(self) -> None:
        if self._to_start:
            self.begin_start(self._to_start[0])
        else:
            self.report_up()

    def child_started(self, child: Child) -> None:
        if self._to_start and self._to_start[0] is child:
            self._to_start.pop(0)
            self._advance()

    def child_start_failed(self, child: Child, error: StartFailed) -> None:
        if self._to_start and self._to_start[0] is child:
            self.end_with(self._record(ExitReason.CRASH, error))
        else:
            self._children.pop(child.spec.id, None)

    def child_gone(self, child: Child) -> None:
        if self._ending is not None:
            self._stop_next()
            return
        if child.spec.restart == "temporary":
            self._children.pop(child.spec.id, None)
        name = child.spec.name
        mailbox = self.registry.find(name) if name is not None else None
        # It may be a stranger's by now.
        if mailbox is not None and mailbox.cell is None and mailbox.parent is self._cell.mailbox:
            mailbox.vacate(partial(_vacant, name))

    # -- stopping in reverse -----------------------------------------------------------------------

    def stop_children(self) -> None:
        self._to_start = []
        self._to_stop = list(self._children.values())
        self._stop_next()

    def _stop_next(self) -> None:
        # A child that is being stopped already is waited for in its turn.
        while self._to_stop:
            child = self._to_stop[-1]
            if child.state is ChildState.STOPPED:
                self._to_stop.pop()
            elif child.cell is None:
                child.state = ChildState.STOPPED
                if child.timer is not None:
                    child.timer.cancel()
            else:
                if child.state is not ChildState.STOPPING:
                    self.begin_stop([child])
                return
        self.children_stopped()
