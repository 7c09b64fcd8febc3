"""examples/consumer.py: work by phases, and pop what is done."""

from __future__ import annotations

import pytest

from examples import consumer
from pollin_actors import Application, Callback, Endpoint, Request
from tests.examples.programs import run


def test_it_runs_as_a_program() -> None:
    """Three orders are done in their order; the one that cannot be read stays, as failed."""
    assert run("consumer").splitlines() == [
        "done: 1",
        "done: 2",
        "done: 3",
        "failed: no JSON at all",
    ]


def test_what_is_being_worked_on_when_the_consumer_dies_stays_received(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An interrupt in the middle of the work leaves the callback where it was: nothing is lost."""

    def interrupted(request: Request) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(consumer, "process", interrupted)
    with Application(endpoints=[Endpoint.new(consumer.PHASES, ttl=0, id="orders")]) as app:
        app.callbacks.push("orders", Callback.new(Request([], b'{"order": 1}'))).get()
        with pytest.raises(KeyboardInterrupt):
            consumer.process_received(app)
        assert app.callbacks.count("orders", phase="received").get() == 1
        monkeypatch.undo()
        consumer.process_received(app)
        assert [done.phase for done in consumer.remove_processed(app)] == ["processed"]
        assert app.callbacks.count("orders").get() == 0
