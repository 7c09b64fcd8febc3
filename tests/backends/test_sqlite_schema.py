"""Files of older versions are brought up to date when they are opened, or left as they were."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pollin_actors.backends.sqlite import SqliteBackend, schema
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import (
    ClaimSlice,
    Count,
    CreateEndpoint,
    FetchSlice,
    HistoryPage,
    IndexEndpoints,
    Push,
    RotateSecret,
    Stats,
    Sweep,
)
from pollin_actors.records import Kind
from pollin_actors.resources import Callback, Endpoint, Secret
from tests.backends.sqlite_file import check_file

NOW = len(schema.MIGRATIONS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of this version, with one callback."""
    backend = SqliteBackend(tmp_path / "inbox.db")
    backend.open(time.time_ns)
    backend.execute(CreateEndpoint(Endpoint.new(id="e"))).get()
    backend.execute(Push("e", Callback.new(b"x"), None, True)).get()
    backend.close()
    return tmp_path / "inbox.db"


def version(path: Path) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def columns(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[1] for row in connection.execute("PRAGMA table_info(endpoints)")]


def newer(monkeypatch: pytest.MonkeyPatch, *steps: tuple[str, ...]) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, *steps))


def test_all_steps_are_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By several that open the file at once, and by one of them only."""
    newer(
        monkeypatch,
        ("ALTER TABLE endpoints ADD COLUMN first TEXT",),
        ("ALTER TABLE endpoints ADD COLUMN second TEXT", "UPDATE endpoints SET second = 'x'"),
    )
    backends = [SqliteBackend(path, busy_timeout=60) for _ in range(6)]
    threads = [threading.Thread(target=b.open, args=(time.time_ns,)) for b in backends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = [backend.execute(Count("e")).get(timeout=60) for backend in backends]
    for backend in backends:
        backend.close()
    assert counts == [1] * 6
    assert version(path) == NOW + 2
    assert columns(path)[-2:] == ["first", "second"]
    check_file(path)


def test_a_step_that_fails_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the steps before it."""
    before = columns(path)
    with monkeypatch.context() as patch:
        newer(
            patch,
            ("ALTER TABLE endpoints ADD COLUMN first TEXT",),
            ("ALTER TABLE endpoints ADD COLUMN second TEXT", "UPDATE missing SET x = 1"),
        )
        with pytest.raises(BackendUnavailable, match="no such table"):
            SqliteBackend(path).open(time.time_ns)
    assert (version(path), columns(path)) == (NOW, before)

    backend = SqliteBackend(path)
    backend.open(time.time_ns)
    assert backend.execute(Count("e")).get() == 1
    backend.close()


def test_a_file_of_the_first_version_keeps_what_it_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Endpoints, callbacks in their order, phases, expiries, what is remembered of ids; each
    callback has a record of its push."""
    path = tmp_path / "inbox.db"
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        connection = schema.connect(str(path), "full", 5.0)
    with closing(connection):
        connection.execute("INSERT INTO queues (dropped) VALUES (1), (0)")
        connection.execute(
            "INSERT INTO endpoints (id, queue, secret, phases, ttl, created_at, dedup_for) "
            "VALUES ('e', 2, 's', '[\"a\", \"b\"]', 1000, 7, 60.0)"
        )
        add = (
            "INSERT INTO callbacks (queue, id, phase, created_at, expires_at, remembered_until, "
            "kind, headers, body) VALUES (?, ?, ?, ?, ?, ?, 1, NULL, ?)"
        )
        for row in (
            (1, "dropped", "a", 1, None, 500, b"0"),
            (2, "one", "a", 1, 200, 500, b"1"),
            (2, "gone", "a", 2, None, 500, b"22"),
            (2, "two", "b", 3, None, 500, b"333"),
        ):
            connection.execute(add, row)
        connection.execute("DELETE FROM callbacks WHERE id = 'gone'")

    now = 100
    backend = SqliteBackend(path)
    backend.open(lambda: now)

    def do(message: Any) -> Any:
        return backend.execute(message).get(timeout=60)

    endpoint = Endpoint("e", Secret("s"), ("a", "b"), 1000, 7, 60.0)
    assert do(IndexEndpoints()) == [endpoint]
    one, two = Callback("one", b"1", "a", 1), Callback("two", b"333", "b", 3)
    assert do(FetchSlice("e")) == [one, two]
    assert do(Stats("e")) == (2, 4, 0, 0, 0)
    assert [do(Count("e", phase)) for phase in ("a", "b")] == [1, 1]
    pushed = [(it.callback_id, it.kind, it.to_phase, it.at) for it in do(HistoryPage("e")).records]
    assert pushed == [("one", Kind.PUSHED, "a", 1), ("two", Kind.PUSHED, "b", 3)]
    outcomes = [
        do(Push("e", Callback.new(b"", id=id), None, True)).outcome for id in ("gone", "two")
    ]
    assert outcomes == ["duplicate"] * 2
    now = 200
    assert do(FetchSlice("e")) == [two]
    now = 500
    assert do(Push("e", Callback.new(b"", id="gone"), None, True)).outcome == "queued"
    assert do(ClaimSlice("e", None)).claims[0].callback == two
    do(Sweep())
    backend.close()
    check_file(path)


def test_a_file_of_the_second_version_learns_of_fences_and_old_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it held is there, taken in as ever; from now on it knows fences, repeats, overlaps."""
    path = tmp_path / "inbox.db"
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:2])
        connection = schema.connect(str(path), "full", 5.0)
    with closing(connection):
        connection.execute("INSERT INTO queues (dropped) VALUES (0)")
        connection.execute(
            "INSERT INTO endpoints (id, queue, secret, phases, ttl, created_at, dedup_for) "
            "VALUES ('e', 1, 's', '[\"a\", \"b\"]', 0, 7, 60.0)"
        )
        for id, body in (("one", b"1"), ("two", b"22")):
            added = connection.execute(
                "INSERT INTO callbacks (queue, id, phase, created_at, remembered_until, keep, "
                "size, changed_at) VALUES (1, ?, 'a', 1, 500, 1000, ?, 1)",
                (id, len(body)),
            )
            connection.execute(
                "INSERT INTO requests (position, kind, body) VALUES (?, 1, ?)",
                (added.lastrowid, body),
            )
    assert version(path) == 2

    now = 100
    backend = SqliteBackend(path)
    backend.open(lambda: now)

    def do(message: Any) -> Any:
        return backend.execute(message).get(timeout=60)

    def push(id: str, fence: str | None = None, secret: str = "s") -> str:
        callback = Callback.new(b"x", id=id, fence=fence)
        return str(do(Push("e", callback, secret)).outcome)

    assert version(path) == NOW
    endpoint = Endpoint("e", Secret("s"), ("a", "b"), 0, 7, 60.0)
    assert do(IndexEndpoints()) == [endpoint]
    one, two = Callback("one", b"1", "a", 1), Callback("two", b"22", "a", 1)
    assert do(FetchSlice("e")) == [one, two]
    outcomes = [push("one"), push("three", "f"), push("four", "f")]
    assert outcomes == ["duplicate", "queued", "duplicate"]
    rotated = do(RotateSecret("e", Secret("t"), 200))
    assert rotated == endpoint.rotated(Secret("t"), now, 200)
    assert [push("six", secret=secret) for secret in "st"] == ["queued", "duplicate"]
    kinds = [(record.callback_id, str(record.kind)) for record in do(HistoryPage("e")).records]
    repeated = [(id, "repeated") for id in ("one", "three", "six")]
    assert [item for item in kinds if item[1] == "repeated"] == repeated
    backend.close()
    check_file(path)
