"""Timers: call a function after a delay."""

from __future__ import annotations

import heapq
import itertools
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

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` after ``delay`` seconds. It must be quick and must not wait."""
        ...

    def stop(self) -> None:
        """Make no more calls."""
        ...


class ThreadTimers:
    """Timers on one daemon thread, started by the first timer."""

    def __init__(self, clock: Clock, name: str = "pollin-timers") -> None:
        self._clock = clock
        self._name = name
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        timer = Timer(self._clock.monotonic() + max(delay, 0.0), callback)
        with self._changed:
            if self._stopped:
                timer.cancel()
                return timer
            heapq.heappush(self._heap, (timer.due, next(self._count), timer))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            elif self._heap[0][2] is timer:
                self._changed.notify()
        return timer

    def stop(self) -> None:
        """Make no more calls, and wait until a call that is being made has returned."""
        with self._changed:
            self._stopped = True
            self._heap.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopped and not self._due():
                    self._changed.wait(self._pause())
                if self._stopped:
                    return
                timer = heapq.heappop(self._heap)[2]
            timer.fire()

    def _due(self) -> bool:
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
        return bool(self._heap) and self._heap[0][0] <= self._clock.monotonic()

    def _pause(self) -> float | None:
        if not self._heap:
            return None
        return min(max(self._heap[0][0] - self._clock.monotonic(), 0.0), threading.TIMEOUT_MAX)
