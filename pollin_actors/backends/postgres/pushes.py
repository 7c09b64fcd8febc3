"""Pushing: many that are simple by one call, the others one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from pollin_actors import messages
from pollin_actors.backends.checks import has_only_fence, repeat_reason
from pollin_actors.backends.postgres import statements as sql
from pollin_actors.backends.postgres.arrays import is_text, numbers, texts
from pollin_actors.backends.postgres.claiming import Claiming
from pollin_actors.backends.postgres.exchanges import encoded
from pollin_actors.backends.postgres.rows import Terms
from pollin_actors.backends.postgres.shots import Shot
from pollin_actors.backends.values import Stored
from pollin_actors.errors import CallbackNotFound, Full, InvalidValue, PollinError, WrongSecret
from pollin_actors.records import Kind
from pollin_actors.resources import Callback, Outcome, PushResult

__all__ = ["MOST_BYTES", "PUSH_ONE", "PUSH_ONE_VALUES", "Pushes"]

MOST_BYTES = 4 * 1024 * 1024
"""Of one call, unless a single callback is larger."""

_PUSH = "{s}.push({e}, %s, %s, " + ", ".join(["%s"] * 13) + ", %b, " + ", ".join(["%s"] * 7) + ")"
PUSH_ONE_VALUES = 17
PUSH_ONE = f"SELECT {{s}}.push_one({', '.join([f'${n + 1}' for n in range(PUSH_ONE_VALUES)])})"
"""A transaction by itself: its first values are those of ``enter``, the last two are bytes."""
# What few callbacks have.
_NONE = ("{}",) * 7


class _Rare(NamedTuple):
    """What few callbacks have, and how one is held because of it."""

    parent: str | None
    root: str | None
    origin: str | None
    ordering_key: str | None
    not_before: int | None
    held: int
    due: int | None


class Pushes(Claiming):
    """Push, and what it needs to know of ids, relatives and limits."""

    def push_shot(
        self,
        pairs: Iterable[tuple[messages.Push, Any]],
        terms_of: Callable[[messages.Push], Terms | None],
        strict: bool,
    ) -> Shot | None:
        """One call for the first of these pushes, as many as are simple; None if there is none.

        Arguments:
            pairs: pushes that follow one another, each with what is stored of it.
            terms_of: the terms of a push's endpoint, if they are known.
            strict: whether nothing is to be added if some are there already. Otherwise those are
                passed over, and answered in their turn.
        """
        now = self._time_ns()
        rows: list[tuple[Any, ...]] = []
        callbacks: list[Callback] = []
        given: list[Callback] = []
        names: set[tuple[int, str, str | None]] = set()
        queues: dict[int, int] = {}
        size = 0
        for message, stored in pairs:
            terms = terms_of(message)
            if terms is None or stored.__class__ is not tuple or size >= MOST_BYTES:
                break
            try:
                callback = self._accepted(terms, message)
            except PollinError:
                break
            name = (terms.queue, callback.id, None)
            fence = (terms.queue, "", callback.fence)
            # Which of two is the duplicate, their order says.
            repeats = name in names or (callback.fence and fence in names)
            if repeats or not _is_simple(terms, callback):
                break
            names.add(name)
            if callback.fence:
                names.add(fence)
            queues[terms.queue] = terms.revision
            rows.append((*_row(terms, callback, now), *stored))
            size += len(stored[2])
            callbacks.append(callback)
            given.append(message.callback)
        if not rows:
            return None

        def finish(found: list[tuple[Any, ...]]) -> list[Any]:
            results = [PushResult(callback, Outcome.QUEUED) for callback in callbacks]
            for number in sorted(set(found[0][0] or ())):
                queue = rows[number - 1][0]
                results[number - 1] = self._duplicate(queue, given[number - 1], now)
            return results

        return Shot(queues, _PUSH, _values(rows, _NONE, strict, now), finish, len(rows))

    def lone_push(
        self, message: messages.Push, stored: Stored | InvalidValue
    ) -> tuple[list[bytes | None], PushResult] | None:
        """The values of ``PUSH_ONE`` but the first three, and the reply; None if it is not simple,
        or the endpoint is not known."""
        terms = self._known.get(message.endpoint_id)
        if terms is None or isinstance(stored, InvalidValue):
            return None
        try:
            callback = self._accepted(terms, message)
        except PollinError:
            return None
        if not _is_simple(terms, callback):
            return None
        now = self._time_ns()
        queue, *row = _row(terms, callback, now)
        kind, headers, body = stored
        values = [encoded(value) for value in (queue, terms.revision, now, *row, kind)]
        return [*values, headers, body], PushResult(callback, Outcome.QUEUED)

    def push(self, message: messages.Push, stored: Stored | InvalidValue) -> PushResult:
        terms = self._terms(message)
        shot = self.push_shot([(message, stored)], lambda _: terms, False)
        if shot is not None:
            result: PushResult = self._fire(shot)[0]
            return result
        callback = self._accepted(terms, message)
        return self._push(terms, callback, message.callback, stored, self._time_ns())

    def _push(
        self,
        terms: Terms,
        callback: Callback,
        as_given: Callback,
        stored: Stored | InvalidValue,
        now: int,
    ) -> PushResult:
        # What cannot be stored is no news to who may not push, nor if it is there already.
        if self._is_known(terms.queue, callback, now):
            return self._duplicate(terms.queue, as_given, now)
        callback = self._related(terms, callback, now)
        self._check_room(terms, callback, now)
        if isinstance(stored, InvalidValue):
            raise stored
        rare = self._rarely(terms, callback, now)
        arrays = (
            texts([rare.parent]),
            texts([rare.root]),
            texts([rare.origin]),
            texts([rare.ordering_key]),
            numbers([rare.not_before]),
            numbers([rare.held]),
            numbers([rare.due]),
        )
        row = (*_row(terms, callback, now), *stored)
        query = f"SELECT * FROM {_PUSH.replace('{e}', 'true')}"
        self._execute(query, _values([row], arrays, True, now))
        return PushResult(callback, Outcome.QUEUED)

    def _accepted(self, terms: Terms, message: messages.Push) -> Callback:
        """The callback as it is queued.

        Raises:
            WrongSecret, UnknownPhase: it may not be pushed.
        """
        endpoint, secret = terms.endpoint, message.secret
        if not (
            message.trusted
            or endpoint.secret.matches(secret)
            or endpoint.accepts(secret, self._time_ns())
        ):
            raise WrongSecret(message.endpoint_id)
        return self._entering(terms, message.callback)

    def _entering(self, terms: Terms, callback: Callback) -> Callback:
        phase = callback.phase
        if not phase:
            return callback.with_phase(terms.endpoint.phases[0])
        self._check_phase(terms.endpoint, phase)
        return callback if not callback.attempts else callback.with_attempts(0)

    def _is_known(self, queue: int, callback: Callback, now: int) -> bool:
        values = {"queue": queue, "id": callback.id, "fence": callback.fence, "now": now}
        return bool(self._one(sql.KNOWN, values)[0])

    def _duplicate(self, queue: int, callback: Callback, now: int) -> PushResult:
        """Answer a push that adds nothing, and record it."""
        fence = callback.fence
        row = self._find_row(queue, callback.id, now)
        if row is None and fence is not None:
            values = {"queue": queue, "key": fence, "now": now}
            row = self._execute(sql.FENCED, values).fetchone()
        if row is not None:
            known = self._callback(row)
            self._repeat(queue, row[0], callback, known.id, now)
            return PushResult(known, Outcome.DUPLICATE)
        found = self._execute(sql.LIKE_ID, (queue, callback.id)).fetchone()
        if found is None and fence is not None:
            found = self._execute(sql.LIKE_FENCE, (queue, fence)).fetchone()
        if found is not None:
            position, unswept, id = found
            if unswept:
                # First things first: its history would say that it came again before it expired.
                self._remove(queue, [position], Kind.EXPIRED, now)
            self._repeat(queue, position, callback, id, now)
        return PushResult(callback, Outcome.DUPLICATE)

    def _repeat(self, queue: int, position: int, callback: Callback, known: str, now: int) -> None:
        reason = repeat_reason(callback, known) or None
        values = {"queue": queue, "position": position, "now": now, "reason": reason}
        self._execute(sql.REPEATED, values)

    def _relative(self, terms: Terms, key: str, now: int) -> tuple[int, str | None]:
        """Position and root of a callback that is queued or kept.

        Raises:
            CallbackNotFound: there is none.
        """
        row = None
        if is_text(key):
            values = {"queue": terms.queue, "key": key, "now": now}
            row = self._execute(sql.RELATIVE, values).fetchone()
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
        limited = endpoint.capacity is not None or endpoint.capacity_bytes is not None
        if not limited or (phases and callback.phase not in phases):
            return
        values = {"queue": terms.queue, "phases": texts(phases), "now": now}
        room = self._one(sql.ROOM[not phases], values)
        limits = (
            ("callbacks", 1, endpoint.capacity),
            ("bytes", callback.size, endpoint.capacity_bytes),
        )
        for number, (what, adds, limit) in enumerate(limits):
            if limit is not None and room[number] + adds > limit:
                # Only now: what has expired and is not swept yet takes no room.
                held = room[number] - self._one(sql.EXPIRED[not phases], values)[number]
                if held + adds > limit:
                    raise Full(endpoint.id, what, held, limit)

    def _rarely(self, terms: Terms, callback: Callback, now: int) -> _Rare:
        key, not_before = callback.ordering_key, callback.not_before
        held, due = (1, not_before) if not_before is not None and not_before > now else (0, None)
        if key is not None:
            self._turn(terms.queue, now)
            values = {"queue": terms.queue, "phase": callback.phase, "key": key}
            if self._one(sql.FRONT, values)[0]:
                held, due = 2, None
        return _Rare(callback.parent, callback.root, callback.origin, key, not_before, held, due)


def _is_simple(terms: Terms, callback: Callback) -> bool:
    """Whether nothing is to be looked up but whether it is there already."""
    endpoint = terms.endpoint
    limited = endpoint.capacity is not None or endpoint.capacity_bytes is not None
    return not limited and (callback.is_plain or has_only_fence(callback))


def _row(terms: Terms, callback: Callback, now: int) -> tuple[Any, ...]:
    dedup_ns = terms.dedup_ns
    return (
        terms.queue,
        callback.id,
        callback.phase,
        callback.created_at,
        terms.expiry(callback.phase, now),
        now + dedup_ns if dedup_ns else 0,
        terms.keep_ns,
        callback.size,
        callback.fence,
    )


def _values(
    rows: Sequence[tuple[Any, ...]], rare: tuple[str, ...], strict: bool, now: int
) -> tuple[Any, ...]:
    """The arguments of ``push``, after the first."""
    queues, ids, phases, created, expiries, remembered, keeps, sizes, fences, *stored = zip(
        *rows, strict=True
    )
    kinds, headers, bodies = stored
    # All bytes as one, and where each begins: arrays of bytes would be sent as digits.
    heads = [-1 if head is None else len(head) for head in headers]
    lengths = [len(body) for body in bodies]
    starts: list[int] = []
    start = 0
    parts: list[bytes] = []
    for head, body in zip(headers, bodies, strict=True):
        starts.append(start)
        if head:
            parts.append(head)
            start += len(head)
        parts.append(body)
        start += len(body)
    return (
        strict,
        now,
        numbers(queues),
        texts(ids),
        texts(phases),
        numbers(created),
        numbers(expiries),
        numbers(remembered),
        numbers(keeps),
        numbers(sizes),
        texts(fences) if any(fences) else "{}",
        numbers(kinds),
        numbers(starts),
        numbers(heads),
        numbers(lengths),
        b"".join(parts),
        *rare,
    )
