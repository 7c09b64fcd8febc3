"""One line of a list: what is kept of a callback, whose body may be large."""

from __future__ import annotations

from typing import NamedTuple

from pollin_actors.resources import Callback
from pollin_actors.web.dashboard.bodies import preview

__all__ = ["Row", "row_of"]


class Row(NamedTuple):
    """One callback in a list."""

    id: str
    phase: str
    created_at: int
    size: int
    attempts: int
    preview: str
    is_replay: bool
    reason: str = ""
    """What was said of it last, where that is shown."""


def row_of(callback: Callback) -> Row:
    """The line of a callback."""
    return Row(
        callback.id,
        callback.phase,
        callback.created_at,
        callback.size,
        callback.attempts,
        preview(callback),
        callback.origin is not None,
    )
