"""Timers: call a function after a delay."""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
from collections.abc import Callable
from typing import Protocol

import structlog

from pollin_actors.otp.clock import Clock
from pollin_actors.otp.last_words import OWN, log_exception

__all__ = ["ThreadTimers", "Timer", "TimerHeap", "Timers"]

log = structlog.get_logger("pollin_actors.otp")


class Timer:
    """A call that is due at some time, unless cancelled."""

    __slots__ = ("_callback", "_cancels", "due")

    def __init__(
        self, due: float, callback: Callable[[], object], cancels: list[None] | None = None
    ) -> None:
        self.due = due
        self._callback: Callable[[], object] | None = callback
        self._cancels = cancels

    def cancel(self) -> None:
        """Do not call. Harmless when it has been called, or cancelled before."""
        if self._callback is not None:
            self._callback = None
            if self._cancels is not None:
                self._cancels.append(None)

    @property
    def cancelled(self) -> bool:
        """Whether the call will not be made (any more)."""
        return self._callback is None

    def fire(self) -> None:
        """Make the call, once. An exception in it is logged and goes no further."""
        callback, self._callback = self._callback, None
        if callback is None:
            return
        try:
            callback()
        except OWN:
            log_exception("timer.callback_failed", callback=repr(callback))


class TimerHeap:
    """Timers in the order in which they are due. One thread uses it; any may cancel.

    The cancelled ones are thrown out as soon as they are more than half, so that each costs
    constant time and they never take more memory than the others.
    """

    FEW = 32

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        # One entry for each cancelled since the last clearing; a few too many do no harm.
        self.cancels: list[None] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, timer: Timer) -> None:
        """Add one."""
        heapq.heappush(self._heap, (timer.due, next(self._numbers), timer))
        self._clear_out()

    def next_due(self) -> float | None:
        """When the next timer is due; None without one."""
        heap = self._heap
        self._clear_out()
        while heap and heap[0][2].cancelled:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop(self) -> Timer:
        """Take out the next."""
        return heapq.heappop(self._heap)[2]

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()

    def _clear_out(self) -> None:
        cancelled = len(self.cancels)
        if cancelled > self.FEW and 2 * cancelled > len(self._heap):
            del self.cancels[:cancelled]
            self._heap[:] = [entry for entry in self._heap if not entry[2].cancelled]
            heapq.heapify(self._heap)


class Timers(Protocol):
    """What the runtime asks of timers."""

    def start(self) -> None:
        """Begin to make calls. Starting twice is harmless."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` after ``delay`` seconds. It must be quick and must not wait."""
        ...

    def stop(self) -> None:
        """Make no more calls, and wait until one that is being made has returned."""
        ...


class ThreadTimers:
    """Timers on one daemon thread.

    Who sets a timer only puts it into a queue: an interrupt can leave no lock held.
    """

    def __init__(self, clock: Clock, name: str = "pollin-timers") -> None:
        self._clock = clock
        self._heap = TimerHeap()  # only the thread looks into it
        self._new: queue.SimpleQueue[Timer | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started = False

    def start(self) -> None:
        if not self._started:
            self._started = True
            self._thread.start()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        due = self._clock.monotonic() + max(delay, 0.0)
        timer = Timer(due, callback, self._heap.cancels)
        self._new.put(timer)
        return timer

    def stop(self) -> None:
        self._new.put(None)
        if self._started and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        heap = self._heap
        while True:
            pause = None
            due = heap.next_due()
            if due is not None:
                pause = min(due - self._clock.monotonic(), threading.TIMEOUT_MAX)
                if pause <= 0.0:
                    heap.pop().fire()
                    continue
            try:
                timer = self._new.get(timeout=pause)
            except queue.Empty:
                continue
            if timer is None:
                return
            heap.push(timer)
