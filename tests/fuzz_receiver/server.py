"""The server that is tested: a receiver under uvicorn, in a process of its own.

It is given its settings as one line of JSON on standard input and prints its port. Then it answers
each line ``look`` with a line of JSON: what it has stored since, which it forgets; what is in
quarantine; how large it is; what its log says of trouble. It ends with its input.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import socket
import sys
import threading
import zlib
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from pollin_actors import Application, Callback
from pollin_actors.web import asgi, quarantine_of
from tests.fuzz_receiver.senders import LATER, senders, special_endpoints

__all__ = ["BODY_TIMEOUT_S", "LIMIT", "MARKER"]

LIMIT = 20_000
"""Bytes of the largest body that is taken."""
BODY_TIMEOUT_S = 2.0
MARKER = re.compile(rb"marker-[0-9]+-")

PAGE = 200


class Trouble(logging.Handler):
    """Keeps what a log should never say."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            self.lines.append(logging.Formatter().format(record))

    def process(self, logger: object, name: str, event: MutableMapping[str, Any]) -> Any:
        """As structlog has it."""
        error = event.pop("exc_info", None)
        # What does not verify is rejected by the handler that verifies it: no error of ours.
        rejected = event.get("event") == "handler.dead" and event.get("reason") == "Reject"
        if (name in ("error", "critical", "exception") or error) and not rejected:
            self.lines.append(f"{event} {error!r}")
        raise structlog.DropEvent


class Inbox:
    """What the server holds."""

    def __init__(self, app: Application, trouble: Trouble) -> None:
        self._app = app
        self._trouble = trouble

    def look(self) -> dict[str, Any]:
        """See and take out all that there is, once what was taken unverified has been verified."""
        found: dict[str, Any] = {"stored": [], "quarantined": []}
        ids = {endpoint.id for endpoint in self._app.endpoints.index().get()}
        for endpoint_id in sorted(ids):
            if endpoint_id.endswith(LATER) and quarantine_of(endpoint_id) in ids:
                self._wait_until_verified(quarantine_of(endpoint_id))
        for endpoint_id in sorted(ids):
            kind = "quarantined" if endpoint_id.endswith(quarantine_of("")) else "stored"
            while page := self._app.callbacks.pop(endpoint_id, limit=PAGE, timeout=60).get():
                found[kind] += [_told(endpoint_id, callback) for callback in page]
        lines, self._trouble.lines = self._trouble.lines, []
        gc.collect()
        return {**found, "rss": _rss(), "trouble": lines}

    def _wait_until_verified(self, place: str) -> None:
        changed = threading.Event()
        forget = self._app._changes.watch(place, changed.set)
        try:
            while self._app.callbacks.count(place, phase="unverified").get():
                if not changed.wait(60):
                    self._trouble.lines.append(f"{place}: nothing is verified any more")
                    return
                changed.clear()
        finally:
            forget()


def _told(endpoint_id: str, callback: Callback) -> list[Any]:
    request = callback.request
    # What comes after it may have been joined to it.
    shown = MARKER.match((request.header("x-marker") or "").encode("latin-1"))
    inside = MARKER.search(request.body)
    return [
        endpoint_id,
        shown[0].decode() if shown else "",
        inside[0].decode() if inside else "",
        zlib.crc32(request.body),
    ]


def _rss() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _serve(server: uvicorn.Server, sock: socket.socket, inbox: Inbox) -> None:
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    while (await asyncio.to_thread(sys.stdin.readline)).strip() == "look":
        print(json.dumps(await asyncio.to_thread(inbox.look)), flush=True)
    server.should_exit = True
    await serving


def main() -> None:
    """Serve until standard input ends."""
    settings = json.loads(sys.stdin.readline())
    trouble = Trouble()
    logging.getLogger().addHandler(trouble)
    structlog.configure(processors=[trouble.process])
    everyone = senders(settings["secrets"])
    first = next(sender for sender in everyone if sender.name == "secret")
    endpoints = [endpoint for sender in everyone for endpoint in sender.endpoints()]
    endpoints += special_endpoints(first)
    with Application(settings["backend"], endpoints=endpoints) as app:
        receiver = asgi(app, max_bytes=LIMIT, body_timeout=BODY_TIMEOUT_S)
        config = uvicorn.Config(
            receiver,
            http=settings["http"],
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            timeout_keep_alive=60,
        )
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock:
            print(sock.getsockname()[1], flush=True)
            asyncio.run(_serve(uvicorn.Server(config), sock, Inbox(app, trouble)))


if __name__ == "__main__":
    main()
