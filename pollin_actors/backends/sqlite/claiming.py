"""Claiming callbacks, and what becomes of claims."""

from __future__ import annotations

from secrets import token_hex
from typing import Any

from pollin_actors import messages
from pollin_actors.backends.checks import natural, note, seconds, text
from pollin_actors.backends.sqlite import statements as sql
from pollin_actors.backends.sqlite.rows import Rows, Terms, is_text
from pollin_actors.errors import ClaimLost
from pollin_actors.records import Claim, Claims, Kind

__all__ = ["Claiming"]


class Claiming(Rows):
    """Claims. A token begins with the position of its callback, which it is found by."""

    def claim_slice(self, message: messages.ClaimSlice, stored: None) -> Claims:
        terms = self._terms(message)
        limit = min(natural("ClaimSlice.limit", message.limit), sql.LARGEST)
        lease, by = seconds(message, "lease"), note(message, "by", 200)
        phase = message.phase
        if phase is not None:
            text(message, "phase")
        now = self._time_ns()
        self._turn(terms.queue, now)
        rows = self._available(terms, phase, 0, limit, now)
        claims: list[Claim] = []
        if rows:
            until, end = now + lease, f"-{token_hex(8)}"
            for row in rows:
                callback = self._callback(row)
                callback = callback.with_attempts(callback.attempts + 1)
                claims.append(Claim(terms.endpoint.id, callback, f"{row[0]}{end}", until))
            values = (until, now, end, by or None, terms.queue, phase, len(rows))
            self._execute(sql.CLAIM[phase is not None], values)
        (next_at,) = self._execute(sql.NEXT_AT, (terms.queue,)).fetchone()
        return Claims(claims, next_at)

    def ack(self, message: messages.Ack, stored: None) -> None:
        terms = self._terms(message)
        then, reason = message.then, note(message, "reason") or None
        if then is not None:
            self._check_phase(terms.endpoint, text(message, "then"))
            if not message.discard:
                self._advance(message, terms, then, Kind.ACKNOWLEDGED, reason)
                return
        kind = Kind.DISCARDED if message.discard else Kind.ACKNOWLEDGED
        now = self._time_ns()
        held = self._held(message, terms, now)
        values = (now, now, sql.NUMBERS[kind], now, reason, *held)
        self._demand(self._execute(sql.ACK, values), message)

    def nack(self, message: messages.Nack, stored: None) -> None:
        terms = self._terms(message)
        reason = note(message, "reason") or None
        retry_in = seconds(message, "retry_in", zero=True)
        if message.dead_letter is not None:
            self._check_phase(terms.endpoint, text(message, "dead_letter"))
            self._advance(message, terms, message.dead_letter, Kind.DEAD, reason)
            return
        self._give_back(message, terms, retry_in, 0, Kind.FAILED, reason)

    def release(self, message: messages.Release, stored: None) -> None:
        self._give_back(message, self._terms(message), 0, 1, Kind.RELEASED, None)

    def extend(self, message: messages.Extend, stored: None) -> int:
        terms = self._terms(message)
        lease, now = seconds(message, "lease"), self._time_ns()
        until = now + lease
        values = (until, until, *self._held(message, terms, now))
        self._demand(self._execute(sql.EXTEND, values), message)
        return until

    def _give_back(
        self,
        message: messages.Nack | messages.Release,
        terms: Terms,
        retry_in: int,
        uncounted: int,
        kind: Kind,
        reason: str | None,
    ) -> None:
        now = self._time_ns()
        held, due = (1, now + retry_in) if retry_in else (0, None)
        which = self._held(message, terms, now)
        values = (held, due, uncounted, sql.NUMBERS[kind], now, reason, *which)
        self._demand(self._execute(sql.BACK, values), message)

    def _advance(
        self, message: Any, terms: Terms, then: str, kind: Kind, reason: str | None
    ) -> None:
        now = self._time_ns()
        which = self._held(message, terms, now)
        self._turn(terms.queue, now)
        consumed = bool(terms.endpoint.consumes)
        values = (now, then, sql.NUMBERS[kind], reason, terms.expiry(then, now), *which[:-1])
        self._demand(self._execute(sql.ADVANCE[consumed], values), message)

    def _held(self, message: Any, terms: Terms, now: int) -> tuple[int, int, str, str, int]:
        """What the row of a claim that holds is found by.

        Raises:
            ClaimLost: it is no token of ours.
        """
        key, token = text(message, "key"), text(message, "token")
        number = token.partition("-")[0]
        if not (
            number.isascii() and number.isdigit() and len(number) < 19 and is_text(key + token)
        ):
            raise ClaimLost(message.endpoint_id, key)
        return int(number), terms.queue, key, token, now

    def _demand(self, cursor: Any, message: Any) -> None:
        if cursor.rowcount != 1:
            raise ClaimLost(message.endpoint_id, message.key)

    def _available(
        self, terms: Terms, phase: str | None, offset: int, limit: int, now: int
    ) -> list[tuple[Any, ...]]:
        """Rows of what is available, oldest first.

        Raises:
            UnknownPhase: there is nothing in that phase, and the endpoint does not know it.
        """
        values = (terms.queue,) if phase is None else (terms.queue, phase)
        known = phase is None or phase in terms.endpoint.phases
        if not known and not self._count(terms.queue, phase, now):
            self._check_phase(terms.endpoint, phase)
        query = sql.AVAILABLE[phase is not None]
        return self._execute(query, (*values, now, limit, offset)).fetchall()
