"""The partition supervisor: several actors of one kind, and each key always goes to the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pykka

from pollin_actors.otp.actor import Actor
from pollin_actors.otp.child_spec import ChildSpec, Restart, ShutdownTime
from pollin_actors.otp.children import DeleteChild, StartChild
from pollin_actors.otp.errors import InvalidSpec, UnknownMessage
from pollin_actors.otp.handle import SupervisorRef
from pollin_actors.otp.runtime import Runtime
from pollin_actors.otp.supervisor import Strategy, Supervisor

__all__ = ["PartitionSupervisor", "Partitions"]


@dataclass(frozen=True, slots=True)
class Partitions:
    """The names of a partition supervisor's children, and which of them a key belongs to.

    ```python
    pool = Partitions("resizers", 4)
    supervisor = PartitionSupervisor.start(pool, Resizer)
    registry.ask(pool.name_for(image_id), Resize(...))
    ```

    Keys that are equal go to the same partition, within one process: which one that is may differ
    from process to process.
    """

    name: Hashable
    """What the partitions have in common."""

    count: int
    """How many there are, at least 1."""

    def __post_init__(self) -> None:
        if not isinstance(self.count, int) or isinstance(self.count, bool) or self.count < 1:
            raise InvalidSpec("Partitions.count", "an int >= 1", self.count)

    def index_for(self, key: Hashable) -> int:
        """The partition of a key, counted from 0."""
        return hash(key) % self.count

    def name_for(self, key: Hashable) -> tuple[Hashable, int]:
        """The name of the actor that a key belongs to: usable wherever a ref is."""
        return (self.name, self.index_for(key))

    def names(self) -> list[tuple[Hashable, int]]:
        """The names of all partitions."""
        return [(self.name, index) for index in range(self.count)]

    @classmethod
    def per_core(cls, name: Hashable) -> Partitions:
        """As many partitions as the machine has cores."""
        return cls(name, os.cpu_count() or 1)


class PartitionSupervisor(Supervisor):
    """Supervises one actor for each partition; which one a message goes to is up to its key.

    The children are fixed: their ids are the numbers of the partitions.

    Args:
        partitions: their names, and how many there are.
        actor: an actor class, made without arguments, or a function that is given the
            partition's number and makes a fresh actor.
        restart: of each child, as in ``ChildSpec``; None for the class's default.
        shutdown: of each child; the same.
        strategy: as for ``Supervisor``, and so are the other options.

    Raises:
        InvalidSpec: an argument has a value that it cannot have.
    """

    def __init__(
        self,
        partitions: Partitions,
        actor: type[pykka.Actor] | Callable[[int], Actor],
        *,
        restart: Restart | None = None,
        shutdown: ShutdownTime | None = None,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        **options: Any,
    ) -> None:
        if not isinstance(partitions, Partitions):
            raise InvalidSpec("partitions", "Partitions(name, count)", partitions)
        mode = options.pop("auto_shutdown", "never")
        if mode != "never":
            raise InvalidSpec("auto_shutdown", "'never', as partitions come back always", mode)
        spec = _spec_of(actor, restart, shutdown)
        children = [
            spec.replace(id=index, name=name, start=_starter(actor, index))
            for index, name in enumerate(partitions.names())
        ]
        super().__init__(
            children,
            strategy=strategy,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            **options,
        )
        self.partitions = partitions

    @classmethod
    def start(  # type: ignore[override]
        cls,
        partitions: Partitions,
        actor: type[pykka.Actor] | Callable[[int], Actor],
        *,
        name: Hashable = None,
        runtime: Runtime | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> SupervisorRef[PartitionSupervisor]:
        """Start a partition supervisor that nobody supervises.

        Args:
            partitions: as for the class, and so is all that is not named here.
            actor: as for the class.
            name: registered under this name.
            runtime: where it lives; by default one that all such supervisors share.
            timeout: seconds to wait for the start; None for no bound.
            options: as for the class.

        Raises:
            As ``Supervisor.start``.
        """
        return cls(partitions, actor, **options).launch(runtime, name, timeout)

    def handle(self, message: Any) -> Any:
        if isinstance(message, StartChild | DeleteChild):
            raise UnknownMessage(
                self._cell.label, "no change of its children, which are fixed", message
            )
        return super().handle(message)


def _spec_of(actor: Any, restart: Restart | None, shutdown: ShutdownTime | None) -> ChildSpec:
    """What all partitions have in common."""
    if isinstance(actor, type) and issubclass(actor, pykka.Actor):
        spec = ChildSpec.of(actor)
    elif callable(actor):
        spec = ChildSpec(id=0, start=actor)
    else:
        raise InvalidSpec("actor", "an actor class, or a function of a number", actor)
    changes: dict[str, Any] = {}
    if restart is not None:
        changes["restart"] = restart
    if shutdown is not None:
        changes["shutdown"] = shutdown
    return spec.replace(**changes)


def _starter(actor: Any, index: int) -> Callable[[], pykka.Actor]:
    return actor if isinstance(actor, type) else partial(actor, index)
