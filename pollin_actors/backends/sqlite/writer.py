"""The one that writes: takes whatever waits, commits it as one transaction, then answers."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from pollin_actors.backends.sqlite.failures import (
    HalfDone,
    busy,
    isolated,
    read_only,
    survives,
    unavailable,
)
from pollin_actors.backends.sqlite.operations import READS, Operations
from pollin_actors.errors import BackendUnavailable, ForkedProcess, PollinError
from pollin_actors.otp.errors import CallCycle
from pollin_actors.otp.futures import Outcome, ReplyFuture
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.last_words import log_exception

if TYPE_CHECKING:
    from pollin_actors.otp.runtime import Scheduler

__all__ = ["Job", "Writer", "not_open"]

GROUP = 512
"""Messages in one transaction at most."""

# A waiting thread works itself if it has so much time, and no more messages wait than these:
# where many are in flight, the writer's own thread does better beside it.
LEAST_HELP_S = 0.1
MOST_HELP = 8

# While others work, the writer's own thread looks so often, and gives up after so many times.
WATCH_S = 0.005
WATCHES = 10

# What a helper judges; anything else goes to who waits, and the writer's own thread tries again.
_JUDGED = (sqlite3.Error, PollinError, HalfDone)

_REMOVED = "put it back, or close the backend and open it to begin with an empty one"


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

    Whoever holds the token works: the thread of the writer, or a thread that waits for an answer
    and finds the token free. An interrupt may end the latter's work between any two
    instructions: messages stay where they wait until they are answered, and who comes next
    finishes what was begun.

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
        self._file: tuple[int, int] | None = None
        # Only who holds the token takes from it, and only what is answered.
        self._waiting: deque[Job] = deque()
        self._token = Guard()
        # Set while a group is worked on; found set, that work was interrupted.
        self._begun = False
        # A group whose outcomes hold as soon as its transaction is committed.
        self._committing: tuple[list[Job], list[Outcome]] | None = None
        # How often others have worked; whether the writer's thread looks by itself.
        self._helped = 0
        self._watching = False
        self._closing = self._ended = self._refused = self._forked = False
        self._thread: threading.Thread | None = None
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            raise unavailable(path, error) from error
        _writers.add(self)
        if scheduler is None:
            self._bell = threading.Lock()
            self._bell.acquire()
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
        if self._scheduler is None:
            job.future._help = self.help
        try:
            self._waiting.append(job)
            if self._ended:
                self._token.run(self._refuse_rest)
            elif self._scheduler is not None:
                self._scheduler.submit(self)
            # Who is at work looks again afterwards, and who watches looks often.
            elif not self._begun and (not self._watching or len(self._waiting) > MOST_HELP):
                self._ring()
        except BaseException:
            if self._scheduler is None:
                self._ring()  # it may wait already, and is to be answered soon
            raise

    def help(self, timeout: float | None) -> None:
        """Commit what waits, unless somebody does already: for a thread that would only wait.

        Arguments:
            timeout: seconds that it would wait.

        Raises:
            CallCycle: this thread is in the middle of it: a signal handler or callback asks.
            ForkedProcess: the message was sent in another process, before a fork.
        """
        if self._token.is_held():
            raise CallCycle(
                f"this thread is {self.label} at the moment and cannot wait for its answer; "
                f"leave the future, or hand the call to another thread"
            )
        if self._forked:
            raise ForkedProcess
        if timeout is not None and timeout < LEAST_HELP_S:
            return
        if len(self._waiting) > MOST_HELP:
            return
        try:
            if self._token.attempt(self._work, False):
                self._helped += 1
            # What came meanwhile found somebody at work, and left the writer asleep.
            if self._waiting:
                self._ring()
        except BaseException:
            self._ring()
            raise

    def close(self) -> None:
        """Finish what was submitted, then let go of the file. Closing twice does nothing.

        In the middle of a commit, in a signal handler for one, it does not wait: the file is let
        go of once that commit is done.
        """
        self._closing = True
        if self._thread is not None:
            self._ring()
            if not self._token.is_held():
                self._thread.join()
        elif not self._ended:
            self.run()
            self._token.run(self._end)

    # -- taking groups -----------------------------------------------------------------------------

    def _ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            return  # it rings already

    def _serve(self) -> None:
        while not self._closing:
            self._bell.acquire()
            if not self._work_off():
                # Others were quicker, and will be again.
                self._watch()
                self._work_off()
        while not self._refused:
            try:
                self._token.run(self._end)
            except BaseException:
                log_exception("backend.writer_failed", path=self._path)

    def _work_off(self) -> bool:
        """Commit what waits, and say whether there was anything to do."""
        # A helper that holds the token rings afterwards if more has come.
        worked = False
        at_work = True
        while at_work and self._waiting:
            try:
                at_work = self._token.attempt(self._work, True)
                worked = worked or at_work
            except BaseException:
                # SystemExit in somebody's callback, for one: others still wait.
                log_exception("backend.writer_failed", path=self._path)
        return worked

    def _watch(self) -> None:
        """For as long as those who wait do the work themselves: to be woken for each message
        would cost more than the message. What nobody has begun within a moment is done here."""
        self._watching = True
        idle = 0
        while idle < WATCHES and not self._closing:
            helped, head = self._helped, self._head()
            if self._bell.acquire(timeout=WATCH_S) or (head and self._head() is head):
                self._work_off()
            idle = idle + 1 if self._helped == helped else 0
        # Who submits rings again; what came before that is seen by who calls this.
        self._watching = False

    def _head(self) -> Job | None:
        try:
            return self._waiting[0]
        except IndexError:
            return None

    def run(self, turns: int = GROUP, *, foreign: bool = False, executor: object = None) -> None:
        """In simulated runs: commit what waits."""
        while self._waiting:
            self._token.run(self._work, True)

    def _end(self) -> None:
        while self._waiting:
            self._work(True)
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with suppress(sqlite3.Error):
                connection.close()
        # Who submits from now on sees this, and refuses itself what came too late.
        self._ended = True
        self._refuse_rest()
        self._refused = True

    def _refuse_rest(self) -> None:
        # A callback may submit more, and is refused in here.
        with suppress(IndexError):
            while True:
                self._waiting[0].future._fail(not_open())
                self._forget_answered()

    def _forget_answered(self) -> None:
        waiting = self._waiting
        try:
            while waiting[0].future._outcome is not None:
                waiting.popleft()
        except IndexError:
            return

    # -- one group ---------------------------------------------------------------------------------

    def _work(self, patient: bool) -> None:
        """Commit and answer one group. Without patience it is left alone if the file is locked."""
        if self._begun:
            self._recover()
        if self._ended:
            return
        # By number, because an iterator does not bear that others append; only we take away.
        waiting = self._waiting
        jobs = [waiting[number] for number in range(min(len(waiting), GROUP))]
        group = [job for job in jobs if job.future._outcome is None]
        self._begun = True
        if group:
            try:
                self._commit(group, patient, monotonic() + self._busy_timeout)
            except Exception as error:
                if not patient:
                    raise
                # A defect of ours, or no memory: the thread lives on, and nobody waits for ever.
                log_exception("backend.writer_failed", path=self._path)
                self._recover()
                for job in group:
                    job.future._fail(unavailable(self._path, error))
        self._forget_answered()
        self._begun = False

    def _recover(self) -> None:
        """Finish, or undo, what an interrupted thread had begun."""
        self._operations.undone()
        connection, committing = self._connection, self._committing
        if connection is not None and connection.in_transaction:
            self._committing = None
            self._undo(None)
        elif committing is not None:
            self._settle(*committing)
        self._forget_answered()
        self._begun = False

    def _commit(self, group: list[Job], patient: bool, until: float) -> None:
        reads = all(job.run in READS for job in group)
        while True:
            try:
                connection = self._connection
                if connection is None or (not reads and self._is_replaced()):
                    if not patient:
                        return  # that may take its time
                    self._drop()
                    connection = self._open()
                connection.execute("BEGIN" if reads else "BEGIN IMMEDIATE")
                outcomes = self._execute(connection, group)
                self._committing = group, outcomes
                connection.execute("COMMIT")
            except Exception as error:
                if not patient and not isinstance(error, _JUDGED):
                    # Perhaps a signal handler's, and perhaps after the commit. Who takes the token
                    # next finishes what was begun; on the writer's thread no handler runs.
                    raise
                # First of all: it was not committed.
                committing, self._committing = self._committing, None
                self._undo(error)
                if busy(error):
                    if not patient:
                        return
                    if monotonic() < until:
                        continue
                if len(group) > 1 and committing is None and isolated(error):
                    # One of them is to blame, and only that one is to fail.
                    for job in group:
                        self._commit([job], patient, until)
                        if job.future._outcome is None:
                            return  # somebody has the lock: the rest keeps its place behind it
                    return
                outcomes = self._failures(group, error, patient, until)
                self._committing = group, outcomes
            self._settle(group, outcomes)
            return

    def _failures(
        self, group: list[Job], error: Exception, patient: bool, until: float
    ) -> list[Outcome]:
        """The outcomes of a group that cannot be committed. What only reads is answered."""
        failure = _failure(self._path, error)
        reads = [job for job in group if job.run in READS]
        if 0 < len(reads) < len(group) and (busy(error) or read_only(error)):
            # Nothing was changed before them, so it does not matter that they come last.
            self._commit(reads, patient, until)
        return [failure] * len(group)

    def _settle(self, group: list[Job], outcomes: list[Outcome]) -> None:
        for job, outcome in zip(group, outcomes, strict=True):
            job.future._settle(outcome)
        self._committing = None

    def _execute(self, connection: sqlite3.Connection, group: list[Job]) -> list[Outcome]:
        operations = self._operations
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

    def _is_replaced(self) -> bool:
        """Whether the file is not the one at its path any more: what is written would be lost."""
        try:
            return _identity(self._path) != self._file
        except OSError:
            return True

    def _open(self) -> sqlite3.Connection:
        if _open_at_fork and os.path.exists(self._path) and _identity(self._path) in _open_at_fork:
            raise ForkedProcess
        # A file that was there once is never made anew: what it held was acknowledged.
        if self._file is not None and not os.path.exists(self._path):
            raise BackendUnavailable("sqlite", f"{self._path} was removed", _REMOVED)
        connection = self._connect()
        self._file = _identity(self._path)
        self._operations = Operations(connection, self._time_ns, self._path)
        self._connection = connection
        return connection

    def _undo(self, error: Exception | None) -> None:
        self._operations.undone()
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            usable = error is None or survives(error)
        except sqlite3.Error:
            usable = False
        if not usable:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
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
        # Without a connection it may be opening or closing one at this moment.
        if not writer._refused and writer._file is not None:
            _open_at_fork.add(writer._file)
        if writer._connection is not None:
            _inherited.append(writer._connection)
            writer._connection = None
        writer._ended = writer._forked = True
        writer._thread = None
        writer._token = Guard()  # a thread that held it is not here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
