"""The rules of OTP supervision: twenty cases with their outcomes, restarts, rounds and budgets.

The children write down what happens to them: ``+a`` for a start, ``!a`` for one that fails, ``-a``
for a stop. Everything runs in virtual time, with several seeds. What supervisors answer is in
``test_otp_calls``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Hashable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import pytest

from pollin_actors.otp import (
    AlreadyPresent,
    AlreadyStarted,
    Backoff,
    ChildCounts,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    ChildState,
    DynamicSupervisor,
    Event,
    ExitReason,
    ExitRecord,
    MaxChildren,
    Ref,
    ReplyFuture,
    Shutdown,
    Simulation,
    StartFailed,
    Stop,
    Supervisor,
    SupervisorRef,
    Unstopped,
)
from pollin_actors.otp.dynamic_supervisor import on_demand_by
from tests.otp.actors import Echo

ALWAYS = range(2, 1_000_000)
"""Which starts fail: all but the first."""


class Crash(Exception):
    """A handler's mistake."""


class Worker(Echo):
    """Raises the exceptions that it is sent, calls functions, and answers anything else."""

    def __init__(self, log: list[str], tag: str, *, fails: bool = False) -> None:
        super().__init__()
        self.notes = log
        self.tag: str = tag
        self.fails = fails

    def on_start(self) -> None:
        if self.fails:
            self.notes.append(f"!{self.tag}")
            raise LookupError(f"{self.tag} is not ready")
        self.notes.append(f"+{self.tag}")

    def on_stop(self) -> None:
        self.notes.append(f"-{self.tag}")

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        return message() if callable(message) else message


class Stubborn(Worker):
    """Does not end when it is asked to: its ``on_stop`` takes a minute."""

    never_blocks: ClassVar[bool] = False

    def on_stop(self) -> None:
        super().on_stop()
        ReplyFuture[None]().get(timeout=60.0)


class Slow(Supervisor):
    """Has no children, and takes so many seconds to end."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def end_with(self, record: ExitRecord) -> None:
        end = super().end_with
        self.runtime.timers.call_later(self.seconds, lambda: end(record))


class Late(Supervisor):
    """Has no children, and takes so many seconds to start."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def on_start(self) -> None:
        self.runtime.timers.call_later(self.seconds, super().on_start)


def spec(log: list[str], tag: str, **options: Any) -> ChildSpec:
    """A worker under its own name."""
    options.setdefault("start", lambda: Worker(log, tag))
    return ChildSpec(id=tag, name=tag, **options)


def told(log: list[str]) -> str:
    """What happened, in order."""
    return " ".join(log)


def specs(log: list[str], tags: str, **options: Any) -> list[ChildSpec]:
    return [spec(log, tag, **options) for tag in tags]


def flaky(log: list[str], tag: str, failing: Container[int] = ALWAYS) -> Callable[[], Worker]:
    """A factory whose starts of these numbers, counted from 1, fail."""
    numbers = itertools.count(1)
    return lambda: Worker(log, tag, fails=next(numbers) in failing)


def nth(
    calls: Mapping[int, Callable[[], object]], log: list[str], tag: str
) -> Callable[[], Worker]:
    """A factory: the ``on_start`` of these numbers, counted from 1, make these calls."""
    numbers = itertools.count(1)

    class Calling(Worker):
        def on_start(self) -> None:
            super().on_start()
            calls.get(next(numbers), lambda: None)()

    return lambda: Calling(log, tag)


def on_first_stop(call: Callable[[], object], log: list[str], tag: str) -> Callable[[], Worker]:
    """A factory: the first ``on_stop`` makes this call."""
    calls = [call]

    class Calling(Worker):
        def on_stop(self) -> None:
            super().on_stop()
            if calls:
                calls.pop()()

    return lambda: Calling(log, tag)


def refs(supervisor: SupervisorRef[Any]) -> dict[Any, Any]:
    """The children in the order of their list, and their refs."""
    return {child.id: child.ref for child in reversed(supervisor.which_children().get())}


def states(supervisor: SupervisorRef[Any]) -> dict[Any, ChildState]:
    """The children in the order of their list, and their states."""
    return {child.id: child.state for child in reversed(supervisor.which_children().get())}


def end(simulation: Simulation, name: Hashable, how: BaseException) -> None:
    """Have an actor raise something, and wait for what comes of it."""
    simulation.runtime.registry.tell(name, how)
    simulation.settle()


def crash(simulation: Simulation, *names: Hashable) -> None:
    for name in names:
        end(simulation, name, Crash())


def reason(ref: Ref[Any]) -> ExitReason:
    """Why an actor has ended."""
    return ref.monitor().get(timeout=0).reason


def events(simulation: Simulation, kind: type[Event]) -> list[Any]:
    """All events of a kind that happen from now on."""
    seen: list[Any] = []

    def note(event: Event) -> None:
        if isinstance(event, kind):
            seen.append(event)

    simulation.runtime.on_event = note
    return seen


@pytest.fixture(params=range(8))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulation:
        yield simulation


# -- twenty cases ----------------------------------------------------------------------------------


def test_case_1(simulation: Simulation) -> None:
    """Case 1: A and B start, C fails at start: B stopped, then A stopped, then the error."""
    log: list[str] = []
    children = [*specs(log, "ab"), spec(log, "c", start=flaky(log, "c", [1])), spec(log, "d")]
    with pytest.raises(StartFailed) as caught:
        Supervisor.start(children, runtime=simulation.runtime)
    assert told(log) == "+a +b !c -b -a"
    assert caught.value.child_id == "c"
    assert isinstance(caught.value.__cause__, LookupError)
    simulation.advance(60)
    assert told(log) == "+a +b !c -b -a", "nothing is left running, or starts later"
    assert [simulation.runtime.registry.whereis(name) for name in "abcd"] == [None] * 4


def test_case_2(simulation: Simulation) -> None:
    """Case 2: start_child with a running id: already started, the same ref as before."""
    log: list[str] = []
    supervisor = Supervisor.start(specs(log, "a"), runtime=simulation.runtime)
    ref = refs(supervisor)["a"]
    with pytest.raises(AlreadyStarted) as caught:
        supervisor.start_child(spec(log, "a")).get()
    assert caught.value.ref is ref
    assert refs(supervisor) == {"a": ref}
    assert log == ["+a"]


def test_case_3(simulation: Simulation) -> None:
    """Case 3: after terminate_child: listed without a ref, counts 1/0/0/1, again is ok."""
    log: list[str] = []
    supervisor = Supervisor.start(specs(log, "a"), runtime=simulation.runtime)
    for _ in range(2):
        assert supervisor.terminate_child("a").get() is None
        assert refs(supervisor) == {"a": None}
        assert supervisor.count_children().get() == ChildCounts(1, 0, 0, 1)
    assert told(log) == "+a -a"


def test_case_4(simulation: Simulation) -> None:
    """Case 4: restart_child while running: running. Unknown: not found."""
    log: list[str] = []
    supervisor = Supervisor.start(specs(log, "a"), runtime=simulation.runtime)
    with pytest.raises(ChildRunning):
        supervisor.restart_child("a").get()
    with pytest.raises(ChildNotFound):
        supervisor.restart_child("b").get()
    assert log == ["+a"]


def test_case_5(simulation: Simulation) -> None:
    """Case 5: temporary child crashes: its spec is gone; the same id starts at once."""
    log: list[str] = []
    temporary = spec(log, "a", restart="temporary")
    supervisor = Supervisor.start([temporary], max_restarts=0, runtime=simulation.runtime)
    crash(simulation, "a")
    assert refs(supervisor) == {}
    with pytest.raises(ChildNotFound):
        supervisor.get_childspec("a").get()
    ref = supervisor.start_child(temporary).get()
    assert refs(supervisor) == {"a": ref}
    assert told(log) == "+a +a"


def test_case_6(simulation: Simulation) -> None:
    """Case 6: transient ends with shutdown: kept, restart_child works. It crashes: restarted."""
    log: list[str] = []
    transient = spec(log, "a", restart="transient")
    supervisor = Supervisor.start([transient], runtime=simulation.runtime)
    first = refs(supervisor)["a"]
    end(simulation, "a", Shutdown("done"))
    assert reason(first) is ExitReason.SHUTDOWN
    assert states(supervisor) == {"a": ChildState.STOPPED}
    assert refs(supervisor) == {"a": None}
    second = supervisor.restart_child("a").get()
    assert refs(supervisor) == {"a": second}
    crash(simulation, "a")
    third = refs(supervisor)["a"]
    assert third is not second
    assert third.is_alive()
    assert told(log) == "+a -a +a +a"


def test_case_7(simulation: Simulation) -> None:
    """Case 7: one_for_one, budget 2: the sibling's ref survives two crashes, the third trips."""
    log: list[str] = []
    supervisor = Supervisor.start(specs(log, "ab"), max_restarts=2, runtime=simulation.runtime)
    sibling = refs(supervisor)["a"]
    for _ in range(2):
        crash(simulation, "b")
        assert refs(supervisor)["a"] is sibling
    crash(simulation, "b")
    assert reason(supervisor) is ExitReason.SHUTDOWN
    assert reason(sibling) is ExitReason.SHUTDOWN
    assert told(log) == "+a +b +b +b -a"


def test_case_8(simulation: Simulation) -> None:
    """Case 8: rest_for_one, the second of three crashes: the first keeps its ref."""
    log: list[str] = []
    children = specs(log, "abc")
    supervisor = Supervisor.start(children, strategy="rest_for_one", runtime=simulation.runtime)
    before = refs(supervisor)
    crash(simulation, "b")
    after = refs(supervisor)
    assert after["a"] is before["a"]
    assert after["b"] is not before["b"]
    assert after["c"] is not before["c"]
    assert all(ref.is_alive() for ref in after.values())


def test_case_9(simulation: Simulation) -> None:
    """Case 9: the third of five crashes: 5 then 4 stop; 3, 4, 5 start; shutdown is 5 to 1."""
    log: list[str] = []
    children = specs(log, "12345")
    supervisor = Supervisor.start(children, strategy="rest_for_one", runtime=simulation.runtime)
    log.clear()
    crash(simulation, "3")
    assert told(log) == "-5 -4 +3 +4 +5"
    log.clear()
    supervisor.stop()
    assert told(log) == "-5 -4 -3 -2 -1"


def test_case_10(simulation: Simulation) -> None:
    """Case 10: budget 1 in 1 s, a crash every 2.1 s: survives."""
    log: list[str] = []
    supervisor = Supervisor.start(
        specs(log, "a"), max_restarts=1, max_seconds=1.0, runtime=simulation.runtime
    )
    for _ in range(20):
        crash(simulation, "a")
        simulation.advance(2.1)
    assert states(supervisor) == {"a": ChildState.RUNNING}
    assert log == ["+a"] * 21


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_case_11_restarts_that_always_fail(simulation: Simulation, strategy: Any) -> None:
    """Case 11: budget 1, restarts always fail: one crash ends the supervisor."""
    log: list[str] = []
    children = [spec(log, "a", start=flaky(log, "a"))]
    supervisor = Supervisor.start(
        children, strategy=strategy, max_restarts=1, runtime=simulation.runtime
    )
    crash(simulation, "a")
    assert reason(supervisor) is ExitReason.SHUTDOWN
    assert told(log) == "+a !a"


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_case_11_a_restart_that_fails_once(simulation: Simulation, strategy: Any) -> None:
    """Case 11: fails once, budget 2: recovers."""
    log: list[str] = []
    children = [spec(log, "a", start=flaky(log, "a", [2]))]
    supervisor = Supervisor.start(
        children, strategy=strategy, max_restarts=2, runtime=simulation.runtime
    )
    crash(simulation, "a")
    assert states(supervisor) == {"a": ChildState.RUNNING}
    assert told(log) == "+a !a +a"


def test_case_12_between_two_attempts(simulation: Simulation) -> None:
    """Case 12: in a restart loop: already present, restarting, 1/0/0/1; terminate_child ends it."""
    log: list[str] = []
    supervisor = Supervisor.start(
        [spec(log, "a", start=flaky(log, "a"))],
        max_restarts=1000,
        backoff=Backoff(first=1.0, most=1.0),
        runtime=simulation.runtime,
    )
    crash(simulation, "a")
    assert states(supervisor) == {"a": ChildState.RESTARTING}
    assert refs(supervisor) == {"a": None}
    with pytest.raises(AlreadyPresent):
        supervisor.start_child(spec(log, "a")).get()
    with pytest.raises(ChildRestarting):
        supervisor.delete_child("a").get()
    with pytest.raises(ChildRestarting):
        supervisor.restart_child("a").get()
    assert supervisor.count_children().get() == ChildCounts(1, 0, 0, 1)
    assert supervisor.terminate_child("a").get() is None
    assert states(supervisor) == {"a": ChildState.STOPPED}
    log.clear()
    simulation.advance(60)
    assert log == [], "the loop has ended"
    assert supervisor.is_alive()


def test_case_12_without_a_pause(simulation: Simulation) -> None:
    """Case 12: the same when the next attempt follows at once."""
    log: list[str] = []
    answers: list[Any] = []

    class Calling(Worker):
        def on_start(self) -> None:
            if self.fails and not answers:
                answers.append(supervisor.start_child(spec(log, "a")))
                answers.append(supervisor.delete_child("a"))
                answers.append(supervisor.restart_child("a"))
                answers.append(supervisor.count_children())
                answers.append(supervisor.which_child("a"))
                answers.append(supervisor.terminate_child("a"))
            super().on_start()

    numbers = itertools.count()
    children = [spec(log, "a", start=lambda: Calling(log, "a", fails=next(numbers) > 0))]
    supervisor = Supervisor.start(children, max_restarts=1000, runtime=simulation.runtime)
    crash(simulation, "a")
    started, deleted, restarted, counts, info, terminated = answers
    assert terminated.get(timeout=0) is None
    assert states(supervisor) == {"a": ChildState.STOPPED}
    assert len(log) < 100, "the loop has ended"
    with pytest.raises(AlreadyPresent):
        started.get(timeout=0)
    with pytest.raises(ChildRestarting):
        deleted.get(timeout=0)
    with pytest.raises(ChildRestarting):
        restarted.get(timeout=0)
    assert counts.get(timeout=0) == ChildCounts(1, 0, 0, 1)
    assert info.get(timeout=0).ref is None
    assert info.get(timeout=0).state is ChildState.RESTARTING


def test_case_13(simulation: Simulation) -> None:
    """Case 13: restarting children count against max_children."""
    log: list[str] = []
    supervisor = DynamicSupervisor.start(
        max_children=1,
        max_restarts=1000,
        backoff=Backoff(first=1.0, most=1.0),
        runtime=simulation.runtime,
    )
    supervisor.start_child(spec(log, "a", start=flaky(log, "a"))).get()
    crash(simulation, "a")
    assert states(supervisor) == {"a": ChildState.RESTARTING}
    with pytest.raises(MaxChildren):
        supervisor.start_child(spec(log, "b")).get()
    supervisor.terminate_child("a").get()
    assert supervisor.start_child(spec(log, "b")).get().is_alive()


def test_case_14(simulation: Simulation) -> None:
    """Case 14: shutdown 1 s, a stubborn child: the call returns after 1 s, it is reported."""
    log: list[str] = []
    reports = events(simulation, Unstopped)
    stubborn = spec(log, "a", start=lambda: Stubborn(log, "a"), shutdown=1.0)
    supervisor = Supervisor.start([stubborn], runtime=simulation.runtime)
    ref = refs(supervisor)["a"]
    answered: list[float] = []
    terminated = supervisor.terminate_child("a")
    terminated.add_done_callback(lambda _: answered.append(simulation.clock.monotonic()))
    assert terminated.get() is None
    assert answered == [1.0]
    assert reason(ref) is ExitReason.UNSTOPPED
    assert [(report.child, report.ref, report.shutdown) for report in reports] == [("a", ref, 1.0)]
    assert states(supervisor) == {"a": ChildState.STOPPED}
    assert supervisor.tree().get().unstopped == 1


def test_case_15(simulation: Simulation) -> None:
    """Case 15: children that need 1, 1 and 5 s, shutdown 2 s: between 1 and 5 s, so 2 s."""
    supervisor = DynamicSupervisor.start(runtime=simulation.runtime)
    children = [
        supervisor.start_child(ChildSpec(id=seconds, start=partial(Slow, seconds), shutdown=2.0))
        for seconds in (1.0, 1.0, 5.0)
    ]
    ends = [child.get().monitor() for child in children]
    assert supervisor.stop() is True
    assert simulation.clock.monotonic() == 2.0
    assert [record.get(timeout=0).reason for record in ends] == [
        ExitReason.SHUTDOWN,
        ExitReason.SHUTDOWN,
        ExitReason.UNSTOPPED,
    ]


def test_case_16(simulation: Simulation) -> None:
    """Case 16: a significant transient child: a crash restarts it, a normal exit ends all."""
    log: list[str] = []
    supervisor = Supervisor.start(
        [spec(log, "a"), spec(log, "b", restart="transient", significant=True), spec(log, "c")],
        auto_shutdown="any_significant",
        runtime=simulation.runtime,
    )
    crash(simulation, "b")
    assert told(log) == "+a +b +c +b"
    assert supervisor.is_alive()
    end(simulation, "b", Stop())
    assert told(log) == "+a +b +c +b -b -c -a"
    assert reason(supervisor) is ExitReason.SHUTDOWN


def test_case_17(simulation: Simulation) -> None:
    """Case 17: a sub-supervisor trips: its static children return, its dynamic ones are gone."""
    log: list[str] = []

    def inner() -> Supervisor:
        pool = ChildSpec(id="pool", name="pool", type="supervisor", start=DynamicSupervisor)
        return Supervisor([*specs(log, "ab"), pool], max_restarts=0)

    outer = Supervisor.start(
        [ChildSpec(id="inner", start=inner, type="supervisor"), spec(log, "z")],
        runtime=simulation.runtime,
    )
    before: Any = refs(outer)
    before["inner"].start_child(spec(log, "added")).get()
    pool: Any = refs(before["inner"])["pool"]
    pool.start_child(spec(log, "dynamic")).get()
    log.clear()
    crash(simulation, "a")
    assert told(log) == "-added -dynamic -b +a +b"
    after: Any = refs(outer)
    assert after["inner"] is not before["inner"]
    assert after["z"] is before["z"]
    assert states(after["inner"]) == dict.fromkeys(["a", "b", "pool"], ChildState.RUNNING)
    assert refs(refs(after["inner"])["pool"]) == {}
    assert simulation.runtime.registry.ask("a", "hello").get() == "hello"


@pytest.mark.parametrize("stop", [False, True])
def test_case_18(simulation: Simulation, stop: bool) -> None:
    """Case 18: asked while it dies: every asker gets an answer or an error, none waits."""
    log: list[str] = []
    supervisor = Supervisor.start(specs(log, "ab"), max_restarts=0, runtime=simulation.runtime)
    registry, child = simulation.runtime.registry, refs(supervisor)["a"]
    asked: list[ReplyFuture[Any]] = []

    def ask() -> None:
        asked.append(child.ask("by ref", block=False))
        asked.append(registry.ask("a", "by name", timeout=None))
        asked.append(registry.ask("b", "the sibling", timeout=None))
        asked.append(supervisor.count_children(timeout=None))
        asked.append(supervisor.start_child(spec(log, "c"), timeout=None))

    ask()
    asked.append(registry.ask("a", Crash(), timeout=None))
    ask()
    if stop:
        asked.append(supervisor.stop(block=False))
        ask()
    for _ in range(30):
        simulation.scheduler.step()
        ask()
    simulation.settle()
    ask()
    assert not supervisor.is_alive()
    assert all(future.done() for future in asked)
    assert simulation.clock.monotonic() == 0.0
    assert log.count("+c") == log.count("-c") <= 1


def test_case_19(simulation: Simulation) -> None:
    """Case 19: 64 actors ask for one new name at once: one actor, one start."""
    log: list[str] = []
    supervisor = Supervisor.start(
        [
            ChildSpec(
                id="pool",
                name="pool",
                start=lambda: DynamicSupervisor(spec_for=lambda name: spec(log, str(name))),
                type="supervisor",
            )
        ],
        runtime=simulation.runtime,
    )
    registry = simulation.runtime.registry
    pool = registry.find("pool")
    assert pool is not None
    on_demand = on_demand_by(pool)
    answers: list[Any] = []

    class Asker(Worker):
        def on_receive(self, message: Any) -> None:
            mailbox = registry.mailbox("new", on_demand)
            mailbox.ask(message, 5.0).add_done_callback(lambda got: answers.append(got.get()))

    for number in range(64):
        asker = ChildSpec(id=number, start=lambda: Asker([], "asker"))
        supervisor.start_child(asker).get().tell(number)
    simulation.settle()
    assert sorted(answers) == list(range(64))
    assert log == ["+new"]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_case_20(strategy: Any) -> None:
    """Case 20: thousands of restart_child/terminate_child rounds never trip the budget."""
    with Simulation() as simulation:
        log: list[str] = []
        supervisor = Supervisor.start(
            specs(log, "ab"), strategy=strategy, max_restarts=0, runtime=simulation.runtime
        )
        sibling = refs(supervisor)["b"]
        for _ in range(3000):
            supervisor.terminate_child("a").get()
            supervisor.restart_child("a").get()
        assert refs(supervisor)["b"] is sibling
        assert log == ["+a", "+b", *["-a", "+a"] * 3000]
