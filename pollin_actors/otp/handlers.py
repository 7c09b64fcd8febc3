"""What actors have beside Pykka's: hooks, timers, monitors, and being told of idleness.

What arrives at ``on_info`` is queued in order with everything else, and belongs to one incarnation:
it ends with it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, ClassVar

from pollin_actors.otp.arrivals import ActorTimer, Idle, IdleTimeout, Monitor, extras_of
from pollin_actors.otp.errors import InvalidSpec

if TYPE_CHECKING:
    from pollin_actors.otp.cell import Cell

__all__ = ["ActorTimer", "Handlers", "IdleTimeout", "Monitor"]


class Handlers:
    """The hooks and abilities of actors that Pykka does not know."""

    idle_timeout: ClassVar[float | None] = None
    """Seconds without a message after which ``on_info`` gets an ``IdleTimeout``, once until the
    next message; None for never. ``set_idle_timeout`` sets it for one actor."""

    # What is decided once per class.
    _continues: ClassVar[bool] = False
    _stop_takes_reason: ClassVar[bool] = True

    _cell: Cell

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._continues = cls.on_continue is not Handlers.on_continue
        cls._stop_takes_reason = _takes_reason(cls)
        if cls.idle_timeout is not None:
            _check_idle(f"{cls.__name__}.idle_timeout", cls.idle_timeout)

    # -- hooks -------------------------------------------------------------------------------------

    def on_continue(self) -> None:
        """A second step of the start, for what takes long: nobody waits for it.

        It runs after ``on_start``, when the supervisor has been told already, and before any
        message. An exception in it is a crash.
        """

    def on_stop(self, *args: Any, **kwargs: Any) -> None:
        """Clean up before an end in order; a crash calls ``on_failure`` instead.

        An override takes the ``ExitReason`` as its one positional argument, or, as in Pykka,
        no argument. Where types are checked give the argument a default, as Pykka's takes none:
        ``def on_stop(self, reason: ExitReason = ExitReason.NORMAL) -> None``.
        """

    def on_info(self, message: Any) -> None:
        """Handle what is no message of anybody's: timers, exit records of monitored actors.

        An exception in it is a crash.
        """

    def format_state(self) -> Any:
        """What an exit record may say about the state of this actor at a crash.

        Called in the actor's own turn, before ``on_failure``. By default the names of its
        attributes and the types of their values, and no values: those may be secrets. Attributes
        whose names begin with an underscore are left out.
        """
        return {
            name: type(value).__name__
            for name, value in vars(self).items()
            if not name.startswith("_")
        }

    # -- abilities ---------------------------------------------------------------------------------

    def send_after(self, delay: float, message: Any, *, to: Hashable = None) -> ActorTimer:
        """Send a message later; cancelled when this incarnation ends.

        Args:
            delay: seconds from now.
            message: what the ``on_info`` of this actor gets, in order with queued messages.
            to: a ref or a registered name, which is told the message in the ordinary way; if
                there is nobody by then, or its mailbox is full, it is dropped.

        Raises:
            InvalidSpec: ``delay`` is no finite number of at least 0.
            RuntimeError: the actor has not been started yet; call it in ``on_start``.
        """
        cell = _attached(self._cell, "send_after")
        _check(_is_number(delay) and delay >= 0, "send_after.delay", "finite seconds >= 0", delay)
        return ActorTimer(cell, message, delay, None, to)

    def send_every(self, interval: float, message: Any) -> ActorTimer:
        """Send a message to this actor's ``on_info`` again and again until it ends.

        The first comes after one interval. A tick is set when the one before is handled, and keeps
        the phase: ticks never pile up, and those that were missed are left out.

        Args:
            interval: seconds between two ticks.
            message: what ``on_info`` gets.

        Raises:
            InvalidSpec: ``interval`` is no finite number greater than 0.
            RuntimeError: the actor has not been started yet; call it in ``on_start``.
        """
        cell = _attached(self._cell, "send_every")
        valid = _is_number(interval) and interval > 0
        _check(valid, "send_every.interval", "finite seconds > 0", interval)
        return ActorTimer(cell, message, interval, interval, None)

    def set_idle_timeout(self, seconds: float | None) -> None:
        """Set ``idle_timeout`` for this incarnation; it counts from now.

        Args:
            seconds: without a message; None for no time-out.

        Raises:
            InvalidSpec: ``seconds`` is no finite number greater than 0.
            RuntimeError: the actor has not been started yet; call it in ``on_start``.
        """
        cell = _attached(self._cell, "set_idle_timeout")
        if seconds is not None:
            _check_idle("set_idle_timeout.seconds", seconds)
        extras = extras_of(cell)
        if extras.idle is None:
            extras.idle = Idle(cell, seconds)
        extras.idle.set(seconds)

    def monitor(self, target: Hashable) -> Monitor:
        """Be told of another actor's end: its ``ExitRecord`` comes to ``on_info``, exactly once.

        It comes at once if the target is dead. Several monitors bring a record each.

        Args:
            target: a ref, or a registered name: then whoever bears it now, or bore it last.

        Raises:
            NameNotFound: nobody ever bore that name.
            TypeError: ``target`` is neither a ref of this runtime's actors nor a name.
            RuntimeError: the actor has not been started yet; call it in ``on_start``.
        """
        return Monitor(_attached(self._cell, "monitor"), target)

    # -- for the runtime ---------------------------------------------------------------------------

    def _begin_idle(self) -> None:
        """It handles messages from now on: from now on it may be idle."""
        cell = self._cell
        extras, seconds = extras_of(cell), type(self).idle_timeout
        if extras.idle is None and seconds is not None:
            extras.idle = Idle(cell, seconds)
        if extras.idle is not None:
            extras.idle.touch()


def _attached(cell: Cell, method: str) -> Cell:
    # Not by the runtime: a name's mailbox has one before its actor lives.
    if not cell.status:
        raise RuntimeError(
            f"{cell.actor_class.__name__}.{method}() was called before the actor was started, "
            f"where it has no runtime yet; call it in on_start"
        )
    return cell


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _check(valid: bool, field: str, expected: str, got: object) -> None:
    if not valid:
        raise InvalidSpec(field, expected, got)


def _check_idle(field: str, seconds: float) -> None:
    _check(_is_number(seconds) and seconds > 0, field, "finite seconds > 0 or None", seconds)


def _takes_reason(actor_class: type[Any]) -> bool:
    """Whether an ``on_stop`` can be called with one positional argument."""
    function = actor_class.on_stop
    static = inspect.getattr_static(actor_class, "on_stop")
    bound = isinstance(static, (staticmethod, classmethod))
    try:
        signature = inspect.signature(function)
        signature.bind(*(None,) if bound else (None, None))
    except (TypeError, ValueError):
        return False
    return True
