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

__all__ = ["ThreadTimers", "Timer", "Timers"]

log = structlog.get_logger("pollin_actors.otp")


class Timer:
    """A call that is due at some time, unless cancelled."""

    __slots__ = ("_callback", "due")

    def __init__(self, due: float, callback: Callable[[], object]) -> None:
        self.due = due
        self._callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Do not call. Harmless when it has been called, or cancelled before."""
        self._callback = None

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
        except Exception:
            log.exception("timer.callback_failed", callback=repr(callback))


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
        self._new: queue.SimpleQueue[Timer | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started = False

    def start(self) -> None:
        if not self._started:
            self._started = True
            self._thread.start()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        timer = Timer(self._clock.monotonic() + max(delay, 0.0), callback)
        self._new.put(timer)
        return timer

    def stop(self) -> None:
        self._new.put(None)
        if self._started and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        heap: list[tuple[float, int, Timer]] = []
        numbers = itertools.count()
        while True:
            while heap and heap[0][2].cancelled:
                heapq.heappop(heap)
            pause = None
            if heap:
                pause = min(heap[0][0] - self._clock.monotonic(), threading.TIMEOUT_MAX)
                if pause <= 0.0:
                    heapq.heappop(heap)[2].fire()
                    continue
            try:
                timer = self._new.get(timeout=pause)
            except queue.Empty:
                continue
            if timer is None:
                return
            heapq.heappush(heap, (timer.due, next(numbers), timer))
