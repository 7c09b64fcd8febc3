"""The calls of the facade that look at what has happened, and at what belongs together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pollin_actors.calls import Calls, Steps, run_steps
from pollin_actors.errors import CallbackNotFound
from pollin_actors.messages import (
    Children,
    Fetch,
    FindCursor,
    History,
    MoveCursor,
    Stats,
)
from pollin_actors.otp import ReplyFuture
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.records import EndpointStats, Record
from pollin_actors.resources import Callback, PushResult
from pollin_actors.settings import DEFAULT_TIMEOUT

__all__ = ["CallbackTree", "PastCalls"]


@dataclass(frozen=True, slots=True)
class CallbackTree:
    """A callback and its sub events. Iterating gives the callbacks of the whole tree, each before
    its sub events."""

    callback: Callback
    children: tuple[CallbackTree, ...] = ()
    """In the order in which they were pushed."""

    def __iter__(self) -> Iterator[Callback]:
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node.callback
            waiting.extend(reversed(node.children))


class PastCalls(Calls):
    """``stats history children tree cursor move_cursor``."""

    def stats(
        self, endpoint_id: str, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[EndpointStats]:
        """How the endpoint stands: queued, claimed, delayed, expired, and the size of it all."""
        return self._mailbox(endpoint_id).ask(Stats(endpoint_id), timeout)

    def history(
        self, endpoint_id: str, *, key: str, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[list[Record]]:
        """What has happened to a callback, oldest first; empty if nothing is known of it."""
        return self._mailbox(endpoint_id).ask(History(endpoint_id, key), timeout)

    def children(
        self,
        endpoint_id: str,
        *,
        key: str,
        deep: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> ReplyFuture[list[Callback]]:
        """The sub events of a callback, in the order in which they were pushed; with ``deep`` also
        theirs, and so on. What has left the queue is among them as long as it is kept.

        Errors: ``CallbackNotFound`` if the callback itself is neither queued nor kept.
        """
        return self._mailbox(endpoint_id).ask(Children(endpoint_id, key, deep), timeout)

    def tree(
        self, endpoint_id: str, *, key: str, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[CallbackTree]:
        """The whole event that a callback belongs to: from the first of its line, with all that
        came of it.

        If the first of the line is not kept any more, the tree begins with the
        oldest ancestor that is.

        Errors: ``CallbackNotFound`` if the callback is neither queued nor kept.
        """
        mailbox = self._mailbox(endpoint_id)
        return run_steps(_tree(mailbox, endpoint_id, key, timeout), mailbox, "tree", timeout)

    def cursor(
        self, endpoint_id: str, name: str, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[int]:
        """Where a named cursor is: the position of a record; 0 for a name that is new."""
        return self._mailbox(endpoint_id).ask(FindCursor(endpoint_id, name), timeout)

    def move_cursor(
        self,
        endpoint_id: str,
        name: str,
        position: int,
        *,
        expect: int | None = None,
        pushes: Iterable[Callback] = (),
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> ReplyFuture[tuple[PushResult, ...]]:
        """Move a named cursor, and push callbacks to the same endpoint: both, or nothing.

        Args:
            endpoint_id: whose.
            name: the cursor's.
            position: where to.
            expect: where it must be; None: wherever. Of several who handle the same records, one
                succeeds.
            pushes: callbacks, trusted as in ``push`` without a secret.
            timeout: seconds until the deadline.

        Errors: ``CursorConflict``, and those of ``push``; nothing is changed then.
        """
        message = MoveCursor(endpoint_id, name, position, expect, tuple(pushes))
        return self._mailbox(endpoint_id).ask(message, timeout)


# -- a whole event ---------------------------------------------------------------------------------


def _tree(
    mailbox: Mailbox, endpoint_id: str, key: str, timeout: float | None
) -> Steps[CallbackTree]:
    callback = yield from _find(mailbox, endpoint_id, key, timeout)
    if callback is None:
        raise CallbackNotFound(endpoint_id, key)
    first = yield from _first_of(mailbox, endpoint_id, callback, timeout)
    descendants: list[Callback] = yield mailbox.ask(Children(endpoint_id, first.id, True), timeout)
    return _grow(first, descendants)


def _find(
    mailbox: Mailbox, endpoint_id: str, key: str, timeout: float | None
) -> Steps[Callback | None]:
    """A callback that is queued or kept."""
    found: Callback | None = yield mailbox.ask(Fetch(endpoint_id, key, True), timeout)
    return found


def _first_of(
    mailbox: Mailbox, endpoint_id: str, callback: Callback, timeout: float | None
) -> Steps[Callback]:
    if callback.root is not None and callback.root != callback.id:
        root = yield from _find(mailbox, endpoint_id, callback.root, timeout)
        if root is not None:
            return root
    seen = {callback.id}
    while callback.parent is not None and callback.parent not in seen:
        seen.add(callback.parent)
        parent = yield from _find(mailbox, endpoint_id, callback.parent, timeout)
        if parent is None:
            break
        callback = parent
    return callback


def _grow(first: Callback, descendants: list[Callback]) -> CallbackTree:
    below: dict[str, list[Callback]] = {}
    for callback in descendants:
        if callback.parent is not None and callback.id != first.id:
            below.setdefault(callback.parent, []).append(callback)
    # From the leaves up, without recursion: a line may be longer than Python's stack is deep.
    order, waiting = [], [first]
    while waiting:
        callback = waiting.pop()
        order.append(callback)
        waiting.extend(below.get(callback.id, ()))
    grown: dict[str, CallbackTree] = {}
    for callback in reversed(order):
        children = tuple(grown[child.id] for child in below.pop(callback.id, ()))
        grown[callback.id] = CallbackTree(callback, children)
    return grown[first.id]
