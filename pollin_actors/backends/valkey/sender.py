"""The one that speaks to the server: takes whatever waits, sends it together, reads the answers."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile
from time import monotonic
from typing import TYPE_CHECKING

from pollin_actors.backends.valkey.exchange import Exchange, Job
from pollin_actors.backends.valkey.failures import unavailable
from pollin_actors.backends.valkey.steps import STEPS
from pollin_actors.errors import BackendUnavailable, ForkedProcess, PollinError
from pollin_actors.otp.errors import CallCycle
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.last_words import log_exception

if TYPE_CHECKING:
    from pollin_actors.otp.runtime import Scheduler

__all__ = ["Sender", "not_open"]

GROUP = 512
"""Messages that are sent together at most."""

# A waiting thread works itself if it has so much time, and no more messages wait than these:
# where many are in flight, the sender's own thread does better beside it.
LEAST_HELP_S = 0.1
MOST_HELP = 8

# While others work, the sender's own thread looks so often, and gives up after so many times.
WATCH_S = 0.005
WATCHES = 10


def not_open() -> BackendUnavailable:
    """The error of who comes before open() or after close()."""
    return BackendUnavailable("valkey", "it is not open", "call open() first")


class Sender:
    """Owns the connections. Messages take effect in the order of their submission.

    Whoever holds the token works: the thread of the sender, or a thread that waits for an answer
    and finds the token free. While such a thread only waits for the server it may be interrupted,
    or give up: the sender's thread reads the answers then. If it is interrupted while it sends or
    reads, nobody knows how far it came: the connections are given up, and so is what was in flight.

    Arguments:
        exchange: the servers; open.
        scheduler: of a simulated run: there is no thread then, and groups are its tasks.
    """

    def __init__(self, exchange: Exchange, scheduler: Scheduler | None) -> None:
        self._exchange = exchange
        self._scheduler = scheduler
        # Only who holds the token takes from it, and only what is answered.
        self._waiting: deque[Job] = deque()
        self._token = Guard()
        # Set while connections are used; found set, that work was interrupted.
        self._begun = False
        # Set while somebody holds the token and will look again afterwards.
        self._at_work = False
        # How often others have worked; whether the sender's thread looks by itself.
        self._helped = 0
        self._watching = False
        self._closing = self._ended = self._refused = self._forked = False
        self._thread: threading.Thread | None = None
        _senders.add(self)
        if scheduler is None:
            self._bell = threading.Lock()
            self._bell.acquire()
            name = f"pollin-valkey-{exchange.label}"
            self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._thread.start()

    @property
    def label(self) -> str:
        """How a scheduler's errors call it."""
        return f"the sender to {self._exchange.label}"

    def submit(self, job: Job) -> None:
        """Accept a message; its future is settled once it is answered or has failed.

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
            elif not self._at_work and (not self._watching or len(self._waiting) > MOST_HELP):
                self._ring()
        except BaseException:
            if self._scheduler is None:
                self._ring()  # it may wait already, and is to be answered soon
            raise

    def help(self, timeout: float | None) -> None:
        """Send what waits and read the answers, unless somebody does already: for a thread that
        would only wait.

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
            if self._token.attempt(self._work, timeout):
                self._helped += 1
            # What came meanwhile found somebody at work, and left the sender asleep.
            if self._waiting:
                self._ring()
        except BaseException:
            self._ring()
            raise

    def close(self) -> None:
        """Finish what was submitted, then let go of the servers. Closing twice does nothing.

        In the middle of an exchange, in a signal handler for one, it does not wait: the servers are
        let go of once that is done.
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
                log_exception("backend.sender_failed", server=self._exchange.label)

    def _work_off(self) -> bool:
        """Work on what waits, and say whether there was anything to do."""
        # A helper that holds the token rings afterwards if more has come. One that was interrupted
        # may have left nothing but the sign that it is at work.
        worked = False
        at_work = True
        while at_work and (self._waiting or self._begun):
            try:
                at_work = self._token.attempt(self._work, None, True)
                worked = worked or at_work
            except BaseException:
                # SystemExit in somebody's callback, for one: others still wait.
                log_exception("backend.sender_failed", server=self._exchange.label)
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
        """In simulated runs: work on what waits."""
        while self._waiting:
            self._token.run(self._work, None, True)

    def _end(self) -> None:
        while self._waiting:
            self._work(None, True)
        self._exchange.drop()
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

    def _work(self, timeout: float | None, patient: bool = False) -> None:
        """Send one group and read its answers. Without patience only what may be left to the
        sender's thread at any time: waiting for the server ends after the timeout."""
        self._at_work = True
        try:
            self._work_once(timeout, patient)
        finally:
            self._at_work = False

    def _work_once(self, timeout: float | None, patient: bool) -> None:
        exchange = self._exchange
        if self._begun:
            exchange.lose()
            self._begun = False
        if self._ended:
            return
        until = None if timeout is None else monotonic() + timeout
        if not exchange.is_waiting:
            group = self._group()
            if not group:
                return
            takes_steps = group[0].call is None
            is_ready = not takes_steps and exchange.is_ready(group)
            if not (patient or is_ready):
                return  # it may take long
            if takes_steps:
                self._take_steps(group[0])
                return
            self._begun = True
            self._guarded(group, lambda: exchange.send(group, is_ready))
            self._begun = False
        if not patient and not exchange.answers(None if until is None else until - monotonic()):
            return
        self._begun = True
        self._guarded([], exchange.read)
        self._forget_answered()
        self._begun = False

    def _group(self) -> list[Job]:
        """What is sent next: one that takes several steps, or those before the next such."""
        self._forget_answered()
        # By number, because an iterator does not bear that others append; only we take away.
        waiting = self._waiting
        jobs = [waiting[number] for number in range(min(len(waiting), GROUP))]
        open_ = [job for job in jobs if job.future._outcome is None]
        if open_ and open_[0].call is None:
            return open_[:1]
        return list(takewhile(lambda job: job.call is not None, open_))

    def _take_steps(self, job: Job) -> None:
        self._begun = True
        try:
            reply = STEPS[type(job.message)](self._exchange, job.message)
        except PollinError as error:
            job.future._fail(error)
        except Exception as error:
            # A defect of ours: the thread lives on, and nobody waits for ever.
            log_exception("backend.sender_failed", server=self._exchange.label)
            self._exchange.drop()
            job.future._fail(unavailable(self._exchange.label, error))
        else:
            job.future._settle((reply, None))
        self._forget_answered()
        self._begun = False

    def _guarded(self, group: list[Job], act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:
            # A defect of ours: the thread lives on, and nobody waits for ever.
            log_exception("backend.sender_failed", server=self._exchange.label)
            self._exchange.lose()
            for job in group:
                job.future._fail(unavailable(self._exchange.label, error))


_senders: weakref.WeakSet[Sender] = weakref.WeakSet()


def _after_fork() -> None:
    for sender in tuple(_senders):
        sender._ended = sender._forked = True
        sender._thread = None
        sender._token = Guard()  # a thread that held it is not here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
