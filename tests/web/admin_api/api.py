"""The admin API driven in process, and what it is driven at."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from pollin_actors import Application, Endpoint
from pollin_actors.web import admin

__all__ = ["AUTHORIZATION", "NDJSON", "TOKEN", "Api", "Exchange", "orders"]

TOKEN = "a-token-of-the-tests-only"
AUTHORIZATION = {"Authorization": f"Bearer {TOKEN}"}
NDJSON = {"content-type": "application/x-ndjson"}


def orders(**more: Any) -> Endpoint:
    return Endpoint.new(["received", "done"], 0, id="orders", **more)


class Api:
    """A client of the admin API of an application.

    Arguments:
        app: the application.
        prefix: of all paths.
        headers: of all requests.
    """

    def __init__(
        self, app: Application, prefix: str = "/endpoints/orders", headers: Any = AUTHORIZATION
    ) -> None:
        self.app = app
        self.service = admin(app, token=TOKEN)
        self.prefix = prefix
        self._headers = headers

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The answer to a request; a path that begins with // is taken without the prefix."""

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.service)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://admin", headers=self._headers
            ) as client:
                return await client.request(method, url, **more)

        url = path[1:] if path.startswith("//") else self.prefix + path
        return asyncio.run(call())

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of an answer 200."""
        return self.json(self.request("GET", path, params=query))

    def post(self, path: str, body: Any = None, status: int = 200, **query: Any) -> Any:
        """The JSON of an answer to a POST, None if it has none."""
        return self.json(self.request("POST", path, json=body or {}, params=query), status)

    def push(self, id: str | None = None, **fields: Any) -> Any:
        """What is answered to a push."""
        given = fields if id is None else {"id": id, **fields}
        return self.json(self.request("POST", "/callbacks", json=given), 201)

    def json(self, answer: httpx.Response, status: int = 200) -> Any:
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def problem(self, answer: httpx.Response, status: int, name: str) -> Any:
        """The fields of an answer that is a problem."""
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        fields = answer.json()
        assert fields["type"] == f"urn:pollin:problem:{name}"
        assert fields["status"] == status
        return fields


class Exchange:
    """One request to an ASGI application, message by message.

    Arguments:
        method: in upper case.
        path: as a server decodes it.
        body: the JSON of the body.
        query: undecoded.
        content_type: of the body.
    """

    def __init__(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: bytes = b"",
        content_type: bytes = b"application/json",
    ) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query,
            "headers": [
                (b"authorization", f"Bearer {TOKEN}".encode()),
                (b"content-type", content_type),
            ],
        }
        self.arriving: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        if body is not None:
            self.arrive(json.dumps(body).encode())
        self.sent: list[dict[str, Any]] = []
        self.asked = asyncio.Event()

    def arrive(self, body: bytes, more: bool = False) -> None:
        self.arriving.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self.arriving.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> dict[str, Any]:
        if self.arriving.empty():
            self.asked.set()
        return await self.arriving.get()

    async def send(self, message: Any) -> None:
        self.sent.append(message)
