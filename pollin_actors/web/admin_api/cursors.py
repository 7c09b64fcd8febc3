"""Cursors of pages: opaque to who uses them, and of no use elsewhere."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from pollin_actors.errors import InvalidValue

__all__ = ["read_cursor", "read_position", "write_cursor"]


def write_cursor(of: str, *place: Any) -> str:
    """A cursor.

    Arguments:
        of: what it is a cursor of.
        place: where the next page begins, as values of JSON.
    """
    text = json.dumps([of, *place], separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def read_cursor(cursor: str, of: str, *kinds: type) -> list[Any]:
    """The place that a cursor is of.

    Arguments:
        cursor: as it came.
        of: what it must be a cursor of.
        kinds: the types of what the place is made of; an int must be one of a position.

    Raises:
        InvalidValue: it is no such cursor.
    """
    place: list[Any]
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        made_of, *place = json.loads(urlsafe_b64decode(padded))
    except (ValueError, TypeError, RecursionError):
        made_of, place = None, []
    if made_of != of or len(place) != len(kinds) or not all(map(_fits, place, kinds)):
        expected = "`next` of an earlier page of the same list"
        raise InvalidValue("query.cursor", expected, "something else", "begin without a cursor")
    return place


def read_position(cursor: str | None, of: str) -> int | None:
    """The position that a cursor is of; None for none.

    Raises:
        InvalidValue: it is no such cursor.
    """
    if cursor is None:
        return None
    position: int = read_cursor(cursor, of, int)[0]
    return position


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    return not isinstance(value, int) or 0 <= value < 1 << 63
