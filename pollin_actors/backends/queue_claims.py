"""Claims on the callbacks of a queue in memory, and their moves from phase to phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from pollin_actors.backends.checks import natural, note, seconds, text
from pollin_actors.backends.queue_rows import (
    Change,
    Hold,
    Row,
    ended_row,
    marked,
    moved_row,
)
from pollin_actors.backends.queue_slices import known_phase
from pollin_actors.errors import CallbackNotFound, ClaimLost, PhaseConflict
from pollin_actors.records import Claim, Claims
from pollin_actors.resources import Callback

if TYPE_CHECKING:
    from collections.abc import Callable

    from pollin_actors import messages
    from pollin_actors.backends.queue_state import QueueState

    Clock: TypeAlias = Callable[[], int]

__all__ = ["ack", "claim_slice", "extend", "nack", "release", "update_phase"]


def claim_slice(queue: QueueState, message: messages.ClaimSlice, time_ns: Clock) -> Claims:
    lease, by = seconds(message, "lease"), note(message, "by")
    limit, phase = natural("ClaimSlice.limit", message.limit), message.phase
    now = time_ns()
    queue.bring_to(now)
    if phase is not None:
        known_phase(queue, text(message, "phase"))
    claims: list[Claim] = []
    changed: dict[int, Row] = {}
    rows, until, endpoint_id = queue.rows, now + lease, queue.endpoint.id
    for number in queue.places.available(phase, 0, min(limit, len(rows))):
        position = next(queue.positions)
        # Positions are never given out twice, so neither are tokens.
        hold = Hold(f"{position:x}", until, by)
        row = _claimed(rows[number], number, position, hold, now)
        changed[number] = row
        claims.append(Claim(endpoint_id, row.callback, hold.token, until))
    if changed:
        queue.commit(Change(changed, {}, queue.expired))
    return Claims(claims, queue.places.next_at())


def _claimed(row: Row, number: int, position: int, hold: Hold, now: int) -> Row:
    callback = row.callback
    row = row._replace(callback=callback.with_attempts(callback.attempts + 1))
    trail = marked(row, number, position, "claimed", callback.phase, now, hold)
    return row._replace(trail=trail, hold=hold, retry_at=0)


def ack(queue: QueueState, message: messages.Ack, time_ns: Clock) -> None:
    reason, then = note(message, "reason"), message.then
    now = time_ns()
    number, row, hold = _held(queue, message, "then", now)
    position = next(queue.positions)
    if message.discard or then is None:
        kind = "discarded" if message.discard else "acknowledged"
        trail = marked(row, number, position, kind, None, now, hold, reason)
        queue.commit(Change({}, {number: ended_row(row, trail, now)}, queue.expired))
    else:
        trail = marked(row, number, position, "acknowledged", then, now, hold, reason)
        _put(queue, number, moved_row(row, then, trail, queue.terms, now))


def nack(queue: QueueState, message: messages.Nack, time_ns: Clock) -> None:
    reason, phase = note(message, "reason"), message.dead_letter
    retry_in = seconds(message, "retry_in", zero=True)
    now = time_ns()
    number, row, hold = _held(queue, message, "dead_letter", now)
    position = next(queue.positions)
    if phase is not None:
        trail = marked(row, number, position, "dead", phase, now, hold, reason)
        _put(queue, number, moved_row(row, phase, trail, queue.terms, now))
        return
    trail = marked(row, number, position, "failed", row.callback.phase, now, hold, reason)
    retry_at = now + retry_in if retry_in else 0
    _put(queue, number, row._replace(trail=trail, hold=None, retry_at=retry_at))


def extend(queue: QueueState, message: messages.Extend, time_ns: Clock) -> int:
    lease = seconds(message, "lease")
    now = time_ns()
    number, row, hold = _held(queue, message, None, now)
    until = now + lease
    _put(queue, number, row._replace(hold=hold._replace(until=until)))
    return until


def release(queue: QueueState, message: messages.Release, time_ns: Clock) -> None:
    now = time_ns()
    number, row, hold = _held(queue, message, None, now)
    callback = row.callback
    trail = marked(row, number, next(queue.positions), "released", callback.phase, now, hold)
    callback = callback.with_attempts(callback.attempts - 1)
    _put(queue, number, row._replace(callback=callback, trail=trail, hold=None))


def update_phase(queue: QueueState, message: messages.UpdatePhase, time_ns: Clock) -> Callback:
    _, key, phase, expect = message
    now = time_ns()
    queue.bring_to(now)
    queue.know(phase)
    number = queue.keys.get(text(message, "key")) if key is not None else None
    endpoint_id = queue.endpoint.id
    if number is None:
        raise CallbackNotFound(endpoint_id, key)
    row = queue.rows[number]
    callback = row.callback
    if expect is not None and callback.phase != text(message, "expect"):
        raise PhaseConflict(endpoint_id, key, expect, callback.phase)
    if callback.phase == phase:
        return callback
    trail = marked(row, number, next(queue.positions), "moved", phase, now)
    row = moved_row(row, phase, trail, queue.terms, now)
    _put(queue, number, row)
    return row.callback


def _put(queue: QueueState, number: int, row: Row) -> None:
    queue.commit(Change({number: row}, {}, queue.expired))


def _held(queue: QueueState, message: Any, into: str | None, now: int) -> tuple[int, Row, Hold]:
    """Find what a message says that it has claimed, and check the phase into which it wants it.

    Raises:
        UnknownPhase: the endpoint has no such phase.
        ClaimLost: the claim has ended.
    """
    key, token = text(message, "key"), text(message, "token")
    queue.bring_to(now)
    if into is not None and getattr(message, into) is not None:
        queue.know(text(message, into))
    number = queue.keys.get(key)
    row = None if number is None else queue.rows[number]
    if number is None or row is None or row.hold is None or row.hold.token != token:
        raise ClaimLost(queue.endpoint.id, key)
    return number, row, row.hold
