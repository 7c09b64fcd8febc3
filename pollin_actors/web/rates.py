"""How many requests an endpoint takes in the long run, and at once."""

from __future__ import annotations

from pollin_actors.intake import Intake
from pollin_actors.otp.guard import Guard

__all__ = ["Rate"]


class Rate:
    """Counts requests against the rate of one endpoint. Any thread may ask.

    It keeps one number: the time at which all that was taken would have come, one by one at the
    rate's interval. A request is taken while that is less than a burst ahead of now.
    """

    __slots__ = ("_ahead", "_guard", "_interval", "_until", "terms")

    def __init__(self, intake: Intake) -> None:
        rate = intake.rate
        assert rate is not None
        self.terms = (rate, intake.burst)
        """The rate and the burst that it was made for."""
        self._interval = 1.0 / rate
        self._ahead = self._interval * (intake.burst or max(1.0, rate))
        self._until = 0.0
        self._guard = Guard()

    def wait(self, now: float) -> float:
        """Seconds until a request would be taken, 0 for at once; nothing is counted."""
        # A rounding error must not cost the last request of a burst.
        return max(0.0, self._until + self._interval - now - self._ahead - 1e-9)

    def take(self, now: float) -> float:
        """As ``wait``; a request that is taken is counted."""
        return self._guard.run(self._take, now)

    def give_back(self) -> None:
        """One that was counted has come to nothing, and counts no longer."""
        self._guard.run(self._give_back)

    def is_idle(self, now: float) -> bool:
        """Whether nothing counts any more: a new one would be the same."""
        return self._until <= now

    def _give_back(self) -> None:
        self._until -= self._interval

    def _take(self, now: float) -> float:
        wait = self.wait(now)
        if not wait:
            self._until = max(self._until, now) + self._interval
        return wait
