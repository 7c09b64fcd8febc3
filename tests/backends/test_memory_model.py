"""The backend in memory against a model that is a plain list."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import invariant

from pollin_actors.backends.conformance import NewBackend
from pollin_actors.backends.id_memory import fence_key
from pollin_actors.backends.memory import MemoryBackend
from tests.backends.invariants import check_backend
from tests.backends.queue_machine import QueueMachine


class MemoryMachine(QueueMachine):
    def new_store(self) -> NewBackend:
        return MemoryBackend

    @invariant()
    def agrees(self) -> None:
        """The insides agree too: a message would drop what has expired before one could look."""
        backend = self.backend
        assert isinstance(backend, MemoryBackend)
        queue = backend._queues["e"]
        check_backend(backend)
        visible = [
            row.callback
            for row in queue.rows.values()
            if row.ends_at is None or row.ends_at > self.now
        ]
        assert visible == self.model.filtered(None)
        remembered = {**queue.ids.older, **queue.ids.recent}
        due = {key for key, until in remembered.items() if until > self.now}
        assert due == {*self.model.remembered, *map(fence_key, self.model.fences)}


TestMemoryAgainstModel = MemoryMachine.TestCase
TestMemoryAgainstModel.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
