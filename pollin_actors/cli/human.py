"""Times, sizes and durations as people write and read them."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime

from pollin_actors.cli.errors import UserError

__all__ = ["ago", "duration", "moment", "now_ns", "read_duration", "read_moment", "size", "when"]

_NS = 1_000_000_000
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3_600, "w": 604_800}
_UNITS |= dict.fromkeys(("d", "day", "days"), 86_400)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|days|day|d|w)", re.ASCII)
_DURATIONS = "a duration such as 90s, 15m, 2h, 7d or 1w"
# Beyond it a datetime cannot say it.
_LATEST_S = 253_402_300_799


def now_ns() -> int:
    """Nanoseconds since the epoch."""
    return time.time_ns()


def size(number: int) -> str:
    """Bytes, with three digits or so: ``18 B``, ``1.2 kB``."""
    value, units = float(number), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{number} B" if units[0] == "B" else f"{value:.3g} {units[0]}"


def duration(seconds: float) -> str:
    """About how long, in the largest unit that fits: ``3 min``, ``2 days``."""
    seconds = abs(seconds)
    if seconds < 1:
        return "less than 1 s" if seconds else "0 s"
    for length, name in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * length or (seconds >= length and name != "days"):
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} s"


def ago(at: int, now: int | None = None) -> str:
    """How far a time is from now: ``3 min ago``, ``in 5 s``, ``now``."""
    apart = ((now_ns() if now is None else now) - at) / _NS
    if abs(apart) < 1:
        return "now"
    return f"{duration(apart)} ago" if apart > 0 else f"in {duration(apart)}"


def moment(at: int) -> str:
    """A time, to the second, in UTC."""
    seconds = at // _NS
    if seconds > _LATEST_S:
        return "after the year 9999"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def when(at: int) -> str:
    """A time, absolute and relative."""
    return f"{moment(at)} ({ago(at)})"


def read_duration(text: str, option: str) -> float:
    """Seconds.

    Raises:
        UserError: it is no duration.
    """
    if text.strip() == "0":
        return 0.0
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise UserError(f"{option}: expected {_DURATIONS}, got {text[:80]!r}")
    seconds = float(found[1]) * _UNITS[found[2]]
    if not math.isfinite(seconds):
        raise UserError(f"{option}: expected {_DURATIONS}, got one without end")
    return seconds


def read_moment(text: str, option: str) -> int:
    """Nanoseconds since the epoch, of a time or of a duration that lies back so far.

    Raises:
        UserError: it is neither.
    """
    if _DURATION.fullmatch(text.strip()):
        return max(now_ns() - round(read_duration(text, option) * _NS), 0)
    if text.isascii() and text.isdigit() and 16 <= len(text) <= 19:
        return int(text)
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        expected = "a time such as 2026-03-01T12:00, in UTC unless it has a zone, or how long ago"
        raise UserError(f"{option}: expected {expected}, as 2h or 7d, got {text[:80]!r}") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return max(round(found.timestamp() * 1_000_000) * 1_000, 0)
