"""The dynamic supervisor: any number of children of a kind, started when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from pollin_actors.otp.actor import Ref
from pollin_actors.otp.cell import Cell, ExitRequest, Status
from pollin_actors.otp.child_spec import ChildSpec
from pollin_actors.otp.children import Child, ChildState
from pollin_actors.otp.errors import (
    AlreadyStarted,
    ChildNotFound,
    InvalidSpec,
    MaxChildren,
    StartFailed,
)
from pollin_actors.otp.exits import ExitReason
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.handle import SupervisorRef
from pollin_actors.otp.intensity import Backoff
from pollin_actors.otp.later import Later
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.otp.registry import Registry
from pollin_actors.otp.runtime import Runtime
from pollin_actors.otp.supervision import BaseSupervisor, is_taken

__all__ = ["DynamicSupervisor", "EnsureChild"]


class EnsureChild(NamedTuple):
    """Have the bearer of a name started unless there is one. The reply is None, at once."""

    name: Hashable


class IdleTick(NamedTuple):
    """Urgent, to itself: time to passivate who has had nothing to do."""

    cell: Cell
    """The incarnation whose timer it was."""


class DynamicSupervisor(BaseSupervisor):
    """Supervises children that come and go; each is restarted on its own.

    It keeps no spec of a child that ended and is not restarted, and children may have the same
    id: what counts is their ref (or their name, if they have one). They stop in parallel.

    Args:
        max_children: how many there may be at most, those being restarted included; None for no
            bound. One more is refused with ``MaxChildren``.
        spec_for: makes the spec of a named child, for ``EnsureChild`` and ``mailbox``.
        max_restarts: more restarts of all children together than this within ``max_seconds``, and
            the supervisor gives up.
        max_seconds: seconds.
        backoff: how long a child that keeps crashing waits for its restart; None: not at all.
        idle_after: passivate a named child that has handled nothing for this many seconds (up to
            half as long again); None: never. It ends normally, and the next message to its name
            starts it anew.
        registry: where the children's names are; by default that of the runtime.
    """

    def __init__(
        self,
        *,
        max_children: int | None = None,
        spec_for: Callable[[Hashable], ChildSpec] | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        backoff: Backoff | None = None,
        idle_after: float | None = None,
        registry: Registry | None = None,
    ) -> None:
        super().__init__(
            max_restarts=max_restarts, max_seconds=max_seconds, backoff=backoff, registry=registry
        )
        if idle_after is not None and not idle_after > 0:
            raise InvalidSpec("idle_after", "seconds > 0, or None", idle_after)
        if max_children is not None and not _is_count(max_children):
            raise InvalidSpec("max_children", "an int >= 0, or None", max_children)
        self._max_children = max_children
        self._spec_for = spec_for
        self._idle_after = idle_after
        self._children: dict[Child, None] = {}
        self._by_name: dict[Hashable, Child] = {}

    @classmethod
    def start(
        cls,
        *,
        name: Hashable = None,
        runtime: Runtime | None = None,
        timeout: float | None = None,
        max_children: int | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        backoff: Backoff | None = None,
    ) -> SupervisorRef[DynamicSupervisor]:
        """Start a dynamic supervisor that nobody supervises.

        Args:
            name: registered under this name.
            runtime: where it lives; by default one that all such supervisors share.
            timeout: seconds to wait for the start; None for no bound.
            max_children: as for the class, and so are the other options.

        Returns:
            Its handle.

        Raises:
            InvalidSpec: an argument has a value that it cannot have. Nothing was started.
            AlreadyRegistered: the name belongs to somebody alive.
        """
        actor = cls(
            max_children=max_children,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            backoff=backoff,
        )
        return actor.launch(runtime, name, timeout)

    def on_start(self) -> None:
        self.report_up()
        if self._idle_after is not None:
            self._tick_later(self._idle_after)
        if self._spec_for is not None:
            # Messages may have been waiting for an earlier incarnation to start somebody.
            registry = self.registry
            for name in registry.names():
                mailbox = registry.find(name)
                if mailbox is not None and mailbox.on_demand is not None and mailbox.queue:
                    self._ensure(name)

    def handle(self, message: Any) -> Any:
        if isinstance(message, EnsureChild):
            return self._ensure(message.name)
        return super().handle(message)

    def children(self) -> list[Child]:
        return list(self._children)

    def find(self, key: Hashable) -> Child:
        if isinstance(key, Ref):
            by_ref = self._by_cell.get(key._cell)
            if by_ref is None or by_ref not in self._children:
                raise ChildNotFound(key)
            return by_ref
        try:
            named = self._by_name.get(key)
            if named is not None:
                return named
            for child in self._children:
                if child.spec.id == key:
                    return child
        except Exception as error:
            # What the caller gave cannot be compared, or not be hashed.
            raise ChildNotFound(key) from error
        raise ChildNotFound(key)

    def on_info(self, message: Any) -> None:
        if isinstance(message, IdleTick):
            if message.cell is self._cell:
                self._passivate_idle()
        else:
            super().on_info(message)

    # -- starting ----------------------------------------------------------------------------------

    def _ensure(self, name: Hashable) -> None:
        mailbox = self.registry.find(name)
        if mailbox is None or self._spec_for is None:
            return
        bearer = mailbox.cell
        if bearer is not None and bearer.status < Status.STOPPING:
            return
        known = self._by_name.get(name)
        if known is not None:
            cell = known.cell
            record = cell.record if cell is not None else None
            if record is None or known.state is not ChildState.RUNNING:
                return  # it is being started, restarted or stopped
            if record.reason is ExitReason.CRASH:
                return  # its exit record is on the way, and counts
            self._by_cell.pop(cell, None)  # type: ignore[arg-type]
            self._forget(known)
        if self._is_full():
            most = len(self._children)
            mailbox.fail_queued(lambda: MaxChildren(most))
            return
        try:
            spec = self._spec_for(name)
        except Exception as error:
            failure = StartFailed(name, error)
            mailbox.fail_queued(lambda: failure)
            return
        self._begin(Child(spec))

    def add_child(self, spec: ChildSpec) -> Later:
        if spec.name is not None and spec.name in self._by_name:
            raise AlreadyStarted(spec.name, self._by_name[spec.name].ref)
        if self._is_full():
            raise MaxChildren(len(self._children))
        child = Child(spec)
        asked: ReplyFuture[Any] = ReplyFuture()
        child.started = asked
        self._begin(child)
        return Later(asked)

    def _is_full(self) -> bool:
        return self._max_children is not None and len(self._children) >= self._max_children

    def _begin(self, child: Child) -> None:
        self._children[child] = None
        if child.spec.name is not None:
            self._by_name[child.spec.name] = child
        self.begin_start(child)

    def child_start_failed(self, child: Child, error: StartFailed) -> None:
        # Nobody else would tell those who sent to the name.
        self._forget(child)
        name = child.spec.name
        mailbox = self.registry.find(name) if name is not None else None
        if is_taken(child.spec, error.reason):
            return  # the name is a stranger's
        if mailbox is not None and mailbox.cell is None:
            mailbox.fail_queued(lambda: error)
            if mailbox.on_demand is None:
                self.registry.give_up(name, unless_borne=True)

    # -- passivation -------------------------------------------------------------------------------

    def _tick_later(self, period: float) -> None:
        cell = self._cell
        mailbox = cell.mailbox
        self.runtime.timers.call_later(period / 2, lambda: mailbox.post_urgent(IdleTick(cell)))

    def _passivate_idle(self) -> None:
        if self._idle_after is None or self._ending is not None:
            return
        for child in self._by_name.values():
            cell = child.cell
            if cell is None or child.state is not ChildState.RUNNING or cell.supervises:
                continue  # a supervisor's children may be busy
            mailbox = cell.mailbox
            if mailbox.used or mailbox.queue or cell.laters:
                mailbox.used = False
            else:
                mailbox.post_urgent(ExitRequest(cell, ExitReason.NORMAL, only_if_idle=True))
        self._tick_later(self._idle_after)

    # -- ends --------------------------------------------------------------------------------------

    def child_gone(self, child: Child) -> None:
        self._forget(child)
        if self._ending is not None:
            return
        name = child.spec.name
        mailbox = self.registry.find(name) if name is not None else None
        if mailbox is None or mailbox.cell is not None:
            return
        if mailbox.on_demand is None:
            # Nothing is kept of a child that is gone.
            self.registry.give_up(name, unless_borne=True)
        elif mailbox.queue:
            self._ensure(name)

    def proceed(self) -> None:
        if self._ending is not None:
            self._check_all_gone()

    def _forget(self, child: Child) -> None:
        self._children.pop(child, None)
        name = child.spec.name
        if name is not None and self._by_name.get(name) is child:
            del self._by_name[name]

    def stop_children(self) -> None:
        self.begin_stop(list(self._children))
        self._check_all_gone()

    def _check_all_gone(self) -> None:
        if not self._children and self._cell.status < Status.STOPPING:
            self.children_stopped()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def on_demand_by(supervisor: Mailbox) -> Callable[[Mailbox], None]:
    """For ``Registry.mailbox``: have a dynamic supervisor start who bears the name."""

    def start(mailbox: Mailbox) -> None:
        # An ask, although nobody waits: the sender may run the supervisor itself.
        supervisor.ask(EnsureChild(mailbox.name))

    return start
