"""How many bytes a queue in memory holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pollin_actors.backends.queue_rows import Row

__all__ = ["Sizes"]


class Sizes:
    """The sizes of rows, by phase. They are counted only once somebody has asked for them.

    Each row is measured once: a request that changes later must not upset the sum.

    Arguments:
        rows: the rows that are queued, by number.
    """

    __slots__ = ("by_number", "by_phase")

    def __init__(self, rows: Mapping[int, Row]) -> None:
        self.by_number: dict[int, int] = {}
        self.by_phase: dict[str, int] = {}
        for number, row in rows.items():
            self.add(number, row)

    def add(self, number: int, row: Row) -> None:
        """Count a row that is new."""
        self.by_number[number] = size = row.callback.size
        self._count(row.callback.phase, size)

    def remove(self, number: int, phase: str) -> None:
        """Count a row in this phase no longer."""
        self._count(phase, -self.by_number.pop(number))

    def move(self, number: int, before: str, phase: str) -> None:
        """Count a row in another phase."""
        size = self.by_number[number]
        self._count(before, -size)
        self._count(phase, size)

    def total(self, phases: Collection[str] = ()) -> int:
        """The bytes in these phases, or in all."""
        wanted = phases or self.by_phase
        return sum(self.by_phase.get(phase, 0) for phase in wanted)

    def _count(self, phase: str, size: int) -> None:
        left = self.by_phase.get(phase, 0) + size
        if left:
            self.by_phase[phase] = left
        else:
            self.by_phase.pop(phase, None)
