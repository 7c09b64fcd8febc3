"""The metrics as a page: for ASGI and WSGI, for Prometheus and OpenMetrics."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from pollin_actors import Application, Callback, InvalidValue, MissingExtra
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import Stats
from pollin_actors.otp import ReplyFuture
from pollin_actors.telemetry import PrometheusMetrics
from pollin_actors.web import metrics, wsgi_metrics
from tests.telemetry.scraping import OPENMETRICS, parsed
from tests.web.calls import Exchange, endpoint


def get(app: Application, accept: str = "", method: str = "GET") -> Exchange:
    headers = [(b"accept", accept.encode())] if accept else []
    return asyncio.run(Exchange("/metrics", headers, method=method).through(metrics(app)))


def get_wsgi(app: Application, accept: str = "", method: str = "GET") -> tuple[str, Any, bytes]:
    started: list[Any] = []
    environ = {"REQUEST_METHOD": method, "HTTP_ACCEPT": accept}
    body = b"".join(wsgi_metrics(app)(environ, lambda *args: started.extend(args)))
    return started[0], dict(started[1]), body


async def call(page: Any, *args: Any) -> None:
    await page(*args)


def test_it_gives_what_there_is(app: Application) -> None:
    """As text, and with its length; both callables find the same metrics."""
    app.callbacks.push("orders", Callback.new(b"")).get()
    first = get(app)
    assert first.status == 200
    assert first.headers[b"content-type"].startswith(b"text/plain; version=")
    assert first.headers[b"content-length"] == b"%d" % len(first.body)
    assert first.headers[b"cache-control"] == b"no-store"
    app.callbacks.push("orders", Callback.new(b"")).get()
    status, headers, body = get_wsgi(app)
    assert status == "200 OK"
    assert headers["content-length"] == str(len(body))
    seen = parsed(body)
    assert seen.value("pollin_up") == 1
    assert seen.value("pollin_queued_callbacks", endpoint="orders", phase="received") == 2
    # They are counted since the page was made.
    assert seen.value("pollin_pushes_total", endpoint="orders", outcome="queued") == 1


def test_openmetrics_to_who_asks_for_it(app: Application) -> None:
    answer = get(app, OPENMETRICS)
    assert answer.headers[b"content-type"].startswith(b"application/openmetrics-text")
    assert parsed(answer.body, OPENMETRICS).value("pollin_up") == 1
    assert parsed(get_wsgi(app, OPENMETRICS)[2], OPENMETRICS).value("pollin_up") == 1


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=x",
        "application/openmetrics-text; version=1..0",
        "text/plain; version=",
        "text/plain; version=abc; escaping=",
        ";=;,,;q=x;version",
        "\u00a0",
    ],
)
def test_whatever_is_accepted(app: Application, accept: str) -> None:
    """Who asks for what there is not gets what everybody understands, and no server an error."""
    assert parsed(get(app, accept).body).value("pollin_up") == 1
    assert parsed(get_wsgi(app, accept)[2]).value("pollin_up") == 1


def test_all_of_the_registry_is_given(app: Application) -> None:
    """The host's own metrics, too, if it has chosen the registry."""
    registry = CollectorRegistry()
    Counter("own", "the host's", registry=registry).inc()
    PrometheusMetrics(app, registry=registry)
    body = get(app).body
    assert b"own_total 1.0" in body
    assert b"pollin_up 1.0" in body


def test_methods(app: Application) -> None:
    """HEAD has no body; others are refused."""
    head = get(app, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers[b"content-length"]) > 0
    assert get(app, method="POST").status == 405
    assert get_wsgi(app, method="HEAD")[2] == b""
    status, headers, _ = get_wsgi(app, method="DELETE")
    assert status.startswith("405")
    assert headers["allow"] == "GET, HEAD"


def test_an_application_that_does_not_run() -> None:
    """The page answers all the same, and says so."""
    app = Application(endpoints=[endpoint("orders")])
    answer = get(app)
    assert answer.status == 200
    assert parsed(answer.body).value("pollin_up") == 0


def test_the_event_loop_goes_on(app: Application) -> None:
    """While the backend keeps a scrape waiting, the loop does other things: it is another request
    that has the answer given."""

    class Slow(MemoryBackend):
        replies: list[ReplyFuture[Any]]

        def execute(self, message: Any) -> Any:
            if not isinstance(message, Stats):
                return super().execute(message)
            reply: ReplyFuture[Any] = ReplyFuture()
            self.replies.append(reply)
            asked.set()
            return reply

    backend, asked = Slow(), threading.Event()
    backend.replies = []
    with Application(backend, endpoints=[endpoint("orders")]) as slow:
        PrometheusMetrics(slow, registry=CollectorRegistry(), timeout=60.0)
        page = metrics(slow)

        async def scrapes() -> Exchange:
            scrape = asyncio.ensure_future(Exchange(method="GET").through(page))
            await asyncio.to_thread(asked.wait, 60)
            assert not scrape.done()
            for reply in backend.replies:
                reply.set(MemoryBackend.execute(backend, Stats("orders")))
            return await scrape

        assert parsed(asyncio.run(scrapes()).body).value("pollin_up") == 1


def test_a_scraper_that_leaves(app: Application) -> None:
    """A server may say so by an OSError."""

    async def send(message: Any) -> None:
        raise OSError

    exchange = Exchange(method="GET", headers=[])
    asyncio.run(call(metrics(app), exchange.scope, exchange.receive, send))


def test_what_else_a_server_sends(app: Application) -> None:
    """A lifespan is gone through, a websocket is closed, anything else is a mistake."""
    page = metrics(app)
    sent: list[Any] = []
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(call(page, {"type": "lifespan"}, receive, send))
    asyncio.run(call(page, {"type": "websocket"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]
    with pytest.raises(InvalidValue, match="scope"):
        asyncio.run(call(page, {"type": "smtp"}, receive, send))


def test_without_the_package(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which extra brings it."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    for page in (metrics, wsgi_metrics):
        with pytest.raises(MissingExtra, match=r"pollin-actors\[prometheus\]"):
            page(app)
