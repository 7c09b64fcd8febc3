"""An ASGI callable behind a real server, on a free port of this machine."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn

__all__ = ["served"]


@contextlib.contextmanager
def served(application: Any, http: str, port: int = 0, grace: int | None = None) -> Iterator[str]:
    """Serve in a thread; the value is the URL. Requests are accepted from the start.

    Arguments:
        application: the ASGI callable.
        http: uvicorn's implementation of HTTP: ``h11`` or ``httptools``.
        port: to listen on; 0: any that is free.
        grace: seconds that requests have to end when it stops; None: they are waited for.
    """
    config = uvicorn.Config(
        application,
        http=http,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=grace,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", port)) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()
