"""The routes of the admin API on Starlette: requests are read and checked here, and answered."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

import anyio
import anyio.to_thread
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pollin_actors.application import Application
from pollin_actors.errors import EndpointNotFound, InvalidValue
from pollin_actors.resources import MAX_ENDPOINT_ID
from pollin_actors.web.admin_api import (
    actor_operations,
    callback_operations,
    claim_operations,
    endpoint_operations,
    follow_operations,
    handler_operations,
    past_operations,
    stream_operations,
)
from pollin_actors.web.admin_api.follow_stream import FollowStream, Streams
from pollin_actors.web.admin_api.openapi import NDJSON, PROBLEM, document
from pollin_actors.web.admin_api.problems import Kind, Problem, malformed, problem_of
from pollin_actors.web.admin_api.strict_json import parse, render
from pollin_actors.web.admin_api.table import (
    THREAD_FROM,
    Call,
    ClientGone,
    Follow,
    Lines,
    Operation,
    Reply,
)
from pollin_actors.web.admin_api.tokens import Tokens
from pollin_actors.web.admin_api.validation import accept, from_text
from pollin_actors.web.crashes import Crashes

__all__ = ["OPERATIONS", "build"]

BODY_TIMEOUT = 30.0
MAX_PARAMETERS = 2_000

log = structlog.get_logger("pollin_actors")

OPERATIONS: tuple[Operation, ...] = (
    *endpoint_operations.OPERATIONS,
    *callback_operations.OPERATIONS,
    *claim_operations.OPERATIONS,
    *past_operations.OPERATIONS,
    *follow_operations.OPERATIONS,
    *handler_operations.OPERATIONS,
    *actor_operations.OPERATIONS,
    *stream_operations.OPERATIONS,
)

# Whatever is answered may be private, and none of it is a page.
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_UNAUTHORIZED = Problem(
    Kind(401, "unauthorized", "The token is missing or wrong"),
    "send the token of the admin API as 'Authorization: Bearer <token>', once",
    headers={"WWW-Authenticate": "Bearer"},
)
_NOT_FOUND = Problem(
    Kind(404, "not-found", "There is no such route"), "see openapi.json for the routes there are"
)
_WRONG_TYPE = Kind(415, "wrong-type", "The body is of another type")
_WRONG_METHOD = Kind(405, "wrong-method", "The route has no such method")
_TOO_LARGE = Kind(413, "too-large", "The body is too large")
_TOO_SLOW = Kind(408, "too-slow", "The request came too slowly")
_UNFORESEEN = Kind(500, "unforeseen", "Something went wrong that nobody has foreseen")


def build(app: Application, tokens: Tokens, timeout: float) -> Starlette:
    """The Starlette application.

    Arguments:
        app: whose endpoints and callbacks.
        tokens: one of them must be shown.
        timeout: seconds that the inbox has for each operation.
    """
    app.companion(Crashes)  # it knows of those that come from now on
    resources: dict[str, _Resource] = {}
    shared = _Shared(app, timeout)
    for operation in (*OPERATIONS, _describing(OPERATIONS)):
        resource = resources.setdefault(operation.path, _Resource(shared))
        resource.operations[operation.method] = operation
    starlette = Starlette(
        routes=[Route(path, resource) for path, resource in resources.items()],
        middleware=[Middleware(_Guarded, tokens=tokens)],
        exception_handlers={404: _not_found},
    )
    starlette.router.redirect_slashes = False
    return starlette


def _describing(operations: tuple[Operation, ...]) -> Operation:
    described = document(operations)

    async def openapi(call: Call) -> dict[str, Any]:
        return {**described, "servers": [{"url": call.mounted_at or "/"}]}

    return Operation("openapi", "GET", "/openapi.json", "This document.", openapi, {200: {}})


class _Guarded:
    """Nobody gets further without a token, not even to learn which routes there are."""

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._tokens.accept(scope["headers"]):
            await _problem_response(_UNAUTHORIZED)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class _Shared:
    """What the routes have in common."""

    def __init__(self, app: Application, timeout: float) -> None:
        self.app = app
        self.timeout = timeout
        self.streams = Streams()
        # What the largest callback takes as base64, and what is around it.
        self.max_body = app.settings.max_bytes * 4 // 3 + 64 * 1024


class _Resource:
    """One path: an ASGI application."""

    def __init__(self, shared: _Shared) -> None:
        self.operations: dict[str, Operation] = {}
        self._shared = shared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        if response is not None:
            with contextlib.suppress(OSError, ClientDisconnect):  # the client has gone
                await response(scope, receive, send)

    async def _answer(self, request: Request) -> ASGIApp | None:
        operation = self.operations.get(request.method)
        try:
            if operation is None:
                raise self._wrong_method(request.method)
            call = await self._call(operation, request)
            reply = await operation.run(call)
            if isinstance(reply, Follow):
                self._shared.streams.check()
                headers = {**_HEADERS, "Content-Type": NDJSON}
                return FollowStream(
                    reply, self._shared.streams, headers, lambda error: _log(error, operation.id)
                )
            return await _response(operation, reply)
        except (ClientDisconnect, ClientGone):
            return None
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                problem = _unforeseen(operation, error)
            return _problem_response(problem)

    def _wrong_method(self, method: str) -> Problem:
        allowed = ", ".join(sorted(self.operations))
        return Problem(
            _WRONG_METHOD, f"expected {allowed}, got {method[:20]}", headers={"Allow": allowed}
        )

    async def _call(self, operation: Operation, request: Request) -> Call:
        endpoint_id = request.path_params.get("endpoint_id", "")
        # An id that no endpoint can have: it never gets as far as the actors.
        if "endpoint_id" in request.path_params and not (
            0 < len(endpoint_id) <= MAX_ENDPOINT_ID and endpoint_id.isprintable()
        ):
            raise EndpointNotFound(endpoint_id[:MAX_ENDPOINT_ID])
        query = _read_query(operation, request.scope["query_string"])
        body: Any = {}
        size = 0
        if operation.streams == "body":
            _check_type(request, NDJSON)
        elif operation.body is not None:
            body, size = await self._read_body(operation, request)
        return Call(
            app=self._shared.app,
            timeout=self._shared.timeout,
            mounted_at=request.scope.get("root_path", ""),
            endpoint_id=endpoint_id,
            query=query,
            body=body,
            chunks=_chunks(request),
            gone=lambda: _gone(request.receive),
            size=size,
        )

    async def _read_body(self, operation: Operation, request: Request) -> tuple[Any, int]:
        """The JSON of the body with its defaults, and its size in bytes."""
        schema = operation.body
        assert schema is not None
        try:
            with anyio.fail_after(BODY_TIMEOUT):
                raw = await _read_bytes(request, self._shared.max_body)
        except TimeoutError:
            raise Problem(_TOO_SLOW, f"expected the body within {BODY_TIMEOUT:.0f} s") from None
        if not raw and not schema.get("required"):
            return accept(schema, {}, "body"), 0
        _check_type(request, "application/json")

        def read() -> Any:
            return accept(schema, parse(raw), "body")

        large = len(raw) >= THREAD_FROM
        return await anyio.to_thread.run_sync(read) if large else read(), len(raw)


# -- reading ---------------------------------------------------------------------------------------


def _read_query(operation: Operation, raw: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            raw.decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError:
        raise malformed("the query of the URL: expected parameters in UTF-8, got others") from None
    given: dict[str, list[str]] = {}
    for name, text in pairs:
        given.setdefault(name, []).append(text)
    for name in given:
        if name not in operation.query:
            known = ", ".join(operation.query) or "none"
            raise InvalidValue("query", f"parameters of {known}", ascii(name)[:80])
    for name in operation.required:
        if name not in given:
            raise InvalidValue(f"query.{name}", "a value", "none")
    defaults = {n: item["default"] for n, item in operation.query.items() if "default" in item}
    read = {n: from_text(operation.query[n], texts, f"query.{n}") for n, texts in given.items()}
    return {**defaults, **read}


def _check_type(request: Request, wanted: str) -> None:
    values = request.headers.getlist("content-type")
    got = values[0].partition(";")[0].strip().lower() if len(values) == 1 else ""
    if got != wanted:
        shown = ascii(got)[:80] if got else "none"
        raise Problem(_WRONG_TYPE, f"Content-Type: expected {wanted}, got {shown}")


async def _read_bytes(request: Request, limit: int) -> bytes:
    detail = f"expected a body of at most {limit} bytes, got a larger one"
    declared = request.headers.get("content-length", "")
    # So many digits are too many bytes, whatever they say.
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise Problem(_TOO_LARGE, detail, {"limit": limit})
    buffer = bytearray()
    async for chunk in request.stream():
        if len(buffer) + len(chunk) > limit:
            raise Problem(_TOO_LARGE, detail, {"limit": limit})
        buffer += chunk
    return bytes(buffer)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


# -- answering -------------------------------------------------------------------------------------


async def _response(operation: Operation, reply: Reply | Lines | Mapping[str, Any]) -> Response:
    if isinstance(reply, Lines):
        return StreamingResponse(_stream(reply), 200, _HEADERS, NDJSON)
    if not isinstance(reply, Reply):
        reply = Reply(reply)
    status = operation.status if reply.status is None else reply.status
    headers = {**_HEADERS, **reply.headers}
    content = reply.content
    if content is None:
        return Response(status_code=status, headers=headers)

    def make() -> bytes:
        return render(content() if callable(content) else content)

    large = reply.size >= THREAD_FROM
    body = await anyio.to_thread.run_sync(make) if large else make()
    return Response(body, status, headers, "application/json")


async def _stream(lines: Lines) -> AsyncIterator[bytes]:
    piece = lines.first
    try:
        while piece:
            yield piece
            piece = await anyio.to_thread.run_sync(next, lines.more, b"")
    except Exception as error:
        # Too late for another answer: that the dump is cut off shows, as its last line is missing.
        _log(error, "dump")


async def _not_found(request: Request, error: Exception) -> Response:
    return _problem_response(_NOT_FOUND)


def _problem_response(problem: Problem) -> Response:
    headers = {**_HEADERS, **problem.headers}
    return Response(render(problem.as_fields()), problem.kind.status, headers, PROBLEM)


def _unforeseen(operation: Operation | None, error: Exception) -> Problem:
    _log(error, operation.id if operation is not None else "")
    return Problem(_UNFORESEEN, "see the log of the server")


def _log(error: Exception, operation: str) -> None:
    """What and where, never with what text: there may be a secret in it."""
    traceback, line = error.__traceback__, ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        line = f"{code.co_filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    # A log that fails is no reason to fail the request.
    with contextlib.suppress(Exception):
        log.error("admin.failed", operation=operation, error=type(error).__name__, at=line)
