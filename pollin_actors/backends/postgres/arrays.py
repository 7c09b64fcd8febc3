"""Lists as PostgreSQL writes arrays: many rows become one parameter each, without a detour.

psycopg would look at each item's type first, which costs more than all the rest of a push.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["is_text", "numbers", "texts"]


def is_text(value: str) -> bool:
    """Whether the server can look for it: no id or phase has NUL or lone surrogates."""
    return value.isprintable() or not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value)


def numbers(values: Sequence[int | None]) -> str:
    """An array of numbers."""
    text = str([*values])[1:-1]
    return f"{{{text.replace('None', 'NULL')}}}"


def texts(values: Sequence[str | None]) -> str:
    """An array of texts, which are texts of ours: see :func:`is_text`."""
    if None in values:
        return f"{{{','.join(['NULL' if it is None else _quote(it) for it in values])}}}"
    # Mostly nothing is to be escaped, and that is seen at once.
    joined = "".join(values)  # type: ignore[arg-type]  # none is None
    if '"' in joined or "\\" in joined:
        return f"{{{','.join([_quote(it) for it in values if it is not None])}}}"
    if not values:
        return "{}"
    return '{"' + '","'.join(values) + '"}'  # type: ignore[arg-type]  # none is None


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
