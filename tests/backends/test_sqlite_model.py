"""The backend on a SQLite file against a model that is a plain list, also through two handles."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis.stateful import invariant

from pollin_actors.backends.conformance import NewBackend
from pollin_actors.backends.sqlite import SqliteBackend
from tests.backends.queue_machine import QueueMachine
from tests.backends.sqlite_file import check_file


class SqliteMachine(QueueMachine):
    def new_store(self) -> NewBackend:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "inbox.db"
        return lambda: SqliteBackend(self.path, durability="normal")

    def teardown(self) -> None:
        super().teardown()
        with self.folder:
            check_file(self.path)

    @invariant()
    def remembers_the_same(self) -> None:
        connection = sqlite3.connect(self.path)
        try:
            query = (
                "SELECT callbacks.id, fence FROM callbacks JOIN endpoints USING (queue) "
                "WHERE remembered_until > ?"
            )
            remembered = connection.execute(query, (self.now,)).fetchall()
        finally:
            connection.close()
        assert {id for id, _ in remembered} == set(self.model.remembered)
        assert {fence for _, fence in remembered if fence} == set(self.model.fences)


class TwoHandlesMachine(SqliteMachine):
    handle_count = 2


TestSqliteAgainstModel = SqliteMachine.TestCase
TestSqliteAgainstModel.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestTwoHandlesAgainstModel = TwoHandlesMachine.TestCase
TestTwoHandlesAgainstModel.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None
)
