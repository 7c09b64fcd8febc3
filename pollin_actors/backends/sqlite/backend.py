"""The backend: its URL, its life, and what it takes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

from pollin_actors.backends.forks import unlocked_after_fork
from pollin_actors.backends.interface import StoredVersion
from pollin_actors.backends.sqlite.lookback import storable
from pollin_actors.backends.sqlite.operations import OPERATIONS
from pollin_actors.backends.sqlite.schema import Durability, connect, stored_version
from pollin_actors.backends.sqlite.writer import Job, Writer, not_open
from pollin_actors.errors import InvalidValue
from pollin_actors.messages import Push
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.waiting import simulated_scheduler

__all__ = ["SqliteBackend"]

_URL = "sqlite:///path, or sqlite:////path from the root"
_IN_MEMORY = "use memory:// to keep everything in memory"


class SqliteBackend:
    """Keeps endpoints and callbacks in a SQLite file.

    One thread writes: it commits whatever waits as one transaction, and only then are the
    messages answered. Several processes may use one file, on one machine and a local disk.

    Arguments:
        path: of the file; it is made if there is none, its folder is not.
        durability: ``"full"`` waits for the disk at each commit: a power cut loses nothing that
            was acknowledged. ``"normal"`` does not: a power cut can lose the last moments before
            it, also what was acknowledged then; a crash of the process loses nothing.
        busy_timeout: seconds that a transaction waits at most for the lock of another process.

    Raises:
        InvalidValue: an argument has a value that it cannot have.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "full",
        busy_timeout: float = 5.0,
    ) -> None:
        self._path = os.fsdecode(path)
        if not self._path or self._path == ":memory:":
            raise InvalidValue("SqliteBackend.path", "the path of a file", "none", _IN_MEMORY)
        if "\0" in self._path:
            got = repr(self._path)[:80]
            raise InvalidValue("SqliteBackend.path", "a path without null characters", got)
        if durability not in ("full", "normal"):
            raise InvalidValue("durability", "full or normal", repr(durability)[:80])
        if not isfinite(busy_timeout) or busy_timeout < 0:
            raise InvalidValue("busy_timeout", "seconds, at least 0", repr(busy_timeout))
        self._durability = durability
        self._busy_timeout = busy_timeout
        self._writer: Writer | None = None
        self._guard = Guard()
        unlocked_after_fork(self)

    @classmethod
    def from_url(cls, url: str, /) -> SqliteBackend:
        """Make a backend from a URL such as ``sqlite:///inbox.db?durability=normal``.

        Three slashes and a path from the current folder, four and one from the root. Options are
        ``durability`` and ``busy_timeout``. Other characters than those of URLs are
        percent-encoded.

        Raises:
            InvalidValue: it is another kind of URL, or has unknown options.
        """
        address, _, query = url[len("sqlite://") :].partition("?")
        path = unquote(address.removeprefix("/"))
        if not path or path == ":memory:":
            raise InvalidValue("backend", _URL, "no path", _IN_MEMORY)
        if not address.startswith("/"):
            raise InvalidValue("backend", _URL, "two slashes and a name", "add a slash")
        options: dict[str, Any] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name == "durability":
                options[name] = value
            elif name == "busy_timeout":
                try:
                    options[name] = float(value)
                except ValueError:
                    raise InvalidValue(name, "seconds, at least 0", repr(value)[:80]) from None
            else:
                expected = "no options but durability and busy_timeout"
                raise InvalidValue("backend", expected, repr(name)[:80])
        return cls(path, **options)

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self._path)

    @property
    def shared(self) -> bool:
        """True: several processes may use the file."""
        return True

    @property
    def durable(self) -> bool:
        """True: the file outlives the process."""
        return True

    @property
    def durability(self) -> str:
        """``full`` or ``normal``: whether each commit waits for the disk."""
        return self._durability

    def stored_version(self) -> StoredVersion:
        """The version of the file's schema. Nothing is written by looking.

        Raises:
            BackendUnavailable: it cannot be told.
        """
        return stored_version(self.path)

    def open(self, time_ns: Callable[[], int]) -> None:
        """Open the file, make it if there is none, bring its schema up to date.

        Within a simulated run no thread is started: what waits is committed as a task of its
        scheduler.

        Raises:
            BackendUnavailable: the file cannot be used, is another program's, or comes from a
                newer version; the latter two are left untouched.
        """
        self._guard.run(self._open, time_ns)

    def _open(self, time_ns: Callable[[], int]) -> None:
        if self._writer is not None:
            return
        # From here on it is this file, also if the process goes into another folder.
        path = os.path.abspath(self._path)
        self._writer = Writer(
            path,
            cast(
                "Callable[[], sqlite3.Connection]",
                partial(connect, path, self._durability, self._busy_timeout),
            ),
            time_ns,
            self._busy_timeout,
            simulated_scheduler.get(),
        )

    def execute(self, message: Any) -> ReplyFuture[Any]:
        """Accept a message; the future holds the reply once it is committed.

        Raises:
            BackendUnavailable: the backend is not open.
            InvalidValue: it is no message.
        """
        kind = type(message)
        operation = OPERATIONS.get(kind)
        if operation is None:
            got = f"a {kind.__module__}.{kind.__qualname__}"
            raise InvalidValue("message", "one of pollin_actors.messages", got)
        writer = self._writer
        if writer is None:
            raise not_open()
        stored = storable(message.callback) if kind is Push else None
        future: ReplyFuture[Any] = ReplyFuture()
        writer.submit(Job(operation, message, stored, future))
        return future

    def close(self) -> None:
        """Commit what was accepted, then let go of the file. Closing twice does nothing."""
        writer = self._writer
        if writer is not None:
            writer.close()
            if self._writer is writer:  # it may have been closed and opened elsewhere
                self._writer = None
