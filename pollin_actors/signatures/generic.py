"""A signature by HMAC, for senders that have no scheme of their own here."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

from pollin_actors.checking import describe
from pollin_actors.errors import InvalidValue
from pollin_actors.identifiers import uuid7
from pollin_actors.secret import Secret
from pollin_actors.signatures.common import (
    DEFAULT_TOLERANCE,
    body_key,
    check_no_space_around,
    check_time,
    digest_of,
    key_from_bytes,
    missing,
    none_matches,
    read_choice,
    read_header_name,
    read_line,
    read_tolerance,
    repeated,
    tag,
    who_signed,
)
from pollin_actors.signatures.interface import Delivery, Refused, Scheme, Verified, headers_of

__all__ = ["Hmac"]

_ALGORITHMS = ("sha1", "sha256", "sha512")
# What base64 of their 20, 32 and 64 bytes ends with, where it is written.
_PADDING = {"sha1": b"=", "sha256": b"=", "sha512": b"=="}
_ENCODINGS = ("hex", "base64", "base64url")
_PLACES = ("{body}", "{timestamp}", "{id}")
_PLACE = re.compile(r"(\{[^{}]*\})")


@dataclass(frozen=True, slots=True)
class Hmac(Scheme):
    """A header holds the HMAC of the body, perhaps of a time and an id too.

    Where the id is signed, it is the key. Where it comes in a header that is not signed, the
    body's digest is in the key, and a digest of what is signed is the fence. So two events with
    the same body are one if the body alone is signed. If a time is signed too, they are two; a
    sender's retry, which has another time, is known by its id. Without an id the key is a digest
    of what is signed.

    Arguments:
        header: where the signature is.
        algorithm: ``sha1``, ``sha256`` or ``sha512``.
        encoding: ``hex`` (lower case), ``base64`` or ``base64url`` (with all its ``=`` or none).
        prefix: what is before the signature in the header, such as ``sha256=``.
        signed: what is signed, such as ``{body}``, ``{timestamp}.{body}`` or
            ``{id}.{timestamp}.{body}``. The body has to be in it; between two of them there has
            to be a text, and an id with the character of it that is next to it is refused:
            otherwise one signature would fit several requests.
        timestamp_header: where the time is, in seconds since the epoch, if it is signed.
        id_header: where the event's id is, signed or not.
        tolerance: seconds that the timestamp may be away from now, both ways.

    Raises:
        InvalidValue: an option is not acceptable; the error names it.

    Example::

        Hmac(header="X-Acme-Signature", prefix="sha256=", signed="{timestamp}.{body}",
             timestamp_header="X-Acme-Time")
    """

    name: ClassVar[str] = "hmac"
    header: str = "X-Signature"
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    signed: str = "{body}"
    timestamp_header: str = ""
    id_header: str = ""
    tolerance: float = DEFAULT_TOLERANCE

    def __post_init__(self) -> None:
        read_header_name("Hmac.header", self.header)
        read_header_name("Hmac.timestamp_header", self.timestamp_header, optional=True)
        read_header_name("Hmac.id_header", self.id_header, optional=True)
        names = [it.lower() for it in (self.header, self.timestamp_header, self.id_header) if it]
        if len(set(names)) != len(names):
            raise InvalidValue("Hmac", "a header of its own for each", "the same one twice")
        read_choice("Hmac.algorithm", self.algorithm, _ALGORITHMS)
        read_choice("Hmac.encoding", self.encoding, _ENCODINGS)
        read_line("Hmac.prefix", self.prefix, 100)
        parts = _parts(read_line("Hmac.signed", self.signed, 200))
        _check_parts(parts)
        _check_headers(self, parts)
        object.__setattr__(self, "tolerance", read_tolerance("Hmac.tolerance", self.tolerance))

    def verify(
        self, delivery: Delivery, secrets: Sequence[Secret], now: float
    ) -> Verified | Refused:
        names = (self.header, self.timestamp_header, self.id_header)
        header, time_header, id_header = [it.lower().encode() for it in names]
        headers = headers_of(delivery.headers, *filter(None, (header, time_header, id_header)))
        if headers is None:
            return repeated(*filter(None, names))
        given = headers.get(header)
        if not given:
            return missing(self.header)
        # Those that have no name are not among the headers.
        stamp, identifier = headers.get(time_header), headers.get(id_header)
        material = self._material(delivery.body, stamp, identifier)
        if isinstance(material, Refused):
            return material
        late = None if stamp is None else check_time(stamp, now, self.tolerance)
        if late is not None:
            return late
        if self.encoding == "base64url":
            given = given.removesuffix(_PADDING[self.algorithm])
        found = who_signed(secrets, (given,), lambda secret: self._sign(secret, material))
        if found is None:
            return none_matches(f"signature in {self.header}", secrets)
        return self._verified(delivery.body, material, identifier, found)

    def _material(
        self, body: bytes, stamp: bytes | None, identifier: bytes | None
    ) -> bytes | Refused:
        parts = _parts(self.signed)
        if "{timestamp}" in parts and stamp is None:
            return missing(self.timestamp_header)
        if "{id}" in parts:
            if not identifier:
                return missing(self.id_header)
            if _boundary(parts, "{id}") in identifier:
                return Refused(f"the id in {self.id_header} has a character that separates")
        values = {"{body}": body, "{timestamp}": stamp or b"", "{id}": identifier or b""}
        return b"".join([values[it] if it in values else it.encode() for it in parts])

    def _verified(
        self, body: bytes, material: bytes, identifier: bytes | None, secret: Secret
    ) -> Verified:
        if not self.id_header:
            return Verified(digest_of(material), None, secret)
        if "{id}" not in _parts(self.signed):
            return self._by_unsigned_id(body, material, identifier, secret)
        return Verified(key_from_bytes(identifier) or digest_of(identifier or b""), None, secret)

    def _by_unsigned_id(
        self, body: bytes, material: bytes, identifier: bytes | None, secret: Secret
    ) -> Verified:
        """Whoever has one genuine request may send it again with any id, or none, but with no
        other time: the fence is the same, and is another one for another event."""
        if "{timestamp}" not in _parts(self.signed):
            return body_key(identifier, digest_of(body), secret)
        fence = digest_of(material)
        named = body_key(identifier, digest_of(body), secret)
        # Without an id nothing but what is signed tells two events apart.
        key = fence if named.key == named.fence else named.key
        return Verified(key, fence, secret)

    def _sign(self, secret: Secret, material: bytes) -> bytes:
        raw = tag(secret, material, self.algorithm)
        if self.encoding == "hex":
            encoded = raw.hex().encode()
        elif self.encoding == "base64":
            encoded = base64.b64encode(raw)
        else:
            encoded = base64.urlsafe_b64encode(raw).rstrip(b"=")
        return self.prefix.encode() + encoded

    def sign(
        self, body: bytes, secret: Secret, now: float, *, id: str | None = None, query: bytes = b""
    ) -> list[tuple[str, str]]:
        """The headers that the sender would send with this body.

        Arguments are those of the base.

        Raises:
            InvalidValue: the id has a character that separates it from the rest.
        """
        identifier = (uuid7().replace("-", "") if id is None else id) if self.id_header else ""
        stamp = str(int(now)) if self.timestamp_header else ""
        material = self._material(body, stamp.encode(), identifier.encode())
        if isinstance(material, Refused):
            raise InvalidValue("id", "one that can be signed", "another", material.reason)
        headers = [(self.id_header, identifier), (self.timestamp_header, stamp)]
        return [
            *[(name, value) for name, value in headers if name],
            (self.header, self._sign(secret, material).decode()),
        ]

    def check_secret(self, secret: Secret) -> None:
        check_no_space_around(secret)


@lru_cache(maxsize=1024)
def _parts(signed: str) -> tuple[str, ...]:
    """The template in pieces: places in braces, and texts."""
    return tuple(filter(None, _PLACE.split(signed)))


def _boundary(parts: tuple[str, ...], place: str) -> bytes:
    """The character that ends a place, seen from the end of the material that is nearer.

    As long as no value has the one of its place, what is signed can be read in one way only.
    """
    at = parts.index(place)
    before_body = at < parts.index("{body}")
    return (parts[at + 1][0] if before_body else parts[at - 1][-1]).encode()


def _check_parts(parts: tuple[str, ...]) -> None:
    name, expected = "Hmac.signed", "{body}, and {timestamp} and {id} if wanted, each once"
    for part in parts:
        if ("{" in part or "}" in part) and part not in _PLACES:
            raise InvalidValue(name, expected, describe(part))
    for place in _PLACES:
        if parts.count(place) > 1:
            raise InvalidValue(name, expected, f"{place} more than once")
    if "{body}" not in parts:
        raise InvalidValue(name, expected, "no {body}", "then anybody could change it")
    for before, after in pairwise(parts):
        if before in _PLACES and after in _PLACES:
            raise InvalidValue(name, f"a text between {before} and {after}", "none")
    if "{timestamp}" in parts and _boundary(parts, "{timestamp}").isdigit():
        raise InvalidValue(name, "no digit between {timestamp} and {body}", "one")


def _check_headers(scheme: Hmac, parts: tuple[str, ...]) -> None:
    if ("{timestamp}" in parts) != bool(scheme.timestamp_header):
        expected = "{timestamp} and Hmac.timestamp_header, or neither"
        hint = "a time that is not signed protects from nothing"
        raise InvalidValue("Hmac.signed", expected, "one of them", hint)
    if "{id}" in parts and not scheme.id_header:
        raise InvalidValue("Hmac.id_header", "the header with the {id} that is signed", "none")
