"""Child specs: what a supervisor must know to start, restart and stop a child."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from math import isfinite
from typing import Any, Literal, Self, get_args

import pykka

from pollin_actors.otp.adoption import adopt
from pollin_actors.otp.errors import InvalidSpec

__all__ = ["ChildSpec", "Restart", "ShutdownTime", "as_spec"]

Restart = Literal["permanent", "transient", "temporary"]
ActorClass = type[pykka.Actor]
ShutdownTime = float | Literal["infinity", "brutal_kill"]


@dataclasses.dataclass(frozen=True, slots=True)
class ChildSpec:
    """How a supervisor starts, restarts and stops one child. Validated when it is made.

    Args:
        id: unique in its supervisor (but for a dynamic one); anything hashable but None.
        start: a factory that makes a fresh actor, called again for every restart: a class, or a
            function without arguments. Never a live instance. Pykka's own actor classes are
            adopted, see ``adopt``.
        restart: ``permanent`` is always restarted, ``transient`` after a crash only, ``temporary``
            never.
        shutdown: seconds to wait for the child's end when it is stopped; ``"infinity"`` waits for
            ever, ``"brutal_kill"`` not at all, and the child's ``on_stop`` does not run. A thread
            cannot be killed: what does not end in time is abandoned and reported.
        type: ``worker`` or ``supervisor``; found out where ``start`` is a class of a supervisor.
            A supervisor's ``shutdown`` is ``"infinity"`` unless given.
        name: registered under this name; messages to the name wait out a restart.
        significant: its end can end its supervisor, see the supervisor's ``auto_shutdown``. Not
            for a permanent child, and only under an ``auto_shutdown`` other than ``never``.
        value: kept beside the name in the registry while the child lives.

    Raises:
        InvalidSpec: names the field, what was expected and what came.
    """

    id: Hashable
    start: Callable[[], pykka.Actor]
    restart: Restart = "permanent"
    shutdown: ShutdownTime | None = None
    type: Literal["worker", "supervisor"] = "worker"
    name: Hashable = None
    significant: bool = False
    value: Any = None

    @classmethod
    def of(cls, actor_class: ActorClass, *args: Any, **kwargs: Any) -> ChildSpec:
        """The default spec of an actor class, whose instances are made with these arguments.

        The class may say what differs from the usual defaults in ``child_defaults``, a mapping
        of field names to values; its id is the class's name unless it says otherwise there.
        ``replace`` overrides a field for one tree.

        Args:
            actor_class: one of ours, or any Pykka actor class.
            args: for its constructor.
            kwargs: for its constructor.

        Raises:
            InvalidSpec: ``child_defaults`` has a field or a value that it cannot have.
        """
        if not (isinstance(actor_class, type) and issubclass(actor_class, pykka.Actor)):
            raise InvalidSpec("ChildSpec.of", "an actor class", actor_class)
        defaults = getattr(actor_class, "child_defaults", {})
        known = [field.name for field in dataclasses.fields(cls) if field.name != "start"]
        where = f"{actor_class.__name__}.child_defaults"
        if not isinstance(defaults, Mapping):
            raise InvalidSpec(where, "a mapping of field names to values", defaults)
        for field in defaults:
            if field not in known:
                raise InvalidSpec(where, f"fields among {', '.join(known)}", field)
        fields: dict[str, Any] = {"id": actor_class.__name__, **defaults}
        start: Any = adopt(actor_class)
        if args or kwargs:
            start = partial(start, *args, **kwargs)
        return cls(start=start, **fields)

    def replace(self, **changes: Any) -> Self:
        """The same spec with some fields changed.

        Raises:
            InvalidSpec: a field has a value that it cannot have, or there is no such field.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for field in changes:
            if field not in known:
                raise InvalidSpec("ChildSpec.replace", f"fields among {', '.join(known)}", field)
        if "type" in changes and "shutdown" not in changes:
            usual = "infinity" if self.type == "supervisor" else 5.0
            if self.shutdown == usual:
                changes["shutdown"] = None  # it was the default of its type
        return dataclasses.replace(self, **changes)

    def __post_init__(self) -> None:
        for field in ("id", "name"):
            value = getattr(self, field)
            try:
                hash(value)
            except TypeError:
                raise InvalidSpec(f"ChildSpec.{field}", "something hashable", value) from None
        if self.id is None:
            raise InvalidSpec("ChildSpec.id", "anything hashable but None", self.id)
        object.__setattr__(self, "start", _factory(self.start))
        if not _among(self.restart, get_args(Restart)):
            raise InvalidSpec(
                "ChildSpec.restart", "permanent, transient or temporary", self.restart
            )
        if not _among(self.type, ("worker", "supervisor")):
            raise InvalidSpec("ChildSpec.type", "worker or supervisor", self.type)
        made = self.start.func if isinstance(self.start, partial) else self.start
        if isinstance(made, type) and getattr(made, "supervises", False):
            # It has children to stop, whatever was said.
            object.__setattr__(self, "type", "supervisor")
        if self.shutdown is None:
            default: Any = "infinity" if self.type == "supervisor" else 5.0
            object.__setattr__(self, "shutdown", default)
        elif not _is_shutdown(self.shutdown):
            raise InvalidSpec(
                "ChildSpec.shutdown", "seconds >= 0, 'infinity' or 'brutal_kill'", self.shutdown
            )
        if not isinstance(self.significant, bool):
            raise InvalidSpec("ChildSpec.significant", "True or False", self.significant)
        if self.significant and self.restart == "permanent":
            raise InvalidSpec(
                "ChildSpec.significant",
                "False for a permanent child, whose end never ends its supervisor",
                self.significant,
            )
        if self.value is not None and self.name is None:
            raise InvalidSpec("ChildSpec.value", "None for a child without a name", self.value)

    @property
    def shutdown_seconds(self) -> float | None:
        """Seconds to wait for the child's end; None for ever."""
        if self.shutdown == "infinity":
            return None
        if self.shutdown == "brutal_kill" or self.shutdown is None:
            return 0.0
        return float(self.shutdown)


def as_spec(entry: object, field: str) -> ChildSpec:
    """What a list of children holds, as a spec: a spec, or an actor class.

    Raises:
        InvalidSpec: it is neither; names ``field``.
    """
    if isinstance(entry, ChildSpec):
        return entry
    if isinstance(entry, type) and issubclass(entry, pykka.Actor):
        return ChildSpec.of(entry)
    raise InvalidSpec(field, "a ChildSpec or an actor class", entry)


def _factory(start: Any) -> Any:
    """A factory that makes one of our actors where that can be told beforehand."""
    if isinstance(start, pykka.Actor | pykka.ActorRef) or not callable(start):
        raise InvalidSpec(
            "ChildSpec.start", "a class or a function that makes a fresh actor", start
        )
    if isinstance(start, type) and issubclass(start, pykka.Actor):
        return adopt(start)
    if isinstance(start, partial) and isinstance(start.func, type):
        adopted = _factory(start.func)
        if adopted is not start.func:
            return partial(adopted, *start.args, **start.keywords)
    return start


def _among(value: object, allowed: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value in allowed


def _is_shutdown(value: object) -> bool:
    if isinstance(value, str):
        return value in ("infinity", "brutal_kill")
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and isfinite(value)
        and value >= 0
    )
