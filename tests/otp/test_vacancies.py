"""Names that nobody will bear again: who asks them is told, whatever way the last bearer went."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from pollin_actors.otp import (
    ActorDead,
    Backoff,
    ChildSpec,
    ChildState,
    DynamicSupervisor,
    NameNotFound,
    ReplyFuture,
    Simulation,
    StartFailed,
    Supervisor,
)
from pollin_actors.otp.actor import Actor
from pollin_actors.otp.children import RestartDue
from tests.otp.actors import Echo, MayBlock
from tests.otp.test_otp_rules import Slow


class Crash(Exception):
    """A handler's mistake."""


class Broken(Echo):
    """Does not start."""

    def on_start(self) -> None:
        raise Crash


@pytest.fixture(params=range(8))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulation:
        yield simulation


def worker(name: str, start: Callable[[], Actor] = Echo, **options: Any) -> ChildSpec:
    return ChildSpec(id=name, name=name, start=start, **options)


def supervisor(
    child_id: str, children: Sequence[ChildSpec], *, name: str | None = None, **options: Any
) -> ChildSpec:
    shutdown = options.pop("shutdown", "infinity")
    return ChildSpec(
        id=child_id,
        name=name,
        type="supervisor",
        shutdown=shutdown,
        start=partial(Supervisor, children, **options),
    )


def slow(simulation: Simulation, seconds: float = 2.0) -> Callable[[], Actor]:
    """Makes actors that need so many seconds for their end."""

    class Slow(MayBlock):
        def on_stop(self) -> None:
            over: ReplyFuture[None] = ReplyFuture()
            simulation.timers.call_later(seconds, partial(over.set, None))
            over.get()

    return Slow


def ending_late(name: str) -> ChildSpec:
    """A supervisor without children that takes two seconds to end, and blocks nobody."""
    return ChildSpec(id=name, start=lambda: Slow(2.0), type="supervisor")


def is_refused(simulation: Simulation, name: str) -> bool:
    """Whether who asks the name is told at once, without any deadline."""
    try:
        asked = simulation.runtime.registry.ask(name, "anybody there?", timeout=None)
    except NameNotFound:
        return True
    simulation.settle()
    if not asked.done():
        return False
    with pytest.raises(ActorDead):
        asked.get()
    return True


def test_the_own_name_of_a_root(simulation: Simulation) -> None:
    """Nobody restarts it: the name is free, and unknown."""
    root = Supervisor.start([], name="root", runtime=simulation.runtime)
    root.stop()
    with pytest.raises(NameNotFound):
        simulation.runtime.registry.ask("root", "hello")
    again = Supervisor.start([], name="root", runtime=simulation.runtime)
    assert simulation.runtime.registry.whereis("root") is again


def test_below_an_unnamed_supervisor_that_gives_up_with_all_above_it(
    simulation: Simulation,
) -> None:
    children = [worker("a"), worker("b")]
    inner = supervisor("inner", children, max_restarts=0)
    root = Supervisor.start([inner], max_restarts=0, runtime=simulation.runtime)
    simulation.runtime.registry.tell("a", Crash())
    simulation.settle()
    assert not root.is_alive()
    assert is_refused(simulation, "b")


def test_below_a_supervisor_that_did_not_start(simulation: Simulation) -> None:
    """At once, while the supervisor above it lives on."""
    children = [worker("c"), worker("d", Broken)]
    outer = supervisor("outer", [supervisor("inner", children, name="inner")], name="outer")
    root = DynamicSupervisor.start(runtime=simulation.runtime)
    with pytest.raises(StartFailed):
        root.start_child(outer).get()
    for name in ("c", "d", "inner", "outer"):
        assert is_refused(simulation, name)


def test_below_a_supervisor_that_was_abandoned(simulation: Simulation) -> None:
    """Its children end later than itself; nobody waits for them, but who asks them is told."""
    late = supervisor(
        "late", [worker("b"), worker("slow", slow(simulation))], name="late", shutdown=1.0
    )
    root = Supervisor.start([late, worker("other")], runtime=simulation.runtime)
    root.terminate_child("late", timeout=None)
    simulation.advance(100.0)
    assert root.tree().get().unstopped == 1
    for name in ("late", "b", "slow"):
        assert is_refused(simulation, name)
    assert root.restart_child("late").get().is_alive()
    assert simulation.runtime.registry.ask("b", "hello").get() == "hello"


@pytest.mark.parametrize("how", ["terminate", "round"])
def test_a_supervisor_that_comes_back_takes_over_what_waits(
    simulation: Simulation, how: str
) -> None:
    """While it is restarted its children's names are not vacant: messages wait for them."""
    inner = supervisor("inner", [worker("deep")])
    root = Supervisor.start(
        [ending_late("first"), inner, worker("last")],
        strategy="one_for_all",
        runtime=simulation.runtime,
    )
    registry = simulation.runtime.registry
    if how == "terminate":
        root.terminate_child("inner").get()
        assert is_refused(simulation, "deep")
        root.restart_child("inner").get()
    registry.tell("last", Crash())
    simulation.settle()
    assert root.which_child("inner").get().state is ChildState.RESTARTING
    waiting = registry.ask("deep", "are you back?", timeout=None)
    simulation.settle()
    assert not waiting.done()
    simulation.advance(2.0)
    assert waiting.get() == "are you back?"


@pytest.mark.parametrize("seed", range(40))
def test_an_orphaned_supervisor_takes_its_children_with_it(seed: int) -> None:
    """Its name is taken over by the next incarnation of its own supervisor, which was abandoned."""
    with Simulation(seed=seed) as simulation:
        log: list[Any] = []
        workers = [ChildSpec(id=i, start=partial(Echo, log, i)) for i in range(4)]
        inner = supervisor("inner", workers, name="inner")
        middle = supervisor(
            "middle", [inner, worker("slow", slow(simulation))], name="middle", shutdown=0.0
        )
        root = Supervisor.start(
            [worker("a"), middle, worker("b")], strategy="one_for_all", runtime=simulation.runtime
        )
        simulation.runtime.registry.tell("b", Crash())
        simulation.advance(10.0)
        root.stop()
        simulation.advance(1_000.0)
        kinds = [kind for kind, _ in log]
        assert kinds.count("start") == kinds.count("stop") >= 8


def test_a_child_restarted_by_a_call_waits_for_the_round(simulation: Simulation) -> None:
    """It starts in its turn, after the others have stopped."""
    log: list[Any] = []
    specs = [worker(tag, partial(Echo, log, tag)) for tag in "abcd"]
    specs[1] = ending_late("b")
    root = Supervisor.start(specs, strategy="one_for_all", runtime=simulation.runtime)
    log.clear()
    simulation.runtime.registry.tell("d", Crash())
    simulation.settle()
    root.terminate_child("c").get()
    restarted = root.restart_child("c")
    simulation.settle()
    assert not restarted.done()
    assert log == [("stop", "c")]
    simulation.advance(2.0)
    assert restarted.get().is_alive()
    assert log[1:] == [("stop", "a"), ("start", "a"), ("start", "c"), ("start", "d")]


def test_a_restart_that_was_cancelled_comes_too_late(simulation: Simulation) -> None:
    """Its message lay in the mailbox already: it starts nothing, also once there is another."""
    root = Supervisor.start(
        [worker("a")],
        backoff=Backoff(first=5.0, most=5.0, jitter=0.0),
        max_restarts=100,
        runtime=simulation.runtime,
    )
    registry = simulation.runtime.registry
    for _ in range(2):
        registry.tell("a", Crash())
        simulation.settle()
    assert root.which_child("a").get().state is ChildState.RESTARTING
    actor = root._cell.actor
    child = actor.find("a")
    stale = RestartDue(root._cell, child, child.attempt)
    root.terminate_child("a").get()
    root.restart_child("a").get()
    for _ in range(2):
        registry.tell("a", Crash())
        simulation.settle()
    root._cell.mailbox.post_urgent(stale)
    simulation.settle()
    assert root.which_child("a").get().state is ChildState.RESTARTING
    simulation.advance(5.0)
    assert root.which_child("a").get().state is ChildState.RUNNING
