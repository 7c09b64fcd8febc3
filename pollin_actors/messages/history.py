"""Looking at what has happened, and going on from there."""

from __future__ import annotations

from typing import NamedTuple

from pollin_actors.records import Kind
from pollin_actors.resources import Callback

__all__ = ["Children", "FindCursor", "History", "HistoryPage", "MoveCursor", "PastPage", "Stats"]


class History(NamedTuple):
    """What happened to the callbacks of the id ``key``. Reply: a list of ``Record``, oldest first.

    Errors: ``EndpointNotFound``.
    """

    endpoint_id: str
    key: str


class HistoryPage(NamedTuple):
    """Read what happened after a position, of some kinds or of all.

    Reply: ``RecordPage(records, cursor)``, at most ``limit`` records, oldest first; the cursor is
    ``after``, or the position of the last record that was looked at, given or passed over. No
    record ever appears at or before a position that a reply's cursor has reached.

    Errors: ``EndpointNotFound``.
    """

    endpoint_id: str
    after: int = 0
    limit: int = 500
    kinds: frozenset[Kind] | None = None


class FindCursor(NamedTuple):
    """Where a named cursor is. Reply: a position, 0 for a name that is new.

    Errors: ``EndpointNotFound``.
    """

    endpoint_id: str
    name: str


class MoveCursor(NamedTuple):
    """Move a named cursor and push callbacks: both, or nothing.

    With ``expect`` only if it is there: of several who handle the same records, one succeeds.

    Reply: a tuple of ``PushResult``. Errors, nothing changed: ``EndpointNotFound``,
    ``CursorConflict``, and those of ``Push``, which is trusted here.
    """

    endpoint_id: str
    name: str
    position: int
    expect: int | None = None
    pushes: tuple[Callback, ...] = ()


class Children(NamedTuple):
    """The sub events of the callback with the id ``key``, queued or kept; with ``deep`` also
    theirs, and so on. Reply: a list of ``Callback``, in the order in which they were pushed.

    Errors: ``EndpointNotFound``; ``CallbackNotFound`` if it is neither queued nor kept.
    """

    endpoint_id: str
    key: str
    deep: bool = False


class PastPage(NamedTuple):
    """Read one page of all callbacks, queued or kept, in the order in which they were pushed.

    ``since`` and ``until`` bound their ``created_at``: from the one, to just before the other. The
    rest is as for ``DumpPage``; a page may hold fewer than ``limit`` also where few are in the
    bounds.

    Reply: ``Page(callbacks, cursor)``. Errors: ``EndpointNotFound``.
    """

    endpoint_id: str
    after: int | None = None
    limit: int = 500
    since: int | None = None
    until: int | None = None


class Stats(NamedTuple):
    """How an endpoint stands. Reply: ``EndpointStats``. Errors: ``EndpointNotFound``."""

    endpoint_id: str
