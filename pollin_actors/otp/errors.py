"""Errors of the actor runtime and of supervision.

Each says what happened and what to do. Where Pykka has an error for the same thing, ours is
also that one, so that code written for Pykka keeps working.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

import pykka

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = [
    "ActorCrashed",
    "ActorDead",
    "AlreadyRegistered",
    "AlreadySettled",
    "AlreadyStarted",
    "CallCycle",
    "ChildNotFound",
    "DeadlineExceeded",
    "IntensityExceeded",
    "InvalidSpec",
    "MailboxFull",
    "NameNotFound",
    "OtpError",
    "PoolExhausted",
    "SimulationStuck",
    "StartFailed",
    "WouldBlock",
]


class OtpError(Exception):
    """Base of every error that the actor runtime raises."""


class ActorDead(OtpError, pykka.ActorDeadError):
    """The actor is not alive: it has stopped, or it stopped before it handled the message."""


class ActorCrashed(ActorDead):
    """The actor crashed on an exception that must not travel to another thread.

    The exception itself (an interrupt, ``SystemExit``) is the ``__cause__``.
    """


class AlreadySettled(OtpError, queue.Full):
    """A future was set a second time; the first outcome stands."""


class DeadlineExceeded(OtpError, pykka.Timeout):
    """No answer came within the call's deadline.

    A message whose turn had not begun by then is never handled; one that had begun may still
    have taken effect.
    """


class WouldBlock(OtpError):
    """A handler of a class that declares ``never_blocks`` tried to wait for a future.

    Return ``Later(future)`` instead, or handle the work in a class that may block.
    """


class CallCycle(OtpError):
    """Actors wait for each other in a circle (or one waits for itself): none could ever go on."""


class PoolExhausted(OtpError):
    """So many handlers wait at once that the thread pool is at its ceiling."""


class MailboxFull(OtpError):
    """The actor's bounded mailbox holds as many messages as it may."""


class SimulationStuck(OtpError):
    """In a simulated run somebody waits, and nothing is left that could ever wake them."""


class NameNotFound(OtpError):
    """Nothing is registered under that name."""

    def __init__(self, name: Hashable) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"no actor is registered under {self.name!r}; check the name, or start the actor"


class AlreadyRegistered(OtpError):
    """The name belongs to an actor that is alive."""

    def __init__(self, name: Hashable, ref: pykka.ActorRef[Any]) -> None:
        super().__init__(name, ref)
        self.name = name
        self.ref = ref

    def __str__(self) -> str:
        return f"the name {self.name!r} is held by {self.ref}; stop that actor or pick another name"


class InvalidSpec(OtpError, ValueError):
    """A field of a child spec or an option of a supervisor has a value that it cannot have."""

    def __init__(self, field: str, expected: str, got: object) -> None:
        super().__init__(field, expected, got)
        self.field = field
        self.expected = expected
        self.got = got

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, got {self.got!r}"


class AlreadyStarted(OtpError):
    """A child of that id (or under that name) is running."""

    def __init__(self, child_id: Hashable, ref: pykka.ActorRef[Any] | None = None) -> None:
        super().__init__(child_id, ref)
        self.child_id = child_id
        self.ref = ref

    def __str__(self) -> str:
        return f"child {self.child_id!r} is started already: {self.ref}"


class ChildNotFound(OtpError):
    """The supervisor has no child of that id."""

    def __init__(self, child_id: object) -> None:
        super().__init__(child_id)
        self.child_id = child_id

    def __str__(self) -> str:
        return f"no child {self.child_id!r} in this supervisor"


class IntensityExceeded(OtpError):
    """A supervisor's children crashed more often than it allows, so it gave up."""


class StartFailed(OtpError):
    """A child did not start; ``__cause__`` is the exception that its start raised."""

    def __init__(self, child_id: Hashable, reason: BaseException | None) -> None:
        super().__init__(child_id, reason)
        self.child_id = child_id
        self.reason = reason
        self.__cause__ = reason

    def __str__(self) -> str:
        return f"child {self.child_id!r} did not start: {self.reason!r}"
