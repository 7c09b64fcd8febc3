"""A supervisor's children: what it keeps of them, and the calls about them."""

from __future__ import annotations

from collections.abc import Hashable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from pollin_actors.otp.cell import Cell
from pollin_actors.otp.child_spec import ChildSpec
from pollin_actors.otp.futures import ReplyFuture

if TYPE_CHECKING:
    from pollin_actors.otp.actor import Ref
    from pollin_actors.otp.mailbox import Mailbox
    from pollin_actors.otp.registry import Registry
    from pollin_actors.otp.timers import Timer

__all__ = [
    "Child",
    "ChildCounts",
    "ChildInfo",
    "ChildState",
    "CountChildren",
    "DeleteChild",
    "GetChildSpec",
    "LastCrash",
    "RestartChild",
    "RestartDue",
    "StartChild",
    "StopTimedOut",
    "TerminateChild",
    "WhichChild",
    "WhichChildren",
]


class StartChild(NamedTuple):
    """Start one more child. The reply is its ref, once its ``on_start`` has returned.

    Errors: ``InvalidSpec``, ``AlreadyStarted`` (a child of that id runs, or its name belongs to
    somebody else), ``AlreadyPresent``, ``MaxChildren``, ``StartFailed``. Nothing is kept then.
    """

    spec: ChildSpec


class TerminateChild(NamedTuple):
    """Stop a child. The reply, once it has ended, is None; also if it had ended before.

    Its spec stays, unless it is temporary or its supervisor dynamic. A restart that was to come
    is cancelled. Error: ``ChildNotFound``.
    """

    child: Hashable
    """Its id, its name or its ref."""


class RestartChild(NamedTuple):
    """Start a child that was stopped. The reply is its ref, once its ``on_start`` has returned.

    Errors: ``ChildNotFound``, ``ChildRunning``, ``ChildRestarting``; ``StartFailed``, or
    ``AlreadyStarted`` if its name belongs to somebody else (the child stays stopped).
    """

    child: Hashable


class DeleteChild(NamedTuple):
    """Forget a child that was stopped. The reply is None.

    Errors: ``ChildNotFound``, ``ChildRunning``, ``ChildRestarting``.
    """

    child: Hashable


class WhichChildren(NamedTuple):
    """The reply is a list of ``ChildInfo``, newest first."""


class WhichChild(NamedTuple):
    """The reply is the ``ChildInfo`` of one child. Error: ``ChildNotFound``."""

    child: Hashable


class GetChildSpec(NamedTuple):
    """The reply is a child's ``ChildSpec``, defaults filled in. Error: ``ChildNotFound``."""

    child: Hashable


class CountChildren(NamedTuple):
    """The reply is ``ChildCounts``."""


class ChildInfo(NamedTuple):
    """One child, as ``WhichChildren`` tells it."""

    id: Hashable
    ref: Ref[Any] | None
    """None while it is stopped or restarting."""
    state: ChildState
    type: str


class ChildCounts(NamedTuple):
    """How many children a supervisor has."""

    specs: int
    active: int
    supervisors: int
    workers: int


class LastCrash(NamedTuple):
    """The last crash of a child, as much as is kept of it."""

    at: int
    """Nanoseconds since the epoch."""
    error: str
    """The exception, as text."""
    message: str | None
    """The class of the message that it handled, if it handled one."""
    state: Any
    """What its ``format_state`` had to say."""


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

    attempt: int
    """Which restart of the child it is: one that was cancelled comes too late."""


class Child:
    """A supervisor's book-keeping of one child."""

    __slots__ = (
        "attempt",
        "cell",
        "crashes",
        "fresh",
        "held",
        "kept",
        "last_crash",
        "left",
        "listed",
        "registry",
        "restarts",
        "running_since",
        "spec",
        "started",
        "state",
        "timer",
        "waiting",
    )

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.cell: Cell | None = None
        self.state = ChildState.STOPPED
        # Failures in a row, and restarts in all, as a bystander too.
        self.crashes = 0
        self.restarts = 0
        self.last_crash: LastCrash | None = None
        # Whether the start under way is no restart: then its failure is the starter's.
        self.fresh = True
        # Whether it stays in the list if that start fails, and whether it comes back with a
        # restart of its supervisor.
        self.kept = False
        self.listed = False
        # Of a supervisor: where the names below it are, and its mailboxes that will not be used
        # again.
        self.registry: Registry | None = None
        self.left: list[Mailbox] = []
        # Whether its restart has yet to become due, and which one that is.
        self.held = False
        self.attempt = 0
        self.running_since: float | None = None
        self.timer: Timer | None = None
        # Who asked for its start, and who asked for its end.
        self.started: ReplyFuture[Any] | None = None
        self.waiting: list[ReplyFuture[None]] = []

    @property
    def shown(self) -> ChildState:
        """Its state as others see it: a restart is not over before ``on_start`` has returned."""
        if self.state is ChildState.STARTING and not self.fresh:
            return ChildState.RESTARTING
        return self.state

    @property
    def ref(self) -> Ref[Any] | None:
        running = self.shown in (ChildState.STARTING, ChildState.RUNNING)
        return self.cell.ref if self.cell is not None and running else None

    def info(self) -> ChildInfo:
        return ChildInfo(self.spec.id, self.ref, self.shown, self.spec.type)

    def hold(self) -> int:
        """Its restart has yet to become due; returns the number of the attempt."""
        self.held = True
        self.attempt += 1
        return self.attempt

    def release(self) -> None:
        """Its restart is due, or cancelled, as is whatever timer was set for it."""
        self.held = False
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def answer_start(self, error: BaseException | None = None) -> None:
        """Tell who asked for its start."""
        asked, self.started = self.started, None
        if asked is None:
            return
        if error is not None:
            asked._fail(error)
        elif self.cell is not None:
            asked._settle((self.cell.ref, None))
