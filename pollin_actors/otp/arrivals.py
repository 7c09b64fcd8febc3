"""What comes to ``on_info`` by itself: timers, ends of other actors, and being idle."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pykka

from pollin_actors.otp.cell import gone
from pollin_actors.otp.errors import MailboxFull, NameNotFound
from pollin_actors.otp.items import InfoItem

if TYPE_CHECKING:
    from pollin_actors.otp.cell import Cell
    from pollin_actors.otp.exits import ExitRecord
    from pollin_actors.otp.runtime import Runtime
    from pollin_actors.otp.timers import Timer

__all__ = ["ActorTimer", "Extras", "Idle", "IdleTimeout", "Monitor", "extras_of"]


@dataclass(frozen=True, slots=True)
class IdleTimeout:
    """To ``on_info``: the actor has handled nothing for as long as its ``idle_timeout`` says."""


class Extras:
    """What one incarnation has set: its timers, its monitors, its idle time-out."""

    __slots__ = ("idle", "monitors", "timers")

    def __init__(self) -> None:
        self.timers: dict[ActorTimer, None] = {}
        self.monitors: dict[Monitor, None] = {}
        self.idle: Idle | None = None

    def informed(self, message: Any) -> None:
        """``on_info`` has handled a queued message."""
        idle = self.idle
        if idle is not None and message.__class__ is not IdleTimeout:
            idle.touch()

    def close(self) -> None:
        """The incarnation has ended. May be called again."""
        for timer in list(self.timers):
            timer.cancel()
        for monitor in list(self.monitors):
            monitor.cancel()
        if self.idle is not None:
            self.idle.close()


_FIRED: Final = "fired"
_CANCELLED: Final = "cancelled"


class ActorTimer:
    """A message that an actor has set for later, once or again and again."""

    __slots__ = ("_begun", "_cell", "_fate", "_interval", "_message", "_number", "_timer", "_to")

    def __init__(
        self, cell: Cell, message: Any, delay: float, interval: float | None, to: Hashable
    ) -> None:
        self._cell: Cell | None = cell
        self._message = message
        self._interval = interval
        self._to = to
        # The first entry decides, whoever comes at the same time.
        self._fate: list[str] = []
        self._number = 1
        self._begun = _runtime(cell).clock.monotonic()
        self._timer: Timer | None = None
        extras_of(cell).timers[self] = None
        self._set(cell, delay)

    def cancel(self) -> bool:
        """Let it not come (any more).

        Called in a handler of its own actor it is certain: also a message that is queued already
        is never handled.

        Returns:
            Whether it will not be delivered (any more). False: it was, or is being, delivered.
        """
        if not self._fate:
            self._fate.append(_CANCELLED)
        self._drop()
        return self._fate[0] is _CANCELLED

    def _set(self, cell: Cell, delay: float) -> None:
        self._timer = _runtime(cell).timers.call_later(delay, self._due)
        # Looked at last: whoever cancels it, or ends the actor, looks at the timer afterwards.
        if cell.ends:
            self.cancel()
        elif self._fate:
            self._drop()

    def _due(self) -> None:
        """On the thread that makes timers' calls."""
        cell = self._cell
        if cell is None:
            return
        if self._to is None:
            item = InfoItem(self._message, cell, self._take, self._is_over)
            cell.mailbox.post_info(item, cell)
            return
        message, to = self._message, self._to
        if not cell.stopped.is_set() and self._take():
            # Nobody there, or no room: as with any message to the dead, nobody hears of it.
            with contextlib.suppress(pykka.ActorDeadError, NameNotFound, MailboxFull):
                if isinstance(to, pykka.ActorRef):
                    to.tell(message)
                else:
                    _runtime(cell).registry.tell(to, message)

    def _is_over(self) -> bool:
        return bool(self._fate)

    def _take(self) -> bool:
        """Its time has come: whether to deliver it."""
        cell = self._cell
        if self._fate or cell is None:
            return False
        if self._interval is None:
            self._fate.append(_FIRED)
            self._drop()
            return self._fate[0] is _FIRED
        now = _runtime(cell).clock.monotonic()
        passed = (now - self._begun) / self._interval
        self._number = max(self._number + 1, math.ceil(passed) if math.isfinite(passed) else 0)
        self._set(cell, max(self._begun + self._number * self._interval - now, 0.0))
        return True

    def _drop(self) -> None:
        """Keep nothing alive, whoever still holds us."""
        cell, self._cell, self._message, self._to = self._cell, None, None, None
        timer = self._timer
        if timer is not None:
            timer.cancel()
        if cell is not None and cell.extras is not None:
            cell.extras.timers.pop(self, None)


class Monitor:
    """An actor's interest in the end of another."""

    __slots__ = ("_over", "_target", "_watcher", "ref")

    ref: pykka.ActorRef[Any]
    """Whom it is about."""

    def __init__(self, watcher: Cell, target: Hashable) -> None:
        cell = _find(watcher, target)
        self.ref = cell.ref
        self._watcher = watcher
        self._target = cell
        self._over = False
        extras_of(watcher).monitors[self] = None
        cell.add_monitor(self)
        if watcher.ends:
            self.cancel()  # our own end may have looked before we stood there

    def cancel(self) -> None:
        """Take no more interest.

        Called in a handler of its own actor it is certain: also a record that is queued already
        is never handled.
        """
        self._over = True
        self._target.monitors.pop(self, None)
        extras = self._watcher.extras
        if extras is not None:
            extras.monitors.pop(self, None)

    def _settle(self, outcome: tuple[ExitRecord, None]) -> bool:
        """The target has ended; who says so twice is heard once."""
        if self._over:
            return False
        watcher = self._watcher
        item = InfoItem(outcome[0], watcher, self._take, self._is_over)
        watcher.mailbox.post_info(item, watcher)
        return True

    def _is_over(self) -> bool:
        return self._over

    def _take(self) -> bool:
        """In the watcher's turn: whether the record is the first."""
        if self._over:
            return False
        self.cancel()
        return True


class Idle:
    """Counts how long an actor has handled nothing.

    One timer runs at most, and only the actor's own turns set it: a message costs no more than
    a look at the clock.
    """

    __slots__ = ("_cell", "_handle", "_last", "_number", "_seconds", "_timer")

    def __init__(self, cell: Cell, seconds: float | None) -> None:
        self._cell = cell
        self._seconds = seconds
        self._last = 0.0
        self._number = 0
        self._timer: Timer | None = None
        self._handle: Callable[[Any], Any] = cell.handle
        cell.handle = self.handle

    def handle(self, message: Any) -> Any:
        """Handle a message; from its end on the actor is idle."""
        try:
            return self._handle(message)
        finally:
            self.touch()

    def touch(self) -> None:
        """Something was handled."""
        seconds = self._seconds
        if seconds is not None:
            self._last = _runtime(self._cell).clock.monotonic()
            if self._timer is None:
                self._arm(seconds)

    def set(self, seconds: float | None) -> None:
        self._seconds = seconds
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._number += 1  # what the old timer has queued counts no more
        self.touch()

    def close(self) -> None:
        self._seconds = None
        self._handle = partial(gone, self._cell)
        timer = self._timer
        if timer is not None:
            timer.cancel()

    def _arm(self, delay: float) -> None:
        self._number += 1
        due = partial(self._due, self._number)
        self._timer = _runtime(self._cell).timers.call_later(delay, due)
        if self._cell.ends:
            self.close()

    def _due(self, number: int) -> None:
        """On the thread that makes timers' calls: all else is decided in the actor's own turn."""
        cell = self._cell
        take, over = partial(self._take, number), partial(self._is_over, number)
        cell.mailbox.post_info(InfoItem(IdleTimeout(), cell, take, over), cell)

    def _is_over(self, number: int) -> bool:
        return self._seconds is None or number != self._number

    def _take(self, number: int) -> bool:
        seconds, cell = self._seconds, self._cell
        if seconds is None or number != self._number:
            return False
        left = self._last + seconds - _runtime(cell).clock.monotonic()
        waiting = (item for item in list(cell.mailbox.queue) if item.cell in (None, cell))
        if not all(item.is_void() for item in waiting):
            left = seconds  # not idle: more has come, and counts once it is handled
        if left > 0.0:
            self._arm(left)
            return False
        self._timer = None
        return True


def extras_of(cell: Cell) -> Extras:
    extras = cell.extras
    if extras is None:
        extras = cell.extras = Extras()
    return extras


def _runtime(cell: Cell) -> Runtime:
    runtime = cell.mailbox.runtime
    assert runtime is not None
    return runtime


def _find(watcher: Cell, target: Hashable) -> Cell:
    if isinstance(target, pykka.ActorRef):
        found = getattr(target, "_cell", None)
        if found is None:
            raise TypeError(f"monitor: expected a Ref of a pollin_actors Actor, got {target!r}")
        cell: Cell = found
        return cell
    try:
        mailbox = _runtime(watcher).registry.find(target)
    except TypeError:
        raise TypeError(f"monitor: expected a Ref or a registered name, got {target!r}") from None
    if mailbox is None or mailbox.bearer is None:
        raise NameNotFound(target)
    return mailbox.bearer
