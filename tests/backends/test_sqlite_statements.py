"""What the statements cost, and rows that are not as we write them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pollin_actors.backends.sqlite import SqliteBackend, operations
from pollin_actors.backends.sqlite import statements as sql
from pollin_actors.backends.sqlite.schema import connect
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import (
    ClaimSlice,
    Count,
    CreateEndpoint,
    DeleteCallback,
    DeleteEndpoint,
    DumpPage,
    FetchSlice,
    IndexEndpoints,
    Pop,
    Push,
    Reset,
    Sweep,
    UpdateEndpoint,
)
from pollin_actors.resources import Callback, Endpoint, Request
from tests.backends.sqlite_file import check_file

STATEMENTS = {
    name: value
    for name, value in vars(sql).items()
    if isinstance(value, str)
    and value.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))
    and not name.startswith("_")
}
for family in ("SLICES", "AVAILABLE", "CLAIM", "ADVANCE", "MOVE"):
    STATEMENTS |= {f"{family} {key}": value for key, value in vars(sql)[family].items()}
for family in ("CLEAR", "STRIP"):
    STATEMENTS |= {f"{family} {key}": value for key, value in enumerate(vars(sql)[family])}
TABLES = ("callbacks", "requests", "history", "counts", "cursors")


def values_of(statement: str) -> list[int]:
    numbered = [int(number) for number in re.findall(r"\?(\d+)", statement)]
    return [1] * (max(numbered) if numbered else statement.count("?"))


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("plans") / "inbox.db"
    with closing(connect(str(path), "normal", 5.0)) as connection:
        yield connection


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_reads_a_whole_table_or_sorts(
    connection: sqlite3.Connection, name: str
) -> None:
    """Every table with a row per callback is entered by an index, and in its order."""
    statement = STATEMENTS[name]
    values = values_of(statement)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    for step in plan:
        assert not step.startswith(tuple(f"SCAN {table}" for table in TABLES)), plan
        # The records of one id: few, and of several callbacks if it was pushed again.
        assert name == "HISTORY" or "TEMP B-TREE" not in step, plan


@pytest.mark.parametrize("name", ["KNOWN", "KEY", "HISTORY", "RELATIVE", "LIKE_ID"])
def test_an_id_is_found_by_queue_and_id(connection: sqlite3.Connection, name: str) -> None:
    """By the queue alone, it would be looked for among a million."""
    statement = STATEMENTS[name]
    values = values_of(statement)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert any("callbacks_by_id (queue=? AND id=?)" in step for step in plan), plan


class Inbox:
    """A backend with the endpoint ``e``, and a connection besides."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 10**18
        self.backend = SqliteBackend(path, durability="normal")
        self.backend.open(lambda: self.now)
        self.do(CreateEndpoint(Endpoint.new(["received"], 1000, id="e", dedup_for=10)))

    def do(self, message: Any) -> Any:
        return self.backend.execute(message).get(timeout=60)

    def push(self, *ids: str) -> list[str]:
        return [
            str(self.do(Push("e", Callback.new(b"x", id=id), None, True)).outcome) for id in ids
        ]

    def sql(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    inbox = Inbox(tmp_path / "inbox.db")
    yield inbox
    inbox.backend.close()
    check_file(inbox.path)


class TestDroppedQueues:
    @pytest.mark.parametrize("message", [Reset("e"), DeleteEndpoint("e")])
    def test_are_gone_at_once_and_cleared_by_sweeps(
        self, inbox: Inbox, message: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some rows at a time; what has expired in them is not told as expired."""
        monkeypatch.setattr(operations, "_CLEAR_AT_ONCE", 3)
        ids = [f"c{number}" for number in range(7)]
        inbox.push(*ids)
        inbox.do(Pop("e"))
        assert inbox.do(message) == (6 if isinstance(message, Reset) else True)
        assert inbox.sql("SELECT count(*) FROM callbacks") == [(7,)]
        if isinstance(message, DeleteEndpoint):
            inbox.do(CreateEndpoint(Endpoint.new(["received"], 0, id="e")))
        assert inbox.do(Count("e")) == 0
        assert inbox.do(DumpPage("e")).callbacks == []
        assert inbox.push(*ids[:2]) == ["queued"] * 2

        inbox.now += 2_000_000_000
        swept = [inbox.do(Sweep()) for _ in range(8)]
        assert sum(swept) == (2 if isinstance(message, Reset) else 0)
        assert inbox.sql("SELECT number FROM queues WHERE dropped") == []
        for table in ("callbacks", "requests"):
            assert inbox.sql(f"SELECT count(*) FROM {table}") == [(2,)]
        inbox.backend.close()
        check_file(inbox.path)

    def test_are_cleared_also_after_a_restart(self, inbox: Inbox) -> None:
        inbox.push("a", "b")
        inbox.do(Reset("e"))
        inbox.backend.close()
        inbox.backend.open(lambda: inbox.now)
        for _ in range(3):
            inbox.do(Sweep())
        assert inbox.sql("SELECT count(*) FROM requests") == [(0,)]
        assert inbox.sql("SELECT count(*) FROM callbacks") == [(0,)]


class TestDamage:
    @pytest.mark.parametrize(
        "damage",
        [
            "headers = '[1]'",
            "headers = x'ff'",
            "headers = NULL",
            "kind = 2, body = 'x'",
            "kind = 2, body = x'ff'",
            "kind = 2, body = CAST('{\"$\": 5}' AS BLOB)",
            f"kind = 2, body = CAST('{'[' * 5000}' AS BLOB)",
            "created_at = -1",
        ],
    )
    def test_of_a_row_is_named_and_can_be_removed(self, inbox: Inbox, damage: str) -> None:
        """It is no fault of who asks, and no other callback's."""
        inbox.do(Push("e", Callback.new(Request([("a", "b")], b""), id="bad"), None, True))
        inbox.push("good")
        table = "callbacks" if "created_at" in damage else "requests"
        inbox.sql(f"UPDATE {table} SET {damage} WHERE position = 1")
        for message in (Pop("e"), FetchSlice("e"), ClaimSlice("e", None), Pop("e", "bad")):
            with pytest.raises(BackendUnavailable, match=r"callback 'bad' is damaged.*delete it"):
                inbox.do(message)
        assert inbox.do(Pop("e", "good")).id == "good"
        assert inbox.do(DeleteCallback("e", "bad")) is True
        assert inbox.do(Count("e")) == 0

    def test_of_an_endpoint_is_named_and_can_be_removed(self, inbox: Inbox) -> None:
        inbox.do(CreateEndpoint(Endpoint.new(id="good")))
        inbox.sql("UPDATE endpoints SET ttl = -1 WHERE id = 'e'")
        for message in (IndexEndpoints(), Pop("e")):
            with pytest.raises(BackendUnavailable, match="endpoint 'e' is damaged"):
                inbox.do(message)
        assert inbox.do(DeleteEndpoint("e")) is True
        assert [endpoint.id for endpoint in inbox.do(IndexEndpoints())] == ["good"]

    @pytest.mark.parametrize(
        "damage", ["old_secrets = '[1]'", "old_secrets = '{'", "intake = '['", "intake = '5'"]
    )
    def test_of_what_an_endpoint_takes_in_is_named(self, inbox: Inbox, damage: str) -> None:
        inbox.sql(f"UPDATE endpoints SET {damage}")
        with pytest.raises(BackendUnavailable, match="endpoint 'e' is damaged"):
            inbox.do(IndexEndpoints())


@pytest.mark.parametrize("intake", ['{"scheme": "of-a-later-version"}', '{"later": 1}'])
def test_an_endpoint_of_a_later_version_is_named(inbox: Inbox, intake: str) -> None:
    """It may have a scheme that is not known here; nothing is taken in for it meanwhile."""
    inbox.do(CreateEndpoint(Endpoint.new(id="good")))
    inbox.sql(f"UPDATE endpoints SET intake = '{intake}' WHERE id = 'e'")
    for message in (IndexEndpoints(), Pop("e"), Push("e", Callback.new(b""), None, True)):
        with pytest.raises(BackendUnavailable, match=r"endpoint 'e' .*; upgrade pollin-actors"):
            inbox.do(message)
    assert inbox.do(Pop("good")) is None
    known = Endpoint.new(id="e")
    assert inbox.do(UpdateEndpoint(known)) == known
    assert inbox.push("a") == ["queued"]


def test_a_fence_is_found_by_queue_and_fence(connection: sqlite3.Connection) -> None:
    """Also by the trigger that passes over what is known."""
    (trigger,) = connection.execute(
        "SELECT sql FROM sqlite_master WHERE name = 'callback_known'"
    ).fetchone()
    asked = re.search(
        r"SELECT 1 FROM callbacks WHERE queue = new.queue AND fence.*?\){3}", trigger, re.S
    )
    assert asked is not None
    found = re.sub(r"new\.\w+", "1", asked[0]).removesuffix(")")
    for statement in (
        found,
        STATEMENTS["KNOWN_FENCE"],
        STATEMENTS["FENCED"],
        STATEMENTS["LIKE_FENCE"],
    ):
        values = values_of(statement)
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
        assert any("callbacks_by_fence (queue=? AND fence=?)" in step for step in plan), plan


def test_a_file_that_a_newer_version_has_changed_meanwhile_is_let_be(inbox: Inbox) -> None:
    """Its statements may not fit the new schema."""
    inbox.push("a")
    (before,) = inbox.sql("PRAGMA user_version")[0]
    inbox.sql("PRAGMA user_version = 99")
    with pytest.raises(BackendUnavailable, match="schema version 99"):
        inbox.push("b")
    inbox.sql(f"PRAGMA user_version = {before}")
    assert inbox.push("b") == ["queued"]


def test_short_processes_forget_too(inbox: Inbox) -> None:
    """Each forgets some of what is due at its first push: requests first, then ids."""
    inbox.do(UpdateEndpoint(Endpoint.new(["received"], 0, id="e", dedup_for=10, keep_for=5)))
    inbox.push("a")
    inbox.do(Pop("e"))
    held = []
    for id in "bc":
        inbox.now += 6_000_000_000
        inbox.backend.close()
        inbox.backend.open(lambda: inbox.now)
        inbox.push(id)
        rows = inbox.sql("SELECT id FROM callbacks ORDER BY id")
        held.append((rows, *(inbox.sql(f"SELECT count(*) FROM {it}")[0][0] for it in TABLES[1:3])))
    assert held == [([("a",), ("b",)], 1, 1), ([("b",), ("c",)], 2, 2)]
