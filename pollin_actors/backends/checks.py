"""Checks of message fields that every backend makes."""

from __future__ import annotations

from typing import Any

from pollin_actors.errors import InvalidValue
from pollin_actors.resources import Endpoint

__all__ = ["endpoint_of", "natural", "text"]


def natural(name: str, value: object, least: int = 0) -> int:
    """Return the value if it is an int, no bool, and at least ``least``.

    Raises:
        InvalidValue: it is not; the error carries the name.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        try:
            got = repr(value)[:80]
        except ValueError:  # Python writes no int of thousands of digits
            got = f"an {type(value).__name__} of very many digits"
        raise InvalidValue(name, f"an int, at least {least}", got)
    return value


def text(message: Any, field: str) -> str:
    """Return that field of a message if it is a str.

    Raises:
        InvalidValue: it is not; the error names message and field.
    """
    value = getattr(message, field)
    if not isinstance(value, str):
        name = f"{type(message).__name__}.{field}"
        raise InvalidValue(name, "a str", f"a {type(value).__name__}")
    return value


def endpoint_of(message: Any) -> Endpoint:
    """Return the endpoint in a message.

    Raises:
        InvalidValue: it is something else.
    """
    endpoint = message.endpoint
    if not isinstance(endpoint, Endpoint):
        name = f"{type(message).__name__}.endpoint"
        raise InvalidValue(name, "an Endpoint", f"a {type(endpoint).__name__}")
    return endpoint
