"""Names: who gets one, what is kept beside it, what calls by name or ref answer; the runtime."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Any, ClassVar

import pykka
import pytest
from structlog.testing import capture_logs

from pollin_actors.otp import (
    Actor,
    ActorCrashed,
    ActorDead,
    AlreadyRegistered,
    CallCycle,
    ChildSpec,
    DeadlineExceeded,
    ExitReason,
    InvalidSpec,
    NameNotFound,
    NotOwner,
    Ref,
    Registry,
    ReplyFuture,
    Runtime,
    Simulation,
    Supervisor,
    TerminateChild,
    WouldBlock,
)
from pollin_actors.otp.actor import attach
from pollin_actors.otp.cell import ExitRequest, Status
from pollin_actors.otp.events import Event, OrphanAbandoned
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.otp.registry import Entry
from pollin_actors.otp.starting import start_actor
from tests.interrupts import interrupt_at_every_bytecode
from tests.otp.actors import (
    Answering,
    Echo,
    MayBlock,
    begin,
    in_thread,
    manual_runtime,
)

SECONDS = 10.0


@pytest.fixture(params=range(6))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulation:
        yield simulation


class World:
    """A runtime that runs nothing by itself."""

    def __init__(self) -> None:
        self.runtime, self.scheduler = manual_runtime()
        self.registry = self.runtime.registry

    def start(self, actor: Actor, name: Hashable = None, value: Any = None) -> Ref[Any]:
        started = start_actor(actor, self.runtime, name=name, value=value)
        self.scheduler.run_all()
        return started.get(timeout=0)

    def attach(self, actor: Actor, mailbox: Mailbox) -> None:
        attach(actor, self.runtime, mailbox)
        self.scheduler.run_all()

    def end(self, ref: Ref[Any]) -> None:
        ref.stop(block=False)
        self.scheduler.run_all()


@pytest.fixture
def world() -> World:
    return World()


# -- claims ----------------------------------------------------------------------------------------


class ForcedGuard(Guard):
    """Does something in another thread just before it is entered."""

    def __init__(self, before: Callable[[], object]) -> None:
        super().__init__()
        self._before = [before]

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        if self._before:
            self._before.pop()()
        return super().run(function, *args)


def test_of_two_who_claim_a_name_at_once_one_gets_it(world: World) -> None:
    """The other one claims it after the first has looked up the mailbox."""
    registry, first, second = world.registry, MayBlock(), MayBlock()
    taken: list[Mailbox] = []
    registry._guard = ForcedGuard(
        lambda: taken.append(in_thread(lambda: registry.claim("x", second._cell)))
    )
    with pytest.raises(AlreadyRegistered) as caught:
        registry.claim("x", first._cell)
    assert caught.value.ref is second.actor_ref
    assert caught.value.name == "x"
    world.attach(second, taken[0])
    assert registry.whereis("x") is second.actor_ref


def test_of_many_threads_that_claim_a_name_one_gets_it(world: World) -> None:
    actors = [MayBlock() for _ in range(16)]
    barrier = threading.Barrier(len(actors))
    outcomes: list[Any] = []

    def claim(actor: Actor) -> None:
        barrier.wait(SECONDS)
        try:
            outcomes.append(world.registry.claim("x", actor._cell))
        except AlreadyRegistered as error:
            outcomes.append(error.ref)

    threads = [threading.Thread(target=claim, args=(actor,)) for actor in actors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    (mailbox,) = [outcome for outcome in outcomes if isinstance(outcome, Mailbox)]
    assert len(outcomes) == len(actors)
    assert mailbox.bearer is not None
    assert {o for o in outcomes if o is not mailbox} == {mailbox.bearer.ref}


def test_a_name_that_is_given_up_during_a_claim_is_claimed_anew(world: World) -> None:
    """Not the old mailbox, which is closed and nobody's any more."""
    registry, actor = world.registry, MayBlock()
    old = registry.mailbox("x")
    registry._guard = ForcedGuard(lambda: in_thread(lambda: registry.give_up("x")))
    mailbox = registry.claim("x", actor._cell)
    assert mailbox is not old
    assert registry.find("x") is mailbox
    world.attach(actor, mailbox)
    asked = registry.ask("x", "hello")
    world.scheduler.run_all()
    assert asked.get(timeout=0) == "hello"


def test_a_claimed_name_is_not_given_up(world: World) -> None:
    registry, actor = world.registry, MayBlock()
    mailbox = registry.claim("x", actor._cell)
    registry.give_up("x", unless_borne=True)
    mailbox.vacate(lambda: ActorDead("nobody"))
    waiting = registry.ask("x", "waiting")
    world.attach(actor, mailbox)
    assert waiting.get(timeout=0) == "waiting"


def test_a_claim_holds_before_the_actor_lives(world: World) -> None:
    registry, actor, late = world.registry, MayBlock(), MayBlock()
    mailbox = registry.claim("x", actor._cell)
    assert registry.whereis("x") is None
    assert registry.lookup("x") is None
    for claim in (partial(registry.claim, "x"), partial(registry.claim, "x", late._cell)):
        with pytest.raises(AlreadyRegistered) as caught:
            claim()
        assert caught.value.ref is actor.actor_ref
    assert registry.claim("x", actor._cell) is mailbox, "its own"
    registry.release_claim("x", late._cell)
    assert mailbox.bearer is actor._cell


def test_a_released_claim_leaves_nothing(world: World) -> None:
    registry, failed, actor = world.registry, MayBlock(), MayBlock()
    mailbox = registry.claim("x", failed._cell, value="a value")
    waiting = registry.ask("x", "waiting")
    registry.release_claim("x", failed._cell)
    registry.release_claim("x", failed._cell)
    assert not mailbox.is_borne()
    assert not registry._values
    assert registry.claim("x", actor._cell) is mailbox
    world.attach(actor, mailbox)
    assert waiting.get(timeout=0) == "waiting"
    registry.release_claim("x", actor._cell)
    assert registry.whereis("x") is actor.actor_ref, "too late, and harmless"


class Ending(MayBlock):
    """Does something at its end."""

    def __init__(self, at_the_end: Callable[[], object]) -> None:
        super().__init__()
        self._at_the_end = at_the_end

    def on_stop(self, *_: Any) -> None:
        self._at_the_end()


@pytest.mark.parametrize("fails", [False, True])
def test_a_name_is_taken_over_from_one_whose_end_has_begun(world: World, fails: bool) -> None:
    """The clean-up of the old one finds the new one claimed, not yet attached.

    It installs it, which is harmless: nobody runs it before it is attached, and if it never is,
    its claim is released.
    """
    registry, new, last = world.registry, MayBlock(), MayBlock()
    claimed: list[Mailbox] = []

    def claim() -> None:
        claimed.append(registry.claim("x", new._cell))

    old = Ending(claim)
    mailbox = registry.claim("x", old._cell)
    world.attach(old, mailbox)
    waiting = registry.ask("x", "waiting", timeout=None)
    urgent = ExitRequest(old._cell, ExitReason.SHUTDOWN)
    mailbox.post_urgent(urgent)
    # Whatever was sent to the old one by its ref is its own.
    only_it = old.actor_ref.ask("only it", block=False)
    world.scheduler.run_all()
    assert claimed == [mailbox]
    assert mailbox.cell is new._cell, "installed by the end of the old one"
    assert new._cell.status is Status.UNSTARTED
    with pytest.raises(ActorDead):
        only_it.get(timeout=0)
    more = registry.ask("x", "more", timeout=None)
    world.scheduler.run_all()
    assert not waiting.done()
    assert not more.done()
    if fails:
        registry.release_claim("x", new._cell)
        new = last
        claimed.append(registry.claim("x", new._cell))
    world.attach(new, claimed[-1])
    assert [f.get(timeout=0) for f in (waiting, more)] == ["waiting", "more"]
    assert registry.whereis("x") is new.actor_ref


def test_a_claim_released_while_an_end_is_about_to_install_it(world: World) -> None:
    """The end has looked who claimed the name, and stores it after the release."""
    registry, failed, actor = world.registry, MayBlock(), MayBlock()
    mailbox = registry.claim("x", failed._cell)
    registry.release_claim("x", failed._cell)
    mailbox.cell = failed._cell
    assert registry.whereis("x") is None
    waiting = registry.ask("x", "waiting", timeout=None)
    world.attach(actor, registry.claim("x", actor._cell))
    assert waiting.get(timeout=0) == "waiting"
    assert registry.whereis("x") is actor.actor_ref


def test_an_interrupted_start_leaves_the_name_free_or_its_owner_alive() -> None:
    """Nobody but the starter would give it back."""

    def prepare() -> World:
        world = World()
        world.registry.mailbox("x")
        return world

    def check(world: World, interrupted: bool) -> None:
        world.scheduler.run_all()
        owner = world.registry.whereis("x")
        if owner is not None:
            assert world.registry.lookup("x") == Entry(owner, "a value")
            world.end(owner)
            assert "x" not in world.registry
        assert not world.registry._values
        assert world.start(MayBlock(), "x").is_alive()

    number = interrupt_at_every_bytecode(
        lambda world: start_actor(MayBlock(), world.runtime, name="x", value="a value"),
        check,
        prepare=prepare,
        modules=[f"pollin_actors.otp.{name}" for name in ("registry", "guard", "starting")],
    )
    assert number > 100


@pytest.mark.parametrize("no_name", [None, Echo().actor_ref])
def test_what_cannot_be_a_name(world: World, no_name: Any) -> None:
    with pytest.raises(TypeError, match="expected a name"):
        world.registry.mailbox(no_name)
    with pytest.raises(TypeError, match="expected a name"):
        world.registry.claim(no_name, Echo()._cell)
    assert not world.registry._values
    assert len(world.registry) == 0


# -- values ----------------------------------------------------------------------------------------


def test_a_value_lives_as_long_as_its_owner(world: World) -> None:
    registry = world.registry
    first = MayBlock()
    world.attach(first, registry.claim("x", first._cell, value="of the first"))
    assert registry.lookup("x") == Entry(ref_of(first), "of the first")
    assert registry.lookup(first.actor_ref) == Entry(ref_of(first), "of the first")
    world.end(ref_of(first))
    assert registry.lookup("x") is None
    assert registry.lookup(first.actor_ref) is None
    assert not registry._values
    second = MayBlock()
    world.attach(second, registry.claim("x", second._cell))
    assert registry.lookup("x") == Entry(ref_of(second), None)
    assert not registry._values


def test_a_value_is_not_inherited_even_if_clean_up_lags(world: World) -> None:
    registry, new = world.registry, MayBlock()
    seen: list[Any] = []

    def take_over() -> None:
        seen.append(registry.lookup("x"))
        mailbox = registry.claim("x", new._cell, value="of the new one")
        attach(new, world.runtime, mailbox)
        seen.append(registry.lookup("x"))

    old = Ending(take_over)
    world.attach(old, registry.claim("x", old._cell, value="of the old one"))
    old.stop()
    world.scheduler.run_all()
    assert seen == [None, Entry(ref_of(new), "of the new one")]
    assert registry.lookup("x") == Entry(ref_of(new), "of the new one")


def test_a_value_is_let_go_at_the_end(world: World) -> None:
    class Large:
        pass

    value = Large()
    kept = weakref.ref(value)
    ref = world.start(MayBlock(), "x", value)
    del value
    assert kept() is not None
    world.end(ref)
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("kind", [Echo, MayBlock])
def test_its_owner_changes_a_value(world: World, kind: type[Echo]) -> None:
    registry = world.registry
    ref = world.start(kind(), "x")
    assert registry.lookup("x") == Entry(ref, None)

    def add(item: str, old: list[str] | None) -> list[str]:
        return [*(old or ()), item]

    for item in "ab":
        asked = registry.ask("x", partial(registry.update_value, "x", partial(add, item)))
        world.scheduler.run_all()
        assert asked.get(timeout=0)[-1] == item
    assert registry.lookup("x") == Entry(ref, ["a", "b"])
    world.end(ref)
    assert not registry._values


def test_it_may_do_so_in_its_start(world: World) -> None:
    class Early(MayBlock):
        def on_start(self) -> None:
            world.registry.update_value("x", lambda old: (old, "changed"))

    ref = world.start(Early(), "x", "given")
    assert world.registry.lookup("x") == Entry(ref, ("given", "changed"))


def test_nobody_else_changes_a_value(world: World) -> None:
    registry = world.registry
    ref, other = world.start(MayBlock(), "x", "mine"), world.start(MayBlock([]), "y")

    def change() -> None:
        registry.update_value("x", lambda _: "stolen")

    with pytest.raises(NotOwner, match="no actor"):
        change()
    asked = other.ask(change, block=False)
    world.scheduler.run_all()
    with pytest.raises(NotOwner, match="MayBlock 'y'"):
        asked.get(timeout=0)
    assert registry.lookup("x") == Entry(ref, "mine")
    with pytest.raises(NameNotFound):
        registry.update_value("z", lambda _: "nobody's")


def test_a_thread_that_was_shut_out_changes_nothing(world: World) -> None:
    """Its actor was abandoned in the middle of the change, and another one has the name."""
    registry, old, new = world.registry, MayBlock(), MayBlock()
    world.attach(old, registry.claim("x", old._cell, value="old"))

    def late(value: Any) -> Any:
        old._cell.mailbox.abandon(old._cell)
        attach(new, world.runtime, registry.claim("x", new._cell, value="new"))
        return "late"

    asked = old.actor_ref.ask(lambda: registry.update_value("x", late), block=False)
    world.scheduler.run_all()
    with pytest.raises(ActorDead):
        asked.get(timeout=0)
    assert registry.lookup("x") == Entry(ref_of(new), "new")


def test_a_function_that_raises_changes_nothing(world: World) -> None:
    ref = world.start(Tolerant(), "x", "kept")
    asked = ref.ask(lambda: world.registry.update_value("x", lambda _: 1 / 0), block=False)
    world.scheduler.run_all()
    with pytest.raises(ZeroDivisionError):
        asked.get(timeout=0)
    assert world.registry.lookup("x") == Entry(ref, "kept")


class Tolerant(MayBlock):
    replies: ClassVar[tuple[type[Exception], ...]] = (Exception,)


# -- calls by name and by ref ----------------------------------------------------------------------


def ref_of(actor: Actor) -> Ref[Any]:
    return actor._cell.ref


def target_of(ref: Ref[Any], by: str) -> Hashable:
    return ref if by == "ref" else "x"


by_name_and_ref = pytest.mark.parametrize("by", ["name", "ref"])


@by_name_and_ref
def test_every_call_takes_a_name_or_a_ref(simulation: Simulation, by: str) -> None:
    registry = simulation.runtime.registry
    actor = MayBlock()
    ref = start_actor(actor, simulation.runtime, name="x", value=1).get()
    target = target_of(ref, by)
    assert registry.ask(target, "asked").get() == "asked"
    registry.tell(target, "told")
    simulation.settle()
    assert actor.log == [("start", None), "asked", "told"]
    assert registry.whereis(target) is ref
    assert registry.lookup(target) == Entry(ref, 1)
    exit_record = registry.monitor(target)
    assert not exit_record.done()
    assert registry.stop(target).get() is True
    assert exit_record.get().reason is ExitReason.NORMAL
    assert registry.whereis(ref) is None
    assert registry.lookup(ref) is None
    assert registry.stop(ref).get() is False
    assert registry.monitor(ref).get() is exit_record.get()


def test_after_the_end_a_name_means_who_bore_it_last(simulation: Simulation) -> None:
    registry = simulation.runtime.registry
    spec = ChildSpec(id=1, name="x", start=MayBlock, restart="transient")
    supervisor = Supervisor.start([spec], runtime=simulation.runtime)
    ref = registry.whereis("x")
    assert ref is not None
    assert registry.stop("x").get() is True
    simulation.settle()
    assert registry.whereis("x") is None
    assert registry.monitor("x").get().ref is ref
    assert registry.stop("x").get() is False
    supervisor.stop()


def test_a_name_means_whoever_bears_it_now(simulation: Simulation) -> None:
    registry = simulation.runtime.registry
    spec = ChildSpec(id=1, name="x", start=MayBlock)
    supervisor = Supervisor.start([spec], runtime=simulation.runtime)
    first = registry.whereis("x")
    assert first is not None
    registry.tell("x", ValueError("a bug"))
    assert registry.ask("x", "after the restart").get() == "after the restart"
    second = registry.whereis("x")
    assert second not in (None, first)
    monitor = registry.monitor("x")
    supervisor.stop()
    assert monitor.get().ref is second
    assert registry.monitor(first).get().reason is ExitReason.CRASH


@pytest.mark.parametrize("call", ["ask", "tell", "whereis", "lookup", "monitor", "stop"])
def test_refs_of_plain_pykka_are_refused(world: World, call: str) -> None:
    class Plain(pykka.ThreadingActor):
        pass

    ref = Plain.start()
    try:
        method = partial(getattr(world.registry, call), ref)
        with pytest.raises(TypeError, match=r"expected a name, or the ref .* got <ActorRef for P"):
            method("hello") if call in ("ask", "tell") else method()
    finally:
        ref.stop()


@pytest.mark.parametrize("call", ["ask", "tell", "monitor", "stop"])
def test_no_such_name(world: World, call: str) -> None:
    method = partial(getattr(world.registry, call), "x")
    with pytest.raises(NameNotFound, match="'x'"):
        method("hello") if call in ("ask", "tell") else method()
    assert world.registry.whereis("x") is None
    assert world.registry.lookup("x") is None


# -- the errors of calls ---------------------------------------------------------------------------


@by_name_and_ref
@pytest.mark.parametrize("reason", [ExitReason.NORMAL, ExitReason.CRASH])
def test_dead_before_the_call(world: World, by: str, reason: ExitReason) -> None:
    """At once, without any deadline; an incarnation's error says why it ended."""
    registry = world.registry
    ref = world.start(MayBlock(), "x")
    if reason is ExitReason.NORMAL:
        world.end(ref)
    else:
        ref.tell(ValueError("a bug"))
        world.scheduler.run_all()
    if by == "name":
        with pytest.raises(NameNotFound):
            registry.ask("x", "too late", timeout=None)
        return
    with pytest.raises(ActorDead) as caught:
        registry.ask(ref, "too late", timeout=None).get(timeout=0)
    assert caught.value.reason is reason
    assert caught.value.record is ref.monitor().get(timeout=0)
    with pytest.raises(ActorDead):
        registry.tell(ref, "too late")


@by_name_and_ref
@pytest.mark.parametrize("reason", [ExitReason.NORMAL, ExitReason.CRASH])
def test_dead_before_its_turn(world: World, by: str, reason: ExitReason) -> None:
    ref = world.start(MayBlock(), "x")
    if reason is ExitReason.NORMAL:
        ref.stop(block=False)
    else:
        ref.tell(ValueError("a bug"))
    asked = world.registry.ask(target_of(ref, by), "too late", timeout=None)
    world.scheduler.run_all()
    with pytest.raises(ActorDead) as caught:
        asked.get(timeout=0)
    assert not isinstance(caught.value, DeadlineExceeded)
    assert caught.value.reason is reason


@by_name_and_ref
def test_dead_during_the_call(world: World, by: str) -> None:
    """It has promised an answer for later, and crashes first."""
    ref = world.start(Answering(), "x")
    asked = world.registry.ask(target_of(ref, by), ReplyFuture(), timeout=None)
    world.scheduler.run_all()
    assert not asked.done()
    ref._cell.mailbox.post_urgent(ExitRequest(ref._cell, ExitReason.SHUTDOWN))
    world.scheduler.run_all()
    with pytest.raises(ActorDead) as caught:
        asked.get(timeout=0)
    assert caught.value.reason is ExitReason.SHUTDOWN


@by_name_and_ref
def test_crashed_by_the_call(world: World, by: str) -> None:
    ref = world.start(MayBlock(), "x")
    asked = world.registry.ask(target_of(ref, by), SystemExit("a bug"), timeout=None)
    world.scheduler.run_all()
    with pytest.raises(ActorCrashed) as caught:
        asked.get(timeout=0)
    assert caught.value.reason is ExitReason.CRASH
    assert isinstance(caught.value.__cause__, SystemExit)


@by_name_and_ref
def test_too_late(simulation: Simulation, by: str) -> None:
    ref = start_actor(Answering(), simulation.runtime, name="x").get()
    registry = simulation.runtime.registry
    asked = registry.ask(target_of(ref, by), ReplyFuture(), timeout=2.5)
    with pytest.raises(DeadlineExceeded, match=r"within 2\.5 s"):
        asked.get()
    assert simulation.clock.monotonic() == 2.5
    usual = registry.ask(target_of(ref, by), ReplyFuture())
    with pytest.raises(DeadlineExceeded):
        usual.get()
    assert simulation.clock.monotonic() == 7.5, "the default is 5 s"


@by_name_and_ref
def test_withdrawn_before_its_turn(simulation: Simulation, by: str) -> None:
    """An ask whose deadline passes before its turn is never handled."""
    runtime, actor = simulation.runtime, MayBlock()
    ref = start_actor(actor, runtime, name="x").get()
    asked: list[ReplyFuture[Any]] = []

    def wait() -> None:
        asked.append(runtime.registry.ask(target_of(ref, by), "late", timeout=1.0))
        simulation.clock.advance_to(2.0)

    ref.ask(wait)
    simulation.settle()
    with pytest.raises(DeadlineExceeded):
        asked[0].get()
    assert "late" not in actor.log


@by_name_and_ref
@pytest.mark.parametrize(("kind", "error"), [(MayBlock, CallCycle), (Echo, WouldBlock)])
def test_calling_itself(
    simulation: Simulation, by: str, kind: type[Echo], error: type[Exception]
) -> None:
    registry = simulation.runtime.registry
    ref = start_actor(kind(), simulation.runtime, name="x").get()
    caught: list[BaseException] = []

    def call_itself() -> None:
        try:
            registry.ask(target_of(ref, by), "myself", timeout=None).get()
        except Exception as raised:
            caught.append(raised)

    registry.ask(target_of(ref, by), call_itself, timeout=None).get()
    assert [type(raised) for raised in caught] == [error]
    assert simulation.clock.monotonic() == 0.0, "at once"


def test_dead_and_not_restarted(simulation: Simulation) -> None:
    registry = simulation.runtime.registry
    spec = ChildSpec(id=1, name="x", start=MayBlock)
    supervisor = Supervisor.start([spec], runtime=simulation.runtime)
    supervisor.ask(TerminateChild(1))
    with pytest.raises(ActorDead, match="not restarted"):
        registry.ask("x", "too late", timeout=None).get()
    supervisor.stop()


# -- actors that nobody supervises -----------------------------------------------------------------


def test_it_settles_once_on_start_has_returned(world: World) -> None:
    log: list[Any] = []
    started = start_actor(MayBlock(log, "it"), world.runtime, name="x", value=1)
    assert not started.done()
    world.scheduler.run_all()
    ref = started.get(timeout=0)
    assert log == [("start", "it")]
    assert world.registry.lookup("x") == Entry(ref, 1)
    assert ref not in pykka.ActorRegistry.get_all()


def test_without_a_name(world: World) -> None:
    ref = world.start(MayBlock())
    asked = world.registry.ask(ref, "hello")
    world.scheduler.run_all()
    assert asked.get(timeout=0) == "hello"
    assert len(world.registry) == 0


def test_the_name_belongs_to_somebody(world: World) -> None:
    owner = world.start(MayBlock(), "x")
    failed = start_actor(MayBlock(), world.runtime, name="x")
    with pytest.raises(AlreadyRegistered) as caught:
        failed.get(timeout=0)
    assert caught.value.ref is owner
    world.end(owner)
    assert "x" not in world.registry, "it died with its owner"
    assert world.start(MayBlock(), "x").is_alive()


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_on_start_raises(world: World, error: type[BaseException]) -> None:
    failure = error("in on_start")

    class Failing(MayBlock):
        def on_start(self) -> None:
            raise failure

    started = start_actor(Failing(), world.runtime, name="x")
    waiting = world.registry.ask("x", "waiting")
    world.scheduler.run_all()
    with pytest.raises((ValueError, ActorCrashed)) as caught:
        started.get(timeout=0)
    assert failure in (caught.value, caught.value.__cause__)
    with pytest.raises(ActorDead) as told:
        waiting.get(timeout=0)
    assert told.value.reason is ExitReason.CRASH
    assert "x" not in world.registry


def test_stopped_before_it_started(world: World) -> None:
    actor = MayBlock()
    started = start_actor(actor, world.runtime, name="x")
    cell = actor._cell
    cell.mailbox.post_urgent(ExitRequest(cell, ExitReason.SHUTDOWN))
    world.scheduler.run_all()
    with pytest.raises(ActorDead) as caught:
        started.get(timeout=0)
    assert caught.value.reason is ExitReason.SHUTDOWN


def test_a_later_crash_is_logged_as_of_any_actor_without_a_supervisor(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    ref = world.start(MayBlock(), "x")
    ref.tell(ValueError("a bug"))
    world.scheduler.run_all()
    (record,) = [r for r in caplog.records if r.name == "pykka" and r.levelname == "ERROR"]
    assert "Unhandled exception in MayBlock" in record.getMessage()


def test_a_supervisor_is_started_once_its_children_are_up(simulation: Simulation) -> None:
    log: list[Any] = []
    supervisor = Supervisor([ChildSpec(id=1, start=partial(MayBlock, log, 1))])
    ref = start_actor(supervisor, simulation.runtime, name="top").get()
    assert log == [("start", 1)]
    assert simulation.runtime.registry.stop("top").get() is True
    assert not ref.is_alive()
    assert log == [("start", 1), ("stop", 1)]
    assert "top" not in simulation.runtime.registry


def test_another_bears_the_name_when_the_end_is_told(world: World) -> None:
    registry, new = world.registry, MayBlock()
    old = Ending(lambda: attach(new, world.runtime, registry.claim("x", new._cell)))
    world.end(world.start(old, "x"))
    assert registry.whereis("x") is new.actor_ref
    asked = registry.ask("x", "hello")
    world.scheduler.run_all()
    assert asked.get(timeout=0) == "hello"


def test_a_name_whose_bearers_are_started_on_demand_is_kept(world: World) -> None:
    demanded: list[Mailbox] = []
    registry = Registry(world.runtime, demanded.append)
    started = start_actor(MayBlock(), world.runtime, name="x", registry=registry)
    world.scheduler.run_all()
    world.end(started.get(timeout=0))
    waiting = registry.ask("x", "waiting")
    assert demanded == [registry.mailbox("x")]
    assert not waiting.done()


def test_an_actor_that_cannot_be_attached_gives_its_name_back() -> None:
    class Threaded(MayBlock):
        @staticmethod
        def _make_executor(runtime: Runtime) -> Any:
            raise RuntimeError("can't start new thread")

    world = World()
    failed = start_actor(Threaded(), world.runtime, name="x", value=1)
    with pytest.raises(RuntimeError, match="new thread"):
        failed.get(timeout=0)
    assert world.start(MayBlock(), "x").is_alive()


def test_what_cannot_be_started(world: World) -> None:
    started = MayBlock()
    world.start(started)
    plain = pykka.ThreadingActor()
    for wrong in (started, MayBlock, plain, "x"):
        with pytest.raises(InvalidSpec, match="start_actor"):
            start_actor(wrong, world.runtime)  # type: ignore[type-var]
    with pytest.raises(InvalidSpec, match="a name beside the value"):
        start_actor(MayBlock(), world.runtime, value=1)
    begun = MayBlock()
    begin(begun, world.runtime)
    with pytest.raises(InvalidSpec, match="not started before"):
        start_actor(begun, world.runtime)


# -- the runtime's own -----------------------------------------------------------------------------


def happened() -> Event:
    return OrphanAbandoned(supervisor="Supervisor", child="a")


def test_events_are_logged_and_told() -> None:
    told: list[Event] = []
    runtime, _ = manual_runtime()
    runtime.on_event = told.append
    with capture_logs() as logs:
        runtime.emit(OrphanAbandoned, happened)
        runtime.events.flush()
    assert told == [happened()]
    assert [log["event"] for log in logs] == ["actor.orphan_abandoned"]
    runtime.on_event = None
    runtime.emit(OrphanAbandoned, happened)
    runtime.events.flush()
    assert told == [happened()]


def test_a_hook_that_raises_is_logged_and_harms_nobody() -> None:
    def hook(event: Event) -> None:
        raise ValueError("a bug in the hook")

    runtime = Runtime(on_event=hook)
    with capture_logs() as logs:
        runtime.emit(OrphanAbandoned, happened)
        runtime.events.flush()
    assert [log["event"] for log in logs] == ["actor.orphan_abandoned", "event_hook.failed"]
    assert logs[1]["failed"] == "actor.orphan_abandoned"
    assert logs[1]["exc_info"]


def test_chance_is_injected() -> None:
    seeded = random.Random(7)
    assert Runtime(random=seeded).random is seeded
    first, second = (Runtime().random for _ in range(2))
    assert first is not second
