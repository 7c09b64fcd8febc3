"""The receiver as an ASGI callable: it takes webhooks and answers once they are queued."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from math import isfinite
from typing import Any, Literal, TypeAlias

from pollin_actors.application import Application
from pollin_actors.errors import InvalidValue
from pollin_actors.web.answers import TOO_LARGE, TOO_SLOW, Answer
from pollin_actors.web.deadlines import Deadlines
from pollin_actors.web.reception import BODY, OnReceived, Reception

__all__ = ["Ack", "asgi", "reception_of", "serve_lifespan"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Ack: TypeAlias = Literal["durable", "accepted"]


def asgi(
    app: Application,
    *,
    max_bytes: int | None = None,
    timeout: float = 1.5,
    body_timeout: float = 30.0,
    ack: Ack = "durable",
    on_received: OnReceived | None = None,
) -> ASGIApp:
    """An ASGI application that puts what is POSTed into the inbox; mount it anywhere.

    ``POST /{endpoint}`` stores the headers and the raw body, byte for byte and in order (servers
    make header names lower case), and answers 200 with the callback's id once it is queued. How
    it has to be signed, and what else is asked of it, says the endpoint's ``intake``. By default
    the sender shows the endpoint's secret as ``X-Pollin-Secret: <secret>`` or, if there is no such
    header, as ``Authorization: Bearer <secret>``. What is stored has ``**********`` as the value
    of each header that showed a secret, right or wrong; every other header is kept as it came.

    The id is the event's own where the scheme has one. A second delivery of it is answered 200 as
    well, with the outcome ``duplicate``, and adds nothing.

    Other answers, each with a JSON body: 400 malformed, 401 not genuine, 404 no such endpoint, 405
    not a POST, 408 the body came too slowly, 410 disabled, 413 too large, 415 not a content type of
    this endpoint, 429 with ``Retry-After``: beyond its rate; nothing was stored. 503 with
    ``Retry-After``: the endpoint is full, which the body says, or the inbox could not answer (in
    time), and the sender should try again; if only the time ran out, the request may have been
    stored nevertheless.

    ``GET /healthz`` answers 200 while the application is running, else 503. ``GET /readyz``
    answers 200 if the backend could store something in the last second, else 503.

    The event loop is never blocked. The application is neither started nor stopped here: that is
    the host's business, for example in its lifespan.

    Args:
        app: the application.
        max_bytes: the largest body that is read; by default the application's ``max_bytes``,
            which in any case holds for headers and body together.
        timeout: seconds that the inbox has to take a request, from when its body is there, however
            many steps that needs; then the answer is 503.
        body_timeout: seconds within which the body has to come.
        ack: what 200 says. ``"durable"``: it is stored, as durably as the backend promises.
            ``"accepted"``: it was genuine and is on its way, and is lost if it cannot be stored,
            which is logged as ``receiver.lost``.
        on_received: called with the endpoint's id and the result after each request that was
            taken: on the event loop, so it must be quick, or with ``ack="accepted"`` on any
            thread. An exception in it is logged (``receiver.hook_failed``) and changes nothing.
            It is not called for what is verified later.

    Raises:
        InvalidValue: an argument has a value that it cannot have.

    Example::

        routes = [Mount("/hooks", app=asgi(app))]
    """
    reception = reception_of(app, max_bytes, timeout, ack, on_received)
    return _Receiver(app, reception, _check_seconds("body_timeout", body_timeout))


def reception_of(
    app: Application,
    max_bytes: int | None,
    timeout: float,
    ack: Ack,
    on_received: OnReceived | None,
) -> Reception:
    """The part of a receiver that is the same for every server.

    Raises:
        InvalidValue: an argument has a value that it cannot have.
    """
    limit = app.settings.max_bytes if max_bytes is None else max_bytes
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidValue("max_bytes", "an int of bytes, at least 1", repr(limit))
    if ack not in ("durable", "accepted"):
        raise InvalidValue("ack", "'durable' or 'accepted'", repr(ack)[:80])
    seconds = _check_seconds("timeout", timeout)
    return Reception(app, limit, seconds, ack == "durable", on_received)


def _check_seconds(name: str, value: object) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not isfinite(value) or value <= 0:  # type: ignore[arg-type, operator]
        raise InvalidValue(name, "a number of seconds > 0", repr(value))
    return value  # type: ignore[return-value]


class _Receiver:
    __slots__ = ("_app", "_body_timeout", "_deadlines", "_reception")

    def __init__(self, app: Application, reception: Reception, body_timeout: float) -> None:
        self._app = app
        self._reception = reception
        self._body_timeout = body_timeout
        self._deadlines: Deadlines | None = None

    def __repr__(self) -> str:
        return f"<asgi receiver of {self._app!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            method: str = scope["method"]
            path: str = scope["path"]
            if path[-1:] == "/" or scope.get("root_path"):
                path = _path(scope)
            taking = self._reception.take(
                method, path, scope.get("query_string") or b"", scope["headers"]
            )
            answer: Answer | None
            try:
                wanted = next(taking)
                while True:
                    if wanted is BODY:
                        wanted = taking.send(await self._read_body(receive))
                        continue
                    try:
                        value = await wanted
                    except Exception as error:
                        wanted = taking.throw(error)
                    else:
                        wanted = taking.send(value)
            except StopIteration as stop:
                answer = stop.value
            if answer is None:
                return  # the sender has gone
            status, headers, body = answer
            # Fresh containers each time: middleware may change them.
            start = {"type": "http.response.start", "status": status, "headers": [*headers]}
            if method == "HEAD":
                body = b""
            try:
                await send(start)
                await send({"type": "http.response.body", "body": body})
            except OSError:
                pass  # a server may say so that the sender has gone
        elif kind == "lifespan":
            await serve_lifespan(receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise InvalidValue("scope['type']", "http, websocket or lifespan", repr(kind))

    async def _read_body(self, receive: Receive) -> bytes | Answer | None:
        loop = asyncio.get_running_loop()
        deadlines = self._deadlines
        if deadlines is None or deadlines.loop is not loop:
            # Another thread may do so at once: each has its own then, and that is all.
            deadlines = self._deadlines = Deadlines(loop, self._body_timeout)
        task = deadlines.begin()
        try:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                body: bytes = message.get("body", b"")
                return TOO_LARGE if len(body) > self._reception.limit else bytes(body)
            return await _read_rest(message, receive, self._reception.limit)
        except asyncio.CancelledError:
            if deadlines.has_expired(task):
                return TOO_SLOW
            raise
        finally:
            deadlines.end(task)


def _path(scope: Scope) -> str:
    """The decoded path below where we are mounted; whether or not it includes the mount point."""
    path: str = scope["path"]
    # Litestar ends the paths of what is mounted in it with a slash that nobody has sent.
    if path[-1:] == "/":
        raw: bytes = scope.get("raw_path") or b"/"
        if not raw.endswith(b"/") and raw[-3:].lower() != b"%2f":
            path = path[:-1]
    root: str = scope.get("root_path") or ""
    if root and path.startswith(root):
        below = path[len(root) :]
        if not below or below[0] == "/":
            return below
    return path


async def _read_rest(message: Message, receive: Receive, limit: int) -> bytes | Answer | None:
    """The body; an answer if it is too large, as soon as that is known; None: the sender left."""
    # One buffer: a body in many small pieces must not take many times its size.
    buffer = bytearray()
    while message["type"] == "http.request":
        body: bytes = message.get("body", b"")
        if len(buffer) + len(body) > limit:
            return TOO_LARGE
        buffer += body
        if not message.get("more_body", False):
            return bytes(buffer)
        message = await receive()
    return None


async def serve_lifespan(receive: Receive, send: Send) -> None:
    """Take part in a lifespan in which there is nothing to do."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
