"""Checks of single values, for all that users give."""

from __future__ import annotations

from pollin_actors.errors import InvalidValue

__all__ = ["MAX_TIME_NS", "check_int", "check_text", "describe"]

# The last moment that 64 bits can tell.
MAX_TIME_NS = (1 << 63) - 1


def describe(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 1000:
        return "an int of very many digits"  # Python writes none of thousands
    text = repr(value) if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


def check_text(name: str, value: object, limit: int) -> str:
    """Return the value if every backend can store it as a text: no NUL, no lone surrogate."""
    if not isinstance(value, str) or not 0 < len(value) <= limit:
        got = f"{len(value)} characters" if isinstance(value, str) else describe(value)
        raise InvalidValue(name, f"a str of 1 to {limit} characters", got)
    # Printable text is the common case, and holds neither.
    if not value.isprintable() and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
        raise InvalidValue(name, "text without NUL and without lone surrogates", ascii(value)[:80])
    return value


def check_int(name: str, value: object, unit: str, limit: int | None = None) -> int:
    bound = "" if limit is None else f" and at most {limit}"
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < 0
        or (limit is not None and value > limit)
    ):
        raise InvalidValue(name, f"an int of {unit}, at least 0{bound}", describe(value))
    return value
