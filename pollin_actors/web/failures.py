"""What the receiver logs: never a header, and not the same many times a second."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from pollin_actors.instruments.seldom import Seldom

__all__ = ["Failures"]

log = structlog.get_logger("pollin_actors")

_HERE = str(Path(__file__).parent)


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

    def lost(self, endpoint_id: str, error: BaseException) -> None:
        """Log one that was answered and is not stored, or count it."""
        self._log("error", "receiver.lost", endpoint_id, error=str(error))

    def unexpected(self, event: str, endpoint_id: str, error: BaseException) -> None:
        """Log an exception that nobody expected, or count it."""
        # Some renderers show the locals of each frame, and those of these modules hold the headers.
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_HERE):
            traceback = traceback.tb_next
        self._log("error", event, endpoint_id, exc_info=(type(error), error, traceback))

    def _log(self, level: str, event: str, endpoint_id: str, **more: Any) -> None:
        left_out = self._seldom.admit((event, endpoint_id), self._clock())
        if left_out is None:
            return
        # A log that fails is no reason to fail the request.
        with contextlib.suppress(Exception):
            getattr(log, level)(event, endpoint=endpoint_id, more=left_out, **more)
