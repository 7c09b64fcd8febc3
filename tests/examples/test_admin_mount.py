"""examples/admin_mount.py: the admin API beside the receiver, if there is a token for it."""

from __future__ import annotations

import asyncio

import httpx

from examples import admin_mount
from pollin_actors import Application, Callback

TOKEN = "a-token-of-the-tests-only"


async def asked(inbox: Application, token: str | None) -> tuple[int, list[str]]:
    host = admin_mount.service(inbox, token)
    transport = httpx.ASGITransport(app=host)
    async with (
        host.router.lifespan_context(host),
        httpx.AsyncClient(
            transport=transport,
            base_url="http://service/admin/",
            headers={"authorization": f"Bearer {TOKEN}"},
        ) as client,
    ):
        status = (await client.get("endpoints")).status_code
        if status != 200:
            return status, []
        for number in range(250):
            await inbox.callbacks.push("orders", Callback.new(None, id=str(number)))
        return status, await admin_mount.all_queued(client, "orders")


def test_it_reads_all_pages() -> None:
    """What is queued is listed, a page after the other."""
    status, found = asyncio.run(asked(admin_mount.new_inbox(), TOKEN))
    assert status == 200
    assert found == [str(number) for number in range(250)]


def test_without_a_token_there_is_none() -> None:
    """Nothing is mounted then."""
    assert asyncio.run(asked(admin_mount.new_inbox(), None)) == (404, [])
