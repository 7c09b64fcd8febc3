"""What comes to a consumer from other threads: in bunches, and never on their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pollin_actors.otp.cell import Cell
    from pollin_actors.otp.runtime import Runtime
    from pollin_actors.otp.timers import Timer

__all__ = ["Bunch", "Inbox"]


class Bunch(NamedTuple):
    """Urgent, to itself: something lies in the inbox."""

    cell: Cell
    """The incarnation whose inbox it is."""


class Inbox:
    """Calls that an actor is to make in its own turn.

    However many there are, one message announces them. It is posted by a thread of the pool: who
    brings something, such as a thread that pushes a callback, does not run the actor.

    Args:
        cell: the incarnation; what comes after its end is dropped.
        runtime: its scheduler posts the message.
    """

    def __init__(self, cell: Cell, runtime: Runtime) -> None:
        self._cell = cell
        self._scheduler = runtime.scheduler
        self._call_later = runtime.timers.call_later
        self._timers: set[Timer] = set()
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._posted = False
        self.closed = False

    @property
    def label(self) -> str:
        """How errors call it."""
        return f"the inbox of {self._cell.label}"

    def put(self, function: Callable[..., object], *args: Any) -> None:
        """Have ``function(*args)`` called soon. Any thread may call; nothing is waited for."""
        if not self.closed:
            self._calls.append((function, args))
            self.poke()

    def later(self, delay: float, function: Callable[..., object], *args: Any) -> Timer:
        """The same in ``delay`` seconds, unless it is cancelled. Used in the actor's turns only."""
        # It may be due before we hold it: what has fired is let go of in a turn, and so after us.
        timer: Timer

        def fired() -> None:
            self._timers.discard(timer)
            function(*args)

        timer = self._call_later(delay, lambda: self.put(fired))
        self._timers.add(timer)
        return timer

    def cancel(self, timer: Timer) -> None:
        """Do not call what ``later`` was given, unless it waits in the inbox already."""
        self._timers.discard(timer)
        timer.cancel()

    def poke(self) -> None:
        """Have the actor look at its inbox, also if it is empty."""
        # The taker lowers the flag first and looks afterwards: nothing stays unseen.
        if self._posted or self.closed:
            return
        try:
            self._posted = True
            self._scheduler.submit(self)
        except BaseException:
            self._scheduler.submit(self)  # an interrupt in between: twice is harmless
            raise

    def run(self, turns: int = 0, *, foreign: bool = False, executor: object = None) -> None:
        """Post the message; by a thread of the pool."""
        if not self.closed:
            self._cell.mailbox.post_urgent(Bunch(self._cell))

    def take(self) -> Iterator[tuple[Callable[..., object], tuple[Any, ...]]]:
        """What has come by now; in the actor's turn."""
        self._posted = False
        calls = self._calls
        for _ in range(len(calls)):
            yield calls.popleft()

    def close(self) -> None:
        """The incarnation has ended."""
        self.closed = True
        self._calls.clear()
        for timer in list(self._timers):
            timer.cancel()
