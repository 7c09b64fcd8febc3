"""Several at once on one SQLite file: locks at bad moments, callbacks that act, files that go."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pykka
import pytest
import structlog

from pollin_actors.backends.sqlite import SqliteBackend, link
from pollin_actors.backends.sqlite.link import Link
from pollin_actors.backends.sqlite.operations import Operations
from pollin_actors.backends.sqlite.transactions import Job
from pollin_actors.backends.sqlite.writer import Writer
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import Count, CreateEndpoint, Pop, Push, Sweep
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.resources import Callback, Endpoint
from tests.backends.sqlite_file import check_file


class Shared:
    """An open backend, and a connection of somebody else to its file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backend = SqliteBackend(path, durability="normal", busy_timeout=60)
        self.backend.open(time.time_ns)
        self.backend.execute(CreateEndpoint(Endpoint.new(["received"], 0, id="e"))).get()
        self.other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def push(self, id: str) -> Any:
        return self.backend.execute(Push("e", Callback.new(b"x", id=id), None, True))

    def submit(self, run: Callable[..., Any]) -> Any:
        """A message that does what it is told, in a transaction that writes."""
        future: ReplyFuture[Any] = ReplyFuture()
        self.writer.submit(Job(run, Sweep(), None, future))
        return future

    @property
    def writer(self) -> Writer:
        assert self.backend._writer is not None
        return self.backend._writer


@pytest.fixture(autouse=True)
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer's own thread works only if it is woken."""
    monkeypatch.setattr(Writer, "_watch", lambda writer: None)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    shared = Shared(tmp_path / "inbox.db")
    yield shared
    shared.other.close()
    shared.backend.close()
    if shared.path.exists():
        check_file(shared.path)


def outcome(future: Any) -> Any:
    """What it was settled with; no help with the work."""
    told = threading.Event()
    future.add_done_callback(lambda _: told.set())
    assert told.wait(60)
    try:
        return future.get()
    except BackendUnavailable as error:
        return error


def violate(operations: Operations, message: object, stored: object) -> None:
    """An error that is about this one message."""
    operations._execute("INSERT INTO queues (dropped) VALUES (NULL)")


class TestLocks:
    def test_no_message_overtakes_one_that_meets_a_lock(
        self, shared: Shared, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A group falls apart because of one message, and then somebody takes the lock: what
        comes later waits behind it, and nothing is done twice."""
        for id in "abc":
            shared.push(id).get()
        undo, ring = Link.undo, Writer._ring
        undone: list[str] = []

        def spy(link: Link, error: Exception | None) -> None:
            undo(link, error)
            undone.append(threading.current_thread().name)
            if len(undone) == 1:
                shared.other.execute("BEGIN IMMEDIATE")
            elif len(undone) == 2:
                shared.other.execute("ROLLBACK")

        with monkeypatch.context() as patch:
            patch.setattr(Writer, "_ring", lambda writer: None)
            patch.setattr(Link, "undo", spy)
            first = shared.backend.execute(Pop("e"))
            poison = shared.submit(violate)
            second = shared.backend.execute(Pop("e"))
            # A helper leaves alone what goes wrong; the writer then meets the lock.
            shared.writer.help(None)
            assert len(undone) == 1
            assert not first.done()
            ring(shared.writer)
            popped = [outcome(first).id, outcome(second).id]

        assert popped == ["a", "b"]
        assert isinstance(outcome(poison), BackendUnavailable)
        assert shared.backend.execute(Count("e")).get() == 1

    def test_what_only_reads_is_answered(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also in one group with what cannot be carried out because of a lock."""
        backend = SqliteBackend(tmp_path / "inbox.db", busy_timeout=0)
        backend.open(time.time_ns)
        backend.execute(CreateEndpoint(Endpoint.new(id="e"))).get()
        push = Push("e", Callback.new(b""), None, True)
        with closing(sqlite3.connect(tmp_path / "inbox.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with monkeypatch.context() as patch:
                patch.setattr(Writer, "_ring", lambda writer: None)
                futures = [backend.execute(message) for message in (Count("e"), push, Count("e"))]
            assert backend._writer is not None
            backend._writer._ring()
            replies = [outcome(future) for future in futures]
        backend.close()

        assert replies[0] == replies[2] == 0
        assert isinstance(replies[1], BackendUnavailable)

    def test_a_connection_that_was_lost_is_left_to_the_writer(
        self, shared: Shared, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Opening the file may take as long as the busy time-out: too long for who waits."""
        threads: list[threading.Thread] = []
        reopen = Link.open

        def spy(link: Link) -> sqlite3.Connection:
            threads.append(threading.current_thread())
            return reopen(link)

        monkeypatch.setattr(Link, "open", spy)
        shared.writer._link.drop()
        assert shared.push("a").get(timeout=60).outcome == "queued"
        assert threads == [shared.writer._thread]


class TestCallbacks:
    def test_may_close_the_backend(self, shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
        """On the thread that helps, as a signal handler there would: no wait for itself."""
        writer, ring = shared.writer, Writer._ring
        with monkeypatch.context() as patch:
            patch.setattr(Writer, "_ring", lambda writer: None)
            future = shared.push("a")
            future.add_done_callback(lambda _: shared.backend.close())
            assert future.get(timeout=60).outcome == "queued"
        ring(writer)
        assert writer._thread is not None
        writer._thread.join(60)
        assert not writer._thread.is_alive()
        assert writer._link.connection is None

    def test_may_close_the_backend_on_its_own_thread(self, shared: Shared) -> None:
        writer = shared.writer
        future = shared.push("a")
        future.add_done_callback(lambda _: shared.backend.close())
        assert outcome(future).outcome == "queued"
        assert writer._thread is not None
        writer._thread.join(60)
        assert writer._link.connection is None

    def test_cannot_end_the_writer_not_even_where_logging_fails(self, shared: Shared) -> None:
        """Neither by SystemExit, nor at the last moment, when the backend is closed."""

        def leave(_: object) -> None:
            raise SystemExit

        def fail(*_: object) -> Any:
            raise OSError

        structlog.configure(processors=[fail])
        try:
            future = shared.push("a")
            future.add_done_callback(leave)
            assert outcome(shared.push("b")).outcome == "queued"
            futures = [shared.push(id) for id in "cde"]
            for future in futures:
                future.add_done_callback(leave)
            shared.backend.close()
        finally:
            structlog.reset_defaults()
        assert all(future.done() for future in futures)
        assert shared.backend._writer is None

    def test_that_raise_system_exit_harm_nobody_else(
        self, shared: Shared, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a thread that helps and that is not the main thread: there it is no signal's."""
        replies: list[Any] = []

        def leave(_: object) -> None:
            raise SystemExit

        def use() -> None:
            future = shared.push("a")
            future.add_done_callback(leave)
            replies.append(shared.push("b").get(timeout=60))

        with monkeypatch.context() as patch:
            patch.setattr(Writer, "_ring", lambda writer: None)
            thread = threading.Thread(target=use)
            thread.start()
            thread.join(60)
        assert [reply.outcome for reply in replies] == ["queued"]

    @pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
    def test_that_raise_on_the_writers_thread_are_called_once(
        self, shared: Shared, error: type[BaseException]
    ) -> None:
        """Nobody interrupts that thread: it is logged, and others are answered."""
        times = 0

        def fail(_: object) -> None:
            nonlocal times
            times += 1
            raise error

        futures = [shared.push(id) for id in "ab"]
        futures[0].add_done_callback(fail)
        derived = futures[1].map(fail)
        derived.add_done_callback(lambda _: None)
        assert outcome(shared.push("c")).outcome == "queued"
        assert times == 2

    def test_that_are_interrupted_are_called_again(
        self, shared: Shared, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By who finishes the work: an actor may depend on it."""
        called = threading.Event()
        times: list[str] = []

        def tell(_: object) -> None:
            times.append(threading.current_thread().name)
            if len(times) == 1:
                raise KeyboardInterrupt
            called.set()

        with monkeypatch.context() as patch:
            patch.setattr(Writer, "_ring", lambda writer: None)
            future = shared.push("a")
            future.add_done_callback(tell)
            with pytest.raises(KeyboardInterrupt):
                future.get(timeout=60)
        shared.writer._ring()
        assert called.wait(60)
        assert len(times) == 2
        assert future.get().outcome == "queued"

    def test_on_a_derived_future_do_not_wait_for_who_derives_it(self, shared: Shared) -> None:
        """A function of the answer asks again, while the writer wants to tell the callback."""
        started, go_on = threading.Event(), threading.Event()
        source: ReplyFuture[Any] = ReplyFuture()

        def again(_: object) -> Any:
            started.set()
            assert go_on.wait(60)
            return shared.backend.execute(Count("e")).get(timeout=60)

        derived = source.map(again)
        derived.add_done_callback(lambda _: None)

        def settle(operations: Operations, message: object, stored: object) -> None:
            # As the writer does after a commit, while somebody computes already.
            assert started.wait(60)
            for waiter in list(source._box["waiters"]) if source._box else []:
                waiter.fire()
            go_on.set()

        replies: list[Any] = []
        source._box["outcome"] = source._outcome = (None, None)  # type: ignore[index]
        thread = threading.Thread(target=lambda: replies.append(derived.get(timeout=60)))
        thread.start()
        assert started.wait(60)
        shared.submit(settle)
        thread.join(60)
        assert replies == [0]


class TestFiles:
    @pytest.fixture(autouse=True)
    def look_each_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not only every hundredth of a second."""
        monkeypatch.setattr(link, "TRUST_S", 0.0)

    def test_that_are_removed_are_missed(self, shared: Shared) -> None:
        """What would be written into nowhere is not acknowledged, and no new file is begun."""
        shared.push("a").get()
        shared.other.close()
        away = shared.path.with_name("away")
        moved = [Path(f"{shared.path}{end}") for end in ("", "-wal", "-shm")]
        away.mkdir()
        for path in moved:
            path.rename(away / path.name)
        for _ in range(2):
            with pytest.raises(BackendUnavailable, match=r"inbox\.db was removed.*put it back"):
                shared.push("b").get(timeout=60)
        assert not shared.path.exists()

        for path in away.iterdir():
            path.rename(shared.path.with_name(path.name))
        assert shared.push("b").get(timeout=60).outcome == "queued"
        assert shared.backend.execute(Count("e")).get() == 2

    def test_that_are_replaced_are_not_written_to(self, shared: Shared, tmp_path: Path) -> None:
        """The log of the old one lies beside the copy, and would be laid over it. Once all of the
        old one is gone, the copy is used."""
        copy = Shared(tmp_path / "copy.db")
        copy.push("old").get()
        copy.other.close()
        copy.backend.close()
        shared.push("a").get()
        shared.other.close()
        copy.path.replace(shared.path)
        good = shared.path.read_bytes()
        for _ in range(2):
            with pytest.raises(BackendUnavailable, match=r"replaced by another.*no -wal file"):
                shared.push("b").get(timeout=60)
        assert shared.path.read_bytes() == good

        shared.backend.close()
        for end in ("-wal", "-shm"):
            Path(f"{shared.path}{end}").unlink(missing_ok=True)
        shared.backend.open(time.time_ns)
        assert shared.push("b").get(timeout=60).outcome == "queued"
        assert shared.backend.execute(Pop("e")).get().id == "old"

    def test_are_found_again_from_another_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A relative path is that of the folder in which the backend was opened."""
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path)
        shared = Shared(Path("inbox.db"))
        os.chdir(tmp_path / "elsewhere")
        shared.writer._link.drop()

        assert shared.push("a").get(timeout=60).outcome == "queued"
        assert list((tmp_path / "elsewhere").iterdir()) == []
        shared.other.close()
        shared.backend.close()


def test_who_closes_late_leaves_what_was_opened_again(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Writer.close
    turns = iter(range(10))

    def slow(writer: Writer) -> None:
        close(writer)
        if next(turns) == 0:
            # Somebody else closes and opens it in the meantime.
            shared.backend.close()
            shared.backend.open(time.time_ns)

    monkeypatch.setattr(Writer, "close", slow)
    shared.backend.close()
    assert shared.push("a").get(timeout=60).outcome == "queued"


def test_an_interrupted_push_is_carried_out_soon(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or not at all; but not long afterwards, with the next message."""
    ring, rings = Writer._ring, 0

    def interrupted(writer: Writer) -> None:
        nonlocal rings
        rings += 1
        if rings == 1:
            raise KeyboardInterrupt
        ring(writer)

    stored = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "_ring", interrupted)
        message = Push("e", Callback.new(b"x", id="a"), None, True)
        done: ReplyFuture[Any] = ReplyFuture()
        done.add_done_callback(lambda _: stored.set())
        with pytest.raises(KeyboardInterrupt):
            shared.writer.submit(
                Job(lambda o, m, s: o.push(m, (1, None, b"x")), message, None, done)
            )
        assert stored.wait(60)
    assert done.get().outcome == "queued"


def test_a_wait_that_is_too_short_does_not_help(shared: Shared) -> None:
    shared.other.execute("BEGIN IMMEDIATE")
    future = shared.push("a")
    with pytest.raises(pykka.Timeout):
        future.get(timeout=0.01)
    shared.other.execute("ROLLBACK")
    assert future.get(timeout=60).outcome == "queued"
