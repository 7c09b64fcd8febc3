"""Somebody who visits the dashboard, without a browser."""

from __future__ import annotations

import asyncio
import html
import re
import threading
from collections.abc import Mapping
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount

from pollin_actors import Application, Callback, Endpoint, Request, web

__all__ = ["READER", "WRITER", "Client", "Visitor", "orders", "push", "push_all", "text_of"]

WRITER = "the-token-of-writers-in-tests"
READER = "the-token-of-readers-in-tests"

_FORM_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{64})"')


def orders(**more: Any) -> Endpoint:
    """An endpoint that keeps what it is given."""
    more = {"id": "orders", "secret": "a-secret-that-nobody-shows", **more}
    return Endpoint.new(["received", "done", "failed"], 0, **more)


def push(app: Application, body: bytes = b"{}", headers: Any = (), **more: Any) -> Callback:
    """Queue a callback."""
    endpoint_id = more.pop("endpoint_id", "orders")
    callback = Callback.new(Request(list(headers), body), **more)
    return app.callbacks.push(endpoint_id, callback).get().callback


def push_all(app: Application, bodies: Mapping[str, bytes]) -> None:
    """Queue many callbacks, by their ids."""
    callbacks = (Callback.new(Request([], body), id=key) for key, body in bodies.items())
    for pushed in [app.callbacks.push("orders", callback) for callback in callbacks]:
        pushed.get()


class Client:
    """A client of an ASGI application, on one event loop from its first request to its last."""

    def __init__(self, host: Any, base: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        transport = httpx.ASGITransport(host)
        self._client = httpx.AsyncClient(transport=transport, base_url=base)
        self.cookies, self.headers = self._client.cookies, self._client.headers

    def run(self, work: Any) -> Any:
        """Wait for a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def request(self, method: str, url: str, **more: Any) -> httpx.Response:
        answer: httpx.Response = self.run(self._client.request(method, url, **more))
        return answer

    def get(self, url: str, **more: Any) -> httpx.Response:
        return self.request("GET", url, **more)

    def post(self, url: str, **more: Any) -> httpx.Response:
        return self.request("POST", url, **more)

    def close(self) -> None:
        self.run(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(60)
        self.loop.close()

    async def _end(self) -> None:
        await self._client.aclose()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Visitor:
    """Visits a dashboard that is mounted at ``/dash``; use it in a ``with`` block.

    Arguments:
        app: the application.
        scheme: of the URL.
        options: of the dashboard; tokens for both roles by default.
    """

    def __init__(self, app: Application, *, scheme: str = "http", **options: Any) -> None:
        options = options or {"token": WRITER, "read_only_token": READER}
        self.service = web.dashboard(app, **options)
        host = Starlette(routes=[Mount("/dash", self.service)])
        door = self.service.state.door
        self.cookie_name, self.nobody_name = door.cookie, door.nobody_cookie
        self.base = f"{scheme}://service.example"
        self.client = Client(host, self.base)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def login(self, token: str = WRITER) -> Visitor:
        """Log in, and see that it was taken."""
        answer = self.post("/login", token=token)
        assert answer.status_code == 303, answer.text
        return self

    def get(self, path: str = "/", **query: Any) -> httpx.Response:
        return self.client.get(f"/dash{path}", params=query or None)

    def page(self, path: str = "/", status: int = 200, **query: Any) -> str:
        """The text of a page."""
        answer = self.get(path, **query)
        assert answer.status_code == status, answer.text
        return str(answer.text)

    def form_token(self) -> str:
        """What forms of this session hold."""
        # Any page has a form: the one for the colours.
        found = _FORM_TOKEN.search(self.get("/nowhere").text or "") or _FORM_TOKEN.search(
            self.get("/login").text
        )
        assert found is not None
        return found[1]

    def post(self, path: str, *, headers: Any = None, **fields: Any) -> httpx.Response:
        """Send a form, as a browser does."""
        given = {"form_token": self.form_token(), **fields}
        sent = {"origin": self.base} if headers is None else headers
        return self.client.post(f"/dash{path}", data=given, headers=sent)

    def cookie(self) -> str:
        """The header that shows the session."""
        return "; ".join(f"{name}={value}" for name, value in self.client.cookies.items())

    def follow(self, answer: httpx.Response) -> str:
        """The page that an answer leads to."""
        assert answer.status_code == 303, answer.text
        there = self.client.get(answer.headers["location"])
        assert there.status_code == 200, there.text
        return str(there.text)


def text_of(page: str) -> str:
    """What is to be read on a page, roughly."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page)))
