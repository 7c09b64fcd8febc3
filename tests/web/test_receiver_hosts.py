"""The receiver inside its hosts: servers, mounts, lifespans, other protocols."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from pollin_actors import (
    Application,
    InvalidValue,
)
from pollin_actors.application import State
from pollin_actors.web import asgi
from tests.web.calls import SECRET, Exchange, endpoint, exchange, queued


class TestMounted:
    @pytest.mark.parametrize(
        ("path", "root_path", "status"),
        [
            ("/hooks/orders", "/hooks", 200),
            ("/orders", "/hooks", 200),  # a server that leaves the mount point out
            ("/a/b/orders", "/a/b", 200),
            ("/hooksorders", "/hooks", 404),
            ("/hooks", "/hooks", 404),
            ("/hooks/", "/hooks", 404),
            ("/hooks/healthz", "/hooks", 405),
            ("/hooks/hooks/orders", "/hooks", 404),
        ],
    )
    def test_the_mount_point_is_no_part_of_the_path(
        self, app: Application, path: str, root_path: str, status: int
    ) -> None:
        assert exchange(app, path, root_path=root_path).status == status

    def test_inside_starlette_the_host_owns_the_application(self) -> None:
        """The host's lifespan starts and stops it; requests reach the endpoint below the mount,
        and the host's own routes are left alone."""
        inbox = Application(endpoints=[endpoint()])

        @contextlib.asynccontextmanager
        async def lifespan(host: Starlette) -> AsyncIterator[None]:
            with inbox:
                yield

        host = Starlette(
            lifespan=lifespan,
            routes=[
                Route("/", lambda request: PlainTextResponse("the host's")),
                Mount("/hooks", app=asgi(inbox)),
            ],
        )

        async def requests() -> None:
            transport = httpx.ASGITransport(app=host)
            async with (
                host.router.lifespan_context(host),
                httpx.AsyncClient(transport=transport, base_url="http://host") as client,
            ):
                assert (await client.get("/")).text == "the host's"
                headers = {"Authorization": f"Bearer {SECRET}"}
                for path, status in [("/hooks/orders", 200), ("/hooks/gone", 404)]:
                    answer = await client.post(path, content=b"x", headers=headers)
                    assert answer.status_code == status
                refused = await client.post("/hooks/orders", content=b"x")
                assert refused.status_code == 401
                assert (await client.get("/hooks/healthz")).json() == {"status": "ok"}
                assert len(await inbox.callbacks.fetch("orders", limit=10)) == 1

        asyncio.run(requests())
        assert inbox.state is State.STOPPED


class TestThroughHttpx:
    def test_chunked_bodies_percent_encoding_and_repeated_headers(self, app: Application) -> None:
        """A client's request arrives as the client sent it."""
        app.endpoints.create(endpoint("größe-50%")).get()

        async def body() -> AsyncIterator[bytes]:
            yield b"one,"
            yield b"two"

        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(app=asgi(app))
            async with httpx.AsyncClient(transport=transport, base_url="http://inbox") as client:
                return await client.post(
                    "/gr%C3%B6%C3%9Fe-50%25",
                    content=body(),
                    headers=[("X-Pollin-Secret", SECRET), ("X-Tag", "b"), ("X-Tag", "a")],
                )

        answer = asyncio.run(request())

        [callback] = queued(app, "größe-50%")
        assert answer.status_code == 200
        assert answer.json() == {"id": callback.id, "outcome": "queued"}
        assert callback.request.body == b"one,two"
        assert callback.request.header_values("x-tag") == ["b", "a"]


class TestOtherScopes:
    def test_lifespan_is_answered_and_the_application_left_alone(self) -> None:
        app = Application()

        async def lifespan() -> list[str]:
            events = iter(["lifespan.startup", "lifespan.shutdown"])
            sent: list[str] = []

            async def receive() -> dict[str, str]:
                return {"type": next(events)}

            async def send(message: Any) -> None:
                sent.append(message["type"])

            await asgi(app)({"type": "lifespan"}, receive, send)
            return sent

        sent = asyncio.run(lifespan())

        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert app.state is State.NEW

    def test_a_websocket_is_closed(self, app: Application) -> None:
        request = Exchange()
        request.scope["type"] = "websocket"
        asyncio.run(request.through(asgi(app)))

        assert [message["type"] for message in request.sent] == ["websocket.close"]

    def test_what_is_unknown_is_refused_as_asgi_wants_it(self, app: Application) -> None:
        request = Exchange()
        request.scope["type"] = "carrier-pigeon"
        with pytest.raises(InvalidValue, match="carrier-pigeon"):
            asyncio.run(request.through(asgi(app)))


def test_answers_share_nothing_that_middleware_could_change(app: Application) -> None:
    """A header that middleware adds to one answer is not in the next."""
    first = exchange(app, "/gone")
    first.sent[0]["headers"].append((b"x-added", b"1"))

    assert b"x-added" not in exchange(app, "/gone").headers


def test_its_repr_says_whose_it_is(app: Application) -> None:
    assert "Application" in repr(asgi(app))
