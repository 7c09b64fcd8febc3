"""The connection to the file: opened, lost and opened again, and never used across a fork."""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from pollin_actors.backends.sqlite.failures import survives
from pollin_actors.backends.sqlite.operations import Operations
from pollin_actors.errors import BackendUnavailable, ForkedProcess

__all__ = ["Link"]

# For so long after a look at the file it counts as the same, in seconds.
TRUST_S = 0.01

_REMOVED = "put it back, or close the backend and open it to begin with an empty one"
# The log of the old one lies beside it still, and would be laid over the new one.
_REPLACED = "close the backend, see that no -wal file is left beside it, and open it again"


class Link:
    """One connection at a time to one file. Used by one thread at a time.

    Arguments:
        path: of the file.
        connect: opens a connection; used again when one has become useless.
        time_ns: the clock.
    """

    def __init__(
        self, path: str, connect: Callable[[], sqlite3.Connection], time_ns: Callable[[], int]
    ) -> None:
        self.path = path
        self._connect = connect
        self._time_ns = time_ns
        self.connection: sqlite3.Connection | None = None
        self.operations: Operations
        self._file: tuple[int, int] | None = None
        self._trusted_until = 0.0
        self._opening = self._closed = False
        _links.add(self)

    def is_replaced(self) -> bool:
        """Whether the file is not the one at its path any more: what is written would be lost.

        What was written just before is lost as well, so it is enough to look now and then.
        """
        now = monotonic()
        if now < self._trusted_until:
            return False
        self._trusted_until = now + TRUST_S
        try:
            return _identity(self.path) != self._file
        except OSError:
            return True

    def open(self) -> sqlite3.Connection:
        """Connect, or connect again.

        Raises:
            BackendUnavailable: the file was removed, or cannot be used.
            ForkedProcess: it was open in the process that this one was forked from.
            sqlite3.Error, OSError: it cannot be opened.
        """
        path = self.path
        if _open_at_fork and os.path.exists(path) and _identity(path) in _open_at_fork:
            raise ForkedProcess
        # A file that was there once is never made anew: what it held was acknowledged.
        before = _identity(path) if os.path.exists(path) else None
        if self._file is not None and before is None:
            raise BackendUnavailable("sqlite", f"{path} was removed", _REMOVED)
        if self._file is not None and before != self._file:
            raise BackendUnavailable("sqlite", f"{path} was replaced by another file", _REPLACED)
        self._opening = True
        connection = self._connect()
        self._file = _identity(path)
        if before is not None and before != self._file:
            self._file = before
            connection.close()
            raise BackendUnavailable("sqlite", f"{path} was replaced by another file", _REPLACED)
        self.operations = Operations(connection, self._time_ns, path)
        self.connection = connection
        return connection

    def undo(self, error: Exception | None) -> None:
        """Roll back what is open; let go of the connection if the error has made it useless."""
        self.operations.undone()
        connection = self.connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            usable = error is None or survives(error)
        except sqlite3.Error:
            usable = False
        if not usable:
            self.drop()

    def drop(self) -> None:
        """Let go of the connection; the next group opens another."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def close(self) -> None:
        """Bring the log into the file and let go of it for good."""
        if self.connection is not None:
            with suppress(sqlite3.Error):
                self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.drop()
        self._closed = True


# -- forks -----------------------------------------------------------------------------------------

_links: weakref.WeakSet[Link] = weakref.WeakSet()
# Closing a connection in a forked child would harm the parent's: they are kept from being closed.
_inherited: list[sqlite3.Connection] = []
# Files that were open at the fork, by device and inode. SQLite believes to hold locks on them.
_open_at_fork: set[tuple[int, int]] = set()


def _after_fork() -> None:
    for link in tuple(_links):
        # Without a connection it may be opening or closing one at this moment.
        if link._opening and not link._closed:
            with suppress(OSError):
                _open_at_fork.add(link._file or _identity(link.path))
        if link.connection is not None:
            _inherited.append(link.connection)
            link.connection = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
