"""What every supervisor answers: who its children are, how many, and the tree below it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, ClassVar

from pollin_actors.otp.actor import Actor, Ref
from pollin_actors.otp.child_spec import ChildSpec, as_spec
from pollin_actors.otp.children import (
    Child,
    ChildCounts,
    ChildState,
    CountChildren,
    GetChildSpec,
    StartChild,
    TerminateChild,
    WhichChild,
    WhichChildren,
)
from pollin_actors.otp.errors import InvalidSpec, OtpError, UnknownMessage
from pollin_actors.otp.exits import ExitRecord
from pollin_actors.otp.handle import SupervisorRef
from pollin_actors.otp.inspection import Inspect, tree_of
from pollin_actors.otp.later import Later

if TYPE_CHECKING:
    from pollin_actors.otp.events import Event
    from pollin_actors.otp.registry import Registry
    from pollin_actors.otp.runtime import Runtime

__all__ = ["AnswersCalls"]


class AnswersCalls(Actor):
    """The calls of a supervisor; how it goes about them is left to the subclasses."""

    never_blocks: ClassVar[bool] = True
    takes_proxies: ClassVar[bool] = False
    supervises: ClassVar[bool] = True
    replies: ClassVar[tuple[type[Exception], ...]] = (OtpError,)
    ignored_in_tell: ClassVar[tuple[type[Exception], ...]] = (OtpError,)
    ref_class: ClassVar[type[Ref[Any]]] = SupervisorRef

    calls: ClassVar[str] = (
        "StartChild, TerminateChild, WhichChildren, WhichChild, CountChildren, GetChildSpec or "
        "Inspect"
    )
    """What it answers, for errors."""

    strategy: str = "one_for_one"

    def __init__(self, registry: Registry | None) -> None:
        super().__init__()
        self._registry = registry
        self._ending: ExitRecord | None = None
        self._unstopped = 0
        self._up_since: float | None = None

    # -- for subclasses ----------------------------------------------------------------------------

    def children(self) -> list[Child]:
        """All children, in the order of their start."""
        raise NotImplementedError

    def find(self, key: Hashable) -> Child:
        """The child that a call means.

        Raises:
            ChildNotFound: there is none.
        """
        raise NotImplementedError

    def add_child(self, spec: ChildSpec) -> Later:
        """Start one more child."""
        raise NotImplementedError

    def terminate(self, child: Child) -> Later:
        """Stop one child; the reply comes once it has ended."""
        raise NotImplementedError

    def check_spec(self, spec: ChildSpec, field: str) -> None:
        """Whether a spec may be a child's here.

        Raises:
            InvalidSpec: it may not; names ``field``.
        """
        if spec.significant:
            raise InvalidSpec(
                f"{field} {spec.id!r}",
                "a child that is not significant, as auto_shutdown is 'never'",
                "significant=True",
            )

    # -- calls -------------------------------------------------------------------------------------

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Inspect):
            return self._inspect()
        if self._ending is not None:
            raise self._cell.dead("is stopping; it takes no more calls")
        return self.handle(message)

    def handle(self, message: Any) -> Any:
        """Handle a call.

        Raises:
            UnknownMessage: it is none.
            OtpError: as the call's own docstring says.
        """
        if isinstance(message, StartChild):
            spec = as_spec(message.spec, "StartChild.spec")
            self.check_spec(spec, "StartChild.spec")
            return self.add_child(spec)
        if isinstance(message, TerminateChild):
            return self.terminate(self.find(message.child))
        if isinstance(message, WhichChildren):
            return [child.info() for child in reversed(self.children())]
        if isinstance(message, WhichChild):
            return self.find(message.child).info()
        if isinstance(message, GetChildSpec):
            return self.find(message.child).spec
        if isinstance(message, CountChildren):
            return self._counts()
        raise UnknownMessage(self._cell.label, self.calls, message)

    def _counts(self) -> ChildCounts:
        children = self.children()
        supervisors = sum(child.spec.type == "supervisor" for child in children)
        return ChildCounts(
            specs=len(children),
            active=sum(child.ref is not None for child in children),
            supervisors=supervisors,
            workers=len(children) - supervisors,
        )

    def _inspect(self) -> Later:
        now, since = self.runtime.clock.monotonic(), self._up_since
        tree = tree_of(
            self._cell,
            self.children(),
            self.runtime,
            state=ChildState.STOPPING if self._ending is not None else ChildState.RUNNING,
            uptime=now - since if since is not None else None,
            strategy=self.strategy,
            unstopped=self._unstopped,
        )
        return Later(tree)

    # -- where it lives ----------------------------------------------------------------------------

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

    def emit(self, kind: type[Event], child: Child, **fields: Any) -> None:
        """Tell the event hook what has happened to a child."""
        cell, child_id = self._cell, child.spec.id
        self.runtime.emit(kind, lambda: kind(supervisor=cell.label, child=child_id, **fields))
