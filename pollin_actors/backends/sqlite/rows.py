"""What all operations share: what is known of endpoints, and rows as callbacks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from pollin_actors.backends.checks import text
from pollin_actors.backends.sqlite import statements as sql
from pollin_actors.backends.sqlite.schema import check_version
from pollin_actors.backends.values import decode
from pollin_actors.errors import (
    BackendUnavailable,
    EndpointNotFound,
    InvalidValue,
    UnknownPhase,
)
from pollin_actors.records import Kind
from pollin_actors.resources import Callback, Endpoint, Intake, OldSecret, Secret

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Rows", "Terms", "is_text"]

# What reading a row raises that this package has not written.
_DAMAGE = (AttributeError, LookupError, TypeError, ValueError, RecursionError)

FORGET_EVERY = 64


class Terms(NamedTuple):
    """An endpoint, and what its pushes need of it."""

    queue: int
    endpoint: Endpoint
    ttl_ns: int
    dedup_ns: int
    keep_ns: int

    def expiry(self, phase: str, now: int) -> int | None:
        """When a callback expires that enters the phase now, where that is what counts."""
        if not self.ttl_ns or phase in self.endpoint.consumes:
            return None
        return now + self.ttl_ns


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
        self._until_forgotten = 1

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
            queue, id, secret, phases, ttl, created_at, dedup_for, keep_for = row[:8]
            consumes, capacity, capacity_bytes, intake, old_secrets = row[8:]
            endpoint = Endpoint(
                id,
                Secret(secret),
                tuple(json.loads(phases)),
                ttl,
                created_at,
                dedup_for,
                keep_for,
                tuple(json.loads(consumes)),
                capacity,
                capacity_bytes,
                self._intake(id, json.loads(intake)),
                tuple([OldSecret(Secret(old), until) for old, until in json.loads(old_secrets)]),
            )
            ttl_ns, dedup_ns, keep_ns = (
                ttl * 1_000_000,
                round(dedup_for * 1e9),
                round(keep_for * 1e9),
            )
            return Terms(queue, endpoint, ttl_ns, dedup_ns, keep_ns)
        except _DAMAGE as error:
            raise self._damaged(f"endpoint {row[1]!r}", "delete it", error) from error

    def _intake(self, endpoint_id: str, fields: dict[str, Any]) -> Intake:
        try:
            return Intake.from_fields(fields)
        except InvalidValue as error:
            # Not damaged, most likely: a later version knows more schemes.
            reason = (
                f"{self._path}: how endpoint {endpoint_id!r} takes requests in is not known here"
            )
            hint = "upgrade pollin-actors, or update the endpoint"
            raise BackendUnavailable("sqlite", f"{reason} ({error})", hint) from error

    def _callback(self, row: tuple[Any, ...]) -> Callback:
        id, phase, created_at = row[1:4]
        try:
            parent, root, origin, key, not_before, attempts = row[4:10]
            request, rest = decode(row[10:13]), (key, not_before, attempts, row[13])
            return Callback(id, request, phase, created_at, parent, root, origin, *rest)
        except _DAMAGE as error:
            raise self._damaged(f"callback {id!r}", "delete it by its key", error) from error

    def _damaged(self, what: str, remedy: str, error: Exception) -> BackendUnavailable:
        reason = f"{self._path}: the row of {what} is damaged ({type(error).__name__})"
        return BackendUnavailable("sqlite", reason, f"{remedy}, or restore the file from a copy")

    def _find_row(self, queue: int, key: str | None, now: int) -> tuple[Any, ...] | None:
        """The row of that id, or of the oldest; of an id also how it is held."""
        if key is None:
            row = self._execute(sql.HEAD, (queue, now) * len(sql.HELDS)).fetchone()
        else:
            row = self._execute(sql.KEY, (queue, key, now)).fetchone() if is_text(key) else None
        return row  # type: ignore[no-any-return]  # a row is what sqlite3 says it is

    def _remove(self, position: int, kind: Kind, now: int) -> None:
        self._execute(sql.REMOVE, (now, now, sql.NUMBERS[kind], now, None, position))

    def _remove_all(self, positions: Iterable[int], kind: Kind, now: int) -> None:
        values = (now, now, sql.NUMBERS[kind], now, None)
        self._many(sql.REMOVE, [(*values, position) for position in positions])

    def _turn(self, queue: int, now: int) -> None:
        """Make available what time has: leases and delays that have ended, whoever waited for
        others that have expired."""
        expired, due = self._execute(sql.TURNED, (queue, now)).fetchone()
        if expired:
            rows = self._execute(sql.ORDERED_EXPIRED, (queue, now)).fetchall()
            self._remove_all([row[0] for row in rows], Kind.EXPIRED, now)
        if due:
            claims = self._execute(sql.TURNED_CLAIMS, (queue, now)).fetchall()
            self._many(sql.LAPSE, [(now, row[0]) for row in claims])
            self._execute(sql.COME, (queue, now))

    def _count(self, queue: int, phase: str | None, now: int) -> int:
        if phase is not None and not is_text(phase):
            return 0
        more, values = ("", ()) if phase is None else (" AND phase = ?", (phase,))
        (queued,) = self._execute(
            f"SELECT ifnull(sum(queued), 0) FROM counts WHERE queue = ?{more}", (queue, *values)
        ).fetchone()
        (expired,) = self._execute(
            "SELECT count(*) FROM callbacks INDEXED BY callbacks_by_expiry "
            f"WHERE expires_at <= ? AND queue = ?{more}",
            (now, queue, *values),
        ).fetchone()
        return int(queued - expired)

    def _forget(self, now: int, limit: int) -> None:
        # What it held goes first; its id may be remembered for longer.
        for position, keep, remembered in self._execute(sql.GONE, (now, limit)).fetchall():
            if keep and remembered:
                for statement in sql.STRIP:
                    self._execute(statement, (position,))
            else:
                self._execute(sql.FORGET, (position,))

    def _check_phase(self, endpoint: Endpoint, phase: str | None) -> None:
        if phase is not None and phase not in endpoint.phases:
            raise UnknownPhase(endpoint.id, phase, endpoint.phases)


def is_text(value: str) -> bool:
    """Whether SQLite can look for it: no id or phase has lone surrogates."""
    return value.isprintable() or not any("\ud800" <= c <= "\udfff" for c in value)
