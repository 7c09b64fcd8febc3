"""GET /readyz: whether webhooks could be taken now, as the backend itself finds out."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from pollin_actors import Application, BackendUnavailable
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.messages import CheckReady
from pollin_actors.otp import ReplyFuture, Runtime
from pollin_actors.web import asgi
from pollin_actors.web.readiness import KEPT_S
from tests.backends.faulty_disk import FaultyDisk
from tests.backends.stores import Stores
from tests.web.calls import Exchange, endpoint, exchange, queued


def ready(app: Application, method: str = "GET") -> Exchange:
    """One request to a new receiver, which has not kept any answer."""
    return exchange(app, "/readyz", [], method=method)


def test_it_is_200_while_the_backend_takes_changes(app: Application) -> None:
    answer = ready(app)

    assert (answer.status, answer.json) == (200, {"status": "ok"})
    assert ready(app, "HEAD").status == 200
    assert (ready(app, "POST").status, ready(app, "POST").headers[b"allow"]) == (405, b"GET, HEAD")


@pytest.mark.parametrize(
    ("kind", "durability"),
    [("sqlite", "full"), ("postgres", "synchronous_commit on"), ("valkey", "none")],
)
def test_it_says_what_the_settings_keep(tmp_path: Path, kind: str, durability: str) -> None:
    """Of those that have any; so it is seen by whoever watches, and not only in a log."""
    with Application(Stores(tmp_path).new(kind)()()) as app:
        assert ready(app).json == {"status": "ok", "durability": durability}


def test_it_names_the_state_of_an_application_that_does_not_run() -> None:
    answer = ready(Application())

    assert (answer.status, answer.json) == (503, {"status": "not started"})
    assert answer.headers[b"retry-after"] == b"1"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["disk full", "I/O error"])
def test_a_disk_that_fails_is_told_and_crashes_nobody(tmp_path: Path, error: int) -> None:
    """Senders and probes get 503, the actors stay, and once the cause is gone all is well. The log
    says what it was, for each once."""
    backend = SqliteBackend(tmp_path / "inbox.db", durability="normal")
    with FaultyDisk() as disk, Application(backend, endpoints=[endpoint()]) as app:
        assert ready(app).status == exchange(app).status == 200
        actor = app.callbacks.ref("orders").get()
        with capture_logs() as logs:
            disk.error, disk.lasting, disk.fail_at = error, True, disk.writes + 1
            answer = ready(app)
            assert (answer.status, answer.json) == (503, {"status": "unavailable"})
            assert answer.headers[b"retry-after"] == b"1"
            answer = exchange(app)
            assert (answer.status, answer.headers[b"retry-after"]) == (503, b"1")
            disk.heal()
            assert ready(app).status == exchange(app).status == 200
            app.runtime.events.flush()
        assert app.callbacks.ref("orders").get() == actor
        assert len(queued(app)) == 2
    told = [entry for entry in logs if entry["log_level"] != "debug"]
    assert [entry["event"] for entry in told] == ["receiver.unavailable"] * 2
    assert told[0]["endpoint"] == ""  # a probe asks for none
    assert {entry["error"] for entry in told} == {"BackendUnavailable"}


def test_a_file_that_another_program_locks_is_told(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "inbox.db", busy_timeout=0)
    with (
        Application(backend, endpoints=[endpoint()]) as app,
        closing(sqlite3.connect(tmp_path / "inbox.db", isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        assert ready(app).status == exchange(app).status == 503
        # What only reads is answered all the while.
        assert queued(app) == []
        other.execute("ROLLBACK")
        assert ready(app).status == exchange(app).status == 200


def test_it_is_asked_anew_after_a_restart(tmp_path: Path) -> None:
    """What was found before says nothing about the new run."""
    backend = SqliteBackend(tmp_path / "inbox.db", busy_timeout=0)
    app = Application(backend)
    receiver = asgi(app)

    def ask() -> int | None:
        request = Exchange("/readyz", [], method="GET")
        return asyncio.run(request.through(receiver)).status

    with app, closing(sqlite3.connect(tmp_path / "inbox.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert ask() == 503
        other.execute("ROLLBACK")
    with app:
        assert ask() == 200


class Trials(MemoryBackend):
    """Notes the trials, and answers them when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: list[ReplyFuture[None]] = []
        self.tell: Callable[[], object] = int

    def execute(self, message: Any) -> Any:
        if isinstance(message, CheckReady):
            self.replies.append(ReplyFuture())
            self.tell()
            return self.replies[-1]
        return super().execute(message)


class HandClock:
    """Stands still unless told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return round(self.now * 1e9)


def test_those_who_ask_together_share_a_trial_and_it_is_kept_for_a_second() -> None:
    """So nobody can make the disk busy by asking."""
    backend, clock = Trials(), HandClock()
    runtime = Runtime(clock)
    with Application(backend, runtime=runtime) as app:

        async def requests() -> None:
            receiver, asked = asgi(app), asyncio.Event()
            loop = asyncio.get_running_loop()
            backend.tell = lambda: loop.call_soon_threadsafe(asked.set)

            async def ask() -> int | None:
                return (await Exchange("/readyz", [], method="GET").through(receiver)).status

            tasks = [asyncio.create_task(ask()) for _ in range(3)]
            await asked.wait()
            tasks[0].cancel()  # who leaves takes nobody along
            backend.replies[0].set(None)
            assert await asyncio.gather(*tasks[1:]) == [200, 200]
            clock.now += KEPT_S * 0.9
            assert await ask() == 200
            assert len(backend.replies) == 1

            clock.now += KEPT_S * 0.2
            asked.clear()
            again = asyncio.create_task(ask())
            await asked.wait()
            backend.replies[1]._fail(BackendUnavailable("memory", "out of order"))
            assert await again == 503
            assert await ask() == 503
            assert len(backend.replies) == 2

        asyncio.run(requests())
    runtime.stop()
