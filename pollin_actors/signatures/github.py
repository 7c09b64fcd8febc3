"""GitHub, and those who sign as it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pollin_actors.identifiers import uuid7
from pollin_actors.secret import Secret
from pollin_actors.signatures.common import (
    body_key,
    check_no_space_around,
    digest_of,
    missing,
    none_matches,
    repeated,
    tag,
    who_signed,
)
from pollin_actors.signatures.interface import Delivery, Refused, Scheme, Verified, headers_of

__all__ = ["GitHub"]

_SIGNATURE, _ID = b"x-hub-signature-256", b"x-github-delivery"
_REPEATED = repeated("X-Hub-Signature-256", "X-GitHub-Delivery")
_MISSING = missing("X-Hub-Signature-256")


@dataclass(frozen=True, slots=True)
class GitHub(Scheme):
    """GitHub: ``X-Hub-Signature-256`` signs the body, and nothing else.

    The id in ``X-GitHub-Delivery`` is not signed, and neither are a time and the event's name:
    the body's digest is in the key, and is the fence. Two events with the same body are one.
    """

    name: ClassVar[str] = "github"

    def verify(
        self, delivery: Delivery, secrets: Sequence[Secret], now: float
    ) -> Verified | Refused:
        headers = headers_of(delivery.headers, _SIGNATURE, _ID)
        if headers is None:
            return _REPEATED
        given = headers.get(_SIGNATURE)
        if not given:
            return _MISSING
        found = who_signed(secrets, (given,), lambda secret: _sign(secret, delivery.body))
        if found is None:
            return none_matches("signature", secrets)
        return body_key(headers.get(_ID), digest_of(delivery.body), found)

    def sign(
        self, body: bytes, secret: Secret, now: float, *, id: str | None = None, query: bytes = b""
    ) -> list[tuple[str, str]]:
        return [
            ("X-GitHub-Delivery", uuid7() if id is None else id),
            ("X-Hub-Signature-256", _sign(secret, body).decode()),
        ]

    def check_secret(self, secret: Secret) -> None:
        check_no_space_around(secret)


def _sign(secret: Secret, body: bytes) -> bytes:
    return b"sha256=" + tag(secret, body).hex().encode()
