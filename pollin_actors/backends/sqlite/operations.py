"""The operations as SQL. Each runs inside a transaction that somebody else begins and commits.

Whatever an operation refuses, it refuses before its first change: so a refusal undoes nothing,
and other messages of the same transaction are not touched by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from types import MappingProxyType
from typing import Any

from pollin_actors import messages
from pollin_actors.backends.checks import check_expected, endpoint_of, natural, rotated, text
from pollin_actors.backends.sqlite import statements as sql
from pollin_actors.backends.sqlite.claiming import Claiming
from pollin_actors.backends.sqlite.lookback import PAGE_BYTES, Lookback
from pollin_actors.backends.sqlite.rows import is_text
from pollin_actors.errors import (
    CallbackNotFound,
    EndpointExists,
    EndpointNotFound,
    InvalidValue,
    PhaseConflict,
)
from pollin_actors.records import Kind
from pollin_actors.resources import Callback, Endpoint, Page

__all__ = ["OPERATIONS", "READS", "Operations"]

# Rows of a dropped queue that a sweep removes: some tens of milliseconds.
_CLEAR_AT_ONCE = 2_000


class Operations(Claiming, Lookback):
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
        # Only then: one that cannot be read may be replaced.
        if message.expect is not None and (terms := self._read_terms(endpoint.id)) is not None:
            check_expected(message, terms.endpoint)
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

    def consume(self, message: messages.Consume, stored: None) -> Endpoint:
        terms, phase = self._terms(message), text(message, "phase")
        endpoint = terms.endpoint
        self._check_phase(endpoint, phase)
        if phase in endpoint.consumes:
            return endpoint
        endpoint = endpoint.replace(consumes=(*endpoint.consumes, phase))
        self._known.pop(endpoint.id, None)
        self._execute(sql.UPDATE, (*_values(endpoint), endpoint.id))
        self._execute(sql.NEVER_EXPIRES, (terms.queue, phase, self._time_ns()))
        return endpoint

    def rotate(self, message: messages.RotateSecret, stored: None) -> Endpoint:
        terms, now = self._terms(message), self._time_ns()
        endpoint = rotated(message, terms.endpoint, now)
        self._known.pop(endpoint.id, None)
        self._execute(sql.UPDATE, (*_values(endpoint), endpoint.id))
        return endpoint

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
            if self._execute(statement, (queue, _CLEAR_AT_ONCE)).rowcount:
                return
        self._execute("DELETE FROM queues WHERE number = ?", (queue,))

    def check_ready(self, message: messages.CheckReady, stored: None) -> None:
        # Random, because what is there already would not be written.
        self._execute("UPDATE trial SET body = randomblob(65536)")

    # -- one callback ------------------------------------------------------------------------------

    def fetch(self, message: messages.Fetch, stored: None) -> Callback | None:
        terms = self._terms(message)
        key = message.key if message.key is None else text(message, "key")
        row = self._find_row(terms.queue, key, self._time_ns())
        if row is None and key is not None and message.kept and is_text(key):
            row = self._execute(sql.LAST, (terms.queue, key)).fetchone()
        return None if row is None else self._callback(row)

    def pop(self, message: messages.Pop, stored: None) -> Callback | None:
        terms = self._terms(message)
        key = message.key if message.key is None else text(message, "key")
        now = self._time_ns()
        self._turn(terms.queue, now)
        if key is None:
            row = self._execute(sql.NEXT, (terms.queue, now)).fetchone()
        else:
            row = self._find_row(terms.queue, key, now)
        if row is None or (key is not None and row[14]):
            return None
        callback = self._callback(row)
        self._remove(row[0], Kind.POPPED, now)
        return callback

    def delete_callback(self, message: messages.DeleteCallback, stored: None) -> bool:
        terms, now = self._terms(message), self._time_ns()
        row = self._find_row(terms.queue, text(message, "key"), now)
        if row is None:
            return False
        self._remove(row[0], Kind.DELETED, now)
        return True

    def update_phase(self, message: messages.UpdatePhase, stored: None) -> Callback:
        endpoint_id, key, phase, expect = message
        terms, now = self._terms(message), self._time_ns()
        self._check_phase(terms.endpoint, phase)
        known: object = key
        row = None
        if known is not None:
            row = self._find_row(terms.queue, text(message, "key"), now)
        if row is None:
            raise CallbackNotFound(endpoint_id, key)
        callback = self._callback(row)
        if expect is not None and callback.phase != text(message, "expect"):
            raise PhaseConflict(endpoint_id, key, expect, callback.phase)
        if callback.phase == phase:
            return callback
        self._turn(terms.queue, now)
        consumed = bool(terms.endpoint.consumes)
        moved = sql.NUMBERS[Kind.MOVED]
        values = (now, phase, moved, None, terms.expiry(phase, now), row[0])
        self._execute(sql.MOVE[consumed], values)
        return callback.with_phase(phase)

    # -- many callbacks ----------------------------------------------------------------------------

    def count(self, message: messages.Count, stored: None) -> int:
        terms = self._terms(message)
        if message.phase is not None:
            text(message, "phase")
        count = self._count(terms.queue, message.phase, self._time_ns())
        if not count:
            self._check_phase(terms.endpoint, message.phase)
        return count

    def _select(self, message: Any, direction: str) -> list[tuple[Any, ...]]:
        _, phase, offset, limit = message
        terms = self._terms(message)
        name = type(message).__name__
        if phase is not None:
            text(message, "phase")
        offset = min(natural(f"{name}.offset", offset), sql.LARGEST)
        limit = min(natural(f"{name}.limit", limit), sql.LARGEST)
        now = self._time_ns()
        if direction == "NEXT":
            self._turn(terms.queue, now)
            return self._available(terms, phase, offset, limit, now)
        query = sql.SLICES[phase is not None, direction]
        if phase is None:
            where: tuple[Any, ...] = (terms.queue, now)
        else:
            if phase not in terms.endpoint.phases and not self._count(terms.queue, phase, now):
                self._check_phase(terms.endpoint, phase)
            where = (terms.queue, phase, now)
        return self._execute(query, (*where * len(sql.HELDS), limit, offset)).fetchall()

    def fetch_slice(self, message: messages.FetchSlice, stored: None) -> list[Callback]:
        return [self._callback(row) for row in self._select(message, "ASC")]

    def fetch_reverse(self, message: messages.FetchReverse, stored: None) -> list[Callback]:
        return [self._callback(row) for row in self._select(message, "DESC")]

    def pop_slice(self, message: messages.PopSlice, stored: None) -> list[Callback]:
        rows = self._select(message, "NEXT")
        callbacks = [self._callback(row) for row in rows]
        self._remove_all([row[0] for row in rows], Kind.POPPED, self._time_ns())
        return callbacks

    def dump_page(self, message: messages.DumpPage, stored: None) -> Page:
        terms = self._terms(message)
        limit = min(natural("DumpPage.limit", message.limit, least=1), sql.LARGEST - 1)
        after = 0 if message.after is None else natural("DumpPage.after", message.after)
        # One more than asked for tells whether this page is the last.
        where = (terms.queue, self._time_ns(), min(after, sql.LARGEST))
        values = (*where * len(sql.HELDS), limit + 1)
        rows: list[tuple[Any, ...]] = []
        cursor: int | None = None
        size = 0
        with closing(self._execute(sql.PAGE, values)) as found:
            for row in found:
                if len(rows) == limit or size >= PAGE_BYTES:
                    cursor = rows[-1][0]
                    break
                rows.append(row)
                size += len(row[12])
        return Page([self._callback(row) for row in rows], cursor)

    def reset(self, message: messages.Reset, stored: None) -> int:
        endpoint_id = message.endpoint_id
        terms, now = self._terms(message), self._time_ns()
        count = self._count(terms.queue, None, now)
        self._known.pop(endpoint_id, None)
        self._drop(terms.queue)
        queue = self._new_queue()
        self._execute("UPDATE endpoints SET queue = ? WHERE id = ?", (queue, endpoint_id))
        self._execute(sql.RECORD_RESET, (queue, now))
        return count

    def sweep(self, message: messages.Sweep, stored: None) -> int:
        limit = min(natural("Sweep.limit", message.limit), sql.LARGEST)
        now = self._time_ns()
        expired = self._execute(sql.EXPIRED, (now, limit)).fetchall()
        self._remove_all([row[0] for row in expired], Kind.EXPIRED, now)
        self._forget(now, limit)
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
        messages.Consume: Operations.consume,
        messages.RotateSecret: Operations.rotate,
        messages.ClaimSlice: Operations.claim_slice,
        messages.Ack: Operations.ack,
        messages.Nack: Operations.nack,
        messages.Extend: Operations.extend,
        messages.Release: Operations.release,
        messages.History: Operations.history,
        messages.HistoryPage: Operations.history_page,
        messages.FindCursor: Operations.find_cursor,
        messages.MoveCursor: Operations.move_cursor,
        messages.Children: Operations.children,
        messages.PastPage: Operations.past_page,
        messages.Stats: Operations.stats,
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
        Operations.history,
        Operations.history_page,
        Operations.find_cursor,
        Operations.children,
        Operations.past_page,
        Operations.stats,
    }
)
"""Those that change nothing and so need no lock."""


def _values(endpoint: Endpoint) -> tuple[Any, ...]:
    if endpoint.created_at > sql.LARGEST:
        raise InvalidValue("Endpoint.created_at", f"at most {sql.LARGEST}", "more")
    for name, limit in (
        ("capacity", endpoint.capacity),
        ("capacity_bytes", endpoint.capacity_bytes),
    ):
        if limit is not None and limit > sql.LARGEST:
            raise InvalidValue(f"Endpoint.{name}", f"at most {sql.LARGEST}", "more")
    secret, phases = endpoint.secret.reveal(), json.dumps(endpoint.phases)
    return (
        secret,
        phases,
        endpoint.ttl,
        endpoint.created_at,
        endpoint.dedup_for,
        endpoint.keep_for,
        json.dumps(endpoint.consumes),
        endpoint.capacity,
        endpoint.capacity_bytes,
        json.dumps(endpoint.intake.as_fields()),
        json.dumps([(old.secret.reveal(), old.until) for old in endpoint.old_secrets]),
    )
