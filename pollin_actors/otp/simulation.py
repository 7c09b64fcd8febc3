"""Simulated runs: one thread, virtual time, and every choice drawn from a seed.

The same seed gives the same run: which mailbox is run next, how many turns it takes, and whether
an asking thread runs the mailbox itself. Time stands still while anything can be run, and then
jumps to the next timer.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pollin_actors.otp.errors import SimulationStuck
from pollin_actors.otp.runtime import Runtime, Scheduler, Task
from pollin_actors.otp.timers import Timer, TimerHeap
from pollin_actors.otp.waiting import simulated_scheduler

if TYPE_CHECKING:
    from pollin_actors.otp.cell import Cell
    from pollin_actors.otp.futures import ReplyFuture

__all__ = ["SimulatedScheduler", "SimulatedTimers", "Simulation", "VirtualClock"]

START_NS = 1_700_000_000_000_000_000
"""When simulations begin unless they are told otherwise: in November 2023."""


class VirtualClock:
    """A clock that moves only when it is told to.

    Args:
        start_ns: what ``time_ns`` says at the start, in nanoseconds since the epoch.
    """

    def __init__(self, start_ns: int = START_NS) -> None:
        self._start_ns = start_ns
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    def time_ns(self) -> int:
        return self._start_ns + round(self._now * 1_000_000_000)

    def advance_to(self, now: float) -> None:
        """Move to a time in seconds since the start; never back."""
        self._now = max(self._now, now)


class SimulatedTimers:
    """Timers that fire when the simulation moves the clock past them."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._heap = TimerHeap()

    def start(self) -> None:
        """Nothing to start: whoever waits moves the clock."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        due = self._clock.monotonic() + max(delay, 0.0)
        timer = Timer(due, callback, self._heap.cancels)
        self._heap.push(timer)
        return timer

    def stop(self) -> None:
        self._heap.clear()

    def next_due(self) -> float | None:
        """When the next timer is due; None without one."""
        return self._heap.next_due()

    def fire_next(self) -> None:
        """Move the clock to the next timer and fire it."""
        due = self.next_due()
        if due is not None:
            self._clock.advance_to(due)
            self._heap.pop().fire()


class SimulatedScheduler:
    """Runs mailboxes on the thread that waits, in an order drawn from the seed.

    There is one stack: a handler that waits runs others on top of itself, and whoever waited
    before it goes on only after it. So an outer wait may notice its time-out late.
    """

    simulated = True

    def __init__(
        self, choices: random.Random, clock: VirtualClock, timers: SimulatedTimers
    ) -> None:
        self._choices = choices
        self._clock = clock
        self._timers = timers
        self._runnable: list[Task] = []
        self._stopped = False
        self.turns = 0
        # How many are being run, each on top of the one before.
        self.depth = 0

    def start(self) -> None:
        """Nothing to start: whoever waits runs."""

    def stop(self, timeout: float = 5.0) -> bool:
        self._stopped = True
        self._runnable.clear()
        return True

    def submit(self, mailbox: Task) -> None:
        if not self._stopped:
            self._runnable.append(mailbox)

    def caller_may_run(self) -> bool:
        return self._choices.random() < 0.5

    def enter_wait(self, cell: Cell) -> bool:
        return False

    def exit_wait(self) -> None:
        raise AssertionError("a simulated wait occupies no thread")

    def step(self) -> bool:
        """Run one mailbox, if any can be run."""
        if not self._runnable:
            return False
        index = self._choices.randrange(len(self._runnable))
        self._runnable[index], self._runnable[-1] = self._runnable[-1], self._runnable[index]
        mailbox = self._runnable.pop()
        self.turns += 1
        self.depth += 1
        try:
            mailbox.run(self._choices.randint(1, 4))
        finally:
            self.depth -= 1
        return True

    def block(self, future: ReplyFuture[Any], timeout: float | None) -> bool:
        until = None if timeout is None else self._clock.monotonic() + timeout
        while future._outcome is None:
            if self.step():
                continue
            due = self._timers.next_due()
            if due is None and until is None:
                raise SimulationStuck(
                    "somebody waits for a future that nothing can settle any more: no actor has "
                    "work and no timer is set"
                )
            if due is not None and (until is None or due <= until):
                self._timers.fire_next()
                continue
            assert until is not None
            self._clock.advance_to(until)
            return False
        return True


class Simulation:
    """A runtime in virtual time on one thread.

    ```python
    with Simulation(seed=7) as simulation:
        ref = Supervisor.start([...], runtime=simulation.runtime)
    ```

    Args:
        seed: the same seed gives the same run.
        start_ns: what the clock says at the start, in nanoseconds since the epoch.
    """

    def __init__(self, seed: int = 0, *, start_ns: int = START_NS) -> None:
        self.clock = VirtualClock(start_ns)
        self.timers = SimulatedTimers(self.clock)
        self.scheduler = SimulatedScheduler(random.Random(seed), self.clock, self.timers)
        self.runtime = Runtime(self.clock, self.scheduler, self.timers, random=random.Random(seed))
        self._token: Token[Scheduler | None] | None = None

    def __enter__(self) -> Self:
        self._token = simulated_scheduler.set(self.scheduler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            simulated_scheduler.reset(self._token)
            self._token = None

    def settle(self) -> None:
        """Run until nothing can be run without moving the clock."""
        while self.scheduler.step():
            pass

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and run whatever it brings."""
        until = self.clock.monotonic() + seconds
        self.settle()
        while (due := self.timers.next_due()) is not None and due <= until:
            self.timers.fire_next()
            self.settle()
        self.clock.advance_to(until)
