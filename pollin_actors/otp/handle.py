"""The handle of a supervisor: its calls as methods."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import pykka

from pollin_actors.otp.actor import A, Ref
from pollin_actors.otp.child_spec import ChildSpec
from pollin_actors.otp.children import (
    ChildCounts,
    ChildInfo,
    CountChildren,
    DeleteChild,
    GetChildSpec,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChild,
    WhichChildren,
)
from pollin_actors.otp.inspection import Inspect, TreeNode

if TYPE_CHECKING:
    from pollin_actors.otp.futures import ReplyFuture
    from pollin_actors.otp.registry import Registry

__all__ = ["NamedSupervisor", "SupervisorCalls", "SupervisorRef"]

TIMEOUT = 5.0
"""Seconds until the deadline of a call, unless it says otherwise."""


class SupervisorCalls:
    """Calls to a supervisor. Each returns a reply future at once: ``.get()`` it, or await it.

    Every call takes ``timeout``, the seconds until its deadline (None for none), and may answer
    ``DeadlineExceeded``, or ``ActorDead`` at once if the supervisor is dead or stopping. Where a
    child is meant, its id, its name or its ref will do; ``ChildNotFound`` if there is none.
    """

    __slots__ = ()

    def _call(self, message: Any, timeout: float | None) -> ReplyFuture[Any]:
        raise NotImplementedError

    def start_child(
        self, spec: ChildSpec | type[pykka.Actor], *, timeout: float | None = TIMEOUT
    ) -> ReplyFuture[Ref[Any]]:
        """Start one more child. The reply is its ref, once its ``on_start`` has returned.

        Errors: ``InvalidSpec``, ``AlreadyStarted`` (carries the ref), ``AlreadyPresent``,
        ``MaxChildren``, ``StartFailed``. Nothing is kept then.
        """
        return self._call(StartChild(spec), timeout)  # type: ignore[arg-type]

    def terminate_child(
        self, child: Hashable, *, timeout: float | None = TIMEOUT
    ) -> ReplyFuture[None]:
        """Stop a child; the reply comes once it has ended, also if it had ended before.

        Its spec stays, unless it is temporary or its supervisor dynamic. A restart that was to
        come is cancelled.
        """
        return self._call(TerminateChild(child), timeout)

    def restart_child(
        self, child: Hashable, *, timeout: float | None = TIMEOUT
    ) -> ReplyFuture[Ref[Any]]:
        """Start a child that was stopped. The reply is its ref.

        Errors: ``ChildRunning``, ``ChildRestarting``, ``StartFailed`` (it stays stopped).
        """
        return self._call(RestartChild(child), timeout)

    def delete_child(
        self, child: Hashable, *, timeout: float | None = TIMEOUT
    ) -> ReplyFuture[None]:
        """Forget a child that was stopped. Errors: ``ChildRunning``, ``ChildRestarting``."""
        return self._call(DeleteChild(child), timeout)

    def which_children(self, *, timeout: float | None = TIMEOUT) -> ReplyFuture[list[ChildInfo]]:
        """All children, newest first."""
        return self._call(WhichChildren(), timeout)

    def which_child(
        self, child: Hashable, *, timeout: float | None = TIMEOUT
    ) -> ReplyFuture[ChildInfo]:
        """One child."""
        return self._call(WhichChild(child), timeout)

    def count_children(self, *, timeout: float | None = TIMEOUT) -> ReplyFuture[ChildCounts]:
        """How many children there are."""
        return self._call(CountChildren(), timeout)

    def get_childspec(
        self, child: Hashable, *, timeout: float | None = TIMEOUT
    ) -> ReplyFuture[ChildSpec]:
        """A child's spec, with every default filled in."""
        return self._call(GetChildSpec(child), timeout)

    def tree(self, *, timeout: float | None = TIMEOUT) -> ReplyFuture[TreeNode]:
        """The whole tree below, as data; its ``str()`` is the tree as text."""
        return self._call(Inspect(), timeout)


class SupervisorRef(Ref[A], SupervisorCalls):
    """A reference to one incarnation of a supervisor; ``stop()`` is that of every actor."""

    def _call(self, message: Any, timeout: float | None) -> ReplyFuture[Any]:
        cell = self._cell
        return cell.mailbox.ask(message, timeout, cell)


class NamedSupervisor(SupervisorCalls):
    """A supervisor reached by its name, whichever incarnation bears it.

    Args:
        registry: where the name is.
        name: the supervisor's.
    """

    __slots__ = ("_registry", "name")

    def __init__(self, registry: Registry, name: Hashable) -> None:
        self._registry = registry
        self.name = name

    def __repr__(self) -> str:
        return f"NamedSupervisor({self.name!r})"

    def _call(self, message: Any, timeout: float | None) -> ReplyFuture[Any]:
        return self._registry.ask(self.name, message, timeout=timeout)
