"""What is done by one call on the server, without looking at anything before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Refused", "Shot"]


class Refused(NamedTuple):
    """A reply that is an error: nothing was changed, and others are not touched by it."""

    error: Exception


class Shot(NamedTuple):
    """One call, and how to read what it returns.

    ``call`` is a function call as it stands behind FROM. Its first argument, written ``{e}``, is
    whether the queues were entered. ``finish`` makes the replies of the messages, ``size`` many,
    out of the rows.
    """

    queues: dict[int, int]
    """The revisions that the endpoints of these queues must have."""
    call: str
    values: tuple[Any, ...]
    finish: Callable[[list[tuple[Any, ...]]], list[Any]]
    size: int = 1
