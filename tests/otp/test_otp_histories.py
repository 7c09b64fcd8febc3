"""Random lives of supervisors: whatever is called and crashes when, the rules hold in the end.

One seed decides everything, so a history that fails can be run again.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Hashable
from typing import Any

import pytest

from pollin_actors.otp import (
    Backoff,
    ChildSpec,
    ChildState,
    ExitReason,
    OtpError,
    ReplyFuture,
    Shutdown,
    Simulation,
    Stop,
    Supervisor,
)
from tests.otp.test_otp_rules import Crash, Late, Slow, Worker, refs

TAGS = "abcdef"
ENDINGS = ("crash", "crash", "stop", "shutdown")


class History:
    """A supervisor, and what chance does to it, also from inside its children's hooks."""

    def __init__(self, simulation: Simulation, seed: int, **options: Any) -> None:
        self.simulation = simulation
        self.chance = random.Random(seed)
        self.quiet = True
        self.calls: list[ReplyFuture[Any]] = []
        self.terminated: set[Hashable] = set()
        self.workers: list[Any] = []
        self.supervisor = Supervisor.start(
            max_restarts=1_000_000, runtime=simulation.runtime, **options
        )

    def worker(self, tag: str) -> Worker:
        history = self

        class Erratic(Worker):
            def on_start(self) -> None:
                history.workers.append(self._actor_ref)
                if not history.quiet:
                    if history.chance.random() < 0.1:
                        history.act()
                    self.fails = history.chance.random() < 0.15
                super().on_start()

            def on_stop(self) -> None:
                if not history.quiet and history.chance.random() < 0.1:
                    history.act()

        return Erratic([], tag)

    def spec(self, tag: str) -> ChildSpec:
        chance = self.chance
        restart: Any = chance.choice(["permanent", "transient", "temporary"])
        kind, seconds = chance.random(), chance.choice([0.5, 2.0, 9.0])
        shutdown: Any = chance.choice(["brutal_kill", 1.0, 5.0, "infinity"])
        named = tag if chance.random() < 0.5 else None
        if kind < 0.12:
            return ChildSpec(tag, lambda: Slow(seconds), restart, shutdown, "supervisor")
        if kind < 0.24:
            return ChildSpec(tag, lambda: Late(seconds), restart, shutdown, "supervisor")
        return ChildSpec(tag, lambda: self.worker(tag), restart, shutdown, name=named)

    def act(self) -> None:
        """Make one call, or end somebody."""
        tag, supervisor = self.chance.choice(TAGS), self.supervisor
        what = self.chance.randrange(9)
        if what < 3:
            alive = [ref for ref in self.workers if ref.is_alive()]
            how = {"crash": Crash(), "stop": Stop(), "shutdown": Shutdown("why")}
            if alive:
                self.chance.choice(alive).tell(how[self.chance.choice(ENDINGS)])
        elif what == 3:
            self.calls.append(supervisor.start_child(self.spec(tag), timeout=None))
        elif what == 4:
            self.terminated.add(tag)
            self.calls.append(supervisor.terminate_child(tag, timeout=None))
        elif what == 5:
            self.calls.append(supervisor.restart_child(tag, timeout=None))
        elif what == 6:
            self.calls.append(supervisor.delete_child(tag, timeout=None))
        elif what == 7:
            self.calls.append(supervisor.count_children(timeout=None))
        else:
            self.calls.append(supervisor.which_children(timeout=None))

    def live(self) -> None:
        self.quiet = False
        for _ in range(120):
            for _ in range(self.chance.randrange(1, 4)):
                self.act()
            for _ in range(self.chance.randrange(6)):
                self.simulation.scheduler.step()
            if self.chance.random() < 0.3:
                self.simulation.advance(self.chance.choice([0.0, 0.2, 1.0, 3.0]))
        self.quiet = True
        self.simulation.advance(300.0)


@pytest.mark.parametrize("backoff", [None, Backoff(first=0.5, jitter=0.0)])
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("seed", range(12))
def test_a_random_history(seed: int, strategy: Any, backoff: Backoff | None) -> None:
    """The supervisor lives, every call is answered, and in the end whoever should run runs once."""
    with Simulation(seed=seed) as simulation:
        history = History(simulation, seed, strategy=strategy, backoff=backoff)
        history.live()
        supervisor = history.supervisor
        assert supervisor.is_alive()
        for call in history.calls:
            assert call.done()
            with contextlib.suppress(OtpError):
                call.get(timeout=0)
        running = set()
        for child in supervisor.which_children().get():
            assert child.state in (ChildState.RUNNING, ChildState.STOPPED)
            assert (child.ref is not None) is (child.state is ChildState.RUNNING)
            running.add(child.ref)
            restart = supervisor.get_childspec(child.id).get().restart
            if child.state is ChildState.STOPPED and restart == "permanent":
                assert child.id in history.terminated
        assert {ref for ref in history.workers if ref.is_alive()} <= running
        assert all(ref is None or ref.is_alive() for ref in refs(supervisor).values())
        supervisor.stop()
        assert supervisor.monitor().get(timeout=0).reason is ExitReason.NORMAL
        assert not any(ref.is_alive() for ref in history.workers)
