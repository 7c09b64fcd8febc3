"""Subscriptions: what happens to callbacks, as a stream that goes on from any point."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Self, TypeVar

from pollin_actors.calls import Calls, Steps, failed
from pollin_actors.errors import InvalidValue
from pollin_actors.messages import FindCursor, HistoryPage, MoveCursor
from pollin_actors.otp import OtpError, ReplyFuture
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.records import Kind, Record, RecordPage
from pollin_actors.resources import Callback, PushResult
from pollin_actors.settings import DEFAULT_TIMEOUT

__all__ = ["After", "Subscription", "SubscriptionCalls"]

After = int | Mapping[str, int] | None

T = TypeVar("T")

PAGE = 500
"""Records that are read at once, and held, of each endpoint."""


class SubscriptionCalls(Calls):
    """``subscribe``."""

    def subscribe(
        self,
        endpoint_id: str,
        *more: str,
        after: After = None,
        kinds: Iterable[Kind] | None = None,
        cursor: str | None = None,
        follow: bool = True,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> Subscription:
        """What happens at one or more endpoints, as a stream of records; see ``Subscription``.

        Args:
            endpoint_id: whose.
            more: other endpoints.
            after: the position after which it begins, or one for each endpoint, as
                ``Subscription.positions``; by default it begins with the oldest record kept.
            kinds: records of these kinds only.
            cursor: begin where the cursor of that name is, and move it with ``commit``.
            follow: whether to wait for what happens next, rather than end.
            timeout: seconds for each page that is read.

        Raises:
            InvalidValue: an argument has a value that it cannot have.
        """
        endpoints = tuple(dict.fromkeys((endpoint_id, *more)))
        if after is not None and cursor is not None:
            raise InvalidValue("after", "either after= or cursor=", "both", "leave one of them out")
        begins = _begins(endpoints, after)
        wanted = None if kinds is None else _kinds(kinds)
        return Subscription(self, endpoints, begins, wanted, cursor, follow, timeout)


class Subscription:
    """The records of endpoints, each one's in its order; iterate over it, or ``async for``.

    It waits when there is no more, and goes on when something happens. Several endpoints take
    turns. Memory stays flat: it reads page by page.

    It ends with ``close()``; with ``EndpointNotFound`` if an endpoint is deleted; with
    ``NotRunning`` if the application stops. One thread, or one task, iterates at a time.
    """

    def __init__(
        self,
        calls: Calls,
        endpoints: tuple[str, ...],
        after: Mapping[str, int],
        kinds: frozenset[Kind] | None,
        cursor: str | None,
        follow: bool,
        timeout: float | None,
    ) -> None:
        self._calls = calls
        self._sources = {id: _Source(id, after.get(id, 0)) for id in endpoints}
        self._kinds = kinds
        self._cursor = cursor
        self._follow = follow
        self._timeout = timeout
        self._bell = _Bell()
        self._begun = self._closed = False
        # Which endpoint has the next turn.
        self._turns = deque(self._sources.values())

    @property
    def positions(self) -> dict[str, int]:
        """For each endpoint the position of what was yielded last: where to go on after it."""
        return {source.endpoint_id: source.position for source in self._sources.values()}

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Record:
        record = _drive(self._next())
        if record is None:
            raise StopIteration
        return record

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        record = await _drive_on_loop(self._next())
        if record is None:
            raise StopAsyncIteration
        return record

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration, also one that waits in another thread. Closing twice is harmless."""
        self._closed = True
        self._bell.close()

    def commit(
        self, pushes: Iterable[Callback] = (), *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[tuple[PushResult, ...]]:
        """Move the cursor to what was yielded last, and push callbacks: both, or nothing.

        So each record is handled once, whatever fails: what came of it is pushed exactly if the
        cursor moves on. With several endpoints each cursor moves by itself, and nothing can be
        pushed.

        Errors: ``CursorConflict`` if somebody else has moved the cursor since it was read; those
        of ``push``.
        """
        if self._cursor is None or not self._begun:
            expected = "a subscription with cursor=, from which something was read"
            got = "one without" if self._cursor is None else "one from which nothing was read yet"
            return failed(InvalidValue("commit", expected, got))
        moved = [s for s in self._sources.values() if s.position != s.stored]
        callbacks = tuple(pushes)
        if callbacks and len(self._sources) > 1:
            got = f"{len(self._sources)} endpoints"
            return failed(InvalidValue("pushes", "a subscription to one endpoint", got))
        if callbacks:
            moved = list(self._sources.values())
        replies = [self._commit(source, callbacks, timeout) for source in moved]
        if not replies:
            nothing: ReplyFuture[tuple[PushResult, ...]] = ReplyFuture()
            nothing.set(())
            return nothing
        if len(replies) == 1:
            return replies[0]
        return replies[0].join(*replies[1:]).map(lambda _: ())

    def _commit(
        self, source: _Source, pushes: tuple[Callback, ...], timeout: float | None
    ) -> ReplyFuture[tuple[PushResult, ...]]:
        assert self._cursor is not None
        position, expect = source.position, source.stored
        mailbox = self._calls._mailbox(source.endpoint_id)
        message = MoveCursor(source.endpoint_id, self._cursor, position, expect, pushes)
        # The next commit comes after this one, whether or not that is waited for.
        source.stored = position
        source.under_way += 1
        reply: ReplyFuture[tuple[PushResult, ...]] = mailbox.ask(message, timeout)

        def settled(answer: ReplyFuture[Any]) -> None:
            try:
                answer.get(timeout=0)
            except Exception:
                pass  # it has not moved, and those that are under way after it will not
            else:
                source.confirmed = max(source.confirmed, position)
            source.under_way -= 1
            if not source.under_way:
                source.stored = source.confirmed

        reply.add_done_callback(settled)
        return reply

    # -- reading -----------------------------------------------------------------------------------

    def _next(self) -> Steps[Record | None]:
        while not self._closed:
            record = self._held()
            if record is not None:
                return record
            if not self._begun:
                yield from self._begin()
            # From here on whatever happens rings: what happened before is found by the look.
            bell = self._bell.arm(self._mailbox(next(iter(self._sources))))
            found = yield from self._read()
            if found:
                continue
            if not self._follow:
                self.close()
            elif not self._closed:
                yield from self._rest(bell)
        return None

    def _held(self) -> Record | None:
        """One of those that were read; the endpoints take turns."""
        for _ in range(len(self._turns)):
            source = self._turns[0]
            self._turns.rotate(-1)
            if source.records:
                record = source.records.popleft()
                source.position = record.position
                return record
        return None

    def _begin(self) -> Steps[None]:
        if self._follow and not self._bell.watches:
            self._bell.watch(self._calls, self._sources)
            weakref.finalize(self, self._bell.close).atexit = False
        if self._cursor is not None:
            for source in self._sources.values():
                message = FindCursor(source.endpoint_id, self._cursor)
                found = yield from self._ask(source.endpoint_id, message)
                source.read = source.position = source.stored = source.confirmed = found
        self._begun = True

    def _read(self) -> Steps[bool]:
        """Read on wherever something may have happened; whether anything was there."""
        found = False
        for source in self._sources.values():
            if self._closed:
                break
            message = HistoryPage(source.endpoint_id, source.read, PAGE, self._kinds)
            page: RecordPage = yield from self._ask(source.endpoint_id, message)
            found = found or page.cursor > source.read
            source.take(page)
        return found

    def _ask(self, endpoint_id: str, message: Any) -> Steps[Any]:
        try:
            return (yield self._mailbox(endpoint_id).ask(message, self._timeout))
        except OtpError as error:
            raise self._calls._explain(endpoint_id, error) from None

    def _rest(self, bell: ReplyFuture[None]) -> Steps[None]:
        poll = self._calls._poll_interval
        mailbox = bell._target
        timer = None
        if poll is not None and mailbox is not None and mailbox.runtime is not None:
            timer = mailbox.runtime.timers.call_later(poll, partial(bell._settle, (None, None)))
        try:
            yield bell
        finally:
            if timer is not None:
                timer.cancel()

    def _mailbox(self, endpoint_id: str) -> Mailbox:
        return self._calls._mailbox(endpoint_id)


class _Source:
    """One endpoint: how far it was read, and how much of that was yielded."""

    __slots__ = (
        "confirmed",
        "endpoint_id",
        "position",
        "read",
        "records",
        "stored",
        "under_way",
    )

    def __init__(self, endpoint_id: str, after: int) -> None:
        self.endpoint_id = endpoint_id
        self.records: deque[Record] = deque()
        self.read = self.position = after
        # Where the cursor was last known to be, and where it will be once all that is under way
        # has been answered.
        self.confirmed = self.stored = after
        self.under_way = 0

    def take(self, page: RecordPage) -> None:
        self.read = page.cursor
        self.records.extend(page.records)
        if not self.records:
            self.position = self.read  # what was passed over need not be looked at again


class _Bell:
    """Rings when something has changed. It does not know who listens, so that they can go."""

    def __init__(self) -> None:
        self._armed: ReplyFuture[None] | None = None
        self._closed = False
        self.watches = False
        self._unwatch: list[Callable[[], None]] = []

    def watch(self, calls: Calls, endpoint_ids: Iterable[str]) -> None:
        self.watches = True
        for endpoint_id in endpoint_ids:
            self._unwatch.append(calls._changes.watch(endpoint_id, self.ring))
        if self._closed:
            self._let_go()

    def arm(self, mailbox: Mailbox) -> ReplyFuture[None]:
        """A future that is settled by the next ring."""
        armed: ReplyFuture[None] = ReplyFuture()
        armed._target = mailbox  # for its runtime
        self._armed = armed
        if self._closed:
            self.ring()
        return armed

    def ring(self) -> None:
        armed = self._armed
        if armed is not None:
            armed._settle((None, None))

    def close(self) -> None:
        self._closed = True
        self._let_go()
        self.ring()

    def _let_go(self) -> None:
        while self._unwatch:
            self._unwatch.pop()()


def _begins(endpoints: tuple[str, ...], after: After) -> dict[str, int]:
    if after is None:
        return {}
    if isinstance(after, Mapping):
        begins = {str(id): position for id, position in after.items()}
        unknown = [id for id in begins if id not in endpoints]
        if unknown:
            expected = "positions of the endpoints subscribed to"
            raise InvalidValue("after", expected, f"one of {unknown[0]!r}")
    elif len(endpoints) > 1:
        expected = "a map of positions, as several endpoints have one each"
        raise InvalidValue("after", expected, repr(after)[:80])
    else:
        begins = {endpoints[0]: after}
    for position in begins.values():
        if isinstance(position, bool) or not isinstance(position, int) or position < 0:
            raise InvalidValue("after", "positions, each an int from 0 on", repr(position)[:80])
    return begins


def _kinds(kinds: Iterable[Kind]) -> frozenset[Kind]:
    if isinstance(kinds, str) or not isinstance(kinds, Iterable):
        raise InvalidValue("kinds", "several kinds", repr(kinds)[:80], "put it into a set")
    return frozenset(map(_kind, kinds))


def _kind(kind: Any) -> Kind:
    try:
        return Kind(kind)
    except (ValueError, TypeError):
        raise InvalidValue("kinds", f"some of {', '.join(Kind)}", repr(kind)[:80]) from None


def _drive(steps: Steps[T]) -> T:
    """Take the steps, waiting for each future."""
    try:
        future = next(steps)
        while True:
            try:
                value = future.get()
            except Exception as error:
                future = steps.throw(error)
            else:
                future = steps.send(value)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def _drive_on_loop(steps: Steps[T]) -> T:
    """Take the steps, awaiting each future."""
    try:
        future = next(steps)
        while True:
            try:
                value = await future
            except Exception as error:
                future = steps.throw(error)
            else:
                future = steps.send(value)
    except StopIteration as stop:
        result: T = stop.value
        return result
