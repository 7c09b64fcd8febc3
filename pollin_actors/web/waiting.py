"""A request as it waits to be verified: as it came, but for a secret that it shows."""

from __future__ import annotations

import hashlib
import secrets as tokens
from collections.abc import Sequence
from hmac import compare_digest
from typing import Any, NamedTuple

from pollin_actors.resources import Request
from pollin_actors.secret import Secret
from pollin_actors.signatures import Delivery, Scheme, Verified
from pollin_actors.signatures.interface import HeaderPairs

__all__ = ["Waiting", "hide", "packed", "unpacked"]

HIDDEN = b"**********"

# As in HTTP/2: no header that a sender can set begins with a colon. These two come first.
_QUERY = b":query"
_SHOWN = b":shown"

# No secret is that: they are texts.
_NONE_OF_THEM = b"\xff"


class Waiting(NamedTuple):
    """A request that waits."""

    headers: HeaderPairs
    """As they came, but that what one shows is hidden."""
    body: bytes
    query: bytes
    salt: bytes
    shown: dict[int, bytes]
    """By the index of a header: the digest of what it has shown."""

    def delivery(self, secrets: Sequence[Secret]) -> Delivery:
        """What came; where a secret was shown that is none of these, something else is."""
        pairs = list(self.headers)
        for index, digest in self.shown.items():
            if index < len(pairs):
                found = _NONE_OF_THEM
                for secret in secrets:
                    if compare_digest(_digest(self.salt, secret.encode()), digest):
                        found = secret.encode()
                name, value = pairs[index]
                pairs[index] = (name, value.removesuffix(HIDDEN) + found)
        return Delivery(pairs, self.body, self.query)


def packed(delivery: Delivery, scheme: Scheme) -> Request:
    """A request as it is stored while it waits.

    What shows a secret is not stored, only a salted digest: enough to find out later whether it was
    one of those that are valid.
    """
    pairs = list(delivery.headers)
    shown = []
    salt = b""
    for index, (name, value) in enumerate(pairs):
        token = scheme.shown_in(name.lower(), value)
        if token:
            salt = salt or tokens.token_hex(16).encode()
            end = value.rstrip()
            lead = end[: -len(token)] if end.endswith(token) else b""
            pairs[index] = (name, lead + HIDDEN)
            shown.append(b"%d:%s" % (index, _digest(salt, token)))
    first = [(_QUERY, delivery.query), (_SHOWN, b" ".join([salt, *shown]))]
    return Request([*first, *pairs], delivery.body)


def unpacked(request: Any) -> Waiting:
    """What was packed; anything else is a request that verifies nowhere."""
    if not isinstance(request, Request):
        return Waiting((), b"", b"", b"", {})
    pairs = [
        (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in request.headers
    ]
    query, salt, shown = b"", b"", {}
    if pairs and pairs[0][0] == _QUERY:
        query = pairs.pop(0)[1]
        if pairs and pairs[0][0] == _SHOWN:
            salt, *entries = pairs.pop(0)[1].split(b" ")
            for entry in entries:
                index, _, digest = entry.partition(b":")
                if index.isdigit() and len(index) < 10:
                    shown[int(index)] = digest
    return Waiting(pairs, request.body, query, salt, shown)


def hide(headers: HeaderPairs, verified: Verified) -> HeaderPairs:
    """The headers without what those have shown that carry secrets, whether or not it was one."""
    hidden = verified.hidden
    if not hidden:
        return headers
    return [(name, HIDDEN if name.lower() in hidden else value) for name, value in headers]


def _digest(salt: bytes, token: bytes) -> bytes:
    return hashlib.sha256(b"%s %s" % (salt, token)).hexdigest().encode()
