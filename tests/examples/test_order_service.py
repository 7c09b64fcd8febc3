"""examples/order_service.py: sub events, retries, dead letters, a tree, a history, a replay."""

from __future__ import annotations

from pathlib import Path

from examples.order_service import Shop, order_service, receive, replay_mails, wait_for_ends
from tests.examples.programs import run

EXPECTED = """\
order-1: queued
order-2: queued
order-1: duplicate

shipped: order-1 order-2
invoiced: order-1 order-2
mailed:

the whole event
order-1: done
  order-1/invoice: done
  order-1/shipment: done
  order-1/mail: failed

its history
order-1
  pushed       received
  claimed      received           split, attempt 1
  acknowledged received -> done   split, attempt 1
  repeated     done
order-1/invoice
  pushed       invoice
  claimed      invoice            invoice, attempt 1
  acknowledged invoice -> done    invoice, attempt 1
order-1/shipment
  pushed       shipment
  claimed      shipment           ship, attempt 1
  failed       shipment           ship, attempt 1, ConnectionError: the carrier does not answer
  claimed      shipment           ship, attempt 2
  acknowledged shipment -> done   ship, attempt 2
order-1/mail
  pushed       mail
  claimed      mail               mail, attempt 1
  failed       mail               mail, attempt 1, ValueError: no sender address
  claimed      mail               mail, attempt 2
  dead         mail -> failed     mail, attempt 2, ValueError: no sender address

replay
would push: mails-again:order-1/mail mails-again:order-2/mail
pushed: 2
mailed: order-1 order-2
once more: 0 pushed, 2 duplicates
mails-again:order-1/mail
  pushed       mail               orders/order-1/mail
  claimed      mail               mail, attempt 1
  acknowledged mail -> done       mail, attempt 1
  repeated     done
"""


def test_it_runs_as_a_program() -> None:
    """However the threads take turns, it prints the same."""
    assert run("order_service") == EXPECTED


def test_what_was_received_while_no_handler_ran_is_handled_later(tmp_path: Path) -> None:
    """Paused handlers leave orders in the file; the next run of the service handles them."""
    url = f"sqlite:///{tmp_path / 'orders.db'}"
    body = b'{"order": "order-1", "customer": "ann"}'
    with order_service(url, Shop()) as app:
        app.handlers.drain("split").get(timeout=60)
        assert receive(app, "order-1", body) == "queued"
        assert app.callbacks.count("orders", phase="received").get() == 1
    shop = Shop(sender="shop@example.com", carrier_answers=True)
    with order_service(url, shop) as app:
        wait_for_ends(app, 4)
        assert (shop.invoiced, shop.shipped, shop.mailed) == ({"order-1"}, ["order-1"], {"order-1"})
        assert app.callbacks.count("orders", phase="done").get() == 4


def test_a_dry_run_pushes_nothing(tmp_path: Path) -> None:
    """It says what would be pushed, which is then done."""
    with order_service(f"sqlite:///{tmp_path / 'orders.db'}", Shop()) as app:
        receive(app, "order-1", b'{"order": "order-1", "customer": "ann"}')
        wait_for_ends(app, 4)
        dry = replay_mails(app, dry_run=True)
        assert (dry.matched, dry.pushed, dry.duplicates) == (1, 0, 0)
        assert app.callbacks.count("orders").get() == 4
        assert replay_mails(app, dry_run=False).ids == dry.ids
