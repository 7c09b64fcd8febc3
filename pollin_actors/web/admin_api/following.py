"""What happens at endpoints, as it happens: read when something has changed, and not before."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, NamedTuple, TypeAlias

from pollin_actors.application import Application
from pollin_actors.errors import EndpointNotFound
from pollin_actors.messages import HistoryPage
from pollin_actors.records import Kind, Record, RecordPage

__all__ = ["Following", "Line", "Passed", "line_view"]

PAGE = 500
"""Records that are read at once, and held."""

AT_ONCE = 200
"""Endpoints that are watched in one go: there may be a hundred thousand."""

GAP_S = 0.02
"""Seconds between two looks at least: thousands of changes a second are read together."""

SHARE = 10
"""Looking where nothing has told of a change takes at most one part in so many of the time."""


class Passed(NamedTuple):
    """So far an endpoint was read, and nothing of it was wanted. 0: it was deleted, and whatever
    comes in its place begins anew."""

    endpoint_id: str
    position: int


Line: TypeAlias = Record | Passed


def line_view(line: Line) -> dict[str, Any]:
    """A line as a value of JSON."""
    if isinstance(line, Record):
        return {**line._asdict(), "kind": line.kind.value}
    return line._asdict()


class Following:
    """Follows the history of endpoints, on one event loop.

    It holds one page of records at a time, and reads on only when it is asked for more. What
    changes is marked, once, however often it changes. Stores that other processes use are looked
    at besides, as those do not always tell.

    Arguments:
        app: the application.
        positions: of each endpoint, after which position it begins.
        others: whether all other endpoints are followed from their beginning, also those that are
            yet to come; who is deleted is let go then.
        kinds: of records; None: all.
        timeout: seconds that the inbox has for each question.
        every: seconds between two looks where nothing has told of a change; None: as the
            application does it.
    """

    def __init__(
        self,
        app: Application,
        positions: Mapping[str, int],
        *,
        others: bool,
        kinds: frozenset[Kind] | None,
        timeout: float,
        every: float | None = None,
    ) -> None:
        self._app = app
        self._others = others
        self._kinds = kinds
        self._timeout = timeout
        self._every = every
        # How far was read; and how far who follows knows of.
        self._read = dict(positions)
        self._told = dict(positions)
        self._marks: dict[str, _Mark] = {}
        self._changed: deque[_Mark] = deque()
        # Those that are to be read, in turn.
        self._due: dict[str, None] = {}
        self._list_due = False
        self._unwatch: list[Callable[[], None]] = []
        self._bell = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look_at = inf
        self._spent = 0.0

    async def check(self) -> None:
        """Whether everything is there that is to be followed.

        Raises:
            EndpointNotFound: names the first that is not.
        """
        there = {endpoint.id for endpoint in await self._index()}
        missing = [id for id in self._read if id not in there]
        if missing and not self._others:
            raise EndpointNotFound(missing[0])

    async def next(self, wait: float) -> list[Line]:
        """What has happened; waits for it for about ``wait`` seconds, and may find nothing.

        Raises:
            EndpointNotFound: one was deleted, and it was followed by its name.
            PollinError, OtpError: it could not be read.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        if self._loop is None:
            self._loop = loop
            await self._begin(loop)
        while True:
            self._take_changes()
            if loop.time() >= self._look_at:
                self._look(loop.time())
            if self._list_due:
                self._list_due = False
                gone = await self._list()
                if gone:
                    return gone
            if self._due:
                lines = await self._read_one()
                if lines or loop.time() >= until:
                    return lines
                continue
            left = min(until, self._look_at) - loop.time()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, left)):
                    await self._bell.wait()
            if self._bell.is_set():
                await asyncio.sleep(GAP_S)
            elif loop.time() < self._look_at:
                return []

    @property
    def watched(self) -> int:
        """How many endpoints are watched: so much work it is to close it."""
        return len(self._marks)

    def close(self) -> None:
        """Follow no more; on any thread, once nobody waits for more. Closing twice is harmless."""
        while self._unwatch:
            self._unwatch.pop()()
        for id in list(self._marks):
            self._marks.pop(id).unwatch()

    # -- inside ------------------------------------------------------------------------------------

    async def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._others:
            self._list_due = True
            self._unwatch.append(self._app._changes.watch_list(self._list_changed))
        await self._watch_all(list(self._read))
        self._look_later(loop.time())

    async def _watch_all(self, ids: list[str]) -> None:
        for begin in range(0, len(ids), AT_ONCE):
            for id in ids[begin : begin + AT_ONCE]:
                self._watch(id)
            if begin + AT_ONCE < len(ids):
                await asyncio.sleep(0)  # the loop's other tasks

    def _watch(self, id: str) -> None:
        mark = self._marks[id] = _Mark(id, self._changed, self._ring)
        mark.unwatch = self._app._changes.watch(id, mark)
        # First the watch, then the look: what changes between is told.
        self._due[id] = None

    def _drop(self, id: str) -> None:
        self._marks.pop(id).unwatch()
        for held in (self._read, self._told, self._due):
            held.pop(id, None)

    def _list_changed(self) -> None:
        self._list_due = True
        self._ring()

    def _ring(self) -> None:
        loop = self._loop
        with contextlib.suppress(RuntimeError):  # the loop has ended
            if loop is not None:
                loop.call_soon_threadsafe(self._bell.set)

    def _take_changes(self) -> None:
        self._bell.clear()
        while self._changed:
            mark = self._changed.popleft()
            mark.rung = False  # before it is read: what changes from now on is told again
            if mark.id in self._read:
                self._due[mark.id] = None

    def _look(self, now: float) -> None:
        """Somebody may have changed something who does not tell."""
        self._due.update(dict.fromkeys(self._read))
        self._list_due = self._others
        self._look_later(now)

    def _look_later(self, now: float) -> None:
        every = self._app.callbacks._poll_interval if self._every is None else self._every
        self._look_at = inf if every is None else now + max(every, SHARE * self._spent)
        self._spent = 0.0

    async def _list(self) -> list[Line]:
        there = {endpoint.id: None for endpoint in await self._index()}
        gone = [id for id in self._read if id not in there]
        for id in gone:
            self._drop(id)
        new = [id for id in there if id not in self._read]
        self._read.update(dict.fromkeys(new, 0))
        self._told.update(dict.fromkeys(new, 0))
        await self._watch_all(new)
        return [Passed(id, 0) for id in gone]

    async def _read_one(self) -> list[Line]:
        id = next(iter(self._due))
        del self._due[id]
        after = self._read[id]
        try:
            page: RecordPage = await self._ask(HistoryPage(id, after, PAGE, self._kinds))
        except EndpointNotFound:
            if not self._others:
                raise
            self._drop(id)
            return [Passed(id, 0)]
        self._read[id] = page.cursor
        if page.cursor > after:
            self._due[id] = None  # there may be more; the others first
        if page.records:
            self._told[id] = page.records[-1].position
            return list(page.records)
        if page.cursor == after and self._told[id] < after:
            self._told[id] = after
            return [Passed(id, after)]
        return []

    async def _index(self) -> Any:
        return await self._timed(self._app.endpoints.index(timeout=self._timeout))

    async def _ask(self, message: HistoryPage) -> Any:
        calls = self._app.callbacks
        return await self._timed(calls._mailbox(message.endpoint_id).ask(message, self._timeout))

    async def _timed(self, reply: Any) -> Any:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            return await reply
        finally:
            self._spent += clock() - began


class _Mark:
    """Notes, on any thread, that an endpoint has changed."""

    __slots__ = ("_changed", "_ring", "id", "rung", "unwatch")

    def __init__(self, id: str, changed: deque[_Mark], ring: Callable[[], None]) -> None:
        self.id = id
        self._changed = changed
        self._ring = ring
        self.rung = False
        self.unwatch: Callable[[], None] = lambda: None

    def __call__(self) -> None:
        if not self.rung:
            self.rung = True
            self._changed.append(self)
            self._ring()
