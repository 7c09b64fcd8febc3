"""The operations as messages: what actors receive and what backends execute.

Each is a named tuple with the reply described in its docstring. Equality is a tuple's: it
compares fields and not types, so tell messages apart by their type.

The errors named here are those of :mod:`pollin_actors.errors`. Besides them every operation may
answer ``BackendUnavailable``, and ``InvalidValue`` where a number or a text is out of range.
"""

from __future__ import annotations

from pollin_actors.messages.callbacks import (
    Count,
    DeleteCallback,
    DumpPage,
    Fetch,
    FetchReverse,
    FetchSlice,
    Pop,
    PopSlice,
    Push,
    Reset,
    UpdatePhase,
)
from pollin_actors.messages.claims import Ack, ClaimSlice, Extend, Nack, Release
from pollin_actors.messages.endpoints import (
    CheckReady,
    Consume,
    CreateEndpoint,
    DeleteEndpoint,
    FindEndpoint,
    IndexEndpoints,
    RotateSecret,
    Sweep,
    UpdateEndpoint,
)
from pollin_actors.messages.history import (
    Children,
    FindCursor,
    History,
    HistoryPage,
    MoveCursor,
    PastPage,
    Stats,
)

__all__ = [
    "CALLBACK_OPERATIONS",
    "CHANGES",
    "CONSTANT_TIME",
    "ENDPOINT_OPERATIONS",
    "Ack",
    "CheckReady",
    "Children",
    "ClaimSlice",
    "Consume",
    "Count",
    "CreateEndpoint",
    "DeleteCallback",
    "DeleteEndpoint",
    "DumpPage",
    "Extend",
    "Fetch",
    "FetchReverse",
    "FetchSlice",
    "FindCursor",
    "FindEndpoint",
    "History",
    "HistoryPage",
    "IndexEndpoints",
    "MoveCursor",
    "Nack",
    "PastPage",
    "Pop",
    "PopSlice",
    "Push",
    "Release",
    "Reset",
    "RotateSecret",
    "Stats",
    "Sweep",
    "UpdateEndpoint",
    "UpdatePhase",
]

ENDPOINT_OPERATIONS: frozenset[type] = frozenset(
    {
        IndexEndpoints,
        FindEndpoint,
        CreateEndpoint,
        UpdateEndpoint,
        DeleteEndpoint,
        Consume,
        RotateSecret,
        CheckReady,
    }
)
"""Operations on endpoints themselves, and on the whole."""

CHANGES: frozenset[type] = frozenset(
    {
        Push,
        Pop,
        PopSlice,
        Reset,
        DeleteCallback,
        UpdatePhase,
        ClaimSlice,
        Ack,
        Nack,
        Extend,
        Release,
        MoveCursor,
    }
)
"""Operations on the callbacks of one endpoint that change something."""

CALLBACK_OPERATIONS: frozenset[type] = CHANGES | frozenset(
    {
        Fetch,
        FetchSlice,
        FetchReverse,
        Count,
        DumpPage,
        History,
        HistoryPage,
        FindCursor,
        Children,
        PastPage,
        Stats,
    }
)
"""Operations on the callbacks of one endpoint; each has an ``endpoint_id``."""

CONSTANT_TIME: frozenset[type] = frozenset(
    {Push, Pop, Fetch, Count, DeleteCallback, UpdatePhase, Ack, Nack, Extend, Release, FindCursor}
)
"""Operations that cost O(log n) or better, however long the queue is."""
