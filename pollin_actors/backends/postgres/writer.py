"""The one that writes: takes whatever waits, commits it as one transaction, then answers."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pollin_actors.backends.postgres.compiling import Job
from pollin_actors.backends.postgres.failures import NAME, unavailable
from pollin_actors.backends.postgres.helping import LEAST_HELP_S, Helper
from pollin_actors.backends.postgres.operations import Operations
from pollin_actors.backends.postgres.schema import migrate
from pollin_actors.backends.postgres.transactions import Transactions
from pollin_actors.errors import BackendUnavailable, ForkedProcess, PollinError
from pollin_actors.otp.errors import CallCycle
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.last_words import log_exception

if TYPE_CHECKING:
    from pollin_actors.backends.postgres.link import Link
    from pollin_actors.otp.futures import Outcome
    from pollin_actors.otp.runtime import Scheduler

__all__ = ["Job", "Writer", "not_open"]

GROUP = 512
"""Messages in one transaction at most."""

# A waiting thread works itself if no more messages than these wait: it knows how to push one.
MOST_HELP = 1

# While others work, the writer's own thread looks so often, and gives up after so many times.
WATCH_S = 0.005
WATCHES = 10

# After so many pushes twice as many are forgotten that have been gone for long enough: so that what
# is due never piles up.
FORGET_EVERY = 512


def not_open() -> BackendUnavailable:
    """The error of who comes before open() or after close()."""
    return BackendUnavailable(NAME, "it is not open", "call open() first")


class Writer:
    """Owns the connection on which all messages are carried out, in the order of their submission.

    One connection, because that is what keeps the order: a thread's messages take effect in the
    order in which it has sent them, also if one of them reads. They wait for the network anyway,
    and what waits is sent as one.

    Whoever holds the token works: the thread of the writer, the scheduler of a simulated run, or,
    for a single push, the thread that waits for it. Messages stay where they wait until they are
    answered, and who comes next finishes what was begun.

    Arguments:
        link: the connection.
        time_ns: the clock.
        told: called after each commit with what it has carried out, and the outcomes.
        scheduler: of a simulated run: there is no thread then, and groups are its tasks.

    Raises:
        BackendUnavailable: the server cannot be reached, or its schema cannot be used.
        MissingExtra: psycopg is not installed.
    """

    def __init__(
        self,
        link: Link,
        time_ns: Callable[[], int],
        told: Callable[[Sequence[Job], Sequence[Outcome]], None],
        scheduler: Scheduler | None,
    ) -> None:
        self._link = link
        self._scheduler = scheduler
        self._time_ns = time_ns
        self._operations = Operations(link.address.schema, time_ns)
        self._transactions = Transactions(link, self._operations, told)
        self._helper = Helper(link, self._operations, self._transactions)
        # Only who holds the token takes from it, and only what is answered.
        self._waiting: deque[Job] = deque()
        self._token = Guard()
        # Set while somebody works; found set, that work was interrupted, or left undone.
        self._begun = False
        # How often others have worked; whether the writer's thread looks by itself.
        self._helped = 0
        # Once at the beginning: many short processes would never come to it otherwise.
        self._pushed = FORGET_EVERY
        self._watching = False
        self._closing = self._ended = self._refused = self._forked = False
        self._thread: threading.Thread | None = None
        try:
            migrate(link.open(), link.address.schema)
        except PollinError:
            link.drop()
            raise
        except Exception as error:
            link.drop()
            raise unavailable(error, link.address.password) from error
        _writers.add(self)
        if scheduler is None:
            self._bell = threading.Lock()
            self._bell.acquire()
            self._thread = threading.Thread(
                target=self._serve, name=f"pollin-postgres-{link.address.schema}", daemon=True
            )
            try:
                self._thread.start()
            except BaseException:
                link.drop()
                raise

    @property
    def label(self) -> str:
        """How a scheduler's errors call it."""
        return f"the writer of schema {self._link.address.schema}"

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
            # Who is at work looks again afterwards. Who watches looks often, and soon enough for
            # who waits and helps; an event loop does neither.
            elif not self._begun and (
                not self._watching
                or len(self._waiting) > MOST_HELP
                or asyncio._get_running_loop() is not None
            ):
                self._ring()
        except BaseException:
            if self._scheduler is None:
                self._ring()  # it may wait already, and is to be answered soon
            raise

    def help(self, timeout: float | None) -> None:
        """Push what waits if it is a single callback, unless somebody is at work already: for a
        thread that would only wait.

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
        if (timeout is not None and timeout < LEAST_HELP_S) or len(self._waiting) > MOST_HELP:
            return
        try:
            self._token.attempt(self._help_one)
            # What came meanwhile found somebody at work, and left the writer asleep; and there is
            # what a helper cannot do. That there is something to forget is said once: helpers hold
            # the token nearly all the time, and would wake the writer with each push, and in vain.
            if self._waiting or self._pushed == FORGET_EVERY:
                self._ring()
        except BaseException:
            self._ring()
            raise

    def _help_one(self) -> None:
        # What was interrupted, or left, is for the writer's own thread, which has the time; and so
        # is the push that comes when there is something to forget.
        if self._begun or self._ended or len(self._waiting) != 1:
            return
        if self._pushed >= FORGET_EVERY:
            return
        job = self._waiting[0]
        if job.run is not Operations.push:
            return
        self._begun = True
        if job.future._outcome is None:
            if not self._helper.help(job):
                return
            self._helped += 1
            self._pushed += 1
        self._forget_answered()
        self._begun = False

    def close(self) -> None:
        """Finish what was submitted, then let go of the server. Closing twice does nothing.

        In the middle of a commit, in somebody's callback or a signal handler, it does not wait:
        the server is let go of once that commit is done.
        """
        self._closing = True
        if self._thread is not None:
            self._ring()
            if not self._token.is_held():
                self._thread.join()
        elif not self._ended and not self._forked:
            self.run()
            self._token.run(self._end)

    # -- taking groups -----------------------------------------------------------------------------

    def _ring(self) -> None:
        with suppress(RuntimeError):  # it rings already
            self._bell.release()

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
                log_exception("backend.writer_failed", schema=self._link.address.schema)

    def _work_off(self) -> bool:
        """Commit what waits, and say whether there was anything to do."""
        # A helper that holds the token rings afterwards if more has come. One that was interrupted
        # may have left nothing but the sign that it is at work.
        worked = False
        at_work = True
        while at_work and (self._waiting or self._begun or self._pushed >= FORGET_EVERY):
            try:
                at_work = self._token.attempt(self._work)
                worked = worked or at_work
            except BaseException:
                # SystemExit in somebody's callback, for one: others still wait.
                log_exception("backend.writer_failed", schema=self._link.address.schema)
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
            self._token.run(self._work)

    def _end(self) -> None:
        while self._waiting or self._begun:
            try:
                self._work()
            except BaseException:
                log_exception("backend.writer_failed", schema=self._link.address.schema)
        self._link.drop()
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

    def _work(self) -> None:
        """Commit and answer one group."""
        if self._begun:
            self._helper.recover()
            self._forget_answered()
            self._begun = False
        # By number, because an iterator does not bear that others append; only we take away.
        waiting = self._waiting
        jobs = [waiting[number] for number in range(min(len(waiting), GROUP))]
        group = [job for job in jobs if job.future._outcome is None]
        self._begun = True
        if group:
            self._pushed += sum([job.run is Operations.push for job in group])
            try:
                self._link.open()
            except Exception as error:
                # Who waits behind them would find out the same, and later.
                self._fail([*group, *self._behind(len(jobs))], error)
            else:
                try:
                    self._transactions.commit(group)
                except BaseException as error:
                    # A defect of ours, no memory, or an interrupt of a simulated run: whatever
                    # was on its way is in doubt, and nobody waits for ever.
                    self._link.drop()
                    self._operations.undone()
                    self._fail(group, error, unknown=True)
                    raise
        # When hardly anything waits; but they may wait all the time.
        idle = len(waiting) - len(jobs) <= MOST_HELP
        if self._pushed >= (FORGET_EVERY if idle else 4 * FORGET_EVERY):
            self._tidy()
        self._forget_answered()
        self._begun = False

    def _tidy(self) -> None:
        pushed, self._pushed = self._pushed, 0
        self._transactions.forget(2 * pushed)

    def _behind(self, number: int) -> list[Job]:
        waiting = self._waiting
        return [waiting[other] for other in range(number, len(waiting))]

    def _fail(self, jobs: Sequence[Job], error: BaseException, *, unknown: bool = False) -> None:
        told = error
        if not isinstance(error, PollinError):
            told = unavailable(error, self._link.address.password, unknown=unknown)
        for job in jobs:
            try:
                job.future._fail(told)
            except BaseException:
                log_exception("backend.callback_failed", backend=NAME)


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _after_fork() -> None:
    for writer in tuple(_writers):
        writer._ended = writer._forked = True
        writer._thread = None
        writer._token = Guard()  # a thread that held it is not here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
