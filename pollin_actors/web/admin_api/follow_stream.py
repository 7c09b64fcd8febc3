"""Following a history over HTTP: it goes on until the client leaves, or the server stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from time import monotonic

import anyio
import anyio.to_thread
from starlette.types import Receive, Scope, Send

from pollin_actors.web.admin_api.following import Line, line_view
from pollin_actors.web.admin_api.problems import Kind, Problem, problem_of
from pollin_actors.web.admin_api.strict_json import render
from pollin_actors.web.admin_api.table import Follow
from pollin_actors.web.ending import server_ends

__all__ = ["FollowStream", "Streams"]

MOST_STREAMS = 32
"""Streams at once; who comes then is told to come again."""

TICK_S = 1.0
"""Seconds after which it is noticed that the server ends."""

QUIET_S = 10.0
"""Seconds after which an empty line says that it is still there: so who has gone without a word is
noticed, and so is a server that has."""

SEND_S = 20.0
"""Seconds that a client may take to take what it is sent. It loses nothing: it comes again, with
the positions of what it has."""

MANY = 500
"""Watched endpoints that are let go of on the event loop; more are work for a thread."""

FEW = 20
"""Records that are written on the event loop; more are work for a thread."""

_BUSY = Kind(503, "busy", "Others follow already")


class Streams:
    """How many streams there are."""

    def __init__(self) -> None:
        self.open = 0

    def check(self) -> None:
        """Whether there may be another.

        Raises:
            Problem: there are too many.
        """
        if self.open >= MOST_STREAMS:
            raise Problem(_BUSY, f"expected at most {MOST_STREAMS} streams at once: try later")


class FollowStream:
    """One stream, as an ASGI application. Nothing is read on before the client has taken what was
    read, so a slow one holds a page of records, and no more.

    Arguments:
        follow: what is followed, and for how long.
        streams: counts it.
        headers: of the answer.
        failed: is told of an error that nobody has foreseen.
    """

    def __init__(
        self,
        follow: Follow,
        streams: Streams,
        headers: Mapping[str, str],
        failed: Callable[[Exception], None],
    ) -> None:
        self._following = follow.following
        self._seconds = follow.seconds
        self._streams = streams
        self._headers = headers
        self._failed = failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pairs = [(name.lower().encode(), text.encode()) for name, text in self._headers.items()]
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
            self._let_go()
            self._streams.open -= 1

    def _let_go(self) -> None:
        if self._following.watched <= MANY:
            self._following.close()
        else:
            # Nobody waits for it, and it is too much for the event loop.
            asyncio.get_running_loop().run_in_executor(None, self._following.close)

    async def _write(self, send: Send) -> None:
        until = monotonic() + self._seconds
        await _send(send, b"\n")  # it has begun, whether or not there is anything
        quiet_since = monotonic()
        while True:
            try:
                wait = max(0.0, min(TICK_S, until - monotonic()))
                lines = await self._following.next(wait)
            except Exception as error:
                # Too late for another answer; who comes again gets it.
                if problem_of(error) is None:
                    self._failed(error)
                break
            if lines:
                await _send(send, await _written(lines))
                quiet_since = monotonic()
            elif monotonic() >= quiet_since + QUIET_S:
                await _send(send, b"\n")
                quiet_since = monotonic()
            if monotonic() >= until or server_ends():
                break
        await _send(send, b"", more=False)


async def _written(lines: list[Line]) -> bytes:
    def write() -> bytes:
        return b"".join(render(line_view(line)) + b"\n" for line in lines)

    return write() if len(lines) <= FEW else await anyio.to_thread.run_sync(write)


async def _send(send: Send, body: bytes, more: bool = True) -> None:
    with anyio.fail_after(SEND_S):
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
