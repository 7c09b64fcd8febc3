"""Errors of the actor runtime and of supervision.

Each says what happened and what to do. Where Pykka has an error for the same thing, ours is
also that one, so that code written for Pykka keeps working.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

import pykka

from pollin_actors.otp.exits import text_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from pollin_actors.otp.exits import ExitReason, ExitRecord

__all__ = [
    "ActorCrashed",
    "ActorDead",
    "AlreadyPresent",
    "AlreadyRegistered",
    "AlreadySettled",
    "AlreadyStarted",
    "CallCycle",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "DeadlineExceeded",
    "IntensityExceeded",
    "InvalidSpec",
    "MailboxFull",
    "MaxChildren",
    "NameNotFound",
    "NotOwner",
    "OtpError",
    "PoolExhausted",
    "SimulationStuck",
    "StartFailed",
    "UnknownMessage",
    "WouldBlock",
]


class OtpError(Exception):
    """Base of every error that the actor runtime raises."""


class ActorDead(OtpError, pykka.ActorDeadError):
    """The actor is not alive: it has stopped, or it stopped before it handled the message."""

    def __init__(self, text: str = "", record: ExitRecord | None = None) -> None:
        super().__init__(text)
        self.record = record

    @property
    def reason(self) -> ExitReason | None:
        """Why it ended; None where that is not known yet."""
        return self.record.reason if self.record is not None else None


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


class NotOwner(OtpError):
    """Only the bearer of a name may do that, inside its own turn."""

    def __init__(self, name: Hashable, caller: str) -> None:
        super().__init__(name, caller)
        self.name = name
        self.caller = caller

    def __str__(self) -> str:
        return (
            f"the value beside the name {self.name!r}: expected a turn of the actor that bears the "
            f"name, got {self.caller}"
        )


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


class AlreadyPresent(OtpError):
    """A child of that id is known, and not running."""

    def __init__(self, child_id: Hashable) -> None:
        super().__init__(child_id)
        self.child_id = child_id

    def __str__(self) -> str:
        return (
            f"child {self.child_id!r} is known and does not run; use restart_child, or "
            f"delete_child first"
        )


class ChildRunning(OtpError):
    """The child runs, so it can be neither restarted nor deleted by a call."""

    def __init__(self, child_id: Hashable, ref: pykka.ActorRef[Any] | None = None) -> None:
        super().__init__(child_id, ref)
        self.child_id = child_id
        self.ref = ref

    def __str__(self) -> str:
        return f"child {self.child_id!r} is running; use terminate_child first"


class ChildRestarting(OtpError):
    """The child is being restarted, so it can be neither restarted nor deleted by a call."""

    def __init__(self, child_id: Hashable) -> None:
        super().__init__(child_id)
        self.child_id = child_id

    def __str__(self) -> str:
        return f"child {self.child_id!r} is being restarted; terminate_child ends that"


class MaxChildren(OtpError):
    """A dynamic supervisor has as many children as it may, those being restarted included."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most

    def __str__(self) -> str:
        return f"the supervisor has {self.most} children, its max_children; stop one first"


class UnknownMessage(OtpError):
    """The actor does not know what to do with a message of that kind."""

    def __init__(self, actor: str, expected: str, got: object) -> None:
        super().__init__(actor, expected, got)
        self.actor = actor
        self.expected = expected
        self.got = got

    def __str__(self) -> str:
        return f"{self.actor}: expected {self.expected}, got {type(self.got).__name__}"


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
        why = "it ended before that" if self.reason is None else text_of(self.reason)
        return f"child {self.child_id!r} did not start: {why}"
