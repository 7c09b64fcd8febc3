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
from typing import TYPE_CHECKING

from pollin_actors.backends.sqlite.failures import unavailable
from pollin_actors.backends.sqlite.link import Link
from pollin_actors.backends.sqlite.transactions import Job, Transactions
from pollin_actors.errors import BackendUnavailable, ForkedProcess
from pollin_actors.otp.errors import CallCycle
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


def not_open() -> BackendUnavailable:
    """The error of who comes before open() or after close()."""
    return BackendUnavailable("sqlite", "it is not open", "call open() first")


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
        self._busy_timeout = busy_timeout
        self._scheduler = scheduler
        self._link = Link(path, connect, time_ns)
        self._transactions = Transactions(self._link)
        # Only who holds the token takes from it, and only what is answered.
        self._waiting: deque[Job] = deque()
        self._token = Guard()
        # Set while a group is worked on; found set, that work was interrupted.
        self._begun = False
        # How often others have worked; whether the writer's thread looks by itself.
        self._helped = 0
        self._watching = False
        self._closing = self._ended = self._refused = self._forked = False
        self._thread: threading.Thread | None = None
        try:
            self._link.open()
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
        # A helper that holds the token rings afterwards if more has come. One that was interrupted
        # may have left nothing but the sign that it is at work.
        worked = False
        at_work = True
        while at_work and (self._waiting or self._begun):
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
        self._link.close()
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
            self._transactions.recover(patient)
            self._forget_answered()
            self._begun = False
        if self._ended:
            return
        # By number, because an iterator does not bear that others append; only we take away.
        waiting = self._waiting
        jobs = [waiting[number] for number in range(min(len(waiting), GROUP))]
        group = [job for job in jobs if job.future._outcome is None]
        self._begun = True
        if group:
            try:
                self._transactions.commit(group, patient, monotonic() + self._busy_timeout)
            except Exception as error:
                if not patient:
                    raise
                # A defect of ours, or no memory: the thread lives on, and nobody waits for ever.
                log_exception("backend.writer_failed", path=self._path)
                self._transactions.recover(True)
                for job in group:
                    job.future._fail(unavailable(self._path, error))
        self._forget_answered()
        self._begun = False


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _after_fork() -> None:
    for writer in tuple(_writers):
        writer._ended = writer._forked = True
        writer._thread = None
        writer._token = Guard()  # a thread that held it is not here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
