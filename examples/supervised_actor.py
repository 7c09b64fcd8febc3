"""Actors of your own beside the inbox: one that crashes and comes back, one that never waits.

Run it: ``python examples/supervised_actor.py``
"""

from __future__ import annotations

import sys
import threading
from typing import Any, NamedTuple

import structlog

from pollin_actors import Application
from pollin_actors.otp import Actor, BlockingActor, ChildSpec, Later


class Gateway:
    """Stands for a service elsewhere that is reachable or not."""

    def __init__(self) -> None:
        self.reachable = threading.Event()
        self.reachable.set()
        self.connections = 0

    def connect(self) -> int:
        """Wait until it is reachable; return the connection's number."""
        self.reachable.wait()
        self.connections += 1
        return self.connections

    def send(self, parcel: str) -> None:
        if not self.reachable.is_set():
            raise ConnectionError(f"{parcel} was not sent")


class Deliver(NamedTuple):
    """Deliver a parcel. Reply: what became of it, a str. Errors: ``NothingToDeliver``."""

    parcel: str


class NothingToDeliver(Exception):
    """The parcel has no name."""


class Courier(BlockingActor):
    """Waits for the network, so it has a thread of its own. A lost connection crashes it."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self.gateway = gateway
        self.connection = 0

    def on_start(self) -> None:
        self.connection = self.gateway.connect()

    def on_receive(self, message: Any) -> str:
        self.gateway.send(message.parcel)
        return f"{message.parcel} went by connection {self.connection}"


class Desk(Actor):
    """Checks a message and hands it on. It waits for nothing, so any asking thread may run it."""

    never_blocks = True
    replies = (NothingToDeliver,)

    def __init__(self, app: Application) -> None:
        super().__init__()
        self.app = app

    def on_receive(self, message: Any) -> Later:
        if not message.parcel:
            raise NothingToDeliver("a parcel needs a name")
        return Later(self.app.ask("courier", message))


def main() -> None:
    gateway = Gateway()
    courier = ChildSpec(id="courier", name="courier", start=lambda: Courier(gateway))
    with Application(children=[courier]) as app:
        desk = ChildSpec(id="desk", name="desk", start=lambda: Desk(app))
        app.start_child(desk).get()

        print(app.ask("desk", Deliver("a book")).get())
        try:
            app.ask("desk", Deliver("")).get()
        except NothingToDeliver as error:
            print("refused:", error)

        gateway.reachable.clear()
        try:
            app.ask("desk", Deliver("a lamp")).get()
        except ConnectionError as error:
            print("crashed:", error)
        # The courier is being restarted: this message waits for its next incarnation.
        chair = app.ask("desk", Deliver("a chair"))
        gateway.reachable.set()
        print(chair.get())


if __name__ == "__main__":
    # Where the log goes is for the program to say: no library does.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    main()
