"""The admin API beside the receiver, under a prefix of its own, and off unless a token is set.

Run it: ``ADMIN_TOKEN=$(python -c 'import secrets; print(secrets.token_urlsafe(32))')``, then
``ADMIN_TOKEN=$ADMIN_TOKEN python examples/admin_mount.py 8000`` and
``curl -H "Authorization: Bearer $ADMIN_TOKEN" http://127.0.0.1:8000/admin/endpoints``
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from pollin_actors import Application, Endpoint, web


def new_inbox() -> Application:
    return Application(endpoints=[Endpoint.new(ttl=0, id="orders", secret="change-me")])


def service(inbox: Application, token: str | None) -> Starlette:
    @asynccontextmanager
    async def lifespan(service: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(inbox.start)
        try:
            yield
        finally:
            await asyncio.to_thread(inbox.stop)

    routes = [Mount("/hooks", web.asgi(inbox))]
    if token is not None:
        routes.append(Mount("/admin", web.admin(inbox, token=token)))
    return Starlette(routes=routes, lifespan=lifespan)


async def all_queued(client: httpx.AsyncClient, endpoint_id: str) -> list[str]:
    """The ids of all that is queued, read a page at a time."""
    found: list[str] = []
    query: dict[str, str | int] = {"limit": 100}
    while True:
        answer = await client.get(f"endpoints/{endpoint_id}/callbacks", params=query)
        page = answer.raise_for_status().json()
        found += [callback["id"] for callback in page["callbacks"]]
        if page["next"] is None:
            return found
        query["cursor"] = page["next"]


def main(port: int = 8000) -> None:
    """Serve until Ctrl-C."""
    host = service(new_inbox(), os.environ.get("ADMIN_TOKEN"))
    uvicorn.run(host, host="127.0.0.1", port=port)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
