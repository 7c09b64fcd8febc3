"""Threads that have lost a mailbox's token, and what else must not reach the next incarnation.

A kill, or an abandonment, comes between any two instructions of whoever runs the mailbox, and
another actor takes the name before that thread goes on.
"""

from __future__ import annotations

import gc
import threading
from collections import Counter
from functools import partial
from typing import Any

import pytest
import structlog

from pollin_actors.otp import (
    Actor,
    ActorDead,
    BlockingActor,
    ChildSpec,
    Later,
    ReplyFuture,
    Runtime,
    Simulation,
    Stop,
    Supervisor,
    start_actor,
)
from pollin_actors.otp.actor import attach
from pollin_actors.otp.cell import Status
from pollin_actors.otp.items import Item
from tests.interrupts import interrupt_at
from tests.otp.actors import Echo, MayBlock, begin, in_thread, manual_runtime

SECONDS = 60.0
TURNS = ["pollin_actors.otp.turns"]
RUNTIME = [*TURNS, "pollin_actors.otp.cell", "pollin_actors.otp.mailbox"]


class Unspeakable(Exception):
    """What it was cannot be said."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("how", ["kill", "abandon"])
def test_nobody_runs_the_next_incarnation_without_its_token(how: str) -> None:
    """Also not the thread that ran the last one, wherever it was when it was shut out."""
    wrong: list[Any] = []
    number, reached = 0, True
    while reached:
        runtime, scheduler = manual_runtime()
        mailbox = runtime.registry.mailbox("x")

        class Next(MayBlock):
            mailbox_of = mailbox
            at = number

            def on_start(self) -> None:
                self._look()

            def on_receive(self, message: Any) -> Any:
                self._look()
                return message

            def _look(self) -> None:
                if not self.mailbox_of.token._is_owned():  # type: ignore[attr-defined]
                    wrong.append(self.at)

        old = MayBlock()
        attach(old, runtime, mailbox)
        scheduler.run_all()
        mailbox.queue += [Item("a", None, None), Item("b", None, None)]

        def swap(old: Any = old, mailbox: Any = mailbox, runtime: Any = runtime) -> None:
            getattr(mailbox, how)(old._cell)
            attach(Next(), runtime, mailbox)

        reached = interrupt_at(number, mailbox.run, TURNS, partial(in_thread, swap))
        scheduler.run_all()
        number += 1
    assert wrong == []
    assert number > 200


@pytest.mark.parametrize("how", ["kill", "abandon"])
def test_no_message_is_lost_or_handled_twice_in_between(how: str) -> None:
    """The next incarnation has handled one of them when the other thread goes on."""
    number, reached = 0, True
    while reached:
        runtime, scheduler = manual_runtime()
        mailbox = runtime.registry.mailbox("x")
        handled: list[Any] = []

        class Recording(MayBlock):
            handled_by_all = handled

            def on_receive(self, message: Any) -> Any:
                self.handled_by_all.append(message)
                return message

        old = Recording()
        attach(old, runtime, mailbox)
        scheduler.run_all()
        futures: list[ReplyFuture[Any]] = [ReplyFuture() for _ in range(5)]
        mailbox.queue += [Item(index, future, None) for index, future in enumerate(futures)]

        def swap(
            old: Any = old, mailbox: Any = mailbox, runtime: Any = runtime, new: Any = Recording
        ) -> None:
            getattr(mailbox, how)(old._cell)
            attach(new(), runtime, mailbox)
            mailbox.run(2)  # its start, and one message

        reached = interrupt_at(number, mailbox.run, TURNS, partial(in_thread, swap))
        scheduler.run_all()
        mailbox.run()
        assert all(future.done() for future in futures), f"unanswered, at instruction {number}"
        assert max(Counter(handled).values()) == 1
        for index, future in enumerate(futures):
            try:
                assert future.get(timeout=0) == index
            except ActorDead:
                assert reached
        number += 1
    assert number > 200


@pytest.mark.parametrize("continues", [False, True])
def test_who_was_abandoned_in_its_start_stays_dead(continues: bool) -> None:
    """Its own thread cannot set its status once more: the name can be had, nobody asks it."""

    class Continuing(Echo):
        def on_continue(self) -> None:
            self.log.append("continue")

    number, reached = 0, True
    while reached:
        runtime, scheduler = manual_runtime()
        actor = Continuing() if continues else Echo()
        cell = actor._cell
        mailbox = runtime.registry.claim("x", cell)
        attach(actor, runtime, mailbox)
        abandon = partial(in_thread, partial(mailbox.abandon, cell))
        reached = interrupt_at(number, mailbox.run, RUNTIME, abandon)
        scheduler.run_all()
        if reached:
            assert cell.record is not None
            assert not cell.caller_runs
            runtime.registry.claim("x", Echo()._cell)
        number += 1
    assert number > 100


def test_an_interrupt_in_the_attachment_leaves_no_claim_behind() -> None:
    """Wherever it comes: the name can be had by the next one, and that one starts."""
    modules = [f"pollin_actors.otp.{name}" for name in ("actor", "mailbox", "turns", "starting")]
    number, reached = 0, True
    while reached:
        runtime, scheduler = manual_runtime()
        first = MayBlock()
        reached = interrupt_at(number, partial(start_actor, first, runtime, name="x"), modules)
        scheduler.run_all()
        if runtime.registry.whereis("x") is None:
            again = start_actor(MayBlock(), runtime, name="x")
            scheduler.run_all()
            assert again.get(timeout=0).is_alive()
        else:
            assert first._cell.status is Status.RUNNING
        number += 1
    assert number > 100


def test_a_blocking_actor_never_runs_on_a_callers_thread() -> None:
    """Not even where the caller has just run who bore the name before it."""
    runtime = Runtime().start()
    threads: list[threading.Thread] = []

    class Blocking(BlockingActor):
        def on_start(self) -> None:
            threads.append(threading.current_thread())

    class First(Actor):
        never_blocks = True

        def on_receive(self, message: Any) -> Any:
            raise Stop("bye")

        def on_stop(self, *_: Any) -> None:
            successor = Blocking()
            attach(successor, runtime, runtime.registry.claim("x", successor._cell))

    try:
        start_actor(First(), runtime, name="x").get(timeout=SECONDS)
        assert runtime.registry.ask("x", "end", timeout=SECONDS).get() == "bye"
        assert runtime.registry.stop("x").get(timeout=SECONDS)
        assert threading.current_thread() not in threads
        assert len(threads) == 1
        assert "Blocking" in threads[0].name
    finally:
        assert runtime.stop()


def test_intervals_of_a_living_actor_outlive_its_name() -> None:
    """A tick that lay in the queue when the name was given up is handled, and so are the next."""
    with Simulation(seed=1) as simulation:
        ticks: list[float] = []

        class Ticking(MayBlock):
            def on_start(self) -> None:
                self.send_every(1.0, "tick")

            def on_info(self, message: Any) -> None:
                ticks.append(simulation.clock.monotonic())

        attach(Ticking(), simulation.runtime, simulation.runtime.registry.mailbox("x"))
        simulation.settle()
        simulation.timers.fire_next()  # it is queued, not handled
        simulation.runtime.registry.give_up("x")
        simulation.advance(9.5)
        assert ticks == [float(second) for second in range(1, 11)]


def test_an_actor_without_its_name_can_be_stopped() -> None:
    runtime, scheduler = manual_runtime()
    started = start_actor(MayBlock(), runtime, name="x")
    scheduler.run_all()
    ref = started.get(timeout=0)
    runtime.registry.give_up("x")
    assert ref.is_alive()
    stopped = ref.stop(block=False)
    scheduler.run_all()
    assert stopped.get(timeout=0) is True
    assert not ref.is_alive()


def test_answers_that_came_too_late_are_owed_no_more() -> None:
    """Neither the actor nor the future that never came keeps anything of the calls."""
    with Simulation(seed=1) as simulation:
        never: ReplyFuture[Any] = ReplyFuture()

        class Owing(Echo):
            def on_receive(self, message: Any) -> Any:
                return Later(never)

        actor = Owing()
        attach(actor, simulation.runtime, simulation.runtime.registry.mailbox("x"))
        for number in range(50):
            with pytest.raises(Exception, match="did not answer"):
                simulation.runtime.registry.ask("x", number, timeout=1.0).get()
        assert not actor._cell.laters
        assert never._box is None or not never._box.get("waiters")


def test_an_exception_that_cannot_be_shown_leaves_the_mailbox_free() -> None:
    """An answer is owed at the crash: its asker, the supervisor and the next ask are all served."""
    with Simulation(seed=1) as simulation:
        never: ReplyFuture[Any] = ReplyFuture()

        class Owing(MayBlock):
            def on_receive(self, message: Any) -> Any:
                if message == "later":
                    return Later(never)
                return super().on_receive(message)

        supervisor = Supervisor.start([ChildSpec("a", Owing, name="a")], runtime=simulation.runtime)
        ask = simulation.runtime.registry.ask
        later = ask("a", "later", timeout=None)
        with pytest.raises(Unspeakable):
            ask("a", Unspeakable()).get()
        with pytest.raises(ActorDead, match="its repr failed"):
            later.get()
        assert ask("a", "hello").get() == "hello"
        assert supervisor.is_alive()


def test_a_list_that_grows_while_a_collection_runs() -> None:
    """Waiters are added by a collection in the middle of the settling: each is told once."""
    told: list[int] = []
    future: ReplyFuture[int] = ReplyFuture()

    def note(number: int, _: object) -> None:
        told.append(number)

    for number in range(100):
        future.add_done_callback(partial(note, number))
    armed = True

    def grow(phase: str, info: dict[str, int]) -> None:
        nonlocal armed
        if armed and phase == "start":
            armed = False
            for number in range(100, 2_000):
                future.add_done_callback(partial(note, number))

    before = gc.get_threshold()
    gc.callbacks.append(grow)
    try:
        gc.set_threshold(1)
        future.set(1)
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(grow)
    assert sorted(told)[:100] == list(range(100))
    assert max(Counter(told).values()) == 1


def test_a_log_that_fails_ends_no_thread_of_ours() -> None:
    """Timers go on after a callback that raised while the host's log was out of order."""

    def broken(*_: Any) -> Any:
        raise OSError("the log's disk is full")

    structlog.configure(processors=[broken])
    runtime = Runtime().start()
    rang = threading.Event()

    def fail() -> None:
        raise ValueError("a bug in a callback")

    try:
        runtime.timers.call_later(0.0, fail)
        runtime.timers.call_later(0.0, rang.set)
        assert rang.wait(SECONDS)
    finally:
        assert runtime.stop()


def test_who_is_abandoned_in_its_end_had_started() -> None:
    runtime, scheduler = manual_runtime()
    records = []

    class Hanging(MayBlock):
        def on_stop(self) -> None:
            self._cell.mailbox.abandon(self._cell)

    ref = begin(Hanging(), runtime)
    scheduler.run_all()
    ref.monitor().add_done_callback(lambda monitor: records.append(monitor.get(timeout=0)))
    ref.stop(block=False)
    scheduler.run_all()
    (record,) = records
    assert record.reason == "unstopped"
    assert record.started
