"""An order service: one webhook becomes three sub events, each with a handler of its own.

The shipment fails at first and is tried again. The mails cannot be sent at all: they become dead
letters, and are replayed once the cause is gone.

Run it: ``python -m examples.order_service``
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import structlog

from pollin_actors import (
    Application,
    Backoff,
    Callback,
    CallbackTree,
    Endpoint,
    Kind,
    Record,
    ReplayResult,
    Request,
)

PHASES = ["received", "invoice", "shipment", "mail", "done", "failed"]
WEEK_MS = 7 * 24 * 3600 * 1000
SOON = Backoff(first=0.01, jitter=0.0)


@dataclass
class Shop:
    """The world outside, with its failures."""

    sender: str | None = None
    invoiced: set[str] = field(default_factory=set)
    shipped: list[str] = field(default_factory=list)
    mailed: set[str] = field(default_factory=set)
    carrier_answers: bool = False

    async def invoice(self, order: str) -> None:
        self.invoiced.add(order)

    def ship(self, order: str) -> None:
        if not self.carrier_answers:
            self.carrier_answers = True  # the next time
            raise ConnectionError("the carrier does not answer")
        self.shipped.append(order)

    def mail(self, order: str) -> None:
        if self.sender is None:
            raise ValueError("no sender address")
        self.mailed.add(order)


def order_of(callback: Callback) -> str:
    """The number of the order that a callback is about."""
    return str(json.loads(callback.request.body)["order"])


def order_service(url: str, shop: Shop) -> Application:
    """The service, not started: an endpoint, and a handler for each of its phases of work."""
    app = Application(url, endpoints=[Endpoint.new(PHASES, ttl=WEEK_MS, id="orders")])

    @app.handler("orders", phase="received", then="done", dead_letter="failed")
    def split(order: Callback) -> None:
        # The ids follow from the order's: should this run a second time, they are duplicates.
        for phase in ("invoice", "shipment", "mail"):
            event = Callback.new(order.request, id=f"{order.id}/{phase}", phase=phase)
            key = order.ordering_key if phase == "shipment" else None
            app.callbacks.push("orders", event, parent=order.id, ordering_key=key).get()

    @app.handler("orders", phase="invoice", then="done", dead_letter="failed")
    async def invoice(event: Callback) -> None:
        await shop.invoice(order_of(event))

    @app.handler("orders", phase="shipment", then="done", dead_letter="failed", backoff=SOON)
    def ship(event: Callback) -> None:
        shop.ship(order_of(event))

    @app.handler(
        "orders", phase="mail", then="done", dead_letter="failed", max_attempts=2, backoff=SOON
    )
    def mail(event: Callback) -> None:
        shop.mail(order_of(event))

    return app


def receive(app: Application, webhook_id: str, body: bytes) -> str:
    """What the web handler does: queue it, and answer 200 once this has returned."""
    request = Request([("content-type", "application/json")], body)
    order = Callback.new(request, id=webhook_id)
    # Orders of one customer are taken one at a time, in their order; so are their shipments.
    customer = json.loads(body)["customer"]
    pushed = app.callbacks.push("orders", order, ordering_key=customer).get()
    return str(pushed.outcome)


def wait_for_ends(app: Application, number: int) -> None:
    """Follow the history until so many more callbacks are done, or dead."""
    ends = {Kind.ACKNOWLEDGED, Kind.DEAD}
    with app.callbacks.subscribe("orders", kinds=ends, cursor="main") as news:
        for _ in islice(news, number):
            pass
        news.commit().get()


def replay_mails(app: Application, *, dry_run: bool) -> ReplayResult:
    """Have the mails sent that failed; with the same name none is sent twice."""
    return app.callbacks.replay(
        "orders",
        filter=lambda callback: callback.phase == "failed" and callback.id.endswith("/mail"),
        phase="mail",
        name="mails-again",
        dry_run=dry_run,
    ).get()


def tree_lines(tree: CallbackTree, indent: str = "") -> list[str]:
    """A callback and its sub events, with the phase that each is in."""
    lines = [f"{indent}{tree.callback.id}: {tree.callback.phase}"]
    for child in tree.children:
        lines += tree_lines(child, indent + "  ")
    return lines


def record_line(record: Record) -> str:
    """One line of a timeline."""
    # Once only, where it has not changed; neither of them, where it came or left.
    phases = " -> ".join(dict.fromkeys(filter(None, [record.from_phase, record.to_phase])))
    more = [record.by, f"attempt {record.attempt}" if record.attempt else "", record.reason]
    return f"  {record.kind:12} {phases:18} {', '.join(filter(None, more))}".rstrip()


def print_timeline(app: Application, key: str) -> None:
    """What has happened to one callback."""
    print(key)
    for record in app.callbacks.history("orders", key=key).get():
        print(record_line(record))


def main() -> None:
    shop = Shop()
    with (
        tempfile.TemporaryDirectory() as folder,
        order_service(f"sqlite:///{Path(folder) / 'orders.db'}", shop) as app,
    ):
        for webhook_id in ("order-1", "order-2", "order-1"):
            body = json.dumps({"type": "order.created", "order": webhook_id, "customer": "ann"})
            print(f"{webhook_id}: {receive(app, webhook_id, body.encode())}")
            if webhook_id == "order-2":
                wait_for_ends(app, 8)  # two orders, three sub events each

        print("\nshipped:", *shop.shipped)
        print("invoiced:", *sorted(shop.invoiced))
        print("mailed:", *sorted(shop.mailed))

        print("\nthe whole event")
        print(*tree_lines(app.callbacks.tree("orders", key="order-1/mail").get()), sep="\n")

        print("\nits history")
        for callback in app.callbacks.tree("orders", key="order-1").get():
            print_timeline(app, callback.id)

        shop.sender = "shop@example.com"  # the fix
        print("\nreplay")
        print("would push:", *replay_mails(app, dry_run=True).ids)
        done = replay_mails(app, dry_run=False)
        wait_for_ends(app, done.pushed)
        print("pushed:", done.pushed)
        print("mailed:", *sorted(shop.mailed))
        again = replay_mails(app, dry_run=False)
        print(f"once more: {again.pushed} pushed, {again.duplicates} duplicates")
        print_timeline(app, done.ids[0])


if __name__ == "__main__":
    # Where the log goes is for the program to say: no library does.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    main()
