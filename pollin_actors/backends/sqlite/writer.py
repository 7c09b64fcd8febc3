"""The one that writes: takes whatever waits, commits it as one transaction, then answers."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from pollin_actors.backends.sqlite.failures import (
    HalfDone,
    busy,
    isolated,
    survives,
    unavailable,
)
from pollin_actors.backends.sqlite.operations import READS, Operations
from pollin_actors.errors import BackendUnavailable, ForkedProcess, PollinError
from pollin_actors.otp.futures import Outcome, ReplyFuture

if TYPE_CHECKING:
    from pollin_actors.otp.runtime import Scheduler

__all__ = ["Job", "Writer", "not_open"]

GROUP = 512
"""Messages in one transaction at most."""

log = structlog.get_logger("pollin_actors")


def not_open() -> BackendUnavailable:
    """The error of who comes before open() or after close()."""
    return BackendUnavailable("sqlite", "it is not open", "call open() first")


class Job(NamedTuple):
    """A message that was accepted."""

    run: Callable[[Operations, Any, Any], Any]
    message: Any
    stored: Any
    future: ReplyFuture[Any]


class Writer:
    """Owns the connection to one file. Messages take effect in the order of their submission.

    Arguments:
        path: of the file, for errors.
        connect: opens a connection; used again when one has become useless.
        time_ns: the clock.
        busy_timeout: seconds that a group waits for the lock of another process.
        scheduler: of a simulated run: there is no thread then, and groups are its tasks.

    Raises:
        BackendUnavailable: the file cannot be opened.
        ForkedProcess: it was open in the process that this one was forked from.
    """

    def __init__(
        self,
        path: str,
        connect: Callable[[], sqlite3.Connection],
        time_ns: Callable[[], int],
        busy_timeout: float,
        scheduler: Scheduler | None,
    ) -> None:
        self._path = path
        self._connect = connect
        self._time_ns = time_ns
        self._busy_timeout = busy_timeout
        self._scheduler = scheduler
        self._connection: sqlite3.Connection | None = None
        self._operations: Operations
        # Putting and waking is one step, which no interrupt can split.
        self._waiting: SimpleQueue[Job | None] = SimpleQueue()
        self._file = (0, 0)
        self._ended = False
        self._forked = False
        self._thread: threading.Thread | None = None
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            raise unavailable(path, error) from error
        _writers.add(self)
        if scheduler is None:
            name = f"pollin-sqlite-{os.path.basename(path)}"
            self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._thread.start()

    @property
    def label(self) -> str:
        """How a scheduler's errors call it."""
        return f"the writer of {self._path}"

    def submit(self, job: Job) -> None:
        """Accept a message; its future is settled once it is committed or has failed.

        Raises:
            ForkedProcess: it was opened in another process, before a fork.
        """
        if self._forked:
            raise ForkedProcess
        self._waiting.put(job)
        if self._ended:
            self._refuse_rest()
        elif self._scheduler is not None:
            self._scheduler.submit(self)

    def close(self) -> None:
        """Finish what was submitted, then let go of the file. Closing twice does nothing."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
        elif not self._ended:
            self.run()
            self._end()

    # -- taking groups -----------------------------------------------------------------------------

    def _serve(self) -> None:
        get, get_more = self._waiting.get, self._waiting.get_nowait
        closing = False
        while not closing:
            group: list[Job] = []
            job = get()
            try:
                while job is not None:
                    group.append(job)
                    if len(group) >= GROUP:
                        break
                    job = get_more()
                closing = job is None
            except Empty:
                pass
            if group:
                self._answer(group)
            # Held no longer than needed: they may be large, and it may be long until the next.
            del group, job
        self._end()

    def run(self, turns: int = GROUP, *, foreign: bool = False) -> None:
        """In simulated runs: commit what waits."""
        group: list[Job] = []
        while len(group) < GROUP:
            try:
                job = self._waiting.get_nowait()
            except Empty:
                break
            if job is not None:
                group.append(job)
        if group:
            self._answer(group)
            self.run()

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with suppress(sqlite3.Error):
                connection.close()
        # Who submits from now on sees this, and refuses itself what it put too late.
        self._ended = True
        self._refuse_rest()

    def _refuse_rest(self) -> None:
        with suppress(Empty):
            while True:
                job = self._waiting.get_nowait()
                if job is not None:
                    job.future._fail(not_open())

    # -- one group ---------------------------------------------------------------------------------

    def _answer(self, group: list[Job]) -> None:
        try:
            self._commit(group)
        except BaseException as error:
            # A defect of ours, or no memory: the thread lives on, and nobody waits for ever.
            log.exception("backend.writer_failed", path=self._path)
            for job in group:
                job.future._fail(unavailable(self._path, error))

    def _commit(self, group: list[Job]) -> None:
        until = monotonic() + self._busy_timeout
        while True:
            committing = False
            try:
                connection = self._connection
                if connection is None:
                    connection = self._open()
                outcomes = self._execute(connection, group)
                committing = True
                connection.execute("COMMIT")
                break
            except Exception as error:
                self._undo(error)
                if busy(error) and monotonic() < until:
                    continue
                if len(group) > 1 and not committing and isolated(error):
                    # One of them is to blame, and only that one is to fail.
                    for job in group:
                        self._commit([job])
                    return
                outcomes = [_failure(self._path, error) for _ in group]
                break
        for job, outcome in zip(group, outcomes, strict=True):
            job.future._settle(outcome)

    def _execute(self, connection: sqlite3.Connection, group: list[Job]) -> list[Outcome]:
        operations = self._operations
        reads = all(job.run in READS for job in group)
        connection.execute("BEGIN" if reads else "BEGIN IMMEDIATE")
        operations.begun()
        outcomes: list[Outcome] = []
        for run, message, stored, _ in group:
            before = connection.total_changes
            try:
                outcomes.append((run(operations, message, stored), None))
            except PollinError as error:
                if connection.total_changes != before:
                    raise HalfDone from error
                outcomes.append((None, (type(error), error, error.__traceback__)))
        return outcomes

    def _open(self) -> sqlite3.Connection:
        if _open_at_fork and os.path.exists(self._path) and _identity(self._path) in _open_at_fork:
            raise ForkedProcess
        connection = self._connect()
        self._file = _identity(self._path)
        self._operations = Operations(connection, self._time_ns)
        self._connection = connection
        return connection

    def _undo(self, error: Exception) -> None:
        connection = self._connection
        if connection is None:
            return
        self._operations.undone()
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            usable = survives(error)
        except sqlite3.Error:
            usable = False
        if not usable:
            self._connection = None
            with suppress(sqlite3.Error):
                connection.close()


def _failure(path: str, error: Exception) -> Outcome:
    if isinstance(error, HalfDone) and isinstance(error.__cause__, PollinError):
        told: PollinError = error.__cause__
    else:
        told = error if isinstance(error, PollinError) else unavailable(path, error)
    return None, (type(told), told, told.__traceback__)


# -- forks -----------------------------------------------------------------------------------------

_writers: weakref.WeakSet[Writer] = weakref.WeakSet()
# Closing a connection in a forked child would harm the parent's: they are kept from being closed.
_inherited: list[sqlite3.Connection] = []
# Files that were open at the fork, by device and inode. SQLite believes to hold locks on them.
_open_at_fork: set[tuple[int, int]] = set()


def _after_fork() -> None:
    for writer in tuple(_writers):
        if writer._connection is not None:
            _inherited.append(writer._connection)
            _open_at_fork.add(writer._file)
            writer._connection = None
        writer._ended = writer._forked = True
        writer._thread = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
