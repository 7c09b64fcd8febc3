"""Templates: whatever comes from senders is text, never markup."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

__all__ = ["ESCAPED", "FOLDER", "STATIC", "fragments", "render", "static_digest"]

FOLDER = Path(__file__).parent
STATIC = {
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
LIVE = "live_"
NOTHING = "\u2013"
"""Stands for a number that is not known."""

ESCAPED = ".escaped"
"""The end of the name of a field whose value is percent-encoded: see ``sent_as``."""

_VISIBLE = {"\n", "\t"}


def visible(value: object, lines: bool = False) -> str:
    """Text without characters that are not seen, or that reorder what is around them: those are
    written as escapes.

    Arguments:
        value: anything; its ``str``.
        lines: whether ends of lines and tabs stay.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or (lines and char in _VISIBLE)
        else ascii(char)[1:-1]  # what Python calls it, such as \x1b
        for char in text
    )


def sent_as(name: str, value: object) -> tuple[str, str]:
    """Name and value of a hidden field, such that the very value comes back.

    Browsers send every end of a line as CR LF, whichever it was: it would be another id.
    """
    text = str(value)
    if "\n" in text or "\r" in text:
        return name + ESCAPED, quote(text, safe="")
    return name, text


def clock(ns: int | None) -> str:
    """A time of nanoseconds since the epoch, in UTC."""
    at = _at(ns)
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def stamp(ns: int | None) -> str:
    """The same for the attribute ``datetime``."""
    at = _at(ns)
    return "" if at is None else f"{at:%Y-%m-%dT%H:%M:%S.}{at.microsecond // 1000:03}Z"


def _at(ns: int | None) -> datetime | None:
    if ns is None:
        return None
    try:
        return datetime.fromtimestamp(ns / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def duration(seconds: float | None) -> str:
    """About how long, in two units at most."""
    if seconds is None:
        return NOTHING
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def coarse(seconds: float | None) -> str:
    """The same in steps that are not seen to change all the time."""
    if seconds is None or seconds >= 3600:
        return duration(seconds)
    return f"{seconds // 60:.0f} min" if seconds >= 60 else f"{seconds // 5 * 5:.0f} s"


def size(count: int) -> str:
    """A number of bytes."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError


def number(value: float | None) -> str:
    """A number with thin spaces between thousands."""
    if value is None:
        return NOTHING
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.1f}".replace(",", "\u202f")
    return f"{int(value):,}".replace(",", "\u202f")


@lru_cache
def static_digest(name: str) -> str:
    """What tells versions of a static file apart."""
    return hashlib.sha256((FOLDER / "static" / name).read_bytes()).hexdigest()[:16]


@lru_cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "visible": visible,
        "sent_as": lambda value, name: sent_as(name, value),
        "clock": clock,
        "stamp": stamp,
        "coarse": coarse,
        "duration": duration,
        "size": size,
        "number": number,
    }
    environment.globals["digest"] = static_digest
    environment.globals["ui"] = environment.get_template("macros.html").module
    return environment


def render(template: str, context: Mapping[str, Any]) -> str:
    """A whole page."""
    return _environment().get_template(template).render(context)


def fragments(template: str, context: Mapping[str, Any]) -> dict[str, str]:
    """The parts of a page that change while one looks: the blocks whose names begin with
    ``live_``, each the inside of the element that has its name as id."""
    found = _environment().get_template(template)
    return {
        name: "".join(block(found.new_context(dict(context))))
        for name, block in found.blocks.items()
        if name.startswith(LIVE)
    }
