"""The senders of ``pollin demo``: signed webhooks, forgeries and repeats, through the receiver."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pollin_actors.application import Application
from pollin_actors.cli.demo_shop import ENDPOINTS
from pollin_actors.resources import Endpoint, Secret

__all__ = ["Answered", "Senders", "post"]

FORGED, REPEATED = 0.06, 0.06


class Answered(NamedTuple):
    """What the receiver said to a request."""

    endpoint_id: str
    status: int
    outcome: str


class Senders:
    """Sends until it is told to stop, on a thread of its own.

    Args:
        app: whose endpoints it knows the secrets of.
        receiver: the ASGI callable that it sends to.
        rate: requests per second.
        seed: of what is sent.
        told: called with each answer.
    """

    def __init__(
        self,
        app: Application,
        receiver: Any,
        rate: float,
        seed: int,
        told: Callable[[Answered], None],
    ) -> None:
        self._app = app
        self._receiver = receiver
        self._rate = rate
        self._chance = random.Random(seed)
        self._told = told
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pollin-demo", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the request that is under way."""
        self._ending.set()
        self._thread.join(10)

    def _run(self) -> None:
        endpoints = {it.id: it for it in self._app.endpoints.index().get() if it.id in ENDPOINTS}
        numbers = itertools.count(1)
        last: tuple[Endpoint, list[tuple[str, str]], bytes] | None = None
        with asyncio.Runner() as runner:
            while not self._ending.wait(self._chance.expovariate(self._rate)):
                chance = self._chance.random()
                if chance < REPEATED and last is not None:
                    request = last
                else:
                    endpoint = endpoints[self._chance.choice(ENDPOINTS)]
                    request = self._request(endpoint, next(numbers), chance > 1 - FORGED)
                endpoint, headers, body = last = request
                status, answer = runner.run(post(self._receiver, endpoint.id, headers, body))
                outcome = str(answer.get("outcome", answer.get("error", "")))
                self._told(Answered(endpoint.id, status, outcome))

    def _request(
        self, endpoint: Endpoint, number: int, forged: bool
    ) -> tuple[Endpoint, list[tuple[str, str]], bytes]:
        scheme = endpoint.intake.scheme
        event = {"id": f"evt_{endpoint.id}_{number}_{time.time_ns()}", "number": number}
        body = json.dumps({**event, "amount": self._chance.randint(5, 500)}).encode()
        secret: Secret = scheme.generate_secret() if forged else endpoint.secret
        headers = scheme.sign(body, secret, time.time())
        return endpoint, [("content-type", "application/json"), *headers], body


async def post(
    receiver: Any, endpoint_id: str, headers: list[tuple[str, str]], body: bytes
) -> tuple[int, dict[str, Any]]:
    """POST to an ASGI callable, without a server between: the status and the JSON answered."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"/{endpoint_id}",
        "raw_path": f"/{endpoint_id}".encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await receiver(scope, receive, send)
    answer = json.loads(b"".join(message.get("body", b"") for message in sent))
    return int(sent[0]["status"]), answer if isinstance(answer, dict) else {}
