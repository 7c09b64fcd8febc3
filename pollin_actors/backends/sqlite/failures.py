"""What SQLite's own errors mean to who uses the backend."""

from __future__ import annotations

import sqlite3

from pollin_actors.errors import BackendUnavailable, PollinError

__all__ = ["HalfDone", "busy", "isolated", "read_only", "survives", "unavailable"]

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
# Errors of one statement, which says nothing about the next one on the same connection.
_OF_ONE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_RANGE,
}
_HINTS = {
    sqlite3.SQLITE_BUSY: "another program holds a lock on the file: end it, then try again",
    sqlite3.SQLITE_LOCKED: "another program holds a lock on the file: end it, then try again",
    sqlite3.SQLITE_FULL: "make room on the disk, then try again",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable, then try again",
    sqlite3.SQLITE_CANTOPEN: "check that the folder exists and can be written to",
    sqlite3.SQLITE_PERM: "make the file and its folder readable and writable",
    sqlite3.SQLITE_IOERR: "check the disk, then try again",
    sqlite3.SQLITE_CORRUPT: "put a copy of the file in its place, or have sqlite3 recover it",
    sqlite3.SQLITE_NOTADB: "choose another file, or put a copy in its place",
}
_HINT = "see the cause of this error; if nothing else uses the file, please report it"


class HalfDone(Exception):
    """An operation was refused after it had changed something; the refusal is the cause."""


def _code(error: BaseException) -> int | None:
    """SQLite's primary result code, if it is SQLite's error at all."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def busy(error: BaseException) -> bool:
    """Whether another connection was in the way, so that it can be tried again."""
    return _code(error) in _BUSY


def read_only(error: BaseException) -> bool:
    """Whether the file cannot be changed, though it may be read."""
    return _code(error) == sqlite3.SQLITE_READONLY


def isolated(error: BaseException) -> bool:
    """Whether the error may be about one message only, and others would succeed."""
    code = _code(error)
    return code in _OF_ONE if code is not None else not isinstance(error, OSError | PollinError)


def survives(error: BaseException) -> bool:
    """Whether the connection can be used further; otherwise it is opened anew."""
    return busy(error) or isolated(error)


def unavailable(path: str, error: BaseException) -> BackendUnavailable:
    """What the caller is told."""
    code = _code(error)
    reason = str(error) if code is not None else f"{type(error).__name__}: {error}"
    result = BackendUnavailable("sqlite", f"{path}: {reason}", _HINTS.get(code or 0, _HINT))
    result.__cause__ = error
    return result
