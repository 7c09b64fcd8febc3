"""Standard Webhooks: what many providers have agreed on."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets as random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from pollin_actors.errors import InvalidValue, MissingExtra
from pollin_actors.identifiers import uuid7
from pollin_actors.secret import Secret
from pollin_actors.signatures.common import (
    DEFAULT_TOLERANCE,
    MAX_SIGNATURES,
    check_time,
    digest_of,
    key_from_bytes,
    missing,
    none_matches,
    read_tolerance,
    repeated,
    who_signed,
)
from pollin_actors.signatures.interface import Delivery, Refused, Scheme, Verified, headers_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

__all__ = ["StandardWebhooks"]

_SECRET = "whsec_"
_PUBLIC = "whpk_"
_PRIVATE = "whsk_"
_MIN_BYTES, _MAX_BYTES = 24, 64
_MAX_LENGTH = 4096
# For each key and each v1a signature the whole body is hashed, for whoever sends one: 16 times at
# most. Those who rotate have two of each.
_MAX_KEYS = 4
_MAX_ASYMMETRIC = 4

# Of ed25519 (RFC 8032): the field, the curve, and the order that the second half of a signature is
# less than.
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_ORDER = 2**252 + 27742317777372353535851937790883648493

_ID, _TIME, _SIGNATURE = b"webhook-id", b"webhook-timestamp", b"webhook-signature"
_OLD_ID, _OLD_TIME, _OLD_SIGNATURE = b"svix-id", b"svix-timestamp", b"svix-signature"
_NAMES = (_ID, _TIME, _SIGNATURE)
_OLD_NAMES = (_OLD_ID, _OLD_TIME, _OLD_SIGNATURE)

_REPEATED = repeated("webhook-id", "webhook-timestamp", "webhook-signature")
_MISSING_ID = missing("webhook-id")
_MISSING_TIME = missing("webhook-timestamp")
_MISSING_SIGNATURE = missing("webhook-signature")
_TOO_MANY = Refused(
    f"the header webhook-signature is too long, or has more than {MAX_SIGNATURES} signatures"
)
_TOO_MANY_ASYMMETRIC = Refused(
    f"the header webhook-signature has more than {_MAX_ASYMMETRIC} signatures of version v1a"
)
# With one in it, the same signature would fit another id, another time and another body.
_DOTTED = Refused("the webhook-id has a full stop in it, which Standard Webhooks forbids")
_OTHERS = Refused("there is no signature of a version that is verified here")


@dataclass(frozen=True, slots=True)
class StandardWebhooks(Scheme):
    """Standard Webhooks, in both versions: ``v1`` (HMAC) and ``v1a`` (ed25519).

    Id, time and body are signed; the id is the key. The headers are ``webhook-id``,
    ``webhook-timestamp`` and ``webhook-signature``, or, if there is no ``webhook-signature``,
    the older ``svix-`` ones. Of several signatures one has to be right.

    The secret is ``whsec_`` and the base64 of 24 to 64 bytes. With ``public_keys`` it may be
    anything else: then only ``v1a`` is accepted.

    Arguments:
        public_keys: whose ``v1a`` signatures are trusted, each ``whpk_`` and the base64 of 32
            bytes; at most 4, and of a request at most 4 signatures are compared with them. It
            needs the extra ``signatures``. Ids of all of them are in one space: an id that one
            has signed is a duplicate if another has used it. They are for one sender who
            rotates; senders that do not know of each other need an endpoint each.
        tolerance: seconds that the timestamp may be away from now, both ways.

    Raises:
        InvalidValue: an option is not acceptable.
        MissingExtra: there are public keys, but no package to verify with.
    """

    name: ClassVar[str] = "standard"
    public_keys: tuple[str, ...] = ()
    tolerance: float = DEFAULT_TOLERANCE

    def __post_init__(self) -> None:
        tolerance = read_tolerance("StandardWebhooks.tolerance", self.tolerance)
        object.__setattr__(self, "tolerance", tolerance)
        object.__setattr__(self, "public_keys", _read_keys(self.public_keys))

    def verify(
        self, delivery: Delivery, secrets: Sequence[Secret], now: float
    ) -> Verified | Refused:
        names = _NAMES
        headers = headers_of(delivery.headers, *names)
        if headers is not None and _SIGNATURE not in headers:
            names = _OLD_NAMES
            headers = headers_of(delivery.headers, *names)
        if headers is None:
            return _REPEATED
        identifier, stamp, signatures = map(headers.get, names)
        if not signatures:
            return _MISSING_SIGNATURE
        if not identifier:
            return _MISSING_ID
        if stamp is None:
            return _MISSING_TIME
        if b"." in identifier:
            return _DOTTED
        late = check_time(stamp, now, self.tolerance)
        if late is not None:
            return late
        # The id is signed: where it is no text, what stands for it may be made of it.
        key = key_from_bytes(identifier) or digest_of(identifier)
        material = b"%b.%b.%b" % (identifier, stamp, delivery.body)
        return self._compare(key, material, signatures, secrets)

    def _compare(
        self, key: str, material: bytes, signatures: bytes, secrets: Sequence[Secret]
    ) -> Verified | Refused:
        if len(signatures) > _MAX_LENGTH or signatures.count(b" ") >= MAX_SIGNATURES:
            return _TOO_MANY
        given = signatures.split(b" ")
        first = [it for it in given if it.startswith(b"v1,")]
        if first:
            found = who_signed(secrets, first, lambda secret: _sign(secret, material))
            if found is not None:
                return Verified(key, None, found)
        other = [it for it in given if it.startswith(b"v1a,")] if self.public_keys else []
        candidates = set(filter(None, map(_raw_signature, other)))
        if len(candidates) > _MAX_ASYMMETRIC:
            return _TOO_MANY_ASYMMETRIC
        keys = dict.fromkeys(self.public_keys)
        if any(_is_signed_by(by, raw, material) for by in keys for raw in candidates):
            return Verified(key)
        if other:
            return Refused(f"no v1a signature is by any of {len(self.public_keys)} trusted keys")
        return none_matches("v1 signature", secrets) if first else _OTHERS

    def sign(
        self, body: bytes, secret: Secret, now: float, *, id: str | None = None, query: bytes = b""
    ) -> list[tuple[str, str]]:
        """The headers that the provider would send; with a ``whsk_`` secret key, a ``v1a`` one.

        Arguments and the rest are those of the base.
        """
        identifier = f"msg_{uuid7()}" if id is None else id
        stamp = str(int(now))
        material = b"%b.%b.%b" % (identifier.encode(), stamp.encode(), body)
        if secret.reveal().startswith(_PRIVATE):
            signed = _private_key(secret).sign(material)
            signature = f"v1a,{base64.b64encode(signed).decode()}"
        else:
            _check_symmetric(secret)
            signature = _sign(secret, material).decode()
        return [
            ("webhook-id", identifier),
            ("webhook-timestamp", stamp),
            ("webhook-signature", signature),
        ]

    def check_secret(self, secret: Secret) -> None:
        if secret.reveal().startswith(_PRIVATE):
            expected = "a secret that only verifies"
            hint = "give the sender's public key as an option, and keep the secret one away"
            raise InvalidValue("secret", expected, "the secret key of the sender", hint)
        # A text that is meant to be one must be one, or rotation to it would refuse everything.
        if not self.public_keys or secret.reveal().startswith(_SECRET):
            _check_symmetric(secret)

    def generate_secret(self) -> Secret:
        return Secret(_SECRET + base64.b64encode(random.token_bytes(32)).decode())


def _check_symmetric(secret: Secret) -> None:
    if not _key_of(secret):
        expected = f"{_SECRET} and the base64 of {_MIN_BYTES} to {_MAX_BYTES} bytes"
        hint = f"some providers show it without {_SECRET}: put that before it"
        raise InvalidValue("secret", expected, "another text", hint)


def _sign(secret: Secret, material: bytes) -> bytes:
    key = _key_of(secret)
    # Nothing can be compared to an empty one: no signature that is looked at is empty.
    if not key:
        return b""
    signed = hmac.digest(key, material, "sha256")
    return b"v1," + binascii.b2a_base64(signed, newline=False)


# By secret, because decoding takes as long as half of the rest. What is kept is not shown.
@lru_cache(maxsize=4096)
def _key_of(secret: Secret) -> bytes:
    """The bytes of a secret, or none if it is none of this scheme."""
    text = secret.reveal()
    key = _decoded(text.removeprefix(_SECRET)) if text.startswith(_SECRET) else b""
    return key if _MIN_BYTES <= len(key) <= _MAX_BYTES else b""


def _decoded(text: str) -> bytes:
    """What a text is the base64 of, with or without padding; nothing if it is that of none."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return b""


def _read_keys(value: object) -> tuple[str, ...]:
    name, expected = "StandardWebhooks.public_keys", f"{_PUBLIC} and the base64 of 32 bytes"
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        got = f"a {type(value).__name__}"
        raise InvalidValue(name, "texts", got, "pass a list of them")
    keys = tuple(value)
    if len(keys) > _MAX_KEYS:
        raise InvalidValue(name, f"at most {_MAX_KEYS} keys", str(len(keys)))
    for key in keys:
        # What came is not shown: it may be a secret in the wrong place.
        if not isinstance(key, str) or not key.startswith(_PUBLIC):
            raise InvalidValue(name, expected, "something else")
        raw = _decoded(key.removeprefix(_PUBLIC))
        # Encoded again: the last character has bits that decoding drops.
        if len(raw) != 32 or _PUBLIC + base64.b64encode(raw).decode() != key:
            raise InvalidValue(name, expected, f"{_PUBLIC} and something else")
        if _is_of_small_order(raw):
            hint = "anybody can sign for it: ask the sender for the right one"
            raise InvalidValue(name, "a public key", "a point of small order", hint)
        _public_key(key)
    return keys


@lru_cache(maxsize=1024)
def _public_key(text: str) -> Ed25519PublicKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise MissingExtra("cryptography", "signatures") from None
    return Ed25519PublicKey.from_public_bytes(_decoded(text.removeprefix(_PUBLIC)))


def _private_key(secret: Secret) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise MissingExtra("cryptography", "signatures") from None
    raw = _decoded(secret.reveal().removeprefix(_PRIVATE))
    if len(raw) not in (32, 64):
        expected = f"{_PRIVATE} and the base64 of 32 or 64 bytes"
        raise InvalidValue("secret", expected, "another text")
    # The 64 bytes are the 32 of the key and those of its public half.
    return Ed25519PrivateKey.from_private_bytes(raw[:32])


def _raw_signature(text: bytes) -> bytes:
    """The bytes of a ``v1a`` signature, or none if nobody can have made it: that costs little."""
    raw = _decoded(text[4:].decode("latin-1"))
    if len(raw) != 64 or base64.b64encode(raw) != text[4:]:
        return b""
    return raw if int.from_bytes(raw[32:], "little") < _ORDER else b""


def _is_signed_by(key: str, signature: bytes, material: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        _public_key(key).verify(signature, material)
    except InvalidSignature:
        return False
    return True


def _is_of_small_order(raw: bytes) -> bool:
    """Whether eight times this point is zero: then anybody can sign for it.

    Doubling needs y alone: x^2 follows from it. The sign of x, which is the highest bit, does not
    matter, nor whether y is written as the least number that it can be.
    """
    y = (int.from_bytes(raw, "little") & ((1 << 255) - 1)) % _P
    for _ in range(3):
        xx = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
        y = (y * y + xx) * pow(2 + xx - y * y, _P - 2, _P) % _P
    return y == 1
