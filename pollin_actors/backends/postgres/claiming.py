"""Claiming callbacks, and what becomes of claims."""

from __future__ import annotations

from collections.abc import Iterable
from secrets import token_hex
from typing import Any

from pollin_actors import messages
from pollin_actors.backends.checks import natural, note, seconds, text
from pollin_actors.backends.postgres import statements as sql
from pollin_actors.backends.postgres.arrays import is_text, numbers, texts
from pollin_actors.backends.postgres.rows import Rows, Terms
from pollin_actors.backends.postgres.shots import Refused, Shot
from pollin_actors.errors import ClaimLost, UnknownPhase
from pollin_actors.records import Claim, Claims, Kind

__all__ = ["Claiming"]

_CLAIM = "{s}.claim({e}, %s, %s, %s, %s, %s, %s, %s)"
_ACK = "{s}.ack({e}, %s, %s, %s, %s, %s, %s, %s)"
_ADVANCE = "{s}.advance({e}, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
_BACK = "{s}.give_back({e}, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
_EXTEND = "{s}.extend({e}, %s, %s, %s, %s, %s, %s)"
_POP = "{s}.pop({e}, %s, %s, %s)"


class Claiming(Rows):
    """Claims. A token begins with the position of its callback, which it is found by.

    Each method makes a call of its message. What it refuses here, it refuses by what the terms
    say; so they must be as they are stored if it does.
    """

    def pop_shot(self, message: messages.Pop, terms: Terms) -> Shot:
        key = message.key if message.key is None else text(message, "key")
        known: object = key
        if known is not None and not is_text(key or ""):
            key = ""  # no id is empty

        def finish(rows: list[tuple[Any, ...]]) -> list[Any]:
            return [self._callback(rows[0]) if rows else None]

        values = (terms.queue, key, self._time_ns())
        return Shot({terms.queue: terms.revision}, _POP, values, finish)

    def claim_shot(self, message: messages.ClaimSlice, terms: Terms) -> Shot:
        limit = min(natural("ClaimSlice.limit", message.limit), sql.LARGEST)
        lease, by = seconds(message, "lease"), note(message, "by", 200)
        phase = message.phase
        if phase is not None:
            self._check_phase(terms.endpoint, text(message, "phase"))
        return self._claim(terms, phase, limit, lease, by)

    def _claim(self, terms: Terms, phase: str | None, limit: int, lease: int, by: str) -> Shot:
        now = self._time_ns()
        until, end = now + lease, f"-{token_hex(8)}"
        endpoint_id = terms.endpoint.id

        def finish(rows: list[tuple[Any, ...]]) -> list[Any]:
            claims = [
                Claim(endpoint_id, self._callback(row), f"{row[0]}{end}", until)
                for row in rows[:-1]
            ]
            return [Claims(claims, rows[-1][14])]

        values = (terms.queue, phase, limit, until, now, end, by or None)
        return Shot({terms.queue: terms.revision}, _CLAIM, values, finish)

    def claim_slice(self, message: messages.ClaimSlice, stored: None) -> Claims:
        terms = self._terms(message)
        try:
            shot = self.claim_shot(message, terms)
        except UnknownPhase:
            # It may be one that the endpoint had before, in which there is something yet.
            phase = text(message, "phase")
            if not self._count(terms.queue, phase, self._time_ns()):
                raise
            lease, by = seconds(message, "lease"), note(message, "by", 200)
            limit = min(natural("ClaimSlice.limit", message.limit), sql.LARGEST)
            shot = self._claim(terms, phase, limit, lease, by)
        claims: Claims = self._fire(shot)[0]
        return claims

    def ack_shot(self, acks: Iterable[messages.Ack], terms: Terms) -> Shot | None:
        """One call for the first of these acknowledgements of one endpoint, as many as are of one
        kind; None if the first is another case."""
        good: list[tuple[int, str, str, str | None]] = []
        seen: set[int] = set()
        discard = False
        for message in acks:
            if not good:
                discard = message.discard
            if message.discard is not discard or (message.then is not None and not discard):
                break
            reason = note(message, "reason") or None
            if message.then is not None:
                self._check_phase(terms.endpoint, text(message, "then"))
            position, id, token = self._claimed(message)
            if position in seen:
                break
            seen.add(position)
            good.append((position, id, token, reason))
        if not good:
            return None
        kind = Kind.DISCARDED if discard else Kind.ACKNOWLEDGED
        positions, ids, tokens, reasons = zip(*good, strict=True)
        lost = [(position, ClaimLost(terms.endpoint.id, id)) for position, id, _, _ in good]

        def finish(rows: list[tuple[Any, ...]]) -> list[Any]:
            done = set(rows[0][0] or ())
            return [None if position in done else Refused(error) for position, error in lost]

        values = (
            terms.queue,
            numbers(positions),
            texts(ids),
            texts(tokens),
            sql.NUMBERS[kind],
            self._time_ns(),
            texts(reasons),
        )
        return Shot({terms.queue: terms.revision}, _ACK, values, finish, len(good))

    def advance_shot(self, message: messages.Ack, terms: Terms) -> Shot:
        then, reason = text(message, "then"), note(message, "reason") or None
        self._check_phase(terms.endpoint, then)
        return self._advance(message, terms, then, Kind.ACKNOWLEDGED, reason)

    def ack(self, message: messages.Ack, stored: None) -> None:
        terms = self._terms(message)
        shot = self.ack_shot([message], terms) or self.advance_shot(message, terms)
        self._fire(shot)

    def nack_shot(self, message: messages.Nack, terms: Terms) -> Shot:
        reason = note(message, "reason") or None
        retry_in = seconds(message, "retry_in", zero=True)
        if message.dead_letter is not None:
            self._check_phase(terms.endpoint, text(message, "dead_letter"))
            return self._advance(message, terms, message.dead_letter, Kind.DEAD, reason)
        return self._give_back(message, terms, retry_in, 0, Kind.FAILED, reason)

    def nack(self, message: messages.Nack, stored: None) -> None:
        self._fire(self.nack_shot(message, self._terms(message)))

    def release_shot(self, message: messages.Release, terms: Terms) -> Shot:
        return self._give_back(message, terms, 0, 1, Kind.RELEASED, None)

    def release(self, message: messages.Release, stored: None) -> None:
        self._fire(self.release_shot(message, self._terms(message)))

    def extend_shot(self, message: messages.Extend, terms: Terms) -> Shot:
        lease, now = seconds(message, "lease"), self._time_ns()
        until = now + lease
        values = (terms.queue, *self._claimed(message), until, now)
        return self._held_shot(message, terms, _EXTEND, values, until)

    def extend(self, message: messages.Extend, stored: None) -> int:
        until: int = self._fire(self.extend_shot(message, self._terms(message)))[0]
        return until

    def _give_back(
        self,
        message: messages.Nack | messages.Release,
        terms: Terms,
        retry_in: int,
        uncounted: int,
        kind: Kind,
        reason: str | None,
    ) -> Shot:
        now = self._time_ns()
        held, due = (1, now + retry_in) if retry_in else (0, None)
        which = (terms.queue, *self._claimed(message))
        values = (*which, held, due, uncounted, sql.NUMBERS[kind], now, reason)
        return self._held_shot(message, terms, _BACK, values)

    def _advance(
        self, message: Any, terms: Terms, then: str, kind: Kind, reason: str | None
    ) -> Shot:
        now = self._time_ns()
        which = (terms.queue, *self._claimed(message))
        consumed = bool(terms.endpoint.consumes)
        values = (then, sql.NUMBERS[kind], now, reason, terms.expiry(then, now), consumed)
        return self._held_shot(message, terms, _ADVANCE, (*which, *values))

    def _held_shot(
        self, message: Any, terms: Terms, call: str, values: tuple[Any, ...], reply: Any = None
    ) -> Shot:
        lost = ClaimLost(message.endpoint_id, message.key)

        def finish(rows: list[tuple[Any, ...]]) -> list[Any]:
            return [reply if rows[0][0] else Refused(lost)]

        return Shot({terms.queue: terms.revision}, call, values, finish)

    def _claimed(self, message: Any) -> tuple[int, str, str]:
        """What the row of a claim is found by.

        Raises:
            ClaimLost: it is no token of ours.
        """
        key, token = text(message, "key"), text(message, "token")
        number = token.partition("-")[0]
        if not (
            number.isascii() and number.isdigit() and len(number) < 19 and is_text(key + token)
        ):
            raise ClaimLost(message.endpoint_id, key)
        return int(number), key, token

    def _fire(self, shot: Shot) -> list[Any]:
        """Make a call within a transaction that holds the locks.

        Raises:
            PollinError: it is one message, and was refused.
        """
        query = f"SELECT * FROM {shot.call.replace('{e}', 'true')}"
        replies = shot.finish(self._execute(query, shot.values).fetchall())
        if len(replies) == 1 and isinstance(replies[0], Refused):
            raise replies[0].error
        return replies

    def _available(
        self, terms: Terms, phase: str | None, offset: int, limit: int, now: int
    ) -> list[tuple[Any, ...]]:
        """Rows of what is available, oldest first.

        Raises:
            UnknownPhase: there is nothing in that phase, and the endpoint does not know it.
        """
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
        return self._execute(sql.AVAILABLE[phase is not None], values).fetchall()
