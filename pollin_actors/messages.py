"""The operations as messages: what actors receive and what backends execute.

Each is a named tuple with the reply described in its docstring. Equality is a tuple's: it
compares fields and not types, so tell messages apart by their type.

The errors named here are those of :mod:`pollin_actors.errors`. Besides them every operation may
answer ``BackendUnavailable``, and ``InvalidValue`` where a number or a text is out of range.
"""

from __future__ import annotations

from typing import NamedTuple

from pollin_actors.resources import Callback, Endpoint, Secret

__all__ = [
    "CALLBACK_OPERATIONS",
    "CONSTANT_TIME",
    "ENDPOINT_OPERATIONS",
    "CheckReady",
    "Count",
    "CreateEndpoint",
    "DeleteCallback",
    "DeleteEndpoint",
    "DumpPage",
    "Fetch",
    "FetchReverse",
    "FetchSlice",
    "FindEndpoint",
    "IndexEndpoints",
    "Pop",
    "PopSlice",
    "Push",
    "Reset",
    "Sweep",
    "UpdateEndpoint",
    "UpdatePhase",
]


class IndexEndpoints(NamedTuple):
    """List the endpoints. Reply: a list of ``Endpoint`` in creation order."""


class FindEndpoint(NamedTuple):
    """Look an endpoint up. Reply: the ``Endpoint`` or None."""

    endpoint_id: str


class CreateEndpoint(NamedTuple):
    """Store a new endpoint. Reply: the ``Endpoint``.

    Errors: ``EndpointExists``, and nothing is changed.
    """

    endpoint: Endpoint


class UpdateEndpoint(NamedTuple):
    """Replace the endpoint that has the same id. Reply: the ``Endpoint``.

    Queued callbacks stay, with the phase and the expiry they have; the endpoint keeps its place
    in the creation order. A changed ttl or dedup_for counts for later pushes.

    Errors: ``EndpointNotFound``.
    """

    endpoint: Endpoint


class DeleteEndpoint(NamedTuple):
    """Remove an endpoint, its callbacks and its memory of ids. Reply: whether it existed."""

    endpoint_id: str


class CheckReady(NamedTuple):
    """Find out whether a change could be stored now; nothing is changed. Reply: None.

    Errors: ``BackendUnavailable``.
    """


class Push(NamedTuple):
    """Append a callback to the queue. Reply: ``PushResult(callback, outcome)``.

    ``secret`` must be the endpoint's, unless ``trusted`` is true: then none was demanded. A
    callback without a phase gets the endpoint's first. One whose id is queued, or was pushed
    within the endpoint's ``dedup_for``, adds nothing: the outcome is ``duplicate`` and the
    callback is the queued one if there is one, else the one pushed.

    Errors, nothing stored, looked for in this order and before duplicates: ``EndpointNotFound``,
    ``WrongSecret``, ``UnknownPhase``.
    """

    endpoint_id: str
    callback: Callback
    secret: Secret | str | bytes | None = None
    trusted: bool = False

    def __repr__(self) -> str:
        secret = None if self.secret is None else "**********"
        return (
            f"Push(endpoint_id={self.endpoint_id!r}, callback={self.callback!r}, "
            f"secret={secret!r}, trusted={self.trusted!r})"
        )


class Pop(NamedTuple):
    """Remove one callback: the oldest, or the one with the id ``key``.

    Reply: the ``Callback`` or None. Errors: ``EndpointNotFound``.
    """

    endpoint_id: str
    key: str | None = None


class PopSlice(NamedTuple):
    """Remove a slice of the queue, of one phase or of all. Reply: a list of ``Callback``, oldest
    first.

    All of the slice is removed, or nothing is. Errors: ``EndpointNotFound``, ``UnknownPhase``.
    """

    endpoint_id: str
    phase: str | None = None
    offset: int = 0
    limit: int = 100


class Fetch(NamedTuple):
    """Read one callback: the oldest, or the one with the id ``key``.

    Reply: the ``Callback`` or None. Errors: ``EndpointNotFound``.
    """

    endpoint_id: str
    key: str | None = None


class FetchSlice(NamedTuple):
    """Read a slice of the queue, of one phase or of all. Reply: a list of ``Callback``, oldest
    first.

    Errors: ``EndpointNotFound``, ``UnknownPhase``.
    """

    endpoint_id: str
    phase: str | None = None
    offset: int = 0
    limit: int = 100


class FetchReverse(NamedTuple):
    """Read a slice of the queue from its end. Reply: a list of ``Callback``, newest first.

    Errors: ``EndpointNotFound``, ``UnknownPhase``.
    """

    endpoint_id: str
    phase: str | None = None
    offset: int = 0
    limit: int = 100


class Count(NamedTuple):
    """Count the callbacks, of one phase or of all. Reply: an int.

    Errors: ``EndpointNotFound``, ``UnknownPhase``.
    """

    endpoint_id: str
    phase: str | None = None


class DumpPage(NamedTuple):
    """Read one page of the whole queue, oldest first. Reply: ``Page(callbacks, cursor)``.

    ``after`` is the cursor of the page before, None for the first page. The reply's cursor is
    None when the page is the last. ``limit`` is at least 1; where callbacks are large, a page may
    hold fewer.

    Errors: ``EndpointNotFound``.
    """

    endpoint_id: str
    after: int | None = None
    limit: int = 500


class Reset(NamedTuple):
    """Remove all callbacks and forget all ids. Reply: how many callbacks were removed.

    Errors: ``EndpointNotFound``.
    """

    endpoint_id: str


class DeleteCallback(NamedTuple):
    """Remove the callback with the id ``key``. Reply: whether it was queued.

    Errors: ``EndpointNotFound``.
    """

    endpoint_id: str
    key: str


class UpdatePhase(NamedTuple):
    """Set the phase of the callback with the id ``key``; its place in the queue stays.

    With ``expect`` it is moved only if it is in that phase: of several who move the same callback
    from one phase to another, one succeeds.

    Reply: the changed ``Callback``. Errors, looked for in this order: ``EndpointNotFound``,
    ``UnknownPhase``, ``CallbackNotFound``, ``PhaseConflict``; nothing was changed.
    """

    endpoint_id: str
    key: str
    phase: str
    expect: str | None = None


class Sweep(NamedTuple):
    """Remove expired callbacks of all endpoints, at most ``limit``. Reply: how many expired."""

    limit: int = 1000


ENDPOINT_OPERATIONS: frozenset[type] = frozenset(
    {IndexEndpoints, FindEndpoint, CreateEndpoint, UpdateEndpoint, DeleteEndpoint, CheckReady}
)
"""Operations on endpoints themselves, and on the whole."""

CALLBACK_OPERATIONS: frozenset[type] = frozenset(
    {
        Push,
        Pop,
        PopSlice,
        Fetch,
        FetchSlice,
        FetchReverse,
        Count,
        DumpPage,
        Reset,
        DeleteCallback,
        UpdatePhase,
    }
)
"""Operations on the callbacks of one endpoint; each has an ``endpoint_id``."""

CONSTANT_TIME: frozenset[type] = frozenset({Push, Pop, Fetch, Count, DeleteCallback, UpdatePhase})
"""Operations that cost O(log n) or better, however long the queue is."""
