"""One service, started as often as you like, on as many machines: all work on one queue.

Run it several times, with the URL of a PostgreSQL or Valkey server that all of them reach:
``python examples/many_processes.py postgresql://user:password@db.example/inbox``
"""

from __future__ import annotations

import os
import socket
import sys

from pollin_actors import Application, Callback, Endpoint, Settings

NAME = f"{socket.gethostname()}/{os.getpid()}"


class Inbox(Application):
    """Says when it is up."""

    start_phases = ("announce",)

    def start_phase(self, phase: str) -> None:
        print(f"{NAME} works", flush=True)


def new_inbox(url: str, secret: str | None = None) -> Application:
    """The same in every process: who comes first makes the endpoint, all others find it."""
    inbox = Inbox(
        url,
        endpoints=[
            Endpoint.new(["received", "processed", "failed"], ttl=0, id="orders", secret=secret)
        ],
        settings=Settings(poll_interval=1.0),
    )

    @inbox.handler("orders", then="processed", dead_letter="failed", lease=30)
    def handle(order: Callback) -> None:
        # In one piece, because handlers run on several threads.
        print(f"{NAME} handles {order.id}\n", end="", flush=True)

    return inbox


def main(url: str) -> None:
    """Work until SIGTERM or SIGINT."""
    new_inbox(url, os.environ.get("ORDERS_SECRET")).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
