"""An ASGI callable driven by hand, and an inbox for it to fill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from pollin_actors import Application, Callback, Endpoint
from pollin_actors.web import asgi

__all__ = ["BEARER", "SECRET", "Exchange", "Pairs", "endpoint", "exchange", "post", "queued"]

SECRET = "open-sesame"
BEARER = (b"authorization", b"Bearer open-sesame")

Pairs = list[tuple[bytes, bytes]]
Message = MutableMapping[str, Any]
ASGIApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


def endpoint(endpoint_id: str = "orders") -> Endpoint:
    return Endpoint.new(["received", "processed"], 0, id=endpoint_id, secret=SECRET)


def queued(app: Application, endpoint_id: str = "orders") -> list[Callback]:
    return app.callbacks.fetch(endpoint_id, limit=1000).get()


class Exchange:
    """One request and what became of it.

    Arguments:
        path: as a server decodes it.
        headers: names and values.
        chunks: the pieces in which the body comes.
        method: in upper case.
        root_path: where the callable is mounted.
        gone: the sender disconnects after the last of the chunks instead of finishing.
    """

    def __init__(
        self,
        path: str = "/orders",
        headers: Iterable[Any] = (BEARER,),
        chunks: Iterable[bytes] = (b"{}",),
        *,
        method: str = "POST",
        root_path: str = "",
        gone: bool = False,
    ) -> None:
        self.scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode("utf-8", "surrogatepass"),
            "root_path": root_path,
            "query_string": b"",
            "headers": headers,
        }
        pieces = list(chunks)
        self._to_come: list[Message] = [
            {"type": "http.request", "body": piece, "more_body": gone or number < len(pieces)}
            for number, piece in enumerate(pieces, 1)
        ]
        if gone:
            self._to_come.append({"type": "http.disconnect"})
        self.messages_read = 0
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        message = self._to_come[self.messages_read]
        self.messages_read += 1
        return message

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def through(self, receiver: ASGIApp) -> Exchange:
        await receiver(self.scope, self.receive, self.send)
        return self

    @property
    def status(self) -> int | None:
        """The status answered, None if nothing was."""
        if not self.sent:
            return None
        start, body = self.sent
        assert start["type"] == "http.response.start"
        assert body["type"] == "http.response.body"
        assert not body.get("more_body", False)
        status: int = start["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The headers answered; each comes once."""
        pairs = self.sent[0]["headers"]
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    @property
    def body(self) -> bytes:
        """The body answered."""
        body: bytes = self.sent[1]["body"]
        return body

    @property
    def json(self) -> Any:
        """The body answered, and its headers are right."""
        assert self.headers[b"content-type"] == b"application/json"
        assert self.headers[b"content-length"] == b"%d" % len(self.body)
        return json.loads(self.body)


async def post(receiver: ASGIApp, *chunks: bytes, path: str = "/orders") -> Exchange:
    """POST a body with the right secret."""
    return await Exchange(path, chunks=chunks).through(receiver)


def exchange(app: Application, *args: Any, **kwargs: Any) -> Exchange:
    """One request, described as for ``Exchange``, through a receiver of the application."""
    return asyncio.run(Exchange(*args, **kwargs).through(asgi(app)))
