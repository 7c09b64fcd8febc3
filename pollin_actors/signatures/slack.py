"""Slack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pollin_actors.secret import Secret
from pollin_actors.signatures.common import (
    DEFAULT_TOLERANCE,
    check_no_space_around,
    check_time,
    digest_of,
    json_object,
    key_from_text,
    missing,
    none_matches,
    read_tolerance,
    repeated,
    tag,
    who_signed,
)
from pollin_actors.signatures.interface import Delivery, Refused, Scheme, Verified, headers_of

__all__ = ["Slack"]

_SIGNATURE, _TIME = b"x-slack-signature", b"x-slack-request-timestamp"
_REPEATED = repeated("X-Slack-Signature", "X-Slack-Request-Timestamp")
_MISSING_SIGNATURE = missing("X-Slack-Signature")
_MISSING_TIME = missing("X-Slack-Request-Timestamp")


@dataclass(frozen=True, slots=True)
class Slack(Scheme):
    """Slack: ``X-Slack-Signature`` signs the time and the body.

    The key is the ``event_id`` in the body, which is signed; where there is none, as with
    commands, a digest of time and body. When Slack asks whether the URL is ours
    (``url_verification``), the answer is in ``Verified.reply``.

    Arguments:
        tolerance: seconds that the timestamp may be away from now, both ways.
    """

    name: ClassVar[str] = "slack"
    tolerance: float = DEFAULT_TOLERANCE

    def __post_init__(self) -> None:
        tolerance = read_tolerance("Slack.tolerance", self.tolerance)
        object.__setattr__(self, "tolerance", tolerance)

    def verify(
        self, delivery: Delivery, secrets: Sequence[Secret], now: float
    ) -> Verified | Refused:
        headers = headers_of(delivery.headers, _SIGNATURE, _TIME)
        if headers is None:
            return _REPEATED
        given, stamp = headers.get(_SIGNATURE), headers.get(_TIME)
        if not given:
            return _MISSING_SIGNATURE
        if stamp is None:
            return _MISSING_TIME
        late = check_time(stamp, now, self.tolerance)
        if late is not None:
            return late
        material = b"v0:%b:%b" % (stamp, delivery.body)
        found = who_signed(secrets, (given,), lambda secret: _sign(secret, material))
        if found is None:
            return none_matches("v0 signature", secrets)
        return _verified(delivery.body, material, found)

    def sign(
        self, body: bytes, secret: Secret, now: float, *, id: str | None = None, query: bytes = b""
    ) -> list[tuple[str, str]]:
        stamp = str(int(now))
        material = b"v0:%b:%b" % (stamp.encode(), body)
        return [
            ("X-Slack-Request-Timestamp", stamp),
            ("X-Slack-Signature", _sign(secret, material).decode()),
        ]

    def check_secret(self, secret: Secret) -> None:
        check_no_space_around(secret)


def _verified(body: bytes, material: bytes, secret: Secret) -> Verified:
    event = json_object(body)
    challenge = event.get("challenge")
    if event.get("type") == "url_verification" and isinstance(challenge, str):
        reply = json.dumps({"challenge": challenge}).encode()
        return Verified(digest_of(material), None, secret, reply=reply)
    return Verified(key_from_text(event.get("event_id")) or digest_of(material), None, secret)


def _sign(secret: Secret, material: bytes) -> bytes:
    return b"v0=" + tag(secret, material).hex().encode()
