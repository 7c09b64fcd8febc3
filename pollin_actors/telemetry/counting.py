"""Numbers that many threads add to, without a lock.

``cell[i] += n`` on a list of numbers is done in one go: the interpreter lets other threads on only
at calls and at jumps backwards, and there is neither within it. So nothing is lost, and no
interrupt and no signal handler can find anything locked.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TypeAlias

__all__ = ["Counts", "Key", "Timings"]

Key: TypeAlias = tuple[str, ...]
"""Values of labels."""


class Counts:
    """How often something has happened, by labels."""

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells: dict[Key, list[int]] = {}

    def add(self, key: Key) -> None:
        """Count once more."""
        self.cell(key)[0] += 1

    def cell(self, key: Key) -> list[int]:
        """Where that is counted: for who counts the same again and again. It counts no more once
        it is forgotten."""
        cell = self._cells.get(key)
        return self._cells.setdefault(key, [0]) if cell is None else cell

    def items(self) -> Iterator[tuple[Key, int]]:
        """All that was counted so far."""
        for key, cell in self._cells.copy().items():
            yield key, cell[0]

    def forget(self, label: str) -> None:
        """Let go of what has this value as its first label."""
        for key in self._cells.copy():
            if key[0] == label:
                self._cells.pop(key, None)


class Timings:
    """How long something has taken, by labels.

    Args:
        bounds: upper bounds of the buckets in seconds, ascending; one without a bound comes last.
    """

    __slots__ = ("_cells", "bounds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = list(bounds)
        self._cells: dict[Key, list[float]] = {}

    def add(self, key: Key, seconds: float) -> None:
        """One more."""
        cell = self.cell(key)
        place = bisect_left(self.bounds, seconds) + 1
        cell[place] += 1
        cell[0] += seconds

    def cell(self, key: Key) -> list[float]:
        """The sum of seconds, and the counts of the buckets; as of ``Counts``."""
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells.setdefault(key, [0.0] + [0] * (len(self.bounds) + 1))
        return cell

    def items(self) -> Iterator[tuple[Key, list[int], float]]:
        """All of them: how many took at most each bound, and the sum of seconds."""
        for key, cell in self._cells.copy().items():
            total, *counts = cell.copy()
            below, cumulative = 0, []
            for count in counts:
                below += int(count)
                cumulative.append(below)
            yield key, cumulative, total

    def forget(self, label: str) -> None:
        """Let go of what has this value as its first label."""
        for key in self._cells.copy():
            if key[0] == label:
                self._cells.pop(key, None)
