"""A backend on PostgreSQL with one endpoint, ``e``."""

from __future__ import annotations

import time
from typing import Any

from pollin_actors.backends.postgres import PostgresBackend
from pollin_actors.messages import CreateEndpoint, FetchSlice, Push
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.resources import Callback, Endpoint
from tests.backends.postgres_schema import check_schema
from tests.servers import postgres

__all__ = ["WAIT_S", "PostgresInbox"]

WAIT_S = 60


class PostgresInbox:
    """Handles on one new schema; the first is open, and closed at the end.

    Arguments:
        url: of the server; of a new schema of the one that all tests share, if it is not given.
        options: of the backends.
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        self.url = postgres.new_schema() if url is None else url
        self._options = options
        self.handles: list[PostgresBackend] = []
        self.backend = self.open()
        self.do(CreateEndpoint(Endpoint.new(["a", "b"], 0, id="e", secret="s")))

    def __enter__(self) -> PostgresInbox:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for handle in self.handles:
            handle.close()
        if kind is None:
            check_schema(self.url)

    def open(self) -> PostgresBackend:
        """Another handle."""
        backend = PostgresBackend(self.url, **self._options)
        backend.open(time.time_ns)
        self.handles.append(backend)
        return backend

    def send(self, message: Any, backend: PostgresBackend | None = None) -> ReplyFuture[Any]:
        """Send a message, and do not wait."""
        return (backend or self.backend).execute(message)

    def do(self, message: Any, backend: PostgresBackend | None = None) -> Any:
        """The reply to a message."""
        return self.send(message, backend).get(timeout=WAIT_S)

    def push(
        self, id: str, to: str = "e", backend: PostgresBackend | None = None
    ) -> ReplyFuture[Any]:
        """Send a push of that id."""
        return self.send(Push(to, Callback.new(b"x", id=id), trusted=True), backend)

    def ids(self, to: str = "e") -> str:
        """What is queued, in one line."""
        return " ".join(callback.id for callback in self.do(FetchSlice(to, limit=10**6)))
