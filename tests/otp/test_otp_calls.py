"""The rules of OTP supervision: calls and their results, specs, names, and who else supervises.

What the children write down is explained in ``test_otp_rules``, where the helpers are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from pollin_actors.otp import (
    ActorDead,
    AlreadyPresent,
    AlreadyStarted,
    Backoff,
    ChildCounts,
    ChildInfo,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    ChildState,
    DynamicSupervisor,
    ExitReason,
    Restarting,
    Simulation,
    StartChild,
    StartFailed,
    Stop,
    Supervisor,
    SupervisorRef,
    TerminateChild,
)
from tests.otp.test_otp_rules import (
    Crash,
    Late,
    Slow,
    Worker,
    crash,
    end,
    events,
    flaky,
    nth,
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


# -- results ---------------------------------------------------------------------------------------


def test_start_child_by_state(simulation: Simulation) -> None:
    """Stopped: already present. Deleted, or temporary and terminated: it starts."""
    log: list[str] = []
    supervisor = Supervisor.start(
        [spec(log, "a"), spec(log, "b", restart="temporary")], runtime=simulation.runtime
    )
    supervisor.terminate_child("a").get()
    supervisor.terminate_child("b").get()
    with pytest.raises(AlreadyPresent):
        supervisor.start_child(spec(log, "a")).get()
    with pytest.raises(ChildNotFound):
        supervisor.terminate_child("b").get()
    assert supervisor.start_child(spec(log, "b")).get().is_alive()
    assert supervisor.delete_child("a").get() is None
    assert supervisor.start_child(spec(log, "a")).get().is_alive()
    assert list(refs(supervisor)) == ["b", "a"], "what is added stands last"


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_start_child_that_fails(simulation: Simulation, kind: Any) -> None:
    """An error with the cause; nothing stored; the id and the name are free again."""
    log: list[str] = []
    supervisor = kind.start(max_restarts=0, runtime=simulation.runtime)

    def broken() -> Worker:
        raise LookupError("no arguments")

    for start in (flaky(log, "a", [1]), broken):
        with pytest.raises(StartFailed) as caught:
            supervisor.start_child(spec(log, "a", start=start)).get()
        assert isinstance(caught.value.__cause__, LookupError)
        assert supervisor.count_children().get() == ChildCounts(0, 0, 0, 0)
    assert supervisor.start_child(spec(log, "a")).get().is_alive()


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_start_child_whose_name_is_a_strangers(simulation: Simulation, kind: Any) -> None:
    """Already started, with the stranger's ref; nothing stored, and the stranger lives on."""
    log: list[str] = []
    owner = Supervisor.start(specs(log, "a"), runtime=simulation.runtime)
    stranger = refs(owner)["a"]
    supervisor = kind.start(max_restarts=0, runtime=simulation.runtime)
    with pytest.raises(AlreadyStarted) as caught:
        supervisor.start_child(spec(log, "b").replace(name="a")).get()
    assert caught.value.ref is stranger
    assert refs(supervisor) == {}
    assert simulation.runtime.registry.whereis("a") is stranger


def test_restart_child_that_fails(simulation: Simulation) -> None:
    """An error with the cause; the child stays stopped and may be tried again."""
    log: list[str] = []
    supervisor = Supervisor.start(
        [spec(log, "a", start=flaky(log, "a", [2]))], runtime=simulation.runtime
    )
    supervisor.terminate_child("a").get()
    with pytest.raises(StartFailed) as caught:
        supervisor.restart_child("a").get()
    assert isinstance(caught.value.__cause__, LookupError)
    assert states(supervisor) == {"a": ChildState.STOPPED}
    assert supervisor.restart_child("a").get() is refs(supervisor)["a"]


def test_delete_child(simulation: Simulation) -> None:
    """Only when stopped; else running or not found; then it is gone."""
    supervisor = Supervisor.start(specs([], "a"), runtime=simulation.runtime)
    with pytest.raises(ChildRunning) as caught:
        supervisor.delete_child("a").get()
    assert caught.value.ref is refs(supervisor)["a"]
    with pytest.raises(ChildNotFound):
        supervisor.delete_child("b").get()
    supervisor.terminate_child("a").get()
    assert supervisor.delete_child("a").get() is None
    assert supervisor.count_children().get() == ChildCounts(0, 0, 0, 0)
    for call in (supervisor.delete_child, supervisor.restart_child, supervisor.terminate_child):
        answer: Any = call("a")
        with pytest.raises(ChildNotFound):
            answer.get()


def test_which_and_count_children(simulation: Simulation) -> None:
    """Id, ref and type, newest first; specs, active, supervisors, workers."""
    inner = ChildSpec(id="inner", start=Supervisor, type="supervisor")
    supervisor = Supervisor.start(
        [spec([], "a"), inner, spec([], "b", restart="transient")], runtime=simulation.runtime
    )
    added = supervisor.start_child(spec([], "c")).get()
    assert supervisor.count_children().get() == ChildCounts(4, 4, 1, 3)
    end(simulation, "b", Stop())
    supervisor.terminate_child("inner").get()
    a = simulation.runtime.registry.whereis("a")
    assert supervisor.which_children().get() == [
        ChildInfo("c", added, ChildState.RUNNING, "worker"),
        ChildInfo("b", None, ChildState.STOPPED, "worker"),
        ChildInfo("inner", None, ChildState.STOPPED, "supervisor"),
        ChildInfo("a", a, ChildState.RUNNING, "worker"),
    ]
    assert supervisor.count_children().get() == ChildCounts(4, 2, 1, 3)


def test_which_child_by_id_name_and_ref(simulation: Simulation) -> None:
    """Any of the three will do, and an id comes before a name; unknown: not found."""
    named = ChildSpec(id="id", name="name", start=partial(Worker, [], "x"))
    supervisor = Supervisor.start([named, spec([], "other")], runtime=simulation.runtime)
    ref = refs(supervisor)["id"]
    for key in ("id", "name", ref):
        info = supervisor.which_child(key).get()
        assert info == ChildInfo("id", ref, ChildState.RUNNING, "worker")
        assert supervisor.get_childspec(key).get() == named
    supervisor.start_child(ChildSpec(id="name", start=partial(Worker, [], "y"))).get()
    assert supervisor.which_child("name").get().id == "name"
    crash(simulation, "other")
    for key in ("nobody", 7, supervisor):
        with pytest.raises(ChildNotFound):
            supervisor.which_child(key).get()
    supervisor.terminate_child(ref).get()
    assert refs(supervisor)["id"] is None


def calls_of(supervisor: SupervisorRef[Any]) -> list[Callable[[], Any]]:
    return [
        partial(supervisor.start_child, spec([], "new")),
        partial(supervisor.terminate_child, "a"),
        partial(supervisor.restart_child, "a"),
        partial(supervisor.delete_child, "a"),
        partial(supervisor.get_childspec, "a"),
        partial(supervisor.which_child, "a"),
        supervisor.which_children,
        supervisor.count_children,
        supervisor.tree,
    ]


@pytest.mark.parametrize("call", range(9))
@pytest.mark.parametrize("trips", [False, True])
def test_calls_to_a_dead_supervisor(simulation: Simulation, call: int, trips: bool) -> None:
    """Each fails at once, and says why the supervisor has ended."""
    supervisor = Supervisor.start(specs([], "a"), max_restarts=0, runtime=simulation.runtime)
    if trips:
        crash(simulation, "a")
    else:
        supervisor.stop()
    answer = calls_of(supervisor)[call]()
    assert answer.done()
    with pytest.raises(ActorDead) as caught:
        answer.get()
    assert caught.value.reason is (ExitReason.SHUTDOWN if trips else ExitReason.NORMAL)


@pytest.mark.parametrize("call", range(8))
def test_calls_to_a_supervisor_that_is_stopping(simulation: Simulation, call: int) -> None:
    """Each fails at once, although a child takes long to end."""
    slow = ChildSpec(id="a", start=lambda: Slow(100.0), type="supervisor")
    supervisor = Supervisor.start([slow], runtime=simulation.runtime)
    stopped = supervisor.stop(block=False)
    simulation.settle()
    answer = calls_of(supervisor)[call]()
    simulation.settle()
    with pytest.raises(ActorDead):
        answer.get(timeout=0)
    assert not stopped.done()
    assert supervisor.tree().get().children[0].state is ChildState.STOPPING
    assert simulation.clock.monotonic() == 0.0
    assert stopped.get() is True
    assert simulation.clock.monotonic() == 100.0


def test_calls_about_a_child_that_is_being_stopped(simulation: Simulation) -> None:
    """It is listed without a ref, not restarted, not deleted; all who end it are answered."""
    slow = ChildSpec(id="a", start=lambda: Slow(3.0), type="supervisor")
    supervisor = Supervisor.start([slow], max_restarts=0, runtime=simulation.runtime)
    ends = [supervisor.terminate_child("a") for _ in range(3)]
    simulation.settle()
    assert states(supervisor) == {"a": ChildState.STOPPING}
    assert refs(supervisor) == {"a": None}
    for call in (supervisor.restart_child, supervisor.delete_child):
        answer: Any = call("a")
        with pytest.raises(ChildRunning):
            answer.get()
    with pytest.raises(AlreadyPresent):
        supervisor.start_child(slow).get()
    assert not any(future.done() for future in ends)
    simulation.advance(3.0)
    assert [future.get(timeout=0) for future in ends] == [None] * 3


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
@pytest.mark.parametrize("others", [0, 2])
def test_an_end_under_way_is_answered_although_the_supervisor_ends(
    simulation: Simulation, kind: Any, others: int
) -> None:
    """Whether or not the child is the last one to end."""
    supervisor = kind.start(runtime=simulation.runtime)
    for seconds in (5.0, 4.0)[:others]:
        supervisor.start_child(ChildSpec(seconds, partial(Slow, seconds), type="supervisor")).get()
    supervisor.start_child(ChildSpec("a", lambda: Slow(3.0), type="supervisor")).get()
    terminated = supervisor.terminate_child("a")
    simulation.settle()
    assert supervisor.stop() is True
    assert terminated.get(timeout=0) is None


def test_a_start_that_will_not_come_fails_when_the_supervisor_ends(simulation: Simulation) -> None:
    """One that was queued behind a round."""
    log: list[str] = []
    slow = ChildSpec(id="slow", start=lambda: Slow(3.0), type="supervisor")
    supervisor = Supervisor.start(
        [*specs(log, "ab"), slow], strategy="one_for_all", runtime=simulation.runtime
    )
    crash(simulation, "a")
    assert states(supervisor)["slow"] is ChildState.STOPPING
    started = supervisor.start_child(spec(log, "new"))
    simulation.settle()
    assert not started.done()
    assert supervisor.stop() is True
    with pytest.raises((StartFailed, ActorDead)):
        started.get(timeout=0)
    assert "+new" not in log


# -- calls during a round --------------------------------------------------------------------------


def stopping(simulation: Simulation, log: list[str], strategy: str) -> SupervisorRef[Supervisor]:
    """A round after a crash of "b", which waits for the end of the last child."""
    slow = ChildSpec(id="slow", start=lambda: Slow(2.0), type="supervisor")
    supervisor = Supervisor.start(
        [*specs(log, "abc"), slow],
        strategy=strategy,  # type: ignore[arg-type]
        max_restarts=1,
        runtime=simulation.runtime,
    )
    log.clear()
    crash(simulation, "b")
    assert states(supervisor) == {
        "a": ChildState.RUNNING,
        "b": ChildState.RESTARTING,
        "c": ChildState.RUNNING,
        "slow": ChildState.STOPPING,
    }
    return supervisor


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_start_child_while_a_round_stops(simulation: Simulation, strategy: str) -> None:
    """The new child is queued behind the round."""
    log: list[str] = []
    supervisor = stopping(simulation, log, strategy)
    started = supervisor.start_child(spec(log, "new"))
    simulation.settle()
    assert not started.done()
    simulation.advance(2.0)
    assert log[-3:] == ["+b", "+c", "+new"]
    assert log.count("+new") == 1
    assert started.get(timeout=0) is refs(supervisor)["new"]
    assert list(refs(supervisor)) == ["a", "b", "c", "slow", "new"]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_start_child_that_fails_behind_a_round(simulation: Simulation, strategy: str) -> None:
    """That is its starter's trouble alone: nothing stored, no restart counted."""
    log: list[str] = []
    supervisor = stopping(simulation, log, strategy)
    started = supervisor.start_child(spec(log, "new", start=flaky(log, "new", [1])))
    simulation.advance(2.0)
    with pytest.raises(StartFailed):
        started.get(timeout=0)
    assert states(supervisor) == dict.fromkeys(["a", "b", "c", "slow"], ChildState.RUNNING)
    assert log[-3:] == ["+b", "+c", "!new"]


def starting(
    simulation: Simulation, log: list[str], strategy: str = "one_for_all"
) -> SupervisorRef[Supervisor]:
    """A round after a crash of "b", which waits for the start of "late" and then starts "d"."""
    late = ChildSpec(id="late", start=lambda: Late(2.0), type="supervisor")
    supervisor = Supervisor.start(
        [*specs(log, "ab"), late, spec(log, "d")],
        strategy=strategy,  # type: ignore[arg-type]
        max_restarts=2,
        runtime=simulation.runtime,
    )
    log.clear()
    crash(simulation, "b")
    assert told(log) == ("-d -a +a +b" if strategy == "one_for_all" else "-d +b")
    assert states(supervisor)["d"] is ChildState.RESTARTING
    log.clear()
    return supervisor


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_start_child_while_a_round_starts(simulation: Simulation, strategy: str) -> None:
    """The new child is started at once, and stands before those not yet started."""
    log: list[str] = []
    supervisor = starting(simulation, log, strategy)
    started = supervisor.start_child(spec(log, "new"))
    simulation.settle()
    assert told(log) == "+new"
    assert started.get(timeout=0) is refs(supervisor)["new"]
    simulation.advance(2.0)
    assert told(log) == "+new +d"
    assert states(supervisor) == dict.fromkeys(["a", "b", "late", "new", "d"], ChildState.RUNNING)
    log.clear()
    supervisor.stop()
    assert told(log) == "-d -new -b -a"


def test_calls_about_those_not_yet_started(simulation: Simulation) -> None:
    """They are restarting: neither started nor restarted nor deleted by a call."""
    log: list[str] = []
    supervisor = starting(simulation, log)
    with pytest.raises(AlreadyPresent):
        supervisor.start_child(spec(log, "d")).get()
    for call in (supervisor.restart_child, supervisor.delete_child):
        waiting: Any = call("d")
        with pytest.raises(ChildRestarting):
            waiting.get()
        running: Any = call("a")
        with pytest.raises(ChildRunning):
            running.get()
    assert refs(supervisor)["d"] is None
    assert simulation.clock.monotonic() == 2.0, "nobody has waited for the round"
    simulation.advance(2.0)
    assert told(log) == "+d"


@pytest.mark.parametrize("child", ["a", "b", "late", "d"])
def test_terminate_child_while_a_round_starts(simulation: Simulation, child: str) -> None:
    """Whoever is terminated stays stopped, whether started, starting or not; the others start."""
    log: list[str] = []
    supervisor = starting(simulation, log)
    assert supervisor.terminate_child(child).get() is None
    assert simulation.clock.monotonic() == 2.0
    simulation.advance(2.0)
    expected = dict.fromkeys(["a", "b", "late", "d"], ChildState.RUNNING)
    assert states(supervisor) == {**expected, child: ChildState.STOPPED}
    assert told(log) == {"a": "-a +d", "b": "-b +d", "late": "+d", "d": ""}[child]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_crash_while_a_round_starts(simulation: Simulation, strategy: str) -> None:
    """Who is starting stops unstarted, and the round begins anew: one restart more."""
    log: list[str] = []
    supervisor = starting(simulation, log, strategy)
    crash(simulation, "a")
    assert told(log) == "-b +a +b"
    simulation.advance(2.0)
    assert told(log) == "-b +a +b +d"
    assert states(supervisor) == dict.fromkeys(["a", "b", "late", "d"], ChildState.RUNNING)
    crash(simulation, "d")
    assert not supervisor.is_alive(), "two restarts have counted"


@pytest.mark.parametrize("child", ["a", "b", "c"])
def test_terminate_child_while_a_round_stops(simulation: Simulation, child: str) -> None:
    """Whoever is terminated takes no more part in the round; the others start in order."""
    log: list[str] = []
    supervisor = stopping(simulation, log, "one_for_all")
    terminated = supervisor.terminate_child(child)
    simulation.settle()
    assert terminated.get(timeout=0) is None
    simulation.advance(2.0)
    expected = {"a", "b", "c", "slow"} - {child}
    assert states(supervisor).pop(child) is ChildState.STOPPED
    assert {tag for tag, state in states(supervisor).items() if state == "running"} == expected
    assert [entry for entry in log if entry[0] == "+"] == [f"+{t}" for t in "abc" if t != child]
    assert supervisor.restart_child(child).get().is_alive()


@pytest.mark.parametrize("call", ["restart_child", "delete_child"])
def test_restart_and_delete_child_while_a_round_stops(simulation: Simulation, call: str) -> None:
    """The failed one is restarting; those that run still, or are ending, are running."""
    log: list[str] = []
    supervisor = stopping(simulation, log, "one_for_all")
    with pytest.raises(ChildRestarting):
        getattr(supervisor, call)("b").get()
    for child in ("a", "slow"):
        with pytest.raises(ChildRunning):
            getattr(supervisor, call)(child).get()
    with pytest.raises(AlreadyPresent):
        supervisor.start_child(spec(log, "b")).get()
    simulation.advance(2.0)
    assert told(log) == "-c -a +a +b +c"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_stop_during_a_round(simulation: Simulation, strategy: str) -> None:
    """Nobody starts any more; what runs stops in reverse order, at once."""
    log: list[str] = []
    supervisor = starting(simulation, log, strategy)
    assert supervisor.stop() is True
    assert simulation.clock.monotonic() == 2.0
    simulation.advance(10.0)
    assert told(log) == "-b -a"
    log.clear()
    supervisor = stopping(simulation, log, strategy)
    assert supervisor.stop() is True
    assert simulation.clock.monotonic() == 14.0, "who is ending already is waited for"
    assert told(log) == "-c -a"


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_a_child_crashes_while_the_supervisor_starts(simulation: Simulation, strategy: Any) -> None:
    """It is restarted by the strategy, and the start succeeds."""
    log: list[str] = []
    registry = simulation.runtime.registry
    fall = {1: lambda: registry.tell("a", Crash())}
    children = [spec(log, "a"), spec(log, "b", start=nth(fall, log, "b")), spec(log, "c")]
    supervisor = Supervisor.start(
        children, strategy=strategy, max_restarts=1, runtime=simulation.runtime
    )
    simulation.settle()
    assert states(supervisor) == dict.fromkeys("abc", ChildState.RUNNING)
    assert log.count("+a") == 2
    for tag in "bc":
        assert log.count(f"+{tag}") - log.count(f"-{tag}") == 1
    if strategy != "one_for_one":
        assert log[-3:] == ["+a", "+b", "+c"]
    crash(simulation, "c")
    assert not supervisor.is_alive(), "that restart has counted"


def test_terminate_child_while_the_supervisor_starts(simulation: Simulation) -> None:
    """A child that was terminated meanwhile stays stopped, and the start succeeds."""
    log: list[str] = []
    registry = simulation.runtime.registry
    answers: list[Any] = []

    def call() -> None:
        for tag in "ac":
            answers.append(registry.ask("top", TerminateChild(tag)))
        answers.append(registry.ask("top", StartChild(spec(log, "new"))))

    children = [spec(log, "a"), spec(log, "b", start=nth({1: call}, log, "b")), *specs(log, "cd")]
    supervisor = Supervisor.start(children, name="top", runtime=simulation.runtime)
    simulation.settle()
    assert states(supervisor) == {
        "a": ChildState.STOPPED,
        "b": ChildState.RUNNING,
        "new": ChildState.RUNNING,
        "c": ChildState.STOPPED,
        "d": ChildState.RUNNING,
    }
    assert [answer.get(timeout=0) for answer in answers[:2]] == [None, None]
    assert log.count("+c") == log.count("-c")


# -- back-off and calls ----------------------------------------------------------------------------


def paused(
    simulation: Simulation, log: list[str], strategy: str, failing: str
) -> SupervisorRef[Supervisor]:
    """A round that waits for one second, as its child has failed for the second time."""
    start = flaky(log, failing, [2])
    children = [spec(log, t, start=start) if t == failing else spec(log, t) for t in "abcd"]
    supervisor = Supervisor.start(
        children,
        strategy=strategy,  # type: ignore[arg-type]
        backoff=Backoff(first=1.0, jitter=0.0),
        max_restarts=2,
        runtime=simulation.runtime,
    )
    log.clear()
    crash(simulation, failing)
    return supervisor


def test_one_for_all_waits_for_a_retry(simulation: Simulation) -> None:
    """Siblings that were restarted are stopped at once; after the pause all start in order."""
    log: list[str] = []
    supervisor = paused(simulation, log, "one_for_all", "c")
    assert told(log) == "-d -b -a +a +b !c -b -a"
    assert states(supervisor) == dict.fromkeys("abcd", ChildState.RESTARTING)
    assert supervisor.count_children().get() == ChildCounts(4, 0, 0, 4)
    log.clear()
    simulation.advance(0.9)
    assert told(log) == ""
    simulation.advance(0.1)
    assert told(log) == "+a +b +c +d"


def test_rest_for_one_waits_for_a_retry(simulation: Simulation) -> None:
    """Those before run on, those after wait as well."""
    log: list[str] = []
    supervisor = paused(simulation, log, "rest_for_one", "c")
    assert told(log) == "-d !c"
    assert simulation.runtime.registry.ask("a", "hello").get() == "hello"
    assert states(supervisor)["d"] is ChildState.RESTARTING
    simulation.advance(1.0)
    assert told(log) == "-d !c +c +d"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_the_failing_child_is_terminated_in_the_pause(
    simulation: Simulation, strategy: str
) -> None:
    """The round goes on without it, at once."""
    log: list[str] = []
    supervisor = paused(simulation, log, strategy, "c")
    assert supervisor.terminate_child("c").get() is None
    simulation.settle()
    assert states(supervisor) == {
        "a": ChildState.RUNNING,
        "b": ChildState.RUNNING,
        "c": ChildState.STOPPED,
        "d": ChildState.RUNNING,
    }
    simulation.advance(60.0)
    assert log.count("+c") == 0
    assert log[-1] == "+d"


def test_a_bystander_is_terminated_in_the_pause(simulation: Simulation) -> None:
    """It stays stopped when the others start."""
    log: list[str] = []
    supervisor = paused(simulation, log, "one_for_all", "c")
    assert supervisor.terminate_child("b").get() is None
    assert supervisor.delete_child("b").get() is None
    log.clear()
    simulation.advance(60.0)
    assert told(log) == "+a +c +d"


def test_the_supervisor_stops_in_the_pause(simulation: Simulation) -> None:
    """It ends at once, and nobody starts later."""
    log: list[str] = []
    supervisor = paused(simulation, log, "rest_for_one", "c")
    assert supervisor.stop() is True
    assert simulation.clock.monotonic() == 0.0
    simulation.advance(60.0)
    assert told(log) == "-d !c -b -a"


def test_a_sibling_crashes_in_the_pause(simulation: Simulation) -> None:
    """An earlier one begins the round anew; the later start waits for both pauses."""
    log: list[str] = []
    supervisor = paused(simulation, log, "rest_for_one", "c")
    crash(simulation, "a")
    assert not supervisor.is_alive(), "a third attempt: budget 2"
    assert told(log) == "-d !c -b"


def test_start_child_in_the_pause(simulation: Simulation) -> None:
    """A new child starts at once, and stands before those that wait."""
    log: list[str] = []
    supervisor = paused(simulation, log, "rest_for_one", "c")
    ref = supervisor.start_child(spec(log, "new")).get()
    assert simulation.clock.monotonic() == 0.0
    assert list(refs(supervisor)) == ["a", "b", "new", "c", "d"]
    simulation.advance(1.0)
    assert refs(supervisor)["new"] is ref
    assert told(log) == "-d !c +new +c +d"


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_terminate_child_cancels_a_retry(simulation: Simulation, kind: Any) -> None:
    """In the pause of a back-off; restart_child starts it at once, and it stays one actor."""
    log: list[str] = []
    seen = events(simulation, Restarting)
    supervisor = kind.start(
        max_restarts=100, backoff=Backoff(first=1.0), runtime=simulation.runtime
    )
    supervisor.start_child(spec(log, "a")).get()
    crash(simulation, "a", "a")
    assert states(supervisor) == {"a": ChildState.RESTARTING}
    assert supervisor.terminate_child("a").get() is None
    log.clear()
    if kind is Supervisor:
        assert supervisor.restart_child("a").get().is_alive()
    else:
        assert refs(supervisor) == {}
        assert supervisor.start_child(spec(log, "a")).get().is_alive()
    simulation.advance(60.0)
    assert told(log) == "+a"
    assert len(seen) == 2


def test_messages_by_name_wait_out_a_pause(simulation: Simulation) -> None:
    """Whoever asks by name in the pause is answered by the next incarnation."""
    log: list[str] = []
    paused(simulation, log, "one_for_all", "c")
    answers = [simulation.runtime.registry.ask(tag, tag) for tag in "abcd"]
    assert [answer.get() for answer in answers] == list("abcd")
    assert simulation.clock.monotonic() == 1.0
