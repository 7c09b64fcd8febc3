"""The rules of OTP supervision: names, and calls to actors that end meanwhile.

What the children write down is explained in ``test_otp_rules``, where the helpers are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import pytest

from pollin_actors.otp import (
    Actor,
    ActorDead,
    AlreadyRegistered,
    AlreadyStarted,
    CallCycle,
    ChildSpec,
    ChildState,
    DeadlineExceeded,
    DynamicSupervisor,
    ExitReason,
    Later,
    NameNotFound,
    ReplyFuture,
    Shutdown,
    Simulation,
    StartFailed,
    Stop,
    Supervisor,
    UnknownMessage,
    WouldBlock,
)
from tests.otp.actors import Refused
from tests.otp.test_otp_rules import (
    Crash,
    Worker,
    crash,
    end,
    on_first_stop,
    refs,
    spec,
    specs,
    states,
    told,
)


class Waiting(Worker):
    """A worker that may wait."""

    never_blocks: ClassVar[bool] = False


@pytest.fixture(params=range(8))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulation:
        yield simulation


# -- names -----------------------------------------------------------------------------------------


def test_a_name_is_unique(simulation: Simulation) -> None:
    """A second registration fails and carries the owner; over a dead owner it succeeds at once."""
    runtime = simulation.runtime
    first = Supervisor.start(name="top", runtime=runtime)
    with pytest.raises(AlreadyRegistered) as caught:
        Supervisor.start(name="top", runtime=runtime)
    assert caught.value.ref is first
    first.stop()
    second = Supervisor.start(name="top", runtime=runtime)
    assert runtime.registry.whereis("top") is second


def test_a_supervisor_whose_childs_name_is_taken_does_not_start(simulation: Simulation) -> None:
    """The start fails with the owner in its cause; those before are stopped."""
    log: list[str] = []
    runtime = simulation.runtime
    owner = Supervisor.start(specs(log, "b"), runtime=runtime)
    with pytest.raises(StartFailed) as caught:
        Supervisor.start(specs(log, "ab"), runtime=runtime)
    assert isinstance(caught.value.__cause__, AlreadyRegistered)
    assert caught.value.__cause__.ref is refs(owner)["b"]
    assert told(log) == "+b +a -a"


def test_a_name_follows_its_child(simulation: Simulation) -> None:
    """A new ref after each restart, nobody while it is stopped, free after it was deleted."""
    runtime = simulation.runtime
    supervisor = Supervisor.start(specs([], "a"), runtime=runtime)
    first = runtime.registry.whereis("a")
    crash(simulation, "a")
    second = runtime.registry.whereis("a")
    assert second is refs(supervisor)["a"]
    assert second is not first
    supervisor.terminate_child("a").get()
    assert runtime.registry.whereis("a") is None
    other = Supervisor.start(specs([], "a"), runtime=runtime)
    with pytest.raises(AlreadyStarted) as caught:
        supervisor.restart_child("a").get()
    assert caught.value.ref is refs(other)["a"]
    assert states(supervisor) == {"a": ChildState.STOPPED}
    other.stop()
    assert supervisor.restart_child("a").get() is runtime.registry.whereis("a")


# -- calls to actors -------------------------------------------------------------------------------


def test_different_failures_of_a_call_are_different_errors(simulation: Simulation) -> None:
    """No such name, dead, too late, and calling itself."""
    runtime = simulation.runtime
    never: ReplyFuture[None] = ReplyFuture()

    class Calling(Waiting):
        def on_receive(self, message: Any) -> Any:
            if message == "itself":
                return self._actor_ref.ask("hello")
            return Later(never) if message == "later" else super().on_receive(message)

    class Quick(Calling):
        never_blocks: ClassVar[bool] = True

    ask = runtime.registry.ask
    supervisor = Supervisor.start(
        [
            spec([], "a", start=lambda: Calling([], "a"), restart="temporary"),
            spec([], "b", start=lambda: Quick([], "b"), restart="temporary"),
        ],
        runtime=runtime,
    )
    children = refs(supervisor)
    with pytest.raises(NameNotFound):
        ask("nobody", "hello")
    late = ask("a", "later")
    with pytest.raises(DeadlineExceeded):
        late.get()
    assert simulation.clock.monotonic() == 5.0, "the default"
    with pytest.raises(CallCycle):
        ask("a", "itself").get()
    with pytest.raises(WouldBlock):
        ask("b", "itself").get()
    simulation.settle()
    for child in children.values():
        with pytest.raises(ActorDead):
            child.ask("hello")


def test_a_late_reply_is_dropped(simulation: Simulation) -> None:
    """Once its deadline has passed a call has failed for good."""
    Supervisor.start(specs([], "a"), runtime=simulation.runtime)
    reply: ReplyFuture[str] = ReplyFuture()
    call = simulation.runtime.registry.ask("a", lambda: Later(reply), timeout=1.0)
    with pytest.raises(DeadlineExceeded):
        call.get()
    reply.set("late")
    with pytest.raises(DeadlineExceeded):
        call.get()


def test_a_call_whose_deadline_has_passed_is_not_handled(simulation: Simulation) -> None:
    """It is withdrawn if its turn has not begun by then."""
    handled: list[str] = []
    registry = simulation.runtime.registry
    pause: ReplyFuture[None] = ReplyFuture()
    simulation.timers.call_later(3.0, partial(pause.set, None))
    Supervisor.start([spec([], "c", start=lambda: Waiting([], "c"))], runtime=simulation.runtime)
    first = registry.ask("c", pause.get, timeout=None)
    second = registry.ask("c", partial(handled.append, "too late"), timeout=1.0)
    third = registry.ask("c", partial(handled.append, "in time"), timeout=4.0)
    simulation.settle()
    assert first.get() is None
    assert third.get() is None
    with pytest.raises(DeadlineExceeded):
        second.get()
    assert handled == ["in time"]


@pytest.mark.parametrize("name", [None, "a"])
@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
@pytest.mark.parametrize("how", [Crash(), Stop(), Shutdown("why")])
def test_the_dead_say_why(simulation: Simulation, how: Exception, kind: Any, name: Any) -> None:
    """Who asks or tells by ref gets the reason, also if the child had a name."""
    child = spec([], "a", restart="temporary").replace(name=name)
    ref = kind.start(runtime=simulation.runtime).start_child(child).get()
    ref.tell(how)
    simulation.settle()
    expected = {Crash: "crash", Stop: "normal", Shutdown: "shutdown"}[type(how)]
    with pytest.raises(ActorDead) as asked:
        ref.ask("hello")
    assert asked.value.reason == expected
    with pytest.raises(ActorDead) as told_so:
        ref.tell("hello")
    assert told_so.value.reason == expected


def test_a_name_of_the_dead_says_why(simulation: Simulation) -> None:
    """Who asks by the name of a child that is not restarted gets the reason."""
    supervisor = Supervisor.start(
        [spec([], "a", restart="transient"), spec([], "b")], runtime=simulation.runtime
    )
    end(simulation, "a", Shutdown("done"))
    supervisor.terminate_child("b").get()
    for name in "ab":
        with pytest.raises(ActorDead) as caught:
            simulation.runtime.registry.ask(name, "hello").get()
        assert caught.value.reason is ExitReason.SHUTDOWN


@pytest.mark.parametrize("how", [Crash(), Stop(), Shutdown("why")])
def test_a_caller_learns_at_once_of_the_end(simulation: Simulation, how: Exception) -> None:
    """During the call, for whatever reason; whoever is queued behind fails as well."""
    never: ReplyFuture[None] = ReplyFuture()

    class Answering(Worker):
        def on_receive(self, message: Any) -> Any:
            return Later(never) if message == "later" else super().on_receive(message)

    supervisor = Supervisor.start(
        [spec([], "a", start=lambda: Answering([], "a"), restart="temporary")],
        runtime=simulation.runtime,
    )
    ref = refs(supervisor)["a"]
    waiting = ref.ask("later", block=False)
    ending = ref.ask(how, block=False)
    behind = ref.ask("behind", block=False)
    simulation.settle()
    for asked in (waiting, behind):
        with pytest.raises(ActorDead):
            asked.get(timeout=0)
    with pytest.raises(Crash if isinstance(how, Crash) else ActorDead):
        ending.get(timeout=0)
    record = ref.monitor().get(timeout=0)
    expected = {Crash: "crash", Stop: "normal", Shutdown: "shutdown"}[type(how)]
    assert record.reason == expected
    assert record.detail == ("why" if isinstance(how, Shutdown) else None)
    never.set(None)


def test_a_declared_exception_is_a_reply_and_any_other_a_crash(simulation: Simulation) -> None:
    """Both go to the caller; after the second the actor is another one."""
    supervisor = Supervisor.start(specs([], "a"), max_restarts=1, runtime=simulation.runtime)
    first = refs(supervisor)["a"]
    with pytest.raises(Refused):
        first.ask(Refused())
    assert refs(supervisor)["a"] is first
    with pytest.raises(Crash):
        first.ask(Crash())
    simulation.settle()
    assert refs(supervisor)["a"] is not first
    assert supervisor.is_alive()


def test_a_bare_future_is_delivered_as_a_value(simulation: Simulation) -> None:
    """And ``Later`` with the future's result."""
    future: ReplyFuture[str] = ReplyFuture()
    supervisor = Supervisor.start(specs([], "a"), runtime=simulation.runtime)
    ref = refs(supervisor)["a"]
    assert ref.ask(lambda: future) is future
    answer = ref.ask(lambda: Later(future), block=False)
    simulation.settle()
    assert not answer.done()
    future.set("late")
    assert answer.get(timeout=0) == "late"


def test_a_shutdown_overtakes_what_is_queued(simulation: Simulation) -> None:
    """What is queued fails unhandled; ``ref.stop()`` comes after it."""
    handled: list[str] = []

    def asks(ref: Any) -> list[ReplyFuture[Any]]:
        return [ref.ask(partial(handled.append, f"{n}"), block=False) for n in range(5)]

    class Busy(Waiting):
        """Posts its own end, and then messages, in one turn: nothing comes in between."""

        def on_receive(self, message: Any) -> Any:
            if message == "terminate":
                asked = asks(self._actor_ref)
                supervisor.terminate_child("a")
                release: ReplyFuture[None] = ReplyFuture()
                simulation.timers.call_later(1.0, partial(release.set, None))
                release.get()
                return asked
            if message == "stop":
                asked = asks(self._actor_ref)
                self._actor_ref.stop(block=False)
                return [*asked, *asks(self._actor_ref)]
            return super().on_receive(message)

    supervisor = Supervisor.start(
        [spec([], tag, start=lambda: Busy([], "x"), restart="temporary") for tag in "ab"],
        runtime=simulation.runtime,
    )
    for future in refs(supervisor)["a"].ask("terminate"):
        with pytest.raises(ActorDead):
            future.get()
    assert handled == []
    asked = refs(supervisor)["b"].ask("stop")
    simulation.settle()
    assert [future.get(timeout=0) for future in asked[:5]] == [None] * 5
    for future in asked[5:]:
        with pytest.raises(ActorDead):
            future.get(timeout=0)
    assert handled == ["0", "1", "2", "3", "4"]


def test_a_step_after_the_start_runs_before_any_message(simulation: Simulation) -> None:
    """``on_continue``: nobody waits for it, a crash in it restarts the child."""
    log: list[str] = []
    fails = itertools.count(1)

    class Continuing(Worker):
        def on_continue(self) -> None:
            number = next(fails)
            log.append(f"continue-{number}")
            if number == 1:
                raise Crash

        def on_receive(self, message: Any) -> Any:
            log.append(message)
            return message

    Supervisor.start(
        [spec(log, "a", start=lambda: Continuing(log, "a"))],
        max_restarts=1,
        runtime=simulation.runtime,
    )
    assert simulation.runtime.registry.ask("a", "hello").get() == "hello"
    assert told(log) == "+a continue-1 +a continue-2 hello"


def test_an_end_during_the_own_start(simulation: Simulation) -> None:
    """A child that stops itself in ``on_start`` has not started; its starter is told."""

    class Leaving(Worker):
        def on_start(self) -> None:
            raise Shutdown("nothing to do")

    log: list[str] = []
    leaving = ChildSpec(id="b", start=lambda: Leaving(log, "b"), restart="transient")
    with pytest.raises(StartFailed, match="'b'"):
        Supervisor.start([spec(log, "a"), leaving], runtime=simulation.runtime)
    assert told(log) == "+a -a"
    supervisor = Supervisor.start(max_restarts=0, runtime=simulation.runtime)
    with pytest.raises(StartFailed):
        supervisor.start_child(leaving).get()
    assert refs(supervisor) == {}


def test_calls_that_a_supervisor_does_not_know(simulation: Simulation) -> None:
    """They are answered with an error, asked or told, and harm nobody."""
    supervisor: Any = Supervisor.start(specs([], "a"), runtime=simulation.runtime)
    for message in ("hello", 7, None, Actor):
        with pytest.raises(UnknownMessage):
            supervisor.ask(message)
        supervisor.tell(message)
    simulation.settle()
    assert states(supervisor) == {"a": ChildState.RUNNING}


def test_a_call_in_a_stop_of_a_child(simulation: Simulation) -> None:
    """A child that calls its supervisor while the tree stops is answered with an error."""
    log: list[str] = []
    answers: list[Any] = []

    def call() -> None:
        answers.append(supervisor.start_child(spec(log, "new")))
        answers.append(supervisor.count_children())

    children = [spec(log, "a"), spec(log, "b", start=on_first_stop(call, log, "b"))]
    supervisor = Supervisor.start(children, runtime=simulation.runtime)
    assert supervisor.stop() is True
    assert told(log) == "+a +b -b -a"
    for answer in answers:
        with pytest.raises(ActorDead):
            answer.get(timeout=0)
