"""Attempts to log in: how many are let through."""

from __future__ import annotations

from collections import OrderedDict
from math import ceil

__all__ = ["Attempts"]

FAILURES = 5
"""That one address may have at once; then one more every ``EACH_S`` seconds."""
EACH_S = 12.0
ALL_FAILURES = 100
"""That all addresses together may have at once."""
ALL_EACH_S = 0.6
MOST = 10_000


class Attempts:
    """Counts failures to log in, of each address and of all.

    A bucket says when all of its failures would be forgiven: each failure adds to it.
    """

    def __init__(self) -> None:
        self._of: OrderedDict[str, float] = OrderedDict()
        self._all = 0.0

    def wait(self, address: str, now: float) -> int:
        """Seconds until an attempt from there is looked at; 0: now.

        Arguments:
            address: where it comes from.
            now: seconds, by a clock that does not go back.
        """
        own = self._of.get(address, 0.0) - now - (FAILURES - 1) * EACH_S
        every = self._all - now - (ALL_FAILURES - 1) * ALL_EACH_S
        return max(0, ceil(max(own, every)))

    def failed(self, address: str, now: float) -> None:
        """An attempt has failed."""
        self._of[address] = max(self._of.pop(address, 0.0), now) + EACH_S
        self._all = max(self._all, now) + ALL_EACH_S
        while len(self._of) > MOST:
            # The oldest: who comes from so many addresses meets the bucket of all.
            self._of.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """One has succeeded: those before it were typing errors."""
        self._of.pop(address, None)
