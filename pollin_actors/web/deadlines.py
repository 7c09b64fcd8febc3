"""A deadline for what many tasks do, at the cost of one timer."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, TypeAlias

from pollin_actors.application import Application
from pollin_actors.errors import PollinError
from pollin_actors.otp.clock import Clock

__all__ = ["Deadlines", "OutOfTime", "Until", "now_of"]

Task: TypeAlias = "asyncio.Task[Any]"


def now_of(app: Application) -> float:
    """Seconds, on the application's clock if it runs."""
    runtime = app._runtime
    return monotonic() if runtime is None else runtime.clock.monotonic()


class OutOfTime(PollinError):
    """A request has used up the time that the inbox has for it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the inbox took too long: expected all that one request needs within {seconds:g} s, "
            "got only a part of it; see whether its backend is slow, or raise timeout="
        )


class Until:
    """The time that the inbox has for one request, however many steps that takes.

    Arguments:
        clock: which time counts.
        seconds: how long it is.
    """

    __slots__ = ("_clock", "_seconds", "_until")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._until = clock.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left for the next step.

        Raises:
            OutOfTime: there are none.
        """
        left = self._until - self._clock.monotonic()
        if left <= 0.0:
            raise OutOfTime(self._seconds)
        return left


class Deadlines:
    """Gives whatever tasks of one event loop await the same number of seconds.

    As ``asyncio.timeout`` does; but that has a timer for each, which costs as much as all the rest
    of a short request.

    ```python
    task = deadlines.begin()
    try:
        await something()
    except asyncio.CancelledError:
        if deadlines.has_expired(task):
            ...
        raise
    finally:
        deadlines.end(task)
    ```

    Arguments:
        loop: the event loop.
        seconds: how long each may take.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.loop = loop
        self._seconds = seconds
        # The first to expire is the first. Beside the time: how often it had been cancelled before.
        self._until: dict[Task, tuple[float, int]] = {}
        self._expired: dict[Task, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Task:
        """The present task has so long from now on."""
        task = asyncio.current_task(self.loop)
        assert task is not None
        until = self.loop.time() + self._seconds
        self._until[task] = until, task.cancelling()
        if self._timer is None:
            self._timer = self.loop.call_at(until, self._expire)
        return task

    def end(self, task: Task) -> None:
        """It is done."""
        self._until.pop(task, None)
        self._expired.pop(task, None)

    def has_expired(self, task: Task) -> bool:
        """Whether it was cancelled because its time was up, and by nobody else besides."""
        before = self._expired.get(task)
        return before is not None and task.uncancel() <= before

    def _expire(self) -> None:
        self._timer = None
        now = self.loop.time()
        for task, (until, cancelled) in list(self._until.items()):
            if until > now:
                self._timer = self.loop.call_at(until, self._expire)
                return
            del self._until[task]
            self._expired[task] = cancelled
            # It waits between begin and end, so that is where it is told.
            task.cancel()
