"""The backend on a Valkey server against a model that is a plain list, also through two handles."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import invariant

from pollin_actors.backends.conformance import NewBackend
from pollin_actors.backends.valkey import ValkeyBackend
from tests.backends.queue_machine import QueueMachine
from tests.backends.valkey_store import check_contents, client_of, read_contents
from tests.servers.valkey import new_url


class ValkeyMachine(QueueMachine):
    def new_store(self) -> NewBackend:
        self.url = new_url()
        self.prefix = self.url.rpartition("=")[2]
        self.client = client_of(self.url)
        return lambda: ValkeyBackend(self.url)

    def teardown(self) -> None:
        super().teardown()
        self.client.close()

    @invariant()
    def is_in_order(self) -> None:
        stored = read_contents(self.client, self.prefix, "e")
        check_contents(stored, self.prefix, "e")
        now = str(self.now)
        remembered = [row for row in stored.rows.values() if row.remembered > now]
        assert {row.id for row in remembered} == set(self.model.remembered)
        assert {row.fence for row in remembered if row.fence} == set(self.model.fences)


class TwoHandlesMachine(ValkeyMachine):
    handle_count = 2


TestValkeyAgainstModel = ValkeyMachine.TestCase
TestValkeyAgainstModel.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestTwoHandlesAgainstModel = TwoHandlesMachine.TestCase
TestTwoHandlesAgainstModel.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None
)
