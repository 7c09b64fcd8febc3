"""Saying the same not too often, and how often it was left out."""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["Seldom"]

MOST = 1_000
"""Keys that are remembered; what comes on top is taken for one and the same."""


class _Others:
    """The key of all that come on top."""


_OTHERS = _Others()


class Seldom:
    """Lets so much of each kind through in an interval, and counts the rest.

    Who sends rubbish, or a handler that fails with everything, must not fill the log. Threads may
    share it: at worst a line too many or too few is let through.

    Args:
        burst: how many of a key in one interval.
        interval: seconds.
    """

    __slots__ = ("_burst", "_interval", "_sweep_at", "_told")

    def __init__(self, burst: int = 1, interval: float = 1.0) -> None:
        self._burst = burst
        self._interval = interval
        # When the interval ends, how many were let through in it, how many were left out.
        self._told: dict[Hashable, tuple[float, int, int]] = {}
        # When it may be looked for what is over again.
        self._sweep_at = float("-inf")

    def admit(self, key: Hashable, now: float) -> int | None:
        """Whether to say it.

        Args:
            key: what is alike.
            now: seconds, by a clock that does not go back.

        Returns:
            None to say nothing; else how many were left out since it was last said.
        """
        if key not in self._told and len(self._told) >= MOST:
            self._sweep(now)
            if len(self._told) >= MOST:
                key = _OTHERS
        until, told, more = self._told.get(key, (now, 0, 0))
        if now >= until:
            until, told = now + self._interval, 0
        if told >= self._burst:
            self._told[key] = (until, told, more + 1)
            return None
        self._told[key] = (until, told + 1, 0)
        return more

    def _sweep(self, now: float) -> None:
        """Forget those whose interval is over; once in an interval, as it takes a while."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + self._interval
        for key, (until, _, _) in self._told.copy().items():
            if now >= until:
                self._told.pop(key, None)
