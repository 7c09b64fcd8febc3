"""How and why actors end: exit records, and the exceptions by which an actor ends itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pykka

__all__ = ["NO_REPLY", "ExitReason", "ExitRecord", "Shutdown", "Stop", "text_of"]


def text_of(error: BaseException) -> str:
    """``repr(error)``, or words for it if that raises: the exception is the application's own."""
    try:
        return repr(error)
    except Exception:
        return f"<{type(error).__name__}: its repr failed>"


class ExitReason(StrEnum):
    """Why an actor ended."""

    NORMAL = "normal"
    """It was asked to stop, or stopped itself."""

    SHUTDOWN = "shutdown"
    """Its supervisor ended it, it was a supervisor that gave up, or it raised ``Shutdown``."""

    CRASH = "crash"
    """An exception ended it."""

    KILLED = "killed"
    """Its supervisor ended it without its ``on_stop``, because its spec says ``brutal_kill``."""

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

    detail: Any = None
    """What the ``Shutdown`` that ended it carried."""

    state: Any = None
    """At a crash: what ``format_state`` had to say about the actor's state."""


class _NoReply:
    """The mark of a stop that answers nobody."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NO_REPLY"


NO_REPLY: Final = _NoReply()


class Stop(Exception):
    """Raised in a handler: the actor ends in order, with reason ``normal``, before what is queued.

    Its ``on_stop`` runs. A supervisor restarts it only if it is ``permanent``.

    Args:
        reply: the answer for who asked; without one they get ``ActorDead``.
    """

    reason = ExitReason.NORMAL

    def __init__(self, reply: Any = NO_REPLY) -> None:
        super().__init__()
        self.reply = reply
        self.detail: Any = None


class Shutdown(Stop):
    """Raised in a handler: like ``Stop``, with reason ``shutdown`` (OTP's ``{shutdown, Term}``).

    Args:
        detail: why; the exit record carries it.
        reply: the answer for who asked; without one they get ``ActorDead``.
    """

    reason = ExitReason.SHUTDOWN

    def __init__(self, detail: Any = None, reply: Any = NO_REPLY) -> None:
        super().__init__(reply)
        self.args = (detail,)
        self.detail = detail
