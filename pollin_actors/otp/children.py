"""A supervisor's children: what it keeps of them, and the calls about them."""

from __future__ import annotations

from collections.abc import Hashable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import pykka

from pollin_actors.otp.cell import Cell
from pollin_actors.otp.child_spec import ChildSpec
from pollin_actors.otp.futures import ReplyFuture

if TYPE_CHECKING:
    from pollin_actors.otp.timers import Timer

__all__ = [
    "Child",
    "ChildCounts",
    "ChildInfo",
    "ChildState",
    "CountChildren",
    "RestartDue",
    "StartChild",
    "StopTimedOut",
    "TerminateChild",
    "WhichChildren",
]


class StartChild(NamedTuple):
    """Start one more child. The reply is its ref, once its ``on_start`` has returned.

    Errors: ``AlreadyStarted``, ``StartFailed`` (nothing is kept then).
    """

    spec: ChildSpec


class TerminateChild(NamedTuple):
    """Stop a child. The reply, once it has ended, is None. Error: ``ChildNotFound``."""

    child: Hashable
    """Its id; for a dynamic supervisor its ref, or its id."""


class WhichChildren(NamedTuple):
    """The reply is a list of ``ChildInfo``, newest first."""


class CountChildren(NamedTuple):
    """The reply is ``ChildCounts``."""


class ChildInfo(NamedTuple):
    """One child, as ``WhichChildren`` tells it."""

    id: Hashable
    ref: pykka.ActorRef[Any] | None
    """None while it is stopped or restarting."""
    state: ChildState
    type: str


class ChildCounts(NamedTuple):
    """How many children a supervisor has."""

    specs: int
    active: int
    supervisors: int
    workers: int


class ChildState(StrEnum):
    """Where a child stands, as its supervisor sees it."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPING = "stopping"


class StopTimedOut(NamedTuple):
    """Urgent, to itself: children did not end within their shutdown time."""

    cells: tuple[Cell, ...]


class RestartDue(NamedTuple):
    """Urgent, to itself: the back-off of a child is over, or its failed start is tried again."""

    cell: Cell
    """The incarnation of the supervisor whose child it is."""

    child: Child


class Child:
    """A supervisor's book-keeping of one child."""

    __slots__ = ("cell", "crashes", "running_since", "spec", "started", "state", "timer", "waiting")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.cell: Cell | None = None
        self.state = ChildState.STOPPED
        self.crashes = 0
        self.running_since: float | None = None
        self.timer: Timer | None = None
        # Who asked for its start, and who asked for its end.
        self.started: ReplyFuture[Any] | None = None
        self.waiting: list[ReplyFuture[None]] = []

    @property
    def ref(self) -> pykka.ActorRef[Any] | None:
        running = self.state in (ChildState.STARTING, ChildState.RUNNING)
        return self.cell.ref if self.cell is not None and running else None

    def info(self) -> ChildInfo:
        return ChildInfo(self.spec.id, self.ref, self.state, self.spec.type)
