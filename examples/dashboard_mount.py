"""The dashboard beside the receiver, under a prefix of its own, and off unless a token is set.

Run it: ``DASHBOARD_TOKEN=$(python -c 'import secrets; print(secrets.token_urlsafe(32))')``, then
``DASHBOARD_TOKEN=$DASHBOARD_TOKEN python examples/dashboard_mount.py 8000``, and log in at
``http://127.0.0.1:8000/dashboard/``
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
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
        routes.append(Mount("/dashboard", web.dashboard(inbox, token=token)))
    return Starlette(routes=routes, lifespan=lifespan)


def role_of(request: Request) -> str | None:
    """What somebody whom the host knows may do; None: nothing."""
    roles = {"operations": "write", "support": "read"}
    # Something in front has verified who it is, and set the header.
    return roles.get(request.headers.get("x-team", ""))


def for_users_of_the_host(inbox: Application) -> Mount:
    return Mount("/dashboard", web.dashboard(inbox, authenticate=role_of))


def main(port: int = 8000) -> None:
    """Serve until Ctrl-C."""
    host = service(new_inbox(), os.environ.get("DASHBOARD_TOKEN"))
    # Live pages are streams: those who look at one are not waited for at the end.
    uvicorn.run(host, host="127.0.0.1", port=port, timeout_graceful_shutdown=3)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
