"""Checks of message fields that every backend makes."""

from __future__ import annotations

from pollin_actors.errors import InvalidValue

__all__ = ["natural"]


def natural(name: str, value: object, least: int = 0) -> int:
    """Return the value if it is an int, no bool, and at least ``least``.

    Raises:
        InvalidValue: it is not; the error carries the name.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidValue(name, f"an int, at least {least}", repr(value)[:80])
    return value
