"""Live pages: what has changed on a page, as server-sent events, for who looks at it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any

import anyio
from starlette.types import Receive, Scope, Send

from pollin_actors.web.dashboard.visit import Shared, Watch
from pollin_actors.web.ending import server_ends

__all__ = ["MOST_STREAMS", "Stream", "Streams"]

MOST_STREAMS = 32
"""Streams at once; who comes then looks at a page that does not change by itself."""

LIFE_S = 60.0
"""Seconds after which a stream ends, and the browser comes again: whoever may not look any more
is found out then, and no server waits longer for us to end."""

GAP_S = 0.25
"""Seconds between two looks at least; and ten times what a look takes."""

TICK_S = 1.0
"""Seconds after which it is noticed that the server ends."""

SEND_S = 20.0
"""Seconds that a client may take to take what it is sent."""

Look = Callable[[], Awaitable[tuple[Watch | None, Mapping[str, str]]]]
Problem = Callable[[Exception], str]


class Streams:
    """How many streams there are."""

    def __init__(self) -> None:
        self.open = 0

    @property
    def full(self) -> bool:
        return self.open >= MOST_STREAMS


class Stream:
    """One stream, as an ASGI application. It holds no thread while nothing happens.

    Arguments:
        shared: whose changes are watched.
        streams: counts it.
        look: makes the page again: when to look next, and the parts that may have changed.
        problem: says in words why a look failed.
        headers: of the answer.
        until: seconds by the monotonic clock at which it ends in any case.
    """

    def __init__(
        self,
        shared: Shared,
        streams: Streams,
        look: Look,
        problem: Problem,
        headers: Mapping[str, str],
        until: float,
    ) -> None:
        self._shared = shared
        self._streams = streams
        self._look = look
        self._problem = problem
        self._headers = headers
        self._until = min(until, monotonic() + LIFE_S)
        self._bell = asyncio.Event()
        self._rung = False
        self._sent: dict[str, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pairs = [(name.lower().encode(), text.encode()) for name, text in self._headers.items()]
        pairs.append((b"content-type", b"text/event-stream; charset=utf-8"))
        self._streams.open += 1
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_until_gone, receive, group.cancel_scope)
                # The client has gone, or does not take what it is sent.
                with contextlib.suppress(OSError, TimeoutError):
                    await send({"type": "http.response.start", "status": 200, "headers": pairs})
                    await self._write(send)
                group.cancel_scope.cancel()
        finally:
            self._streams.open -= 1

    async def _write(self, send: Send) -> None:
        await _send(send, "retry: 500\n\n")
        with contextlib.ExitStack() as watching:
            watched = None
            while monotonic() < self._until and not server_ends():
                # First the bell, then the look: what changes meanwhile rings it again.
                self._rung = False
                self._bell.clear()
                began = monotonic()
                failed, watch, text = await self._changes()
                if watch is None and not failed:
                    # It has come to its end, as a job does: its last parts are sent all the same.
                    await _send(send, text + _event("end", {}))
                    break
                if watch is not None and watch != watched:
                    watching.close()
                    self._watch(watch, watching)
                    watched = watch
                    self._bell.set()
                await _send(send, text)
                await anyio.sleep(max(GAP_S, 10 * (monotonic() - began)))
                await self._wait(1.0 if watched is None else watched.every)
        await _send(send, "", more=False)

    async def _wait(self, seconds: float) -> None:
        """Until the bell rings, but not for longer; and not beyond the end of all."""
        due = min(monotonic() + seconds, self._until)
        while (left := due - monotonic()) > 0 and not self._bell.is_set() and not server_ends():
            with anyio.move_on_after(min(left, TICK_S)):
                await self._bell.wait()

    async def _changes(self) -> tuple[bool, Watch | None, str]:
        try:
            watch, parts = await self._look()
        except Exception as error:
            return True, None, _event("problem", {"text": self._problem(error)})
        changed = {name: html for name, html in parts.items() if self._sent.get(name) != html}
        self._sent.update(changed)
        # Nothing new is said as well: who does not take it has gone.
        text = _event("parts", changed) if changed else ": still there\n\n"
        return False, watch, text

    def _watch(self, watch: Watch, watching: contextlib.ExitStack) -> None:
        loop = asyncio.get_running_loop()

        def wake() -> None:
            # Once for each look: thousands of changes a second cost their makers next to nothing.
            if self._rung:
                return
            self._rung = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._bell.set)

        changes = self._shared.app.callbacks._changes
        for endpoint_id in watch.endpoints:
            watching.callback(changes.watch(endpoint_id, wake))
        if watch.tree:
            watching.callback(self._shared.crashes.watch(wake))
        if watch.job is not None:
            watching.callback(self._shared.jobs.watch(watch.job, wake))


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _send(send: Send, text: str, more: bool = True) -> None:
    with anyio.fail_after(SEND_S):
        await send({"type": "http.response.body", "body": text.encode(), "more_body": more})


def _event(name: str, data: Any) -> str:
    # JSON has no bare end of line: one line of data is enough.
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
