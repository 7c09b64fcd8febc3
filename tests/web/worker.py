"""The receiver as each worker process of a server imports it."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Any

from pollin_actors import Application
from pollin_actors.web import asgi, wsgi
from tests.web.calls import endpoint

__all__ = ["application", "main"]

inbox = Application(os.environ.get("INBOX", "memory://"), endpoints=[endpoint()])
_hooks = asgi(inbox)


async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """The receiver, and a lifespan that starts and stops the inbox, as a host has."""
    if scope["type"] != "lifespan":
        await _hooks(scope, receive, send)
        return
    await receive()
    inbox.start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    inbox.stop()
    await send({"type": "lifespan.shutdown.complete"})


main = wsgi(inbox)


def post_fork(server: object, worker: object) -> None:
    """As gunicorn calls it, in each worker."""
    inbox.start()
