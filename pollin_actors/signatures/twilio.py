"""Twilio, whose signature is of the URL and of the parameters in the body."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from hmac import compare_digest
from typing import ClassVar
from urllib.parse import unquote_to_bytes, urlsplit

from pollin_actors.errors import InvalidValue
from pollin_actors.identifiers import uuid7
from pollin_actors.secret import Secret
from pollin_actors.signatures.common import (
    body_key,
    check_no_space_around,
    digest_of,
    missing,
    none_matches,
    read_line,
    repeated,
    tag,
    who_signed,
)
from pollin_actors.signatures.interface import Delivery, Refused, Scheme, Verified, headers_of

__all__ = ["Twilio"]

_SIGNATURE, _ID = b"x-twilio-signature", b"i-twilio-idempotency-token"
_REPEATED = repeated("X-Twilio-Signature", "I-Twilio-Idempotency-Token")
_MISSING = missing("X-Twilio-Signature")
_NO_FORM = Refused(
    "the body is no form as Twilio sends it, and the query has no bodySHA256 of another body"
)
_OTHER_BODY = Refused("the body is not the one whose digest is in the query as bodySHA256")
_TWICE = Refused("the query has more than one bodySHA256")

_DIGEST = b"bodySHA256="
_MAX_FIELDS = 1000
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Twilio(Scheme):
    """Twilio: ``X-Twilio-Signature`` signs the URL, with its query, and the form in the body.

    Of other bodies, such as JSON, the digest is in the query, as ``bodySHA256``. The id in
    ``I-Twilio-Idempotency-Token`` is not signed, and neither is a time: the digest of what is
    signed is in the key, and is the fence.

    Names and values of a form are signed without anything between them, so that one signature
    fits forms that are divided otherwise: they have the same fence, and only the first is taken.

    Arguments:
        url: the public URL of the endpoint, as it is entered at Twilio, without the query.

    Raises:
        InvalidValue: the URL is none, or has a query, a fragment or a user in it.
    """

    name: ClassVar[str] = "twilio"
    url: str

    def __post_init__(self) -> None:
        text = read_line("Twilio.url", self.url, 2000)
        if not _variants(text):
            expected = "the public http or https URL of the endpoint, without query and user"
            raise InvalidValue("Twilio.url", expected, "something else")

    def verify(
        self, delivery: Delivery, secrets: Sequence[Secret], now: float
    ) -> Verified | Refused:
        headers = headers_of(delivery.headers, _SIGNATURE, _ID)
        if headers is None:
            return _REPEATED
        given = headers.get(_SIGNATURE)
        if not given:
            return _MISSING
        rest = _after_the_url(delivery.query, delivery.body)
        if isinstance(rest, Refused):
            return rest
        signers = [
            who_signed(secrets, (given,), partial(_sign, url + rest)) for url in _variants(self.url)
        ]
        found = next(filter(None, signers), None)
        if found is None:
            return none_matches(f"signature for {self.url}", secrets)
        return body_key(headers.get(_ID), digest_of(self.url.encode(), rest), found)

    def sign(
        self, body: bytes, secret: Secret, now: float, *, id: str | None = None, query: bytes = b""
    ) -> list[tuple[str, str]]:
        """The headers that Twilio would send with this body.

        Arguments are those of the base.

        Raises:
            InvalidValue: the body is no form, and the query has not its digest.
        """
        rest = _after_the_url(query, body)
        if isinstance(rest, Refused):
            hint = "a body that is no form needs bodySHA256= and its SHA-256 in the query"
            raise InvalidValue("body", "a form, or one whose digest is in the query", "none", hint)
        return [
            ("I-Twilio-Idempotency-Token", uuid7() if id is None else id),
            ("X-Twilio-Signature", _sign(self.url.encode() + rest, secret).decode()),
        ]

    def check_secret(self, secret: Secret) -> None:
        check_no_space_around(secret)


def _sign(material: bytes, secret: Secret) -> bytes:
    return base64.b64encode(tag(secret, material, "sha1"))


def _after_the_url(query: bytes, body: bytes) -> bytes | Refused:
    """What is signed after the URL, or why it cannot be told."""
    asked = b"?" + query if query else b""
    digests = [it[len(_DIGEST) :] for it in query.split(b"&") if it.startswith(_DIGEST)]
    if not digests:
        fields = _sorted_fields(body)
        return _NO_FORM if fields is None else asked + fields
    if len(digests) > 1:
        return _TWICE
    same = compare_digest(digests[0], digest_of(body).encode())
    return asked if same else _OTHER_BODY


def _sorted_fields(body: bytes) -> bytes | None:
    """Names and values as they are signed: sorted, without repeats; None if it is no form."""
    if not body:
        return b""
    if body.count(b"&") >= _MAX_FIELDS or not (body.isascii() and body.decode().isprintable()):
        return None
    pairs = set()
    for field in body.split(b"&"):
        # Exactly one sign, or the same signature would fit more bodies than need be.
        if field.count(b"=") != 1 or b" " in field:
            return None
        name, _, value = field.replace(b"+", b" ").partition(b"=")
        pairs.add((unquote_to_bytes(name), unquote_to_bytes(value)))
    return b"".join([name + value for name, value in sorted(pairs)])


@lru_cache(maxsize=1024)
def _variants(url: str) -> tuple[bytes, ...]:
    """The URL as given, and without its port or with the usual one: Twilio signs either."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ()
    if parts.scheme not in _PORTS or not host or "@" in parts.netloc:
        return ()
    if "?" in url or "#" in url or " " in url:
        return ()
    if port is None:
        netloc = f"{parts.netloc.rstrip(':')}:{_PORTS[parts.scheme]}"
    else:
        netloc = parts.netloc.rpartition(":")[0]
    return url.encode(), parts._replace(netloc=netloc).geturl().encode()
