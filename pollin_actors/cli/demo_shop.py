"""The application of ``pollin demo``: a shop whose handlers fail, crash and recover."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from typing import Any, NamedTuple

from pollin_actors.application import Application
from pollin_actors.handlers import Discard, Reject
from pollin_actors.otp import Actor, Backoff, ChildSpec
from pollin_actors.otp.events import EventHook
from pollin_actors.resources import Callback, Endpoint, Intake

__all__ = ["ENDPOINTS", "Shop"]

AUDITOR = "auditor"
BACKOFF = Backoff(first=0.3, most=2.0, jitter=0.5)
# So long work takes, in seconds, at most.
WORK = 0.15
CRASH_EVERY_S = 4.0

# Nobody else's, also where it is run on a backend that others use.
ORDERS, BUILDS, PAYMENTS, VISITS = ENDPOINTS = (
    "demo-orders",
    "demo-builds",
    "demo-payments",
    "demo-visits",
)


class Visit(NamedTuple):
    """Somebody has looked at the shop."""

    page: str


class Auditor(Actor):
    """An actor of the shop's own, which crashes now and then, and is restarted."""

    never_blocks = True

    def on_start(self) -> None:
        self.seen = 0

    def on_receive(self, message: Any) -> int:
        self.seen += 1
        if isinstance(message, Visit) and message.page == "/haunted":
            raise LookupError("the haunted page again")
        return self.seen


class Shop:
    """Endpoints with handlers.

    Args:
        backend: where the state lives.
        on_event: told of what happens to actors.
        seed: of what goes wrong by chance.
    """

    def __init__(self, backend: str, on_event: EventHook, seed: int) -> None:
        self.bank_is_up = threading.Event()
        self.bank_is_up.set()
        self._chance = random.Random(seed)
        self._haunted_at = -CRASH_EVERY_S
        self._pause = threading.Event()  # nobody sets it: work takes its time
        self.app = Application(
            backend,
            endpoints=_endpoints(),
            children=[ChildSpec(AUDITOR, Auditor, name=AUDITOR)],
            on_event=on_event,
        )
        add = self.app.add_handler
        more: dict[str, Any] = {"backoff": BACKOFF, "max_attempts": 3, "dead_letter": "failed"}
        add(
            self._ship,
            name="ship",
            endpoint_id=ORDERS,
            phase="received",
            then="shipped",
            concurrency=4,
            **more,
        )
        add(
            self._invoice,
            name="invoice",
            endpoint_id=ORDERS,
            phase="invoice",
            then="shipped",
            **more,
        )
        add(
            self._build,
            name="build",
            endpoint_id=BUILDS,
            phase="received",
            then="built",
            timeout=0.5,
            **more,
        )
        add(self._book, name="book", endpoint_id=PAYMENTS, phase="received", then="booked", **more)
        add(self._look, name="look", endpoint_id=VISITS, phase="received")

    def _work(self) -> None:
        self._pause.wait(self._chance.uniform(0, WORK))

    def _ship(self, order: Callback) -> None:
        """Now and then the warehouse does not answer; and some orders can never be shipped."""
        self._work()
        number = _number(order)
        if number % 17 == 0:
            raise ValueError(f"nobody sells article {number}")
        if self._chance.random() < 0.15:
            raise ConnectionError("the warehouse does not answer")
        # A sub event, once however often this is tried.
        invoice = Callback.new(order.request, id=f"invoice-{order.id}"[:500], phase="invoice")
        self.app.callbacks.push(ORDERS, invoice, parent=order.id).get()

    def _invoice(self, invoice: Callback) -> None:
        self._work()

    async def _build(self, build: Callback) -> Reject | None:
        """Some take too long, and are cancelled; some can be told to be hopeless at once."""
        number = _number(build)
        await asyncio.sleep(2.0 if number % 13 == 0 else self._chance.uniform(0, WORK))
        return Reject("it does not compile") if number % 11 == 0 else None

    def _book(self, payment: Callback) -> None:
        """Nothing can be booked while the bank is down."""
        self._work()
        if not self.bank_is_up.is_set():
            raise ConnectionError("the bank is closed")

    def _look(self, visit: Callback) -> Discard | None:
        number = _number(visit)
        # Not more often than supervisors put up with, whatever the rate.
        haunted = number % 3 == 0 and time.monotonic() - self._haunted_at > CRASH_EVERY_S
        if haunted:
            self._haunted_at = time.monotonic()
        self.app.tell(AUDITOR, Visit("/haunted" if haunted else "/"))
        return Discard("a robot") if number % 4 == 0 else None


def _endpoints() -> list[Endpoint]:
    return [
        Endpoint.new(
            ["received", "invoice", "shipped", "failed"], id=ORDERS, intake=Intake("standard")
        ),
        Endpoint.new(["received", "built", "failed"], id=BUILDS, intake=Intake("github")),
        Endpoint.new(["received", "booked", "failed"], id=PAYMENTS, intake=Intake("stripe")),
        Endpoint.new(["received"], id=VISITS),
    ]


def _number(callback: Callback) -> int:
    try:
        return int(json.loads(callback.request.body)["number"])
    except (ValueError, KeyError, TypeError):
        return 1  # sent by hand
