"""The timers of a consumer: none is lost, and none piles up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pollin_actors import Application, BackendUnavailable
from pollin_actors.actors.inbox import Inbox
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import Extend
from pollin_actors.otp import Simulation
from pollin_actors.otp.timers import Timer
from tests.handling import consumer, orders, pass_time, push, story


@pytest.fixture(params=range(3))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulated:
        yield simulated


class Failing(MemoryBackend):
    """A backend that extends no leases while it fails."""

    failing = False

    def execute(self, message: Any) -> Any:
        if self.failing and isinstance(message, Extend):
            raise BackendUnavailable("memory", "on purpose")
        return super().execute(message)


@pytest.fixture
def backend() -> Failing:
    return Failing()


@pytest.fixture
def app(simulation: Simulation, backend: Failing) -> Iterator[Application]:
    app = Application(backend, endpoints=[orders()], runtime=simulation.runtime)

    async def handle(_: Any) -> None:
        await pass_time(1000.0)

    app.add_handler(handle, "orders", then="processed", name="h", lease=4.0, timeout=None)
    with app:
        simulation.settle()
        yield app


def inbox_of(app: Application) -> Inbox:
    found: Inbox = consumer(app, "h")._inbox
    return found


def test_a_timer_that_fires_before_it_is_held_is_not_lost(
    app: Application, simulation: Simulation
) -> None:
    """As where the thread that has set it is preempted before the call has returned."""
    told: list[str] = []
    inbox = inbox_of(app)
    call_later = inbox._call_later

    def hasty(delay: float, callback: Callable[[], object]) -> Timer:
        timer = call_later(delay, callback)
        timer.fire()
        return timer

    inbox._call_later = hasty
    before = len(inbox._timers)
    inbox.put(inbox.later, 0.001, told.append, "due")
    simulation.settle()
    assert told == ["due"]
    assert len(inbox._timers) == before


def test_failing_extensions_leave_one_timer(
    app: Application, simulation: Simulation, backend: Failing
) -> None:
    """However many fail, and how often: afterwards the claims are extended as before."""
    push(app, *"abcdefgh")
    simulation.settle()
    assert app.handlers["h"].held == 8
    backend.failing = True
    simulation.advance(3.5)
    backend.failing = False
    simulation.advance(20.0)
    assert len(inbox_of(app)._timers) == 1
    assert [story(app, key) for key in "abcdefgh"] == [[("pushed", 0), ("claimed", 1)]] * 8


def test_looks_that_were_put_forward_are_let_go_of(
    app: Application, simulation: Simulation
) -> None:
    actor = consumer(app, "h")

    def plan() -> None:
        for delay in range(60, 10, -1):
            actor._look_later(float(delay))

    inbox_of(app).put(plan)
    simulation.settle()
    assert len(inbox_of(app)._timers) == 1
