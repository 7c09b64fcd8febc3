"""The operations as SQL. Each runs inside a transaction that somebody else begins and commits.

Whatever an operation refuses, it refuses before its first change: so a refusal undoes nothing,
and other messages of the same transaction are not touched by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pollin_actors import messages
from pollin_actors.backends.checks import endpoint_of, natural, text
from pollin_actors.backends.sqlite import statements as sql
from pollin_actors.backends.sqlite.schema import check_version
from pollin_actors.backends.values import Stored, decode
from pollin_actors.errors import (
    BackendUnavailable,
    CallbackNotFound,
    EndpointExists,
    EndpointNotFound,
    InvalidValue,
    UnknownPhase,
    WrongSecret,
)
from pollin_actors.resources import Callback, Endpoint, Outcome, Page, PushResult, Secret

if TYPE_CHECKING:
    import sqlite3

__all__ = ["OPERATIONS", "READS", "Operations"]

# What reading a row raises that this package has not written.
_DAMAGE = (AttributeError, LookupError, TypeError, ValueError, RecursionError)

_PURGE_EVERY = 64
# Rows of a dropped queue that a sweep removes: some tens of milliseconds.
_CLEAR_AT_ONCE = 5_000

# Bodies in a page of a dump, in bytes: a few large callbacks are a page too.
_PAGE_BYTES = 4 * 1024 * 1024


class _Terms(NamedTuple):
    queue: int
    endpoint: Endpoint
    ttl_ns: int
    dedup_ns: int


class Operations:
    """Carries out messages on one connection.

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
        self._known: dict[str, _Terms] = {}
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

    # -- endpoints ---------------------------------------------------------------------------------

    def _terms(self, message: Any) -> _Terms:
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

    def _read_terms(self, endpoint_id: str) -> _Terms | None:
        row = self._execute(sql.FIND, (endpoint_id,)).fetchone() if _is_text(endpoint_id) else None
        return None if row is None else self._terms_of(row)

    def _terms_of(self, row: tuple[Any, ...]) -> _Terms:
        try:
            queue, id, secret, phases, ttl, created_at, dedup_for = row
            phases = tuple(json.loads(phases))
            endpoint = Endpoint(id, Secret(secret), phases, ttl, created_at, dedup_for)
            return _Terms(queue, endpoint, ttl * 1_000_000, round(dedup_for * 1e9))
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

    def index(self, message: messages.IndexEndpoints, stored: None) -> list[Endpoint]:
        rows = self._execute(sql.FIND.replace("WHERE id = ?", "ORDER BY number"))
        return [self._terms_of(row).endpoint for row in rows]

    def find(self, message: messages.FindEndpoint, stored: None) -> Endpoint | None:
        terms = self._read_terms(text(message, "endpoint_id"))
        return None if terms is None else terms.endpoint

    def create(self, message: messages.CreateEndpoint, stored: None) -> Endpoint:
        endpoint = endpoint_of(message)
        values = _values(endpoint)
        if self._execute(sql.QUEUE_OF, (endpoint.id,)).fetchone() is not None:
            raise EndpointExists(endpoint.id)
        self._execute(
            sql.CREATE,
            (*values, self._new_queue(), endpoint.id),
        )
        return endpoint

    def update(self, message: messages.UpdateEndpoint, stored: None) -> Endpoint:
        endpoint = endpoint_of(message)
        values = _values(endpoint)
        if self._execute(sql.QUEUE_OF, (endpoint.id,)).fetchone() is None:
            raise EndpointNotFound(endpoint.id)
        self._known.pop(endpoint.id, None)
        self._execute(
            sql.UPDATE,
            (*values, endpoint.id),
        )
        return endpoint

    def delete_endpoint(self, message: messages.DeleteEndpoint, stored: None) -> bool:
        endpoint_id = text(message, "endpoint_id")
        found = (
            self._execute(sql.QUEUE_OF, (endpoint_id,)).fetchone()
            if _is_text(endpoint_id)
            else None
        )
        if found is None:
            return False
        self._known.pop(endpoint_id, None)
        self._drop(found[0])
        self._execute("DELETE FROM endpoints WHERE id = ?", (endpoint_id,))
        return True

    # A queue that nobody can reach any more is left to the sweeps: a long one takes seconds.

    def _new_queue(self) -> int | None:
        return self._execute("INSERT INTO queues (dropped) VALUES (0)").lastrowid

    def _drop(self, queue: int) -> None:
        self._execute("UPDATE queues SET dropped = 1 WHERE number = ?", (queue,))
        self._execute("DELETE FROM counts WHERE queue = ?", (queue,))

    def _clear_dropped(self) -> None:
        found = self._execute(f"{sql.DROPPED} LIMIT 1").fetchone()
        if found is None:
            return
        (queue,) = found
        for statement in sql.CLEAR:
            if self._execute(statement, (queue, queue, _CLEAR_AT_ONCE)).rowcount:
                return
        self._execute("DELETE FROM queues WHERE number = ?", (queue,))

    def check_ready(self, message: messages.CheckReady, stored: None) -> None:
        # The value it has: that writes the file's first page all the same.
        (version,) = self._execute("PRAGMA user_version").fetchone()
        self._execute(f"PRAGMA user_version = {version}")

    # -- one callback ------------------------------------------------------------------------------

    def push(self, message: messages.Push, stored: Stored | InvalidValue) -> PushResult:
        endpoint_id, callback, secret, trusted = message
        queue, endpoint, ttl_ns, dedup_ns = self._terms(message)
        if not trusted and not endpoint.secret.matches(secret):
            raise WrongSecret(endpoint_id)
        key, phase = callback.id, callback.phase
        if not phase:
            phase = endpoint.phases[0]
            callback = callback.with_phase(phase)
        elif phase not in endpoint.phases:
            raise UnknownPhase(endpoint_id, phase, endpoint.phases)
        now = self._time_ns()
        if stored.__class__ is not tuple:
            # What cannot be stored is no news to who may not push, nor if it is there already.
            known = self._known_id(queue, message, now)
            if known is not None:
                return known
            raise cast("InvalidValue", stored)
        expires_at = now + ttl_ns if ttl_ns else None
        until = now + dedup_ns if dedup_ns else 0
        values = (queue, key, phase, callback.created_at, expires_at, until, *stored)
        if not self._execute(sql.ADD, values).rowcount:
            known = self._known_id(queue, message, now)
            if known is not None:
                return known
            self._forget(queue, key)
            self._execute(sql.ADD, values)
        self._until_purge -= 1
        if self._until_purge <= 0:
            # Twice as many as were pushed, so that what is due never piles up.
            self._until_purge = _PURGE_EVERY
            self._purge(now, 2 * _PURGE_EVERY)
        return PushResult(callback, Outcome.QUEUED)

    def _known_id(self, queue: int, message: messages.Push, now: int) -> PushResult | None:
        """The answer if the callback's id is queued or remembered."""
        callback = message.callback
        known = self._execute(sql.KNOWN, (queue, callback.id)).fetchone()
        if known is None:
            return None
        position, until = known
        if position is not None:
            queued = self._find_row(queue, callback.id, now)
            if queued is not None:
                return PushResult(self._callback(queued), Outcome.DUPLICATE)
        return PushResult(callback, Outcome.DUPLICATE) if until > now else None

    def _forget(self, queue: int, key: str) -> None:
        """Remove an id that is due, and its callback if that has expired and is not swept yet."""
        ((position, _),) = self._execute(sql.KNOWN, (queue, key)).fetchall()
        if position is not None:
            self._remove(position)
        self._execute(sql.FORGET, (queue, key))

    def _purge(self, now: int, limit: int) -> None:
        # One by one: SQLite would look for the pairs of a subquery by their first part only.
        due = self._execute(sql.DUE, (now, limit)).fetchall()
        self._many(sql.FORGET, due)

    def _find_row(self, queue: int, key: str | None, now: int) -> tuple[Any, ...] | None:
        if key is None:
            row = self._execute(sql.HEAD, (queue, now)).fetchone()
        else:
            row = self._execute(sql.KEY, (queue, key, now)).fetchone() if _is_text(key) else None
        return row  # type: ignore[no-any-return]  # a row is what sqlite3 says it is

    def _remove(self, position: int) -> None:
        self._execute(sql.REMOVE, (position,))

    def fetch(self, message: messages.Fetch | messages.Pop, stored: None) -> Callback | None:
        terms = self._terms(message)
        key = message.key if message.key is None else text(message, "key")
        row = self._find_row(terms.queue, key, self._time_ns())
        return None if row is None else self._callback(row)

    def pop(self, message: messages.Pop, stored: None) -> Callback | None:
        terms = self._terms(message)
        key = message.key if message.key is None else text(message, "key")
        row = self._find_row(terms.queue, key, self._time_ns())
        if row is None:
            return None
        callback = self._callback(row)
        self._remove(row[0])
        return callback

    def delete_callback(self, message: messages.DeleteCallback, stored: None) -> bool:
        terms = self._terms(message)
        row = self._find_row(terms.queue, text(message, "key"), self._time_ns())
        if row is None:
            return False
        self._remove(row[0])
        return True

    def update_phase(self, message: messages.UpdatePhase, stored: None) -> Callback:
        endpoint_id, key, phase = message
        terms = self._terms(message)
        if phase not in terms.endpoint.phases:
            raise UnknownPhase(endpoint_id, phase, terms.endpoint.phases)
        known: object = key
        row = None
        if known is not None:
            row = self._find_row(terms.queue, text(message, "key"), self._time_ns())
        if row is None:
            raise CallbackNotFound(endpoint_id, key)
        callback = self._callback(row)
        if callback.phase == phase:
            return callback
        self._execute("UPDATE callbacks SET phase = ? WHERE position = ?", (phase, row[0]))
        return callback.with_phase(phase)

    # -- many callbacks ----------------------------------------------------------------------------

    def count(self, message: messages.Count, stored: None) -> int:
        terms = self._terms(message)
        if message.phase is not None:
            text(message, "phase")
        count = self._count(terms.queue, message.phase, self._time_ns())
        if not count:
            _check_phase(terms.endpoint, message.phase)
        return count

    def _count(self, queue: int, phase: str | None, now: int) -> int:
        if phase is not None and not _is_text(phase):
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

    def _select(self, message: Any, direction: str) -> list[tuple[Any, ...]]:
        _, phase, offset, limit = message
        terms = self._terms(message)
        name = type(message).__name__
        if phase is not None:
            text(message, "phase")
        offset = min(natural(f"{name}.offset", offset), sql.LARGEST)
        limit = min(natural(f"{name}.limit", limit), sql.LARGEST)
        now = self._time_ns()
        if phase is None:
            query, values = sql.SLICES[False, direction], (terms.queue, now, limit, offset)
            return self._execute(query, values).fetchall()
        if phase not in terms.endpoint.phases and not self._count(terms.queue, phase, now):
            _check_phase(terms.endpoint, phase)
        query = sql.SLICES[True, direction]
        return self._execute(query, (terms.queue, phase, now, limit, offset)).fetchall()

    def fetch_slice(self, message: messages.FetchSlice, stored: None) -> list[Callback]:
        return [self._callback(row) for row in self._select(message, "ASC")]

    def fetch_reverse(self, message: messages.FetchReverse, stored: None) -> list[Callback]:
        return [self._callback(row) for row in self._select(message, "DESC")]

    def pop_slice(self, message: messages.PopSlice, stored: None) -> list[Callback]:
        rows = self._select(message, "ASC")
        callbacks = [self._callback(row) for row in rows]
        self._many(sql.REMOVE, [(row[0],) for row in rows])
        return callbacks

    def dump_page(self, message: messages.DumpPage, stored: None) -> Page:
        terms = self._terms(message)
        limit = min(natural("DumpPage.limit", message.limit, least=1), sql.LARGEST - 1)
        after = 0 if message.after is None else natural("DumpPage.after", message.after)
        # One more than asked for tells whether this page is the last.
        values = (terms.queue, self._time_ns(), min(after, sql.LARGEST), limit + 1)
        rows: list[tuple[Any, ...]] = []
        cursor: int | None = None
        size = 0
        with closing(self._execute(sql.PAGE, values)) as found:
            for row in found:
                if len(rows) == limit or size >= _PAGE_BYTES:
                    cursor = rows[-1][0]
                    break
                rows.append(row)
                size += len(row[-1])
        return Page([self._callback(row) for row in rows], cursor)

    def reset(self, message: messages.Reset, stored: None) -> int:
        endpoint_id = message.endpoint_id
        queue = self._terms(message).queue
        count = self._count(queue, None, self._time_ns())
        self._known.pop(endpoint_id, None)
        self._drop(queue)
        self._execute(
            "UPDATE endpoints SET queue = ? WHERE id = ?", (self._new_queue(), endpoint_id)
        )
        return count

    def sweep(self, message: messages.Sweep, stored: None) -> int:
        limit = min(natural("Sweep.limit", message.limit), sql.LARGEST)
        now = self._time_ns()
        expired = self._execute(sql.EXPIRED, (now, limit)).fetchall()
        self._many(sql.REMOVE, expired)
        self._purge(now, limit)
        self._clear_dropped()
        return len(expired)


OPERATIONS: Mapping[type, Callable[[Operations, Any, Any], Any]] = MappingProxyType(
    {
        messages.IndexEndpoints: Operations.index,
        messages.FindEndpoint: Operations.find,
        messages.CreateEndpoint: Operations.create,
        messages.UpdateEndpoint: Operations.update,
        messages.DeleteEndpoint: Operations.delete_endpoint,
        messages.CheckReady: Operations.check_ready,
        messages.Push: Operations.push,
        messages.Pop: Operations.pop,
        messages.PopSlice: Operations.pop_slice,
        messages.Fetch: Operations.fetch,
        messages.FetchSlice: Operations.fetch_slice,
        messages.FetchReverse: Operations.fetch_reverse,
        messages.Count: Operations.count,
        messages.DumpPage: Operations.dump_page,
        messages.Reset: Operations.reset,
        messages.DeleteCallback: Operations.delete_callback,
        messages.UpdatePhase: Operations.update_phase,
        messages.Sweep: Operations.sweep,
    }
)

READS: frozenset[Callable[..., Any]] = frozenset(
    {
        Operations.index,
        Operations.find,
        Operations.fetch,
        Operations.fetch_slice,
        Operations.fetch_reverse,
        Operations.count,
        Operations.dump_page,
    }
)
"""Those that change nothing and so need no lock."""


def _is_text(value: str) -> bool:
    """Whether SQLite can look for it: no id or phase has lone surrogates."""
    return value.isprintable() or not any("\ud800" <= c <= "\udfff" for c in value)


def _check_phase(endpoint: Endpoint, phase: str | None) -> None:
    if phase is not None and phase not in endpoint.phases:
        raise UnknownPhase(endpoint.id, phase, endpoint.phases)


def _values(endpoint: Endpoint) -> tuple[Any, ...]:
    if endpoint.created_at > sql.LARGEST:
        raise InvalidValue("Endpoint.created_at", f"at most {sql.LARGEST}", "more")
    secret, phases = endpoint.secret.reveal(), json.dumps(endpoint.phases)
    return secret, phases, endpoint.ttl, endpoint.created_at, endpoint.dedup_for
