"""The ids that were pushed, and until when each is remembered."""

from __future__ import annotations

from collections import OrderedDict
from operator import itemgetter

__all__ = ["NEVER", "IdMemory", "fence_key"]

NEVER = 1 << 63
"""Later than every time: nanoseconds since the epoch."""


def fence_key(fence: str) -> str:
    """Under what a fence is remembered: no id can be that."""
    return f"\0{fence}"


class IdMemory:
    """Remembers ids, and forgets them in time order at O(1) each.

    ``recent`` and ``older`` map an id to the time until which it is remembered, in nanoseconds
    since the epoch. Each is ordered by that time, because ids are added with one and the same
    delay; when the delay changes, :meth:`delay_changed` moves all there are to ``older``.
    ``next_purge`` is the time before which no id is due. An interrupt between any two steps
    forgets nothing that is not due.
    """

    __slots__ = ("next_purge", "older", "recent")

    def __init__(self) -> None:
        self.recent: OrderedDict[str, int] = OrderedDict()
        self.older: OrderedDict[str, int] = OrderedDict()
        self.next_purge = NEVER

    def __len__(self) -> int:
        return len(self.recent.keys() | self.older.keys())

    def remembers(self, key: str, now: int) -> bool:
        """Say whether the id is remembered at this time."""
        return self.recent.get(key, 0) > now or self.older.get(key, 0) > now

    def add(self, key: str, until: int | None, now: int) -> None:
        """Remember an id until then, if at all, and forget those that are due now."""
        # Taken out first: it belongs at the end.
        self.recent.pop(key, None)
        if until is not None:
            # The bound first: it must hold also if an interrupt comes in between.
            if until < self.next_purge:
                self.next_purge = until
            self.recent[key] = until
        if self.next_purge <= now:
            self.purge(now)

    def restore(self, key: str, until: int) -> None:
        """Add an id that is missing because its push was interrupted."""
        recent = self.recent
        if recent.get(key) == until or self.older.get(key) == until:
            return
        # There may be one that was due, of a push before.
        recent.pop(key, None)
        newest = next(reversed(recent.values())) if recent else 0
        recent[key] = until
        if until < newest:
            # Not the interrupted push after all, but one that was due and is still queued.
            recent.move_to_end(key, False)
        self.next_purge = 0

    def delay_changed(self) -> None:
        """Prepare for ids that are remembered for a longer or shorter time than those so far."""
        if not self.recent:
            return
        merged = {**self.older, **self.recent}
        # First the union, then the part: an interrupt in between leaves some ids in both.
        self.older = OrderedDict(sorted(merged.items(), key=itemgetter(1)))
        self.recent = OrderedDict()
        self.next_purge = 0

    def purge(self, now: int) -> None:
        """Forget the ids that are due and set when to look again."""
        earliest = NEVER
        for ids in (self.older, self.recent):
            while ids:
                key, until = next(iter(ids.items()))
                if until > now:
                    earliest = min(earliest, until)
                    break
                ids.pop(key, None)
        self.next_purge = earliest
