"""Stripe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pollin_actors.secret import Secret
from pollin_actors.signatures.common import (
    DEFAULT_TOLERANCE,
    MAX_SIGNATURES,
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

__all__ = ["Stripe"]

_SIGNATURE = b"stripe-signature"
_MAX_LENGTH = 4096
_REPEATED = repeated("the header Stripe-Signature")
_MISSING = missing("Stripe-Signature")
_NO_TIME = Refused("the header Stripe-Signature has not exactly one t=")
_NO_SIGNATURE = Refused("the header Stripe-Signature has no v1=")
_TOO_MANY = Refused(
    f"the header Stripe-Signature is too long, or has more than {MAX_SIGNATURES} signatures"
)


@dataclass(frozen=True, slots=True)
class Stripe(Scheme):
    """Stripe: ``Stripe-Signature`` has a time and one or more signatures of time and body.

    The key is the ``id`` in the body, which is signed; where there is none, the body's digest.

    Arguments:
        tolerance: seconds that the timestamp may be away from now, both ways.
    """

    name: ClassVar[str] = "stripe"
    tolerance: float = DEFAULT_TOLERANCE

    def __post_init__(self) -> None:
        tolerance = read_tolerance("Stripe.tolerance", self.tolerance)
        object.__setattr__(self, "tolerance", tolerance)

    def verify(
        self, delivery: Delivery, secrets: Sequence[Secret], now: float
    ) -> Verified | Refused:
        headers = headers_of(delivery.headers, _SIGNATURE)
        if headers is None:
            return _REPEATED
        value = headers.get(_SIGNATURE)
        if not value:
            return _MISSING
        if len(value) > _MAX_LENGTH or value.count(b",") > MAX_SIGNATURES:
            return _TOO_MANY
        parts = [item.partition(b"=") for item in value.split(b",")]
        times = [it for name, _, it in parts if name == b"t"]
        given = [it for name, _, it in parts if name == b"v1" and it]
        if len(times) != 1:
            return _NO_TIME
        if not given:
            return _NO_SIGNATURE
        late = check_time(times[0], now, self.tolerance)
        if late is not None:
            return late
        material = b"%b.%b" % (times[0], delivery.body)
        found = who_signed(secrets, given, lambda secret: _sign(secret, material))
        if found is None:
            return none_matches("v1 signature", secrets)
        key = key_from_text(json_object(delivery.body).get("id"))
        return Verified(key or digest_of(delivery.body), None, found)

    def sign(
        self, body: bytes, secret: Secret, now: float, *, id: str | None = None, query: bytes = b""
    ) -> list[tuple[str, str]]:
        stamp = str(int(now))
        signature = _sign(secret, b"%b.%b" % (stamp.encode(), body)).decode()
        return [("Stripe-Signature", f"t={stamp},v1={signature}")]

    def check_secret(self, secret: Secret) -> None:
        check_no_space_around(secret)


def _sign(secret: Secret, material: bytes) -> bytes:
    return tag(secret, material).hex().encode()
