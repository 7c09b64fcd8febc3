"""What is done with a group of messages: one transaction, and only then the answers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import islice, takewhile
from time import monotonic
from typing import Any, NamedTuple

from pollin_actors.backends.sqlite.failures import (
    HalfDone,
    busy,
    isolated,
    read_only,
    unavailable,
)
from pollin_actors.backends.sqlite.link import Link
from pollin_actors.backends.sqlite.operations import READS, Operations
from pollin_actors.backends.sqlite.statements import BATCHES
from pollin_actors.errors import PollinError
from pollin_actors.otp.futures import Outcome, ReplyFuture
from pollin_actors.otp.last_words import log_exception

__all__ = ["Job", "Transactions"]

MOST, LEAST = BATCHES[0], BATCHES[-1]

# What may come of a transaction. Anything else, on the thread of a helper, is somebody else's.
_JUDGED = (sqlite3.Error, PollinError, HalfDone)


class Job(NamedTuple):
    """A message that was accepted."""

    run: Callable[[Operations, Any, Any], Any]
    message: Any
    stored: Any
    future: ReplyFuture[Any]


class Transactions:
    """Commits groups. An interrupt may end the work between any two instructions: whoever comes
    next calls ``recover`` first.

    Arguments:
        link: the connection.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        # A group whose outcomes hold as soon as its transaction is committed.
        self._committing: tuple[list[Job], list[Outcome]] | None = None

    def commit(self, group: list[Job], patient: bool, until: float) -> None:
        """Commit and answer a group; what cannot be committed is answered with its error.

        Arguments:
            group: the messages, in their order.
            patient: whether to wait for locks and to open the file if need be. If not, and there
                is need, the group is left as it is: unanswered.
            until: when to stop waiting for a lock, by the monotonic clock.
        """
        link = self._link
        reads = all(job.run in READS for job in group)
        while True:
            try:
                connection = link.connection
                if connection is None or (not reads and link.is_replaced()):
                    if not patient:
                        return  # that may take its time
                    link.drop()
                    connection = link.open()
                connection.execute("BEGIN" if reads else "BEGIN IMMEDIATE")
                outcomes = self._execute(connection, group)
                self._committing = group, outcomes
                connection.execute("COMMIT")
            except Exception as error:
                if not patient and self._is_foreign(error):
                    # Perhaps after the commit. Who takes the token next finishes what was begun.
                    raise
                # First of all: it was not committed.
                committing, self._committing = self._committing, None
                link.undo(error)
                if not patient:
                    return  # the writer's own thread waits, or finds out what is wrong
                if busy(error) and monotonic() < until:
                    continue
                if len(group) > 1 and committing is None and isolated(error):
                    # One of them is to blame, and only that one is to fail.
                    for job in group:
                        self.commit([job], patient, until)
                    return
                outcomes = self._failures(group, error, until)
                self._committing = group, outcomes
            self._settle(group, outcomes, patient)
            return

    def _is_foreign(self, error: Exception) -> bool:
        """Whether a signal handler may have raised it, in the thread of a helper."""
        traceback = error.__traceback__
        at_commit = self._committing is not None
        deeper = traceback is not None and traceback.tb_next is not None
        return not isinstance(error, _JUDGED) or (at_commit and deeper)

    def _failures(self, group: list[Job], error: Exception, until: float) -> list[Outcome]:
        """The outcomes of a group that cannot be committed. What only reads is answered."""
        failure = _failure(self._link.path, error)
        reads = [job for job in group if job.run in READS]
        if 0 < len(reads) < len(group) and (busy(error) or read_only(error)):
            # Nothing was changed before them, so it does not matter that they come last.
            self.commit(reads, True, until)
        return [failure] * len(group)

    def _settle(self, group: list[Job], outcomes: list[Outcome], patient: bool) -> None:
        for job, outcome in zip(group, outcomes, strict=True):
            try:
                job.future._settle(outcome)
            except BaseException:
                if not patient:
                    raise
                # The writer's own thread is not interrupted: it is some callback's doing, and the
                # others are to be answered.
                log_exception("backend.callback_failed", path=self._link.path)
        self._committing = None

    def _execute(self, connection: sqlite3.Connection, group: list[Job]) -> list[Outcome]:
        operations = self._link.operations
        operations.begun()
        outcomes: list[Outcome] = []
        one_by_one, last = 0, len(group)
        for number, job in enumerate(group):
            if number < len(outcomes):
                continue  # added with those before it
            if not one_by_one and last - number >= LEAST and job.run is Operations.push:
                results, one_by_one = operations.push_many(_pushes(group, number))
                outcomes += [(result, None) for result in results]
                if results:
                    continue
            one_by_one = max(one_by_one - 1, 0)
            before = connection.total_changes
            try:
                outcomes.append((job.run(operations, job.message, job.stored), None))
            except PollinError as error:
                if connection.total_changes != before:
                    raise HalfDone from error
                outcomes.append((None, (type(error), error, error.__traceback__)))
        return outcomes

    def recover(self, patient: bool) -> None:
        """Finish, or undo, what an interrupted thread had begun."""
        self._link.operations.undone()
        connection, committing = self._link.connection, self._committing
        if connection is not None and connection.in_transaction:
            self._committing = None
            self._link.undo(None)
        elif committing is not None:
            self._settle(*committing, patient)


def _pushes(group: list[Job], first: int) -> list[tuple[Any, Any]]:
    """The pushes that follow one another from there on, as many as are added at once."""
    jobs = takewhile(lambda job: job.run is Operations.push, islice(group, first, first + MOST))
    return [(job.message, job.stored) for job in jobs]


def _failure(path: str, error: Exception) -> Outcome:
    if isinstance(error, HalfDone) and isinstance(error.__cause__, PollinError):
        told: PollinError = error.__cause__
    else:
        told = error if isinstance(error, PollinError) else unavailable(path, error)
    return None, (type(told), told, told.__traceback__)
