"""The receiver as a WSGI callable, for Flask, Django and other servers with threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, TypeAlias

from pollin_actors.application import Application
from pollin_actors.web.answers import BAD_REQUEST, LENGTH_REQUIRED, TOO_LARGE, Answer
from pollin_actors.web.receiver import Ack, reception_of
from pollin_actors.web.reception import BODY, OnReceived, Reception, Taking

__all__ = ["wsgi"]

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[[str, list[tuple[str, str]]], Any]
WSGIApp: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

PIECE = 64 * 1024

_STATUS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


def wsgi(
    app: Application,
    *,
    max_bytes: int | None = None,
    timeout: float = 1.5,
    ack: Ack = "durable",
    on_received: OnReceived | None = None,
) -> WSGIApp:
    """A WSGI application that puts what is POSTed into the inbox; mount it anywhere.

    It takes and answers as :func:`pollin_actors.web.asgi` does, with what WSGI leaves of a
    request: header names come in an order of the server's own and in lower case, with ``-`` for
    each ``_``; headers that were repeated come as one. The body comes as slowly as the server
    allows: a limit for that is a setting of the server. A body in chunks is answered 411 behind
    a server that does not put them together (``wsgi.input_terminated``).

    Any thread may call it. The application is neither started nor stopped here.

    Args:
        app, max_bytes, timeout, ack: as of ``asgi``.
        on_received: as of ``asgi``; called on the thread of the request.

    Raises:
        InvalidValue: an argument has a value that it cannot have.

    Example::

        flask_app.wsgi_app = DispatcherMiddleware(flask_app.wsgi_app, {"/hooks": wsgi(app)})
    """
    return _Receiver(app, reception_of(app, max_bytes, timeout, ack, on_received))


class _Receiver:
    __slots__ = ("_app", "_reception")

    def __init__(self, app: Application, reception: Reception) -> None:
        self._app = app
        self._reception = reception

    def __repr__(self) -> str:
        return f"<wsgi receiver of {self._app!r}>"

    def __call__(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        method = environ["REQUEST_METHOD"]
        if environ.get("wsgi.multiprocess"):
            self._reception.warn()
        status, headers, body = self._answer(method, environ)
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        start_response(_STATUS[status], pairs)
        return [b"" if method == "HEAD" else body]

    def _answer(self, method: str, environ: Environ) -> Answer:
        try:
            # As WSGI has it, a text of bytes.
            path = environ.get("PATH_INFO", "").encode("latin-1").decode()
            query = environ.get("QUERY_STRING", "").encode("latin-1")
            headers = _headers(environ)
        except (UnicodeError, AttributeError):
            return BAD_REQUEST
        return self._drive(self._reception.take(method, path, query, headers), environ)

    def _drive(self, taking: Taking, environ: Environ) -> Answer:
        """Give a request what it needs until it is answered."""
        try:
            wanted = next(taking)
            while True:
                if wanted is BODY:
                    wanted = taking.send(_read_body(environ, self._reception.limit))
                    continue
                try:
                    value = wanted.get()
                except Exception as error:
                    wanted = taking.throw(error)
                else:
                    wanted = taking.send(value)
        except StopIteration as stop:
            answer: Answer = stop.value
            return answer


def _headers(environ: Environ) -> list[tuple[bytes, bytes]]:
    pairs = []
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            key = name[5:]
            if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                continue  # it is without HTTP_ that the server itself goes by it
        elif name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            key = name
        else:
            continue
        pairs.append((key.replace("_", "-").lower().encode("latin-1"), value.encode("latin-1")))
    return pairs


def _read_body(environ: Environ, limit: int) -> bytes | Answer:
    """The body; an answer if it is too large, or cannot be read to its end."""
    declared = environ.get("CONTENT_LENGTH") or ""
    if environ.get("wsgi.input_terminated"):
        left = limit + 1  # the server knows where it ends, also when it came in chunks
    elif declared:
        # Whatever was declared, no more than tells that it is too large.
        left = min(int(declared), limit + 1)
    elif environ.get("HTTP_TRANSFER_ENCODING"):
        return LENGTH_REQUIRED  # it has a body, which this server does not read to its end
    else:
        return b""
    read = environ["wsgi.input"].read
    pieces = bytearray()
    try:
        while left > 0 and (piece := read(min(left, PIECE))):
            pieces += piece
            left -= len(piece)
    except Exception:
        # The sender has gone, or its chunks are malformed: each server has errors of its own.
        return BAD_REQUEST
    if len(pieces) > limit:
        return TOO_LARGE
    if declared and len(pieces) < int(declared):
        return BAD_REQUEST
    return bytes(pieces)
