"""A backend in memory with one endpoint and a clock that is set by hand."""

from __future__ import annotations

from typing import Any

from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import CreateEndpoint, FetchSlice, Push
from pollin_actors.resources import Callback, Endpoint
from tests.backends.invariants import check_backend

__all__ = ["MS", "SECOND", "Inbox"]

MS = 1_000_000
SECOND = 1000 * MS


class Inbox:
    """A backend with one endpoint, ``orders``, and a clock that is set by hand."""

    def __init__(
        self, ttl: int = 1000, dedup_for: float = 10.0, kept: int = 10_000, **endpoint: Any
    ) -> None:
        self.now = 10**18
        self.backend = MemoryBackend(kept=kept)
        self.backend.open(lambda: self.now)
        self.endpoint = Endpoint.new(
            ["received", "processed"],
            ttl,
            id="orders",
            secret="s",
            dedup_for=dedup_for,
            **endpoint,
        )
        self.do(CreateEndpoint(self.endpoint))

    def do(self, message: Any) -> Any:
        return self.backend.execute(message)

    def push(self, *ids: str, phase: str = "", **more: Any) -> list[str]:
        results = [
            self.do(Push("orders", Callback.new(b"x", id=id, phase=phase, **more), trusted=True))
            for id in ids
        ]
        return [str(result.outcome) for result in results]

    def ids(self) -> list[str]:
        return [callback.id for callback in self.do(FetchSlice("orders", limit=10**6))]

    def check(self) -> None:
        check_backend(self.backend)
