"""Shopify."""

from __future__ import annotations

import base64
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

__all__ = ["Shopify"]

_SIGNATURE = b"x-shopify-hmac-sha256"
_EVENT_ID, _WEBHOOK_ID = b"x-shopify-event-id", b"x-shopify-webhook-id"
_REPEATED = repeated("X-Shopify-Hmac-Sha256", "X-Shopify-Event-Id", "X-Shopify-Webhook-Id")
_MISSING = missing("X-Shopify-Hmac-Sha256")


@dataclass(frozen=True, slots=True)
class Shopify(Scheme):
    """Shopify: ``X-Shopify-Hmac-Sha256`` signs the body, and nothing else.

    The id, in ``X-Shopify-Event-Id`` or else in ``X-Shopify-Webhook-Id``, is not signed, and
    neither is the topic: the body's digest is in the key, and is the fence. Two events with the
    same body are one, so topics that send the same body need an endpoint each.
    """

    name: ClassVar[str] = "shopify"

    def verify(
        self, delivery: Delivery, secrets: Sequence[Secret], now: float
    ) -> Verified | Refused:
        headers = headers_of(delivery.headers, _SIGNATURE, _EVENT_ID, _WEBHOOK_ID)
        if headers is None:
            return _REPEATED
        given = headers.get(_SIGNATURE)
        if not given:
            return _MISSING
        found = who_signed(secrets, (given,), lambda secret: _sign(secret, delivery.body))
        if found is None:
            return none_matches("signature", secrets)
        identifier = headers.get(_EVENT_ID) or headers.get(_WEBHOOK_ID)
        return body_key(identifier, digest_of(delivery.body), found)

    def sign(
        self, body: bytes, secret: Secret, now: float, *, id: str | None = None, query: bytes = b""
    ) -> list[tuple[str, str]]:
        return [
            ("X-Shopify-Event-Id", uuid7() if id is None else id),
            ("X-Shopify-Hmac-Sha256", _sign(secret, body).decode()),
        ]

    def check_secret(self, secret: Secret) -> None:
        check_no_space_around(secret)


def _sign(secret: Secret, body: bytes) -> bytes:
    return base64.b64encode(tag(secret, body))
