"""Threads that wait for the SQLite backend commit themselves what waits, and may be interrupted."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pykka
import pytest

from pollin_actors.backends.sqlite import SqliteBackend, writer
from pollin_actors.backends.sqlite.transactions import Transactions
from pollin_actors.backends.sqlite.writer import Writer
from pollin_actors.messages import Count, CreateEndpoint, Pop, PopSlice, Push
from pollin_actors.otp.errors import CallCycle
from pollin_actors.resources import Callback, Endpoint
from tests.backends.sqlite_file import check_file
from tests.interrupts import interrupt_at_every_bytecode

MODULES = ["pollin_actors.backends.sqlite", "pollin_actors.otp.guard", "pollin_actors.otp.futures"]


WATCH = Writer._watch


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteBackend]:
    # The writer's own thread works only if it is woken.
    monkeypatch.setattr(Writer, "_watch", lambda self: None)
    backend = SqliteBackend(tmp_path / "inbox.db", durability="normal")
    backend.open(time.time_ns)
    backend.execute(CreateEndpoint(Endpoint.new(["received"], 0, id="e"))).get()
    yield backend
    backend.close()
    check_file(tmp_path / "inbox.db")


def push(backend: SqliteBackend, id: str) -> Any:
    return backend.execute(Push("e", Callback.new(b"x", id=id), None, True))


def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer's own thread is not woken."""
    monkeypatch.setattr(Writer, "_ring", lambda self: None)


def test_who_waits_commits(backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what others wait for."""
    with monkeypatch.context() as patch:
        asleep(patch)
        first, second = push(backend, "a"), push(backend, "b")
        assert not first.done()
        assert second.get(timeout=60).outcome == "queued"
        assert first.done()


def test_nobody_commits_on_an_event_loop(
    backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There an await leaves it to the writer; so does a get, which blocks the loop anyway."""
    threads: list[threading.Thread] = []
    commit = Transactions.commit

    def spy(self: Transactions, *args: Any) -> None:
        threads.append(threading.current_thread())
        commit(self, *args)

    monkeypatch.setattr(Transactions, "commit", spy)

    async def use() -> None:
        await push(backend, "a")
        push(backend, "b").get(timeout=60)

    asyncio.run(use())
    assert threading.current_thread() not in threads
    assert threads


def test_a_locked_file_is_left_to_the_writer(
    tmp_path: Path, backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller with less time than the busy time-out is told in time, and nothing fails."""
    with closing(sqlite3.connect(tmp_path / "inbox.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        future = push(backend, "a")
        with pytest.raises(pykka.Timeout):
            future.get(timeout=0.15)
        other.execute("ROLLBACK")
        assert future.get(timeout=60).outcome == "queued"


def test_waiting_in_the_middle_of_it_is_refused(
    backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A callback on who commits, or a signal handler there, would wait for itself."""
    errors: list[BaseException] = []

    def wait(_: object) -> None:
        try:
            push(backend, "b").get(timeout=60)
        except CallCycle as error:
            errors.append(error)

    with monkeypatch.context() as patch:
        asleep(patch)
        future = push(backend, "a")
        future.add_done_callback(wait)
        future.get(timeout=60)
    assert len(errors) == 1
    assert backend.execute(Count("e")).get(timeout=60) == 2


def locked() -> sqlite3.Error:
    """What a signal handler may raise that uses a database of its own."""
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError, locked])
def test_an_interrupt_anywhere_leaves_all_or_nothing(
    backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch, error: Callable[[], BaseException]
) -> None:
    """Whoever waits besides is answered, once; what was answered is there; the writer goes on.

    A signal handler may also raise what a commit could have raised.
    """
    numbers = iter(range(10**6))
    ring = Writer._ring

    def ring_for_helpers(self: Writer) -> None:
        # Else the writer's own thread may be quicker, and there is nothing to interrupt.
        if sys._getframe(1).f_code.co_name == "help":
            ring(self)

    def prepare() -> list[Any]:
        name = str(next(numbers))
        assert backend.execute(PopSlice("e")).get(timeout=60) == []
        push(backend, f"{name}-0").get(timeout=60)
        return [name]

    def operation(subject: list[Any]) -> None:
        name = subject[0]
        with monkeypatch.context() as patch:
            patch.setattr(Writer, "_ring", ring_for_helpers)
            subject.append(push(backend, f"{name}-1"))
            subject.append(backend.execute(Pop("e", f"{name}-0")))
            subject[-1].get(timeout=60)

    def check(subject: list[Any], interrupted: bool) -> None:
        name, *futures = subject
        # Without any help: the writer's own thread must not believe that somebody is at work.
        told = threading.Event()
        backend.execute(Count("e")).add_done_callback(lambda _: told.set())
        assert told.wait(60)
        replies = [future.get(timeout=60) for future in futures]
        left = [callback.id for callback in backend.execute(PopSlice("e")).get(timeout=60)]
        pushed, popped = f"{name}-1", f"{name}-0"
        if replies:
            assert replies[0].outcome == "queued"
            assert pushed in left
        if len(replies) == 2:
            assert replies[1].id == popped
            assert popped not in left
        assert left.count(pushed) <= 1
        assert left.count(popped) <= 1

    times = interrupt_at_every_bytecode(
        operation, check, prepare=prepare, modules=MODULES, error=error
    )
    assert times > 500


class TestWatching:
    """While those who wait do the work, the writer's own thread is not woken, but looks."""

    def test_what_nobody_waits_for_is_done(
        self, backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watching, told = threading.Event(), threading.Event()

        def watch(self: Writer) -> None:
            head = self._head

            def look() -> Any:
                if self._watching:
                    watching.set()
                return head()

            monkeypatch.setattr(self, "_head", look)
            WATCH(self)

        monkeypatch.setattr(Writer, "_watch", watch)
        monkeypatch.setattr(writer, "WATCHES", 10**9)
        assert backend._writer is not None
        backend._writer._ring()  # for nothing, as if somebody had been quicker
        assert watching.wait(60)
        assert backend._writer._watching
        with monkeypatch.context() as patch:
            asleep(patch)
            push(backend, "a").add_done_callback(lambda _: told.set())
            assert told.wait(60)

    def test_what_comes_at_the_last_moment_is_seen(
        self, backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Sent when the last look is over, and without a ring, because it watches still."""
        futures: list[Any] = []
        told = threading.Event()

        def watch(self: Writer) -> None:
            def look() -> Any:
                if not futures:
                    assert self._watching
                    futures.append(push(backend, "a"))
                    futures[0].add_done_callback(lambda _: told.set())
                return None

            monkeypatch.setattr(self, "_head", look)
            WATCH(self)
            assert not self._watching

        monkeypatch.setattr(Writer, "_watch", watch)
        monkeypatch.setattr(writer, "WATCHES", 1)
        assert backend._writer is not None
        backend._writer._ring()
        assert told.wait(60)
        assert futures[0].get().outcome == "queued"

    def test_closing_does_not_wait_for_it(
        self, backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watching = threading.Event()

        def watch(self: Writer) -> None:
            watching.set()
            WATCH(self)

        monkeypatch.setattr(Writer, "_watch", watch)
        monkeypatch.setattr(writer, "WATCHES", 10**9)
        monkeypatch.setattr(writer, "WATCH_S", 60.0)
        assert backend._writer is not None
        backend._writer._ring()
        assert watching.wait(60)
        backend.close()
