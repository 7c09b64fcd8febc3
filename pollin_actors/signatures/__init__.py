"""Signature schemes: whether a webhook was sent by somebody who knows the secret."""

from __future__ import annotations

from pollin_actors.errors import InvalidValue
from pollin_actors.signatures.interface import Delivery, Refused, Scheme, Verified
from pollin_actors.signatures.shared import SharedSecret, Unsigned

__all__ = [
    "Delivery",
    "Refused",
    "Scheme",
    "SharedSecret",
    "Unsigned",
    "Verified",
    "parse_scheme",
]

_SCHEMES: dict[str, type[Scheme]] = {kind.name: kind for kind in (SharedSecret, Unsigned)}


def parse_scheme(text: str) -> Scheme:
    """The scheme that ``Scheme.text`` has written.

    Raises:
        InvalidValue: there is no such scheme, or an option has a value that it cannot have.
    """
    kind = _SCHEMES.get(text)
    if kind is None:
        raise InvalidValue("scheme", f"one of {', '.join(sorted(_SCHEMES))}", repr(text)[:80])
    return kind()
