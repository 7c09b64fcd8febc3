"""A backend on Valkey with one endpoint, for tests that look at more than the conformance suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pollin_actors.backends.valkey import ValkeyBackend
from pollin_actors.backends.valkey.node import Node
from pollin_actors.messages import CreateEndpoint, Push
from pollin_actors.resources import Callback, Endpoint

__all__ = ["WAIT_S", "Inbox", "Sent"]

WAIT_S = 60.0


class Inbox:
    """A backend with one endpoint, ``orders``, and a clock that is set by hand.

    Arguments:
        url: of the store.
        ttl: the endpoint's, in milliseconds.
        endpoint: its other fields.
    """

    def __init__(self, url: str, ttl: int = 0, **endpoint: Any) -> None:
        self.now = 10**18
        self.url = url
        self.backend = self.open()
        self.do(CreateEndpoint(Endpoint.new(["received", "done"], ttl, id="orders", **endpoint)))

    def open(self, announce: Callable[[str | None, bool], None] | None = None) -> ValkeyBackend:
        """Another handle on the store, open."""
        backend = ValkeyBackend(self.url)
        if announce is not None:
            backend.announce_to(announce)
        backend.open(lambda: self.now)
        return backend

    def __enter__(self) -> Inbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.backend.close()

    def do(self, message: Any) -> Any:
        """The reply to a message."""
        return self.backend.execute(message).get(timeout=WAIT_S)

    def start(self, *ids: str, to: str = "orders") -> list[Any]:
        """The futures of pushes."""
        callbacks = [Callback.new(b"x", id=id) for id in ids]
        return [self.backend.execute(Push(to, one, None, True)) for one in callbacks]

    def push(self, *ids: str, to: str = "orders") -> list[str]:
        """The outcomes of pushes."""
        return [str(future.get(timeout=WAIT_S).outcome) for future in self.start(*ids, to=to)]


class Sent:
    """Notes how many commands were sent together, each time."""

    def __init__(self, monkeypatch: Any) -> None:
        self.groups: list[int] = []
        send = Node.send

        def spy(node: Node, commands: list[bytes]) -> None:
            self.groups.append(len(commands))
            send(node, commands)

        monkeypatch.setattr(Node, "send", spy)
