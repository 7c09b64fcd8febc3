"""What the calls of the facade have in common: finding the mailbox, and answers in several steps.

An answer that takes several messages is written as a generator that yields futures and returns
the value: a :data:`Steps`. It can be driven by whoever waits, or by the answers themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Hashable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypeVar

from pollin_actors.actors.changes import Changes
from pollin_actors.actors.claim_keeper import ClaimKeeper
from pollin_actors.errors import InvalidValue
from pollin_actors.instruments import NOBODY, Instrumentation
from pollin_actors.otp import OtpError, ReplyFuture
from pollin_actors.otp.mailbox import Mailbox

__all__ = ["Calls", "Find", "Steps", "failed", "nanoseconds", "run_steps"]

Find = Callable[[Hashable], Mailbox | None]

T = TypeVar("T")

Steps: TypeAlias = Generator[ReplyFuture[Any], Any, T]
"""Yields futures, is sent their values or thrown their errors, and returns the result."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Calls:
    """Calls to the actors of endpoints.

    Args:
        find: the mailbox of an endpoint's id if there is one, else None.
        new: makes it.
        changes: who waits for changes; one of its own by default, which nobody tells.
        keeper: keeps the claims that actors have made.
        poll_interval: seconds between two looks at a store that other processes change too; None
            if no other does.
        instruments: are told of every push.

    ``find`` and ``new`` raise ``NotRunning`` and the like.
    """

    def __init__(
        self,
        find: Find,
        new: Callable[[str], Mailbox],
        changes: Changes | None = None,
        keeper: ClaimKeeper | None = None,
        poll_interval: float | None = None,
        instruments: Instrumentation = NOBODY,
    ) -> None:
        self._find = find
        self._new = new
        self._changes = changes if changes is not None else Changes()
        self._keeper = keeper if keeper is not None else ClaimKeeper()
        self._poll_interval = poll_interval
        self._instruments = instruments
        self._push_watchers = instruments.sent_by

    def _mailbox(self, endpoint_id: str) -> Mailbox:
        return self._find(endpoint_id) or self._new(endpoint_id)

    def _explain(self, endpoint_id: str, error: BaseException) -> BaseException:
        """Why a message was not answered: if the application does not run any more, that."""
        if isinstance(error, OtpError):
            try:
                self._mailbox(endpoint_id)
            except Exception as refusal:
                return refusal
        return error


def failed(error: BaseException) -> ReplyFuture[Any]:
    """A reply that is there already: this error."""
    future: ReplyFuture[Any] = ReplyFuture()
    future._fail(error)
    return future


def nanoseconds(name: str, value: int | datetime | None) -> int | None:
    """A time as nanoseconds since the epoch; an int, which is that already, is not checked.

    Raises:
        InvalidValue: it is a datetime without a time zone, or before 1970.
    """
    if not isinstance(value, datetime):
        return value
    if value.utcoffset() is None or value < _EPOCH:
        expected = "nanoseconds since the epoch, or a datetime with a time zone, from 1970 on"
        raise InvalidValue(name, expected, repr(value), "datetime.now(UTC) has one")
    return (value - _EPOCH) // _MICROSECOND * 1000


def run_steps(
    steps: Steps[T], mailbox: Mailbox, name: str, timeout: float | None
) -> ReplyFuture[T]:
    """A future of what the steps return; each is taken by whoever answers the one before.

    Args:
        steps: what to do; quick between its yields.
        mailbox: whose runtime tells the time.
        name: how errors call it.
        timeout: seconds until the deadline of the whole, None for none.
    """
    return _Stepping(steps, mailbox, name, timeout).reply


class _Stepping:
    def __init__(
        self, steps: Steps[Any], mailbox: Mailbox, name: str, timeout: float | None
    ) -> None:
        self.reply: ReplyFuture[Any] = ReplyFuture()
        self._steps = steps
        start_deadline(self.reply, mailbox, name, timeout)
        self._go_on(None)

    def _go_on(self, settled: ReplyFuture[Any] | None) -> None:
        try:
            while not self.reply.done():
                waited_for = self._take_step(settled)
                if not waited_for.done():
                    # Whoever waits for the whole helps with the step.
                    self.reply._via = waited_for
                    waited_for.add_done_callback(self._go_on)
                    return
                settled = waited_for
        except StopIteration as stop:
            self.reply._settle((stop.value, None))
        except BaseException as error:
            # After an interrupt too the steps have ended: they cannot be taken again.
            self.reply._settle((None, sys.exc_info()))
            if not isinstance(error, Exception):
                raise

    def _take_step(self, settled: ReplyFuture[Any] | None) -> ReplyFuture[Any]:
        if settled is None:
            return next(self._steps)
        try:
            value = settled.get(timeout=0)
        except Exception as error:
            return self._steps.throw(error)
        return self._steps.send(value)


def start_deadline(
    reply: ReplyFuture[Any], mailbox: Mailbox, name: str, timeout: float | None
) -> None:
    """Let a future of our own have a deadline as a call to that mailbox has."""
    reply._target = mailbox
    if timeout is not None and mailbox.runtime is not None:
        reply._asked = (name, timeout)
        reply._deadline = mailbox.runtime.clock.monotonic() + timeout
