"""What a route is: from one table come the routes, the checks and the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeVar

from pollin_actors.application import Application
from pollin_actors.web.admin_api.following import Following
from pollin_actors.web.admin_api.validation import Schema

__all__ = ["Call", "ClientGone", "Follow", "Lines", "Operation", "Reply", "off_loop", "until_gone"]

T = TypeVar("T")

THREAD_FROM = 16 * 1024
"""Bytes from which reading or writing JSON is work for a thread: less is done in a millisecond or
two, whatever it is."""


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


@dataclass(slots=True)
class Call:
    """One request, read and checked.

    Arguments:
        app: the application.
        timeout: seconds that the inbox has.
        mounted_at: the path of the API.
        endpoint_id: of the path; empty where there is none.
        query: the parameters of the URL, with defaults.
        body: the JSON of the body, with defaults.
        chunks: the body as it comes, where it is no JSON.
        gone: returns once the client has left.
        size: bytes of the JSON of the body.
    """

    app: Application
    timeout: float
    mounted_at: str
    endpoint_id: str
    query: dict[str, Any]
    body: dict[str, Any]
    chunks: AsyncIterator[bytes]
    gone: Callable[[], Awaitable[None]]
    size: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered.

    Arguments:
        content: the JSON, or what makes it; None for no body.
        status: None: the operation's own.
        size: bytes that it is about; where they are many it is made on a thread.
        headers: more of the answer.
    """

    content: Any = None
    status: int | None = None
    size: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class Lines(NamedTuple):
    """Lines of JSON, to be streamed."""

    first: bytes
    more: Iterator[bytes]


class Follow(NamedTuple):
    """What happens, to be streamed as it happens."""

    following: Following
    seconds: float
    """After which it ends."""


Answer: TypeAlias = "Reply | Lines | Follow | dict[str, Any]"


@dataclass(frozen=True, slots=True)
class Operation:
    """One route.

    Arguments:
        id: its name, unique.
        method: in upper case.
        path: below where the API is mounted; ``{endpoint_id}`` is the only parameter in one.
        summary: one line.
        run: does it.
        replies: the schema of each status that is no error; None: no body.
        query: the parameters of the URL.
        required: which of them must be there.
        body: the schema of the JSON in the body; None: there is none.
        errors: statuses of problems, besides those that every route may answer.
        streams: ``"reply"`` or ``"body"``: that is NDJSON.
    """

    id: str
    method: str
    path: str
    summary: str
    run: Callable[[Call], Awaitable[Answer]]
    replies: dict[int, Schema | None]
    query: dict[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    body: Schema | None = None
    errors: tuple[int, ...] = ()
    streams: str = ""

    @property
    def status(self) -> int:
        """What is answered if nothing else is said."""
        return next(iter(self.replies))


async def off_loop(call: Call, work: Callable[[], T]) -> T:
    """What a function makes of the body: on a thread if that is large."""
    if call.size < THREAD_FROM:
        return work()
    return await asyncio.to_thread(work)


async def until_gone(call: Call, waited_for: Awaitable[Any]) -> Any:
    """The value of something awaitable; it is cancelled if the client leaves.

    Raises:
        ClientGone: the client has left first.
    """

    async def wait() -> Any:
        return await waited_for

    waiting, gone = asyncio.ensure_future(wait()), asyncio.ensure_future(call.gone())
    try:
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise ClientGone
        return waiting.result()
    finally:
        waiting.cancel()
        gone.cancel()
        await asyncio.gather(waiting, gone, return_exceptions=True)
