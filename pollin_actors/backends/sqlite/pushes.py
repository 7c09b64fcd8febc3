"""Pushing: one at a time, or many by one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from pollin_actors import messages
from pollin_actors.backends.checks import has_only_fence, repeat_reason
from pollin_actors.backends.sqlite import statements as sql
from pollin_actors.backends.sqlite.rows import FORGET_EVERY, Rows, Terms, is_text
from pollin_actors.backends.values import Stored
from pollin_actors.errors import CallbackNotFound, Full, InvalidValue, PollinError, WrongSecret
from pollin_actors.records import Kind
from pollin_actors.resources import Callback, Outcome, PushResult

__all__ = ["Pushes"]


class Pushes(Rows):
    """Push, and what it needs to know of ids, relatives and limits."""

    def push(self, message: messages.Push, stored: Stored | InvalidValue) -> PushResult:
        now = self._time_ns()
        terms, callback = self._accepted(message)
        return self._push(terms, callback, message.callback, stored, now)

    def _push(
        self,
        terms: Terms,
        callback: Callback,
        as_given: Callback,
        stored: Stored | InvalidValue,
        now: int,
    ) -> PushResult:
        row = _row(terms, callback, now)
        limited = terms.endpoint.capacity is not None or terms.endpoint.capacity_bytes is not None
        plain = stored.__class__ is tuple and not limited
        if plain and (callback.is_plain or has_only_fence(callback)):
            cursor = self._execute(sql.ADD, row)
            if not cursor.rowcount:
                return self._duplicate(terms.queue, as_given, now)
        else:
            # What cannot be stored is no news to who may not push, nor if it is there already.
            if self._is_known(terms.queue, callback, now):
                return self._duplicate(terms.queue, as_given, now)
            callback = self._related(terms, callback, now)
            if limited:
                self._check_room(terms, callback, now)
            if stored.__class__ is not tuple:
                raise cast("InvalidValue", stored)
            cursor = self._execute(sql.ADD_RARE, (*row, *self._rarely(terms, callback, now)))
        self._execute(sql.STORE, (cursor.lastrowid, *cast("Stored", stored)))
        self._pushed(1, now)
        return PushResult(callback, Outcome.QUEUED)

    def _pushed(self, number: int, now: int) -> None:
        self._until_forgotten -= number
        if self._until_forgotten <= 0:
            # Twice as many as were pushed, so that what is due never piles up.
            self._until_forgotten = FORGET_EVERY
            self._forget(now, 2 * FORGET_EVERY)

    def push_many(
        self, pushes: Sequence[tuple[messages.Push, Stored | InvalidValue]]
    ) -> tuple[list[PushResult], int]:
        """Add the first of these by one statement: while it runs, other threads run too.

        Returns:
            The results of those that were carried out, and how many after them are to be pushed
            one by one.
        """
        now = self._time_ns()
        callbacks: list[Callback] = []
        values: list[Any] = []
        ids: set[tuple[int, str]] = set()
        for message, stored in pushes[: sql.BATCHES[0]]:
            try:
                terms, callback = self._accepted(message)
            except PollinError:
                break
            row = _row(terms, callback, now)
            endpoint = terms.endpoint
            limited = endpoint.capacity is not None or endpoint.capacity_bytes is not None
            simple = (
                stored.__class__ is tuple
                and not limited
                and (callback.is_plain or has_only_fence(callback))
            )
            if not simple or row[:2] in ids:
                break
            ids.add(row[:2])
            values += row
            callbacks.append(callback)
        rows = next((rows for rows in sql.BATCHES if rows <= len(callbacks)), 0)
        if not rows:
            return [], len(callbacks) + 1
        cursor = self._execute(sql.ADD_MANY[rows], values[: sql.ADDS * rows])
        if cursor.rowcount != rows:
            return self._some_known(pushes[:rows], callbacks, values, cursor, now), 0
        first = (cursor.lastrowid or 0) - rows + 1
        stores: list[Any] = []
        for number, (_, stored) in enumerate(cast("Any", pushes[:rows]), first):
            stores.append(number)
            stores += stored
        self._execute(sql.STORE_MANY[rows], stores)
        self._pushed(rows, now)
        return [PushResult(callback, Outcome.QUEUED) for callback in callbacks[:rows]], 0

    def _some_known(
        self,
        pushes: Sequence[tuple[messages.Push, Any]],
        callbacks: list[Callback],
        values: list[Any],
        cursor: Any,
        now: int,
    ) -> list[PushResult]:
        """The results where ids were known: those were passed over."""
        added: dict[tuple[int, str], int] = {}
        if cursor.rowcount:
            found = self._execute(sql.ADDED, (cursor.lastrowid - cursor.rowcount,))
            added = {(queue, id): position for queue, id, position in found}
        if len(added) != cursor.rowcount:
            raise RuntimeError(f"{cursor.rowcount} callbacks were added, {len(added)} are there")
        results = []
        for number, (message, stored) in enumerate(pushes):
            queue, id = values[sql.ADDS * number : sql.ADDS * number + 2]
            position = added.get((queue, id))
            if position is None:
                results.append(self._duplicate(queue, message.callback, now))
            else:
                self._execute(sql.STORE, (position, *stored))
                results.append(PushResult(callbacks[number], Outcome.QUEUED))
        return results

    def _accepted(self, message: messages.Push) -> tuple[Terms, Callback]:
        """The callback as it is queued.

        Raises:
            EndpointNotFound, WrongSecret, UnknownPhase: it may not be pushed.
        """
        terms = self._terms(message)
        endpoint, secret = terms.endpoint, message.secret
        if not (
            message.trusted
            or endpoint.secret.matches(secret)
            or endpoint.accepts(secret, self._time_ns())
        ):
            raise WrongSecret(message.endpoint_id)
        return terms, self._entering(terms, message.callback)

    def _entering(self, terms: Terms, callback: Callback) -> Callback:
        phase = callback.phase
        if not phase:
            return callback.with_phase(terms.endpoint.phases[0])
        self._check_phase(terms.endpoint, phase)
        return callback if not callback.attempts else callback.with_attempts(0)

    def _is_known(self, queue: int, callback: Callback, now: int) -> bool:
        (known,) = self._execute(sql.KNOWN, (queue, callback.id, now, now)).fetchone()
        if not known and callback.fence is not None:
            values = (queue, callback.fence, now, now)
            (known,) = self._execute(sql.KNOWN_FENCE, values).fetchone()
        return bool(known)

    def _duplicate(self, queue: int, callback: Callback, now: int) -> PushResult:
        """Answer a push that adds nothing, and record it."""
        fence = callback.fence
        row = self._find_row(queue, callback.id, now)
        if row is None and fence is not None:
            row = self._execute(sql.FENCED, (queue, fence, now)).fetchone()
        if row is not None:
            known = self._callback(row)
            self._repeat(row[0], callback, known.id, now)
            return PushResult(known, Outcome.DUPLICATE)
        found = self._execute(sql.LIKE_ID, (queue, callback.id)).fetchone()
        if found is None and fence is not None:
            found = self._execute(sql.LIKE_FENCE, (queue, fence)).fetchone()
        if found is not None:
            position, unswept, id = found
            if unswept:
                # First things first: its history would say that it came again before it expired.
                self._remove(position, Kind.EXPIRED, now)
            self._repeat(position, callback, id, now)
        return PushResult(callback, Outcome.DUPLICATE)

    def _repeat(self, position: int, callback: Callback, known: str, now: int) -> None:
        reason = repeat_reason(callback, known) or None
        self._execute(sql.REPEATED, (position, now, reason))

    def _relative(self, terms: Terms, key: str, now: int) -> tuple[int, str | None]:
        """Position and root of a callback that is queued or kept.

        Raises:
            CallbackNotFound: there is none.
        """
        row = None
        if is_text(key):
            row = self._execute(sql.RELATIVE, (terms.queue, key, now)).fetchone()
        if row is None:
            raise CallbackNotFound(terms.endpoint.id, key)
        return row[0], row[1]

    def _related(self, terms: Terms, callback: Callback, now: int) -> Callback:
        parent = callback.parent
        if parent is None:
            return callback if callback.root is None else callback.with_root(None)
        _, root = self._relative(terms, parent, now)
        return callback.with_root(root or parent)

    def _check_room(self, terms: Terms, callback: Callback, now: int) -> None:
        endpoint = terms.endpoint
        phases = endpoint.consumes
        if phases and callback.phase not in phases:
            return
        more = f" AND phase IN ({', '.join('?' * len(phases))})" if phases else ""
        counted, size = self._execute(
            "SELECT ifnull(sum(queued), 0), ifnull(sum(size), 0) FROM counts "
            f"WHERE queue = ?{more}",
            (terms.queue, *phases),
        ).fetchone()
        for what, held, adds, limit in (
            ("callbacks", counted, 1, endpoint.capacity),
            ("bytes", size, callback.size, endpoint.capacity_bytes),
        ):
            if limit is not None and held + adds > limit:
                # Only now: what has expired and is not swept yet takes no room.
                of = "count(*)" if what == "callbacks" else "ifnull(sum(size), 0)"
                (expired,) = self._execute(
                    f"SELECT {of} FROM callbacks INDEXED BY callbacks_by_expiry "
                    f"WHERE expires_at <= ? AND queue = ?{more}",
                    (now, terms.queue, *phases),
                ).fetchone()
                if held - expired + adds > limit:
                    raise Full(endpoint.id, what, held - expired, limit)

    def _rarely(self, terms: Terms, callback: Callback, now: int) -> tuple[Any, ...]:
        """What few callbacks have, and how it is held because of it."""
        key, not_before = callback.ordering_key, callback.not_before
        held, due = (1, not_before) if not_before is not None and not_before > now else (0, None)
        if key is not None:
            self._turn(terms.queue, now)
            if self._execute(sql.FRONT, (terms.queue, callback.phase, key)).fetchone():
                held, due = 2, None
        return callback.parent, callback.root, callback.origin, key, not_before, held, due


def _row(terms: Terms, callback: Callback, now: int) -> tuple[Any, ...]:
    phase, dedup_ns = callback.phase, terms.dedup_ns
    expires_at = terms.expiry(phase, now)
    until = now + dedup_ns if dedup_ns else 0
    keep = terms.keep_ns
    return (
        terms.queue,
        callback.id,
        phase,
        callback.created_at,
        expires_at,
        until,
        keep,
        callback.size,
        now,
        callback.fence,
    )
