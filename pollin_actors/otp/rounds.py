"""A round of a supervisor: some children stop, then some start, one after another."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pollin_actors.otp.children import Child

__all__ = ["Round"]


class Round:
    """Children that stop in reverse order, and then start in order.

    Only the last of those to stop and the first of those to start are ever under way.

    Args:
        to_start: in the order of their start.
        to_stop: the same, of those that run.
        causes: whose restarts it is for; it starts nobody before these are due.
        initial: whether it is the supervisor's own start.
    """

    __slots__ = ("_queue", "_to_start", "causes", "initial", "stopping")

    def __init__(
        self, to_start: list[Child], to_stop: list[Child], causes: list[Child], *, initial: bool
    ) -> None:
        self._queue = deque(to_start)
        self._to_start = set(to_start)
        # Who has yet to end; the last is under way.
        self.stopping = to_stop
        self.causes = causes
        self.initial = initial

    @property
    def pending(self) -> set[Child]:
        """All who are still to stop or to start."""
        return {*self._to_start, *self.stopping}

    def starts(self, child: Child) -> bool:
        """Whether a child has yet to start in it."""
        return child in self._to_start

    def first(self) -> Child | None:
        """Who starts next, or is starting."""
        while self._queue and self._queue[0] not in self._to_start:
            self._queue.popleft()
        return self._queue[0] if self._queue else None

    def waiting(self) -> list[Child]:
        """Who has yet to start, in order."""
        return [child for child in self._queue if child in self._to_start]

    def leave(self, child: Child) -> None:
        """A child starts no more, or has started."""
        self._to_start.discard(child)

    def join(self, child: Child, order: list[Child]) -> None:
        """One more child starts in it, in its place in the order."""
        self._to_start.add(child)
        self._queue = deque(each for each in order if each in self._to_start)
