"""How a file becomes and stays one of ours."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic
from typing import Literal, TypeAlias

from pollin_actors.backends.interface import StoredVersion
from pollin_actors.backends.sqlite.failures import busy
from pollin_actors.backends.sqlite.migrations import MIGRATIONS
from pollin_actors.errors import BackendUnavailable

__all__ = [
    "APPLICATION_ID",
    "MIGRATIONS",
    "Durability",
    "check_version",
    "connect",
    "stored_version",
]

Durability: TypeAlias = Literal["full", "normal"]

APPLICATION_ID = 0x506F6C6E
"""Says that a file is ours: "Poln"."""

# How long SQLite itself waits for a lock. It asks less and less often, and so starves beside
# others that are quick; a wait is therefore made of many short ones.
_PATIENCE_S = 0.05


def connect(path: str, durability: Durability, busy_timeout: float) -> sqlite3.Connection:
    """Open the file, making it or bringing it up to date if need be.

    Arguments:
        path: of the file; its folder must exist.
        durability: whether each commit waits for the disk.
        busy_timeout: seconds to wait at most for locks of others.

    Raises:
        BackendUnavailable: it is not one of ours, or is newer than this version; it is untouched.
        sqlite3.Error, OSError: it cannot be used.
    """
    if sqlite3.sqlite_version_info < (3, 25):
        reason = f"SQLite is {sqlite3.sqlite_version}, and 3.25 or later is needed"
        raise BackendUnavailable("sqlite", reason, "use a Python with a newer SQLite")
    until = monotonic() + busy_timeout
    while True:
        try:
            return _connect(path, durability)
        except sqlite3.Error as error:
            if not busy(error) or monotonic() >= until:
                raise


def _connect(path: str, durability: Durability) -> sqlite3.Connection:
    _check_header(path)
    is_new = not os.path.exists(path)
    connection = sqlite3.connect(
        path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
    )
    try:
        if is_new:
            # Secrets and bodies will be in it. The files beside it get the same mode.
            with suppress(OSError):  # not every file system has modes
                os.chmod(path, 0o600)
        connection.execute("PRAGMA trusted_schema = OFF")
        _migrate(connection, path)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            reason = f"{path}: its file system cannot do what write-ahead logging needs"
            raise BackendUnavailable("sqlite", reason, "put the file on a local disk")
        connection.execute(f"PRAGMA synchronous = {durability.upper()}")
        connection.execute("PRAGMA cache_size = -16384")  # KiB
        connection.execute("PRAGMA journal_size_limit = 67108864")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_header(path: str) -> None:
    """Look at the header first: opening a foreign file as usual could already write beside it.

    Through SQLite, because the close of any other file handle in this process would release the
    locks that its connections hold on the file.
    """
    if not os.path.exists(path):
        return
    if not os.path.isfile(path):
        raise BackendUnavailable("sqlite", f"{path} is not a regular file", "choose another file")
    uri = f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            # Otherwise a header that counts pages which are not in the file yet is an error. Such
            # is a file while somebody moves the log into it, and after they were killed at that.
            connection.execute("PRAGMA writable_schema = ON")
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        reason = f"{path} is not a SQLite file, and was left untouched"
        raise BackendUnavailable("sqlite", reason, "choose another file") from error
    if pages and application != APPLICATION_ID:
        reason = f"{path} is a SQLite file of another program, and was left untouched"
        raise BackendUnavailable("sqlite", reason, "choose another file")


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    if _version(connection, path) == len(MIGRATIONS):
        return
    # A new file is not in WAL mode yet: all of it is there with its header, or nothing is.
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number in range(_version(connection, path), len(MIGRATIONS)):
            for statement in MIGRATIONS[number]:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def stored_version(path: Path) -> StoredVersion:
    """The version of a file's schema; nothing is written by looking.

    Raises:
        BackendUnavailable: it cannot be told.
    """
    if not path.exists():
        return StoredVersion(None, len(MIGRATIONS))
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except (sqlite3.Error, OSError) as error:
        raise BackendUnavailable("sqlite", f"{path}: {error}", "see its permissions") from error
    return StoredVersion(int(version), len(MIGRATIONS))


def _version(connection: sqlite3.Connection, path: str) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    check_version(version, path)
    return int(version)


def check_version(version: int, path: str) -> None:
    """Raise if a file's schema is from a newer version of this package.

    Raises:
        BackendUnavailable: it is.
    """
    if version > len(MIGRATIONS):
        reason = f"{path} has schema version {version}, and this version knows {len(MIGRATIONS)}"
        raise BackendUnavailable("sqlite", reason, "upgrade pollin-actors, or choose another file")
