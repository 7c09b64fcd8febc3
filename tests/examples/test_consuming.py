"""examples/consuming.py: claims by hand, answers of handlers, batches, a cursor, repeated work."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from examples.consuming import (
    Bank,
    payment_service,
    receive,
    remind,
    send_receipts,
    wait_for,
    write_receipts,
)
from pollin_actors import Application, Callback, Endpoint, Kind, Request
from tests.examples.programs import run

EXPECTED = """\
booked: 1200 reported: pay-1 pay-2
receipts: 2
no booking now: paused
received: 0
booked: 0
reported: 2
review: 1
receipt: 0
sent: 2
failed: 0
"""


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank(str(tmp_path / "bank.db"))


def test_it_runs_as_a_program() -> None:
    """Two payments are booked, one is reviewed, one discarded; each booked one has one receipt."""
    assert run("consuming") == EXPECTED


def test_a_payment_whose_booking_was_not_acknowledged_is_booked_once(bank: Bank) -> None:
    """The first attempt had booked it and died: the second changes nothing."""
    bank.book("pay-1", 500)
    with payment_service("memory://", bank) as app:
        assert receive(app, "pay-1", b'{"cents": 500}') == 200
        wait_for(app, Kind.ACKNOWLEDGED, "reported", 1)
    assert bank.total() == 500


def test_while_the_bank_is_closed_a_payment_waits(bank: Bank) -> None:
    """It has failed, with the reason, and is delayed."""
    bank.is_open = False
    with payment_service("memory://", bank) as app:
        receive(app, "pay-1", b'{"cents": 500}')
        wait_for(app, Kind.FAILED, "received", 1)
        (record,) = (
            r for r in app.callbacks.history("payments", key="pay-1").get() if r.kind is Kind.FAILED
        )
        assert record.reason == "the bank is closed"
        assert app.callbacks.stats("payments").get().delayed == 1


def test_a_receipt_that_cannot_be_sent_is_tried_again_later(bank: Bank) -> None:
    """Its claim is given back with the reason, and nothing is available for a while."""

    def fails(receipt: Callback) -> None:
        raise ConnectionError("no paper")

    with payment_service("memory://", bank) as app:
        receive(app, "pay-1", b'{"cents": 500}')
        wait_for(app, Kind.ACKNOWLEDGED, "booked", 1)
        write_receipts(app)
        assert send_receipts(app, fails, wait=10.0) == 1
        assert send_receipts(app, fails, wait=0.0) == 0
        (receipt,) = app.callbacks.fetch("payments", phase="receipt").get()
        last = app.callbacks.history("payments", key=receipt.id).get()[-1]
        assert (last.kind, last.by, last.reason) == (Kind.FAILED, "printer", "no paper")


def test_a_full_endpoint_is_told_to_the_sender() -> None:
    """503, and the same webhook may come again."""
    with Application(endpoints=[Endpoint.new(id="payments", capacity=1)]) as app:
        assert receive(app, "pay-1", b"{}") == 200
        assert receive(app, "pay-2", b"{}") == 503
        app.callbacks.pop("payments").get()
        assert receive(app, "pay-2", b"{}") == 200


def test_a_reminder_waits_for_its_time(bank: Bank) -> None:
    """It is queued as a sub event, and nobody can claim it yet."""
    with payment_service("memory://", bank) as app:
        payment = Callback.new(Request([], b"{}"), id="pay-1", phase="review")
        app.callbacks.push("payments", payment).get()
        remind(app, payment)
        (reminder,) = app.callbacks.children("payments", key="pay-1").get()
        assert reminder.not_before is not None
        assert reminder.not_before > time.time_ns()
        claims = app.callbacks.claim("payments", phase="review", limit=10).get()
        assert [claim.key for claim in claims] == ["pay-1"]


def test_a_receipt_whose_claim_was_lost_is_left_to_others(bank: Bank) -> None:
    """It was moved while it was sent: the acknowledgement changes nothing, nothing is raised."""
    with payment_service("memory://", bank) as app:
        receipt = Callback.new(Request([], b"{}"), id="receipt-1", phase="receipt")
        app.callbacks.push("payments", receipt).get()

        def moves(claimed: Callback) -> None:
            app.callbacks.update_phase("payments", key=claimed.id, phase="review").get()

        assert send_receipts(app, moves, wait=10.0) == 1
        assert app.callbacks.count("payments", phase="review").get() == 1
