"""The operations as SQL. Each runs inside a transaction that somebody else begins and commits.

Whatever an operation refuses, it refuses before its first change, or undoes that: so other
messages of the same transaction are not touched by it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from secrets import token_hex
from types import MappingProxyType
from typing import Any

from pollin_actors import messages
from pollin_actors.backends.checks import check_expected, endpoint_of, natural, rotated, text
from pollin_actors.backends.postgres import statements as sql
from pollin_actors.backends.postgres.arrays import is_text, numbers
from pollin_actors.backends.postgres.lookback import Lookback
from pollin_actors.errors import (
    CallbackNotFound,
    EndpointExists,
    EndpointNotFound,
    InvalidValue,
    PhaseConflict,
)
from pollin_actors.records import Kind
from pollin_actors.resources import Callback, Endpoint

__all__ = ["ALONE", "OPERATIONS", "READS", "Operations"]

# Rows of a dropped queue that a sweep removes: some tens of milliseconds.
_CLEAR_AT_ONCE = 2_000
_TRIAL_BYTES = 1024


class Operations(Lookback):
    """Carries out messages within transactions."""

    # -- endpoints ---------------------------------------------------------------------------------

    def index(self, message: messages.IndexEndpoints, stored: None) -> list[Endpoint]:
        return [self._terms_of(row).endpoint for row in self._execute(sql.INDEX).fetchall()]

    def find(self, message: messages.FindEndpoint, stored: None) -> Endpoint | None:
        terms = self._read_terms(text(message, "endpoint_id"))
        return None if terms is None else terms.endpoint

    def create(self, message: messages.CreateEndpoint, stored: None) -> Endpoint:
        endpoint = endpoint_of(message)
        values = _values(endpoint)
        if self._read_row(endpoint.id) is not None:
            raise EndpointExists(endpoint.id)
        self._revised(endpoint.id)
        queue = self._new_queue()
        created = self._execute(sql.CREATE, (*values, queue, endpoint.id)).rowcount
        if not created:
            # Another node was quicker, just now.
            self._execute(sql.REMOVE_QUEUE, (queue,))
            raise EndpointExists(endpoint.id)
        return endpoint

    def update(self, message: messages.UpdateEndpoint, stored: None) -> Endpoint:
        endpoint = endpoint_of(message)
        values = _values(endpoint)
        if self._read_row(endpoint.id) is None:
            raise EndpointNotFound(endpoint.id)
        # Only then: one that cannot be read may be replaced.
        if message.expect is not None and (terms := self._read_terms(endpoint.id)) is not None:
            check_expected(message, terms.endpoint)
        self._write(endpoint.id, values)
        return endpoint

    def _write(self, endpoint_id: str, values: tuple[Any, ...]) -> None:
        self._revised(endpoint_id)
        self._execute(sql.UPDATE, (*values, endpoint_id))

    def delete_endpoint(self, message: messages.DeleteEndpoint, stored: None) -> bool:
        endpoint_id = text(message, "endpoint_id")
        row = self._read_row(endpoint_id)
        if row is None:
            return False
        self._revised(endpoint_id)
        self._drop(row[0])
        self._execute(sql.DELETE, (endpoint_id,))
        return True

    def consume(self, message: messages.Consume, stored: None) -> Endpoint:
        terms, phase = self._terms(message), text(message, "phase")
        endpoint = terms.endpoint
        self._check_phase(endpoint, phase)
        if phase in endpoint.consumes:
            return endpoint
        endpoint = endpoint.replace(consumes=(*endpoint.consumes, phase))
        self._write(endpoint.id, _values(endpoint))
        values = {"queue": terms.queue, "phase": phase, "now": self._time_ns()}
        self._execute(sql.NEVER_EXPIRES, values)
        return endpoint

    def rotate(self, message: messages.RotateSecret, stored: None) -> Endpoint:
        terms, now = self._terms(message), self._time_ns()
        endpoint = rotated(message, terms.endpoint, now)
        self._write(endpoint.id, _values(endpoint))
        return endpoint

    # A queue that nobody can reach any more is left to the sweeps: a long one takes seconds.

    def _new_queue(self) -> int:
        return int(self._one(sql.NEW_QUEUE, ())[0])

    def _drop(self, queue: int) -> None:
        self._execute(sql.DROP, (queue,))
        self._execute(sql.DROP_COUNTS, (queue,))

    def _clear_dropped(self) -> None:
        found = self._execute(sql.DROPPED).fetchone()
        if found is None:
            return
        (queue,) = found
        for statement in sql.CLEAR:
            values = {"queue": queue, "limit": _CLEAR_AT_ONCE}
            if self._execute(statement, values).rowcount:
                return
        self._execute(sql.REMOVE_QUEUE, (queue,))

    def check_ready(self, message: messages.CheckReady, stored: None) -> None:
        self._execute(sql.TRIAL, (token_hex(_TRIAL_BYTES // 2), os.getpid() % 16))

    # -- one callback ------------------------------------------------------------------------------

    def fetch(self, message: messages.Fetch, stored: None) -> Callback | None:
        terms = self._terms(message)
        key = message.key if message.key is None else text(message, "key")
        row = self._find_row(terms.queue, key, self._time_ns())
        if row is None and key is not None and message.kept and is_text(key):
            row = self._execute(sql.LAST, {"queue": terms.queue, "key": key}).fetchone()
        return None if row is None else self._callback(row)

    def pop(self, message: messages.Pop, stored: None) -> Callback | None:
        found: Callback | None = self._fire(self.pop_shot(message, self._terms(message)))[0]
        return found

    def delete_callback(self, message: messages.DeleteCallback, stored: None) -> bool:
        terms, now = self._terms(message), self._time_ns()
        row = self._find_row(terms.queue, text(message, "key"), now)
        if row is None:
            return False
        self._remove(terms.queue, [row[0]], Kind.DELETED, now)
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
        values = (phase, moved, now, None, terms.expiry(phase, now), consumed)
        self._execute(sql.MOVE, (terms.queue, row[0], *values))
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
        known = phase is None or phase in terms.endpoint.phases
        if not known and not self._count(terms.queue, phase, now):
            self._check_phase(terms.endpoint, phase)
        values = {
            "queue": terms.queue,
            "phase": phase,
            "now": now,
            "most": min(offset + limit, sql.LARGEST),
            "limit": limit,
            "offset": offset,
        }
        return self._execute(sql.SLICES[phase is not None, direction], values).fetchall()

    def fetch_slice(self, message: messages.FetchSlice, stored: None) -> list[Callback]:
        return [self._callback(row) for row in self._select(message, "ASC")]

    def fetch_reverse(self, message: messages.FetchReverse, stored: None) -> list[Callback]:
        return [self._callback(row) for row in self._select(message, "DESC")]

    def pop_slice(self, message: messages.PopSlice, stored: None) -> list[Callback]:
        rows = self._select(message, "NEXT")
        callbacks = [self._callback(row) for row in rows]
        queue = self._terms(message).queue
        self._remove(queue, [row[0] for row in rows], Kind.POPPED, self._time_ns())
        return callbacks

    def reset(self, message: messages.Reset, stored: None) -> int:
        terms, now = self._terms(message), self._time_ns()
        count = self._count(terms.queue, None, now)
        self._revised(message.endpoint_id)
        self._drop(terms.queue)
        queue = self._new_queue()
        self._execute(sql.REQUEUE, (queue, message.endpoint_id))
        self._execute(sql.RECORD_RESET, (queue, now))
        return count

    # -- what time does ----------------------------------------------------------------------------

    def sweep(self, message: messages.Sweep, stored: None) -> int:
        limit = min(natural("Sweep.limit", message.limit), sql.LARGEST)
        now = self._time_ns()
        by_queue: dict[int, list[int]] = {}
        for queue, position in self._execute(sql.OLD, (now, limit)).fetchall():
            by_queue.setdefault(queue, []).append(position)
        expired = 0
        # Whoever works on one of these queues is waited for; then some may have left it already.
        for queue in self._locked(by_queue, sql.LOCK):
            values = {"queue": queue, "positions": numbers(by_queue[queue]), "now": now}
            found = [row[0] for row in self._execute(sql.STILL_OLD, values).fetchall()]
            self._remove(queue, found, Kind.EXPIRED, now)
            expired += len(found)
        self.forget(limit)
        self._clear_dropped()
        return expired

    def _locked(self, queues: Mapping[int, Any], query: str) -> list[int]:
        if not queues:
            return []
        return [row[0] for row in self._execute(query, (numbers([*queues]),)).fetchall()]

    def forget(self, limit: int) -> None:
        """Forget what has been gone for long enough, where nobody else is at work just now."""
        now = self._time_ns()
        by_queue: dict[int, tuple[list[int], list[int]]] = {}
        values: dict[str, Any] = {"now": now, "limit": limit}
        for queue, position, remembered in self._execute(sql.GONE, values).fetchall():
            by_queue.setdefault(queue, ([], []))[not remembered].append(position)
        for queue in self._locked(by_queue, sql.LOCK_FREE):
            remembered, forgotten = by_queue[queue]
            # What it held goes first; its id may be remembered for longer.
            values = {"queue": queue, "positions": numbers([*remembered, *forgotten])}
            for statement in sql.STRIP:
                self._execute(statement, values)
            if remembered:
                self._execute(sql.BARE, {"queue": queue, "positions": numbers(remembered)})
            if forgotten:
                self._execute(sql.FORGET, {"queue": queue, "positions": numbers(forgotten)})


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
"""Those that change nothing: they need no lock, but one snapshot for all their statements."""

ALONE: frozenset[Callable[..., Any]] = frozenset({Operations.sweep})
"""Those that lock queues that their message does not name: in a transaction of their own, or
somebody could wait in a circle."""


def _values(endpoint: Endpoint) -> tuple[Any, ...]:
    if endpoint.created_at > sql.LARGEST:
        raise InvalidValue("Endpoint.created_at", f"at most {sql.LARGEST}", "more")
    for name, limit in (
        ("capacity", endpoint.capacity),
        ("capacity_bytes", endpoint.capacity_bytes),
    ):
        if limit is not None and limit > sql.LARGEST:
            raise InvalidValue(f"Endpoint.{name}", f"at most {sql.LARGEST}", "more")
    return (
        # As JSON: a secret may hold what no text of the server can.
        json.dumps(endpoint.secret.reveal()),
        json.dumps(endpoint.phases),
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
