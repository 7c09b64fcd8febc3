"""Child specs: what a supervisor must know to start, restart and stop a child."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, get_args

from pollin_actors.otp.errors import InvalidSpec

if TYPE_CHECKING:
    from pollin_actors.otp.actor import Actor

__all__ = ["ChildSpec", "Restart", "Shutdown"]

Restart = Literal["permanent", "transient", "temporary"]
Shutdown = float | Literal["infinity", "brutal_kill"]


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How a supervisor starts, restarts and stops one child. Validated when it is made.

    Args:
        id: unique in its supervisor; anything hashable but None.
        start: a factory that makes a fresh actor, called again for every restart: a class, or a
            function without arguments. Never a live instance.
        restart: ``permanent`` is always restarted, ``transient`` after a crash only, ``temporary``
            never.
        shutdown: seconds to wait for the child's end when it is stopped; ``"infinity"`` waits for
            ever, ``"brutal_kill"`` not at all. A thread cannot be killed: what does not end in
            time is abandoned and reported.
        type: ``worker`` or ``supervisor``. A supervisor's ``shutdown`` is ``"infinity"`` unless
            given.
        name: registered under this name; messages to the name wait out a restart.

    Raises:
        InvalidSpec: names the field, what was expected and what came.
    """

    id: Hashable
    start: Callable[[], Actor]
    restart: Restart = "permanent"
    shutdown: Shutdown | None = None
    type: Literal["worker", "supervisor"] = "worker"
    name: Hashable = None

    def __post_init__(self) -> None:
        if self.id is None:
            raise InvalidSpec("ChildSpec.id", "anything hashable but None", self.id)
        try:
            hash(self.id)
        except TypeError:
            raise InvalidSpec("ChildSpec.id", "something hashable", self.id) from None
        if not callable(self.start):
            raise InvalidSpec(
                "ChildSpec.start", "a class or a function that makes a fresh actor", self.start
            )
        if self.restart not in get_args(Restart):
            raise InvalidSpec(
                "ChildSpec.restart", "permanent, transient or temporary", self.restart
            )
        if self.type not in ("worker", "supervisor"):
            raise InvalidSpec("ChildSpec.type", "worker or supervisor", self.type)
        if self.shutdown is None:
            default: Any = "infinity" if self.type == "supervisor" else 5.0
            object.__setattr__(self, "shutdown", default)
        elif not _is_shutdown(self.shutdown):
            raise InvalidSpec(
                "ChildSpec.shutdown", "seconds >= 0, 'infinity' or 'brutal_kill'", self.shutdown
            )

    @property
    def shutdown_seconds(self) -> float | None:
        """Seconds to wait for the child's end; None for ever."""
        if self.shutdown == "infinity":
            return None
        if self.shutdown == "brutal_kill" or self.shutdown is None:
            return 0.0
        return float(self.shutdown)


def _is_shutdown(value: object) -> bool:
    if value in ("infinity", "brutal_kill"):
        return True
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and isfinite(value)
        and value >= 0
    )
