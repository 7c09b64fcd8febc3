"""What has to hold in a queue in memory, whatever happened before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pollin_actors.records import MAX_REPEATS

if TYPE_CHECKING:
    from pollin_actors.backends.callback_queue import CallbackQueue
    from pollin_actors.backends.memory import MemoryBackend

__all__ = ["check_backend", "check_queue"]


def check_queue(queue: CallbackQueue) -> None:
    """Assert that everything derived agrees with the rows. Finishes an interrupted change."""
    assert not queue.guard.is_held()
    queue.settle()
    assert queue.pending is None
    rows = queue.rows
    assert list(rows) == sorted(rows)
    assert queue.keys == {row.callback.id: number for number, row in rows.items()}
    heap = queue.expiries
    assert is_heap(heap)
    assert set(heap) >= {
        (row.ends_at, number) for number, row in rows.items() if row.ends_at is not None
    }
    assert len(heap) <= 2 * len(rows) + 64
    ids = queue.ids
    for key, until in [*ids.recent.items(), *ids.older.items()]:
        assert ids.next_purge <= until, key
    assert list(ids.older.values()) == sorted(ids.older.values())
    if queue.sizes is not None:
        assert queue.sizes.total() == sum(row.callback.size for row in rows.values())
        assert set(queue.sizes.by_number) == set(rows)
    check_places(queue)
    check_past(queue)


def is_heap(heap: list[Any]) -> bool:
    return all(heap[(at - 1) // 2] <= heap[at] for at in range(1, len(heap)))


def check_places(queue: CallbackQueue) -> None:
    rows, places = queue.rows, queue.places
    assert places.rows is rows
    where: dict[int, tuple[str, bool]] = {}
    for indexes, is_held in ((places.indexes, False), (places.held, True)):
        for phase, index in indexes.items():
            numbers = list(index)
            assert numbers == sorted(set(numbers))
            assert len(index) == len(numbers)
            assert not where.keys() & set(numbers)
            where.update(dict.fromkeys(numbers, (phase, is_held)))
    assert {number: phase for number, (phase, _) in where.items()} == {
        number: row.callback.phase for number, row in rows.items()
    }
    assert places.holding == {number for number, (_, is_held) in where.items() if is_held}
    assert places.claimed == sum(row.hold is not None for row in rows.values())
    assert is_heap(places.dues)
    assert len(places.dues) <= 4 * len(places.holding) + 65
    groups: dict[tuple[str, str], set[int]] = {}
    for number, row in rows.items():
        if row.callback.ordering_key is not None:
            groups.setdefault((row.callback.phase, row.callback.ordering_key), set()).add(number)
    assert groups.keys() == places.groups.keys()
    for key, members in groups.items():
        group = places.groups[key]
        assert {group.front, *group.waiting} == members
        assert len(group.waiting) == len(members) - 1
        assert set(group.waiting) <= places.holding
        ends_at = rows[group.front].ends_at
        if group.waiting and ends_at is not None:
            assert any(at <= ends_at and number == group.front for at, number in places.dues)
        for number in group.waiting:
            assert rows[number].hold is None
    for number in rows.keys() - places.holding:
        assert rows[number].hold is None
    fronts = places.holding - {n for group in places.groups.values() for n in group.waiting}
    for number in fronts:
        hold = rows[number].hold
        assert (rows[number].ready_at if hold is None else hold.until, number) in places.dues


def check_past(queue: CallbackQueue) -> None:
    rows, past = queue.rows, queue.past
    assert past.rows is rows
    assert not rows.keys() & past.kept.keys()
    assert len(past.kept) <= past.limit
    names: dict[str, list[int]] = {}
    for number, ended in past.kept.items():
        names.setdefault(ended.callback.id, []).append(number)
        assert past.next_due <= ended.until
    assert {key: list(numbers) for key, numbers in past.names.items()} == names
    untils = [ended.until for ended in past.kept.values()]
    assert not past.even or untils == sorted(untils)
    lives: dict[int, Any] = {**rows, **past.kept}
    parents: dict[str, list[int]] = {}
    for number in sorted(lives):
        if lives[number].callback.parent is not None:
            parents.setdefault(lives[number].callback.parent, []).append(number)
    assert {key: list(numbers) for key, numbers in past.children.items()} == parents
    fences: dict[str, list[int]] = {}
    for number in sorted(lives):
        if lives[number].callback.fence is not None:
            fences.setdefault(lives[number].callback.fence, []).append(number)
    assert {key: list(numbers) for key, numbers in past.fences.items()} == fences
    positions = [entry if isinstance(entry, int) else entry[0] for entry in past.log]
    assert positions == sorted(set(positions))
    expected = set() if past.reset is None else {past.reset[0]}
    for number, life in lives.items():
        if number in rows and not life.keep_ns:
            assert life.trail is None
            continue
        expected.add(number)
        trail, repeats = life.trail, 0
        while trail is not None:
            assert trail[0][1] == number
            expected.add(trail[0][0])
            repeats += trail[0][2] == "repeated"
            trail = trail[1]
        assert life.repeats == repeats <= MAX_REPEATS
    assert expected <= set(positions)
    assert len(positions) == len(expected) + past.forgotten


def check_backend(backend: MemoryBackend) -> None:
    """Assert that every endpoint that is not deleted is in order, and that no guard is held."""
    assert not backend._guard.is_held()
    for endpoint_id, queue in backend._queues.items():
        assert queue.endpoint.id == endpoint_id
        if not queue.deleted:
            check_queue(queue)
