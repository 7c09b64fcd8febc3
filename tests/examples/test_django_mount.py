"""examples/django_mount.py: the receiver beside Django, as WSGI and as ASGI."""

from __future__ import annotations

import asyncio

import httpx

from examples import django_mount
from pollin_actors import State
from tests.examples.programs import post, serve
from tests.web.served import served

RIGHT = {"x-pollin-secret": "change-me"}


def ask(client: httpx.Client) -> None:
    """The host's pages and the receiver's answers, each in its place."""
    assert client.get("/").text == "Django's own"
    assert client.post("/hooks/orders", content=b"{}", headers=RIGHT).json()["outcome"] == "queued"
    assert client.post("/hooks/orders", content=b"{}").status_code == 401
    assert client.post("/hooks/refunds", content=b"{}", headers=RIGHT).status_code == 404
    assert client.post("/orders", content=b"{}", headers=RIGHT).status_code == 404
    assert client.get("/hooks/healthz").json() == {"status": "ok"}


def test_wsgi_beside_django() -> None:
    """Django's handler and the receiver get the paths that are theirs."""
    with django_mount.new_inbox() as inbox:
        transport = httpx.WSGITransport(app=django_mount.wsgi_service(inbox))
        with httpx.Client(transport=transport, base_url="http://site") as client:
            ask(client)
        assert inbox.callbacks.count("orders").get() == 1


def test_asgi_beside_django_under_uvicorn() -> None:
    """The same behind a real server, with the receiver's requests on its event loop."""
    with django_mount.new_inbox() as inbox:
        service = django_mount.asgi_service(inbox)
        with (
            served(service, "httptools") as url,
            httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
        ):
            ask(client)
        assert inbox.callbacks.count("orders").get() == 1


def test_its_lifespan_starts_and_stops_the_inbox() -> None:
    """Django has no lifespan, so the function that is served has one."""
    inbox = django_mount.new_inbox()
    service = django_mount.asgi_service(inbox)
    told = iter(["lifespan.startup", "lifespan.shutdown"])
    states: list[tuple[str, State]] = []

    async def receive() -> dict[str, str]:
        return {"type": next(told)}

    async def send(message: dict[str, str]) -> None:
        states.append((message["type"], inbox.state))

    asyncio.run(service({"type": "lifespan"}, receive, send))
    assert states == [
        ("lifespan.startup.complete", State.RUNNING),
        ("lifespan.shutdown.complete", State.STOPPED),
    ]


def test_it_serves_as_a_program_and_stops_at_sigterm() -> None:
    """A real request is answered 200; SIGTERM ends the program in order."""
    with serve("django_mount") as server:
        assert post(f"{server.url}/hooks/orders", b"{}", RIGHT) == 200
        assert server.stop() == 0
        assert server.printed.endswith("stopped\n")
