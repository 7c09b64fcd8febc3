"""The rules of OTP supervision: restart types, rounds, budgets, back-off and escalation.

What the children write down is explained in ``test_otp_rules``, where the helpers are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

import pytest

from pollin_actors.otp import (
    ActorDead,
    Backoff,
    ChildCounts,
    ChildSpec,
    ChildState,
    Crashed,
    DynamicSupervisor,
    ExitReason,
    IntensityExceeded,
    InvalidSpec,
    Ref,
    Restarting,
    Shutdown,
    Simulation,
    StartFailed,
    Stop,
    Supervisor,
    Unstopped,
)
from tests.otp.test_otp_rules import (
    Crash,
    Late,
    Slow,
    crash,
    end,
    events,
    flaky,
    nth,
    on_first_stop,
    reason,
    refs,
    spec,
    specs,
    states,
    told,
)


@pytest.fixture(params=range(8))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulation:
        yield simulation


# -- restart types ---------------------------------------------------------------------------------

ENDS: dict[str, tuple[Callable[[Ref[Any]], object], ExitReason]] = {
    "stop": (lambda ref: ref.stop(block=False), ExitReason.NORMAL),
    "Stop": (lambda ref: ref.tell(Stop()), ExitReason.NORMAL),
    "Shutdown": (lambda ref: ref.tell(Shutdown("why")), ExitReason.SHUTDOWN),
    "crash": (lambda ref: ref.tell(Crash()), ExitReason.CRASH),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_restart_type_by_exit_reason(simulation: Simulation, restart: Any, how: str) -> None:
    """The table for a static supervisor: restarted, kept without a ref, or removed."""
    log: list[str] = []
    supervisor = Supervisor.start(
        [spec(log, "a", restart=restart), spec(log, "b")], runtime=simulation.runtime
    )
    ref, sibling = refs(supervisor).values()
    ENDS[how][0](ref)
    simulation.settle()
    assert reason(ref) is ENDS[how][1]
    after = refs(supervisor)
    assert after.pop("b") is sibling
    if restart == "permanent" or (restart == "transient" and how == "crash"):
        assert after["a"].is_alive()
        assert after["a"] is not ref
    else:
        assert after == ({} if restart == "temporary" else {"a": None})


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_dynamic_restart_type_by_exit_reason(
    simulation: Simulation, restart: Any, how: str
) -> None:
    """The table for a dynamic supervisor: restarted, or gone."""
    supervisor = DynamicSupervisor.start(runtime=simulation.runtime)
    ref = supervisor.start_child(spec([], "a", restart=restart)).get()
    ENDS[how][0](ref)
    simulation.settle()
    if restart == "permanent" or (restart == "transient" and how == "crash"):
        assert refs(supervisor)["a"] is not ref
    else:
        assert refs(supervisor) == {}
        assert supervisor.count_children().get() == ChildCounts(0, 0, 0, 0)


def test_killed_siblings_of_a_round(simulation: Simulation) -> None:
    """Those killed in a round restart unless temporary; their ``on_stop`` does not run."""
    log: list[str] = []
    killed = [
        spec(log, restart, restart=restart, shutdown="brutal_kill")
        for restart in ("permanent", "transient", "temporary")
    ]
    supervisor = Supervisor.start(
        [*killed, spec(log, "a")], strategy="one_for_all", runtime=simulation.runtime
    )
    before = refs(supervisor)
    log.clear()
    crash(simulation, "a")
    assert told(log) == "+permanent +transient +a"
    for killed_spec in killed:
        assert reason(before[killed_spec.id]) is ExitReason.KILLED
    assert list(refs(supervisor)) == ["permanent", "transient", "a"]


# -- strategies and order --------------------------------------------------------------------------


@pytest.mark.parametrize("victim", "abc")
def test_one_for_all(simulation: Simulation, victim: str) -> None:
    """The others stop in reverse order, then all start in order; it counts as one restart."""
    log: list[str] = []
    supervisor = Supervisor.start(
        specs(log, "abc"), strategy="one_for_all", max_restarts=1, runtime=simulation.runtime
    )
    before = refs(supervisor)
    log.clear()
    crash(simulation, victim)
    stopped = [f"-{tag}" for tag in "cba" if tag != victim]
    assert log == [*stopped, "+a", "+b", "+c"]
    after = refs(supervisor)
    assert list(after) == ["a", "b", "c"]
    assert not {*before.values()} & {*after.values()}
    for tag, ref in before.items():
        assert reason(ref) is (ExitReason.CRASH if tag == victim else ExitReason.SHUTDOWN)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_bystanders_of_a_round(simulation: Simulation, strategy: Any) -> None:
    """Temporary ones are removed, all others start, also those that did not run before."""
    log: list[str] = []
    supervisor = Supervisor.start(
        [
            spec(log, "a"),
            spec(log, "b", restart="temporary"),
            spec(log, "c", restart="transient"),
            spec(log, "d", restart="transient"),
            spec(log, "e"),
        ],
        strategy=strategy,
        max_restarts=1,
        runtime=simulation.runtime,
    )
    end(simulation, "d", Stop())
    supervisor.terminate_child("e").get()
    log.clear()
    crash(simulation, "a")
    assert told(log) == "-c -b +a +c +d +e"
    assert states(supervisor) == dict.fromkeys("acde", ChildState.RUNNING)
    assert supervisor.start_child(spec(log, "b", restart="temporary")).get().is_alive()


def test_rest_for_one_leaves_those_before_alone(simulation: Simulation) -> None:
    """Whoever stands before and does not run is not started, whatever its type."""
    log: list[str] = []
    supervisor = Supervisor.start(
        [*specs(log, "ab"), spec(log, "c", restart="temporary"), spec(log, "d")],
        strategy="rest_for_one",
        runtime=simulation.runtime,
    )
    supervisor.terminate_child("a").get()
    log.clear()
    crash(simulation, "d")
    assert log == ["+d"]
    crash(simulation, "c")
    assert log == ["+d"], "a temporary child that crashes starts no round"
    assert states(supervisor) == {
        "a": ChildState.STOPPED,
        "b": ChildState.RUNNING,
        "d": ChildState.RUNNING,
    }


def test_a_sibling_fails_in_a_round_of_one_for_all(simulation: Simulation) -> None:
    """What was restarted is stopped and the round is redone; each attempt counts."""
    log: list[str] = []
    children = [spec(log, "a"), spec(log, "b", start=flaky(log, "b", [2, 3])), spec(log, "c")]
    supervisor = Supervisor.start(
        children, strategy="one_for_all", max_restarts=3, runtime=simulation.runtime
    )
    log.clear()
    crash(simulation, "a")
    assert told(log) == "-c -b +a !b -a +a !b -a +a +b +c"
    assert states(supervisor) == dict.fromkeys("abc", ChildState.RUNNING)
    crash(simulation, "a")
    assert not supervisor.is_alive(), "three attempts counted before"


def test_a_sibling_fails_in_a_round_of_rest_for_one(simulation: Simulation) -> None:
    """Only that sibling and those after it are redone; each attempt counts."""
    log: list[str] = []
    children = [*specs(log, "ab"), spec(log, "c", start=flaky(log, "c", [2])), spec(log, "d")]
    supervisor = Supervisor.start(
        children, strategy="rest_for_one", max_restarts=2, runtime=simulation.runtime
    )
    first = refs(supervisor)["a"]
    log.clear()
    crash(simulation, "b")
    assert told(log) == "-d -c +b !c +c +d"
    assert refs(supervisor)["a"] is first
    crash(simulation, "d")
    assert not supervisor.is_alive(), "two attempts counted before"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_rounds_that_always_fail_trip(simulation: Simulation, strategy: Any) -> None:
    """Budget 2: the crash and one failed round are served, the second failure trips."""
    log: list[str] = []
    children = [spec(log, "a"), spec(log, "b", start=flaky(log, "b")), spec(log, "c")]
    supervisor = Supervisor.start(
        children, strategy=strategy, max_restarts=2, runtime=simulation.runtime
    )
    log.clear()
    crash(simulation, "a")
    assert reason(supervisor) is ExitReason.SHUTDOWN
    redone = "-a +a " if strategy == "one_for_all" else ""
    assert told(log) == f"-c -b +a !b {redone}!b -a"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_an_earlier_sibling_crashes_during_a_round(simulation: Simulation, strategy: Any) -> None:
    """The round begins anew from there: one restart more, and in the end all run once."""
    log: list[str] = []
    again = {2: lambda: simulation.runtime.registry.tell("b", Crash())}
    children = [*specs(log, "ab"), spec(log, "c", start=nth(again, log, "c")), spec(log, "d")]
    supervisor = Supervisor.start(
        children, strategy=strategy, max_restarts=2, runtime=simulation.runtime
    )
    first = refs(supervisor)["a"]
    crash(simulation, "b")
    assert (refs(supervisor)["a"] is first) is (strategy == "rest_for_one")
    assert states(supervisor) == dict.fromkeys("abcd", ChildState.RUNNING)
    assert told(log[-3:]) == "+b +c +d"
    assert log.count("+b") == 3
    assert log.count("+d") - log.count("-d") == 1
    crash(simulation, "d")
    assert not supervisor.is_alive(), "two restarts counted before"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_later_sibling_crashes_while_it_is_about_to_be_stopped(
    simulation: Simulation, strategy: Any
) -> None:
    """That is no restart more: it was to stop anyhow, and starts again with the others."""
    log: list[str] = []

    def fall() -> None:
        before["b"].tell(Crash())

    children = [*specs(log, "ab"), spec(log, "c", start=on_first_stop(fall, log, "c"))]
    supervisor = Supervisor.start(
        children, strategy=strategy, max_restarts=1, runtime=simulation.runtime
    )
    before = refs(supervisor)
    crash(simulation, "a")
    assert states(supervisor) == dict.fromkeys("abc", ChildState.RUNNING)
    assert told(log[-3:]) == "+a +b +c"
    assert log.count("+b") == 2


def test_a_permanent_sibling_ends_normally_during_a_round(simulation: Simulation) -> None:
    """A restarted sibling that ends in order while others start is restarted with the round."""
    log: list[str] = []
    leave = {2: lambda: simulation.runtime.registry.tell("a", Stop())}
    children = [spec(log, "a"), spec(log, "b", start=nth(leave, log, "b")), spec(log, "c")]
    supervisor = Supervisor.start(
        children, strategy="one_for_all", max_restarts=2, runtime=simulation.runtime
    )
    crash(simulation, "c")
    assert states(supervisor) == dict.fromkeys("abc", ChildState.RUNNING)
    assert told(log[-3:]) == "+a +b +c"
    assert log.count("+a") == 3


def test_an_abandoned_sibling_in_a_round(simulation: Simulation) -> None:
    """One that does not stop in time is abandoned and reported; the round goes on without it."""
    log: list[str] = []
    reports = events(simulation, Unstopped)
    slow = ChildSpec(id="b", start=lambda: Slow(60.0), shutdown=2.0, type="supervisor")
    supervisor = Supervisor.start(
        [spec(log, "a"), slow, spec(log, "c"), spec(log, "d")],
        strategy="one_for_all",
        max_restarts=1,
        runtime=simulation.runtime,
    )
    before = refs(supervisor)
    log.clear()
    crash(simulation, "c")
    assert told(log) == "-d"
    assert states(supervisor)["b"] is ChildState.STOPPING
    simulation.advance(1.9)
    assert told(log) == "-d"
    simulation.advance(0.1)
    assert told(log) == "-d -a +a +c +d"
    assert [report.child for report in reports] == ["b"]
    assert reason(before["b"]) is ExitReason.UNSTOPPED
    assert states(supervisor) == dict.fromkeys("abcd", ChildState.RUNNING)
    simulation.advance(100.0)
    assert refs(supervisor)["b"].is_alive(), "the late end of the old one is not the new one's"
    assert supervisor.tree().get().unstopped == 1


def test_nested_trees_stop_depth_first_in_reverse(simulation: Simulation) -> None:
    """Each supervisor ends only after its children, and before its elder siblings."""
    log: list[str] = []

    def tree(name: str, *children: ChildSpec) -> ChildSpec:
        return ChildSpec(
            id=name,
            type="supervisor",
            start=lambda: Supervisor([*children, spec(log, f"{name}-last")]),
        )

    a, b, c, d = specs(log, "abcd")
    supervisor = Supervisor.start(
        [a, tree("left", b, tree("deep", c)), d, tree("right")], runtime=simulation.runtime
    )
    started = list(log)
    assert told(log) == "+a +b +c +deep-last +left-last +d +right-last"
    supervisor.stop()
    assert log[len(started) :] == [f"-{entry[1:]}" for entry in reversed(started)]


# -- intensity -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("moment", "survives"), [(4.9, False), (5.0, False), (5.001, True)])
def test_an_attempt_counts_up_to_and_including_max_seconds(
    simulation: Simulation, moment: float, survives: bool
) -> None:
    """``now - t <= max_seconds``: exactly five seconds later it still counts."""
    supervisor = Supervisor.start(
        specs([], "a"), max_restarts=1, max_seconds=5.0, runtime=simulation.runtime
    )
    crash(simulation, "a")
    simulation.advance(moment)
    crash(simulation, "a")
    assert supervisor.is_alive() is survives


def test_three_in_five(simulation: Simulation) -> None:
    """The defaults: three are served, the fourth trips, before anything is started again."""
    log: list[str] = []
    supervisor = Supervisor.start(specs(log, "abc"), runtime=simulation.runtime)
    log.clear()
    for name in "bbb":
        crash(simulation, name)
        simulation.advance(1.0)
    assert log == ["+b"] * 3
    log.clear()
    crash(simulation, "b")
    assert told(log) == "-c -a", "the rest stop in reverse order"
    assert reason(supervisor) is ExitReason.SHUTDOWN


def test_the_budget_is_shared_by_all_children(simulation: Simulation) -> None:
    """One crash each of two children is two."""
    supervisor = Supervisor.start(specs([], "ab"), max_restarts=1, runtime=simulation.runtime)
    crash(simulation, "a")
    assert supervisor.is_alive()
    crash(simulation, "b")
    assert not supervisor.is_alive()


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_zero_restarts(simulation: Simulation, restart: Any) -> None:
    """The first crash trips, unless the child is temporary."""
    children = [spec([], "a", restart=restart)]
    supervisor = Supervisor.start(children, max_restarts=0, runtime=simulation.runtime)
    crash(simulation, "a")
    assert supervisor.is_alive() is (restart == "temporary")


def test_a_normal_end_of_a_permanent_child_counts(simulation: Simulation) -> None:
    """What is restarted counts, whatever the reason was."""
    supervisor = Supervisor.start(specs([], "a"), max_restarts=1, runtime=simulation.runtime)
    end(simulation, "a", Stop())
    assert supervisor.is_alive()
    end(simulation, "a", Stop())
    assert reason(supervisor) is ExitReason.SHUTDOWN


@pytest.mark.parametrize(("budget", "survives"), [(3, True), (2, False)])
def test_failed_attempts_count(simulation: Simulation, budget: int, survives: bool) -> None:
    """A crash and two failed restarts are three attempts."""
    log: list[str] = []
    supervisor = Supervisor.start(
        [spec(log, "a", start=flaky(log, "a", [2, 3]))],
        max_restarts=budget,
        runtime=simulation.runtime,
    )
    crash(simulation, "a")
    assert supervisor.is_alive() is survives
    assert log == (["+a", "!a", "!a", "+a"] if survives else ["+a", "!a", "!a"])


def test_failed_attempts_that_are_far_apart_are_forgotten(simulation: Simulation) -> None:
    """With pauses longer than the window a child may fail for ever."""
    log: list[str] = []
    supervisor = Supervisor.start(
        [spec(log, "a", start=flaky(log, "a"))],
        max_restarts=2,
        max_seconds=1.0,
        backoff=Backoff(first=2.0, most=2.0, jitter=0.0),
        runtime=simulation.runtime,
    )
    crash(simulation, "a")
    simulation.advance(100.0)
    assert log == ["+a", *["!a"] * 51]
    assert states(supervisor) == {"a": ChildState.RESTARTING}


def test_calls_that_start_do_not_count(simulation: Simulation) -> None:
    """Neither does a start_child that fails nor a restart_child that fails."""
    log: list[str] = []
    supervisor = Supervisor.start(
        [spec(log, "a", start=flaky(log, "a"))], max_restarts=0, runtime=simulation.runtime
    )
    supervisor.terminate_child("a").get()
    for _ in range(5):
        with pytest.raises(StartFailed):
            supervisor.restart_child("a").get()
        assert states(supervisor) == {"a": ChildState.STOPPED}
        with pytest.raises(StartFailed):
            supervisor.start_child(spec(log, "b", start=flaky(log, "b", [1]))).get()
        assert supervisor.count_children().get() == ChildCounts(1, 0, 0, 1)
    simulation.advance(10.0)
    assert log == ["+a", "-a", *["!a", "!b"] * 5]


# -- back-off --------------------------------------------------------------------------------------


def delays(seed: int, jitter: float) -> list[float]:
    """The waits before the restarts of a child that never comes up again."""
    with Simulation(seed=seed) as simulation:
        seen = events(simulation, Restarting)
        Supervisor.start(
            [spec([], "a", start=flaky([], "a"))],
            max_restarts=1000,
            backoff=Backoff(first=1.0, most=8.0, jitter=jitter),
            runtime=simulation.runtime,
        )
        crash(simulation, "a")
        simulation.advance(40.0)
        return [event.delay for event in seen[:7]]


def test_back_off_doubles() -> None:
    """The first restart is immediate, each further wait twice as long, up to the most."""
    assert delays(1, jitter=0.0) == [0.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_back_off_with_jitter() -> None:
    """Each wait is shortened by at most its share of jitter, by chance but not for one seed."""
    several = [delays(seed, jitter=0.5) for seed in range(5)]
    for waits in several:
        for wait, longest in zip(waits, (0.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0), strict=True):
            assert longest * 0.5 <= wait <= longest
    assert several[0] != several[1]
    assert several == [delays(seed, jitter=0.5) for seed in range(5)], "one seed, one run"


# -- auto-shutdown ---------------------------------------------------------------------------------


def significant(log: list[str], tag: str, restart: str = "transient") -> ChildSpec:
    return spec(log, tag, restart=restart, significant=True)


@pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
def test_auto_shutdown(simulation: Simulation, mode: Any) -> None:
    """Any: the first that ends by itself. All: the last one. Others never."""
    log: list[str] = []
    supervisor = Supervisor.start(
        [
            spec(log, "a", restart="transient"),
            significant(log, "b"),
            significant(log, "c", "temporary"),
        ],
        auto_shutdown=mode,
        runtime=simulation.runtime,
    )
    end(simulation, "a", Stop())
    assert supervisor.is_alive()
    crash(simulation, "c")
    assert supervisor.is_alive() is (mode == "all_significant")
    if mode == "all_significant":
        crash(simulation, "b")
        assert supervisor.is_alive(), "a crash restarts it"
        end(simulation, "b", Shutdown())
    assert reason(supervisor) is ExitReason.SHUTDOWN


@pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
def test_terminate_child_never_causes_auto_shutdown(simulation: Simulation, mode: Any) -> None:
    """Not even that of the last significant child, transient or temporary."""
    supervisor = Supervisor.start(
        [significant([], "a"), significant([], "b", "temporary")],
        auto_shutdown=mode,
        runtime=simulation.runtime,
    )
    for name in "ab":
        supervisor.terminate_child(name).get()
    simulation.settle()
    assert states(supervisor) == {"a": ChildState.STOPPED}


def test_one_that_was_terminated_is_no_significant_child_left(simulation: Simulation) -> None:
    """All: the last one running counts, whatever has ended the others."""
    supervisor = Supervisor.start(
        [significant([], "a"), significant([], "b")],
        auto_shutdown="all_significant",
        runtime=simulation.runtime,
    )
    supervisor.terminate_child("a").get()
    assert supervisor.is_alive()
    end(simulation, "b", Stop())
    assert reason(supervisor) is ExitReason.SHUTDOWN


def test_one_that_is_restarting_is_a_significant_child_left(simulation: Simulation) -> None:
    """All: a child between two attempts has not ended."""
    supervisor = Supervisor.start(
        [significant([], "a"), spec([], "b", restart="transient", start=flaky([], "b"))],
        auto_shutdown="all_significant",
        backoff=Backoff(first=1.0),
        max_restarts=1000,
        runtime=simulation.runtime,
    )
    again = spec([], "c", restart="transient", significant=True, start=flaky([], "c"))
    supervisor.start_child(again).get()
    crash(simulation, "c")
    assert states(supervisor)["c"] is ChildState.RESTARTING
    end(simulation, "a", Stop())
    assert supervisor.is_alive()


def test_one_that_is_being_terminated_is_no_significant_child_left(simulation: Simulation) -> None:
    """All: the last one ends by itself while another is still on its way out."""
    slow = ChildSpec(
        id="slow",
        start=lambda: Slow(2.0),
        restart="transient",
        significant=True,
        type="supervisor",
    )
    supervisor = Supervisor.start(
        [slow, significant([], "b")], auto_shutdown="all_significant", runtime=simulation.runtime
    )
    supervisor.terminate_child("slow")
    simulation.settle()
    assert states(supervisor)["slow"] is ChildState.STOPPING
    end(simulation, "b", Stop())
    simulation.advance(2.0)
    assert not supervisor.is_alive()
    assert reason(supervisor) is ExitReason.SHUTDOWN


@pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
def test_a_round_never_causes_auto_shutdown(simulation: Simulation, mode: Any) -> None:
    """Siblings that a round stops have not ended by themselves."""
    log: list[str] = []
    supervisor = Supervisor.start(
        [significant(log, "a"), significant(log, "b", "temporary"), spec(log, "c")],
        strategy="one_for_all",
        auto_shutdown=mode,
        runtime=simulation.runtime,
    )
    crash(simulation, "c")
    assert states(supervisor) == dict.fromkeys("ac", ChildState.RUNNING)


def test_auto_shutdown_of_a_sub_supervisor(simulation: Simulation) -> None:
    """It exits with shutdown: restarted if permanent, not if transient."""
    for restart in ("permanent", "transient"):
        inner = ChildSpec(
            id="inner",
            type="supervisor",
            restart=restart,
            start=lambda: Supervisor([significant([], "a")], auto_shutdown="any_significant"),
        )
        outer = Supervisor.start([inner], runtime=simulation.runtime)
        before = refs(outer)["inner"]
        end(simulation, "a", Stop())
        assert reason(before) is ExitReason.SHUTDOWN
        running = restart == "permanent"
        assert (refs(outer)["inner"] is not None) is running
        outer.stop()


def test_significant_under_never(simulation: Simulation) -> None:
    """A significant child is refused, at the start and later."""
    with pytest.raises(InvalidSpec, match="significant"):
        Supervisor.start([significant([], "a")], runtime=simulation.runtime)
    for kind in (Supervisor, DynamicSupervisor):
        supervisor: Any = kind.start(runtime=simulation.runtime)
        with pytest.raises(InvalidSpec, match="significant"):
            supervisor.start_child(significant([], "a")).get()
    with pytest.raises(InvalidSpec, match="significant"):
        spec([], "a", significant=True)  # a permanent one never


# -- escalation ------------------------------------------------------------------------------------


def nest(log: list[str], name: str, *children: ChildSpec, **options: Any) -> ChildSpec:
    """A supervisor under its own name that allows no restart."""
    start = partial(Supervisor, list(children), max_restarts=0)
    return ChildSpec(id=name, name=name, type="supervisor", start=start, **options)


def test_escalation_costs_one_unit_of_the_parent(simulation: Simulation) -> None:
    """Each level pays one; a fresh subtree starts in order; the top gives up with shutdown."""
    log: list[str] = []
    inner = nest(log, "inner", *specs(log, "ab"))
    outer = Supervisor.start([spec(log, "z"), inner], max_restarts=2, runtime=simulation.runtime)
    before = refs(outer)
    for _ in range(2):
        log.clear()
        crash(simulation, "b")
        assert told(log) == "-a +a +b"
        assert refs(outer)["z"] is before["z"]
    log.clear()
    crash(simulation, "b")
    assert told(log) == "-a -z"
    assert reason(outer) is ExitReason.SHUTDOWN
    assert reason(before["inner"]) is ExitReason.SHUTDOWN


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_who_trips_exits_with_shutdown(simulation: Simulation, restart: Any) -> None:
    """Restarted if permanent; a transient one is kept stopped, a temporary one is gone."""
    log: list[str] = []
    inner = nest(log, "inner", spec(log, "a"), restart=restart)
    outer = Supervisor.start([inner], runtime=simulation.runtime)
    crash(simulation, "a")
    expected = {"permanent": {"inner": "running"}, "transient": {"inner": "stopped"}}
    assert states(outer) == expected.get(restart, {})
    if restart != "permanent":
        with pytest.raises(ActorDead):
            simulation.runtime.registry.ask("a", "hello").get()


def test_escalation_over_two_levels(simulation: Simulation) -> None:
    """A middle supervisor without a budget of its own trips as well."""
    log: list[str] = []
    middle = nest(log, "middle", spec(log, "m"), nest(log, "inner", spec(log, "a")))
    outer = Supervisor.start([middle], max_restarts=1, runtime=simulation.runtime)
    log.clear()
    crash(simulation, "a")
    assert told(log) == "-m +m +a"
    assert outer.is_alive()
    crash(simulation, "a")
    assert not outer.is_alive()


def test_a_sub_supervisor_that_cannot_start_again(simulation: Simulation) -> None:
    """A failed start of its child is a failed restart of it, stops what came up, and counts."""
    log: list[str] = []
    second = spec(log, "b", start=flaky(log, "b", [2]))
    inner = nest(log, "inner", spec(log, "a"), second)
    outer = Supervisor.start([inner], max_restarts=2, runtime=simulation.runtime)
    log.clear()
    crash(simulation, "a")
    assert told(log) == "-b +a !b -a +a +b"
    assert states(outer) == {"inner": ChildState.RUNNING}
    crash(simulation, "a")
    assert not outer.is_alive(), "two attempts counted before"


def test_a_sub_supervisor_that_cannot_start(simulation: Simulation) -> None:
    """Each level names its child and carries the level below as cause; nothing is left."""
    log: list[str] = []
    last = spec(log, "c", start=flaky(log, "c", [1]))
    inner = nest(log, "inner", spec(log, "b"), last, spec(log, "d"))
    with pytest.raises(StartFailed) as caught:
        Supervisor.start([spec(log, "a"), inner, spec(log, "z")], runtime=simulation.runtime)
    below = caught.value.__cause__
    assert isinstance(below, StartFailed)
    assert (caught.value.child_id, below.child_id) == ("inner", "c")
    assert isinstance(below.__cause__, LookupError)
    assert told(log) == "+a +b !c -b -a"


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_a_budget_that_is_used_up_during_the_start(simulation: Simulation, strategy: Any) -> None:
    """The start fails, and nothing is left running, or starts later."""
    log: list[str] = []
    registry = simulation.runtime.registry
    simulation.timers.call_later(1.0, lambda: registry.tell("a", Crash()))
    late = ChildSpec(id="late", start=lambda: Late(2.0), type="supervisor")
    children = [spec(log, "a", start=flaky(log, "a")), spec(log, "b"), late, spec(log, "c")]
    with pytest.raises(IntensityExceeded):
        Supervisor.start(children, strategy=strategy, runtime=simulation.runtime)
    simulation.advance(60.0)
    assert [registry.whereis(tag) for tag in "abc"] == [None] * 3
    assert (
        told(log)
        == {
            "one_for_one": "+a +b !a !a !a -b",
            "one_for_all": "+a +b -b !a !a !a",
            "rest_for_one": "+a +b -b !a !a !a",
        }[strategy]
    )


def test_a_supervisor_in_a_one_for_all_round_starts_with_its_own_list(
    simulation: Simulation,
) -> None:
    """Children added to it at run time are lost, its own return; its siblings' order is kept."""
    log: list[str] = []
    inner = ChildSpec(
        id="inner", name="inner", type="supervisor", start=lambda: Supervisor(specs(log, "ab"))
    )
    supervisor = Supervisor.start(
        [inner, spec(log, "z")], strategy="one_for_all", runtime=simulation.runtime
    )
    refs(supervisor)["inner"].start_child(spec(log, "added")).get()
    supervisor.start_child(spec(log, "own")).get()
    log.clear()
    crash(simulation, "z")
    assert told(log) == "-own -added -b -a +a +b +z +own"
    assert list(refs(refs(supervisor)["inner"])) == ["a", "b"]


def test_a_crash_of_the_whole_tree_at_once(simulation: Simulation) -> None:
    """All children of a large budget crash before anything is run: each returns once."""
    log: list[str] = []
    seen = events(simulation, Crashed)
    supervisor = Supervisor.start(specs(log, "abcdef"), max_restarts=6, runtime=simulation.runtime)

    def fall() -> NoReturn:
        raise Crash

    for name in "abcdef":
        simulation.runtime.registry.tell(name, fall)
    simulation.settle()
    assert sorted(event.child for event in seen) == list("abcdef")
    assert states(supervisor) == dict.fromkeys("abcdef", ChildState.RUNNING)
    assert sorted(log) == sorted(f"+{tag}" for tag in "abcdef" * 2)
