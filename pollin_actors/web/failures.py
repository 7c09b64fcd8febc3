"""What the receiver logs: never a header, and not the same many times a second."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

__all__ = ["Refusals", "log_failure"]

log = structlog.get_logger("pollin_actors")

# Where the headers are in the variables of functions.
_OURS = tuple(str(Path(__file__).parents[1] / room) + os.sep for room in ("web", "signatures"))

INTERVAL_S = 1.0
MOST = 1_000
MOST_TEXT = 500


def log_failure(event: str, endpoint_id: str, error: BaseException, *, bare: bool = False) -> None:
    """Log an exception that nobody expected.

    Arguments:
        event: what the log calls it.
        endpoint_id: whose.
        error: the exception. Its traceback, and those of what it came from, lose what must not be
            shown: some renderers show the locals of each frame, and those of these modules hold the
            headers.
        bare: whether no frame at all may be shown.
    """
    for one in _all_of(error):
        one.__traceback__ = None if bare else _without_ours(one.__traceback__)
    # A log that fails is no reason to fail the request.
    with contextlib.suppress(Exception):
        log.error(event, endpoint=endpoint_id, exc_info=(type(error), error, error.__traceback__))


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


class Refusals:
    """Logs why requests were refused: for each endpoint once a second, and how many more there
    were. Whoever sends rubbish must not fill the log."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[float, int]] = {}

    def log(
        self, endpoint_id: str, reason: str, now: float, *, event: str = "receiver.refused"
    ) -> None:
        """Log one refusal, or count it.

        Arguments:
            endpoint_id: whose.
            reason: for operators; it must not hold anything secret.
            now: seconds, by a clock that does not go back.
            event: what the log calls it.
        """
        self.tell(event, endpoint_id, now, endpoint=endpoint_id, reason=reason)

    def unavailable(self, event: str, endpoint_id: str, error: BaseException, now: float) -> None:
        """Log an error of our own because of which nothing was taken, or count it.

        Arguments:
            event: what the log calls it.
            endpoint_id: whose; empty: of none, or of whatever a stranger has asked for.
            error: says what happened and what to do, and nothing secret.
            now: as for ``log``.
        """
        kind = type(error).__name__
        reason = str(error)[:MOST_TEXT]
        self.tell(
            event, f"{endpoint_id} {kind}", now, endpoint=endpoint_id, error=kind, reason=reason
        )

    def tell(self, event: str, key: str, now: float, **fields: Any) -> None:
        """Log something, or count it if the same has been logged in the last second.

        Arguments:
            event: what the log calls it.
            key: of the event, what is the same.
            now: as for ``log``.
            fields: what the log says of it.
        """
        until, more = self._last.get((event, key), (0.0, 0))
        if now < until:
            self._last[event, key] = (until, more + 1)
            return
        if len(self._last) >= MOST:
            self._last.clear()
        self._last[event, key] = (now + INTERVAL_S, 0)
        with contextlib.suppress(Exception):
            log.warning(event, **fields, more=more)
