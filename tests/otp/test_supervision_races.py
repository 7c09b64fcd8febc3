"""Supervisors whose children, askers or callers do something at an awkward moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pykka
import pytest

from pollin_actors.otp import (
    ActorDead,
    Backoff,
    BlockingActor,
    ChildNotFound,
    ChildSpec,
    CountChildren,
    DynamicSupervisor,
    ExitReason,
    InvalidSpec,
    NameNotFound,
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
from pollin_actors.otp.clock import Clock
from pollin_actors.otp.simulation import SimulatedTimers, VirtualClock
from tests.otp.actors import (
    Echo,
    ManualScheduler,
    MayBlock,
    begin,
    fire_until,
    in_thread,
    manual_runtime,
)

SECONDS = 10.0


@pytest.fixture(params=range(8))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulation:
        yield simulation


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    runtime = Runtime().start()
    yield runtime
    assert runtime.stop()


def children(supervisor: Ref[Any]) -> dict[Any, Any]:
    return {child.id: child.ref for child in supervisor.ask(WhichChildren())}


class Watched(Echo):
    """Says when it has stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = threading.Event()

    def on_stop(self) -> None:
        self.stopped.set()


class Gated(MayBlock):
    """Its start, or its end, takes until the gate is opened."""

    starts_slowly: ClassVar[bool] = False
    stops_slowly: ClassVar[bool] = False

    def __init__(self, entered: threading.Event, gate: threading.Event) -> None:
        super().__init__()
        self._entered, self._gate = entered, gate

    def on_start(self) -> None:
        if self.starts_slowly:
            self._pass()

    def on_stop(self) -> None:
        if self.stops_slowly:
            self._pass()

    def _pass(self) -> None:
        self._entered.set()
        assert self._gate.wait(SECONDS)


class SlowToStart(Gated):
    starts_slowly: ClassVar[bool] = True


class SlowToStop(Gated):
    stops_slowly: ClassVar[bool] = True


# -- a start that fails in the middle --------------------------------------------------------------


def test_a_factory_that_raises_no_exception_but_a_base_exception(runtime: Runtime) -> None:
    """The start fails with it instead of waiting for ever; the child before it ends."""
    first = Watched()

    def broken() -> Echo:
        raise SystemExit(3)

    specs = [ChildSpec(id="first", name="first", start=lambda: first), ChildSpec(1, broken)]

    def start() -> Any:
        try:
            return Supervisor.start(specs, runtime=runtime)
        except BaseException as error:
            return error

    raised = in_thread(start)
    assert isinstance(raised, StartFailed)
    assert raised.child_id == 1
    assert isinstance(raised.reason, SystemExit)
    assert raised.reason.code == 3
    assert first.stopped.wait(SECONDS)


@pytest.mark.parametrize("error", [pykka.Timeout, KeyboardInterrupt])
def test_a_start_that_the_caller_leaves_leaves_nothing_running(
    runtime: Runtime, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is up, or Ctrl-C comes, while a child starts: nobody holds a ref, so all of it ends."""
    first = Watched()
    starting, gate = threading.Event(), threading.Event()
    slow = SlowToStart(starting, gate)
    specs = [ChildSpec("first", lambda: first, name="first"), ChildSpec("slow", lambda: slow)]

    def wait(future: ReplyFuture[Any], timeout: float | None) -> bool:
        assert starting.wait(SECONDS)
        if error is KeyboardInterrupt:
            raise KeyboardInterrupt
        return False

    ended = slow._cell.monitor()
    monkeypatch.setattr("pollin_actors.otp.futures.block_on", wait)
    with pytest.raises(error):
        Supervisor.start(specs, runtime=runtime, timeout=60.0)
    monkeypatch.undo()
    gate.set()
    assert first.stopped.wait(SECONDS), "the first child lives on"
    assert ended.get(timeout=SECONDS).reason is ExitReason.SHUTDOWN
    assert runtime.registry.whereis("first") is None


def start_child(kind: type[Any], start: Any) -> tuple[Any, ReplyFuture[Any], ManualScheduler]:
    """A supervisor of that class that is asked for a child, with nothing run yet."""
    runtime, scheduler = manual_runtime()
    supervisor = begin(kind(), runtime)
    scheduler.run_all()
    asked = supervisor.ask(StartChild(ChildSpec(id="a", start=start)), block=False)
    return supervisor, asked, scheduler


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_a_child_that_is_terminated_before_its_start(kind: type[Any]) -> None:
    """Both who wanted it to start and who wanted it to end get an answer."""
    supervisor, asked, scheduler = start_child(kind, MayBlock)
    terminated = supervisor.ask(TerminateChild("a"), block=False)
    scheduler.run_all()
    assert terminated.get(timeout=0) is None
    assert asked.done(), "who asked for the start waits for ever"
    with pytest.raises(StartFailed, match="ended it"):
        asked.get(timeout=0)
    assert supervisor.ask(CountChildren()).active == 0


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_a_child_that_is_terminated_during_its_start(kind: type[Any]) -> None:
    """The same while its ``on_start`` is under way."""
    terminated: list[ReplyFuture[Any]] = []

    class Terminated(MayBlock):
        def on_start(self) -> None:
            terminated.append(supervisor.ask(TerminateChild("a"), block=False))

    supervisor, asked, scheduler = start_child(kind, Terminated)
    scheduler.run_all()
    assert terminated[0].get(timeout=0) is None
    assert asked.done(), "who asked for the start waits for ever"
    with pytest.raises(StartFailed, match="ended it"):
        asked.get(timeout=0)
    assert supervisor.is_alive()


# -- restarts --------------------------------------------------------------------------------------


def manual_clock() -> tuple[Runtime, ManualScheduler, SimulatedTimers]:
    """A runtime whose turns and timers wait until a test says when."""
    clock: Clock = VirtualClock()
    assert isinstance(clock, VirtualClock)
    scheduler, timers = ManualScheduler(), SimulatedTimers(clock)
    return Runtime(clock, scheduler, timers), scheduler, timers


@pytest.mark.parametrize("due", ["before the crash", "after the crash"])
def test_a_restart_that_an_earlier_incarnation_put_off_is_not_made(due: str) -> None:
    """A named supervisor crashes while a child of it waits for its restart.

    The next incarnation knows nothing of that child: restarted, it would belong to nobody.
    """
    runtime, scheduler, timers = manual_clock()
    made: list[Echo] = []

    def make() -> Echo:
        made.append(Echo())
        return made[-1]

    class Crashing(DynamicSupervisor):
        def handle(self, message: Any) -> Any:
            if message == "crash":
                if due == "before the crash":
                    timers.fire_next()
                raise ValueError("a bug")
            return super().handle(message)

    spec = ChildSpec(
        id="dynamic",
        name="dynamic",
        type="supervisor",
        start=lambda: Crashing(backoff=Backoff(first=0.1)),
    )
    top = begin(Supervisor([spec]), runtime)
    scheduler.run_all()
    ask = runtime.registry.ask
    started = ask("dynamic", StartChild(ChildSpec(id="a", start=make)))
    scheduler.run_all()
    assert started.get(timeout=0).is_alive()
    for _ in range(2):  # the first restart is immediate, the second is put off
        made[-1].actor_ref.tell(ValueError("a bug"))
        scheduler.run_all()
    assert len(made) == 2
    before = runtime.registry.whereis("dynamic")
    with pytest.raises(ValueError, match="a bug"):
        ask("dynamic", "crash").get(timeout=0)
    scheduler.run_all()
    assert runtime.registry.whereis("dynamic") is not before
    while timers.next_due() is not None:
        timers.fire_next()
        scheduler.run_all()
    assert len(made) == 2, "a child was made that no supervisor knows"
    stopped = top.stop(block=False)
    scheduler.run_all()
    assert stopped.get(timeout=0) is True
    assert not any(actor.actor_ref.is_alive() for actor in made)


def test_an_unnamed_supervisor_is_interrupted_while_its_named_child_ends(runtime: Runtime) -> None:
    """Its next incarnation takes the name over; the child in its last hook is no obstacle."""
    stopping, gate = threading.Event(), threading.Event()
    made: list[Gated] = []

    def make() -> Gated:
        made.append(SlowToStop(stopping, gate))
        return made[-1]

    class Interrupted(Supervisor):
        def handle(self, message: Any) -> Any:
            if message == "interrupt":
                raise KeyboardInterrupt
            return super().handle(message)

    inner = ChildSpec(
        id="inner",
        type="supervisor",
        start=lambda: Interrupted([ChildSpec(id="slow", name="slow", start=make)]),
    )
    top = Supervisor.start([inner], runtime=runtime, timeout=SECONDS)
    before = children(top)["inner"]
    monitor = before.monitor()
    made[0].actor_ref.stop(block=False)
    assert stopping.wait(SECONDS)
    with pytest.raises((KeyboardInterrupt, ActorDead)):
        before.ask("interrupt", timeout=SECONDS)
    assert isinstance(monitor.get(timeout=SECONDS).exception, KeyboardInterrupt)
    gate.set()
    assert runtime.registry.ask("slow", "hello", timeout=SECONDS).get() == "hello"
    assert top.is_alive()
    assert children(top)["inner"] is not before
    assert top.stop(timeout=SECONDS)
    assert len(made) == 2


# -- names that end --------------------------------------------------------------------------------


def named(name: str, **options: Any) -> ChildSpec:
    return ChildSpec(id=name, name=name, start=MayBlock, **options)


@pytest.mark.parametrize("restart", ["permanent", "temporary"])
def test_the_name_of_a_dynamic_child_that_ended(simulation: Simulation, restart: Any) -> None:
    """Nobody starts it again on demand, so whoever asks is told at once."""
    registry = simulation.runtime.registry
    supervisor = begin(DynamicSupervisor(), simulation.runtime)
    supervisor.ask(StartChild(named("a", restart=restart)))
    assert registry.ask("a", "hello", timeout=None).get() == "hello"
    waiting = [registry.ask("a", number, timeout=None) for number in range(3)]
    supervisor.ask(TerminateChild("a"))
    simulation.settle()
    assert all(future.done() for future in waiting)
    with pytest.raises(NameNotFound):
        registry.ask("a", "too late", timeout=None)
    assert len(registry) == 0


def test_the_name_of_a_dynamic_child_that_did_not_start(simulation: Simulation) -> None:
    """It was never borne, and nothing is kept of it."""

    class Broken(MayBlock):
        def on_start(self) -> None:
            raise LookupError("no configuration")

    registry = simulation.runtime.registry
    supervisor = begin(DynamicSupervisor(), simulation.runtime)
    with pytest.raises(StartFailed):
        supervisor.ask(StartChild(ChildSpec(id="a", name="a", start=Broken)))
    assert len(registry) == 0


def test_the_names_under_a_supervisor_that_was_stopped(simulation: Simulation) -> None:
    """Whoever waits when it stops, and whoever comes later, is told that nobody will answer."""
    registry = simulation.runtime.registry
    late: list[ReplyFuture[Any]] = []

    class Stopping(MayBlock):
        def on_stop(self) -> None:
            late.append(registry.ask("a", "during its end", timeout=None))

    supervisor = Supervisor.start(
        [ChildSpec(id="a", name="a", start=Stopping)], runtime=simulation.runtime
    )
    assert supervisor.stop()
    simulation.settle()
    late.append(registry.ask("a", "afterwards", timeout=None))
    for future in late:
        assert future.done(), "somebody waits for ever"
        with pytest.raises(ActorDead, match="'a' has ended"):
            future.get(timeout=0)


def test_the_names_under_a_supervisor_that_gave_up(simulation: Simulation) -> None:
    """The same when it ends because a child crashed too often, and nobody supervises it."""
    registry = simulation.runtime.registry
    supervisor = Supervisor.start(
        [named("a"), named("b")], max_restarts=0, runtime=simulation.runtime
    )
    registry.tell("a", ValueError("a bug"))
    behind = registry.ask("a", "behind", timeout=None)
    simulation.settle()
    assert not supervisor.is_alive()
    for future in (behind, *(registry.ask(name, "late", timeout=None) for name in "ab")):
        assert future.done(), "somebody waits for ever"
        with pytest.raises(ActorDead):
            future.get(timeout=0)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_names_under_a_supervisor_that_was_terminated(
    simulation: Simulation, depth: int
) -> None:
    """However deep below it: children of its children as well."""
    spec = named("leaf")
    for level in range(depth):
        spec = ChildSpec(
            id=f"level {level}",
            name=f"level {level}" if level else None,
            type="supervisor",
            start=lambda spec=spec: Supervisor([spec]),  # type: ignore[misc]
        )
    top = Supervisor.start([spec], runtime=simulation.runtime)
    registry = simulation.runtime.registry
    assert registry.ask("leaf", "hello", timeout=None).get() == "hello"
    top.ask(TerminateChild(spec.id))
    simulation.settle()
    late = registry.ask("leaf", "too late", timeout=None)
    assert late.done(), "somebody waits for ever"
    with pytest.raises(ActorDead, match="'leaf' has ended"):
        late.get(timeout=0)


# -- what callers get wrong ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_wrong_arguments_are_the_callers_own_trouble(
    simulation: Simulation, kind: type[Any]
) -> None:
    """They get an error; the supervisor and its other children do not even notice."""
    supervisor = begin(kind(max_restarts=0), simulation.runtime)
    sibling = supervisor.ask(StartChild(ChildSpec(id="sibling", start=Echo)))
    wrong: Any
    for wrong in (Runtime, None, "a"):
        with pytest.raises(InvalidSpec, match="a ChildSpec"):
            supervisor.ask(StartChild(wrong))
    for wrong in (["a"], {}, None):
        with pytest.raises(ChildNotFound):
            supervisor.ask(TerminateChild(wrong))
    assert supervisor.is_alive()
    assert sibling.is_alive()
    assert supervisor.ask(CountChildren()).specs == 1


# -- supervisors that are abandoned ----------------------------------------------------------------


def test_the_children_of_a_supervisor_that_was_abandoned_end() -> None:
    """It waits for a child that does not stop, and its own supervisor waits no longer.

    Its other children end nevertheless, and who asked it to stop hears that it has.
    """
    clock = VirtualClock()
    timers = SimulatedTimers(clock)
    runtime = Runtime(clock=clock, timers=timers).start()
    stopping, gate = threading.Event(), threading.Event()
    first = Watched()

    class Stubborn(BlockingActor):
        use_daemon_thread: ClassVar[bool] = True

        def on_stop(self) -> None:
            stopping.set()
            assert gate.wait(SECONDS)

    def inner() -> Supervisor:
        stubborn = ChildSpec(id="stubborn", start=Stubborn, shutdown="infinity")
        return Supervisor([ChildSpec(id="first", name="first", start=lambda: first), stubborn])

    try:
        spec = ChildSpec(id="inner", type="supervisor", shutdown=1.0, start=inner)
        top = Supervisor.start([spec], runtime=runtime, timeout=SECONDS)
        ref = children(top)["inner"]
        stopped = ref.stop(block=False)
        terminated = top.ask(TerminateChild("inner"), block=False)
        assert stopping.wait(SECONDS)
        assert top.ask(CountChildren(), timeout=SECONDS).specs == 1  # so the timer is set
        fire_until(timers, 1.0)
        assert terminated.get(timeout=SECONDS) is None
        assert stopped.get(timeout=SECONDS) is True
        assert ref.monitor().get(timeout=SECONDS).reason is ExitReason.UNSTOPPED
        assert first.stopped.wait(SECONDS), "the first child lives on"
        assert runtime.registry.whereis("first") is None
        assert top.stop(timeout=SECONDS)
    finally:
        gate.set()
        assert runtime.stop()
