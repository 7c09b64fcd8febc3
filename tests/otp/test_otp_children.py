"""The rules of OTP supervision: how children stop, dynamic and partition supervisors, specs.

What the children write down is explained in ``test_otp_rules``, where the helpers are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import pytest

from pollin_actors.otp import (
    ActorDead,
    ChildCounts,
    ChildNotFound,
    ChildSpec,
    ChildState,
    DynamicSupervisor,
    ExitReason,
    InvalidSpec,
    MaxChildren,
    Partitions,
    PartitionSupervisor,
    Ref,
    Simulation,
    StartFailed,
    Supervisor,
    UnknownMessage,
)
from tests.otp.test_otp_rules import (
    Slow,
    Stubborn,
    Worker,
    crash,
    flaky,
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


def note_end(simulation: Simulation, times: dict[Any, float], key: Any, ref: Ref[Any]) -> None:
    """Write down when an actor ends."""

    def note(_: object) -> None:
        times[key] = simulation.clock.monotonic()

    ref.monitor().add_done_callback(note)


# -- how children stop -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shutdown", "ended", "why"),
    [
        ("infinity", 1000.0, ExitReason.SHUTDOWN),
        (1001, 1000.0, ExitReason.SHUTDOWN),
        (999.5, 999.5, ExitReason.UNSTOPPED),
        (0, 0.0, ExitReason.UNSTOPPED),
    ],
)
def test_shutdown_times(
    simulation: Simulation, shutdown: Any, ended: float, why: ExitReason
) -> None:
    """A child that needs 1000 s is waited for as long as its spec says."""
    slow = ChildSpec(id="a", start=lambda: Slow(1000.0), shutdown=shutdown, type="supervisor")
    supervisor = Supervisor.start([slow], runtime=simulation.runtime)
    ref = refs(supervisor)["a"]
    assert supervisor.terminate_child("a", timeout=None).get() is None
    assert simulation.clock.monotonic() == ended
    assert reason(ref) is why


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_brutal_kill(simulation: Simulation, kind: Any) -> None:
    """The child ends at once, with reason killed, without its ``on_stop``."""
    log: list[str] = []
    supervisor = kind.start(runtime=simulation.runtime)
    ref = supervisor.start_child(spec(log, "a", shutdown="brutal_kill")).get()
    behind = ref.ask("queued", block=False)
    assert supervisor.terminate_child("a").get() is None
    assert reason(ref) is ExitReason.KILLED
    assert told(log) == "+a"
    assert behind.done()


def test_brutal_kill_of_a_supervisor(simulation: Simulation) -> None:
    """Its children do not outlive it."""
    log: list[str] = []
    inner = ChildSpec(
        id="inner",
        start=lambda: Supervisor(specs(log, "ab")),
        type="supervisor",
        shutdown="brutal_kill",
    )
    supervisor = Supervisor.start([inner], runtime=simulation.runtime)
    below = refs(refs(supervisor)["inner"])
    supervisor.terminate_child("inner").get()
    simulation.settle()
    assert simulation.clock.monotonic() == 0.0
    assert not any(ref.is_alive() for ref in below.values())


def test_a_stop_takes_as_long_as_its_children_one_after_another(simulation: Simulation) -> None:
    """Static children are each awaited: 1 s, then 2 s, then the shutdown time of the third."""
    children = [
        ChildSpec(id=seconds, start=partial(Slow, seconds), type="supervisor", shutdown=4.0)
        for seconds in (100.0, 2.0, 1.0)
    ]
    supervisor = Supervisor.start(children, runtime=simulation.runtime)
    times: dict[float, float] = {}
    for tag, ref in refs(supervisor).items():
        note_end(simulation, times, tag, ref)
    assert supervisor.stop() is True
    assert times == {1.0: 1.0, 2.0: 3.0, 100.0: 7.0}


# -- dynamic supervisors ---------------------------------------------------------------------------


def test_dynamic_children_stop_in_parallel_by_shutdown_value(simulation: Simulation) -> None:
    """One deadline for each shutdown value, all from the same moment."""
    supervisor = DynamicSupervisor.start(runtime=simulation.runtime)
    times: dict[str, float] = {}
    children: list[tuple[str, float, Any]] = [
        ("quick", 0.5, 1.0),
        ("late", 50.0, 1.0),
        ("later", 60.0, 1.0),
        ("patient", 2.5, 3.0),
        ("stubborn", 70.0, 3.0),
        ("endless", 4.0, "infinity"),
    ]
    for name, seconds, shutdown in children:
        child = ChildSpec(id=name, start=partial(Slow, seconds), shutdown=shutdown)
        note_end(simulation, times, name, supervisor.start_child(child).get())
    assert supervisor.stop() is True
    assert times == {
        "quick": 0.5,
        "late": 1.0,
        "later": 1.0,
        "patient": 2.5,
        "stubborn": 3.0,
        "endless": 4.0,
    }


def test_max_children(simulation: Simulation) -> None:
    """One more is refused, whatever its restart type; each end makes room."""
    supervisor = DynamicSupervisor.start(max_children=2, runtime=simulation.runtime)
    for tag in "ab":
        supervisor.start_child(spec([], tag, restart="temporary")).get()
    with pytest.raises(MaxChildren) as caught:
        supervisor.start_child(spec([], "c")).get()
    assert caught.value.most == 2
    crash(simulation, "a")
    assert supervisor.start_child(spec([], "c")).get().is_alive()
    crash(simulation, "c")
    with pytest.raises(MaxChildren):
        supervisor.start_child(spec([], "d")).get()
    supervisor.terminate_child("b").get()
    assert supervisor.start_child(spec([], "d")).get().is_alive()


def test_max_children_of_none(simulation: Simulation) -> None:
    """Zero is a bound as well, and a start that fails takes no room."""
    nobody = DynamicSupervisor.start(max_children=0, runtime=simulation.runtime)
    with pytest.raises(MaxChildren):
        nobody.start_child(spec([], "a")).get()
    one = DynamicSupervisor.start(max_children=1, runtime=simulation.runtime)
    for _ in range(3):
        with pytest.raises(StartFailed):
            one.start_child(spec([], "a", start=flaky([], "a", [1]))).get()
    assert one.start_child(spec([], "a")).get().is_alive()


def test_dynamic_children_are_known_by_ref_id_and_name(simulation: Simulation) -> None:
    """Ids may repeat: a ref means one child, and a dead one none."""
    log: list[str] = []
    supervisor = DynamicSupervisor.start(runtime=simulation.runtime)

    def same(tag: str) -> ChildSpec:
        return ChildSpec(id="same", start=lambda: Worker(log, tag))

    first, second = (supervisor.start_child(same(tag)).get() for tag in ("1", "2"))
    supervisor.start_child(ChildSpec(id=3, name="named", start=lambda: Worker(log, "3"))).get()
    supervisor.start_child(ChildSpec(id=4, start=lambda: Worker(log, "4"))).get()
    log.clear()
    for key in (second, first, "named", 4):
        assert supervisor.terminate_child(key).get() is None
        with pytest.raises(ChildNotFound):
            supervisor.terminate_child(key).get()
    assert told(log) == "-2 -1 -3 -4"
    assert supervisor.count_children().get() == ChildCounts(0, 0, 0, 0)


def test_dynamic_children_restart_alone_and_share_a_budget(simulation: Simulation) -> None:
    """The ref of a restarted child is known at once; the budget trips with shutdown."""
    log: list[str] = []
    supervisor = DynamicSupervisor.start(max_restarts=2, runtime=simulation.runtime)
    children = {tag: supervisor.start_child(spec(log, tag)).get() for tag in "abc"}
    crash(simulation, "a", "b")
    after = refs(supervisor)
    assert after["c"] is children["c"]
    assert supervisor.which_child(after["a"]).get().id == "a"
    with pytest.raises(ChildNotFound):
        supervisor.which_child(children["a"]).get()
    log.clear()
    crash(simulation, "c")
    assert reason(supervisor) is ExitReason.SHUTDOWN
    assert sorted(log) == ["-a", "-b"]


def test_what_a_dynamic_supervisor_does_not_answer(simulation: Simulation) -> None:
    """It keeps no spec of who is stopped: nothing to restart or to delete."""
    supervisor = DynamicSupervisor.start(runtime=simulation.runtime)
    supervisor.start_child(spec([], "a")).get()
    for call in (supervisor.restart_child, supervisor.delete_child):
        answer: Any = call("a")
        with pytest.raises(UnknownMessage):
            answer.get()
    assert states(supervisor) == {"a": ChildState.RUNNING}
    assert supervisor.get_childspec("a").get().restart == "permanent"


# -- partition supervisors -------------------------------------------------------------------------


def test_partitions_route_by_key(simulation: Simulation) -> None:
    """A natural number goes to its remainder, equal keys to the same partition, of any type."""
    pool = Partitions("pool", 3)
    supervisor = PartitionSupervisor.start(
        pool, lambda number: Worker([], str(number)), runtime=simulation.runtime
    )
    assert list(refs(supervisor)) == [0, 1, 2]
    assert [pool.index_for(number) for number in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    for one, equal in ((-1, -1.0), (True, 1), (2**61, float(2**61)), ("a", "A".lower())):
        assert pool.index_for(one) == pool.index_for(equal)
    for key in ("x", ("y", 1), 2.5, None, True):
        assert 0 <= pool.index_for(key) < 3
        assert pool.index_for(key) == pool.index_for(key)
    assert pool.names() == [("pool", 0), ("pool", 1), ("pool", 2)]
    for index, ref in refs(supervisor).items():
        assert simulation.runtime.registry.whereis(pool.name_for(index)) is ref
        assert simulation.runtime.registry.ask(pool.name_for(index + 3), index).get() == index


def test_a_partition_that_crashes_is_restarted_alone(simulation: Simulation) -> None:
    """Its key finds the next incarnation; the others keep their refs."""
    log: list[str] = []
    pool = Partitions("pool", 3)
    supervisor = PartitionSupervisor.start(
        pool, lambda number: Worker(log, str(number)), max_restarts=1, runtime=simulation.runtime
    )
    before = refs(supervisor)
    log.clear()
    crash(simulation, pool.name_for(4))
    after = refs(supervisor)
    assert told(log) == "+1"
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] is not before[1]
    assert simulation.runtime.registry.ask(pool.name_for(4), "hello").get() == "hello"
    crash(simulation, pool.name_for(4))
    assert reason(supervisor) is ExitReason.SHUTDOWN


def test_partitions_are_fixed(simulation: Simulation) -> None:
    """None is added or deleted, but one may be terminated and restarted."""
    pool = Partitions("pool", 2)
    supervisor = PartitionSupervisor.start(
        pool, lambda number: Worker([], str(number)), runtime=simulation.runtime
    )
    with pytest.raises(UnknownMessage):
        supervisor.start_child(spec([], "a")).get()
    supervisor.terminate_child(1).get()
    with pytest.raises(UnknownMessage):
        supervisor.delete_child(1).get()
    with pytest.raises(ActorDead):
        simulation.runtime.registry.ask(pool.name_for(1), "hello").get()
    assert supervisor.restart_child(1).get() is refs(supervisor)[1]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"partitions": 3}, "partitions"),
        ({"auto_shutdown": "any_significant"}, "auto_shutdown"),
        ({"restart": "always"}, "ChildSpec.restart"),
        ({"max_restarts": -1}, "max_restarts"),
        ({"actor": 7}, "actor"),
    ],
)
def test_a_partition_supervisor_checks_its_arguments(
    simulation: Simulation, arguments: dict[str, Any], field: str
) -> None:
    """Before anything starts, and by name."""
    given: dict[str, Any] = {"partitions": Partitions("pool", 2), "actor": Worker, **arguments}
    with pytest.raises(InvalidSpec) as caught:
        PartitionSupervisor.start(**given, runtime=simulation.runtime)
    assert caught.value.field == field


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "3"])
def test_a_count_of_partitions(count: Any) -> None:
    """At least one."""
    with pytest.raises(InvalidSpec, match=r"Partitions\.count"):
        Partitions("pool", count)


# -- specs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        (Supervisor, "strategy", "all_for_one"),
        (Supervisor, "strategy", None),
        (Supervisor, "auto_shutdown", "any"),
        (Supervisor, "max_restarts", -1),
        (Supervisor, "max_restarts", 1.0),
        (Supervisor, "max_seconds", 0),
        (Supervisor, "max_seconds", float("inf")),
        (Supervisor, "backoff", 0.1),
        (DynamicSupervisor, "max_children", -1),
        (DynamicSupervisor, "max_children", True),
        (DynamicSupervisor, "max_restarts", None),
        (DynamicSupervisor, "max_seconds", -1),
    ],
)
def test_options_are_checked(simulation: Simulation, kind: Any, option: str, value: object) -> None:
    """Each bad option has its error, which names it and what came; nothing starts."""
    log: list[str] = []
    arguments = [specs(log, "a")] if kind is Supervisor else []
    with pytest.raises(InvalidSpec) as caught:
        kind.start(*arguments, runtime=simulation.runtime, **{option: value})
    assert (caught.value.field, caught.value.got) == (option, value)
    simulation.settle()
    assert log == []


@pytest.mark.parametrize("last", ["a", None, Worker([], "x"), lambda: Worker([], "x"), Exception])
def test_a_list_of_children_is_checked_before_any_starts(simulation: Simulation, last: Any) -> None:
    """An id that is there twice, or what is no spec: the first child does not start either."""
    log: list[str] = []
    wrong = spec(log, "a") if last == "a" else last
    with pytest.raises(InvalidSpec, match="children"):
        Supervisor.start([*specs(log, "ab"), wrong], runtime=simulation.runtime)
    simulation.settle()
    assert log == []


def test_start_child_is_checked_before_anything_is_looked_up(simulation: Simulation) -> None:
    """A spec that cannot be is refused as such, also where its id runs already."""
    supervisor = Supervisor.start(specs([], "a"), runtime=simulation.runtime)
    ref = refs(supervisor)["a"]
    for wrong in (spec([], "a", restart="transient", significant=True), "a", Exception, None):
        answer: Any = supervisor.start_child(wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidSpec):
            answer.get()
    assert refs(supervisor) == {"a": ref}


@pytest.mark.parametrize("start", [lambda: None, lambda: object(), lambda: Supervisor.start])
def test_a_factory_that_makes_no_actor(simulation: Simulation, start: Any) -> None:
    """The start fails and says what came."""
    supervisor = Supervisor.start(runtime=simulation.runtime)
    with pytest.raises(StartFailed) as caught:
        supervisor.start_child(ChildSpec(id="a", start=start)).get()
    assert isinstance(caught.value.__cause__, TypeError)
    assert refs(supervisor) == {}


def test_a_factory_that_makes_the_same_actor_again(simulation: Simulation) -> None:
    """A live instance is refused at the restart, each time, until the supervisor gives up."""
    live = Worker([], "a")
    supervisor = Supervisor.start(
        [ChildSpec(id="a", name="a", start=lambda: live)], runtime=simulation.runtime
    )
    crash(simulation, "a")
    assert reason(supervisor) is ExitReason.SHUTDOWN


class Plain(Worker):
    """Without defaults of its own."""

    def __init__(self) -> None:
        super().__init__([], "plain")


class Chosen(Plain):
    """With defaults of its own."""

    child_defaults: ClassVar[dict[str, Any]] = {"restart": "transient", "shutdown": 1.5}


class Tree(Supervisor):
    """A supervisor with its children built in."""

    def __init__(self) -> None:
        super().__init__([Plain, Chosen])


def test_default_specs_of_classes(simulation: Simulation) -> None:
    """A class in a list has its name as id and its own defaults; each may be overridden."""
    chosen = ChildSpec.of(Chosen).replace(id="other", restart="temporary", name="other")
    supervisor = Supervisor.start([Plain, Chosen, chosen, Tree], runtime=simulation.runtime)
    found = [supervisor.get_childspec(child).get() for child in refs(supervisor)]
    assert [
        (each.id, each.restart, each.shutdown, each.type, each.name, each.significant)
        for each in found
    ] == [
        ("Plain", "permanent", 5.0, "worker", None, False),
        ("Chosen", "transient", 1.5, "worker", None, False),
        ("other", "temporary", 1.5, "worker", "other", False),
        ("Tree", "permanent", "infinity", "supervisor", None, False),
    ]
    assert list(refs(refs(supervisor)["Tree"])) == ["Plain", "Chosen"]


def test_get_childspec_fills_in_the_defaults(simulation: Simulation) -> None:
    """Every field reads back; a supervisor's shutdown is infinity, also by replace."""
    supervisor = Supervisor.start(runtime=simulation.runtime)
    worker = ChildSpec(id="a", start=Plain)
    supervisor.start_child(worker).get()
    supervisor.start_child(worker.replace(id="b", type="supervisor", start=Supervisor)).get()
    found = supervisor.get_childspec("a").get()
    fields = (found.restart, found.shutdown, found.type, found.name, found.significant)
    assert fields == ("permanent", 5.0, "worker", None, False)
    assert supervisor.get_childspec("b").get().shutdown == "infinity"
    with pytest.raises(ChildNotFound):
        supervisor.get_childspec("c").get()


@pytest.mark.parametrize(
    ("defaults", "match"),
    [({"restrat": "temporary"}, "restrat"), ({"restart": "always"}, "restart"), (7, "mapping")],
)
def test_wrong_defaults_of_a_class(defaults: Any, match: str) -> None:
    """They are found when the spec is made."""
    wrong = type("Wrong", (Plain,), {"child_defaults": defaults})
    with pytest.raises(InvalidSpec, match=match):
        ChildSpec.of(wrong)


@pytest.mark.parametrize(("budget", "survives"), [(2, True), (1, False)])
def test_a_dynamic_restart_that_fails_is_tried_again(
    simulation: Simulation, budget: int, survives: bool
) -> None:
    """Each attempt counts; the child has its place, its id and its name meanwhile."""
    log: list[str] = []
    supervisor = DynamicSupervisor.start(max_restarts=budget, runtime=simulation.runtime)
    supervisor.start_child(spec(log, "a", start=flaky(log, "a", [2]))).get()
    crash(simulation, "a")
    assert supervisor.is_alive() is survives
    assert told(log) == ("+a !a +a" if survives else "+a !a")


def test_an_abandoned_child_frees_its_name(simulation: Simulation) -> None:
    """The next incarnation has the name; whoever waited for the old one got an error."""
    log: list[str] = []
    numbers = itertools.count(1)

    def stubborn_first() -> Worker:
        return (Stubborn if next(numbers) == 1 else Worker)(log, "a")

    supervisor = Supervisor.start(
        [spec(log, "a", start=stubborn_first, shutdown=1.0)], runtime=simulation.runtime
    )
    old = refs(supervisor)["a"]
    restarted: list[Any] = []
    terminated = supervisor.terminate_child("a")
    terminated.add_done_callback(lambda _: restarted.append(supervisor.restart_child("a")))
    simulation.settle()
    simulation.advance(120.0)
    new = restarted[0].get(timeout=0)
    assert reason(old) is ExitReason.UNSTOPPED
    assert simulation.runtime.registry.whereis("a") is new
    assert refs(supervisor) == {"a": new}
    assert told(log) == "+a -a +a"
    with pytest.raises(ActorDead):
        old.ask("hello")
    assert simulation.runtime.registry.ask("a", "hello").get() == "hello"
