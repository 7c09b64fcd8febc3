"""The operations as SQL. Each runs inside a transaction that somebody else begins and commits.

Whatever an operation refuses, it refuses before its first change: so a refusal undoes nothing,
and other messages of the same transaction are not touched by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from pollin_actors import messages
from pollin_actors.backends.checks import natural
from pollin_actors.backends.values import Stored, decode
from pollin_actors.errors import (
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

__all__ = ["LARGEST", "OPERATIONS", "READS", "Operations"]

LARGEST = (1 << 63) - 1
"""The largest integer that SQLite stores."""

_COLUMNS = "position, id, phase, created_at, kind, headers, body"
_LIVE = f"ifnull(expires_at, {LARGEST}) > ?"
_HEAD = f"""SELECT {_COLUMNS} FROM callbacks WHERE position = (
    SELECT position FROM callbacks INDEXED BY callbacks_in_order
    WHERE endpoint = ? AND {_LIVE} ORDER BY position LIMIT 1)"""
_KEY = f"""SELECT {_COLUMNS} FROM callbacks WHERE position = (
    SELECT position FROM ids WHERE endpoint = ? AND id = ?) AND {_LIVE}"""
_PAGE = f"""SELECT {_COLUMNS} FROM callbacks INDEXED BY callbacks_in_order
    WHERE endpoint = ? AND {_LIVE} AND position > ? ORDER BY position LIMIT ?"""
_FIND = """SELECT number, id, secret, phases, ttl, created_at, dedup_for
    FROM endpoints WHERE id = ?"""
_PURGE = """DELETE FROM ids WHERE (endpoint, id) IN (
    SELECT endpoint, id FROM ids INDEXED BY ids_by_until
    WHERE position IS NULL AND until <= ? ORDER BY until LIMIT ?)"""


def _slice(phase: bool, direction: str) -> str:
    # The inner query reads an index only: an offset passes over rows without reading them.
    index, more = ("callbacks_in_phase", " AND phase = ?") if phase else ("callbacks_in_order", "")
    return f"""SELECT {_COLUMNS} FROM callbacks WHERE position IN (
        SELECT position FROM callbacks INDEXED BY {index} WHERE endpoint = ?{more} AND {_LIVE}
        ORDER BY position {direction} LIMIT ? OFFSET ?) ORDER BY position {direction}"""


_SLICES = {(by, to): _slice(by, to) for by in (False, True) for to in ("ASC", "DESC")}

_PURGE_EVERY = 64

# Bodies in a page of a dump, in bytes: a few large callbacks are a page too.
_PAGE_BYTES = 4 * 1024 * 1024


class _Terms(NamedTuple):
    number: int
    endpoint: Endpoint
    ttl_ns: int
    dedup_ns: int


class Operations:
    """Carries out messages on one connection.

    Arguments:
        connection: in autocommit mode; transactions are the caller's.
        time_ns: the clock.
    """

    def __init__(self, connection: sqlite3.Connection, time_ns: Callable[[], int]) -> None:
        self._execute = connection.execute
        self._many = connection.executemany
        self._time_ns = time_ns
        self._known: dict[str, _Terms] = {}
        self._data_version = -1
        self._until_purge = _PURGE_EVERY

    def begun(self) -> None:
        """To be called at the beginning of each transaction: what others changed is read anew."""
        (version,) = self._execute("PRAGMA data_version").fetchone()
        if version != self._data_version:
            self._known.clear()
            self._data_version = version

    def undone(self) -> None:
        """To be called when a transaction was rolled back."""
        self._known.clear()

    # -- endpoints ---------------------------------------------------------------------------------

    def _terms(self, endpoint_id: str) -> _Terms:
        terms = self._known.get(endpoint_id)
        if terms is None:
            terms = self._read_terms(endpoint_id)
            if terms is None:
                raise EndpointNotFound(endpoint_id)
            if len(self._known) >= 10_000:
                self._known.clear()
            self._known[endpoint_id] = terms
        return terms

    def _read_terms(self, endpoint_id: str) -> _Terms | None:
        row = self._execute(_FIND, (endpoint_id,)).fetchone() if _is_text(endpoint_id) else None
        return None if row is None else _terms_of(row)

    def index(self, message: messages.IndexEndpoints, stored: None) -> list[Endpoint]:
        rows = self._execute(_FIND.replace("WHERE id = ?", "ORDER BY number"))
        return [_terms_of(row).endpoint for row in rows]

    def find(self, message: messages.FindEndpoint, stored: None) -> Endpoint | None:
        terms = self._read_terms(message.endpoint_id)
        return None if terms is None else terms.endpoint

    def create(self, message: messages.CreateEndpoint, stored: None) -> Endpoint:
        endpoint = message.endpoint
        values = _values(endpoint)
        if self._read_terms(endpoint.id) is not None:
            raise EndpointExists(endpoint.id)
        self._execute(
            "INSERT INTO endpoints (secret, phases, ttl, created_at, dedup_for, id) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            values,
        )
        return endpoint

    def update(self, message: messages.UpdateEndpoint, stored: None) -> Endpoint:
        endpoint = message.endpoint
        values = _values(endpoint)
        self._terms(endpoint.id)
        self._known.pop(endpoint.id, None)
        self._execute(
            "UPDATE endpoints SET secret = ?, phases = ?, ttl = ?, created_at = ?, dedup_for = ? "
            "WHERE id = ?",
            values,
        )
        return endpoint

    def delete_endpoint(self, message: messages.DeleteEndpoint, stored: None) -> bool:
        terms = self._read_terms(message.endpoint_id)
        if terms is None:
            return False
        self._known.pop(message.endpoint_id, None)
        self._empty(terms.number)
        self._execute("DELETE FROM counts WHERE endpoint = ?", (terms.number,))
        self._execute("DELETE FROM endpoints WHERE number = ?", (terms.number,))
        return True

    def _empty(self, number: int) -> None:
        # The ids first: the trigger then finds none to mark as removed.
        self._execute("DELETE FROM ids WHERE endpoint = ?", (number,))
        self._execute("DELETE FROM callbacks WHERE endpoint = ?", (number,))

    def check_ready(self, message: messages.CheckReady, stored: None) -> None:
        # The value it has: that writes the file's first page all the same.
        (version,) = self._execute("PRAGMA user_version").fetchone()
        self._execute(f"PRAGMA user_version = {version}")

    # -- one callback ------------------------------------------------------------------------------

    def push(self, message: messages.Push, stored: Stored) -> PushResult:
        endpoint_id, callback, secret, trusted = message
        number, endpoint, ttl_ns, dedup_ns = self._terms(endpoint_id)
        if not trusted and not endpoint.secret.matches(secret):
            raise WrongSecret(endpoint_id)
        key, phase = callback.id, callback.phase
        if not phase:
            phase = endpoint.phases[0]
            callback = callback.with_phase(phase)
        elif phase not in endpoint.phases:
            raise UnknownPhase(endpoint_id, phase, endpoint.phases)
        now = self._time_ns()
        known = self._execute(
            "SELECT position, until FROM ids WHERE endpoint = ? AND id = ?", (number, key)
        ).fetchone()
        if known is not None:
            position, until = known
            if position is not None:
                queued = self._find_row(number, key, now)
                if queued is not None:
                    return PushResult(_callback(queued), Outcome.DUPLICATE)
            if until > now:
                return PushResult(message.callback, Outcome.DUPLICATE)
            if position is not None:
                self._remove(position)
        expires_at = now + ttl_ns if ttl_ns else None
        position = self._execute(
            "INSERT INTO callbacks "
            "(endpoint, id, phase, created_at, expires_at, kind, headers, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (number, key, phase, callback.created_at, expires_at, *stored),
        ).lastrowid
        self._execute(
            "INSERT INTO ids (endpoint, id, position, until) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (endpoint, id) DO UPDATE "
            "SET position = excluded.position, until = excluded.until",
            (number, key, position, now + dedup_ns if dedup_ns else 0),
        )
        self._until_purge -= 1
        if self._until_purge <= 0:
            # Twice as many as were pushed, so that what is due never piles up.
            self._until_purge = _PURGE_EVERY
            self._execute(_PURGE, (now, 2 * _PURGE_EVERY))
        return PushResult(callback, Outcome.QUEUED)

    def _find_row(self, number: int, key: str | None, now: int) -> tuple[Any, ...] | None:
        if key is None:
            row = self._execute(_HEAD, (number, now)).fetchone()
        elif _is_text(key):
            row = self._execute(_KEY, (number, key, now)).fetchone()
        else:
            row = None
        return row  # type: ignore[no-any-return]  # a row is what sqlite3 says it is

    def _remove(self, position: int) -> None:
        self._execute("DELETE FROM callbacks WHERE position = ?", (position,))

    def fetch(self, message: messages.Fetch | messages.Pop, stored: None) -> Callback | None:
        terms = self._terms(message.endpoint_id)
        row = self._find_row(terms.number, message.key, self._time_ns())
        return None if row is None else _callback(row)

    def pop(self, message: messages.Pop, stored: None) -> Callback | None:
        terms = self._terms(message.endpoint_id)
        row = self._find_row(terms.number, message.key, self._time_ns())
        if row is None:
            return None
        callback = _callback(row)
        self._remove(row[0])
        return callback

    def delete_callback(self, message: messages.DeleteCallback, stored: None) -> bool:
        terms = self._terms(message.endpoint_id)
        key: object = message.key
        if key is None:
            raise InvalidValue("DeleteCallback.key", "a callback's id", "None")
        row = self._find_row(terms.number, message.key, self._time_ns())
        if row is None:
            return False
        self._remove(row[0])
        return True

    def update_phase(self, message: messages.UpdatePhase, stored: None) -> Callback:
        endpoint_id, key, phase = message
        terms = self._terms(endpoint_id)
        if phase not in terms.endpoint.phases:
            raise UnknownPhase(endpoint_id, phase, terms.endpoint.phases)
        known: object = key
        row = None
        if known is not None:
            row = self._find_row(terms.number, key, self._time_ns())
        if row is None:
            raise CallbackNotFound(endpoint_id, key)
        callback = _callback(row)
        if callback.phase == phase:
            return callback
        self._execute("UPDATE callbacks SET phase = ? WHERE position = ?", (phase, row[0]))
        return callback.with_phase(phase)

    # -- many callbacks ----------------------------------------------------------------------------

    def count(self, message: messages.Count, stored: None) -> int:
        terms = self._terms(message.endpoint_id)
        count = self._count(terms.number, message.phase, self._time_ns())
        if not count:
            _check_phase(terms.endpoint, message.phase)
        return count

    def _count(self, number: int, phase: str | None, now: int) -> int:
        if phase is not None and not _is_text(phase):
            return 0
        more, values = ("", ()) if phase is None else (" AND phase = ?", (phase,))
        (queued,) = self._execute(
            f"SELECT ifnull(sum(queued), 0) FROM counts WHERE endpoint = ?{more}", (number, *values)
        ).fetchone()
        (expired,) = self._execute(
            "SELECT count(*) FROM callbacks INDEXED BY callbacks_by_expiry "
            f"WHERE expires_at <= ? AND endpoint = ?{more}",
            (now, number, *values),
        ).fetchone()
        return int(queued - expired)

    def _select(self, message: Any, direction: str) -> list[tuple[Any, ...]]:
        endpoint_id, phase, offset, limit = message
        terms = self._terms(endpoint_id)
        name = type(message).__name__
        offset = min(natural(f"{name}.offset", offset), LARGEST)
        limit = min(natural(f"{name}.limit", limit), LARGEST)
        now = self._time_ns()
        if phase is None:
            query, values = _SLICES[False, direction], (terms.number, now, limit, offset)
            return self._execute(query, values).fetchall()
        if phase not in terms.endpoint.phases and not self._count(terms.number, phase, now):
            _check_phase(terms.endpoint, phase)
        query = _SLICES[True, direction]
        return self._execute(query, (terms.number, phase, now, limit, offset)).fetchall()

    def fetch_slice(self, message: messages.FetchSlice, stored: None) -> list[Callback]:
        return [_callback(row) for row in self._select(message, "ASC")]

    def fetch_reverse(self, message: messages.FetchReverse, stored: None) -> list[Callback]:
        return [_callback(row) for row in self._select(message, "DESC")]

    def pop_slice(self, message: messages.PopSlice, stored: None) -> list[Callback]:
        rows = self._select(message, "ASC")
        callbacks = [_callback(row) for row in rows]
        self._many("DELETE FROM callbacks WHERE position = ?", [(row[0],) for row in rows])
        return callbacks

    def dump_page(self, message: messages.DumpPage, stored: None) -> Page:
        terms = self._terms(message.endpoint_id)
        limit = min(natural("DumpPage.limit", message.limit, least=1), LARGEST - 1)
        after = 0 if message.after is None else natural("DumpPage.after", message.after)
        # One more than asked for tells whether this page is the last.
        values = (terms.number, self._time_ns(), min(after, LARGEST), limit + 1)
        rows: list[tuple[Any, ...]] = []
        cursor: int | None = None
        size = 0
        with closing(self._execute(_PAGE, values)) as found:
            for row in found:
                if len(rows) == limit or size >= _PAGE_BYTES:
                    cursor = rows[-1][0]
                    break
                rows.append(row)
                size += len(row[-1])
        return Page([_callback(row) for row in rows], cursor)

    def reset(self, message: messages.Reset, stored: None) -> int:
        number = self._terms(message.endpoint_id).number
        count = self._count(number, None, self._time_ns())
        self._empty(number)
        return count

    def sweep(self, message: messages.Sweep, stored: None) -> int:
        limit = min(natural("Sweep.limit", message.limit), LARGEST)
        now = self._time_ns()
        expired = self._execute(
            "SELECT position FROM callbacks INDEXED BY callbacks_by_expiry "
            "WHERE expires_at <= ? ORDER BY expires_at LIMIT ?",
            (now, limit),
        ).fetchall()
        self._many("DELETE FROM callbacks WHERE position = ?", expired)
        self._execute(_PURGE, (now, limit))
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


def _is_text(value: object) -> bool:
    """Whether SQLite can look for it: other types would be compared as texts."""
    if not isinstance(value, str):
        return False
    return value.isprintable() or not any("\ud800" <= c <= "\udfff" for c in value)


def _check_phase(endpoint: Endpoint, phase: str | None) -> None:
    if phase is not None and phase not in endpoint.phases:
        raise UnknownPhase(endpoint.id, phase, endpoint.phases)


def _terms_of(row: tuple[Any, ...]) -> _Terms:
    number, id, secret, phases, ttl, created_at, dedup_for = row
    phases = tuple(json.loads(phases))
    endpoint = Endpoint(id, Secret(secret), phases, ttl, created_at, dedup_for)
    return _Terms(number, endpoint, ttl * 1_000_000, round(dedup_for * 1e9))


def _values(endpoint: Endpoint) -> tuple[Any, ...]:
    if endpoint.created_at > LARGEST:
        raise InvalidValue("Endpoint.created_at", f"at most {LARGEST}", str(endpoint.created_at))
    secret, phases = endpoint.secret.reveal(), json.dumps(endpoint.phases)
    return secret, phases, endpoint.ttl, endpoint.created_at, endpoint.dedup_for, endpoint.id


def _callback(row: tuple[Any, ...]) -> Callback:
    _, id, phase, created_at, kind, headers, body = row
    return Callback(id, decode((kind, headers, body)), phase, created_at)
