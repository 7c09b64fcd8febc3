"""Clocks: where the runtime reads the time."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What the runtime asks for the time. Implement both methods to inject a clock of your own."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back. Deadlines and timers use it."""
        ...

    def time_ns(self) -> int:
        """Nanoseconds since the Unix epoch. Timestamps and times to live use it."""
        ...


class SystemClock:
    """The operating system's clocks."""

    monotonic = staticmethod(time.monotonic)
    time_ns = staticmethod(time.time_ns)
