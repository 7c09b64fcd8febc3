"""Everything that happens to supervised actors, as typed events, and how they are logged."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import structlog

if TYPE_CHECKING:
    import pykka

    from pollin_actors.otp.exits import ExitRecord

__all__ = [
    "AutoShutdown",
    "Crashed",
    "Event",
    "EventHook",
    "Exited",
    "GaveUp",
    "OrphanAbandoned",
    "Restarting",
    "StartRefused",
    "Started",
    "Unstopped",
    "log_event",
]

log = structlog.get_logger("pollin_actors.otp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a child of a supervisor."""

    event: ClassVar[str]
    """Its name in the log."""

    level: ClassVar[str] = "debug"
    """How it is logged. Debug events are left out while the host has not configured structlog."""

    supervisor: str
    """The supervisor, as errors and logs call it."""

    child: Hashable
    """The child's id."""

    ref: pykka.ActorRef[Any] | None = None
    """The incarnation that it happened to."""

    generation: int = 0
    """Which incarnation under its name, counted from 1; 0 for a child without a name."""

    def fields(self) -> dict[str, Any]:
        """What the log says besides supervisor, child and generation."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Event):
    """A child's ``on_start`` has returned."""

    event: ClassVar[str] = "actor.started"

    restarts: int = 0
    """How often the child has been restarted."""

    def fields(self) -> dict[str, Any]:
        return {"restarts": self.restarts}


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRefused(Event):
    """A child did not start; not at a restart, which is tried again."""

    event: ClassVar[str] = "actor.start_failed"
    level: ClassVar[str] = "error"

    exception: BaseException | None

    def fields(self) -> dict[str, Any]:
        return {"exc_info": self.exception}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited(Event):
    """A child has ended in order, or was made to end."""

    event: ClassVar[str] = "actor.exited"

    record: ExitRecord

    def fields(self) -> dict[str, Any]:
        return {"reason": str(self.record.reason)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed(Event):
    """An exception has ended a child."""

    event: ClassVar[str] = "actor.crashed"
    level: ClassVar[str] = "error"

    record: ExitRecord

    def fields(self) -> dict[str, Any]:
        record = self.record
        return {
            "reason": str(record.reason),
            "message": type(record.last_message).__name__,
            "state": record.state,
            "exc_info": record.exception,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarting(Event):
    """A child will be started again."""

    event: ClassVar[str] = "actor.restarting"
    level: ClassVar[str] = "warning"

    crashes: int
    """How often it has crashed, or failed to start, in a row."""

    delay: float
    """Seconds until then."""

    others: tuple[Hashable, ...] = field(default=())
    """The ids of the siblings that are restarted with it."""

    def fields(self) -> dict[str, Any]:
        told: dict[str, Any] = {"crashes": self.crashes, "delay": self.delay}
        if self.others:
            told["others"] = self.others
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class GaveUp(Event):
    """A supervisor's children were restarted more often than it allows: it ends."""

    event: ClassVar[str] = "supervisor.gave_up"
    level: ClassVar[str] = "error"

    max_restarts: int
    max_seconds: float
    """Seconds."""

    def fields(self) -> dict[str, Any]:
        return {"max_restarts": self.max_restarts, "max_seconds": self.max_seconds}


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoShutdown(Event):
    """A significant child has ended, so its supervisor ends."""

    event: ClassVar[str] = "supervisor.auto_shutdown"
    level: ClassVar[str] = "info"

    mode: str

    def fields(self) -> dict[str, Any]:
        return {"auto_shutdown": self.mode}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unstopped(Event):
    """A child did not end within its shutdown time and was abandoned; its thread may still run."""

    event: ClassVar[str] = "actor.unstopped"
    level: ClassVar[str] = "error"

    shutdown: float | str | None
    """Its shutdown time: seconds, or ``"brutal_kill"``."""

    def fields(self) -> dict[str, Any]:
        return {"shutdown": self.shutdown}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanAbandoned(Event):
    """A name was freed from an actor that outlived the supervisor that had started it."""

    event: ClassVar[str] = "actor.orphan_abandoned"
    level: ClassVar[str] = "warning"


EventHook = Callable[[Event], object]
"""Called with every event, one after another, a moment after the supervisor's turn. While it runs
no other event is told: it should be quick. What it raises is logged."""


def log_event(event: Event) -> None:
    """Log an event by structlog."""
    if event.level == "debug" and not structlog.is_configured():
        return
    getattr(log, event.level)(
        event.event,
        supervisor=event.supervisor,
        child=event.child,
        generation=event.generation,
        **event.fields(),
    )
