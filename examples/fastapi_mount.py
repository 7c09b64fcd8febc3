"""The receiver mounted in a FastAPI service (and in a Starlette one).

Run it: ``python examples/fastapi_mount.py 8000``, then
``curl -i -d '{}' -H 'x-pollin-secret: change-me' http://127.0.0.1:8000/hooks/orders``
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from pollin_actors import Application, Endpoint, web


def new_inbox() -> Application:
    orders = Endpoint.new(["received", "processed"], ttl=0, id="orders", secret="change-me")
    return Application(endpoints=[orders])


def fastapi_service(inbox: Application) -> FastAPI:
    @asynccontextmanager
    async def lifespan(service: FastAPI) -> AsyncIterator[None]:
        # Starting and stopping wait for threads: not on the event loop.
        await asyncio.to_thread(inbox.start)
        try:
            yield
        finally:
            await asyncio.to_thread(inbox.stop)

    service = FastAPI(lifespan=lifespan)
    service.mount("/hooks", web.asgi(inbox))

    @service.get("/queued/{endpoint_id}")
    async def queued(endpoint_id: str) -> dict[str, int]:
        return {"queued": await inbox.callbacks.count(endpoint_id)}

    return service


def starlette_service(inbox: Application) -> Starlette:
    @asynccontextmanager
    async def lifespan(service: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(inbox.start)
        try:
            yield
        finally:
            await asyncio.to_thread(inbox.stop)

    async def queued(request: Request) -> JSONResponse:
        count = await inbox.callbacks.count(request.path_params["endpoint_id"])
        return JSONResponse({"queued": count})

    routes = [Mount("/hooks", web.asgi(inbox)), Route("/queued/{endpoint_id}", queued)]
    return Starlette(routes=routes, lifespan=lifespan)


def main(port: int = 8000) -> None:
    """Serve until Ctrl-C."""
    uvicorn.run(fastapi_service(new_inbox()), host="127.0.0.1", port=port)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
