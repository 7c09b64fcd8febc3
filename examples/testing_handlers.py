"""Tests of handlers: in virtual time, with faults and crashes, on one thread.

Run them: ``python -m pytest examples/testing_handlers.py``
"""

from __future__ import annotations

from collections.abc import Callable

from pollin_actors import Application, Callback, Endpoint, Retry
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import Ack
from pollin_actors.testing import FaultyBackend, Tester, webhook

# As in your service: the application and its handlers are made when the module is imported.
orders = Endpoint.new(["received", "processed", "failed"], ttl=0, id="orders")
app = Application(endpoints=[orders])
handled: list[str] = []


@app.handler("orders", then="processed", dead_letter="failed", max_attempts=3)
def handle(callback: Callback) -> Retry | None:
    handled.append(callback.id)
    if callback.request.header("x-later"):
        return Retry(after=3600)
    if callback.request.body == b"null":
        raise ValueError("an order of nothing")
    return None


def test_an_order_is_processed() -> None:
    with Tester(app) as tester:
        tester.push("orders", webhook({"order": 1}), id="o-1")
        tester.drain()
        (order,) = tester.assert_received("orders", phase="processed", count=1)
        assert order.id == "o-1"


def test_what_fails_is_tried_again_and_then_put_aside() -> None:
    """Hours of back-off take no time."""
    with Tester(app) as tester:
        tester.push("orders", webhook(None), id="nothing")
        tester.push("orders", webhook({}, headers={"x-later": "1"}), id="later")
        tester.drain()
        tester.assert_received("orders", phase="failed", count=2)
        assert tester.history("orders", "nothing")[-1].reason == "ValueError: an order of nothing"
        assert tester.clock.monotonic() >= 2 * 3600


def test_a_push_can_be_handled_before_it_returns() -> None:
    with Tester(app, inline=True) as tester:
        tester.push("orders", webhook({"order": 1}))
        tester.assert_received("orders", phase="processed", count=1)


def test_nothing_is_lost_when_something_crashes() -> None:
    """The handler's actor, the endpoint's actor; and a backend that does not answer."""
    backend = FaultyBackend(MemoryBackend())
    with Tester(app, backend=backend, seed=7) as tester:
        for number in range(10):
            tester.push("orders", webhook({"order": number}), id=f"o-{number}")
        tester.crash("handle")
        backend.fail(Ack, when="after", times=2)
        tester.crash("orders")
        tester.drain()
        tester.assert_received("orders", phase="processed", count=10)


def test_an_order_is_processed_once(pollin_tester: Callable[..., Tester]) -> None:
    tester = pollin_tester(app)
    for _ in range(2):
        tester.push("orders", webhook({"order": 1}), id="o-1")
    tester.drain()
    tester.assert_handled("orders", count=1, by="handle")
