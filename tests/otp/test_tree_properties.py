"""The invariant of supervision trees, whatever crashes, stops and is called, in whatever order.

Every example is a random tree of supervisors and workers, a random sequence of messages, crashes,
stops, calls and waits, and a seed for the simulated scheduler. The actors themselves, the event
hook and the monitors keep a book (``World``), which shows that

1. every message asked for and every call is answered or fails once the tree has stopped;
2. no supervisor restarts more often than it allows, none gives up before that, and nothing is
   started that no start, call or counted restart explains;
3. children start in list order, each one's ``on_start`` finished before the next begins, and stop
   in reverse;
4. hooks run one at a time and in order (start, messages, stop), of one incarnation per name, and
   nothing runs after an exit record, or after the root's, but for what was reported unstopped;
5. no supervisor crashes, and nothing comes out of a run but the interrupts that were raised in it;
6. ``which_children`` and ``count_children`` agree with each other and with who is alive.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings

from pollin_actors.otp import (
    Simulation,
)
from tests.otp.tree_plans import Scenario, TreePlan, scenarios
from tests.otp.tree_world import Slot, World


def run(scenario: Scenario) -> World:
    """Build the tree, do everything that was drawn to it, stop it, and check the book."""
    with Simulation(seed=scenario.seed) as simulation:
        world = World(simulation, scenario)
        root: Any = world.make(Slot(None, "root", scenario.tree))
        root.begin(simulation.runtime, world.lives[0].slot.name)
        world.drive(simulation.settle)
        for life in tuple(world.lives):
            if isinstance(life.slot.plan, TreePlan) and life.tree.strategy == "dynamic":
                for number, plan in enumerate(life.tree.children):
                    path = f"{life.slot.path}.{number}"
                    world.start_child(life.ref, Slot(life, path, plan))
        for operation, first, second in scenario.operations:
            world.perform(operation, first, second)
        world.asked("stop of the root", root.ref.stop(block=False))
        world.drive(simulation.advance, 60.0)
        if world.lives[0].exit is None:
            world.lives[0].wrong("has not stopped")
        world.drive(simulation.advance, 1000.0)
        world.check_end()
        assert not world.errors, "\n".join(world.errors[:10])
        return world


def tally(world: World) -> None:
    for kind, count in Counter(type(happened).__name__ for happened in world.booked).items():
        if kind in ("GaveUp", "AutoShutdown", "Unstopped", "OrphanAbandoned", "Restarting"):
            event(f"{kind}: {'once' if count == 1 else 'often'}")


@pytest.mark.timeout(300)
@settings(max_examples=2400, deadline=None, suppress_health_check=list(HealthCheck))
@given(scenarios())
def test_any_tree(scenario: Scenario) -> None:
    tally(run(scenario))


@pytest.mark.timeout(300)
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(scenarios(strategies=("one_for_all", "rest_for_one"), depth=2))
def test_rounds(scenario: Scenario) -> None:
    tally(run(scenario))


@pytest.mark.timeout(300)
@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(scenarios(strategies=("dynamic", "one_for_one"), waits=(0.0, 0.5, 2.0)))
def test_children_that_come_and_go(scenario: Scenario) -> None:
    tally(run(scenario))
