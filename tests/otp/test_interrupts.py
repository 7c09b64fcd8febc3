"""An interrupt at any bytecode of a caller that runs a mailbox leaves everything right.

Every test raises KeyboardInterrupt before the n-th instruction of the runtime and of the handler,
for every n, and looks at what is left: no token held, every asker answered, the actor either
alive and answering, or dead and saying so.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pollin_actors.otp import (
    ActorDead,
    ChildSpec,
    ExitReason,
    OtpError,
    Ref,
    ReplyFuture,
    Runtime,
    Supervisor,
)
from pollin_actors.otp.actor import attach
from pollin_actors.otp.items import Item
from tests.interrupts import interrupt_at_every_bytecode
from tests.otp.actors import Echo, ManualScheduler, begin, in_thread, manual_runtime

MODULES = ("pollin_actors.otp", "tests.otp.actors")


class Subject:
    """An idle actor on a scheduler of its own, with messages of other askers in its queue."""

    def __init__(self, waiting: int = 0) -> None:
        self.runtime, self.scheduler = manual_runtime()
        self.ref = begin(Echo(), self.runtime)
        self.scheduler.run_all()
        self.mailbox = self.ref._cell.mailbox
        # Not by ref.ask: that would run the mailbox here and now.
        self.others = [ReplyFuture[Any]() for _ in range(waiting)]
        self.mine: list[ReplyFuture[Any]] = []
        for number, future in enumerate(self.others):
            self.mailbox.queue.append(Item(number, future, None))
        self.mailbox.schedule()

    def check(self, interrupted: bool) -> None:
        assert not self.mailbox.token._is_owned()  # type: ignore[attr-defined]
        self.scheduler.run_all()
        for number, future in enumerate(self.others):
            assert future.done(), "somebody else's question was lost"
            try:
                assert future.get() == number
            except ActorDead:
                assert interrupted
        answer = in_thread(lambda: _answer(self.ref))
        if answer == "dead":
            record = self.ref.monitor().get(timeout=0)
            assert record.reason is ExitReason.CRASH
            assert isinstance(record.exception, KeyboardInterrupt)
            assert interrupted
        else:
            assert answer == "hello"


def _answer(ref: Ref[Any]) -> Any:
    try:
        return ref.ask("hello", timeout=5)
    except ActorDead:
        return "dead"


@pytest.mark.parametrize("block", [True, False])
def test_an_ask_of_an_idle_actor(block: bool) -> None:
    """The fast path: the caller runs its own message at once."""
    points = interrupt_at_every_bytecode(
        lambda subject: subject.ref.ask("mine", block=block),
        Subject.check,
        prepare=Subject,
        modules=MODULES,
    )
    assert points > 80


def test_an_ask_behind_the_messages_of_others() -> None:
    """The caller runs other askers' messages first: they are all answered, whatever happens."""
    points = interrupt_at_every_bytecode(
        lambda subject: subject.ref.ask("mine"),
        Subject.check,
        prepare=lambda: Subject(waiting=3),
        modules=MODULES,
    )
    assert points > 500


def test_an_ask_that_is_refused() -> None:
    """The handler raises what its class declares as a reply."""

    def operation(subject: Subject) -> None:
        from tests.otp.actors import Refused

        with pytest.raises(Refused):
            subject.ref.ask(Refused("no"))

    interrupt_at_every_bytecode(operation, Subject.check, prepare=Subject, modules=MODULES)


def test_a_tell() -> None:
    """A tell only queues; the message may be handled or not, and the mailbox goes on."""
    interrupt_at_every_bytecode(
        lambda subject: subject.ref.tell("mine"),
        Subject.check,
        prepare=lambda: Subject(waiting=1),
        modules=MODULES,
    )


def test_a_crash_answers_everybody() -> None:
    """The handler crashes the actor, and an interrupt comes somewhere in its end."""

    class Died(Exception):
        pass

    def operation(subject: Subject) -> None:
        subject.mine.append(subject.mailbox.ask(Died()))

    def check(subject: Subject, interrupted: bool) -> None:
        subject.scheduler.run_all()
        assert not subject.mailbox.token._is_owned()  # type: ignore[attr-defined]
        for future in (*subject.others, *subject.mine):
            assert future.done()
        answer = in_thread(lambda: _answer(subject.ref))
        assert answer == "dead" or interrupted
        if answer == "dead":
            assert subject.ref.monitor().get(timeout=0).reason is ExitReason.CRASH

    interrupt_at_every_bytecode(
        operation, check, prepare=lambda: Subject(waiting=2), modules=MODULES
    )


def test_a_stop() -> None:
    """``ref.stop()`` run by the caller: the actor ends, or can still be stopped."""

    def check(subject: Subject, interrupted: bool) -> None:
        subject.scheduler.run_all()
        assert not subject.mailbox.token._is_owned()  # type: ignore[attr-defined]
        assert in_thread(lambda: subject.ref.stop(timeout=5)) in (True, False)
        assert subject.ref.monitor().done()

    interrupt_at_every_bytecode(
        lambda subject: subject.ref.stop(), check, prepare=Subject, modules=MODULES
    )


class Supervised:
    """A named actor under a supervisor; all of it run by whoever asks."""

    def __init__(self) -> None:
        self.runtime, self.scheduler = manual_runtime()
        self.log: list[Any] = []
        spec = ChildSpec(id="echo", name="echo", start=lambda: Echo(self.log))
        self.top = Supervisor([spec], max_restarts=5)
        attach(self.top, self.runtime)
        self.scheduler.run_all()

    def check(self, interrupted: bool) -> None:
        self.scheduler.run_all()
        answer = in_thread(lambda: _by_name(self.runtime, self.scheduler))
        if answer != "hello":
            # The interrupt struck a turn of the supervisor itself, run by this caller.
            assert not self.top.actor_ref.is_alive()
        else:
            assert self.top.actor_ref.is_alive()
            bearer = self.runtime.registry.whereis("echo")
            assert bearer is not None
            assert bearer.is_alive()


def _by_name(runtime: Runtime, scheduler: ManualScheduler) -> Any:
    future = runtime.registry.ask("echo", "hello", timeout=1)
    scheduler.run_all()
    try:
        return future.get(timeout=0)
    except Exception as error:
        return error


def test_an_interrupt_inside_a_turn_restarts_a_supervised_actor() -> None:
    """The name is borne by a new incarnation, and nothing is wedged."""
    restarts = 0

    def check(subject: Supervised, interrupted: bool) -> None:
        nonlocal restarts
        subject.check(interrupted)
        restarts += subject.log.count(("start", None)) - 1

    interrupt_at_every_bytecode(
        lambda subject: subject.runtime.registry.ask("echo", "mine").get(),
        check,
        prepare=Supervised,
        modules=MODULES,
    )
    assert restarts > 10


def test_an_interrupt_of_a_handler_that_the_caller_runs_is_raised_in_the_caller() -> None:
    """It crashes the actor, answers the other askers, and comes out of the ask."""
    subject = Subject(waiting=1)
    with pytest.raises(KeyboardInterrupt):
        subject.ref.ask(KeyboardInterrupt())
    assert subject.others[0].get() == 0
    assert not subject.ref.is_alive()
    assert isinstance(subject.ref.monitor().get().exception, KeyboardInterrupt)


def test_a_base_exception_on_a_pool_thread_stops_one_actor_only() -> None:
    """The asker gets ActorCrashed with the exception as its cause; others live on."""
    from pollin_actors.otp import ActorCrashed
    from tests.otp.actors import MayBlock

    runtime = Runtime().start()
    try:
        victim, other = begin(MayBlock(), runtime), begin(MayBlock(), runtime)
        with pytest.raises(ActorCrashed) as caught:
            victim.ask(SystemExit(3), timeout=10)
        assert isinstance(caught.value.__cause__, SystemExit)
        assert other.ask("still there", timeout=10) == "still there"
    finally:
        runtime.stop()


def test_a_signal_handler_that_asks_the_actor_it_interrupted_gets_an_error() -> None:
    """It could never be answered: the frames below it would have to go on first."""
    subject = Subject()
    errors: list[BaseException] = []

    def as_if_a_signal_came() -> str:
        def handler() -> None:
            try:
                subject.ref.ask("from the handler")
            except OtpError as error:
                errors.append(error)

        handler()
        return "done"

    assert subject.ref.ask(as_if_a_signal_came) == "done"
    assert len(errors) == 1
    assert threading.current_thread() is threading.main_thread()
