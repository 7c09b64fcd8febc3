"""Pushes that the thread which waits for them carries out itself: no other thread need wake up."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from pollin_actors.backends.postgres.exchanges import UNHEARD, LeftUndone, receive
from pollin_actors.backends.postgres.failures import NAME, is_farewell
from pollin_actors.otp.last_words import log_exception

if TYPE_CHECKING:
    from pollin_actors.backends.postgres.compiling import Job
    from pollin_actors.backends.postgres.link import Link
    from pollin_actors.backends.postgres.operations import Operations
    from pollin_actors.backends.postgres.transactions import Transactions

__all__ = ["LEAST_HELP_S", "Helper"]

LEAST_HELP_S = 0.1
"""A thread helps if it would wait for so long, in seconds."""
_INTERRUPTED = "the thread that sent it was interrupted"
# libpq's number for a connection that waits for an answer.
_ACTIVE = 1
# For so long it waits for the server; then the writer's thread goes on with it.
MOST_HELP_S = 0.05
# And for so long, in milliseconds, the server waits for whoever holds the endpoint.
PATIENCE_MS = 20


class Helper:
    """Used by whoever holds the writer's token.

    An interrupt of a thread that helps may come between any two instructions. What was sent then
    is noted, and ``recover`` finds out what has become of it: mostly the thread was waiting, and
    the answer is still to come. Otherwise that one push is in doubt, and no other.

    Arguments:
        link: the connection.
        operations: what is known of endpoints.
        transactions: what answers.
    """

    def __init__(self, link: Link, operations: Operations, transactions: Transactions) -> None:
        self._link = link
        self._operations = operations
        self._transactions = transactions
        # What was sent, its reply, whether it is known to be committed, and what was heard of it.
        self._sent: tuple[Job, Any, bool, list[object]] | None = None

    def help(self, job: Job) -> bool:
        """Push one callback if nothing is in the way, and answer; say whether that is over.

        If not, it is for the writer's own thread, which calls ``recover`` first.
        """
        connection = self._link.connection
        if connection is None or not (self._link.is_quiet() and self._link.is_prepared()):
            return False
        try:
            found = self._operations.lone_push(job.message, job.stored)
        except TypeError:  # an id that cannot be looked up
            return False
        if found is None:
            return False
        values, reply = found
        # Before anything is sent, and until it is answered.
        heard: list[object] = []
        self._sent = job, reply, False, heard
        try:
            self._transactions.send_push(connection, values, PATIENCE_MS)
            refused = receive(connection.pgconn, monotonic() + MOST_HELP_S, heard)
        except LeftUndone:
            return False
        except Exception as error:
            if not connection.closed:
                raise  # a signal handler's: it says nothing about the push
            self._link.drop()
            certain = is_farewell(error)
            if not certain:
                self._transactions.doubt(job, error)
            self._sent = None
            return not certain
        if refused is not None:
            # Nothing was changed. The writer's own thread tries again with all that it knows.
            self._sent = None
            return False
        self._sent = job, reply, True, heard
        self._transactions.answer(job, reply)
        self._sent = None
        return True

    def recover(self) -> None:
        """Finish what a thread that helped has left: it was interrupted, or had no more time."""
        sent, self._sent = self._sent, None
        if sent is not None:
            self._finish(*sent)

    def _finish(self, job: Job, reply: Any, committed: bool, heard: list[object]) -> None:
        connection = self._link.connection
        if not committed:
            if connection is None or connection.pgconn.transaction_status != _ACTIVE:
                # Interrupted just before it was sent, or just after the answer had come.
                self._link.drop()
                self._transactions.doubt(job, InterruptedError(_INTERRUPTED))
                return
            try:
                if receive(connection.pgconn, None, heard) is not None:
                    return  # nothing was changed, and all is as if nobody had tried
            except Exception as error:
                self._link.drop()
                if not is_farewell(error):
                    self._transactions.doubt(job, error)
                return
            if UNHEARD in heard or not heard:
                self._transactions.doubt(job, InterruptedError(_INTERRUPTED))
                return
        try:
            # Also if a deadline was quicker: others are to be told.
            self._transactions.answer(job, reply)
        except BaseException:
            # The writer's own thread is not interrupted: it is some callback's doing.
            log_exception("backend.callback_failed", backend=NAME)
