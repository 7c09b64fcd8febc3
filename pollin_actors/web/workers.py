"""Whether this process is one of several workers of a server."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys

import structlog

from pollin_actors.application import Application
from pollin_actors.otp import Runtime

__all__ = ["Workers", "one_of_several"]

log = structlog.get_logger("pollin_actors")

SERVERS = ("gunicorn", "uvicorn", "hypercorn")
"""Those that start as many workers as ``WEB_CONCURRENCY`` says."""


def one_of_several() -> bool:
    """Whether there are other worker processes beside this one, as far as can be seen from here.

    WSGI servers say so themselves, with each request.
    """
    if multiprocessing.parent_process() is not None:
        return True
    # gunicorn forks by itself, and each of its workers has the list of those that came before.
    arbiter = getattr(sys.modules.get("gunicorn.arbiter"), "Arbiter", None)
    if getattr(arbiter, "WORKERS", None):
        return True
    wanted = os.environ.get("WEB_CONCURRENCY", "")
    several = wanted.isdecimal() and wanted.isascii() and len(wanted) < 10 and int(wanted) > 1
    return several and any(name in sys.modules for name in SERVERS)


class Workers:
    """Says once if each of several worker processes has an inbox of its own.

    Arguments:
        app: the application of this one.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._warned = False

    def begin(self, runtime: Runtime) -> None:
        """The application has started."""
        if one_of_several():
            self.warn()

    def warn(self) -> None:
        """We are one of several."""
        backend = self._app.backend
        if self._warned or backend.shared:
            return
        self._warned = True
        with contextlib.suppress(Exception):
            log.warning(
                "receiver.inbox_of_one_process",
                backend=type(backend).__name__,
                hint="each worker process has an inbox of its own: run one, or use sqlite://",
            )
