"""The receiver beside Django: as WSGI and as ASGI.

Run it: ``python examples/django_mount.py 8000``, then
``curl -i -d '{}' -H 'x-pollin-secret: change-me' http://127.0.0.1:8000/hooks/orders``
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIServer, make_server

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from pollin_actors import Application, Endpoint, web

PREFIX = "/hooks"


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Django's own")


urlpatterns = [path("", home)]


def configure() -> None:
    """What a project has in its settings module."""
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="not a secret")
        django.setup()


def new_inbox() -> Application:
    orders = Endpoint.new(["received", "processed"], ttl=0, id="orders", secret="change-me")
    return Application(endpoints=[orders])


def wsgi_service(inbox: Application) -> Any:
    configure()
    hooks, site = web.wsgi(inbox), get_wsgi_application()

    def service(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if not path.startswith(f"{PREFIX}/"):
            return site(environ, start_response)
        environ["SCRIPT_NAME"] += PREFIX
        environ["PATH_INFO"] = path.removeprefix(PREFIX)
        return hooks(environ, start_response)

    return service


def asgi_service(inbox: Application) -> Any:
    configure()
    hooks, site = web.asgi(inbox), get_asgi_application()

    async def service(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":  # Django knows none: it is ours
            await lifespan(receive, send)
        elif scope["type"] == "http" and scope["path"].startswith(f"{PREFIX}/"):
            await hooks({**scope, "root_path": PREFIX}, receive, send)
        else:
            await site(scope, receive, send)

    async def lifespan(receive: Any, send: Any) -> None:
        await receive()
        # Starting and stopping wait for threads: not on the event loop.
        await asyncio.to_thread(inbox.start)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(inbox.stop)
        await send({"type": "lifespan.shutdown.complete"})

    return service


class Server(ThreadingMixIn, WSGIServer):
    """The standard library's, with a thread for each request."""


def main(port: int = 8000) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        new_inbox() as inbox,
        make_server("127.0.0.1", port, wsgi_service(inbox), Server) as server,
        suppress(KeyboardInterrupt),
    ):
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
    print("stopped", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
