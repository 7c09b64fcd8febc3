"""The mailbox: every ask is answered or fails, in order, whatever happens to the actor."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any, ClassVar

import pykka
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pollin_actors.otp import (
    Actor,
    ActorDead,
    BlockingActor,
    DeadlineExceeded,
    ExitReason,
    MailboxFull,
    ReplyFuture,
    Runtime,
    Simulation,
)
from pollin_actors.otp.items import TURNS, Item
from tests.otp.actors import Echo, MayBlock, Refused, begin, in_thread, manual_runtime


def test_the_asking_thread_runs_an_idle_actor_itself() -> None:
    runtime, scheduler = manual_runtime()
    ref = begin(Echo(), runtime)
    scheduler.run_all()
    assert ref.ask(threading.get_ident) == threading.get_ident()
    assert ref.ask(threading.get_ident, block=False).done(), "also when it does not wait"
    assert not scheduler.submitted


def test_an_actor_that_may_block_is_run_by_the_pool() -> None:
    runtime = Runtime().start()
    try:
        ref = begin(MayBlock(), runtime)
        assert ref.ask(threading.get_ident, timeout=10) != threading.get_ident()
    finally:
        runtime.stop()


def test_an_asking_thread_takes_a_bounded_number_of_turns() -> None:
    """Then the rest is the pool's: nobody is kept for ever by the messages of others."""
    runtime, scheduler = manual_runtime()
    ref = begin(Echo(), runtime)
    scheduler.run_all()
    mailbox = ref._cell.mailbox
    others = [ReplyFuture[int]() for _ in range(TURNS + 10)]
    for number, future in enumerate(others):
        mailbox.queue.append(Item(number, future, None))
    mine = ref.ask("mine", block=False)
    assert sum(future.done() for future in others) == TURNS
    assert not mine.done()
    scheduler.run_all()
    assert mine.done()


def test_on_a_running_loop_only_an_idle_actor_and_constant_time() -> None:
    class Declared(Echo):
        constant_time: ClassVar[frozenset[type]] = frozenset({str})

    runtime, scheduler = manual_runtime()
    ref = begin(Declared(), runtime)
    scheduler.run_all()

    async def scenario() -> None:
        assert ref.ask("declared", block=False).done()
        late = ref.ask(12, block=False)
        assert not late.done(), "not declared: the loop does not run it"
        behind = ref.ask("declared", block=False)
        assert not behind.done(), "not idle: the loop does not run the others' messages"
        scheduler.run_all()
        assert (late.get(), behind.get()) == (12, "declared")

    asyncio.run(scenario())


def test_what_a_turn_sends_is_run_by_the_same_thread_afterwards() -> None:
    """No thread switch along a chain of actors that never block."""
    runtime, scheduler = manual_runtime()
    last = begin(Echo(), runtime)
    first = begin(Echo(), runtime)
    scheduler.run_all()
    inner: list[ReplyFuture[Any]] = []
    first.ask(lambda: inner.append(last.ask(threading.get_ident, block=False)))
    assert inner[0].get(timeout=0) == threading.get_ident()


def test_each_turn_runs_in_the_actors_own_context() -> None:
    import contextvars

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    runtime, scheduler = manual_runtime()
    ref = begin(Echo(), runtime)
    scheduler.run_all()
    variable.set("the caller's")
    assert ref.ask(variable.get) == "unset"
    ref.ask(lambda: [variable.set("the actor's")])
    assert ref.ask(variable.get) == "the actor's"
    assert variable.get() == "the caller's"


def test_messages_of_one_sender_are_handled_in_order() -> None:
    """Asks and tells mixed, from several threads at once, on real threads."""
    runtime = Runtime().start()
    try:
        log: list[Any] = []
        ref = begin(Echo(log), runtime)

        def send(sender: int) -> None:
            for number in range(300):
                if number % 3:
                    ref.tell((sender, number))
                else:
                    ref.ask((sender, number), block=number % 2 == 0)

        threads = [threading.Thread(target=send, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        ref.ask("last", timeout=10)
        for sender in range(6):
            numbers = [e[1] for e in log if isinstance(e, tuple) and e[0] == sender]
            assert numbers == list(range(300))
    finally:
        runtime.stop()


def test_a_reply_exception_leaves_the_actor_alive() -> None:
    runtime, scheduler = manual_runtime()
    ref = begin(Echo(), runtime)
    scheduler.run_all()
    with pytest.raises(Refused):
        ref.ask(Refused("no"))
    assert ref.ask("hello") == "hello"


def test_any_other_exception_goes_to_the_asker_and_crashes_the_actor() -> None:
    runtime, scheduler = manual_runtime()
    ref = begin(Echo(), runtime)
    scheduler.run_all()
    error = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        ref.ask(error)
    record = ref.monitor().get(timeout=0)
    assert (record.reason, record.exception, record.last_message) == (
        ExitReason.CRASH,
        error,
        error,
    )


def test_exceptions_that_are_ignored_in_a_tell() -> None:
    class Patient(Echo):
        ignored_in_tell: ClassVar[tuple[type[Exception], ...]] = (Refused,)

    runtime, scheduler = manual_runtime()
    ref = begin(Patient(), runtime)
    ref.tell(Refused("nobody asked"))
    scheduler.run_all()
    assert ref.is_alive()
    ref.tell(ValueError("a bug"))
    scheduler.run_all()
    assert not ref.is_alive()


def test_a_dead_actor_answers_at_once() -> None:
    runtime, scheduler = manual_runtime()
    ref = begin(Echo(), runtime)
    scheduler.run_all()
    assert ref.stop() is True
    assert ref.stop() is False
    with pytest.raises(ActorDead, match="not found"):
        ref.ask("hello")
    with pytest.raises(ActorDead):
        ref.tell("hello")
    assert issubclass(ActorDead, pykka.ActorDeadError)


def test_an_ask_between_the_look_and_the_close_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pykka's trap: the asker looks, the actor stops, the message is put and never answered."""
    runtime, scheduler = manual_runtime()
    ref = begin(MayBlock(), runtime)
    scheduler.run_all()
    mailbox = ref._cell.mailbox
    looks = mailbox._dead_error
    # The append comes after the actor has ended, although the look before it found it alive.
    ended = False

    def look_then_end(cell: Any, **options: Any) -> Any:
        nonlocal ended
        found = looks(cell, **options)
        if not ended:
            ended = True
            stopping = ref.stop(block=False)
            scheduler.run_all()
            assert stopping.get(timeout=0)
        return found

    monkeypatch.setattr(
        type(mailbox), "_dead_error", lambda self, cell, **options: look_then_end(cell, **options)
    )
    future = ref.ask("hello", block=False)
    with pytest.raises(ActorDead):
        future.get(timeout=0)


def test_stop_leaves_queue_order_and_fails_what_comes_after() -> None:
    runtime, scheduler = manual_runtime()
    ref = begin(MayBlock(), runtime)
    before = ref.ask("before", block=False)
    stopped = ref.stop(block=False)
    after = ref.ask("after", block=False)
    again = ref.stop(block=False)
    scheduler.run_all()
    assert before.get(timeout=0) == "before"
    assert stopped.get(timeout=0) is True
    assert again.get(timeout=0) is True
    with pytest.raises(ActorDead, match="before handling"):
        after.get(timeout=0)


def test_a_bounded_mailbox_is_full_at_once() -> None:
    class Small(MayBlock):
        mailbox_bound: ClassVar[int | None] = 2

    runtime, scheduler = manual_runtime()
    ref = begin(Small(), runtime)
    for number in range(2):
        ref.tell(number)
    with pytest.raises(MailboxFull, match="takes 2"):
        ref.tell("one too many")
    with pytest.raises(MailboxFull):
        ref.ask("one too many")
    scheduler.run_all()
    waiting = ref.ask("hello", block=False)
    scheduler.run_all()
    assert waiting.get(timeout=0) == "hello"


def test_an_ask_whose_deadline_passed_before_its_turn_is_withdrawn() -> None:
    with Simulation() as simulation:
        log: list[Any] = []
        ref = begin(MayBlock(log), simulation.runtime)
        simulation.settle()
        asked = ref._cell.mailbox.ask("too late", 1.0)
        simulation.clock.advance_to(2.0)
        simulation.settle()
        with pytest.raises(DeadlineExceeded):
            asked.get()
        assert "too late" not in log


def test_a_failure_in_on_start() -> None:
    class Stillborn(Actor):
        def on_start(self) -> None:
            raise LookupError("no configuration")

    runtime, scheduler = manual_runtime()
    ref = begin(Stillborn(), runtime)
    early = ref.ask("hello", block=False)
    scheduler.run_all()
    record = ref.monitor().get(timeout=0)
    assert isinstance(record.exception, LookupError)
    assert record.started is False
    with pytest.raises(ActorDead):
        early.get(timeout=0)


def test_a_failure_in_on_stop_is_in_the_exit_record() -> None:
    class Clumsy(Actor):
        def on_stop(self) -> None:
            raise LookupError("nothing to close")

    runtime, scheduler = manual_runtime()
    ref = begin(Clumsy(), runtime)
    stopped = ref.stop(block=False)
    scheduler.run_all()
    assert stopped.get(timeout=0) is True
    record = ref.monitor().get(timeout=0)
    assert (record.reason, type(record.exception)) == (ExitReason.CRASH, LookupError)


def test_a_monitor_of_an_actor_that_is_dead_is_settled_at_once() -> None:
    runtime, scheduler = manual_runtime()
    ref = begin(Echo(), runtime)
    early = ref.monitor()
    stopped = ref.stop(block=False)
    scheduler.run_all()
    assert stopped.get(timeout=0)
    late = ref.monitor()
    assert early.get(timeout=0) is late.get(timeout=0)
    assert late.get(timeout=0).reason is ExitReason.NORMAL


def test_a_blocking_actor_has_a_thread_of_its_own_that_ends_with_it() -> None:
    class Own(BlockingActor):
        def on_receive(self, message: Any) -> Any:
            return threading.current_thread()

    ref = Own.start()
    thread = ref.ask("which thread")
    assert isinstance(thread, threading.Thread)
    assert thread.name.startswith("Own-")
    assert ref.ask("which thread") is thread
    ref.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_a_handler_that_is_abandoned_finds_nothing_its_own() -> None:
    """Its late reply reaches nobody, and its messages and its token are gone."""
    runtime = Runtime().start()
    gate: ReplyFuture[str] = ReplyFuture()
    entered = threading.Event()

    def stubborn() -> str:
        entered.set()
        return gate.get()

    try:
        ref = begin(MayBlock(), runtime)
        asked = ref.ask(stubborn, block=False)
        assert entered.wait(10)
        behind = ref.ask("behind", block=False)
        monitor = ref.monitor()
        ref._cell.mailbox.abandon(ref._cell)
        assert monitor.get(timeout=10).reason is ExitReason.UNSTOPPED
        for future in (asked, behind):
            with pytest.raises(ActorDead):
                future.get(timeout=0)
        gate.set("too late")
        with pytest.raises(ActorDead, match="abandoned"):
            asked.get(timeout=0)
        assert begin(MayBlock(), runtime).ask("the pool goes on", timeout=10)
    finally:
        assert runtime.stop()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.sampled_from("atrcsb"), max_size=30))
def test_every_ask_is_answered_or_fails(seed: int, operations: list[str]) -> None:
    """Random sends, crashes and stops in a random order of turns; nothing is left hanging."""
    with Simulation(seed) as simulation:
        actors = [begin(kind(), simulation.runtime) for kind in (Echo, MayBlock)]
        asked: list[ReplyFuture[Any]] = []
        for number, operation in enumerate(operations):
            ref = actors[number % 2]
            if operation == "a":
                asked.append(ref.ask(number, block=False))
            elif operation == "t":
                try:
                    ref.tell(number)
                except ActorDead:
                    assert not ref.is_alive()
            elif operation == "r":
                asked.append(ref.ask(Refused("no"), block=False))
            elif operation == "c":
                asked.append(ref.ask(ValueError("crash"), block=False))
            elif operation == "s":
                asked.append(ref.stop(block=False))
            else:
                simulation.scheduler.step()
        simulation.settle()
        assert all(future.done() for future in asked)
        for ref in actors:
            assert ref.monitor().done() is not ref.is_alive()


def test_asks_race_with_a_stop_on_real_threads() -> None:
    """Many rounds: whoever asks while the actor stops gets an answer or ActorDead."""
    runtime = Runtime().start()
    try:
        for _ in range(60):
            ref = begin(Echo(), runtime)
            start = threading.Barrier(4)
            futures: list[ReplyFuture[Any]] = []

            def ask(ref: Any = ref, start: Any = start, futures: Any = futures) -> None:
                start.wait(10)
                for number in range(20):
                    futures.append(ref.ask(number, block=False))

            threads = [threading.Thread(target=ask) for _ in range(3)]
            for thread in threads:
                thread.start()
            start.wait(10)
            assert in_thread(partial(ref.stop, timeout=10)) in (True, False)
            for thread in threads:
                thread.join(10)
            for future in futures:
                try:
                    future.get(timeout=10)
                except ActorDead:
                    continue
    finally:
        assert runtime.stop()
