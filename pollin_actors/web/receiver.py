"""The receiver: takes webhooks over HTTP and answers once they are queued. Bare ASGI."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from math import isfinite
from typing import Any, TypeAlias

import structlog

from pollin_actors.application import Application, State
from pollin_actors.errors import (
    EndpointNotFound,
    Full,
    InvalidValue,
    PollinError,
    TooLarge,
    WrongSecret,
)
from pollin_actors.otp import OtpError
from pollin_actors.resources import MAX_ENDPOINT_ID, Callback, PushResult, Request, Secret
from pollin_actors.web.answers import (
    BAD_REQUEST,
    FULL,
    HEALTH_METHODS,
    HEALTHY,
    NOT_FOUND,
    POST_ONLY,
    TOO_LARGE,
    UNAUTHORIZED,
    UNAVAILABLE,
    Answer,
    accepted,
    unhealthy,
)
from pollin_actors.web.readiness import Readiness

__all__ = ["asgi"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
OnReceived: TypeAlias = Callable[[str, PushResult], None]

log = structlog.get_logger("pollin_actors")

HIDDEN = b"**********"


def asgi(
    app: Application,
    *,
    max_bytes: int | None = None,
    timeout: float = 1.5,
    on_received: OnReceived | None = None,
) -> ASGIApp:
    """An ASGI application that puts what is POSTed into the inbox; mount it anywhere.

    ``POST /{endpoint}`` stores the headers and the raw body, byte for byte and in order (servers
    make header names lower case), and answers 200 with the callback's id once it is queued. The
    sender shows the endpoint's secret as ``X-Pollin-Secret: <secret>`` or, if there is no such
    header, as ``Authorization: Bearer <secret>``. What is stored has ``**********`` as the value
    of each of these headers that carried it; every other header is kept as it came.

    Other answers, each with a JSON body: 400 malformed, 401 no or a wrong secret, 404 no such
    endpoint, 405 not a POST, 413 too large; nothing was stored. 503 with ``Retry-After``: the
    endpoint is full, which the body says, or the inbox could not answer (in time), and the sender
    should try again; if only the time ran out, the request may have been stored nevertheless.

    ``GET /healthz`` answers 200 while the application is running, else 503. ``GET /readyz``
    answers 200 if the backend could store something in the last second, else 503.

    The event loop is never blocked. The application is neither started nor stopped here: that is
    the host's business, for example in its lifespan.

    Args:
        app: the application.
        max_bytes: the largest body that is read; by default the application's ``max_bytes``,
            which in any case holds for headers and body together.
        timeout: seconds that the inbox has to take a request; then the answer is 503.
        on_received: called on the event loop with the endpoint's id and the result after each
            request that was taken, so it must be quick. An exception in it is logged
            (``receiver.hook_failed``) and changes nothing.

    Raises:
        InvalidValue: ``max_bytes`` or ``timeout`` has a value that it cannot have.

    Example::

        routes = [Mount("/hooks", app=asgi(app))]
    """
    limit = app.settings.max_bytes if max_bytes is None else max_bytes
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidValue("max_bytes", "an int of bytes, at least 1", repr(limit))
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not number or not isfinite(timeout) or timeout <= 0:
        raise InvalidValue("timeout", "a number of seconds > 0", repr(timeout))
    return _Receiver(app, limit, timeout, on_received)


class _Receiver:
    __slots__ = ("_app", "_limit", "_on_received", "_readiness", "_timeout")

    def __init__(
        self, app: Application, limit: int, timeout: float, on_received: OnReceived | None
    ) -> None:
        self._app = app
        self._limit = limit
        self._timeout = timeout
        self._readiness = Readiness(app, timeout)
        self._on_received = on_received

    def __repr__(self) -> str:
        return f"<asgi receiver of {self._app!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            answer = await self._answer(scope, receive)
            if answer is None:
                return  # the sender has gone
            status, headers, body = answer
            # Fresh containers each time: middleware may change them.
            start = {"type": "http.response.start", "status": status, "headers": [*headers]}
            if scope.get("method") == "HEAD":
                body = b""
            # A server may say by an OSError that the sender has gone.
            with contextlib.suppress(OSError):
                await send(start)
                await send({"type": "http.response.body", "body": body})
        elif kind == "lifespan":
            await _lifespan(receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise InvalidValue("scope['type']", "http, websocket or lifespan", repr(kind))

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | None:
        endpoint_id = ""
        try:
            path = _path(scope)
            if path == "/healthz":
                return self._health(scope["method"])
            if path == "/readyz":
                return await self._readiness.answer(scope["method"])
            endpoint_id = path[1:]
            # An id that no endpoint can have: it never gets as far as the actors.
            if (
                path[:1] != "/"
                or not endpoint_id
                or "/" in endpoint_id
                or len(endpoint_id) > MAX_ENDPOINT_ID
                or not endpoint_id.isprintable()
            ):
                return NOT_FOUND
            if scope["method"] != "POST":
                return POST_ONLY
            return await self._take(endpoint_id, scope["headers"], receive)
        except WrongSecret:
            return UNAUTHORIZED
        except EndpointNotFound:
            return NOT_FOUND
        except TooLarge:
            return TOO_LARGE
        except Full:
            return FULL
        except InvalidValue:
            return BAD_REQUEST
        except (PollinError, OtpError):
            return UNAVAILABLE
        except Exception as error:
            _log_failure("receiver.failed", endpoint_id, error)
            return UNAVAILABLE

    async def _take(
        self, endpoint_id: str, headers: Iterable[Any], receive: Receive
    ) -> Answer | None:
        try:
            pairs, secret, declared = _read_headers(headers)
        except (TypeError, ValueError, AttributeError):
            return BAD_REQUEST
        # So many digits are too many bytes, whatever they say.
        if declared is not None and (len(declared) > 18 or int(declared) > self._limit):
            return TOO_LARGE
        body = await _read_body(receive, self._limit)
        if not isinstance(body, bytes):
            return body
        callback = Callback.new(Request(pairs, body))
        # The secret is never None here: that would mean trusted code of this process.
        result = await self._app.callbacks.push(
            endpoint_id, callback, secret=secret, timeout=self._timeout
        )
        if self._on_received is not None:
            try:
                self._on_received(endpoint_id, result)
            except Exception as error:
                _log_failure("receiver.hook_failed", endpoint_id, error)
        return accepted(result)

    def _health(self, method: str) -> Answer:
        if method not in ("GET", "HEAD"):
            return HEALTH_METHODS
        state = self._app.state
        return HEALTHY if state is State.RUNNING else unhealthy(state)


def _path(scope: Scope) -> str:
    """The decoded path below where we are mounted; whether or not it includes the mount point."""
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    if root and path.startswith(root):
        below = path[len(root) :]
        if not below or below[0] == "/":
            return below
    return path


def _read_headers(
    headers: Iterable[Any],
) -> tuple[list[tuple[bytes, bytes]], Secret | str, bytes | None]:
    """The headers as they are to be stored, the secret shown ("": none), the Content-Length."""
    pairs = list(headers)
    token = bearer = declared = None
    carriers: list[tuple[int, bytes]] = []
    for index, (name, value) in enumerate(pairs):
        # Three lengths: most headers are passed over without making anything.
        if not 12 < len(name) < 16:
            continue
        key = name.lower()
        if key == b"authorization":
            if value[:7].lower() == b"bearer ":
                found = value[7:].strip()
                carriers.append((index, found))
                if bearer is None:
                    bearer = found
        elif key == b"x-pollin-secret":
            found = value.strip()
            carriers.append((index, found))
            if token is None:
                token = found
        elif key == b"content-length":
            if not value.isdigit():
                raise ValueError("content-length")
            declared = value
    if token is None:
        token = bearer
    if not token:
        return pairs, "", declared
    for index, found in carriers:
        if found == token:
            pairs[index] = (pairs[index][0], HIDDEN)
    try:
        # A Secret, so that no log of a failure further in can show it.
        return pairs, Secret(token.decode()), declared
    except UnicodeDecodeError:
        return pairs, "", declared  # no endpoint's: secrets are texts


async def _read_body(receive: Receive, limit: int) -> bytes | Answer | None:
    """The body; an answer if it is too large, as soon as that is known; None: the sender left."""
    message = await receive()
    if message["type"] != "http.request":
        return None
    body: bytes = message.get("body", b"")
    if len(body) > limit:
        return TOO_LARGE
    if not message.get("more_body", False):
        return bytes(body)
    # One buffer: a body in many small pieces must not take many times its size.
    buffer = bytearray(body)
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body = message.get("body", b"")
        if len(buffer) + len(body) > limit:
            return TOO_LARGE
        buffer += body
        if not message.get("more_body", False):
            return bytes(buffer)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return


def _log_failure(event: str, endpoint_id: str, error: Exception) -> None:
    # Some renderers show the locals of each frame, and those of this module hold the headers.
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    # A log that fails is no reason to fail the request.
    with contextlib.suppress(Exception):
        log.error(event, endpoint=endpoint_id, exc_info=(type(error), error, traceback))
