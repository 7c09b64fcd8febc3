"""Checks of message fields that every backend makes."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from pollin_actors.errors import EndpointConflict, InvalidValue
from pollin_actors.records import Kind
from pollin_actors.resources import MAX_DEDUP_FOR_S, MAX_TIME_NS, Callback, Endpoint, Secret

__all__ = [
    "check_expected",
    "endpoint_of",
    "has_only_fence",
    "kinds_of",
    "natural",
    "note",
    "pushes_of",
    "repeat_reason",
    "rotated",
    "seconds",
    "text",
]


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


def check_expected(message: Any, stored: Endpoint) -> None:
    """See whether an endpoint is as the update expects it to be, if that expects anything.

    Raises:
        EndpointConflict: it is not.
        InvalidValue: what is expected is no ``Endpoint``.
    """
    expect = message.expect
    if expect is None:
        return
    if not isinstance(expect, Endpoint):
        raise InvalidValue("UpdateEndpoint.expect", "an Endpoint, or None", f"a {_kind(expect)}")
    if expect != stored:
        raise EndpointConflict(stored.id)


def rotated(message: Any, endpoint: Endpoint, now: int) -> Endpoint:
    """Return the endpoint with the secret of a message, its own one still valid until then.

    Raises:
        InvalidValue: the message has no ``Secret``, or no time in nanoseconds, or the endpoint's
            scheme cannot have this secret.
    """
    secret = message.secret
    if not isinstance(secret, Secret):
        raise InvalidValue("RotateSecret.secret", "a Secret", f"a {_kind(secret)}")
    until = natural("RotateSecret.until", message.until)
    if until > MAX_TIME_NS:
        raise InvalidValue("RotateSecret.until", f"at most {MAX_TIME_NS}", "more")
    return endpoint.rotated(secret, now, until)


def repeat_reason(callback: Callback, known_id: str) -> str:
    """Return what the record of a duplicate says: nothing, or how else it is the same."""
    return "" if callback.id == known_id else f"another id, same fence: {callback.id}"


def has_only_fence(callback: Callback) -> bool:
    """Return whether a callback has nothing of what few have but, if need be, a fence."""
    return (
        callback.parent is None
        and callback.ordering_key is None
        and callback.not_before is None
        and callback.origin is None
        and callback.root is None
    )


def seconds(message: Any, field: str, *, zero: bool = False) -> int:
    """Return that field of a message, a number of seconds, in nanoseconds.

    Raises:
        InvalidValue: it is no number of seconds above 0, or from 0 on with ``zero``, or is more
            than a hundred years.
    """
    value = getattr(message, field)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= MAX_DEDUP_FOR_S or (value == 0 and not zero):
        name = f"{type(message).__name__}.{field}"
        least = "at least" if zero else "more than"
        expected = f"seconds, {least} 0 and at most {MAX_DEDUP_FOR_S:.0f}"
        raise InvalidValue(name, expected, repr(value)[:80] if number else f"a {_kind(value)}")
    return round(float(value) * 1e9)


def note(message: Any, field: str, limit: int = 2000, least: int = 0) -> str:
    """Return that field of a message if every backend can store it as a text.

    Raises:
        InvalidValue: it is no str, is too long or too short, or holds NUL or lone surrogates.
    """
    value = text(message, field)
    if not least <= len(value) <= limit or (
        not value.isprintable() and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value)
    ):
        name = f"{type(message).__name__}.{field}"
        expected = f"{least} to {limit} characters without NUL and lone surrogates"
        raise InvalidValue(name, expected, f"{len(value)} characters")
    return value


def kinds_of(message: Any) -> frozenset[Kind] | None:
    """Return the kinds in a message.

    Raises:
        InvalidValue: they are no set of ``Kind``.
    """
    kinds = message.kinds
    if kinds is None:
        return None
    if not isinstance(kinds, Set) or not all(isinstance(kind, Kind) for kind in kinds):
        name = f"{type(message).__name__}.kinds"
        raise InvalidValue(name, "a set of Kind, or None", f"a {_kind(kinds)}")
    return frozenset(kinds)


def pushes_of(message: Any) -> tuple[Callback, ...]:
    """Return the callbacks that a message pushes.

    Raises:
        InvalidValue: they are no tuple of callbacks.
    """
    pushes = message.pushes
    if not isinstance(pushes, tuple) or not all(isinstance(item, Callback) for item in pushes):
        name = f"{type(message).__name__}.pushes"
        raise InvalidValue(name, "a tuple of Callback", f"a {_kind(pushes)}")
    return pushes


def _kind(value: object) -> str:
    return type(value).__name__
