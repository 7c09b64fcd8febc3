"""examples/threaded_service.py: many threads push, one pops, and stopping is clean."""

from __future__ import annotations

import json
import threading

from examples import threaded_service
from pollin_actors import State
from tests.examples.programs import run


def test_every_order_is_processed_once_and_each_threads_order_is_kept() -> None:
    """Four threads send 25 each: all arrive, and per thread in the order of sending."""
    orders = [json.loads(body) for body in threaded_service.main(producers=4, each=25)]
    assert len(orders) == 100
    for producer in range(4):
        numbers = [order["number"] for order in orders if order["producer"] == producer]
        assert numbers == list(range(25))


def test_stopping_finishes_what_is_queued_and_leaves_no_thread() -> None:
    """An order that was received just before the stop is processed; then nothing runs any more."""
    before = set(threading.enumerate())
    service = threaded_service.Service()
    service.start()
    service.receive(b"the last one")
    service.stop()
    assert service.processed == [b"the last one"]
    assert service.app.state is State.STOPPED
    assert set(threading.enumerate()) <= before


def test_it_runs_as_a_program() -> None:
    """Started as a program it says how much it did, and ends."""
    assert run("threaded_service") == "100 orders from 4 threads processed\n"
