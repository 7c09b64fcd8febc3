"""Adoption: actor classes written for plain Pykka, as children of our supervisors."""

from __future__ import annotations

import abc
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, NamedTuple

import pykka
import pytest
from pykka.messages import ProxyCall

from pollin_actors.otp import (
    Actor,
    ActorCrashed,
    ActorDead,
    BlockingActor,
    ChildSpec,
    CountChildren,
    ExitReason,
    InvalidSpec,
    OtpError,
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
from pollin_actors.otp.adoption import adopt
from pollin_actors.otp.exits import ExitRecord
from tests.otp.actors import Echo, in_thread

SECONDS = 10.0


def factory(actor_class: Any) -> Any:
    """As the ``start`` of a spec."""
    return adopt(actor_class)


class Plain(pykka.ThreadingActor):
    """As anybody might have written it for Pykka."""

    def __init__(self, tag: str = "plain") -> None:
        super().__init__()
        self.tag = tag
        self._later = self.actor_ref.proxy()

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        if callable(message):
            return message()
        return message

    def shout(self, text: str) -> str:
        return text.upper()

    def shout_later(self, text: str) -> Any:
        return self._later.shout(text)


class Fragile(Plain):
    """Fails where the plan says."""

    plan: ClassVar[list[tuple[str, BaseException]]] = []

    def __init__(self) -> None:
        super().__init__()
        self._fail("init")

    def on_start(self) -> None:
        self._fail("on_start")

    def on_stop(self) -> None:
        self._fail("on_stop")

    def on_failure(self, *_: Any) -> None:
        self._fail("on_failure")

    def _fail(self, where: str) -> None:
        if self.plan and self.plan[0][0] == where:
            raise self.plan.pop(0)[1]


@pytest.fixture(autouse=True)
def plan() -> Iterator[list[tuple[str, BaseException]]]:
    Fragile.plan.clear()
    yield Fragile.plan
    assert not Fragile.plan, "not all that was planned has failed"


class World(NamedTuple):
    """A runtime, and how to let it do its work."""

    runtime: Runtime
    settle: Callable[[], object]


@pytest.fixture(params=["real", *range(6)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "real":
        runtime = Runtime().start()
        yield World(runtime, lambda: None)
        assert runtime.stop()
    else:
        with Simulation(seed=request.param) as simulation:
            yield World(simulation.runtime, simulation.settle)


@pytest.fixture
def real_world() -> Iterator[World]:
    """For interrupts in ``on_stop`` and ``on_failure``, which a simulated run passes on."""
    runtime = Runtime().start()
    yield World(runtime, lambda: None)
    assert runtime.stop()


class Tree:
    """A supervisor of an adopted actor and a bystander of ours, and one that is adopted too."""

    def __init__(self, world: World, actor_class: type[Any] = Fragile, **options: Any) -> None:
        self.world = world
        self.started: list[threading.Event] = []
        specs = [
            ChildSpec(id="it", name="it", start=factory(actor_class), **options),
            ChildSpec(id="ours", start=Echo),
            ChildSpec(id="plain", start=factory(Plain)),
        ]
        self.supervisor = Supervisor.start(specs, runtime=world.runtime, timeout=SECONDS)
        self.first = self.refs()
        self.ref: Ref[Any] = self.first["it"]
        self.exit: ReplyFuture[ExitRecord] = self.ref.monitor()

    def refs(self) -> dict[Any, Any]:
        children = self.supervisor.ask(WhichChildren(), timeout=SECONDS)
        return {child.id: child.ref for child in children}

    def record(self) -> ExitRecord:
        record = self.exit.get(timeout=SECONDS)
        assert record.ref is self.ref
        assert record.generation == 1
        return record

    def check_restarted(self) -> None:
        """Another incarnation answers, and nobody else was touched."""
        # By name: it waits until the next one has started.
        assert self.world.runtime.registry.ask("it", "hello").get(timeout=SECONDS) == "hello"
        now = self.refs()
        assert now["it"] is not self.ref
        assert now["it"].is_alive()
        assert {key: now[key] for key in ("ours", "plain")} == {
            key: self.first[key] for key in ("ours", "plain")
        }
        assert now["ours"].ask("hello", timeout=SECONDS) == "hello"
        assert now["plain"].ask("hello", timeout=SECONDS) == "hello"

    def stop(self) -> None:
        assert self.supervisor.stop(timeout=SECONDS)


ERRORS = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit]


# -- every kind of failure -------------------------------------------------------------------------


@pytest.mark.parametrize("error", ERRORS)
def test_a_failure_in_a_tell_is_a_crash(world: World, error: type[BaseException]) -> None:
    tree, failure = Tree(world), error("in a tell")
    tree.ref.tell(failure)
    record = tree.record()
    assert record.reason is ExitReason.CRASH
    assert record.exception is failure
    assert record.last_message is failure
    tree.check_restarted()
    tree.stop()


@pytest.mark.parametrize("error", ERRORS)
def test_a_failure_in_an_ask_goes_to_the_asker_and_is_a_crash(
    world: World, error: type[BaseException]
) -> None:
    tree, failure = Tree(world), error("in an ask")
    with pytest.raises((ValueError, ActorCrashed)) as caught:
        tree.ref.ask(failure, timeout=SECONDS)
    if isinstance(failure, Exception):
        assert caught.value is failure
    else:
        assert caught.value.__cause__ is failure, "an interrupt must not travel to the asker"
    record = tree.record()
    assert record.reason is ExitReason.CRASH
    assert record.exception is failure
    tree.check_restarted()
    tree.stop()


@pytest.mark.parametrize("error", ERRORS)
def test_a_failure_in_a_proxy_call_is_a_crash_too(world: World, error: type[BaseException]) -> None:
    tree, failure = Tree(world), error("in a method")
    with pytest.raises((ValueError, ActorCrashed)):
        tree.ref.proxy().on_receive(failure).get(timeout=SECONDS)
    record = tree.record()
    assert record.exception is failure
    assert isinstance(record.last_message, ProxyCall)
    tree.check_restarted()
    tree.stop()


@pytest.mark.parametrize("error", ERRORS)
def test_a_failure_in_on_stop_is_reported(
    real_world: World, plan: list[Any], error: type[BaseException]
) -> None:
    check_failure_in_on_stop(real_world, plan, error("in on_stop"))


def test_an_exception_in_on_stop_is_reported(world: World, plan: list[Any]) -> None:
    check_failure_in_on_stop(world, plan, ValueError("in on_stop"))


def check_failure_in_on_stop(world: World, plan: list[Any], failure: BaseException) -> None:
    tree = Tree(world)
    plan.append(("on_stop", failure))
    asked = tree.ref.stop(block=False)
    world.settle()
    assert asked.get(timeout=SECONDS)
    record = tree.record()
    assert record.reason is ExitReason.CRASH
    assert record.exception is failure
    tree.check_restarted()
    tree.stop()


@pytest.mark.parametrize("error", ERRORS)
def test_a_failure_in_on_failure_changes_nothing(
    real_world: World, plan: list[Any], error: type[BaseException]
) -> None:
    tree, failure = Tree(real_world), RuntimeError("the first")
    plan.append(("on_failure", error("the second")))
    tree.ref.tell(failure)
    assert tree.record().exception is failure
    tree.check_restarted()
    tree.stop()


@pytest.mark.parametrize("where", ["init", "on_start"])
def test_a_failure_at_the_first_start_fails_the_starter(
    world: World, plan: list[Any], where: str
) -> None:
    failure = ValueError(where)
    plan.append((where, failure))
    supervisor = Supervisor.start([], runtime=world.runtime)
    with pytest.raises(StartFailed) as caught:
        supervisor.ask(StartChild(ChildSpec(id="it", start=factory(Fragile))), timeout=SECONDS)
    assert caught.value.__cause__ is failure
    assert supervisor.ask(CountChildren(), timeout=SECONDS).specs == 0
    assert supervisor.stop(timeout=SECONDS)


@pytest.mark.parametrize("where", ["init", "on_start"])
def test_a_failure_at_a_restart_is_tried_again(world: World, plan: list[Any], where: str) -> None:
    tree = Tree(world)
    plan.append((where, ValueError(where)))
    tree.ref.tell(ValueError("in a tell"))
    assert tree.record().reason is ExitReason.CRASH
    tree.check_restarted()
    tree.stop()


@pytest.mark.parametrize("error", ERRORS[1:])
def test_an_interrupt_in_on_start_ends_this_actor_only(
    world: World, plan: list[Any], error: type[BaseException]
) -> None:
    tree = Tree(world)
    plan.append(("on_start", error("in on_start")))
    tree.ref.tell(ValueError("in a tell"))
    tree.check_restarted()
    tree.stop()


def test_an_end_in_order_is_no_crash(world: World) -> None:
    tree = Tree(world, restart="transient")
    assert tree.ref.stop(timeout=SECONDS)
    record = tree.record()
    assert record.reason is ExitReason.NORMAL
    assert record.exception is None
    world.settle()
    assert tree.refs()["it"] is None
    tree.stop()


def test_stopped_by_its_supervisor_it_runs_on_stop_in_reverse_order(world: World) -> None:
    log: list[str] = []

    class Closing(pykka.ThreadingActor):
        def __init__(self, tag: str) -> None:
            super().__init__()
            self.tag = tag

        def on_stop(self) -> None:
            log.append(self.tag)

    specs = [ChildSpec(id=tag, start=partial(factory(Closing), tag)) for tag in "abc"]
    supervisor = Supervisor.start(specs, runtime=world.runtime)
    monitors = [child.ref.monitor() for child in supervisor.ask(WhichChildren())]
    assert supervisor.stop(timeout=SECONDS)
    assert log == ["c", "b", "a"]
    assert {m.get(timeout=SECONDS).reason for m in monitors} == {ExitReason.SHUTDOWN}


def test_a_stubborn_actor_is_abandoned_and_reported() -> None:
    """Its thread cannot be killed: it is reported, and its name is free for the next one."""
    entered, leave = threading.Event(), threading.Event()

    class Stubborn(pykka.ThreadingActor):
        use_daemon_thread = True

        def on_receive(self, message: Any) -> Any:
            if message == "stick":
                entered.set()
                leave.wait()
            return message

    runtime = Runtime().start()
    spec = ChildSpec(id="it", name="it", start=factory(Stubborn), shutdown=0.01)
    supervisor = Supervisor.start([spec], runtime=runtime)
    stuck = runtime.registry.whereis("it")
    assert stuck is not None
    exit_record, asked = stuck.monitor(), stuck.ask("stick", block=False)
    assert entered.wait(SECONDS)
    try:
        supervisor.ask(TerminateChild("it"), timeout=SECONDS)
        record = exit_record.get(timeout=SECONDS)
        assert record.reason is ExitReason.UNSTOPPED
        with pytest.raises(ActorDead, match="abandoned"):
            asked.get(timeout=SECONDS)
        again = ChildSpec(id="again", name="it", start=factory(Stubborn))
        assert supervisor.ask(StartChild(again), timeout=SECONDS).is_alive()
        assert runtime.registry.ask("it", "hello").get(timeout=SECONDS) == "hello"
    finally:
        leave.set()
    assert supervisor.stop(timeout=SECONDS)
    assert runtime.stop()


# -- what stays as it was --------------------------------------------------------------------------


def test_proxies_work_from_outside_inside_and_between_actors(world: World) -> None:
    tree = Tree(world, Plain)
    other: Ref[Any] = tree.first["ours"]
    proxy = tree.ref.proxy()
    assert proxy.tag.get(timeout=SECONDS) == "plain"
    assert proxy.shout("hello").get(timeout=SECONDS) == "HELLO"
    proxy.tag = "new"
    assert proxy.tag.get(timeout=SECONDS) == "new"
    inner = proxy.shout_later("later").get(timeout=SECONDS)
    assert inner.get(timeout=SECONDS) == "LATER"
    future = other.ask(lambda: proxy.shout("across"), timeout=SECONDS)
    assert future.get(timeout=SECONDS) == "ACROSS"
    tree.stop()
    with pytest.raises(pykka.ActorDeadError):
        proxy.shout("too late").get(timeout=SECONDS)


def test_it_has_a_thread_of_its_own() -> None:
    class Where(pykka.ThreadingActor):
        use_daemon_thread = True

        def on_receive(self, message: Any) -> threading.Thread:
            return threading.current_thread()

    runtime = Runtime().start()
    supervisor = Supervisor.start([ChildSpec(id=1, start=factory(Where))], runtime=runtime)
    ref = supervisor.ask(WhichChildren())[0].ref
    thread = ref.ask("where", timeout=SECONDS)
    assert ref.ask("where", timeout=SECONDS) is thread
    assert thread.name.startswith("Where-")
    assert thread.daemon
    assert supervisor.stop(timeout=SECONDS)
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert runtime.stop()


def test_start_without_a_supervisor_registers_it_with_pykka() -> None:
    ref = adopt(Plain).start("alone")
    try:
        assert pykka.ActorRegistry.get_by_class(Plain) == [ref]
        assert ref.ask("hello", timeout=SECONDS) == "hello"
    finally:
        ref.stop(timeout=SECONDS)
    assert pykka.ActorRegistry.get_by_class(Plain) == []


@pytest.mark.parametrize("explicitly", [False, True])
def test_a_stop_of_its_own_is_called_and_may_call_pykkas(world: World, explicitly: bool) -> None:
    log: list[str] = []

    class Stopping(Plain):
        def stop(self) -> None:
            log.append("stop")
            if explicitly:
                pykka.ThreadingActor.stop(self)
            else:
                super().stop()

        def on_receive(self, message: Any) -> Any:
            self.stop()

    tree = Tree(world, Stopping, restart="temporary")
    tree.ref.tell("stop")
    assert tree.record().reason is ExitReason.NORMAL
    assert log == ["stop"]
    tree.stop()


def test_a_stop_that_means_something_else_does_not_keep_it_alive(world: World) -> None:
    class Player(Plain):
        def stop(self) -> None:
            """Of the music."""

    tree = Tree(world, Player, restart="temporary")
    assert tree.ref.stop(timeout=SECONDS)
    assert tree.record().reason is ExitReason.NORMAL
    tree.stop()


def test_an_init_that_calls_pykkas_by_name(world: World) -> None:
    """Ours is passed by, and what it would have made is made when it is first needed."""

    class Explicit(pykka.ThreadingActor):
        def __init__(self) -> None:
            pykka.ThreadingActor.__init__(self)
            self.urn = self.actor_urn
            self.reference = self.actor_ref
            self._me = self.actor_ref.proxy()

        def on_receive(self, message: Any) -> Any:
            return self.reference is self.actor_ref, self.urn == self.actor_ref.actor_urn

    tree = Tree(world, Explicit)
    assert tree.ref.ask("same?", timeout=SECONDS) == (True, True)
    tree.stop()


def test_what_the_ref_got_before_the_start_is_handled(world: World) -> None:
    class Hasty(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.first = self._later.shout("at once")

        def on_receive(self, message: Any) -> Any:
            return self.first.done()

    tree = Tree(world, Hasty)
    assert tree.ref.ask("done?", timeout=SECONDS) is True
    tree.stop()


# -- classes of all kinds --------------------------------------------------------------------------


def test_it_is_the_same_class_for_the_same_class() -> None:
    adopted = adopt(Plain)
    assert adopt(Plain) is adopted
    assert adopt(adopted) is adopted
    assert adopt(Fragile) is not adopted
    assert issubclass(adopted, Plain)
    assert issubclass(adopted, BlockingActor)
    assert issubclass(adopted, Actor)
    assert isinstance(adopted(), Plain)


def test_of_all_threads_that_adopt_a_class_at_once_each_gets_the_same() -> None:
    """The other thread comes while the first one is making the class."""
    met: list[type] = []

    class Watched(pykka.ThreadingActor):
        def __init_subclass__(cls) -> None:
            if not met:
                met.append(cls)
                thread.start()

    others: list[type] = []
    thread = threading.Thread(target=lambda: others.append(adopt(Watched)))
    adopted = adopt(Watched)
    thread.join(SECONDS)
    assert others == [adopted] == met


@pytest.mark.parametrize("ours", [Actor, BlockingActor, Echo, Supervisor])
def test_our_own_classes_are_returned_unchanged(ours: type[Any]) -> None:
    assert adopt(ours) is ours


def test_it_goes_by_the_name_of_its_class() -> None:
    adopted = adopt(Plain)
    assert adopted.__name__ == "Plain"
    assert adopted.__qualname__ == Plain.__qualname__
    assert adopted.__module__ == Plain.__module__
    assert adopted.__doc__ == Plain.__doc__
    assert str(adopted().actor_ref).startswith("Plain (urn:uuid:")
    assert pickle.loads(pickle.dumps(adopted)) is adopted
    assert pickle.loads(pickle.dumps(Plain)) is Plain
    factory = pickle.loads(pickle.dumps(partial(adopted, "sdb")))
    assert factory().tag == "sdb"


@pytest.mark.parametrize("wrong", [None, 1, int, object, Plain.shout, "Plain", pykka.ActorRef])
def test_what_is_no_class_of_actors(wrong: Any) -> None:
    with pytest.raises(InvalidSpec, match=r"adopt: expected a class of actors.*, got ") as caught:
        adopt(wrong)
    assert caught.value.got is wrong


def test_an_instance_is_no_class() -> None:
    with pytest.raises(InvalidSpec, match="expected a class of actors"):
        factory(factory(Plain)())


class Meta(abc.ABCMeta):
    """Forbids changes, as metaclasses of frameworks do."""

    def __setattr__(cls, name: str, value: object) -> None:
        if not name.startswith(("_abc", "__")):
            raise AttributeError(f"{name} is read-only")
        super().__setattr__(name, value)


class WithMeta(Plain, metaclass=Meta):
    pass


class WithSlots(pykka.ThreadingActor):
    __slots__ = ("slot",)

    def __init__(self) -> None:
        super().__init__()
        self.slot = "in a slot"

    def on_receive(self, message: Any) -> Any:
        return message if message != "slot" else self.slot


class Bare(pykka.Actor):
    """Written for no runtime in particular."""

    def on_receive(self, message: Any) -> Any:
        return message


class Loop(pykka.ThreadingActor):
    """Brings a runtime of its own, which ours replaces."""

    def _start_actor_loop(self) -> None:
        raise AssertionError("not under a supervisor")

    def on_receive(self, message: Any) -> Any:
        return message


class Silent(pykka.ThreadingActor):
    """Its ``__init__`` forgets Pykka's."""

    def __init__(self) -> None:
        pass

    def on_receive(self, message: Any) -> Any:
        return message


@pytest.mark.parametrize("actor_class", [WithMeta, WithSlots, Bare, Loop, Silent])
def test_classes_of_all_kinds(world: World, actor_class: type[Any]) -> None:
    tree = Tree(world, actor_class)
    assert tree.ref.ask("hello", timeout=SECONDS) == "hello"
    assert isinstance(tree.ref.proxy().actor_urn.get(timeout=SECONDS), str)
    assert pickle.loads(pickle.dumps(adopt(actor_class))) is adopt(actor_class)
    tree.stop()


def test_an_abstract_class_does_not_start(world: World) -> None:
    class Abstract(Plain, abc.ABC):
        @abc.abstractmethod
        def missing(self) -> None: ...

    class Concrete(Abstract):
        def missing(self) -> None: ...

    supervisor = Supervisor.start([], runtime=world.runtime)
    with pytest.raises(StartFailed, match="abstract"):
        supervisor.ask(StartChild(ChildSpec(id=1, start=factory(Abstract))), timeout=SECONDS)
    spec = ChildSpec(id=2, start=factory(Concrete))
    assert supervisor.ask(StartChild(spec), timeout=SECONDS).is_alive()
    assert supervisor.stop(timeout=SECONDS)


def test_a_class_that_cannot_be_subclassed() -> None:
    class Final(pykka.ThreadingActor):
        def __init_subclass__(cls) -> None:
            raise TypeError("this class is final")

    with pytest.raises(InvalidSpec, match="can be subclassed") as caught:
        adopt(Final)
    assert "final" in str(caught.value.__cause__)


# -- names that are ours too -----------------------------------------------------------------------


def test_replies_go_to_the_asker_and_the_actor_lives_on(world: World) -> None:
    class Replying(Plain):
        replies = (LookupError,)

    tree = Tree(world, Replying)
    with pytest.raises(KeyError):
        tree.ref.ask(KeyError("not there"), timeout=SECONDS)
    assert tree.ref.ask("hello", timeout=SECONDS) == "hello"
    with pytest.raises(ValueError, match="a bug"):
        tree.ref.ask(ValueError("a bug"), timeout=SECONDS)
    assert tree.record().reason is ExitReason.CRASH
    tree.stop()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("replies", [ValueError]),
        ("replies", (KeyboardInterrupt,)),
        ("ignored_in_tell", "everything"),
        ("mailbox_bound", "large"),
        ("never_blocks", True),
        ("supervises", True),
        ("takes_proxies", lambda self: False),
        ("_cell", None),
        ("_receive", lambda self: None),
    ],
)
def test_a_name_that_the_runtime_needs_is_refused(name: str, value: Any) -> None:
    wrong = type("Wrong", (pykka.ThreadingActor,), {name: value})
    with pytest.raises(InvalidSpec, match=rf"Wrong\.{name}: expected .*another name"):
        adopt(wrong)


def test_an_attribute_that_the_runtime_needs_is_refused_where_it_is_set(world: World) -> None:
    class Prisoner(pykka.ThreadingActor):
        def __init__(self) -> None:
            super().__init__()
            self._cell = "number six"

    supervisor = Supervisor.start([], runtime=world.runtime)
    with pytest.raises(StartFailed, match=r"Prisoner\._cell.*another name"):
        supervisor.ask(StartChild(ChildSpec(id=1, start=factory(Prisoner))), timeout=SECONDS)
    assert supervisor.stop(timeout=SECONDS)


class Clashing(Plain):
    """Has methods and attributes of names that are ours too, and means other things by them."""

    def __init__(self) -> None:
        self.replies = ["a list"]
        self.supervises = "everything"
        self._registered = False
        super().__init__()
        self.log: list[str] = []

    def monitor(self) -> str:
        return "the volume"

    def send_after(self, song: str) -> str:
        return song

    def on_info(self, message: Any) -> None:
        raise AssertionError("nobody has asked for it")

    def on_continue(self, position: int) -> None:
        raise AssertionError("not ours to call")

    def on_stop(self, fade: float = 1.5) -> None:
        assert fade == 1.5


def test_names_of_ours_may_mean_something_else(world: World) -> None:
    tree = Tree(world, Clashing, restart="transient")
    proxy = tree.ref.proxy()
    assert proxy.monitor().get(timeout=SECONDS) == "the volume"
    assert proxy.send_after("a song").get(timeout=SECONDS) == "a song"
    assert proxy.replies.get(timeout=SECONDS) == ["a list"]
    with pytest.raises(ValueError, match="a bug"):
        tree.ref.ask(ValueError("a bug"), timeout=SECONDS)
    assert tree.record().reason is ExitReason.CRASH
    tree.check_restarted()
    again: Ref[Any] = tree.refs()["it"]
    ended = again.monitor()
    assert again.stop(timeout=SECONDS)
    assert ended.get(timeout=SECONDS).reason is ExitReason.NORMAL
    tree.stop()


def test_it_may_use_what_is_ours(world: World) -> None:
    """Timers and monitors come to the ``on_info`` of a class that asks for them."""
    told: ReplyFuture[Any] = ReplyFuture()

    class Asking(pykka.ThreadingActor):
        def on_start(self) -> None:
            self.send_after(0.001, "time")  # type: ignore[attr-defined]

        def on_info(self, message: Any) -> None:
            told.set(message)

    tree = Tree(world, Asking)
    assert told.get(timeout=SECONDS) == "time"
    tree.stop()


def test_its_errors_are_of_one_family() -> None:
    with pytest.raises(OtpError):
        adopt(int)  # type: ignore[type-var]
    assert in_thread(lambda: adopt(Plain)) is adopt(Plain)
