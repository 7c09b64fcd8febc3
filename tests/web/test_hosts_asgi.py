"""The receiver mounted in ASGI frameworks, behind a real server that runs their lifespan."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from hypercorn.middleware import DispatcherMiddleware
from litestar import Litestar, get
from litestar import asgi as mounted
from quart import Quart
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from pollin_actors import Application, State
from pollin_actors.web import asgi
from tests.web.calls import SECRET, Exchange, endpoint, queued

RIGHT = {"X-Pollin-Secret": SECRET}
BODY = bytes(range(256)) * 300


def starlette(inbox: Application) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(host: Starlette) -> AsyncIterator[None]:
        with inbox:
            yield

    home = Route("/", lambda request: PlainTextResponse("the host's"))
    return Starlette(lifespan=lifespan, routes=[home, Mount("/hooks", asgi(inbox))])


def fastapi(inbox: Application) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(host: FastAPI) -> AsyncIterator[None]:
        with inbox:
            yield

    host = FastAPI(lifespan=lifespan)
    host.get("/", response_class=PlainTextResponse)(lambda: "the host's")
    host.mount("/hooks", asgi(inbox))
    return host


def litestar(inbox: Application) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(host: Litestar) -> AsyncIterator[None]:
        with inbox:
            yield

    @get("/", media_type="text/plain")
    async def home() -> str:
        return "the host's"

    hooks = mounted("/hooks", is_mount=True, copy_scope=True)(asgi(inbox))
    return Litestar([home, hooks], lifespan=[lifespan])


def quart(inbox: Application) -> Any:
    host = Quart("host")

    @host.get("/")
    async def home() -> str:
        return "the host's"

    @host.while_serving
    async def run() -> AsyncGenerator[None, None]:
        with inbox:
            yield

    hooks: Any = asgi(inbox)
    return DispatcherMiddleware({"/hooks": hooks, "": host})


HOSTS: dict[str, Callable[[Application], Any]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": litestar,
    "quart": quart,
}


@contextlib.contextmanager
def running(host: Any) -> Iterator[str]:
    """Behind uvicorn, which tells the host when it starts and stops."""
    config = uvicorn.Config(host, ws="none", lifespan="on", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.parametrize("name", HOSTS)
def test_mounted_in_a_host_that_starts_and_stops_the_inbox(name: str) -> None:
    """A mounted application hears nothing of the lifespan: the host's own starts and stops the
    inbox. Its pages are left alone, and what is sent below the mount arrives as it was sent."""
    inbox = Application(endpoints=[endpoint(), endpoint("größe-50%")])
    with running(HOSTS[name](inbox)) as url:
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            assert client.get("/").text == "the host's"
            for path in ("orders", "gr%C3%B6%C3%9Fe-50%25"):
                answer = client.post(f"/hooks/{path}", content=BODY, headers=RIGHT)
                assert (answer.status_code, answer.json()["outcome"]) == (200, "queued")
            assert client.post("/hooks/orders", content=iter([BODY])).status_code == 401
            chunked = client.post("/hooks/orders", content=iter([b"a", b"b"]), headers=RIGHT)
            assert chunked.status_code == 200
            assert client.post("/hooks/gone", content=b"x", headers=RIGHT).status_code == 404
            assert client.get("/hooks/orders").status_code == 405
            assert client.get("/hooks/healthz").json() == {"status": "ok"}
        bodies = [callback.request.body for callback in queued(inbox)]
        assert bodies == [BODY, b"ab"]
        [callback] = queued(inbox, "größe-50%")
        assert callback.request.body == BODY
    assert inbox.state is State.STOPPED


def test_a_host_that_never_starts_the_inbox_answers_503() -> None:
    """Nothing is lost silently: senders try again, and the health says why."""
    inbox = Application(endpoints=[endpoint()])
    host = Starlette(routes=[Mount("/hooks", asgi(inbox))])
    with running(host) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        answer = client.post("/hooks/orders", content=b"x", headers=RIGHT)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert client.get("/hooks/healthz").json() == {"status": "not started"}


@pytest.mark.parametrize("raw", [b"/orders/", b"/orders%2F", b"/orders%2f"])
def test_a_slash_that_was_sent_is_no_slash_of_the_host(raw: bytes) -> None:
    """However it was written: an endpoint has one path, which proxies and their rules go by."""
    request = Exchange("/orders/")
    request.scope["raw_path"] = raw
    with Application(endpoints=[endpoint()]) as app:
        asyncio.run(request.through(asgi(app)))
    assert request.status == 404
