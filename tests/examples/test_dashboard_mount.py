"""examples/dashboard_mount.py: the dashboard beside the receiver, if there is a token for it."""

from __future__ import annotations

import asyncio

import httpx
from starlette.applications import Starlette

from examples import dashboard_mount

TOKEN = "a-token-of-the-tests-only"


async def asked(host: Starlette, path: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=host)
    async with (
        host.router.lifespan_context(host),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        return await client.get(path, headers=headers)


def test_it_asks_for_the_token() -> None:
    """It is there, and its pages are behind a login."""
    host = dashboard_mount.service(dashboard_mount.new_inbox(), TOKEN)
    answer = asyncio.run(asked(host, "/dashboard/"))
    assert answer.headers["location"] == "/dashboard/login"
    answer = asyncio.run(asked(host, "/dashboard/login"))
    assert "Token of the dashboard" in answer.text


def test_without_a_token_there_is_none() -> None:
    """Nothing is mounted then."""
    host = dashboard_mount.service(dashboard_mount.new_inbox(), None)
    assert asyncio.run(asked(host, "/dashboard/")).status_code == 404


def test_the_host_says_who_may_see_it() -> None:
    """Its own users come in without a login; others do not."""
    inbox = dashboard_mount.new_inbox()
    with inbox:
        host = Starlette(routes=[dashboard_mount.for_users_of_the_host(inbox)])
        pages = {
            team: asyncio.run(asked(host, "/dashboard/endpoints/orders", **{"x-team": team}))
            for team in ("operations", "support", "sales")
        }
    assert "Rotate" in pages["operations"].text
    assert pages["support"].status_code == 200
    assert "Rotate" not in pages["support"].text
    assert pages["sales"].status_code == 403
