"""Restart intensity and back-off, as pure functions over a monotonic clock."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from pollin_actors.otp.errors import InvalidSpec

__all__ = ["Backoff", "Intensity"]


@dataclass(frozen=True, slots=True)
class Intensity:
    """How many restarts in how many seconds a supervisor allows before it gives up.

    Args:
        max_restarts: an int >= 0. With 0 the first crash of a permanent child is one too many.
        max_seconds: > 0. A restart at ``t`` counts while ``now - t <= max_seconds``.
    """

    max_restarts: int = 3
    max_seconds: float = 5.0

    def __post_init__(self) -> None:
        restarts, seconds = self.max_restarts, self.max_seconds
        if not isinstance(restarts, int) or isinstance(restarts, bool) or restarts < 0:
            raise InvalidSpec("max_restarts", "an int >= 0", restarts)
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not number or not isfinite(seconds) or seconds <= 0:
            raise InvalidSpec("max_seconds", "a number of seconds > 0", seconds)

    def record(self, history: Sequence[float], now: float) -> tuple[list[float], bool]:
        """Count one more restart attempt.

        Args:
            history: the times of earlier attempts, oldest first.
            now: the time of this one, in seconds on a monotonic clock.

        Returns:
            The attempts that count now, this one included, and whether it is still allowed.
        """
        first = bisect_left(history, True, key=lambda t: now - t <= self.max_seconds)
        counting = [*history[first:], now]
        return counting, len(counting) <= self.max_restarts


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a child that keeps crashing waits for its next restart.

    The first restart after a quiet time is immediate; the next waits ``first`` seconds, and each
    further one twice as long, up to ``most``. A child that ran for ``reset_after`` seconds begins
    anew. Up to ``jitter`` of each wait is left out at random, so that children that crash together
    do not come back together.

    Args:
        first: seconds.
        most: seconds.
        reset_after: seconds.
        jitter: a share between 0 (exact waits) and 1 (anything up to the whole wait).
    """

    first: float = 0.1
    most: float = 5.0
    reset_after: float = 10.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        for field in ("first", "most", "reset_after"):
            value = getattr(self, field)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not isfinite(value) or value < 0:
                raise InvalidSpec(f"Backoff.{field}", "a number of seconds >= 0", value)
        number = isinstance(self.jitter, int | float) and not isinstance(self.jitter, bool)
        if not number or not 0 <= self.jitter <= 1:
            raise InvalidSpec("Backoff.jitter", "a number between 0 and 1", self.jitter)

    def delay(self, crashes: int, draw: float = 0.0) -> float:
        """Seconds to wait before a restart.

        Args:
            crashes: how often in a row the child has crashed.
            draw: a random number between 0 and 1; 0 for the longest wait.
        """
        if crashes <= 1:
            return 0.0
        wait = min(self.most, self.first * 2.0 ** min(crashes - 2, 60))
        return wait * (1.0 - self.jitter * draw)
