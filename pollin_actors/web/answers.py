"""What the receiver answers: a status, headers and a small JSON body."""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii as quote
from math import ceil
from typing import NamedTuple

from pollin_actors.resources import Outcome, PushResult

__all__ = [
    "BAD_REQUEST",
    "DISABLED",
    "FULL",
    "HEALTHY",
    "HEALTH_METHODS",
    "LENGTH_REQUIRED",
    "NOT_FOUND",
    "POST_ONLY",
    "TOO_LARGE",
    "TOO_SLOW",
    "UNAUTHORIZED",
    "UNAVAILABLE",
    "UNREADY",
    "WRONG_TYPE",
    "Answer",
    "accepted",
    "outcome_of",
    "ready",
    "replied",
    "taken",
    "too_many",
    "unhealthy",
]

# A named tuple's own constructor takes four times as long.
_new = tuple.__new__

_QUEUED = Outcome.QUEUED
_QUEUED_END, _DUPLICATE_END = b', "outcome": "queued"}', b', "outcome": "duplicate"}'

HeaderPair = tuple[bytes, bytes]

CONTENT_TYPE = (b"content-type", b"application/json")
RETRY_AFTER = (b"retry-after", b"1")


class Answer(NamedTuple):
    """A response that is ready to be sent."""

    status: int
    headers: tuple[HeaderPair, ...]
    body: bytes


def _answer(status: int, body: bytes, *headers: HeaderPair) -> Answer:
    length = (b"content-length", b"%d" % len(body))
    return Answer(status, (CONTENT_TYPE, length, *headers), body)


def _error(status: int, text: str, *headers: HeaderPair) -> Answer:
    return _answer(status, json.dumps({"error": text}).encode(), *headers)


BAD_REQUEST = _error(400, "the request is malformed")
# Says neither what was wrong, nor which scheme the endpoint has.
UNAUTHORIZED = _error(
    401,
    "the request is not signed as this endpoint demands: sign it with the endpoint's secret, or "
    "send that as 'Authorization: Bearer <secret>' or 'X-Pollin-Secret: <secret>'",
    (b"www-authenticate", b"Bearer"),
)
NOT_FOUND = _error(404, "there is no such endpoint")
POST_ONLY = _error(405, "use POST", (b"allow", b"POST"))
HEALTH_METHODS = _error(405, "use GET or HEAD", (b"allow", b"GET, HEAD"))
TOO_SLOW = _error(408, "the body did not come in time", (b"connection", b"close"))
DISABLED = _error(410, "the endpoint is disabled")
LENGTH_REQUIRED = _error(411, "send the body with a Content-Length")
TOO_LARGE = _error(413, "the request is too large")
WRONG_TYPE = _error(415, "the endpoint does not take this content type")
FULL = _error(503, "the endpoint is full: try again later", RETRY_AFTER)
UNAVAILABLE = _error(503, "the inbox is not available: try again", RETRY_AFTER)
UNREADY = _answer(503, b'{"status": "unavailable"}', RETRY_AFTER)
HEALTHY = _answer(200, b'{"status": "ok"}')


def ready(durability: str | None) -> Answer:
    """The answer where the backend can store something, and what its settings keep, if known."""
    if durability is None:
        return HEALTHY
    return _answer(200, json.dumps({"status": "ok", "durability": durability}).encode())


def unhealthy(state: str) -> Answer:
    """The answer of the health check while the application is in a state other than running."""
    return _answer(503, json.dumps({"status": state}).encode(), RETRY_AFTER)


def too_many(seconds: float) -> Answer:
    """The answer to a request beyond the endpoint's rate; the next may come in so many seconds."""
    retry_after = (b"retry-after", b"%d" % max(1, ceil(seconds)))
    return _error(429, "too many requests: try again later", retry_after)


def replied(body: bytes) -> Answer:
    """The answer to a sender that asks whether we are there."""
    return _answer(200, body)


def taken(callback_id: str) -> Answer:
    """The answer to a request that is on its way into the queue."""
    return _answer(200, f'{{"id": {quote(callback_id)}, "outcome": "accepted"}}'.encode())


def accepted(result: PushResult) -> Answer:
    """The answer to a request that was taken: the callback's id and what became of it."""
    # Every accepted request pays for this: json.dumps takes several times as long.
    callback, outcome = result
    end = _QUEUED_END if outcome == _QUEUED else _DUPLICATE_END
    body = b'{"id": ' + quote(callback.id).encode() + end
    length = (b"content-length", b"%d" % len(body))
    return _new(Answer, (200, (CONTENT_TYPE, length), body))


def outcome_of(answer: Answer) -> str:
    """What an answer says, in a word: ``queued``, ``duplicate``, ``accepted``, ``replied`` or
    ``refused``."""
    if answer.status != 200:
        return "refused"
    # The end is always ours, whatever id stands before it.
    for outcome, end in _ENDS:
        if answer.body.endswith(end):
            return outcome
    return "replied"


_ENDS = [(word, f'"outcome": "{word}"}}'.encode()) for word in ("queued", "duplicate", "accepted")]
