"""What users hold: ``app.endpoints`` and ``app.callbacks``, with Pollin's names.

Each call sends one message and returns a reply future: ``.get()`` it, ``await`` it, or leave it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, cast, overload

from pollin_actors.actors import CallbackActor, EndpointActor, Identify
from pollin_actors.calls import Find, failed, nanoseconds
from pollin_actors.claiming import ClaimCalls
from pollin_actors.deletion import delete
from pollin_actors.errors import InvalidValue
from pollin_actors.messages import (
    Count,
    CreateEndpoint,
    DeleteCallback,
    DumpPage,
    Fetch,
    FetchReverse,
    FetchSlice,
    FindEndpoint,
    IndexEndpoints,
    Pop,
    PopSlice,
    Push,
    Reset,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.otp import Ref, ReplyFuture
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.past import PastCalls
from pollin_actors.replay import ReplayCalls
from pollin_actors.resources import Callback, Endpoint, Page, PushResult, Secret
from pollin_actors.rotation import DEFAULT_OVERLAP_S, rotate
from pollin_actors.settings import DEFAULT_TIMEOUT
from pollin_actors.subscription import SubscriptionCalls

__all__ = ["Callbacks", "Dump", "Endpoints", "Find"]

_new = tuple.__new__


class Endpoints:
    """The endpoints: ``index find create update delete rotate``.

    Every method takes ``timeout``: seconds until the call's deadline, None for none.
    """

    def __init__(self, mailbox: Callable[[], Mailbox]) -> None:
        self._mailbox = mailbox

    def index(self, *, timeout: float | None = DEFAULT_TIMEOUT) -> ReplyFuture[list[Endpoint]]:
        """All endpoints, in the order of their creation."""
        return self._mailbox().ask(IndexEndpoints(), timeout)

    def find(
        self, endpoint_id: str, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[Endpoint | None]:
        """The endpoint of that id, or None."""
        return self._mailbox().ask(FindEndpoint(endpoint_id), timeout)

    def create(
        self, endpoint: Endpoint, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[Endpoint]:
        """Store a new endpoint; the reply is the endpoint.

        Errors: ``EndpointExists``.
        """
        error = _no_endpoint(endpoint)
        return error if error else self._mailbox().ask(CreateEndpoint(endpoint), timeout)

    def update(
        self,
        endpoint: Endpoint,
        *,
        expect: Endpoint | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> ReplyFuture[Endpoint]:
        """Replace the endpoint that has the same id; its queued callbacks stay.

        Args:
            endpoint: as it is to be.
            expect: as it was found: it is replaced only if it is still the same, so that a
                rotation, or another update, in between is not undone.
            timeout: seconds until the deadline.

        Errors: ``EndpointNotFound``; ``EndpointConflict``, and nothing is changed.
        """
        error = _no_endpoint(endpoint) or (None if expect is None else _no_endpoint(expect))
        return error if error else self._mailbox().ask(UpdateEndpoint(endpoint, expect), timeout)

    def delete(
        self, endpoint_id: str, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[bool]:
        """Remove an endpoint and its callbacks; the reply says whether it existed.

        With it goes what waits to be verified for it, and what did not verify.
        """
        return delete(self._mailbox(), endpoint_id, timeout)

    def rotate(
        self,
        endpoint_id: str,
        *,
        secret: str | Secret | None = None,
        overlap: float = DEFAULT_OVERLAP_S,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> ReplyFuture[Endpoint]:
        """Give an endpoint another secret; the reply is the endpoint, which has it.

        Args:
            endpoint_id: whose.
            secret: the new one; None: one is generated, of the form that its scheme wants.
            overlap: seconds for which the present one stays valid; what was old before is valid
                for as long as it would have been. With 0 no secret but the new one is valid; the
                present one again, with 0, only ends all that are old.
            timeout: seconds until the deadline.

        Errors: ``EndpointNotFound``; ``InvalidValue`` for a secret that the scheme cannot have.
        Nothing is changed then.
        """
        return rotate(self._mailbox(), endpoint_id, secret, overlap, timeout)

    def ref(self, *, timeout: float | None = DEFAULT_TIMEOUT) -> ReplyFuture[Ref[EndpointActor]]:
        """The ref of the endpoint actor as it is now, for sending it messages yourself."""
        return self._mailbox().ask(Identify(), timeout)


class Callbacks(ClaimCalls, PastCalls, SubscriptionCalls, ReplayCalls):
    """The callbacks of the endpoints: ``push pop fetch fetch_reverse count dump reset delete
    update_phase``; ``claim ack nack extend release discard``; ``stats history children tree cursor
    move_cursor``; ``subscribe`` and ``replay``.

    Every method takes ``timeout``: seconds until the call's deadline, None for none. Every one may
    answer ``EndpointNotFound``.
    """

    def push(
        self,
        endpoint_id: str,
        callback: Callback,
        *,
        secret: Secret | str | bytes | None = None,
        parent: str | None = None,
        not_before: int | datetime | None = None,
        ordering_key: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> ReplyFuture[PushResult]:
        """Append a callback; the reply comes once it is stored as durably as the backend promises.

        Args:
            endpoint_id: where to.
            callback: its id must be new to the endpoint, else the outcome is ``duplicate`` and
                nothing is added.
            secret: the endpoint's. None: the caller is trusted code of this process.
            parent: the id of the callback of the same endpoint that it is a sub event of.
            not_before: when it may be popped or claimed: nanoseconds since the epoch, or a
                datetime with a time zone.
            ordering_key: callbacks of one phase and key are taken one at a time, in order.
            timeout: seconds until the deadline.

        Parent, time and key may as well be fields of the callback; here they replace those.

        Errors: ``WrongSecret``, ``UnknownPhase``, ``TooLarge``, ``CallbackNotFound`` for the
        parent, ``Full``; nothing is stored then.
        """
        if callback.__class__ is not Callback:
            return failed(
                InvalidValue("callback", "a Callback, as Callback.new makes it", repr(callback))
            )
        if parent is not None or not_before is not None or ordering_key is not None:
            try:
                callback = _with(callback, parent, not_before, ordering_key)
            except InvalidValue as error:
                return failed(error)
        mailbox = self._find(endpoint_id) or self._new(endpoint_id)
        # As Push(...) makes it, in half the time: this is the path of every webhook.
        message = _new(Push, (endpoint_id, callback, secret, secret is None))
        if self._push_watchers:
            return self._instruments.push(
                endpoint_id, callback, partial(mailbox.ask, message, timeout)
            )
        return mailbox.ask(message, timeout)

    @overload
    def pop(
        self, endpoint_id: str, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[Callback | None]: ...

    @overload
    def pop(
        self, endpoint_id: str, *, key: str, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[Callback | None]: ...

    @overload
    def pop(
        self,
        endpoint_id: str,
        *,
        phase: str | None = None,
        offset: int | None = None,
        limit: int | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> ReplyFuture[list[Callback]]: ...

    def pop(
        self,
        endpoint_id: str,
        *,
        key: str | None = None,
        phase: str | None = None,
        offset: int | None = None,
        limit: int | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> Any:
        """Remove and return: the oldest callback, the one of an id, or a slice.

        At most once: what was popped and not processed is gone.

        Args:
            endpoint_id: where from.
            key: the id of one callback.
            phase: a slice of the callbacks in this phase only.
            offset: how many to leave before the slice; 0 if only others are given.
            limit: how many at most; 100 if only others are given.
            timeout: seconds until the deadline.

        Returns:
            A future of a callback or None; of a list, oldest first, if a slice was asked for.
        """
        mailbox = self._find(endpoint_id) or self._new(endpoint_id)
        if phase is None and offset is None and limit is None:
            return mailbox.ask(Pop(endpoint_id, key), timeout)
        if key is not None:
            return failed(_key_and_slice())
        return mailbox.ask(PopSlice(endpoint_id, phase, *_slice(offset, limit)), timeout)

    @overload
    def fetch(
        self, endpoint_id: str, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[Callback | None]: ...

    @overload
    def fetch(
        self,
        endpoint_id: str,
        *,
        key: str,
        kept: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> ReplyFuture[Callback | None]: ...

    @overload
    def fetch(
        self,
        endpoint_id: str,
        *,
        phase: str | None = None,
        offset: int | None = None,
        limit: int | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> ReplyFuture[list[Callback]]: ...

    def fetch(
        self,
        endpoint_id: str,
        *,
        key: str | None = None,
        phase: str | None = None,
        offset: int | None = None,
        limit: int | None = None,
        kept: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> Any:
        """As ``pop``, and nothing is removed; here also what is claimed or waits is seen.

        With ``kept`` and a key: if none of that id is queued, the last one that has left the queue,
        as long as it is kept.
        """
        mailbox = self._find(endpoint_id) or self._new(endpoint_id)
        if phase is None and offset is None and limit is None:
            return mailbox.ask(Fetch(endpoint_id, key, kept), timeout)
        if key is not None:
            return failed(_key_and_slice())
        return mailbox.ask(FetchSlice(endpoint_id, phase, *_slice(offset, limit)), timeout)

    def fetch_reverse(
        self,
        endpoint_id: str,
        *,
        phase: str | None = None,
        offset: int = 0,
        limit: int = 100,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> ReplyFuture[list[Callback]]:
        """A slice, newest first; nothing is removed."""
        mailbox = self._find(endpoint_id) or self._new(endpoint_id)
        return mailbox.ask(FetchReverse(endpoint_id, phase, offset, limit), timeout)

    def count(
        self,
        endpoint_id: str,
        *,
        phase: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> ReplyFuture[int]:
        """How many callbacks are queued, or are queued in that phase."""
        mailbox = self._find(endpoint_id) or self._new(endpoint_id)
        return mailbox.ask(Count(endpoint_id, phase), timeout)

    def dump(self, endpoint_id: str, *, timeout: float | None = DEFAULT_TIMEOUT) -> Dump:
        """All callbacks, oldest first, as a stream: iterate over it, or ``async for``.

        Args:
            endpoint_id: whose.
            timeout: seconds for each page that is read.
        """
        return Dump(self, endpoint_id, timeout)

    def reset(
        self, endpoint_id: str, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[int]:
        """Remove all callbacks and the memory of ids; the reply is how many were queued."""
        mailbox = self._find(endpoint_id) or self._new(endpoint_id)
        return mailbox.ask(Reset(endpoint_id), timeout)

    def delete(
        self, endpoint_id: str, *, key: str, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[bool]:
        """Remove one callback; the reply says whether it was queued."""
        mailbox = self._find(endpoint_id) or self._new(endpoint_id)
        return mailbox.ask(DeleteCallback(endpoint_id, key), timeout)

    def update_phase(
        self,
        endpoint_id: str,
        *,
        key: str,
        phase: str,
        expect: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> ReplyFuture[Callback]:
        """Move a callback into another phase; the reply is the changed callback.

        Args:
            endpoint_id: whose.
            key: the callback's id.
            phase: where to.
            expect: the phase that it must be in; None: whichever. Of several who move a callback
                out of the same phase, one succeeds.
            timeout: seconds until the deadline.

        Errors: ``UnknownPhase``, ``CallbackNotFound``; ``PhaseConflict`` if it is in another
        phase than expected.
        """
        mailbox = self._find(endpoint_id) or self._new(endpoint_id)
        return mailbox.ask(UpdatePhase(endpoint_id, key, phase, expect), timeout)

    def ref(
        self, endpoint_id: str, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[Ref[CallbackActor]]:
        """The ref of an endpoint's actor as it is now (started if need be), for sending it
        messages yourself. After a restart it is dead: calls here go by name, and are not."""
        mailbox = self._find(endpoint_id) or self._new(endpoint_id)
        return mailbox.ask(Identify(), timeout)

    def _page(self, endpoint_id: str, after: int | None, timeout: float | None) -> Any:
        mailbox = self._find(endpoint_id) or self._new(endpoint_id)
        return mailbox.ask(DumpPage(endpoint_id, after), timeout)


class Dump:
    """A stream of an endpoint's callbacks, oldest first. Memory stays flat: it reads page by page.

    What is queued all the while comes exactly once; what is pushed or removed meanwhile may come
    or not.
    """

    def __init__(self, callbacks: Callbacks, endpoint_id: str, timeout: float | None) -> None:
        self._callbacks = callbacks
        self._endpoint_id = endpoint_id
        self._timeout = timeout

    def __iter__(self) -> Iterator[Callback]:
        after: int | None = None
        while True:
            reply = self._callbacks._page(self._endpoint_id, after, self._timeout)
            page = cast("Page", reply.get())
            yield from page.callbacks
            after = page.cursor
            if after is None:
                return

    async def __aiter__(self) -> AsyncIterator[Callback]:
        after: int | None = None
        while True:
            reply = self._callbacks._page(self._endpoint_id, after, self._timeout)
            page = cast("Page", await reply)
            for callback in page.callbacks:
                yield callback
            after = page.cursor
            if after is None:
                return


def _slice(offset: int | None, limit: int | None) -> tuple[int, int]:
    return (0 if offset is None else offset, 100 if limit is None else limit)


def _key_and_slice() -> InvalidValue:
    return InvalidValue(
        "key", "either key= or a slice (phase=, offset=, limit=)", "both", "leave one of them out"
    )


def _no_endpoint(endpoint: object) -> ReplyFuture[Any] | None:
    if isinstance(endpoint, Endpoint):
        return None
    return failed(InvalidValue("endpoint", "an Endpoint, as Endpoint.new makes it", repr(endpoint)))


def _with(
    callback: Callback, parent: str | None, not_before: int | datetime | None, key: str | None
) -> Callback:
    changes: dict[str, Any] = {}
    if parent is not None:
        changes["parent"] = parent
    if not_before is not None:
        changes["not_before"] = nanoseconds("not_before", not_before)
    if key is not None:
        changes["ordering_key"] = key
    return callback.replace(**changes)
