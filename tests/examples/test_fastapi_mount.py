"""examples/fastapi_mount.py: the receiver mounted in a host that starts and stops the inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from examples import fastapi_mount
from pollin_actors import Application, State
from tests.examples.programs import post, serve

RIGHT = {"x-pollin-secret": "change-me"}

Service = Callable[[Application], Starlette]


@pytest.mark.parametrize(
    "service", [fastapi_mount.fastapi_service, fastapi_mount.starlette_service]
)
def test_the_host_runs_the_inbox_and_routes_ask_it(service: Service) -> None:
    """Within the host's lifespan requests are queued and routes can count them; after it, it is
    stopped."""
    inbox = fastapi_mount.new_inbox()
    host = service(inbox)

    async def scenario() -> None:
        transport = httpx.ASGITransport(app=host)
        async with (
            host.router.lifespan_context(host),
            httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        ):
            answer = await client.post("/hooks/orders", content=b"{}", headers=RIGHT)
            assert answer.status_code == 200
            assert answer.json()["outcome"] == "queued"
            assert (await client.post("/hooks/orders", content=b"{}")).status_code == 401
            assert (await client.post("/hooks/refunds", content=b"{}")).status_code == 404
            assert (await client.get("/queued/orders")).json() == {"queued": 1}

    asyncio.run(scenario())
    assert inbox.state is State.STOPPED


def test_a_fastapi_service_is_one() -> None:
    """The first of the two is FastAPI, so its routes stand in the generated description."""
    service = fastapi_mount.fastapi_service(fastapi_mount.new_inbox())
    assert isinstance(service, FastAPI)
    assert "/queued/{endpoint_id}" in service.openapi()["paths"]


def test_it_serves_as_a_program_and_stops_at_sigterm() -> None:
    """A real request is answered 200; SIGTERM ends the program in order."""
    with serve("fastapi_mount") as server:
        assert post(f"{server.url}/hooks/orders", b"{}", RIGHT) == 200
        server.stop()
        assert "Application shutdown complete" in server.printed
