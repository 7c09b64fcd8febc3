"""Supervisors: one_for_one, restart types, intensity, escalation, start and stop in order.

Each runs under the simulated clock and scheduler, with several seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from pollin_actors.otp import (
    ActorDead,
    AlreadyPresent,
    AlreadyStarted,
    ChildCounts,
    ChildNotFound,
    ChildSpec,
    ChildState,
    CountChildren,
    ExitReason,
    IntensityExceeded,
    InvalidSpec,
    Ref,
    ReplyFuture,
    Runtime,
    Simulation,
    StartChild,
    StartFailed,
    Supervisor,
    TerminateChild,
    WhichChildren,
)
from tests.otp.actors import Echo, MayBlock


class Crash(Exception):
    """A handler's mistake."""


@pytest.fixture(params=range(8))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulation:
        yield simulation


def spec(log: list[Any], tag: str, **options: Any) -> ChildSpec:
    options.setdefault("start", lambda: Echo(log, tag))
    return ChildSpec(id=tag, name=tag, **options)


def states(supervisor: Ref[Any]) -> dict[Any, ChildState]:
    return {child.id: child.state for child in supervisor.ask(WhichChildren())}


def refs(supervisor: Ref[Any]) -> dict[Any, Any]:
    return {child.id: child.ref for child in supervisor.ask(WhichChildren())}


def crash(simulation: Simulation, name: str) -> None:
    simulation.runtime.registry.tell(name, Crash())
    simulation.settle()


def test_children_start_in_order_and_stop_in_reverse(simulation: Simulation) -> None:
    log: list[Any] = []
    supervisor = Supervisor.start([spec(log, t) for t in "abc"], runtime=simulation.runtime)
    assert log == [("start", "a"), ("start", "b"), ("start", "c")]
    log.clear()
    assert supervisor.stop() is True
    assert log == [("stop", "c"), ("stop", "b"), ("stop", "a")]


def test_a_child_that_does_not_start_leaves_nothing_running(simulation: Simulation) -> None:
    """Case 1: those before it stop in reverse, then the error names the child and carries why."""
    log: list[Any] = []

    class Broken(Echo):
        def on_start(self) -> None:
            raise LookupError("no configuration")

    children = [spec(log, "a"), spec(log, "b"), ChildSpec(id="c", start=Broken), spec(log, "d")]
    with pytest.raises(StartFailed, match="'c' did not start") as caught:
        Supervisor.start(children, runtime=simulation.runtime)
    assert isinstance(caught.value.__cause__, LookupError)
    assert log == [("start", "a"), ("start", "b"), ("stop", "b"), ("stop", "a")]
    assert simulation.runtime.registry.whereis("a") is None


def test_a_factory_that_raises_is_a_child_that_does_not_start(simulation: Simulation) -> None:
    def broken() -> Echo:
        raise LookupError("no arguments")

    log: list[Any] = []
    with pytest.raises(StartFailed, match="LookupError"):
        Supervisor.start([spec(log, "a"), spec(log, "b", start=broken)], runtime=simulation.runtime)
    assert log == [("start", "a"), ("stop", "a")]


def test_ids_differ(simulation: Simulation) -> None:
    with pytest.raises(InvalidSpec, match="ids that differ, got 'a'"):
        Supervisor([spec([], "a"), spec([], "a")])
    with pytest.raises(InvalidSpec, match="a ChildSpec or an actor class, got 'Echo'"):
        Supervisor(["Echo"])  # type: ignore[list-item]


def test_one_for_one_restarts_who_crashed_and_nobody_else(simulation: Simulation) -> None:
    """Case 7: the sibling's ref is unchanged by two crashes; the third ends the supervisor."""
    log: list[Any] = []
    supervisor = Supervisor.start(
        [spec(log, "a"), spec(log, "b")], max_restarts=2, runtime=simulation.runtime
    )
    sibling, victim = refs(supervisor)["a"], refs(supervisor)["b"]
    for _ in range(2):
        crash(simulation, "b")
        assert refs(supervisor)["a"] is sibling
        assert refs(supervisor)["b"] is not victim
        victim = refs(supervisor)["b"]
    monitor = supervisor.monitor()
    log.clear()
    crash(simulation, "b")
    record = monitor.get(timeout=0)
    assert record.reason is ExitReason.SHUTDOWN
    assert isinstance(record.exception, IntensityExceeded)
    assert log == [("stop", "a")]
    with pytest.raises(ActorDead):
        supervisor.ask(CountChildren())


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("end", ["stop", "crash"])
def test_restart_types(simulation: Simulation, restart: Any, end: str) -> None:
    """Cases 5 and 6, and the table of restart types."""
    log: list[Any] = []
    supervisor = Supervisor.start([spec(log, "a", restart=restart)], runtime=simulation.runtime)
    ref = refs(supervisor)["a"]
    if end == "stop":
        ref.stop()
        simulation.settle()
    else:
        crash(simulation, "a")
    restarted = restart == "permanent" or (restart == "transient" and end == "crash")
    if restarted:
        assert states(supervisor) == {"a": ChildState.RUNNING}
        assert refs(supervisor)["a"] is not ref
    elif restart == "temporary":
        assert states(supervisor) == {}
        again = supervisor.ask(StartChild(spec(log, "a", restart=restart)))
        assert again.is_alive(), "the same id starts at once"
    else:
        assert states(supervisor) == {"a": ChildState.STOPPED}
        assert supervisor.ask(CountChildren()) == ChildCounts(1, 0, 0, 1)


def test_start_child(simulation: Simulation) -> None:
    """Case 2: the reply is the ref; a running id is already started, with the same ref."""
    log: list[Any] = []
    supervisor = Supervisor.start([], runtime=simulation.runtime)
    ref = supervisor.ask(StartChild(spec(log, "a")))
    assert log == [("start", "a")]
    with pytest.raises(AlreadyStarted) as caught:
        supervisor.ask(StartChild(spec(log, "a")))
    assert caught.value.ref is ref
    assert supervisor.is_alive()


def test_a_started_child_that_fails_is_not_kept(simulation: Simulation) -> None:
    class Broken(Echo):
        def on_start(self) -> None:
            raise LookupError("no configuration")

    supervisor = Supervisor.start([], max_restarts=0, runtime=simulation.runtime)
    with pytest.raises(StartFailed):
        supervisor.ask(StartChild(spec([], "a", start=Broken)))
    assert supervisor.ask(CountChildren()) == ChildCounts(0, 0, 0, 0)
    assert supervisor.is_alive(), "no restart was counted"


def test_terminate_child(simulation: Simulation) -> None:
    """Case 3: the child stays listed without a ref; terminating again is fine."""
    log: list[Any] = []
    supervisor = Supervisor.start([spec(log, "a")], max_restarts=0, runtime=simulation.runtime)
    for _ in range(2):
        assert supervisor.ask(TerminateChild("a")) is None
        assert refs(supervisor) == {"a": None}
        assert supervisor.ask(CountChildren()) == ChildCounts(1, 0, 0, 1)
    assert log == [("start", "a"), ("stop", "a")]
    with pytest.raises(ChildNotFound, match="no child 'b'"):
        supervisor.ask(TerminateChild("b"))
    with pytest.raises(ActorDead, match="not restarted"):
        simulation.runtime.registry.ask("a", "anybody there?").get()


def test_a_restart_that_fails_is_tried_again_and_counted(simulation: Simulation) -> None:
    """Case 11: fails once, budget 2: recovers."""
    log: list[Any] = []
    broken = [False, True, False]

    class Sometimes(Echo):
        def on_start(self) -> None:
            if broken.pop(0):
                raise LookupError("not yet")
            super().on_start()

    supervisor = Supervisor.start(
        [spec(log, "a", start=lambda: Sometimes(log, "a"))],
        max_restarts=2,
        runtime=simulation.runtime,
    )
    crash(simulation, "a")
    assert states(supervisor) == {"a": ChildState.RUNNING}
    assert not broken


def test_restarts_that_always_fail_end_the_supervisor(simulation: Simulation) -> None:
    """Case 11: budget 1, one crash."""
    first = [True]

    class Once(Echo):
        def on_start(self) -> None:
            if not first:
                raise LookupError("never again")
            first.clear()

    supervisor = Supervisor.start(
        [spec([], "a", start=Once)], max_restarts=1, runtime=simulation.runtime
    )
    monitor = supervisor.monitor()
    crash(simulation, "a")
    assert monitor.get(timeout=0).reason is ExitReason.SHUTDOWN


def test_a_crash_now_and_then_is_survived(simulation: Simulation) -> None:
    """Case 10: budget 1 in 1 s, a crash every 2.1 s."""
    supervisor = Supervisor.start(
        [spec([], "a")], max_restarts=1, max_seconds=1.0, runtime=simulation.runtime
    )
    for _ in range(10):
        simulation.advance(2.1)
        crash(simulation, "a")
    assert states(supervisor) == {"a": ChildState.RUNNING}


def test_zero_restarts_and_a_temporary_child(simulation: Simulation) -> None:
    """The first crash of a permanent child trips; a temporary child's does not."""
    supervisor = Supervisor.start(
        [spec([], "a", restart="temporary"), spec([], "b")],
        max_restarts=0,
        runtime=simulation.runtime,
    )
    crash(simulation, "a")
    assert supervisor.is_alive()
    crash(simulation, "b")
    assert not supervisor.is_alive()


def test_a_supervisor_that_gives_up_is_restarted_by_its_own(simulation: Simulation) -> None:
    """Case 17: its static children return; those that were added are gone."""
    log: list[Any] = []
    inner = ChildSpec(
        id="inner",
        name="inner",
        type="supervisor",
        start=lambda: Supervisor([spec(log, "static")], max_restarts=0),
    )
    outer = Supervisor.start([inner], runtime=simulation.runtime)
    ask = simulation.runtime.registry.ask
    ask("inner", StartChild(spec(log, "added"))).get()
    before = refs(outer)["inner"]
    crash(simulation, "static")
    assert refs(outer)["inner"] is not before
    assert [child.id for child in ask("inner", WhichChildren()).get()] == ["static"]
    assert ask("static", "hello").get() == "hello"


def test_budgets_escalate_to_the_top(simulation: Simulation) -> None:
    inner = ChildSpec(
        id="inner",
        type="supervisor",
        start=lambda: Supervisor([spec([], "a")], max_restarts=0),
    )
    outer = Supervisor.start([inner], max_restarts=1, runtime=simulation.runtime)
    monitor = outer.monitor()
    crash(simulation, "a")
    assert outer.is_alive()
    crash(simulation, "a")
    assert monitor.get(timeout=0).reason is ExitReason.SHUTDOWN


def test_a_transient_supervisor_that_gives_up_is_not_restarted(simulation: Simulation) -> None:
    """The trap: it exits with shutdown, and that is no crash."""
    inner = ChildSpec(
        id="inner",
        type="supervisor",
        restart="transient",
        start=lambda: Supervisor([spec([], "a")], max_restarts=0),
    )
    outer = Supervisor.start([inner], runtime=simulation.runtime)
    crash(simulation, "a")
    assert states(outer) == {"inner": ChildState.STOPPED}


def test_messages_by_name_wait_for_the_next_incarnation(simulation: Simulation) -> None:
    """The message that crashed fails; those behind it are handled in order, before newer ones."""
    log: list[Any] = []
    Supervisor.start([spec(log, "a")], runtime=simulation.runtime)
    ask = simulation.runtime.registry.ask
    crashing = ask("a", Crash())
    behind = [ask("a", number) for number in range(5)]
    simulation.settle()
    newer = ask("a", 5)
    with pytest.raises(Crash):
        crashing.get()
    assert [future.get() for future in (*behind, newer)] == list(range(6))
    assert log == [("start", "a"), ("start", "a"), 0, 1, 2, 3, 4, 5]


def test_a_ref_never_comes_to_mean_the_next_incarnation(simulation: Simulation) -> None:
    supervisor = Supervisor.start([spec([], "a")], runtime=simulation.runtime)
    ref = refs(supervisor)["a"]
    crashing = ref.ask(Crash(), block=False)
    behind = ref.ask("to this one only", block=False)
    simulation.settle()
    with pytest.raises(Crash):
        crashing.get()
    with pytest.raises(ActorDead):
        behind.get()
    assert not ref.is_alive()
    assert refs(supervisor)["a"] is not ref


def test_calls_are_answered_while_a_restart_is_tried_again(simulation: Simulation) -> None:
    """Case 12: the supervisor never waits; terminate_child ends the loop."""
    started = [True]
    answers: list[Any] = []

    class Looping(Echo):
        def on_start(self) -> None:
            if not started:
                if not answers:
                    answers.append(supervisor.ask(StartChild(spec([], "a")), block=False))
                    answers.append(supervisor.ask(CountChildren(), block=False))
                    answers.append(supervisor.ask(TerminateChild("a"), block=False))
                raise LookupError("not yet")
            started.clear()

    supervisor = Supervisor.start(
        [spec([], "a", start=Looping)], max_restarts=1000, runtime=simulation.runtime
    )
    crash(simulation, "a")
    already, counts, terminated = answers
    with pytest.raises(AlreadyPresent):
        already.get(timeout=0)
    assert counts.get(timeout=0).specs == 1
    assert terminated.get(timeout=0) is None
    assert states(supervisor) == {"a": ChildState.STOPPED}


def test_a_stubborn_child_is_abandoned_and_reported() -> None:
    """Case 14: shutdown 1 s; the call returns after 1 s, and the log says who did not end."""
    with Simulation() as simulation:
        never: ReplyFuture[None] = ReplyFuture()

        class Stubborn(MayBlock):
            def on_stop(self) -> None:
                never.get(timeout=60)

        supervisor = Supervisor.start(
            [spec([], "a", start=Stubborn, shutdown=1.0)], runtime=simulation.runtime
        )
        ref = refs(supervisor)["a"]
        with capture_logs() as logs:
            assert supervisor.ask(TerminateChild("a")) is None
        assert not ref.is_alive()
        assert ref.monitor().get(timeout=0).reason is ExitReason.UNSTOPPED
        assert [entry["child"] for entry in logs if entry["event"] == "actor.unstopped"] == ["a"]


def test_crashes_and_restarts_are_logged(simulation: Simulation) -> None:
    supervisor = Supervisor.start([spec([], "a")], max_restarts=1, runtime=simulation.runtime)
    simulation.settle()
    with capture_logs() as logs:
        crash(simulation, "a")
        crash(simulation, "a")
    assert not supervisor.is_alive()
    events = [entry["event"] for entry in logs]
    assert events == [
        "actor.crashed",
        "actor.restarting",
        "actor.started",
        "actor.crashed",
        "supervisor.gave_up",
    ]
    assert logs[0]["child"] == "a"
    assert logs[0]["supervisor"] == logs[4]["supervisor"]
    assert logs[0]["reason"] == "crash"
    assert logs[3]["generation"] == 2


def test_asked_while_it_dies(simulation: Simulation) -> None:
    """Case 18: every asker gets an answer or an error."""
    supervisor = Supervisor.start([spec([], "a")], max_restarts=0, runtime=simulation.runtime)
    registry = simulation.runtime.registry
    asked = [registry.ask("a", number) for number in range(3)]
    asked.append(registry.ask("a", Crash()))
    asked += [registry.ask("a", number) for number in range(3)]
    calls = [supervisor.ask(CountChildren(), block=False) for _ in range(5)]
    supervisor.stop(block=False)
    simulation.settle()
    calls += [supervisor.ask(CountChildren(), block=False)]
    assert all(future.done() for future in calls)
    for future in asked[:4]:
        assert future.done()


def test_a_supervisor_on_real_threads() -> None:
    """The same rules with the real scheduler and clock."""
    runtime = Runtime().start()
    log: list[Any] = []
    try:
        supervisor = Supervisor.start(
            [spec(log, "a"), spec(log, "b", start=lambda: MayBlock(log, "b"))], runtime=runtime
        )
        for name in "ab":
            crashing = runtime.registry.ask(name, Crash())
            behind = runtime.registry.ask(name, "behind")
            with pytest.raises(Crash):
                crashing.get(timeout=10)
            assert behind.get(timeout=10) == "behind"
        assert supervisor.stop(timeout=10)
        assert log[-2:] == [("stop", "b"), ("stop", "a")]
    finally:
        assert runtime.stop()
