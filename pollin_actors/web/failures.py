"""What the receiver logs: never a header, and not the same many times a second."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from pollin_actors.instruments.seldom import Seldom

__all__ = ["Failures"]

log = structlog.get_logger("pollin_actors")

# Where the headers are in the variables of functions.
_OURS = tuple(
    str(Path(__file__).parents[1] / room) + os.sep for room in ("web", "signatures", "instruments")
)

MOST_TEXT = 500
"""Characters of an error that are logged."""


class Failures:
    """Logs why requests were refused, and what went wrong: each for each endpoint once a second,
    and how many more there were. Whoever sends rubbish must not fill the log.

    Arguments:
        clock: seconds, by a clock that does not go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seldom = Seldom()

    def refused(self, event: str, endpoint_id: str, reason: str) -> None:
        """Log one refusal, or count it.

        Arguments:
            event: what the log calls it.
            endpoint_id: whose.
            reason: for operators; it must not hold anything secret.
        """
        self._log("warning", event, endpoint_id, reason=reason)

    def unavailable(self, event: str, endpoint_id: str, error: BaseException) -> None:
        """Log an error of our own because of which nothing was taken, or count it; of each kind
        once a second.

        Arguments:
            event: what the log calls it.
            endpoint_id: whose; empty: of none, or of whatever a stranger has asked for.
            error: says what happened and what to do, and nothing secret.
        """
        kind, reason = type(error).__name__, str(error)[:MOST_TEXT]
        self._log("warning", event, endpoint_id, kind, error=kind, reason=reason)

    def lost(self, endpoint_id: str, error: BaseException) -> None:
        """Log one that was answered and is not stored, or count it."""
        self._log("error", "receiver.lost", endpoint_id, error=str(error)[:MOST_TEXT])

    def unexpected(
        self, event: str, endpoint_id: str, error: BaseException, *, bare: bool = False
    ) -> None:
        """Log an exception that nobody expected, or count it.

        Arguments:
            event: what the log calls it.
            endpoint_id: whose; empty as of ``unavailable``.
            error: the exception. Its traceback, and those of what it came from, lose what must not
                be shown: some renderers show the locals of each frame, and those of these modules
                hold the headers.
            bare: whether no frame at all may be shown.
        """
        for one in _all_of(error):
            one.__traceback__ = None if bare else _without_ours(one.__traceback__)
        shown = (type(error), error, error.__traceback__)
        self._log("error", event, endpoint_id, exc_info=shown)

    def _log(self, level: str, event: str, endpoint_id: str, kind: str = "", **more: Any) -> None:
        left_out = self._seldom.admit((event, endpoint_id, kind), self._clock())
        if left_out is None:
            return
        # A log that fails is no reason to fail the request.
        with contextlib.suppress(Exception):
            getattr(log, level)(event, endpoint=endpoint_id, more=left_out, **more)


def _all_of(error: BaseException) -> Iterator[BaseException]:
    """An exception, what it came from, and what is in its groups."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__]
            if isinstance(one, BaseExceptionGroup):
                waiting += one.exceptions


def _without_ours(traceback: TracebackType | None) -> TracebackType | None:
    kept = []
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(_OURS):
            kept.append(traceback)
        traceback = traceback.tb_next
    for one in reversed(kept):
        traceback = TracebackType(traceback, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return traceback
