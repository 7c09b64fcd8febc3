"""Pushing: one at a time, or many by one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from pollin_actors import messages
from pollin_actors.backends.sqlite import statements as sql
from pollin_actors.backends.sqlite.rows import PURGE_EVERY, Rows
from pollin_actors.backends.values import Stored
from pollin_actors.errors import InvalidValue, PollinError, UnknownPhase, WrongSecret
from pollin_actors.resources import Callback, Outcome, PushResult

__all__ = ["Pushes"]


class Pushes(Rows):
    """Push, and what it needs to know of ids."""

    def push(self, message: messages.Push, stored: Stored | InvalidValue) -> PushResult:
        now = self._time_ns()
        callback, row = self._row_of(message, now)
        if stored.__class__ is not tuple:
            # What cannot be stored is no news to who may not push, nor if it is there already.
            known = self._known_id(row[0], message, now)
            if known is not None:
                return known
            raise cast("InvalidValue", stored)
        values = (*row, *stored)
        if not self._execute(sql.ADD, values).rowcount:
            known = self._known_id(row[0], message, now)
            if known is not None:
                return known
            self._forget(row[0], callback.id)
            self._execute(sql.ADD, values)
        self._pushed(1, now)
        return PushResult(callback, Outcome.QUEUED)

    def push_many(
        self, pushes: Sequence[tuple[messages.Push, Stored | InvalidValue]]
    ) -> tuple[list[PushResult], int]:
        """Add the first of these by one statement: while it runs, other threads run too.

        Returns:
            The results of those that were added, and how many after them are to be pushed one
            by one.
        """
        now = self._time_ns()
        results: list[PushResult] = []
        values: list[Any] = []
        ids: set[tuple[int, str]] = set()
        for message, stored in pushes[: sql.BATCHES[0]]:
            try:
                callback, row = self._row_of(message, now)
            except PollinError:
                break
            if stored.__class__ is not tuple or row[:2] in ids:
                break
            ids.add(row[:2])
            values += row
            values += stored
            results.append(PushResult(callback, Outcome.QUEUED))
        rows = next((rows for rows in sql.BATCHES if rows <= len(results)), 0)
        if not rows:
            return [], len(results) + 1
        del results[rows:]
        cursor = self._execute(sql.ADD_MANY[rows], values[: 9 * rows])
        if cursor.rowcount != rows:
            self._take_back(pushes[:rows], cursor)
            return [], rows
        self._pushed(rows, now)
        return results, 0

    def _take_back(self, pushes: Sequence[tuple[messages.Push, Any]], cursor: Any) -> None:
        """Some ids were known: what to do about those may have to come before the others."""
        last, left = cursor.lastrowid, cursor.rowcount
        for message, _ in pushes if left else ():
            queue, id = self._terms(message).queue, message.callback.id
            ((position, _),) = self._execute(sql.KNOWN, (queue, id)).fetchall()
            if position is not None and position > last - cursor.rowcount:
                self._execute(sql.FORGET, (queue, id))
                self._remove(position)
                left -= 1
        if left:
            raise RuntimeError(f"{left} callbacks of {len(pushes)} cannot be told from others")

    def _row_of(self, message: messages.Push, now: int) -> tuple[Callback, tuple[Any, ...]]:
        """The callback as it is queued, and its row without the request.

        Raises:
            EndpointNotFound, WrongSecret, UnknownPhase: it may not be pushed.
        """
        endpoint_id, callback, secret, trusted = message
        queue, endpoint, ttl_ns, dedup_ns = self._terms(message)
        if not trusted and not endpoint.secret.matches(secret):
            raise WrongSecret(endpoint_id)
        phase = callback.phase
        if not phase:
            phase = endpoint.phases[0]
            callback = callback.with_phase(phase)
        elif phase not in endpoint.phases:
            raise UnknownPhase(endpoint_id, phase, endpoint.phases)
        expires_at = now + ttl_ns if ttl_ns else None
        until = now + dedup_ns if dedup_ns else 0
        return callback, (queue, callback.id, phase, callback.created_at, expires_at, until)

    def _pushed(self, number: int, now: int) -> None:
        self._until_purge -= number
        if self._until_purge <= 0:
            # Twice as many as were pushed, so that what is due never piles up.
            self._until_purge = PURGE_EVERY
            self._purge(now, 2 * PURGE_EVERY)

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
