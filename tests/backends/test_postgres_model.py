"""The backend on PostgreSQL against a model that is a plain list, also through two handles."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import invariant

from pollin_actors.backends.conformance import NewBackend
from pollin_actors.backends.postgres import PostgresBackend
from tests.backends.postgres_schema import ask, check_schema
from tests.backends.queue_machine import QueueMachine
from tests.servers import postgres


class PostgresMachine(QueueMachine):
    def new_store(self) -> NewBackend:
        self.url = postgres.new_schema()
        return lambda: PostgresBackend(self.url)

    def teardown(self) -> None:
        super().teardown()
        check_schema(self.url)

    @invariant()
    def remembers_the_same(self) -> None:
        query = """SELECT c.id, fence FROM callbacks AS c JOIN endpoints USING (queue)
            WHERE remembered_until > %s"""
        remembered = ask(self.url, query, self.now)
        assert {id for id, _ in remembered} == set(self.model.remembered)
        assert {fence for _, fence in remembered if fence} == set(self.model.fences)


class TwoHandlesMachine(PostgresMachine):
    handle_count = 2


TestPostgresAgainstModel = PostgresMachine.TestCase
TestPostgresAgainstModel.settings = settings(max_examples=10, stateful_step_count=40, deadline=None)
TestTwoHandlesAgainstModel = TwoHandlesMachine.TestCase
TestTwoHandlesAgainstModel.settings = settings(
    max_examples=10, stateful_step_count=40, deadline=None
)
