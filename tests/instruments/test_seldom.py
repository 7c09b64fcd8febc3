"""The log is not filled: by who sends rubbish, by a handler that fails with everything."""

from __future__ import annotations

from structlog.testing import capture_logs

from pollin_actors import Application, Backoff, Endpoint
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.errors import NotRunning
from pollin_actors.instruments.seldom import MOST, Seldom
from pollin_actors.messages import Push
from pollin_actors.testing import FaultyBackend, Tester
from pollin_actors.web import wsgi
from tests.web.receiving import orders, send


def test_so_many_in_an_interval_and_then_how_many_more() -> None:
    seldom = Seldom(burst=2, interval=1.0)
    assert [seldom.admit("a", now) for now in (5.0, 5.1, 5.2, 5.9)] == [0, 0, None, None]
    assert seldom.admit("b", 5.9) == 0
    assert [seldom.admit("a", now) for now in (6.0, 6.1, 6.2)] == [2, 0, None]
    assert seldom.admit("a", 99.0) == 1


def test_it_remembers_only_so_many() -> None:
    """Whatever strangers make up; those on top are told of together."""
    seldom = Seldom()
    for number in range(MOST):
        assert seldom.admit(number, 0.0) == 0
    assert [seldom.admit(number, 0.0) for number in range(MOST, 3 * MOST)] == [
        0,
        *[None] * (2 * MOST - 1),
    ]
    assert len(seldom._told) <= MOST + 1


def test_many_in_turn_fill_no_log() -> None:
    """One more than are remembered: none is forgotten in favour of another, and said again."""
    seldom = Seldom()
    said = [seldom.admit(number % (MOST + 1), 0.5) is not None for number in range(20 * MOST)]
    assert sum(said) == MOST + 1


def test_what_is_over_makes_room() -> None:
    """Then each has a place of its own again."""
    seldom = Seldom()
    for number in range(MOST + 5):
        seldom.admit(number, 0.0)
    assert seldom.admit("new", 0.9) is None
    assert seldom.admit("new", 1.0) == 0
    assert len(seldom._told) == 1


def test_a_handler_that_fails_with_everything_fills_no_log() -> None:
    """Some lines a second, and how many were left out; all of it is in the history."""
    app = Application(endpoints=[Endpoint.new(["received", "failed"], 0, id="orders")])

    @app.handler("orders", dead_letter="failed", max_attempts=1, backoff=Backoff(1.0), name="h")
    def handle(callback: object) -> None:
        raise ValueError

    with Tester(app) as tester, capture_logs() as logs:
        for _ in range(100):
            tester.push("orders")
        tester.drain()
        tester.advance(2.0)
        tester.push("orders")
        tester.drain()
        tester.assert_dead("orders", count=101)
    more = [entry["more"] for entry in logs if entry["event"] == "handler.dead"]
    assert more == [0] * 20 + [80]


def test_forgeries_that_are_verified_later_fill_no_log() -> None:
    """They are refused by a handler, which logs as well."""
    with Tester(endpoints=[orders(verify="later")]) as tester, capture_logs() as logs:
        receiver = wsgi(tester.app)
        for _ in range(100):
            assert send(receiver, {}).status == 200
        tester.drain()
    events = [entry["event"] for entry in logs]
    assert events.count("receiver.quarantined") == 1
    assert events.count("handler.dead") == 20


def test_what_is_lost_and_what_goes_wrong_is_logged_once_a_second() -> None:
    """With how many more there were."""
    backend = FaultyBackend(MemoryBackend())

    def hook(*_: object) -> None:
        raise NotRunning("on strike")

    with Tester(endpoints=[orders()], backend=backend) as tester, capture_logs() as logs:
        receiver = wsgi(tester.app, ack="accepted", on_received=hook)
        for _ in range(5):
            assert send(receiver).status == 200
        backend.delay(Push, seconds=0.1, rate=1.0)
        backend.fail(Push, times=5)
        for _ in range(5):
            assert send(receiver).json["outcome"] == "accepted"
        tester.advance(3.0)
        backend.fail(Push)
        assert send(receiver).json["outcome"] == "accepted"
        tester.advance(3.0)
    assert [e["more"] for e in logs if e["event"] == "receiver.hook_failed"] == [0]
    assert [e["more"] for e in logs if e["event"] == "receiver.lost"] == [0, 4]
