"""The metrics as a page to be scraped: bare callables, for ASGI and for WSGI."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from pollin_actors.application import Application
from pollin_actors.errors import InvalidValue
from pollin_actors.telemetry.prometheus import PrometheusMetrics, metrics_of
from pollin_actors.web.answers import HEALTH_METHODS, Answer
from pollin_actors.web.receiver import ASGIApp, Receive, Scope, Send, serve_lifespan

__all__ = ["metrics", "wsgi_metrics"]

WSGIApp: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_STATUS = {200: "200 OK", 405: "405 Method Not Allowed"}


def metrics(app: Application) -> ASGIApp:
    """An ASGI application that answers a scrape, as text for Prometheus or as OpenMetrics.

    It gives all of the registry in which the application's :class:`PrometheusMetrics` are; if it
    has none, they are made, in a registry of their own. The event loop is never blocked.

    Who may see it is the host's business: it tells which endpoints there are, and how much they
    have to do. Mount it where strangers do not come.

    Args:
        app: the application.

    Raises:
        MissingExtra: ``prometheus_client`` is not installed.

    Example::

        routes = [Route("/metrics", metrics(app))]
    """
    return _Page(metrics_of(app))


def wsgi_metrics(app: Application) -> WSGIApp:
    """The same as a WSGI application.

    Args:
        app: the application.

    Raises:
        MissingExtra: ``prometheus_client`` is not installed.
    """
    return _WsgiPage(metrics_of(app))


def _answer(metrics: PrometheusMetrics, method: str, accept: str) -> Answer:
    if method not in ("GET", "HEAD"):
        return HEALTH_METHODS
    body, content_type = metrics.render(accept)
    headers = (
        (b"content-type", content_type.encode("latin-1")),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    )
    return Answer(200, headers, body)


class _Page:
    __slots__ = ("_metrics",)

    def __init__(self, metrics: PrometheusMetrics) -> None:
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            accept = _accepted(scope["headers"])
            method = scope["method"]
            # Looking waits for the backend, and rendering takes its time: not on the loop.
            answer = await asyncio.to_thread(_answer, self._metrics, method, accept)
            status, headers, body = answer
            # A server may say by an OSError that the scraper has gone.
            with contextlib.suppress(OSError):
                await send({"type": "http.response.start", "status": status, "headers": [*headers]})
                body = b"" if method == "HEAD" else body
                await send({"type": "http.response.body", "body": body})
        elif kind == "lifespan":
            await serve_lifespan(receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise InvalidValue("scope['type']", "http, websocket or lifespan", repr(kind))


class _WsgiPage:
    __slots__ = ("_metrics",)

    def __init__(self, metrics: PrometheusMetrics) -> None:
        self._metrics = metrics

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        status, headers, body = _answer(self._metrics, method, environ.get("HTTP_ACCEPT", ""))
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        start_response(_STATUS[status], pairs)
        return [b"" if method == "HEAD" else body]


def _accepted(headers: Iterable[tuple[bytes, bytes]]) -> str:
    return ",".join(value.decode("latin-1") for name, value in headers if name == b"accept")
