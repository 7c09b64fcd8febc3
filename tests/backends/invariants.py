"""What has to hold in a queue in memory, whatever happened before."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    assert queue.keys == {row[0].id: number for number, row in rows.items()}
    phases = {row[0].phase for row in rows.values()}
    assert phases <= set(queue.indexes)
    for phase, index in queue.indexes.items():
        expected = [number for number, row in rows.items() if row[0].phase == phase]
        assert list(index) == expected
        assert len(index) == len(expected)
    heap = queue.expiries
    assert all(heap[(at - 1) // 2] <= heap[at] for at in range(1, len(heap)))
    assert {entry for entry in heap if entry[1] in rows} == {
        (row[1], number) for number, row in rows.items() if row[1] is not None
    }
    assert len(heap) <= 2 * len(rows) + 64
    ids = queue.ids
    for key, until in [*ids.recent.items(), *ids.older.items()]:
        assert ids.next_purge <= until, key
    assert list(ids.older.values()) == sorted(ids.older.values())


def check_backend(backend: MemoryBackend) -> None:
    """Assert that every endpoint that is not deleted is in order, and that no guard is held."""
    assert not backend._guard.is_held()
    for endpoint_id, queue in backend._queues.items():
        assert queue.endpoint.id == endpoint_id
        if not queue.deleted:
            check_queue(queue)
