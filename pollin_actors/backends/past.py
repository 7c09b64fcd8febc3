"""What has happened in a queue in memory, and the callbacks that have left it."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from pollin_actors.backends.id_memory import NEVER
from pollin_actors.records import Kind, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set

    from pollin_actors.backends.queue_rows import Ended, Event, Row, Trail
    from pollin_actors.resources import Callback

__all__ = ["Past"]

# A number stands for the record that says that the row of this number was pushed.
Entry: TypeAlias = "int | Event"

_KINDS: Mapping[str, Kind] = MappingProxyType({str(kind.value): kind for kind in Kind})


def _position(entry: Entry) -> int:
    return entry if isinstance(entry, int) else entry[0]


def _newer(trail: Trail | None, than: Trail | None = None) -> list[Event]:
    """The events of a trail that were added to another, oldest first."""
    events = []
    while trail is not None and trail is not than:
        event, trail = trail
        events.append(event)
    events.reverse()
    return events


class Past:
    """The records of a queue, and what is kept of the callbacks that have left it.

    ``kept``, in the order in which they left, is the truth, and so is ``reset``, the record of the
    last reset; the rest is derived from these and from the rows that are queued. ``names`` has the
    numbers of what is kept by id, ``fences`` those of what is queued or kept by fence. ``log``
    holds all that was recorded, in the order of the positions. What is forgotten stays in it until
    that is the half of it, and is passed over. ``next_due`` is a time before which nothing has been
    kept for long enough; while ``even`` is true, they are due in the order in which they left.

    Arguments:
        rows: the rows that are queued, by number.
        limit: how many callbacks are kept at most; the first that left are forgotten first.
        reset: the record of the reset that it begins with, if any.
    """

    __slots__ = (
        "children",
        "even",
        "fences",
        "forgotten",
        "kept",
        "latest_due",
        "limit",
        "log",
        "names",
        "next_due",
        "reset",
        "rows",
    )

    def __init__(self, rows: Mapping[int, Row], limit: int, reset: Event | None = None) -> None:
        self.rows = rows
        self.children: dict[str, dict[int, None]] = {}
        self.fences: dict[str, tuple[int, ...]] = {}
        self.limit = limit
        self.reset = reset
        self.kept: OrderedDict[int, Ended] = OrderedDict()
        self.next_due = self.latest_due = 0
        self.derive()

    # -- keeping in step ---------------------------------------------------------------------------

    def derive(self) -> None:
        """Derive everything from what is kept and from the rows that are queued."""
        kept, rows = self.kept, self.rows
        while len(kept) > self.limit:
            kept.popitem(False)
        names: dict[str, tuple[int, ...]] = {}
        for number, ended in kept.items():
            names[ended.callback.id] = (*names.get(ended.callback.id, ()), number)
        log: list[Entry] = [] if self.reset is None else [self.reset]
        for number, ended in kept.items():
            log += (number, *_newer(ended.trail))
        for number, row in rows.items():
            if row.keep_ns:
                log += (number, *_newer(row.trail))
        log.sort(key=_position)
        self.names, self.log = names, log
        self.children, self.fences = {}, {}
        for number in sorted([*kept, *rows]):
            self._relate(number, self.life(number).callback)
        self.forgotten = 0
        self.even = False
        self._look_ahead()

    def pushed(self, number: int, row: Row) -> None:
        """Take note of a row that was pushed."""
        if row.keep_ns:
            self.log.append(number)
        if row.trail is not None:
            self.log += _newer(row.trail)
        self._relate(number, row.callback)

    def _relate(self, number: int, callback: Callback) -> None:
        parent, fence = callback.parent, callback.fence
        if parent is not None:
            self.children.setdefault(parent, {})[number] = None
        if fence is not None:
            self.add_fence(fence, number)

    def add_fence(self, fence: str, number: int) -> None:
        """Take note of the fence of a row that was pushed."""
        fences = self.fences
        fences[fence] = (*fences[fence], number) if fence in fences else (number,)

    def changed(self, trail: Trail | None, before: Trail | None) -> None:
        """Take note of what was added to the trail of a row."""
        if trail is not before:
            self.log += _newer(trail, before)

    def ended(self, number: int, before: Trail | None, ended: Ended) -> None:
        """Take note of a row that has left the queue and was put into ``kept``."""
        trail = ended.trail
        if trail is not None and trail[1] is before:
            self.log.append(trail[0])
        else:
            self.log += _newer(trail, before)
        key = ended.callback.id
        names = self.names
        names[key] = (*names[key], number) if key in names else (number,)
        until = ended.until
        if until < self.next_due:
            self.next_due = until
        if until < self.latest_due:
            self.even = False
        else:
            self.latest_due = until
        if len(self.kept) > self.limit:
            self._forget(*self.kept.popitem(False))

    def sort_from(self, start: int) -> None:
        """Bring in order what was recorded from this place of the log on."""
        self.log[start:] = sorted(self.log[start:], key=_position)

    def replace(self, number: int, ended: Ended) -> None:
        """Put another in the place of what is kept already."""
        trail = self.kept[number].trail
        self.kept[number] = ended
        self.changed(ended.trail, trail)

    def unrelate(self, number: int, callback: Callback) -> None:
        """Forget whose sub event it was, and its fence."""
        parent, fence = callback.parent, callback.fence
        siblings = None if parent is None else self.children.get(parent)
        if parent is not None and siblings is not None:
            siblings.pop(number, None)
            if not siblings:
                del self.children[parent]
        if fence is not None:
            left = tuple([other for other in self.fences.pop(fence, ()) if other != number])
            if left:
                self.fences[fence] = left

    # -- forgetting --------------------------------------------------------------------------------

    def last(self, key: str) -> Callback | None:
        """Return the last of that id that has left the queue and is kept."""
        for number in reversed(self.names.get(key, ())):
            ended = self.kept.get(number)
            if ended is not None:
                return ended.callback
        return None

    def last_like(self, callback: Callback) -> int | None:
        """Return the number of the last that is kept with its id, or else with its fence."""
        fence = callback.fence
        alike = () if fence is None else self.fences.get(fence, ())
        for number in (*reversed(self.names.get(callback.id, ())), *reversed(alike)):
            if number in self.kept:
                return number
        return None

    def forget(self, numbers: Iterable[int]) -> None:
        """Keep these no longer."""
        for number in numbers:
            ended = self.kept.pop(number, None)
            if ended is not None:
                self._forget(number, ended)

    def _forget(self, number: int, ended: Ended) -> None:
        callback, trail = ended.callback, ended.trail
        key, names = callback.id, self.names
        lives = names.pop(key)
        if len(lives) > 1:
            names[key] = tuple([other for other in lives if other != number])
        if callback.parent is not None or callback.fence is not None:
            self.unrelate(number, callback)
        self.forgotten += 1
        while trail is not None:
            self.forgotten += 1
            trail = trail[1]
        if self.forgotten > 64 + len(self.log) // 2:
            self._compact()

    def _compact(self) -> None:
        rows, kept, reset = self.rows, self.kept, self.reset
        self.log = [
            entry
            for entry in self.log
            if (number := entry if entry.__class__ is int else entry[1]) in kept  # type: ignore[index]
            or number in rows
            or entry is reset
        ]
        self.forgotten = 0

    def due(self, now: int, limit: int) -> tuple[int, ...]:
        """Return the numbers, at most ``limit``, of what has been kept for long enough."""
        if self.next_due > now:
            return ()
        due: list[int] = []
        for number, ended in self.kept.items():
            if len(due) == limit or (self.even and ended.until > now):
                break
            if ended.until <= now:
                due.append(number)
        if not due:
            self._look_ahead()
        return tuple(due)

    def _look_ahead(self) -> None:
        if self.even:
            first = next(iter(self.kept.values()), None)
            self.next_due = NEVER if first is None else first.until
            return
        untils = [ended.until for ended in self.kept.values()]
        self.latest_due = max(untils, default=0)
        self.next_due = min(untils, default=NEVER)
        self.even = untils == sorted(untils)

    def _is_known(self, entry: Entry) -> bool:
        number = entry if isinstance(entry, int) else entry[1]
        return number in self.rows or number in self.kept or entry is self.reset

    # -- looking -----------------------------------------------------------------------------------

    def life(self, number: int) -> Row | Ended:
        """The callback of this number, queued or kept.

        Raises:
            KeyError: it is neither.
        """
        row = self.rows.get(number)
        return self.kept[number] if row is None else row

    def records_of(self, numbers: Iterable[int], endpoint_id: str) -> list[Record]:
        """All records of these callbacks, by number."""
        entries: list[Entry] = []
        for number in numbers:
            entries += (number, *_newer(self.life(number).trail))
        return [self._record(entry, endpoint_id) for entry in entries]

    def page(
        self, after: int, limit: int, kinds: Set[Kind] | None, endpoint_id: str
    ) -> tuple[list[Record], int]:
        """Up to ``limit`` records after a position, and how far it has looked."""
        records: list[Record] = []
        cursor = after
        log = self.log
        for at in range(bisect_right(log, after, key=_position), len(log)):
            if len(records) == limit:
                break
            entry = log[at]
            cursor = _position(entry)
            kind = "pushed" if isinstance(entry, int) else entry[2]
            if (kinds is None or _KINDS[kind] in kinds) and self._is_known(entry):
                records.append(self._record(entry, endpoint_id))
        return records, cursor

    def _record(self, entry: Entry, endpoint_id: str) -> Record:
        if not isinstance(entry, int):
            position, number, kind, *rest = entry
            key = self.life(number).callback.id if number else ""
            values: tuple[Any, ...] = (position, endpoint_id, key, _KINDS[kind], *rest)
            return Record(*values)
        life = self.life(entry)
        callback, phase, at = life.callback, life.pushed_phase, life.pushed_at
        reason = callback.origin or ""
        return Record(entry, endpoint_id, callback.id, Kind.PUSHED, None, phase, at, "", 0, reason)

    def descendants(self, key: str, deep: bool) -> list[int]:
        """The numbers of the sub events of an id, and with ``deep`` of theirs, ascending."""
        found: set[int] = set()
        asked, left = {key}, [key]
        while left:
            for number in self.children.get(left.pop(), ()):
                found.add(number)
                name = self.life(number).callback.id
                if deep and name not in asked:
                    asked.add(name)
                    left.append(name)
        return sorted(found)
