"""What all operations share: what is known of endpoints, and rows as callbacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from pollin_actors.backends.checks import text
from pollin_actors.backends.sqlite import statements as sql
from pollin_actors.backends.sqlite.schema import check_version
from pollin_actors.backends.values import decode
from pollin_actors.errors import BackendUnavailable, EndpointNotFound
from pollin_actors.resources import Callback, Endpoint, Secret

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Rows", "Terms", "is_text"]

# What reading a row raises that this package has not written.
_DAMAGE = (AttributeError, LookupError, TypeError, ValueError, RecursionError)


PURGE_EVERY = 64


class Terms(NamedTuple):
    """An endpoint, and what its pushes need of it."""

    queue: int
    endpoint: Endpoint
    ttl_ns: int
    dedup_ns: int


class Rows:
    """The file, read and written on one connection.

    Arguments:
        connection: in autocommit mode; transactions are the caller's.
        time_ns: the clock.
        path: of the file, for errors.
    """

    def __init__(
        self, connection: sqlite3.Connection, time_ns: Callable[[], int], path: str
    ) -> None:
        self._execute = connection.execute
        self._many = connection.executemany
        self._time_ns = time_ns
        self._known: dict[str, Terms] = {}
        self._data_version = -1
        self._path = path
        # Once at the beginning: many short processes would never come to it otherwise.
        self._until_purge = 1

    def begun(self) -> None:
        """To be called at the beginning of each transaction: what others changed is read anew.

        Raises:
            BackendUnavailable: a newer version of this package has changed the file.
        """
        (version,) = self._execute("PRAGMA data_version").fetchone()
        if version != self._data_version:
            (schema,) = self._execute("PRAGMA user_version").fetchone()
            check_version(schema, self._path)
            self._known.clear()
            self._data_version = version

    def undone(self) -> None:
        """To be called when a transaction was rolled back."""
        self._known.clear()

    def _terms(self, message: Any) -> Terms:
        endpoint_id = message.endpoint_id
        terms = self._known.get(endpoint_id) if endpoint_id.__class__ is str else None
        if terms is None:
            terms = self._read_terms(text(message, "endpoint_id"))
            if terms is None:
                raise EndpointNotFound(endpoint_id)
            if len(self._known) >= 10_000:
                self._known.clear()
            self._known[endpoint_id] = terms
        return terms

    def _read_terms(self, endpoint_id: str) -> Terms | None:
        row = self._execute(sql.FIND, (endpoint_id,)).fetchone() if is_text(endpoint_id) else None
        return None if row is None else self._terms_of(row)

    def _terms_of(self, row: tuple[Any, ...]) -> Terms:
        try:
            queue, id, secret, phases, ttl, created_at, dedup_for = row
            phases = tuple(json.loads(phases))
            endpoint = Endpoint(id, Secret(secret), phases, ttl, created_at, dedup_for)
            return Terms(queue, endpoint, ttl * 1_000_000, round(dedup_for * 1e9))
        except _DAMAGE as error:
            raise self._damaged(f"endpoint {row[1]!r}", "delete it", error) from error

    def _callback(self, row: tuple[Any, ...]) -> Callback:
        _, id, phase, created_at, kind, headers, body = row
        try:
            return Callback(id, decode((kind, headers, body)), phase, created_at)
        except _DAMAGE as error:
            raise self._damaged(f"callback {id!r}", "delete it by its key", error) from error

    def _damaged(self, what: str, remedy: str, error: Exception) -> BackendUnavailable:
        reason = f"{self._path}: the row of {what} is damaged ({type(error).__name__})"
        return BackendUnavailable("sqlite", reason, f"{remedy}, or restore the file from a copy")

    def _purge(self, now: int, limit: int) -> None:
        # One by one: SQLite would look for the pairs of a subquery by their first part only.
        due = self._execute(sql.DUE, (now, limit)).fetchall()
        self._many(sql.FORGET, due)

    def _find_row(self, queue: int, key: str | None, now: int) -> tuple[Any, ...] | None:
        if key is None:
            row = self._execute(sql.HEAD, (queue, now)).fetchone()
        else:
            row = self._execute(sql.KEY, (queue, key, now)).fetchone() if is_text(key) else None
        return row  # type: ignore[no-any-return]  # a row is what sqlite3 says it is

    def _remove(self, position: int) -> None:
        self._execute(sql.REMOVE, (position,))


def is_text(value: str) -> bool:
    """Whether SQLite can look for it: no id or phase has lone surrogates."""
    return value.isprintable() or not any("\ud800" <= c <= "\udfff" for c in value)
