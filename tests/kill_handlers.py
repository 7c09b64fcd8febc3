"""Kill processes whose handlers work on a SQLite inbox, and see that nothing is lost.

    python -m tests.kill_handlers 100

Two processes have the same handlers, a third one, this, pushes. Again and again one of the two is
killed (SIGKILL) and another takes its place; meanwhile the file is locked for longer than anybody
waits for it, or the disk of one process is full. Handlers note each call in a file beside the
inbox. In the end every callback whose push was answered is processed or dead, and the history
tells the same as the notes.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import selectors
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import structlog

from pollin_actors import Application, BackendUnavailable, Callback, Endpoint, Request, Settings
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.handlers import Retry
from pollin_actors.otp import Backoff
from tests.backends.faulty_disk import FaultyDisk
from tests.backends.sqlite_file import check_file
from tests.chaos_handlers.book import Book, Call, Pushed, check_endpoint

__all__ = ["Killing"]

ENDPOINT = Endpoint.new(["received", "checked", "processed", "failed"], 0, id="e")
ATTEMPTS = 4
WORKERS = 2
BUSY_S = 0.2
AHEAD = 40
"""Pushes at most that nobody has begun to handle."""

KEYS = [None, None, *map(str, range(5))]


def open_app(path: Path) -> Application:
    """An application on the file."""
    return Application(
        SqliteBackend(path, busy_timeout=BUSY_S),
        endpoints=[ENDPOINT],
        settings=Settings(poll_interval=0.05),
    )


@contextmanager
def faulty_disk() -> Iterator[FaultyDisk | None]:
    """A disk that can be full; None where the SQLite of this Python hides its functions."""
    try:
        disk = FaultyDisk()
    except pytest.skip.Exception:
        yield None
        return
    disk.error, disk.lasting = errno.ENOSPC, True
    with disk:
        yield disk


# -- a process with handlers -----------------------------------------------------------------------


class Worker:
    """What a child process does.

    Args:
        path: of the file; the notes lie beside it.
        name: its own.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._chance = random.Random(name)
        self._notes = os.open(f"{path}.notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._app = open_app(path)
        options: dict[str, Any] = {
            "dead_letter": "failed",
            "max_attempts": ATTEMPTS,
            "backoff": Backoff(first=0.02, most=0.2, jitter=1.0),
            "timeout": 0.5,
            "lease": 0.5,
            "concurrency": 4,
        }
        self._app.add_handler(self.check, "e", then="checked", **options)
        self._app.add_handler(self.process, "e", phase="checked", then="processed", **options)

    def run(self) -> None:
        """Work, and take orders, until it is killed."""
        structlog.configure(processors=[self._logged])
        with faulty_disk() as disk, self._app:
            for order in sys.stdin:
                assert disk is not None
                disk.fail_at = disk.writes + 1 if order == "full\n" else None

    def check(self, callback: Callback) -> Any:
        """The handler that is no coroutine."""
        self._note(callback, "")
        if self._chance.random() < 0.01:
            threading.Event().wait()  # hangs
        return self._decide(callback, "checked")

    async def process(self, callback: Callback) -> Any:
        """The handler that is one."""
        self._note(callback, "")
        if self._chance.random() < 0.01:
            await asyncio.Event().wait()
        return self._decide(callback, "processed")

    def _decide(self, callback: Callback, then: str) -> Any:
        hashlib.sha256(bytes(self._chance.choice([0, 1_000_000]))).digest()
        draw = self._chance.random()
        if draw < 0.1:
            self._note(callback, "retry")
            return Retry()
        if draw < 0.15:
            self._note(callback, "error")
            raise ValueError("a mood")
        self._note(callback, f"done {then}")
        return None

    def _note(self, callback: Callback, result: str) -> None:
        parts = (callback.id, callback.phase, callback.attempts, time.time_ns(), result)
        os.write(self._notes, " ".join(map(str, parts)).encode() + b"\n")
        if not result:
            first = callback.phase == "received" and callback.attempts == 1
            os.write(1, b"first call\n" if first else b"call\n")

    @staticmethod
    def _logged(logger: Any, method: str, event: Any) -> Any:
        os.write(1, f"{event['event']}\n".encode())
        raise structlog.DropEvent


# -- the process that pushes and kills -------------------------------------------------------------


class Killing:
    """Rounds of killing on one file.

    Args:
        path: of the file.
        seed: of the moments at which processes are killed.
    """

    def __init__(self, path: Path, seed: int = 0) -> None:
        self._path = path
        self._chance = random.Random(seed)
        self._book = Book()
        self._started = 0
        self._workers: list[subprocess.Popen[bytes]] = []
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        # How many pushes may be made; each that is handled allows for one more.
        self._room = threading.Semaphore(AHEAD)
        self.acknowledged = self.killed = self.dead = self.lapsed = 0

    def run(self, rounds: int) -> None:
        """Kill so many processes, then look.

        Raises:
            AssertionError: something was lost, or the history is not true.
        """
        with open_app(self._path) as app:
            pusher = threading.Thread(target=self._push, args=(app,))
            pusher.start()
            try:
                for _ in range(WORKERS):
                    self._start()
                for number in range(rounds):
                    self._round(number)
                self._stopping = True
                self._room.release()
                pusher.join()
                while self._left(app):
                    self._read(0.1)
            finally:
                self._stopping = True
                self._room.release()
                for worker in self._workers[:]:
                    self._kill(worker)
                pusher.join()
            self._look(app)
        check_file(self._path)

    def _push(self, app: Application) -> None:
        chance = random.Random(self._started)
        number = 0
        while not self._stopping:
            self._room.acquire()
            number += 1
            key, id = chance.choice(KEYS), f"c{number}"
            pushed = self._book.pushes["e", id] = Pushed(key)
            callback = Callback.new(Request([], chance.randbytes(50)), id=id, ordering_key=key)
            try:
                app.callbacks.push("e", callback).get()
            except BackendUnavailable:
                self._room.release()  # nobody knows whether it is there
            else:
                pushed.accepted = True
                self.acknowledged += 1

    def _start(self) -> None:
        self._started += 1
        command = [sys.executable, "-m", "tests.kill_handlers", "--child", str(self._path)]
        worker = subprocess.Popen(
            [*command, str(self._started)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._workers.append(worker)
        assert worker.stdout is not None
        self._selector.register(worker.stdout, selectors.EVENT_READ, worker)

    def _kill(self, worker: subprocess.Popen[bytes]) -> None:
        assert worker.stdout is not None
        worker.kill()
        self._selector.unregister(worker.stdout)
        self._workers.remove(worker)
        with worker:
            self.killed += 1

    def _read(self, timeout: float | None = None) -> list[tuple[Any, str]]:
        """What the workers say; each call lets another push be made."""
        said = []
        for ready, _ in self._selector.select(timeout):
            pipe: IO[bytes] = ready.fileobj  # type: ignore[assignment]
            data = os.read(pipe.fileno(), 4096)
            assert data, f"a process has ended by itself: {ready.data.wait()}"
            for line in data.decode().splitlines():
                said.append((ready.data, line))
                if line == "first call":
                    self._room.release()
        return said

    def _calls(self, count: int) -> None:
        while count > 0:
            count -= sum(line.endswith("call") for _, line in self._read())

    def _until_refused(self, worker: Any) -> None:
        """Wait until a worker, or any, was refused by its backend."""
        while True:
            for who, line in self._read():
                if line == "handler.cannot_claim" and worker in (who, None):
                    return

    def _round(self, number: int) -> None:
        self._calls(self._chance.randint(1, 60))
        match number % 5:
            case 2:
                with self._locked():
                    self._until_refused(None)
            case 4:
                self._fill_disk()
        self._calls(self._chance.randint(1, 30))
        self._kill(self._chance.choice(self._workers))
        self._start()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The file, by somebody else."""
        with closing(sqlite3.connect(self._path, isolation_level=None, timeout=60)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    def _fill_disk(self) -> None:
        with faulty_disk() as disk:
            if disk is None:
                return
        worker = self._chance.choice(self._workers)
        assert worker.stdin is not None
        worker.stdin.write(b"full\n")
        self._until_refused(worker)
        worker.stdin.write(b"room\n")

    def _left(self, app: Application) -> int:
        return sum(app.callbacks.count("e", phase=p).get() for p in ("received", "checked"))

    # -- the look ----------------------------------------------------------------------------------

    def _look(self, app: Application) -> None:
        with app.callbacks.subscribe("e", follow=False) as subscription:
            records = list(subscription)
        self._read_notes()
        most = {"received": ATTEMPTS, "checked": ATTEMPTS}
        wrong = check_endpoint("e", records, self._book, {"received", "checked"}, most)
        assert wrong == []
        kinds = [record.kind.value for record in records]
        self.dead, self.lapsed = kinds.count("dead"), kinds.count("lapsed")

    def _read_notes(self) -> None:
        """Each call begins with a note, and ends with another if it was let."""
        calls: dict[tuple[str, str, int], Call] = {}
        for line in Path(f"{self._path}.notes").read_text().splitlines():
            id, phase, attempt, at, result = line.split(" ", 4)
            key = id, phase, int(attempt)
            if result:
                calls[key].result, calls[key].ended = result, int(at)
            else:
                assert key not in calls, f"{key} was called twice"
                calls[key] = Call("e", *key, int(at))
        self._book.calls = list(calls.values())


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        Worker(Path(sys.argv[2]), sys.argv[3]).run()
        return
    rounds = int(sys.argv[1]) if sys.argv[1:] else 100
    structlog.configure(processors=[_drop])
    with tempfile.TemporaryDirectory() as folder:
        killing = Killing(Path(folder) / "inbox.db", random.randrange(10**9))
        killing.run(rounds)
    print(
        f"{killing.killed} processes killed, {killing.acknowledged} pushes acknowledged, none "
        f"lost; {killing.lapsed} leases ran out, {killing.dead} callbacks are dead"
    )


def _drop(*_: object) -> Any:
    raise structlog.DropEvent


if __name__ == "__main__":
    main()
