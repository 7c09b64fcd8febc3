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
from pollin_actors.messages import Count, CreateEndpoint, Push
from pollin_actors.resources import Callback, Endpoint
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
