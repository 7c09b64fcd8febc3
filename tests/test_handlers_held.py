"""What handlers hold, in virtual time: what waits for a worker, what is kept for whom, and what
ends with them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from pollin_actors import Application, BackendUnavailable, Callback, Settings
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import Ack
from pollin_actors.otp import NamedSupervisor, ReplyFuture, Simulation
from pollin_actors.records import Kind
from pollin_actors.tree import CONSUMERS
from tests.handling import crash, history, orders, phases, push, story


@pytest.fixture(params=range(3))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulated:
        yield simulated


class Gated:
    """A handler of one coroutine at a time, quick at first, that then waits until it may go on.

    As it is quick, more is claimed than is worked on.
    """

    def __init__(self, simulation: Simulation, backend: Any = None, **options: Any) -> None:
        self.app = Application(
            backend or MemoryBackend(),
            endpoints=[orders()],
            settings=Settings(shutdown=1.0, idle_after=None),
            runtime=simulation.runtime,
        )
        self.gate = asyncio.Event()
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.app.add_handler(
            self.handle, "orders", then="processed", concurrency=1, name="h", **options
        )

    async def handle(self, callback: Callback) -> None:
        self.begun.append(callback.id)
        if callback.id != "quick":
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.append(callback.id)
                raise

    def fill(self, simulation: Simulation) -> None:
        """One is worked on, three wait for it."""
        push(self.app, "quick")
        simulation.advance(0.1)
        push(self.app, "a", "b", "c", "d")
        simulation.advance(0.1)
        assert len(self.begun) == 2
        assert self.app.handlers["h"].held == 4


def test_what_waits_for_a_worker_is_extended_and_then_done(simulation: Simulation) -> None:
    """Ten leases later it is done in the order of the queue, each in its first attempt."""
    world = Gated(simulation, lease=1.0, timeout=None)
    with world.app as app:
        world.fill(simulation)
        simulation.advance(10.0)
        world.gate.set()
        simulation.advance(1.0)
        assert world.begun == ["quick", "a", "b", "c", "d"]
        assert phases(app) == {"processed": 5}
        assert story(app, "d") == [("pushed", 0), ("claimed", 1), ("acknowledged", 1)]


def test_what_was_lost_while_it_waited_is_not_begun(simulation: Simulation) -> None:
    """Somebody has moved it: the function never sees it."""
    world = Gated(simulation, lease=2.0, timeout=None)
    with world.app as app, capture_logs() as logs:
        world.fill(simulation)
        app.callbacks.update_phase("orders", key="b", phase="failed").get()
        simulation.advance(3.0)
        world.gate.set()
        simulation.advance(1.0)
        assert world.begun == ["quick", "a", "c", "d"]
        assert phases(app) == {"processed": 4, "failed": 1}
    assert [e["event"] for e in logs if e["event"].startswith("handler.")] == ["handler.claim_lost"]


def test_a_consumer_that_is_terminated_gives_back_what_waits_as_it_was(
    simulation: Simulation,
) -> None:
    """What runs has failed and is cancelled; of what has not begun no attempt is counted."""
    world = Gated(simulation)
    with world.app as app:
        world.fill(simulation)
        supervisor = NamedSupervisor(simulation.runtime.registry, CONSUMERS)
        supervisor.terminate_child("h").get()
        simulation.settle()
        assert story(app, "a")[-1] == ("failed", 1)
        assert story(app, "b")[-1] == ("released", 1)
        assert world.cancelled == ["a"]


def test_coroutines_of_a_consumer_that_crashed_are_cancelled(simulation: Simulation) -> None:
    """Nobody would hear of them; the next incarnation begins anew."""
    world = Gated(simulation)
    with world.app as app:
        world.fill(simulation)
        crash(app, "h")
        simulation.advance(1.0)
        assert world.cancelled == ["a"]
        world.gate.set()
        simulation.advance(30.0)
        assert phases(app) == {"processed": 5}


def test_nothing_is_kept_of_what_is_done(simulation: Simulation) -> None:
    """Neither by the consumer nor by who gives back the claims of those that crash."""
    world = Gated(simulation)
    world.gate.set()
    with world.app as app:
        push(app, *map(str, range(50)))
        simulation.advance(1.0)
        assert phases(app) == {"processed": 50}
        assert app.handlers["h"].held == 0
        assert app._keeper._owners == {}


def test_no_timer_outlives_a_consumer(simulation: Simulation) -> None:
    """Leases, time-outs, delays: what was planned ends with it."""
    world = Gated(simulation, lease=100.0, timeout=1000.0)
    world.app.start()
    world.fill(simulation)
    push(world.app, "later", not_before=simulation.clock.time_ns() + 10**13)
    simulation.advance(1.0)
    world.app.stop()
    assert simulation.timers.next_due() is None


class Odd(MemoryBackend):
    """Does something odd with the first acknowledgement: ``stored`` and refused, or ``silent``."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.acks = 0

    def execute(self, message: Any) -> Any:
        if isinstance(message, Ack):
            self.acks += 1
            if self.acks == 1:
                if self.how == "silent":
                    return ReplyFuture()
                super().execute(message)
                raise BackendUnavailable("odd", "it was stored all the same")
        return super().execute(message)


def test_an_acknowledgement_that_was_stored_all_the_same(simulation: Simulation) -> None:
    """The second try finds no claim: that is no loss, and nothing is done twice."""
    backend = Odd("stored")
    world = Gated(simulation, backend)
    with world.app as app, capture_logs() as logs:
        push(app, "quick")
        simulation.advance(5.0)
        assert phases(app) == {"processed": 1}
        assert app.handlers["h"].held == 0
    assert backend.acks == 2
    assert world.begun == ["quick"]
    assert not [e for e in logs if e["event"].startswith("handler.")]


def test_an_acknowledgement_that_is_never_answered(simulation: Simulation) -> None:
    """It is held no longer than its lease; then another attempt is made."""
    world = Gated(simulation, Odd("silent"), lease=5.0)
    with world.app as app, capture_logs() as logs:
        push(app, "quick")
        simulation.advance(4.0)
        assert app.handlers["h"].held == 1
        simulation.advance(20.0)
        assert phases(app) == {"processed": 1}
        assert app.handlers["h"].held == 0
        assert Kind.LAPSED in [record.kind for record in history(app, "quick")]
    assert [e["event"] for e in logs if e["event"].startswith("handler.")] == ["handler.claim_lost"]


def test_a_task_that_another_cancels_before_its_first_step_has_failed(
    simulation: Simulation,
) -> None:
    """A coroutine may cancel every task of its loop: the callbacks of the others come again."""
    app = Application(MemoryBackend(), endpoints=[orders()], runtime=simulation.runtime)
    begun: list[str] = []

    async def handle(callback: Callback) -> None:
        begun.append(callback.id)
        if len(begun) == 1:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    app.add_handler(handle, "orders", then="processed", name="h", concurrency=4)
    with app:
        app.handlers.pause("h").get()
        push(app, "a", "b", "c")
        app.handlers.resume("h").get()
        simulation.advance(60.0)
        assert phases(app) == {"processed": 3}
        assert app.handlers["h"].held == 0
        assert sorted(begun) == ["a", "b", "c"]
