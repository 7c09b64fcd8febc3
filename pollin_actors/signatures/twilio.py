"""Twilio, whose signature is of the URL and of the parameters in the body."""

from __future__ import annotations

import base64
import re
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
_OTHER_QUERY = Refused(
    "the query is not that of Twilio.url, alone or with bodySHA256 as its last parameter; write "
    "the URL as it is entered at Twilio, with its query"
)

_NAME = b"bodySHA256="
_DIGEST = re.compile(rb"bodySHA256=([0-9a-f]{64})")
# What of a URL with a digest is after the query that is entered.
_LIKE_A_DIGEST = re.compile(rb"[?&]bodySHA256=[0-9a-f]{64}")
_MAX_FIELDS = 1000
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Twilio(Scheme):
    """Twilio: ``X-Twilio-Signature`` signs the URL, with its query, and the form in the body.

    Of other bodies, such as JSON, the digest is in the query: Twilio appends ``bodySHA256`` to
    the URL that it was given. The id in ``I-Twilio-Idempotency-Token`` is not signed, and neither
    is a time: the digest of what is signed is in the key, and is the fence.

    URL, names and values of a form are signed without anything between them, so that one
    signature fits forms that are divided otherwise: they have the same fence, and only the first
    is taken. Nothing of a form can become the query, or it could bring the digest of any body:
    the query of a request has to be the one that was entered at Twilio, byte for byte.

    Arguments:
        url: the public URL of the endpoint, as it is entered at Twilio, with its query if it has
            one there.

    Raises:
        InvalidValue: the URL is none, or has a fragment, a user, an empty query or a
            ``bodySHA256`` in it.
    """

    name: ClassVar[str] = "twilio"
    url: str

    def __post_init__(self) -> None:
        text = read_line("Twilio.url", self.url, 2000)
        if not _variants(text):
            expected = "the http or https URL that is entered at Twilio, without user and fragment"
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
        rest = _after_the_url(self.url, delivery.query, delivery.body)
        if isinstance(rest, Refused):
            return rest
        signers = [
            who_signed(secrets, (given,), partial(_sign, url + rest)) for url in _variants(self.url)
        ]
        found = next(filter(None, signers), None)
        if found is None:
            return none_matches(f"signature for {self.url}", secrets)
        return body_key(headers.get(_ID), digest_of(_variants(self.url)[0], rest), found)

    def sign(
        self, body: bytes, secret: Secret, now: float, *, id: str | None = None, query: bytes = b""
    ) -> list[tuple[str, str]]:
        """The headers that Twilio would send with this body.

        Arguments are those of the base.

        Raises:
            InvalidValue: the query is not that of the URL; or the body is no form, and its digest
                is not appended to the query.
        """
        rest = _after_the_url(self.url, query, body)
        if rest is _OTHER_QUERY:
            raise InvalidValue("query", "that of Twilio.url, perhaps with bodySHA256", "another")
        if isinstance(rest, Refused):
            hint = "a body that is no form needs bodySHA256= and its SHA-256 in the query"
            raise InvalidValue("body", "a form, or one whose digest is in the query", "none", hint)
        return [
            ("I-Twilio-Idempotency-Token", uuid7() if id is None else id),
            ("X-Twilio-Signature", _sign(_variants(self.url)[0] + rest, secret).decode()),
        ]

    def check_secret(self, secret: Secret) -> None:
        check_no_space_around(secret)


def _sign(material: bytes, secret: Secret) -> bytes:
    return base64.b64encode(tag(secret, material, "sha1"))


def _after_the_url(url: str, query: bytes, body: bytes) -> bytes | Refused:
    """What is signed after the URL without its query, or why it cannot be told."""
    entered = url.partition("?")[2].encode()
    asked = b"?" + query if query else b""
    if query == entered:
        fields = _sorted_fields(body)
        return _NO_FORM if fields is None else asked + fields
    before = entered + b"&" if entered else b""
    digest = _DIGEST.fullmatch(query, len(before)) if query.startswith(before) else None
    if digest is None:
        return _OTHER_QUERY
    same = compare_digest(digest[1], digest_of(body).encode())
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
    fields = b"".join([name + value for name, value in sorted(pairs)])
    # The signature of a body that is no form would fit this one.
    return None if _LIKE_A_DIGEST.fullmatch(fields) else fields


@lru_cache(maxsize=1024)
def _variants(url: str) -> tuple[bytes, ...]:
    """The URL as given, and without its port or with the usual one: Twilio signs either. Both
    without the query; none if the URL cannot be one."""
    base, mark, query = url.partition("?")
    try:
        parts = urlsplit(base)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ()
    if parts.scheme not in _PORTS or not host or "@" in parts.netloc:
        return ()
    if "#" in url or " " in url or (mark and not query) or _NAME.decode() in query:
        return ()
    if port is None:
        netloc = f"{parts.netloc.rstrip(':')}:{_PORTS[parts.scheme]}"
    else:
        netloc = parts.netloc.rpartition(":")[0]
    return base.encode(), parts._replace(netloc=netloc).geturl().encode()
