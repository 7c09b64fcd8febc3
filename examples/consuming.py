"""Payments: claims by hand, what a handler may answer, batches, a cursor, work done again.

Run it: ``python examples/consuming.py``
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import structlog

from pollin_actors import (
    Advance,
    Application,
    Callback,
    ClaimLost,
    Discard,
    Endpoint,
    Full,
    Kind,
    Request,
    Retry,
)

PHASES = ["received", "booked", "reported", "review", "receipt", "sent", "failed"]
DAY_MS = 24 * 3600 * 1000


class Bank:
    """Balances in a database that is not the inbox's."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.is_open = True
        self.reported: list[str] = []
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS booked (id TEXT PRIMARY KEY, cents INTEGER)")

    def book(self, key: str, cents: int) -> bool:
        """Book a payment; False if that was done before: then nothing is changed."""
        with closing(sqlite3.connect(self.path)) as db, db:
            # The mark and the effect are one row: both are there, or neither.
            cursor = db.execute("INSERT OR IGNORE INTO booked VALUES (?, ?)", (key, cents))
            return cursor.rowcount == 1

    def total(self) -> int:
        with closing(sqlite3.connect(self.path)) as db:
            total: int = db.execute("SELECT coalesce(sum(cents), 0) FROM booked").fetchone()[0]
            return total

    async def report(self, keys: list[str]) -> set[str]:
        """Report bookings; the answer is which of them were not taken."""
        self.reported += keys
        return set()


def payment_of(callback: Callback) -> dict[str, Any]:
    payment: dict[str, Any] = json.loads(callback.request.body)
    return payment


def payment_service(url: str, bank: Bank) -> Application:
    """The service, not started."""
    payments = Endpoint.new(PHASES, ttl=7 * DAY_MS, id="payments", capacity=10_000)
    app = Application(url, endpoints=[payments])

    @app.handler("payments", phase="received", then="booked", dead_letter="failed")
    def book(callback: Callback) -> Retry | Discard | Advance | None:
        payment = payment_of(callback)
        if payment.get("test"):
            return Discard("a test payment")
        if payment["cents"] > 1_000_000:
            return Advance("review")
        if not bank.is_open:
            return Retry(after=600.0, reason="the bank is closed")
        # It may have been booked by an attempt that did not live to say so.
        bank.book(callback.id, payment["cents"])
        return None

    @app.handler("payments", phase="booked", then="reported", batch=100, concurrency=1)
    async def report(callbacks: list[Callback]) -> list[Retry | None]:
        refused = await bank.report([callback.id for callback in callbacks])
        return [Retry() if callback.id in refused else None for callback in callbacks]

    return app


def receive(app: Application, webhook_id: str, body: bytes) -> int:
    """What the web handler does: the answer's status."""
    try:
        app.callbacks.push("payments", Callback.new(Request([], body), id=webhook_id)).get()
    except Full:
        return 503  # the sender tries again later
    return 200


def remind(app: Application, payment: Callback) -> None:
    """Come back to a payment tomorrow."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    reminder = Callback.new(payment.request, id=f"{payment.id}/reminder", phase="review")
    app.callbacks.push("payments", reminder, parent=payment.id, not_before=tomorrow).get()


def write_receipts(app: Application) -> None:
    """Push a receipt for each payment that was booked: exactly one, whatever happens here."""
    booked = {Kind.ACKNOWLEDGED}
    with app.callbacks.subscribe(
        "payments", kinds=booked, cursor="receipts", follow=False
    ) as records:
        for record in records:
            if record.to_phase != "booked":
                continue
            payment = app.callbacks.fetch("payments", key=record.callback_id, kept=True).get()
            if payment is not None:
                receipt = Callback.new(payment.request, phase="receipt", parent=payment.id)
                records.commit([receipt]).get()


def send_receipts(app: Application, send: Callable[[Callback], None], wait: float) -> int:
    """Claim receipts, waiting for some if there are none, and send them; how many were claimed."""
    claims = app.callbacks.claim(
        "payments", phase="receipt", limit=10, lease=60.0, wait=wait, by="printer"
    ).get()
    for claim in claims:
        with suppress(ClaimLost):  # its lease has ended: somebody else has it now
            app.callbacks.extend(claim, lease=60.0).get()  # those before it took their time
            try:
                send(claim.callback)
            except ConnectionError as error:
                last = "failed" if claim.attempt >= 5 else None
                pause = 2.0**claim.attempt
                app.callbacks.nack(claim, retry_in=pause, reason=str(error), dead_letter=last).get()
            else:
                app.callbacks.ack(claim, then="sent").get()
    return len(claims)


def maintain(app: Application, work: Callable[[], None]) -> None:
    """Do something during which nothing may be booked."""
    app.handlers.drain("book").get(timeout=60)  # takes no more, and has ended what it had begun
    try:
        work()
    finally:
        app.handlers.resume("book").get()


def wait_for(app: Application, kind: Kind, to_phase: str | None, number: int) -> None:
    """Follow the history until so many callbacks have gone where they should."""
    with app.callbacks.subscribe("payments", kinds={kind}) as records:
        for _ in islice((r for r in records if r.to_phase == to_phase), number):
            pass


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bank = Bank(str(Path(folder) / "bank.db"))
        with payment_service(f"sqlite:///{Path(folder) / 'inbox.db'}", bank) as app:
            receive(app, "pay-1", b'{"cents": 500}')
            receive(app, "pay-2", b'{"cents": 700}')
            receive(app, "pay-3", b'{"cents": 2000000}')
            receive(app, "pay-4", b'{"cents": 1, "test": true}')
            wait_for(app, Kind.ACKNOWLEDGED, "reported", 2)
            wait_for(app, Kind.ACKNOWLEDGED, "review", 1)
            wait_for(app, Kind.DISCARDED, None, 1)
            print("booked:", bank.total(), "reported:", *sorted(bank.reported))
            write_receipts(app)
            write_receipts(app)  # the cursor has moved on: nothing is written twice
            print("receipts:", send_receipts(app, lambda receipt: None, wait=10.0))
            maintain(app, lambda: print("no booking now:", app.handlers["book"].state))
            for phase in PHASES:
                print(f"{phase}: {app.callbacks.count('payments', phase=phase).get()}")


if __name__ == "__main__":
    # Where the log goes is for the program to say: no library does.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    main()
