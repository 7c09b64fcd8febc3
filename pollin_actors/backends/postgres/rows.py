"""What all operations share: what is known of endpoints, and rows as callbacks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pollin_actors.backends.checks import text
from pollin_actors.backends.postgres import statements as sql
from pollin_actors.backends.postgres.arrays import is_text, numbers, texts
from pollin_actors.backends.postgres.failures import NAME
from pollin_actors.backends.postgres.schema import quoted
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
    from psycopg import Connection, Cursor

__all__ = ["Rows", "Terms"]

# What reading a row raises that this package has not written.
_DAMAGE = (AttributeError, LookupError, TypeError, ValueError, RecursionError)

_MOST_KNOWN = 10_000


class Terms(NamedTuple):
    """An endpoint, and what its pushes need of it."""

    queue: int
    revision: int
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
    """The schema, read and written within transactions that somebody else begins and commits.

    What was read of endpoints is remembered beyond a transaction, but only trusted where the
    server compares the revision, or after it was read again under the endpoint's lock.

    Arguments:
        schema: its name.
        time_ns: the clock.
    """

    def __init__(self, schema: str, time_ns: Callable[[], int]) -> None:
        self._schema = quoted(schema)
        self._time_ns = time_ns
        self._connection: Connection[Any] | None = None
        self._texts: dict[str, bytes] = {}
        self._known: dict[str, Terms] = {}
        # Of this transaction: rows that were read, and ids whose terms are as they were read.
        self._found: dict[str, tuple[Any, ...] | None] = {}
        self._checked: set[str] = set()
        self._locks = False

    def statement(self, query: str) -> bytes:
        """A statement with the schema's name in its place."""
        found = self._texts.get(query)
        if found is None:
            found = self._texts[query] = query.replace("{s}", self._schema).encode()
        return found

    def begun(
        self,
        connection: Connection[Any],
        ids: Iterable[str],
        rows: Iterable[tuple[Any, ...]],
        locks: bool,
    ) -> None:
        """To be called at the beginning of each transaction.

        Arguments:
            connection: what it is on.
            ids: of the endpoints that were looked for.
            rows: those that were found.
            locks: whether endpoints are locked when they are read.
        """
        self._connection = connection
        self._locks = locks
        self._checked.clear()
        self._found = dict.fromkeys(ids)
        self._found.update((row[2], row) for row in rows)

    def undone(self) -> None:
        """To be called when a transaction was rolled back, or its outcome is not known."""
        self._known.clear()
        self._found.clear()
        self._checked.clear()

    def _execute(
        self, query: str, values: Sequence[Any] | dict[str, Any] | None = None
    ) -> Cursor[Any]:
        assert self._connection is not None
        return self._connection.execute(self.statement(query), values, binary=True)

    def _one(self, query: str, values: Sequence[Any] | dict[str, Any]) -> tuple[Any, ...]:
        """The row of a query that has always one."""
        row = self._execute(query, values).fetchone()
        if row is None:
            raise RuntimeError("a query gave no row")
        return row  # type: ignore[no-any-return]  # a row is what psycopg says it is

    # -- endpoints ---------------------------------------------------------------------------------

    def _terms(self, message: Any) -> Terms:
        endpoint_id = message.endpoint_id
        if endpoint_id.__class__ is str and endpoint_id in self._checked:
            return self._known[endpoint_id]
        terms = self._read_terms(text(message, "endpoint_id"))
        if terms is None:
            raise EndpointNotFound(endpoint_id)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
            self._checked.clear()
        self._known[endpoint_id] = terms
        self._checked.add(endpoint_id)
        return terms

    def _read_terms(self, endpoint_id: str) -> Terms | None:
        row = self._read_row(endpoint_id)
        return None if row is None else self._terms_of(row)

    def _read_row(self, endpoint_id: str) -> tuple[Any, ...] | None:
        if endpoint_id not in self._found:
            if not is_text(endpoint_id):
                return None
            query = sql.FIND[self._locks]
            self._found[endpoint_id] = self._execute(query, (texts([endpoint_id]),)).fetchone()
        return self._found[endpoint_id]

    def _revised(self, endpoint_id: str) -> None:
        """To be called before an endpoint is changed."""
        self._known.pop(endpoint_id, None)
        self._found.pop(endpoint_id, None)
        self._checked.discard(endpoint_id)

    def _terms_of(self, row: tuple[Any, ...]) -> Terms:
        try:
            queue, revision, id, secret, phases, ttl, created_at, dedup_for, keep_for = row[:9]
            consumes, capacity, capacity_bytes, intake, old_secrets = row[9:]
            endpoint = Endpoint(
                id,
                Secret(json.loads(secret)),
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
        except _DAMAGE as error:
            raise self._damaged(f"endpoint {row[2]!r}", "delete it", error) from error
        dedup_ns, keep_ns = round(dedup_for * 1e9), round(keep_for * 1e9)
        return Terms(queue, revision, endpoint, ttl * 1_000_000, dedup_ns, keep_ns)

    def _intake(self, endpoint_id: str, fields: dict[str, Any]) -> Intake:
        try:
            return Intake.from_fields(fields)
        except InvalidValue as error:
            # Not damaged, most likely: a later version knows more schemes.
            reason = f"how endpoint {endpoint_id!r} takes requests in is not known here"
            hint = "upgrade pollin-actors, or update the endpoint"
            raise BackendUnavailable(NAME, f"{reason} ({error})", hint) from error

    def _check_phase(self, endpoint: Endpoint, phase: str | None) -> None:
        if phase is not None and phase not in endpoint.phases:
            raise UnknownPhase(endpoint.id, phase, endpoint.phases)

    # -- callbacks ---------------------------------------------------------------------------------

    def _callback(self, row: tuple[Any, ...]) -> Callback:
        id, phase, created_at = row[1:4]
        try:
            parent, root, origin, key, not_before, attempts = row[4:10]
            request, rest = decode(row[10:13]), (key, not_before, attempts, row[13])
            return Callback(id, request, phase, created_at, parent, root, origin, *rest)
        except _DAMAGE as error:
            raise self._damaged(f"callback {id!r}", "delete it by its key", error) from error

    def _damaged(self, what: str, remedy: str, error: Exception) -> BackendUnavailable:
        reason = f"the row of {what} is damaged ({type(error).__name__})"
        return BackendUnavailable(NAME, reason, f"{remedy}, or restore the database from a copy")

    def _find_row(self, queue: int, key: str | None, now: int) -> tuple[Any, ...] | None:
        """The row of that id, or of the oldest; of an id also how it is held."""
        if key is None:
            values: dict[str, Any] = {"queue": queue, "now": now, "most": 1}
            return self._execute(sql.HEAD, values).fetchone()
        if not is_text(key):
            return None
        return self._execute(sql.KEY, {"queue": queue, "now": now, "key": key}).fetchone()

    def _remove(self, queue: int, positions: Sequence[int], kind: Kind, now: int) -> None:
        if positions:
            values = (queue, numbers(positions), sql.NUMBERS[kind], now)
            self._execute(sql.LEAVE, values)

    def _turn(self, queue: int, now: int) -> None:
        """Make available what time has: leases and delays that have ended, whoever waited for
        others that have expired."""
        self._execute(sql.TURN, (queue, now))

    def _count(self, queue: int, phase: str | None, now: int) -> int:
        if phase is not None and not is_text(phase):
            return 0
        values = {"queue": queue, "now": now, "phases": texts([phase] if phase else [])}
        (queued, _) = self._one(sql.ROOM[phase is None], values)
        (expired, _) = self._one(sql.EXPIRED[phase is None], values)
        return int(queued - expired)
