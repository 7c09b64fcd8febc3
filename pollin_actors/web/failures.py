"""What the receiver logs: never a header, and not the same refusal many times a second."""

from __future__ import annotations

import contextlib
from pathlib import Path

import structlog

__all__ = ["Refusals", "log_failure"]

log = structlog.get_logger("pollin_actors")

_HERE = str(Path(__file__).parent)

INTERVAL_S = 1.0
MOST = 1_000


def log_failure(event: str, endpoint_id: str, error: BaseException) -> None:
    """Log an exception that nobody expected."""
    # Some renderers show the locals of each frame, and those of these modules hold the headers.
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_HERE):
        traceback = traceback.tb_next
    # A log that fails is no reason to fail the request.
    with contextlib.suppress(Exception):
        log.error(event, endpoint=endpoint_id, exc_info=(type(error), error, traceback))


class Refusals:
    """Logs why requests were refused: for each endpoint once a second, and how many more there
    were. Whoever sends rubbish must not fill the log."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int]] = {}

    def log(self, endpoint_id: str, reason: str, now: float) -> None:
        """Log one refusal, or count it.

        Arguments:
            endpoint_id: whose.
            reason: for operators; it must not hold anything secret.
            now: seconds, by a clock that does not go back.
        """
        until, more = self._last.get(endpoint_id, (0.0, 0))
        if now < until:
            self._last[endpoint_id] = (until, more + 1)
            return
        if len(self._last) >= MOST:
            self._last.clear()
        self._last[endpoint_id] = (now + INTERVAL_S, 0)
        with contextlib.suppress(Exception):
            log.warning("receiver.refused", endpoint=endpoint_id, reason=reason, more=more)
