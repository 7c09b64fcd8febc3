"""The part of an application that is about the user's own actors, and the tree they stand in."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import pykka

from pollin_actors.otp import (
    ChildSpec,
    NamedSupervisor,
    Ref,
    ReplyFuture,
    Runtime,
    SupervisorRef,
    TreeNode,
)
from pollin_actors.settings import DEFAULT_TIMEOUT
from pollin_actors.tree import ACTORS

__all__ = ["OwnActors"]


class OwnActors:
    """Calls to actors of the user's own; ``Application`` says where they live."""

    @property
    def runtime(self) -> Runtime:
        """Clock, timers and scheduler of the running application."""
        raise NotImplementedError

    def _supervisor(self) -> SupervisorRef[Any]:
        raise NotImplementedError

    @property
    def actors(self) -> NamedSupervisor:
        """The supervisor of your actors: start, stop, restart, list and count them.

        Raises:
            NotRunning: the application is not running.
        """
        return NamedSupervisor(self.runtime.registry, ACTORS)

    def tree(self, *, timeout: float | None = DEFAULT_TIMEOUT) -> ReplyFuture[TreeNode]:
        """The whole supervision tree, as data: state, restarts, mailbox, uptime, last crash.

        ``str()`` of the reply is the tree as text.

        Raises:
            NotRunning: the application is not running.
        """
        return self._supervisor().tree(timeout=timeout).map(_named)

    def start_child(
        self, spec: ChildSpec | type[pykka.Actor], *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[Ref[Any]]:
        """Start an actor of yours, supervised; the reply is its ref, once it has started.

        Give the spec a ``name`` to reach the actor across restarts, by ``ask`` and ``tell``.

        Errors: ``AlreadyStarted``, ``AlreadyPresent``, ``StartFailed``. Nothing is kept then.
        """
        return self.actors.start_child(spec, timeout=timeout)

    def terminate_child(
        self, child_id: Hashable, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[None]:
        """Stop an actor of yours. Errors: ``ChildNotFound``."""
        return self.actors.terminate_child(child_id, timeout=timeout)

    def ask(
        self, name: Hashable, message: Any, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[Any]:
        """Ask the actor of that name, now or after its restart.

        Raises:
            NameNotFound: no actor of yours ever had that name.
        """
        return self.runtime.registry.ask(name, message, timeout=timeout)

    def tell(self, name: Hashable, message: Any) -> None:
        """Send to the actor of that name without asking for an answer.

        Raises:
            NameNotFound: no actor of yours ever had that name.
        """
        self.runtime.registry.tell(name, message)

    def whereis(self, name: Hashable) -> Ref[Any] | None:
        """The ref of the actor that has that name now, or None."""
        return self.runtime.registry.whereis(name)


def _named(root: TreeNode) -> TreeNode:
    return replace(root, id="application")
