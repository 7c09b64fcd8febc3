"""The operations as SQL. Each runs inside a transaction that somebody else begins and commits.

Whatever an operation refuses, it refuses before its first change: so a refusal undoes nothing,
and other messages of the same transaction are not touched by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pollin_actors import messages
from pollin_actors.backends.checks import endpoint_of, natural, text
from pollin_actors.backends.sqlite import statements as sql
from pollin_actors.backends.sqlite.pushes import Pushes
from pollin_actors.backends.sqlite.rows import is_text
from pollin_actors.errors import (
    CallbackNotFound,
    EndpointExists,
    EndpointNotFound,
    InvalidValue,
    PhaseConflict,
    UnknownPhase,
)
from pollin_actors.resources import Callback, Endpoint, Page

if TYPE_CHECKING:
    pass

__all__ = ["OPERATIONS", "READS", "Operations"]

# Rows of a dropped queue that a sweep removes: some tens of milliseconds.
_CLEAR_AT_ONCE = 5_000

# Bodies in a page of a dump, in bytes: a few large callbacks are a page too.
_PAGE_BYTES = 4 * 1024 * 1024


class Operations(Pushes):
    """Carries out messages on one connection."""

    # -- endpoints ---------------------------------------------------------------------------------

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
            self._execute(sql.QUEUE_OF, (endpoint_id,)).fetchone() if is_text(endpoint_id) else None
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
        # Random, because what is there already would not be written.
        self._execute("UPDATE trial SET body = randomblob(65536)")

    # -- one callback ------------------------------------------------------------------------------

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
        endpoint_id, key, phase, expect = message
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
        if expect is not None and callback.phase != text(message, "expect"):
            raise PhaseConflict(endpoint_id, key, expect, callback.phase)
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


def _check_phase(endpoint: Endpoint, phase: str | None) -> None:
    if phase is not None and phase not in endpoint.phases:
        raise UnknownPhase(endpoint.id, phase, endpoint.phases)


def _values(endpoint: Endpoint) -> tuple[Any, ...]:
    if endpoint.created_at > sql.LARGEST:
        raise InvalidValue("Endpoint.created_at", f"at most {sql.LARGEST}", "more")
    secret, phases = endpoint.secret.reveal(), json.dumps(endpoint.phases)
    return secret, phases, endpoint.ttl, endpoint.created_at, endpoint.dedup_for
