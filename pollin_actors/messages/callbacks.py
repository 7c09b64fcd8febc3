"""The operations on the callbacks of one endpoint."""

from __future__ import annotations

from typing import NamedTuple

from pollin_actors.resources import Callback, Secret

__all__ = [
    "Count",
    "DeleteCallback",
    "DumpPage",
    "Fetch",
    "FetchReverse",
    "FetchSlice",
    "Pop",
    "PopSlice",
    "Push",
    "Reset",
    "UpdatePhase",
]


class Push(NamedTuple):
    """Append a callback to the queue. Reply: ``PushResult(callback, outcome)``.

    ``secret`` must be the endpoint's, or one of its old ones that is still valid, unless
    ``trusted`` is true: then none was demanded. A callback without a phase gets the endpoint's
    first. One whose id is queued, or was pushed within the endpoint's ``dedup_for``, adds nothing:
    the outcome is ``duplicate`` and the callback is the queued one if there is one, else the one
    pushed. The same holds for one whose ``fence`` is that of a callback which is queued, or was
    pushed within that time, whatever its id; ids and fences are compared with their like only.

    Of a duplicate there is a record, ``repeated``: of the callback that is queued with its id, or
    else with its fence; if there is none, of the last that is kept with its id, or else with its
    fence. ``MAX_REPEATS`` at most are of one callback.

    ``attempts`` and ``root`` of the callback are not taken over: nobody has claimed it yet, and
    the root is that of its parent, or the parent itself if that has none. The parent may be one
    that is not queued any more, but is kept.

    A callback with ``not_before`` is neither popped nor claimed earlier. Of those in one phase with
    one ``ordering_key`` one at a time is available, or claimed, or waits for its time: the others
    wait until it has left the phase or the queue, or has expired. Then the first of them in the
    queue is next, and stays so whoever comes after.

    The ttl runs from now, unless the endpoint says that the phase is consumed: then it begins
    with the entry into a phase that is not.

    Errors, nothing stored, looked for in this order: ``EndpointNotFound``, ``WrongSecret``,
    ``UnknownPhase``; then, if it is no duplicate: ``CallbackNotFound`` for the parent, ``Full``.
    An endpoint is full when as many callbacks are queued as its ``capacity`` says, or when this one
    would bring the sum of sizes over ``capacity_bytes``; where there are phases that are
    consumed, only for those, and only what is in them counts.
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
    """Remove one callback: the oldest that is available, or the one with the id ``key`` if it is.

    Not available is what is claimed, waits for its time, or for others of its ordering key.

    Reply: the ``Callback`` or None. Errors: ``EndpointNotFound``.
    """

    endpoint_id: str
    key: str | None = None


class PopSlice(NamedTuple):
    """Remove a slice of what is available, of one phase or of all. Reply: a list of ``Callback``,
    oldest first.

    All of the slice is removed, or nothing is. Errors: ``EndpointNotFound``, ``UnknownPhase``.
    """

    endpoint_id: str
    phase: str | None = None
    offset: int = 0
    limit: int = 100


class Fetch(NamedTuple):
    """Read one callback: the oldest, or the one with the id ``key``.

    With ``kept``, a key, and none of that id in the queue: the last one that has left it and is
    still kept, as it was then.

    Reply: the ``Callback`` or None. Errors: ``EndpointNotFound``.
    """

    endpoint_id: str
    key: str | None = None
    kept: bool = False


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
    """Remove all callbacks and forget all ids, cursors and history, but for one record that says
    so. Reply: how many callbacks were removed.

    Errors: ``EndpointNotFound``.
    """

    endpoint_id: str


class DeleteCallback(NamedTuple):
    """Remove the callback with the id ``key``, whoever has claimed it. Reply: whether it was
    queued.

    Errors: ``EndpointNotFound``.
    """

    endpoint_id: str
    key: str


class UpdatePhase(NamedTuple):
    """Set the phase of the callback with the id ``key``; its place in the queue stays.

    A claim on it ends, and its attempts and a delay after one are forgotten, unless it is in that
    phase already. Where the endpoint has phases that are consumed, its ttl ends or begins.

    With ``expect`` it is moved only if it is in that phase: of several who move the same callback
    from one phase to another, one succeeds.

    Reply: the changed ``Callback``. Errors, looked for in this order: ``EndpointNotFound``,
    ``UnknownPhase``, ``CallbackNotFound``, ``PhaseConflict``; nothing was changed.
    """

    endpoint_id: str
    key: str
    phase: str
    expect: str | None = None
