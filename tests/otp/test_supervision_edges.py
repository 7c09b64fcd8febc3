"""What a supervisor must survive, and what it must not leave behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import pytest

from pollin_actors.otp import (
    Actor,
    ActorDead,
    AlreadyRegistered,
    Backoff,
    ChildNotFound,
    ChildSpec,
    ChildState,
    DynamicSupervisor,
    EnsureChild,
    Event,
    ExitReason,
    NameNotFound,
    Partitions,
    PartitionSupervisor,
    Registry,
    ReplyFuture,
    Runtime,
    Simulation,
    StartFailed,
    Stop,
    Supervisor,
)
from pollin_actors.otp.event_queue import EventQueue
from tests.otp.actors import Echo, manual_runtime
from tests.otp.test_otp_rules import Late, Slow


class Crash(Exception):
    """A handler's mistake."""


class Unspeakable(Exception):
    """What it was cannot be said."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


class Uncomparable:
    """As an array is: equality has no truth value."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


class Broken(Echo):
    """Does not start while its tag says so."""

    def on_start(self) -> None:
        if self.tag is None or self.tag():  # type: ignore[operator]
            raise Crash


@pytest.fixture(params=range(8))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulation:
        yield simulation


def worker(name: str, start: Callable[[], Actor] = Echo, **options: Any) -> ChildSpec:
    return ChildSpec(id=name, name=name, start=start, **options)


def is_gone(simulation: Simulation, name: str) -> bool:
    """Whether who asks the name is refused at once, without any deadline."""
    try:
        asked = simulation.runtime.registry.ask(name, "hello", timeout=None)
    except NameNotFound:
        return True
    simulation.settle()
    assert asked.done(), f"who asks {name!r} waits for ever"
    with pytest.raises(ActorDead):
        asked.get()
    return True


# -- exceptions and arguments of others ------------------------------------------------------------


def test_an_exception_that_cannot_be_shown(simulation: Simulation) -> None:
    """The child is restarted as always, and what is kept of the crash says so."""
    supervisor = Supervisor.start([worker("a"), worker("b")], runtime=simulation.runtime)
    sibling = supervisor.which_child("b").get().ref
    simulation.runtime.registry.tell("a", Unspeakable())
    simulation.settle()
    assert simulation.runtime.registry.ask("a", "hello").get() == "hello"
    assert supervisor.which_child("b").get().ref is sibling
    crash = supervisor.tree().get().children[0].last_crash
    assert crash is not None
    assert crash.error == "<Unspeakable: its repr failed>"


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
@pytest.mark.parametrize("key", [("x", []), Uncomparable(), None, [], 1.5])
def test_a_key_that_means_no_child(simulation: Simulation, kind: Any, key: Any) -> None:
    """Whatever it is, it is not found, and the supervisor lives on."""
    supervisor = kind.start(runtime=simulation.runtime)
    supervisor.start_child(worker("a")).get()
    for call in (supervisor.terminate_child, supervisor.which_child, supervisor.get_childspec):
        asked: Any = call(key)
        with pytest.raises(ChildNotFound):
            asked.get()
    assert supervisor.count_children().get().active == 1


def test_a_spec_for_that_raises(simulation: Simulation) -> None:
    """Who sent to the name is told; the supervisor and its other children do not notice."""

    def spec_for(name: Any) -> ChildSpec:
        if name != "known":
            raise KeyError(name)
        return worker(name)

    spec = ChildSpec(
        "many", partial(DynamicSupervisor, spec_for=spec_for), name="many", type="supervisor"
    )
    root = Supervisor.start([spec], runtime=simulation.runtime)
    runtime = simulation.runtime
    registry = runtime.registry

    def on_demand(mailbox: Any) -> None:
        registry.ask("many", EnsureChild(mailbox.name), timeout=None)

    answers = {}
    for name in ("known", "unknown"):
        answers[name] = registry.mailbox(name, on_demand).ask("hello")
    simulation.settle()
    assert answers["known"].get() == "hello"
    with pytest.raises(StartFailed, match="KeyError"):
        answers["unknown"].get()
    assert root.is_alive()
    assert registry.ask("known", "again").get() == "again"


def test_very_many_starts_that_fail_in_a_row(simulation: Simulation) -> None:
    """Queued behind a round, and refused one after another, not one inside the other."""

    def broken() -> Echo:
        raise Crash

    slow = ChildSpec("slow", lambda: Slow(1.0), type="supervisor")
    supervisor = Supervisor.start(
        [worker("a"), slow], strategy="one_for_all", runtime=simulation.runtime
    )
    simulation.runtime.registry.tell("a", Crash())
    simulation.settle()
    asked = [supervisor.start_child(ChildSpec(number, broken)) for number in range(1_000)]
    simulation.advance(2.0)
    for future in asked:
        with pytest.raises(StartFailed):
            future.get(timeout=0)
    assert supervisor.count_children().get().active == 2


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_the_name_of_a_child_that_did_not_start(simulation: Simulation, kind: Any) -> None:
    """Nothing is stored, the name neither; and the next one may have it."""
    supervisor = kind.start(runtime=simulation.runtime)
    with pytest.raises(StartFailed):
        supervisor.start_child(worker("a", Broken)).get()
    assert is_gone(simulation, "a")
    assert "a" not in simulation.runtime.registry
    supervisor.start_child(worker("a")).get()
    assert simulation.runtime.registry.ask("a", "hello").get() == "hello"


def test_the_name_of_a_child_that_was_not_restarted_by_a_call(simulation: Simulation) -> None:
    """It stays stopped, and who asks it is told so."""
    broken = False
    start = partial(Broken, tag=lambda: broken)
    supervisor = Supervisor.start([worker("a", start)], runtime=simulation.runtime)
    supervisor.terminate_child("a").get()
    broken = True
    with pytest.raises(StartFailed):
        supervisor.restart_child("a").get()
    assert supervisor.which_child("a").get().state is ChildState.STOPPED
    assert is_gone(simulation, "a")


def test_a_clash_inside_on_start_is_no_clash_over_the_own_name(simulation: Simulation) -> None:
    """It is a start that failed, like any other."""

    class Clashing(Echo):
        def on_start(self) -> None:
            raise AlreadyRegistered("other", self._cell.ref)

    for kind in (Supervisor, DynamicSupervisor):
        supervisor: Any = kind.start(runtime=simulation.runtime)
        with pytest.raises(StartFailed):
            supervisor.start_child(worker("mine", Clashing)).get()
        assert is_gone(simulation, "mine")


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
@pytest.mark.parametrize("how", ["gives up", "crashes"])
def test_children_that_a_restart_of_their_supervisor_loses(
    simulation: Simulation, kind: Any, named: bool, how: str
) -> None:
    """Their names are told, those of the list wait and are borne again."""

    class Fragile(kind):  # type: ignore[misc]
        def handle(self, message: Any) -> Any:
            if message == "crash":
                raise Crash
            return super().handle(message)

    children = {"children": [worker("listed")]} if kind is Supervisor else {}
    spec = ChildSpec(
        "inner",
        partial(Fragile, max_restarts=0, **children),
        name="inner" if named else None,
        type="supervisor",
    )
    root = Supervisor.start([spec], runtime=simulation.runtime)
    inner: Any = root.which_child("inner").get().ref
    inner.start_child(worker("lost")).get()
    registry = simulation.runtime.registry
    if how == "crashes":
        inner.tell("crash")
    else:
        registry.tell("lost", Crash())
    simulation.settle()
    after: Any = root.which_child("inner").get().ref
    assert after is not inner
    assert is_gone(simulation, "lost")
    if kind is Supervisor:
        assert registry.ask("listed", "hello").get() == "hello"


def test_temporary_children_leave_no_name_behind(simulation: Simulation) -> None:
    """However many of them come and go."""
    supervisor = Supervisor.start(runtime=simulation.runtime)
    for number in range(50):
        spec = worker(f"t{number}", restart="temporary")
        supervisor.start_child(spec).get()
        simulation.runtime.registry.tell(f"t{number}", Stop())
        simulation.settle()
    assert len(simulation.runtime.registry) == 0


def test_names_of_another_registry(simulation: Simulation) -> None:
    """A supervisor may keep its children's names elsewhere: they are told there."""
    elsewhere = Registry(simulation.runtime)
    spec = ChildSpec(
        "inner",
        partial(Supervisor, [worker("w")], registry=elsewhere, max_restarts=0),
        restart="transient",
    )
    supervisor = Supervisor.start([spec], runtime=simulation.runtime)
    assert elsewhere.ask("w", "hello").get() == "hello"
    elsewhere.tell("w", Crash())
    simulation.settle()
    assert supervisor.which_child("inner").get().state is ChildState.STOPPED
    asked = elsewhere.ask("w", "hello", timeout=None)
    simulation.settle()
    with pytest.raises(ActorDead):
        asked.get(timeout=0)


# -- starts ----------------------------------------------------------------------------------------


def test_a_child_that_a_round_meets_in_its_first_start(simulation: Simulation) -> None:
    """The round stops and starts it: its starter gets the ref that counts, not an error."""
    supervisor = Supervisor.start([worker("a")], strategy="one_for_all", runtime=simulation.runtime)
    late = ChildSpec("late", lambda: Late(1.0), type="supervisor")
    started = supervisor.start_child(late)
    simulation.settle()
    simulation.runtime.registry.tell("a", Crash())
    simulation.advance(5.0)
    assert started.get(timeout=0) is supervisor.which_child("late").get().ref


def test_a_child_that_is_terminated_in_its_first_start(simulation: Simulation) -> None:
    """Its start has failed, so nothing is kept of it."""
    supervisor = Supervisor.start(runtime=simulation.runtime)
    late = ChildSpec("late", lambda: Late(1.0), type="supervisor")
    started = supervisor.start_child(late)
    simulation.settle()
    terminated = supervisor.terminate_child("late")
    simulation.advance(5.0)
    assert terminated.get(timeout=0) is None
    with pytest.raises(StartFailed):
        started.get(timeout=0)
    assert supervisor.which_children().get() == []


def test_a_child_made_while_its_supervisor_was_abandoned() -> None:
    """The factory was at it when the supervisor was given up: the child ends at once."""
    runtime, scheduler = manual_runtime()
    log: list[Any] = []

    def slow_factory() -> Echo:
        cell = inner[0]._cell
        actor = cell.actor
        cell.mailbox.abandon(cell)
        actor.dismiss()
        return Echo(log, "late")

    inner: list[Any] = []
    root = DynamicSupervisor()
    root.begin(runtime)
    sub = Supervisor()
    inner.append(sub)
    sub.begin(runtime)
    scheduler.run_all()
    sub.ref.start_child(ChildSpec("late", slow_factory))
    scheduler.run_all()
    assert [kind for kind, _ in log] in ([], ["start", "stop"])


def test_auto_shutdown_waits_for_the_own_start(simulation: Simulation) -> None:
    """A task that is done before all siblings are up is no failed start."""

    class Quick(Echo):
        def on_continue(self) -> None:
            raise Stop

    children = [
        ChildSpec("task", Quick, restart="transient", significant=True),
        ChildSpec("late", lambda: Late(1.0), type="supervisor"),
    ]
    supervisor = Supervisor.start(
        children, auto_shutdown="any_significant", runtime=simulation.runtime
    )
    simulation.settle()
    assert supervisor.monitor().get(timeout=0).reason is ExitReason.SHUTDOWN


def test_what_a_start_without_an_exception_says(simulation: Simulation) -> None:
    class Ending(Echo):
        def on_start(self) -> None:
            raise Stop

    with pytest.raises(StartFailed, match="it ended before that"):
        Supervisor.start([worker("a", Ending)], runtime=simulation.runtime)


def test_a_class_of_a_supervisor_makes_a_supervisor_of_its_spec() -> None:
    """Said or not: its children must have time to end."""
    for start in (Supervisor, partial(DynamicSupervisor, max_children=3)):
        spec = ChildSpec("inner", start)
        assert (spec.type, spec.shutdown) == ("supervisor", "infinity")


def test_partitions_take_the_defaults_of_their_class(simulation: Simulation) -> None:
    class Careful(Echo):
        child_defaults: ClassVar[dict[str, Any]] = {"shutdown": 60.0, "restart": "transient"}

    supervisor = PartitionSupervisor.start(
        Partitions("p", 2), Careful, restart="permanent", runtime=simulation.runtime
    )
    spec = supervisor.get_childspec(1).get()
    assert (spec.id, spec.name, spec.shutdown, spec.restart) == (1, ("p", 1), 60.0, "permanent")
    nested = PartitionSupervisor.start(
        Partitions("q", 2), DynamicSupervisor, runtime=simulation.runtime
    )
    assert nested.get_childspec(0).get().shutdown == "infinity"


# -- what is left behind ---------------------------------------------------------------------------


def test_shutdown_times_are_taken_away_with_the_supervisor(simulation: Simulation) -> None:
    """A long one must not keep the children's remains for as long."""
    supervisor = DynamicSupervisor.start(runtime=simulation.runtime)
    for number in range(10):
        supervisor.start_child(ChildSpec(number, Echo, shutdown=3_600.0)).get()
    supervisor.stop()
    simulation.settle()
    assert simulation.timers.next_due() is None


def test_a_tree_with_a_part_that_does_not_answer(simulation: Simulation) -> None:
    """The others are shown, and that one without its children."""

    class Mute(Supervisor):
        def on_receive(self, message: Any) -> Any:
            from pollin_actors.otp import Later

            return Later(ReplyFuture())

    specs = [worker("a"), ChildSpec("mute", lambda: Mute([worker("b")]), type="supervisor")]
    supervisor = Supervisor.start(specs, runtime=simulation.runtime)
    root = supervisor.tree().get()
    assert [node.id for node in root.walk()] == ["Supervisor", "a", "mute"]
    assert simulation.clock.monotonic() == 1.0


# -- events ----------------------------------------------------------------------------------------


def test_a_hook_that_wants_to_end_the_program_does_not(simulation: Simulation) -> None:
    """``SystemExit`` in a hook is the hook's mistake, not the end of whoever stops the runtime."""
    told: list[Event] = []

    def hook(event: Event) -> None:
        told.append(event)
        raise SystemExit(1)

    simulation.runtime.on_event = hook
    supervisor = Supervisor.start([worker("a"), worker("b")], runtime=simulation.runtime)
    supervisor.stop()
    simulation.settle()
    simulation.runtime.events.flush()
    assert len(told) == 4


def test_a_slow_hook_does_not_hold_up_the_stop() -> None:
    """What it does not get to within the time waits on, in order."""
    times = iter(range(1_000))
    told: list[int] = []
    runtime = Runtime()
    events = EventQueue(runtime.scheduler, runtime.timers, lambda: told.append)  # type: ignore[arg-type, return-value]

    class Happened:
        level = "debug"
        event = "happened"
        supervisor = child = ""
        generation = 0

        def fields(self) -> dict[str, Any]:
            return {}

    for _ in range(5):
        events.put(Happened)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pollin_actors.otp.event_queue.time.monotonic", lambda: float(next(times)))
        events.flush(timeout=2.5)
    assert len(told) == 2
    events.flush()
    assert len(told) == 5


def test_backoff_begins_anew_after_a_restart_by_a_call(simulation: Simulation) -> None:
    """Somebody has looked at it: its next crash is the first one."""
    supervisor = Supervisor.start(
        [worker("a")],
        backoff=Backoff(first=5.0, most=5.0),
        max_restarts=100,
        runtime=simulation.runtime,
    )
    for _ in range(2):
        simulation.runtime.registry.tell("a", Crash())
        simulation.settle()
    assert supervisor.which_child("a").get().state is ChildState.RESTARTING
    supervisor.terminate_child("a").get()
    supervisor.restart_child("a").get()
    simulation.runtime.registry.tell("a", Crash())
    simulation.settle()
    assert supervisor.which_child("a").get().state is ChildState.RUNNING
