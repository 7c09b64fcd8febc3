"""Dynamic supervisors: children by name on demand, back-off, passivation, parallel stop."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from functools import partial
from typing import Any

import pytest

from pollin_actors.otp import (
    ActorDead,
    AlreadyStarted,
    Backoff,
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
)
from pollin_actors.otp.dynamic_supervisor import on_demand_by
from pollin_actors.otp.mailbox import Mailbox
from tests.otp.actors import Echo, MayBlock, in_thread
from tests.otp.test_supervisor import Crash


class Tree:
    """A dynamic supervisor of named children under a static one."""

    def __init__(self, runtime: Runtime, actor_class: type[Echo] = Echo, **options: Any) -> None:
        self.runtime = runtime
        self.log: list[Any] = []
        options.setdefault("max_restarts", 100)

        def spec_for(name: Hashable) -> ChildSpec:
            return ChildSpec(
                id=name,
                name=name,
                restart="transient",
                start=lambda: actor_class(self.log, name),
            )

        self.top: Ref[Any] = Supervisor.start(
            [
                ChildSpec(
                    id="dynamic",
                    name="dynamic",
                    type="supervisor",
                    start=lambda: DynamicSupervisor(spec_for=spec_for, **options),
                )
            ],
            runtime=runtime,
        )
        found = runtime.registry.find("dynamic")
        assert found is not None
        self.supervisor: Mailbox = found
        self._on_demand = on_demand_by(found)

    def ask(self, name: Hashable, message: Any) -> ReplyFuture[Any]:
        return self.runtime.registry.mailbox(name, self._on_demand).ask(message, 5.0)

    def starts(self, name: Hashable) -> int:
        return self.log.count(("start", name))

    def active(self) -> int:
        return int(self.supervisor.ask(CountChildren()).get().active)


@pytest.fixture(params=range(8))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulation:
        yield simulation


def test_the_first_message_starts_the_child(simulation: Simulation) -> None:
    tree = Tree(simulation.runtime)
    assert [tree.ask("a", number).get() for number in range(3)] == [0, 1, 2]
    assert tree.starts("a") == 1


def test_on_real_threads_the_sender_runs_the_whole_start() -> None:
    """Supervisor, start of the child and the message itself: no thread switch."""
    runtime = Runtime().start()
    try:
        tree = Tree(runtime)
        assert tree.ask("a", threading.get_ident).get() == threading.get_ident()
    finally:
        tree.top.stop()
        assert runtime.stop()


def test_many_threads_that_ask_for_one_new_name_get_one_actor() -> None:
    """Case 19: 64 threads, one actor, one start."""
    runtime = Runtime().start()
    try:
        tree = Tree(runtime)
        for round_number in range(5):
            start = threading.Barrier(64)
            answers: list[Any] = []

            def ask(
                name: Any = ("new", round_number), start: Any = start, answers: Any = answers
            ) -> None:
                start.wait(30)
                answers.append(tree.ask(name, "hello").get())

            threads = [threading.Thread(target=ask) for _ in range(64)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert answers == ["hello"] * 64
            assert tree.starts(("new", round_number)) == 1
    finally:
        tree.top.stop()
        assert runtime.stop()


def test_a_crash_restarts_the_child_and_keeps_its_messages(simulation: Simulation) -> None:
    tree = Tree(simulation.runtime, backoff=Backoff())
    tree.ask("a", "hello").get()
    crashing = tree.ask("a", Crash())
    behind = [tree.ask("a", number) for number in range(4)]
    with pytest.raises(Crash):
        crashing.get()
    assert [future.get() for future in behind] == [0, 1, 2, 3]
    assert tree.starts("a") == 2
    assert simulation.clock.monotonic() == 0.0, "the first restart is immediate"


def test_a_child_that_keeps_crashing_backs_off_and_does_not_stop_the_others(
    simulation: Simulation,
) -> None:
    """A poisoned child: every message crashes it, and the budget of 100 in 5 s is never reached."""
    tree = Tree(simulation.runtime, backoff=Backoff(first=0.1))
    tree.ask("good", "hello").get()
    futures = []
    for _ in range(200):
        futures.append(tree.ask("bad", Crash()))
        assert tree.ask("good", "hello").get() == "hello"
        simulation.advance(0.1)
    simulation.advance(10)
    assert all(future.done() or _timed_out(future) for future in futures)
    assert tree.starts("good") == 1
    assert 5 < tree.starts("bad") < 30
    assert tree.top.is_alive()


def _timed_out(future: ReplyFuture[Any]) -> bool:
    remaining = future._remaining()
    return remaining is not None and remaining <= 0


def test_a_child_that_ran_for_a_while_begins_anew(simulation: Simulation) -> None:
    tree = Tree(simulation.runtime, backoff=Backoff(first=1.0, reset_after=10.0))
    for _ in range(5):
        with pytest.raises(Crash):
            tree.ask("a", Crash()).get()
        before = simulation.clock.monotonic()
        assert tree.ask("a", "hello").get() == "hello"
        assert simulation.clock.monotonic() == before
        simulation.advance(11)


def test_idle_children_are_passivated_and_come_back(simulation: Simulation) -> None:
    tree = Tree(simulation.runtime, idle_after=60.0)
    tree.ask("idle", 1).get()
    tree.ask("busy", 1).get()
    for _ in range(10):
        simulation.advance(20)
        tree.ask("busy", 1).get()
    assert tree.active() == 1
    assert tree.log[-1] == 1
    assert ("stop", "idle") in tree.log
    assert tree.ask("idle", 2).get() == 2
    assert (tree.starts("idle"), tree.starts("busy")) == (2, 1)


def test_a_message_that_comes_while_the_child_is_passivated(simulation: Simulation) -> None:
    """It is handled by the next incarnation; passivation counts as no restart."""
    tree = Tree(simulation.runtime, idle_after=60.0, max_restarts=0)
    late: list[ReplyFuture[Any]] = []

    tree.ask("a", 1).get()
    child = simulation.runtime.registry.whereis("a")
    assert isinstance(child, Ref)
    child._cell.actor.on_stop = lambda: late.append(tree.ask("a", "late"))
    simulation.advance(200)
    assert late[0].get() == "late"
    assert tree.starts("a") == 2
    assert tree.top.is_alive()


def test_passivation_races_with_senders_on_real_threads() -> None:
    """Every message is handled exactly once although children come and go all the while."""
    runtime = Runtime().start()
    try:
        tree = Tree(runtime, idle_after=0.002)

        def send(sender: int) -> list[Any]:
            return [tree.ask("a", (sender, number)).get() for number in range(300)]

        results: list[Any] = []
        threads = [threading.Thread(target=lambda n=n: results.append(send(n))) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(r[0][0] for r in results) == [0, 1, 2, 3]
        for sender in range(4):
            handled = [e[1] for e in tree.log if isinstance(e, tuple) and e[0] == sender]
            assert handled == list(range(300))
    finally:
        tree.top.stop()
        assert runtime.stop()


def test_a_child_that_cannot_start_fails_its_senders(simulation: Simulation) -> None:
    class Broken(Echo):
        def on_start(self) -> None:
            raise LookupError("no configuration")

    tree = Tree(simulation.runtime, Broken)
    with pytest.raises(StartFailed, match="no configuration"):
        tree.ask("a", "hello").get()
    assert tree.active() == 0
    with pytest.raises(StartFailed):
        tree.ask("a", "hello").get()


def test_start_and_terminate_children_by_ref_and_id(simulation: Simulation) -> None:
    tree = Tree(simulation.runtime)
    ask = tree.supervisor.ask
    spec = ChildSpec(id=1, name="named", start=Echo, restart="temporary")
    ref: Any = ask(StartChild(spec)).get()
    with pytest.raises(AlreadyStarted) as caught:
        ask(StartChild(spec)).get()
    assert (caught.value.ref is ref) is True
    other: Any = ask(StartChild(ChildSpec(id=2, start=Echo))).get()
    ask(TerminateChild(ref)).get()
    ask(TerminateChild(2)).get()
    assert not ref.is_alive()
    assert not other.is_alive()
    assert tree.active() == 0


def test_children_are_stopped_in_parallel_under_one_deadline() -> None:
    """Case 15: children that need 1, 1 and 5 s, shutdown 2 s: the stop takes 2 s."""
    with Simulation() as simulation:
        tree = Tree(simulation.runtime)
        ends: list[ReplyFuture[Any]] = []
        for number, seconds in enumerate((1.0, 1.0, 5.0)):
            end: ReplyFuture[None] = ReplyFuture()
            ends.append(end)
            simulation.timers.call_later(seconds, partial(end._settle, (None, None)))

            class Slow(MayBlock):
                end_after = end

                def on_stop(self) -> None:
                    self.end_after.get()

            spec = ChildSpec(id=number, start=Slow, shutdown=2.0)
            tree.supervisor.ask(StartChild(spec)).get()
        monitor = tree.top.monitor()
        tree.top.stop()
        assert monitor.done()
        assert 1.0 <= simulation.clock.monotonic() <= 5.0


def test_a_dynamic_supervisor_that_gives_up_starts_anew_and_serves_who_waits(
    simulation: Simulation,
) -> None:
    """Escalation: its children are gone, their names and what waits for them are not."""
    tree = Tree(simulation.runtime, max_restarts=0)
    tree.ask("a", "hello").get()
    tree.ask("b", "hello").get()
    crashing = tree.ask("a", Crash())
    behind = tree.ask("a", "behind")
    with pytest.raises(Crash):
        crashing.get()
    assert behind.get() == "behind"
    assert tree.ask("b", "again").get() == "again"
    assert tree.top.is_alive()


def test_idle_after_is_checked() -> None:
    with pytest.raises(InvalidSpec, match="idle_after"):
        DynamicSupervisor(idle_after=0)


def test_names(simulation: Simulation) -> None:
    """Unknown names, names that are given up, and names of the dead."""
    tree = Tree(simulation.runtime)
    registry = simulation.runtime.registry
    with pytest.raises(NameNotFound, match="'nobody'"):
        registry.ask("nobody", 1)
    with pytest.raises(NameNotFound):
        registry.tell("nobody", 1)
    tree.ask("a", 1).get()
    assert registry.whereis("a") is not None
    assert registry.whereis("nobody") is None
    waiting = tree.ask("a", 2)
    registry.give_up("a")
    simulation.settle()
    assert waiting.done()
    with pytest.raises(NameNotFound):
        registry.ask("a", 3)
    late: ReplyFuture[Any] = registry.mailbox("b").ask("nobody starts it", 1.0)
    registry.close(lambda: ActorDead("closed"))
    with pytest.raises(ActorDead, match="closed"):
        late.get()
    with pytest.raises(ActorDead, match="closed"):
        registry.mailbox("c").ask("too late").get()


def test_a_stop_ends_every_child_once() -> None:
    runtime = Runtime().start()
    tree = Tree(runtime)
    for number in range(500):
        tree.ask(number, "hello").get()
    monitor = tree.top.monitor()
    assert in_thread(lambda: tree.top.stop(timeout=30))
    assert monitor.get(timeout=10).reason is ExitReason.NORMAL
    assert sorted(e[1] for e in tree.log if e[0] == "stop") == list(range(500))
    assert runtime.stop()
