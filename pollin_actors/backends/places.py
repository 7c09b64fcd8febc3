"""Which callbacks of a queue in memory are available, and what the others wait for."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, TypeAlias

from pollin_actors.backends.ordered_index import OrderedIndex

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pollin_actors.backends.queue_rows import Row

__all__ = ["Group", "Groups", "Places"]


class Group:
    """Rows of one phase with one ordering key: the one whose turn it is, and those who wait."""

    __slots__ = ("front", "waiting")

    def __init__(self, front: int) -> None:
        self.front = front
        self.waiting = OrderedIndex()


Groups: TypeAlias = "dict[tuple[str, str], Group]"


class Places:
    """The numbers of rows by phase: in ``indexes`` those that are available, in ``held`` the rest.

    A row is held while it is claimed, waits for its time, or for the front of its group. It does
    not leave by itself when its time has come, but with the next :meth:`notice`: ``dues`` is a
    heap of such times. An entry that has become wrong does no harm and is dropped when it comes
    up, because everything that changes a row's time adds an entry.

    Everything here can be derived from the rows, but for one thing: which row of a group is its
    front. So what is derived anew asks the groups that there were: a front that is still in its
    group stays it, else the first is next.

    Arguments:
        rows: the rows that are queued, by number.
        groups: the groups that there were before.
    """

    __slots__ = ("claimed", "dues", "groups", "held", "holding", "indexes", "rows")

    def __init__(self, rows: Mapping[int, Row], groups: Groups) -> None:
        self.rows = rows
        self.indexes: dict[str, OrderedIndex] = {}
        self.held: dict[str, OrderedIndex] = {}
        self.holding: set[int] = set()
        self.dues: list[tuple[int, int]] = []
        self.groups: Groups = {}
        self.claimed = 0
        self._keep_fronts(groups)
        numbers: dict[str, list[int]] = {}
        for number, row in rows.items():
            callback = row.callback
            if callback.ordering_key is None and row.hold is None and not row.ready_at:
                numbers.setdefault(callback.phase, []).append(number)
        self.indexes = {phase: OrderedIndex(found) for phase, found in numbers.items()}
        for number, row in rows.items():
            if row.callback.ordering_key is not None or row.hold is not None or row.ready_at:
                self.add(number, row)

    def _keep_fronts(self, groups: Groups) -> None:
        for key, group in groups.items():
            row = self.rows.get(group.front)
            if row is not None and (row.callback.phase, row.callback.ordering_key) == key:
                self.groups[key] = Group(group.front)

    # -- rows come, change and go ------------------------------------------------------------------

    def add(self, number: int, row: Row) -> None:
        """Place a row that is new in its phase."""
        ordering_key = row.callback.ordering_key
        if ordering_key is not None:
            key = row.callback.phase, ordering_key
            group = self.groups.get(key)
            if group is None:
                self.groups[key] = group = Group(number)
            if group.front != number:
                is_first = not group.waiting
                group.waiting.add(number)
                self._hold(row.callback.phase, number)
                if is_first:
                    self._await_end(group)
                return
            self._await_end(group)
        self._show(number, row)

    def change(self, number: int, old: Row, row: Row) -> None:
        """Place a row anew that stays in its phase."""
        self._hide(number, old)
        ordering_key = row.callback.ordering_key
        if ordering_key is not None:
            group = self.groups[row.callback.phase, ordering_key]
            if group.front != number:
                self._hold(row.callback.phase, number)
                return
            self._await_end(group)
        self._show(number, row)

    def remove(self, number: int, row: Row) -> None:
        """Take out a row that has left its phase, and let the next of its group come."""
        self._hide(number, row)
        ordering_key = row.callback.ordering_key
        if ordering_key is None:
            return
        key = row.callback.phase, ordering_key
        group = self.groups[key]
        group.waiting.discard(number)
        if group.front != number:
            return
        following = group.waiting.first()
        if following is None:
            del self.groups[key]
            return
        group.front = following
        group.waiting.discard(following)
        self._await_end(group)
        behind = self.rows[following]
        self._hide(following, behind)
        self._show(following, behind)

    def _show(self, number: int, row: Row) -> None:
        """Put a row that waits for no other where it belongs."""
        phase = row.callback.phase
        if row.hold is not None:
            self.claimed += 1
            self._hold(phase, number)
            heappush(self.dues, (row.hold.until, number))
        elif row.ready_at:
            # Without a look at the clock: if it is due already, the next notice shows it.
            self._hold(phase, number)
            heappush(self.dues, (row.ready_at, number))
        else:
            self._index(self.indexes, phase).add(number)
        if len(self.dues) > 4 * len(self.holding) + 64:
            self._compact()

    def _hide(self, number: int, row: Row) -> None:
        phase = row.callback.phase
        if number in self.holding:
            self.holding.discard(number)
            self.held[phase].discard(number)
            if row.hold is not None:
                self.claimed -= 1
        else:
            self.indexes[phase].discard(number)

    def _hold(self, phase: str, number: int) -> None:
        self.holding.add(number)
        self._index(self.held, phase).add(number)

    def _index(self, indexes: dict[str, OrderedIndex], phase: str) -> OrderedIndex:
        index = indexes.get(phase)
        if index is None:
            index = indexes[phase] = OrderedIndex()
        return index

    # -- time --------------------------------------------------------------------------------------

    def _await_end(self, group: Group) -> None:
        """Have it noticed when the front expires: the next is available then."""
        front = self.rows.get(group.front)
        if front is not None and front.expires_at is not None and group.waiting:
            heappush(self.dues, (front.expires_at, group.front))

    def _group(self, row: Row) -> Group | None:
        ordering_key = row.callback.ordering_key
        return None if ordering_key is None else self.groups.get((row.callback.phase, ordering_key))

    def notice(self, now: int) -> list[int]:
        """Make available what waited for a time that has come.

        Returns:
            The numbers of rows whose lease has ended. They stay held until they are changed.
        """
        dues = self.dues
        lapsed: dict[int, None] = {}
        while dues and dues[0][0] <= now:
            number = heappop(dues)[1]
            row = self.rows.get(number)
            if row is None or number not in self.holding:
                continue
            if row.hold is not None:
                if row.hold.until <= now:
                    lapsed[number] = None
            elif row.ready_at <= now and self._is_next(number, self._group(row)):
                self._hide(number, row)
                self._index(self.indexes, row.callback.phase).add(number)
        return list(lapsed)

    def next_at(self) -> int | None:
        """The earliest time at which more may become available by itself."""
        dues = self.dues
        while dues and not self._may_wake(*dues[0]):
            heappop(dues)
        return dues[0][0] if dues else None

    def _may_wake(self, at: int, number: int) -> bool:
        row = self.rows.get(number)
        if row is None:
            return False
        group = self._group(row)
        if not self._is_next(number, group):
            return False
        due = row.ready_at if row.hold is None else row.hold.until
        if due == at and number in self.holding:
            return True
        # Its end lets the next of its group come.
        return row.expires_at == at and group is not None and bool(group.waiting)

    def _is_next(self, number: int, group: Group | None) -> bool:
        return group is None or group.front == number

    def _compact(self) -> None:
        # One time of its own and, in a group, one of its end.
        kept = [entry for entry in set(self.dues) if self._may_wake(*entry)]
        heapify(kept)
        self.dues = kept

    # -- looking -----------------------------------------------------------------------------------

    def first(self) -> int | None:
        """The first that is available."""
        found = None
        for index in self.indexes.values():
            head = index.first()
            if head is not None and (found is None or head < found):
                found = head
        return found

    def available(self, phase: str | None, offset: int, limit: int) -> list[int]:
        """A slice of what is available, of one phase or of all, ascending."""
        if phase is not None:
            index = self.indexes.get(phase)
            return [] if index is None else index.slice(offset, limit)
        wanted = offset + limit
        found = [number for index in self.indexes.values() for number in index.slice(0, wanted)]
        return sorted(found)[offset:wanted]

    def slice(self, phase: str, offset: int, limit: int, reverse: bool) -> list[int]:
        """A slice of all that is in a phase, ascending or, in reverse, descending."""
        parts = self._parts(phase)
        if len(parts) == 1:
            index = parts[0]
            return index.slice_reverse(offset, limit) if reverse else index.slice(offset, limit)
        wanted = offset + limit
        found = [
            number
            for index in parts
            for number in (index.slice_reverse(0, wanted) if reverse else index.slice(0, wanted))
        ]
        return sorted(found, reverse=reverse)[offset:wanted]

    def after(self, number: int, limit: int) -> list[int]:
        """Up to ``limit`` numbers of any phase that are larger than that one, ascending."""
        parts = [*self.indexes.values(), *self.held.values()]
        return sorted(found for index in parts for found in index.after(number, limit))[:limit]

    def count(self, phase: str) -> int:
        """How many are in a phase."""
        return sum(map(len, self._parts(phase)))

    def drop_empty(self) -> None:
        """Forget the phases in which there is nothing."""
        self.indexes = {phase: index for phase, index in self.indexes.items() if index}
        self.held = {phase: index for phase, index in self.held.items() if index}

    def _parts(self, phase: str) -> list[OrderedIndex]:
        parts = (self.indexes.get(phase), self.held.get(phase))
        return [index for index in parts if index]
