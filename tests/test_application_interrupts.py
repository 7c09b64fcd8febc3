"""An interrupt at any bytecode of an operation through the facade leaves the inbox working."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pollin_actors import Application, Callback, Endpoint
from tests.interrupts import interrupt_at, interrupt_at_every_bytecode
from tests.otp.actors import in_thread


class Subject:
    """A running application whose caller takes every turn itself."""

    def __init__(self, *, cold: bool) -> None:
        self.app = Application(endpoints=[Endpoint.new(id="orders")]).start()
        self.app.callbacks.push("orders", Callback.new(1, id="first")).get()
        if cold:
            # As after passivation: the next message starts the actor.
            ref = self.app.callbacks.ref("orders").get()
            ended = ref.monitor()
            ref.stop()
            ended.get(timeout=10)

    def check(self, interrupted: bool) -> None:
        """Another thread is served, and what is stored is whole."""

        def serve() -> list[str]:
            callbacks = self.app.callbacks
            callbacks.push("orders", Callback.new(2, id="last"), timeout=10).get()
            count = callbacks.count("orders", timeout=10).get()
            queued = [callback.id for callback in callbacks.dump("orders", timeout=10)]
            assert count == len(queued)
            return queued

        queued = in_thread(serve)
        assert queued in (
            ["first", "last"],
            ["first", "mine", "last"],
            ["last"],
        )
        assert self.app.stop() is True


def push(subject: Subject) -> Any:
    return subject.app.callbacks.push("orders", Callback.new(3, id="mine")).get()


def pop(subject: Subject) -> Any:
    return subject.app.callbacks.pop("orders").get()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("operation", "cold"), [(push, False), (pop, False), (pop, True)], ids=str)
def test_an_operation(operation: Callable[[Subject], Any], cold: bool) -> None:
    points = interrupt_at_every_bytecode(
        operation,
        Subject.check,
        prepare=lambda: Subject(cold=cold),
        modules=("pollin_actors.otp", "pollin_actors.actors", "pollin_actors.backends"),
    )
    assert points > 150


@pytest.mark.parametrize("number", range(0, 350, 6))
def test_an_interrupted_claim_takes_nothing_later(number: int) -> None:
    """Nobody has its reply: what is pushed afterwards is for others."""
    got: list[Any] = []
    with Application(endpoints=[Endpoint.new(id="orders")]) as app:
        calls = app.callbacks
        interrupt_at(
            number,
            lambda: got.append(calls.claim("orders", wait=5.0)),
            ["pollin_actors.claiming"],
        )
        if not got:
            calls.push("orders", Callback.new(1, id="a")).get()
            assert len(calls.claim("orders").get()) == 1
