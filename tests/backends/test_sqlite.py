"""What only the SQLite backend has: its URL, its file, its errors, its writer, other processes."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pollin_actors import Application
from pollin_actors.backends import open_backend
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.backends.sqlite.operations import Operations
from pollin_actors.backends.sqlite.schema import APPLICATION_ID, MIGRATIONS
from pollin_actors.backends.sqlite.transactions import Job
from pollin_actors.backends.values import DEPTH
from pollin_actors.errors import (
    BackendUnavailable,
    EndpointNotFound,
    InvalidValue,
    UnknownPhase,
    WrongSecret,
)
from pollin_actors.messages import Count, CreateEndpoint, Fetch, IndexEndpoints, Pop, Push, Sweep
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.simulation import Simulation
from pollin_actors.resources import Callback, Endpoint, Request
from tests.backends.sqlite_file import check_file
from tests.kill_sqlite import Rounds

ROOT = Path(__file__).resolve().parents[2]


class Inbox:
    """An open backend with the endpoint ``e``."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.backend = SqliteBackend(path, durability="normal", **options)
        self.backend.open(time.time_ns)
        self.do(CreateEndpoint(Endpoint.new(["received", "processed"], 0, id="e")))

    def do(self, message: Any) -> Any:
        return self.backend.execute(message).get(timeout=60)

    def push(self, id: str, body: bytes = b"x") -> Any:
        return self.do(Push("e", Callback.new(body, id=id), None, True)).outcome

    @property
    def connection(self) -> sqlite3.Connection:
        """The writer's own; touched only while nothing waits."""
        assert self.backend._writer is not None
        assert self.backend._writer._link.connection is not None
        return self.backend._writer._link.connection


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    result = Inbox(tmp_path / "inbox.db", busy_timeout=0.2)
    yield result
    result.backend.close()


def refused(backend: SqliteBackend) -> str:
    with pytest.raises(BackendUnavailable) as caught:
        backend.open(time.time_ns)
    with pytest.raises(BackendUnavailable, match="not open"):
        backend.execute(IndexEndpoints())
    return str(caught.value)


def fingerprint(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "path", "durability"),
        [
            ("sqlite:///a.db", "a.db", "full"),
            ("sqlite:///a/b%20%3F.db?durability=normal", "a/b ?.db", "normal"),
            ("sqlite:////a/b.db?durability=full&busy_timeout=1.5", "/a/b.db", "full"),
            ("SQLITE:///a.db", "a.db", "full"),
        ],
    )
    def test_says_path_and_options(self, url: str, path: str, durability: str) -> None:
        backend = open_backend(url)

        assert isinstance(backend, SqliteBackend)
        assert (backend._path, backend._durability) == (path, durability)

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
    def test_refuses_memory_with_a_hint(self, url: str) -> None:
        with pytest.raises(InvalidValue, match="memory://"):
            open_backend(url)

    @pytest.mark.parametrize(
        "url",
        [
            "sqlite://a.db",
            "sqlite:///a.db?durability=none",
            "sqlite:///a.db?mode=ro",
            "sqlite:///a.db?busy_timeout=soon",
            "sqlite:///a.db?busy_timeout=-1",
            "sqlite:///a.db?busy_timeout=nan",
        ],
    )
    def test_refuses_others(self, url: str) -> None:
        with pytest.raises(InvalidValue):
            open_backend(url)


class TestFile:
    def test_is_marked_as_ours_and_logs_ahead(self, inbox: Inbox) -> None:
        with closing(sqlite3.connect(inbox.path)) as other:
            found = [
                other.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version", "journal_mode")
            ]
        assert found == [APPLICATION_ID, len(MIGRATIONS), "wal"]

    @pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
    def test_waits_for_the_disk_as_told(self, tmp_path: Path, durability: Any, level: int) -> None:
        backend = SqliteBackend(tmp_path / "inbox.db", durability=durability)
        backend.open(time.time_ns)
        assert backend._writer is not None
        assert backend._writer._link.connection is not None

        found = backend._writer._link.connection.execute("PRAGMA synchronous").fetchone()
        backend.close()
        assert found == (level,)

    @pytest.mark.parametrize("mode", ["delete", "wal"])
    def test_of_another_program_is_left_untouched(self, tmp_path: Path, mode: str) -> None:
        """Also one with a write-ahead log that its program, killed, left behind."""
        code = (
            "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
            f"c.execute('PRAGMA journal_mode={mode}'); c.execute('CREATE TABLE t (x)'); "
            "c.commit(); os.kill(os.getpid(), 9)"
        )
        subprocess.run([sys.executable, "-c", code, tmp_path / "other.db"], check=False)
        before = fingerprint(tmp_path)
        assert len(before) == (3 if mode == "wal" else 1)

        assert "another program" in refused(SqliteBackend(tmp_path / "other.db"))
        assert fingerprint(tmp_path) == before

    def test_that_is_no_database_is_left_untouched(self, tmp_path: Path) -> None:
        path = tmp_path / "letter.db"
        path.write_bytes(b"Dear reader, " * 1000)
        before = fingerprint(tmp_path)

        assert "not a SQLite file" in refused(SqliteBackend(path))
        assert fingerprint(tmp_path) == before

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
    def test_that_is_no_file_is_refused(self, tmp_path: Path) -> None:
        """Opening a FIFO would wait for who writes into it, for ever."""
        os.mkfifo(tmp_path / "fifo")
        for path in (tmp_path / "fifo", tmp_path):
            assert "not a regular file" in refused(SqliteBackend(path))

    @pytest.mark.skipif(os.name != "posix", reason="this system has no modes")
    def test_is_for_its_owner_only(self, inbox: Inbox) -> None:
        """Secrets are in it, and in the files beside it; what its owner allows later stays."""
        inbox.push("a")
        modes = {path.name: path.stat().st_mode & 0o777 for path in inbox.path.parent.iterdir()}
        assert modes == dict.fromkeys(["inbox.db", "inbox.db-shm", "inbox.db-wal"], 0o600)
        inbox.backend.close()
        inbox.path.chmod(0o640)
        inbox.backend.open(time.time_ns)
        assert inbox.path.stat().st_mode & 0o777 == 0o640

    def test_of_a_newer_version_is_refused(self, inbox: Inbox) -> None:
        inbox.backend.close()
        with closing(sqlite3.connect(inbox.path)) as other:
            other.execute("PRAGMA user_version = 99")
            other.commit()

        assert "schema version 99" in refused(SqliteBackend(inbox.path))
        assert "upgrade" in refused(SqliteBackend(inbox.path))

    def test_that_is_empty_is_used(self, tmp_path: Path) -> None:
        (tmp_path / "inbox.db").touch()
        inbox = Inbox(tmp_path / "inbox.db")
        inbox.backend.close()

    def test_in_a_folder_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        text = refused(SqliteBackend(tmp_path / "none" / "inbox.db"))

        assert "check that the folder exists" in text

    def test_is_alone_after_closing(self, inbox: Inbox) -> None:
        """The log is brought into the file, which can then be copied by itself."""
        inbox.push("a")
        inbox.backend.close()

        assert [path.name for path in inbox.path.parent.iterdir()] == ["inbox.db"]

    def test_is_made_by_whoever_comes_first(self, tmp_path: Path) -> None:
        """Several that open a new file at once all succeed."""
        backends = [SqliteBackend(tmp_path / "inbox.db", busy_timeout=60) for _ in range(8)]
        threads = [threading.Thread(target=b.open, args=(time.time_ns,)) for b in backends]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        replies = [backend.execute(IndexEndpoints()).get(timeout=60) for backend in backends]
        for backend in backends:
            backend.close()
        assert replies == [[]] * 8


def fill(inbox: Inbox, stored: list[str]) -> None:
    for number in range(1000):
        inbox.push(f"c{number}", b"x" * 3000)
        stored.append(f"c{number}")


class TestFailures:
    def test_of_a_full_disk_end_with_it(self, inbox: Inbox) -> None:
        (pages,) = inbox.connection.execute("PRAGMA page_count").fetchone()
        inbox.connection.execute(f"PRAGMA max_page_count = {pages + 20}")
        stored: list[str] = []
        with pytest.raises(BackendUnavailable, match="make room on the disk") as caught:
            fill(inbox, stored)
        cause = caught.value.__cause__
        assert isinstance(cause, sqlite3.Error)
        assert cause.sqlite_errorcode == sqlite3.SQLITE_FULL

        assert stored
        assert inbox.do(Count("e")) == len(stored)
        assert inbox.do(Pop("e")).id == "c0"
        inbox.connection.execute("PRAGMA max_page_count = 1000000")
        assert inbox.push("last", b"x" * 3000) == "queued"
        assert inbox.do(Count("e")) == len(stored)
        inbox.backend.close()
        check_file(inbox.path)

    def test_of_one_message_leave_the_others(self, inbox: Inbox) -> None:
        """Of a group in one transaction, only those fail that are to blame."""
        inbox.connection.execute("PRAGMA max_page_count = 100")
        pushes = [
            Push("e", Callback.new(b"x" * (10**6 if n == 5 else 10), id=f"c{n}"), None, True)
            for n in range(10)
        ]
        futures = one_group(inbox, [*pushes, Push("e", Callback.new(b""), "wrong")])
        errors = [type(error_of(future)) for future in futures]
        expected: list[type] = [type(None)] * 11
        expected[5], expected[10] = BackendUnavailable, WrongSecret

        assert errors == expected
        assert inbox.do(Count("e")) == 9
        inbox.backend.close()
        check_file(inbox.path)

    def test_of_a_commit_fail_the_whole_group(self, inbox: Inbox) -> None:
        """No future is answered with a value; nothing of the group is there; then it works."""
        inbox.push("a")
        with no_larger_files(0):
            futures = one_group(
                inbox, [Push("e", Callback.new(b"", id=str(n)), None, True) for n in range(5)]
            )
            errors = [error_of(future) for future in futures]
        assert [type(error) for error in errors] == [BackendUnavailable] * 5
        assert all(isinstance(error.__cause__, sqlite3.Error) for error in errors if error)

        assert inbox.do(Count("e")) == 1
        assert inbox.push("b") == "queued"

    def test_of_writes_at_any_point_lose_nothing(self, inbox: Inbox) -> None:
        """The files may not grow beyond ever another size; whatever was acknowledged is there."""
        stored, failed = [], 0
        for number in range(150):
            size = 4096 * number // 5 + number * 37
            with no_larger_files(size):
                for turn in range(4):
                    name = f"{number}-{turn}"
                    try:
                        inbox.push(name, b"x" * 1500)
                        stored.append(name)
                    except BackendUnavailable:
                        failed += 1
        assert stored
        assert failed
        inbox.backend.close()
        check_file(inbox.path)
        inbox.backend.open(time.time_ns)
        assert inbox.do(Count("e")) == len(stored)
        assert [inbox.do(Pop("e")).id for _ in stored] == stored

    def test_of_a_locked_file_come_after_the_time_out(self, inbox: Inbox) -> None:
        with closing(sqlite3.connect(inbox.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(BackendUnavailable, match="locked"):
                inbox.push("a")
            assert inbox.do(Fetch("e")) is None
            other.execute("ROLLBACK")
            assert inbox.push("a") == "queued"

    def test_of_a_lock_do_not_come_while_there_is_time(self, tmp_path: Path) -> None:
        inbox = Inbox(tmp_path / "inbox.db", busy_timeout=60)
        with closing(sqlite3.connect(inbox.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            future = inbox.backend.execute(Push("e", Callback.new(b""), None, True))
            assert not future.done()
            other.execute("ROLLBACK")
            assert future.get(timeout=60).outcome == "queued"
        inbox.backend.close()

    def test_of_a_file_that_is_read_only_end_with_it(self, inbox: Inbox) -> None:
        inbox.push("a")
        inbox.connection.execute("PRAGMA query_only = ON")
        told = threading.Event()
        future = inbox.backend.execute(Push("e", Callback.new(b"", id="b"), None, True))
        future.add_done_callback(lambda _: told.set())
        assert told.wait(60)
        with pytest.raises(BackendUnavailable, match="make the file and its folder writable"):
            future.get()

        # The connection was given up; the new one finds a file that can be written to.
        assert inbox.push("b") == "queued"
        assert inbox.do(Count("e")) == 2

    def test_of_a_corrupt_file_end_with_it(self, inbox: Inbox) -> None:
        inbox.backend.close()
        schema = inbox.path.stat().st_size
        inbox.backend.open(time.time_ns)
        for number in range(50):
            inbox.push(f"c{number}", b"x" * 3000)
        inbox.backend.close()
        good = inbox.path.read_bytes()
        inbox.path.write_bytes(good[:schema] + b"\xff" * (len(good) - schema))
        inbox.backend.open(time.time_ns)
        for _ in range(2):
            with pytest.raises(BackendUnavailable, match="malformed") as caught:
                inbox.do(Fetch("e"))
            assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
        inbox.backend.close()
        inbox.path.write_bytes(good)
        inbox.backend.open(time.time_ns)
        assert inbox.do(Count("e")) == 50

    def test_of_a_row_that_makes_no_sense_are_told(self, inbox: Inbox) -> None:
        inbox.push("a")
        inbox.connection.execute("UPDATE requests SET kind = 2, body = 'x'")
        with pytest.raises(BackendUnavailable, match=r"inbox\.db"):
            inbox.do(Fetch("e"))
        assert inbox.push("b") == "queued"

    def test_of_our_own_leave_the_writer_alive(
        self, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(operations: Operations) -> None:
            raise MemoryError

        told = threading.Event()
        with monkeypatch.context() as patch:
            patch.setattr(Operations, "begun", broken)
            future = inbox.backend.execute(Push("e", Callback.new(b"", id="a"), None, True))
            future.add_done_callback(lambda _: told.set())
            assert told.wait(60)
            with pytest.raises(BackendUnavailable, match="MemoryError"):
                future.get()
        assert inbox.push("a") == "queued"


@contextmanager
def no_larger_files(size: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes: writes fail, as on a broken disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def error_of(future: Any) -> BaseException | None:
    try:
        future.get(timeout=60)
    except BackendUnavailable as error:
        return error
    except WrongSecret as error:
        return error
    return None


def one_group(inbox: Inbox, messages: list[Any]) -> list[Any]:
    """Have the writer take all of these in one transaction: it is held up until they wait."""
    entered, go_on = threading.Event(), threading.Event()
    done: Any = ReplyFuture()

    def hold_up(operations: Operations, message: Any, stored: Any) -> None:
        entered.set()
        assert go_on.wait(60)

    assert inbox.backend._writer is not None
    # Sweep only says that it is no read.
    inbox.backend._writer.submit(Job(hold_up, Sweep(), None, done))
    assert entered.wait(60)
    futures = [inbox.backend.execute(message) for message in messages]
    go_on.set()
    return futures


class TestWriter:
    def test_commits_what_waits_as_one(self, inbox: Inbox) -> None:
        statements: list[str] = []
        inbox.connection.set_trace_callback(statements.append)
        messages = [Push("e", Callback.new(b""), None, True) for _ in range(100)]
        for future in one_group(inbox, messages):
            future.get(timeout=60)
        inbox.connection.set_trace_callback(None)

        # One for what held it up, one for all of them.
        assert statements.count("COMMIT") == 2

    def test_leaves_no_thread(self, tmp_path: Path) -> None:
        inbox = Inbox(tmp_path / "thread.db")
        names = {thread.name for thread in threading.enumerate()}
        assert "pollin-sqlite-thread.db" in names
        inbox.backend.close()
        names = {thread.name for thread in threading.enumerate()}
        assert "pollin-sqlite-thread.db" not in names

    def test_outlives_what_callbacks_raise(self, inbox: Inbox) -> None:
        """Also SystemExit: the others of the group are answered all the same."""

        def leave(_: object) -> None:
            raise SystemExit

        first, second = (Push("e", Callback.new(b""), None, True) for _ in range(2))
        done: Any = ReplyFuture()
        entered, go_on = threading.Event(), threading.Event()

        def hold_up(operations: Operations, message: Any, stored: Any) -> None:
            entered.set()
            assert go_on.wait(60)

        assert inbox.backend._writer is not None
        inbox.backend._writer.submit(Job(hold_up, Sweep(), None, done))
        assert entered.wait(60)
        futures = [inbox.backend.execute(message) for message in (first, second)]
        futures[0].add_done_callback(leave)
        go_on.set()
        assert [future.get(timeout=60).outcome for future in futures] == ["queued"] * 2
        assert inbox.push("a") == "queued"

    def test_refuses_what_comes_too_late(self, inbox: Inbox) -> None:
        """Who got past the backend's check just before close() is answered all the same."""
        late = inbox.backend._writer
        assert late is not None
        inbox.backend.close()
        future: Any = ReplyFuture()
        late.submit(Job(Operations.index, IndexEndpoints(), None, future))
        with pytest.raises(BackendUnavailable, match="not open"):
            future.get(timeout=60)

    def test_is_a_task_of_a_simulated_run(self, tmp_path: Path) -> None:
        runs: list[tuple[Any, int, int]] = []
        for _ in range(2):
            path = tmp_path / f"{len(runs)}.db"
            with Simulation(seed=5) as simulation:
                app = Application(
                    SqliteBackend(path, durability="normal"),
                    runtime=simulation.runtime,
                    endpoints=[Endpoint.new(id="e", secret="s")],
                )
                with app:
                    pushes = [
                        app.callbacks.push("e", Callback.new(Request([], b"x"), id=str(n)))
                        for n in range(20)
                    ]
                    outcomes = [push.get().outcome for push in pushes]
                    count = app.callbacks.count("e").get()
                    names = {thread.name for thread in threading.enumerate()}
                    runs.append((outcomes, count, simulation.scheduler.turns))
                    assert not any(name.startswith("pollin-sqlite") for name in names)
        assert runs[0] == runs[1]
        assert runs[0][1] == 20


class TestValues:
    @pytest.mark.parametrize(
        "value",
        [
            (1, (b"x", None)),
            {1: "a", (2,): b""},
            {"$": 1},
            [{"$": ["tuple", []]}],
            float("inf"),
            # Two code points each, that UTF-16 would make one of.
            "\ud83d\ude00",
            {"\ud83d\ude00": 1, "\U0001f600": 2},
            Request([("a", "\ud83d\ude00\x00")], b""),
        ],
    )
    def test_come_back(self, inbox: Inbox, value: Any) -> None:
        inbox.do(Push("e", Callback.new(value), None, True))
        got = inbox.do(Pop("e")).request

        assert got == value
        assert type(got) is type(value)

    @pytest.mark.parametrize(
        "value",
        [object(), {1, 2}, bytearray(b"x"), int, [Request()], 10**5000],
        ids=lambda value: type(value).__name__,
    )
    def test_of_other_types_are_refused(self, inbox: Inbox, value: Any) -> None:
        got = "digits" if isinstance(value, int) else "got a "
        with pytest.raises(InvalidValue, match=rf"^Callback\.request: .*{got}"):
            inbox.push("a", value)
        assert inbox.do(Count("e")) == 0

    def test_are_nested_as_deeply_as_any_reader_can_read(self, inbox: Inbox) -> None:
        """What is deeper is refused at once: acknowledged, it might never be popped."""
        value: Any = 1
        for _ in range(DEPTH):
            value = {1: value}
        inbox.push("a", value)
        with pytest.raises(InvalidValue, match="levels of nesting"):
            inbox.push("b", [value])  # type: ignore[arg-type]
        circle: list[Any] = []
        circle.append(circle)
        with pytest.raises(InvalidValue, match="levels of nesting"):
            inbox.push("b", circle)  # type: ignore[arg-type]

        def far_down(frames: int) -> Any:
            return far_down(frames - 1) if frames else inbox.do(Pop("e")).request

        assert far_down(500) == value
        assert inbox.do(Count("e")) == 0

    def test_are_refused_only_to_who_may_push(self, inbox: Inbox) -> None:
        inbox.push("a")
        for message, expected in [
            (Push("e", Callback.new(object()), "wrong"), WrongSecret),
            (Push("f", Callback.new(object()), None, True), EndpointNotFound),
            (Push("e", Callback.new(object(), phase="gone"), None, True), UnknownPhase),
            (Push("e", Callback.new(object()), None, True), InvalidValue),
        ]:
            with pytest.raises(expected):
                inbox.do(message)
        assert inbox.push("a", object()) == "duplicate"  # type: ignore[arg-type]

    def test_out_of_range_are_refused(self, inbox: Inbox) -> None:
        with pytest.raises(InvalidValue, match=r"Callback\.created_at"):
            inbox.do(Push("e", Callback("a", b"", "", 1 << 63), None, True))
        with pytest.raises(InvalidValue, match=r"Endpoint\.created_at"):
            inbox.do(CreateEndpoint(Endpoint.new(id="f").replace(created_at=1 << 63)))


class TestProcesses:
    def test_share_a_file(self, inbox: Inbox) -> None:
        """Four processes push and pop: nothing lost, nothing twice, no error reaches a caller."""
        turns = 150
        command = [sys.executable, "-m", "tests.backends.hammer", str(inbox.path)]
        processes = [
            subprocess.Popen(
                [*command, str(number), str(turns)], cwd=ROOT, stdout=subprocess.PIPE, text=True
            )
            for number in range(4)
        ]
        popped: list[str] = []
        for process in processes:
            printed, _ = process.communicate(timeout=100)
            assert process.returncode == 0
            popped += json.loads(printed)
        while (callback := inbox.do(Pop("e"))) is not None:
            popped.append(callback.id)
        pushed = [
            f"{number}-{turn}-{n}"
            for number in range(4)
            for turn in range(turns)
            for n in range(1 + turn % 3)
        ]
        assert sorted(popped) == sorted(pushed)
        inbox.backend.close()
        check_file(inbox.path)

    def test_that_are_killed_lose_nothing(self, tmp_path: Path) -> None:
        """Twenty rounds here; CONTRIBUTING.md says how to have more."""
        rounds = Rounds(tmp_path / "inbox.db", seed=1)
        for _ in range(20):
            rounds.run()
        assert rounds.acknowledged

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_that_are_forked_are_refused(self, inbox: Inbox) -> None:
        """Neither the backend nor the file is used where the parent had it open."""
        code = (
            "import os, sys, time\n"
            "from pollin_actors.backends.sqlite import SqliteBackend\n"
            "from pollin_actors.messages import IndexEndpoints\n"
            "from pollin_actors.errors import ForkedProcess\n"
            "backend = SqliteBackend(sys.argv[1])\n"
            "backend.open(time.time_ns)\n"
            "backend.execute(IndexEndpoints()).get()\n"
            "if os.fork() == 0:\n"
            "    refused = 0\n"
            "    for call in (lambda: backend.execute(IndexEndpoints()), \n"
            "                 lambda: SqliteBackend(sys.argv[1]).open(time.time_ns)):\n"
            "        try:\n"
            "            call()\n"
            "        except ForkedProcess:\n"
            "            refused += 1\n"
            "    backend.close()\n"
            "    other = SqliteBackend(sys.argv[1] + '2')\n"
            "    other.open(time.time_ns)\n"
            "    other.execute(IndexEndpoints()).get()\n"
            "    other.close()\n"
            "    os._exit(refused)\n"
            "assert os.waitstatus_to_exitcode(os.wait()[1]) == 2\n"
            "backend.execute(IndexEndpoints()).get()\n"
            "backend.close()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(inbox.path)],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
