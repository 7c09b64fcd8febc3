"""Exit records: how and why an actor ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pykka

__all__ = ["ExitReason", "ExitRecord"]


class ExitReason(StrEnum):
    """Why an actor ended."""

    NORMAL = "normal"
    """It was asked to stop, or stopped itself."""

    SHUTDOWN = "shutdown"
    """Its supervisor ended it, or it was a supervisor that gave up."""

    CRASH = "crash"
    """An exception ended it."""

    UNSTOPPED = "unstopped"
    """It did not end within its shutdown time and was abandoned: its thread may still run."""


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """The one record that every actor leaves behind.

    It goes to the actor's supervisor and to whoever monitors it, at once if the actor is dead.
    """

    ref: pykka.ActorRef[Any]
    """The incarnation that ended."""

    reason: ExitReason

    exception: BaseException | None = None
    """What it crashed on."""

    last_message: Any = None
    """The message being handled at the crash, if one was."""

    generation: int = 0
    """Which incarnation under its name it was, counted from 1; 0 for an actor without a name."""

    started: bool = True
    """Whether ``on_start`` had returned."""
