"""What the head of a request says before its body is read."""

from __future__ import annotations

from typing import Any

from pollin_actors.errors import InvalidValue
from pollin_actors.signatures.interface import HeaderPairs

__all__ = ["length_and_type", "pairs_of"]


def pairs_of(headers: Any) -> HeaderPairs:
    """A server's headers as a list.

    Raises:
        InvalidValue: they are not iterable.
    """
    try:
        return list(headers)
    except TypeError:
        raise InvalidValue("headers", "pairs", f"a {type(headers).__name__}") from None


def length_and_type(headers: HeaderPairs) -> tuple[bytes | None, bytes | None]:
    """Content-Length and Content-Type, if there are any.

    Raises:
        TypeError, ValueError, AttributeError: the headers are malformed.
    """
    declared = content_type = None
    for name, value in headers:
        if name.__class__ is not bytes or value.__class__ is not bytes:
            raise TypeError("header")
        # Two lengths: most headers are passed over without making anything.
        length = len(name)
        if length == 14:
            if name.lower() == b"content-length":
                if not value.isdigit():
                    raise ValueError("content-length")
                declared = value
        elif length == 12 and name.lower() == b"content-type":
            if content_type is not None and content_type != value:
                raise ValueError("content-type")
            content_type = value
    return declared, content_type
