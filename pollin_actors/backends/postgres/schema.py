"""How a schema becomes and stays one of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pollin_actors.backends.postgres import link
from pollin_actors.backends.postgres.failures import NAME
from pollin_actors.backends.postgres.migrations import MIGRATIONS
from pollin_actors.errors import BackendUnavailable

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["VERSION", "check_version", "migrate", "quoted", "stored_version"]

VERSION = len(MIGRATIONS)
"""What this version of the package knows."""

_APPLICATION = "pollin_actors"

# Whoever starts at the same time waits here for the one that makes the tables.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 5801))"
_HALTED = "SELECT set_config('idle_in_transaction_session_timeout', %s, true)"
_FIND = "SELECT oid FROM pg_namespace WHERE nspname = %s"
_HOLDS = """SELECT EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = %(oid)s)
    OR EXISTS (SELECT 1 FROM pg_proc WHERE pronamespace = %(oid)s)
    OR EXISTS (SELECT 1 FROM pg_type WHERE typnamespace = %(oid)s)"""
_MARK = "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = %s AND relname = 'about')"
_COLUMNS = """SELECT count(*) FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
    WHERE c.relnamespace = %s AND c.relname = 'about' AND a.attname IN ('application', 'version')"""


def quoted(schema: str) -> str:
    """A schema's name as it stands in statements; the name is known to be plain."""
    return f'"{schema}"'


def migrate(connection: Connection[Any], schema: str) -> None:
    """Make the tables in a new schema, or bring those of an earlier version up to date.

    Raises:
        BackendUnavailable: the schema is not one of ours, or is newer than this version; it is
            untouched.
        psycopg.Error: it cannot be done.
    """
    if _version(connection, schema) == VERSION:
        return
    with connection.transaction():
        # Whoever halts in here lets go of the lock, through a pooler too.
        connection.execute(_HALTED, (str(link.HALTED_MS),))
        connection.execute(_LOCK, (f"pollin_actors {schema}",))
        version = _version(connection, schema)
        if version is None:
            connection.execute(f"CREATE SCHEMA {quoted(schema)}".encode())
        if not version:
            _run(connection, schema, "CREATE TABLE {s}.about (application text, version integer)")
            _run(connection, schema, f"INSERT INTO {{s}}.about VALUES ('{_APPLICATION}', 0)")
        for statements in MIGRATIONS[version or 0 :]:
            for statement in statements:
                _run(connection, schema, statement)
        _run(connection, schema, f"UPDATE {{s}}.about SET version = {VERSION}")


def stored_version(connection: Connection[Any], schema: str) -> int | None:
    """The version of a schema; None: there is none, or it is empty.

    Raises:
        BackendUnavailable: the schema is not one of ours, or is newer than this version.
        psycopg.Error: it cannot be found out.
    """
    return _version(connection, schema) or None


def check_version(connection: Connection[Any], schema: str) -> None:
    """Raise unless the schema is as this version of the package knows it.

    Raises:
        BackendUnavailable: it is newer, older or gone.
        psycopg.Error: it cannot be found out.
    """
    version = _version(connection, schema)
    if version != VERSION:
        reason = f"schema {schema} was removed, or emptied, while it was in use"
        hint = "put it back, or close the backend and open it to begin with an empty one"
        raise BackendUnavailable(NAME, reason, hint)


def _run(connection: Connection[Any], schema: str, statement: str) -> None:
    connection.execute(statement.replace("{s}", quoted(schema)).encode())


def _version(connection: Connection[Any], schema: str) -> int | None:
    """The version of a schema: None if there is none of that name, 0 if it is empty."""
    found = connection.execute(_FIND, (schema,)).fetchone()
    if found is None:
        return None
    (oid,) = found
    foreign = BackendUnavailable(
        NAME,
        f"schema {schema} holds something else, and was left untouched",
        "choose another name: ?schema=name",
    )
    if _one(connection, _MARK, oid):
        if _one(connection, _COLUMNS, oid) != 2:
            raise foreign
        query = f"SELECT application, version FROM {quoted(schema)}.about".encode()
        rows = connection.execute(query).fetchall()
        if len(rows) != 1 or rows[0][0] != _APPLICATION:
            raise foreign
        version = int(rows[0][1])
        if version > VERSION:
            reason = f"schema {schema} has version {version}, and this version knows {VERSION}"
            hint = "upgrade pollin-actors, or choose another schema: ?schema=name"
            raise BackendUnavailable(NAME, reason, hint)
        return version
    row = connection.execute(_HOLDS, {"oid": oid}).fetchone()
    if row is None or row[0]:
        raise foreign
    return 0


def _one(connection: Connection[Any], query: str, oid: int) -> Any:
    row = connection.execute(query.encode(), (oid,)).fetchone()
    return None if row is None else row[0]
