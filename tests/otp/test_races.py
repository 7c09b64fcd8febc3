"""Interleavings of the runtime that are rare by chance, brought about on purpose.

Events and callbacks stop one thread at the very place where another has to come in between; where
no single place matters, the other comes in at every bytecode, one run for each.
"""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from pollin_actors.otp import (
    Actor,
    ActorDead,
    BlockingActor,
    ChildSpec,
    CountChildren,
    DynamicSupervisor,
    ExitReason,
    Later,
    Ref,
    ReplyFuture,
    Runtime,
    Simulation,
    StartChild,
    Supervisor,
    TerminateChild,
)
from pollin_actors.otp.actor import attach
from pollin_actors.otp.cell import ChildExited, ExitRequest
from pollin_actors.otp.dynamic_supervisor import on_demand_by
from pollin_actors.otp.items import Item
from pollin_actors.otp.simulation import VirtualClock
from pollin_actors.otp.timers import ThreadTimers
from tests.interrupts import interrupt_at_every_bytecode
from tests.otp.actors import Answering, Echo, MayBlock, begin, fire_until, in_thread, manual_runtime

SECONDS = 10.0


# -- messages that a turn sends --------------------------------------------------------------------


class PausingToken:
    """A mailbox's token; one thread pauses as soon as it has given it back."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.pausing: threading.Thread | None = None
        self.released = threading.Event()
        self.go = threading.Event()

    def _is_owned(self) -> bool:
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]

    def acquire(self, blocking: bool = True) -> bool:
        return self._lock.acquire(blocking)

    def release(self) -> None:
        self._lock.release()
        if self.pausing is threading.current_thread():
            self.pausing = None
            self.released.set()
            assert self.go.wait(SECONDS)


@pytest.mark.parametrize("queued", [False, True])
def test_what_a_turn_sent_is_run_although_another_thread_takes_the_next_turn(queued: bool) -> None:
    """A thread is between giving the token back and looking at whom its turn has sent to.

    Another thread's turn on the same actor must not make it forget the first one's messages.
    """
    runtime, scheduler = manual_runtime()
    log: list[Any] = []
    sender, receiver = begin(Echo(), runtime), begin(Echo(log), runtime)
    scheduler.run_all()
    mailbox: Any = sender._cell.mailbox
    token = mailbox.token = PausingToken()

    def first() -> None:
        token.pausing = threading.current_thread()
        if queued:
            mailbox.queue.append(Item("before", None, None))
        sender.ask(lambda: receiver.tell("sent in a turn"), block=False)

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert token.released.wait(SECONDS)
        assert sender.ask("of another thread") == "of another thread"
    finally:
        token.go.set()
        thread.join(SECONDS)
    scheduler.run_all()
    assert log[1:] == ["sent in a turn"]


def test_no_message_of_a_turn_is_lost_under_load() -> None:
    """Four threads ask one actor, whose turns tell another: it gets every single message."""
    senders, messages, rounds = 4, 50, 30

    class Receiver(Actor):
        never_blocks: ClassVar[bool] = True

        def __init__(self) -> None:
            super().__init__()
            self.count = 0
            self.complete = threading.Event()

        def on_receive(self, message: Any) -> None:
            self.count += 1
            if self.count == senders * messages:
                self.complete.set()

    class Sender(Actor):
        never_blocks: ClassVar[bool] = True

        def __init__(self, target: Any) -> None:
            super().__init__()
            self._target = target

        def on_receive(self, message: Any) -> None:
            self._target.tell(message)

    runtime = Runtime().start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(rounds):
            receiver = Receiver()
            sender = begin(Sender(begin(receiver, runtime)), runtime)

            def send(ref: Any = sender) -> None:
                for number in range(messages):
                    ref.ask(number, timeout=SECONDS)

            threads = [threading.Thread(target=send) for _ in range(senders)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(SECONDS)
            assert receiver.complete.wait(SECONDS), f"{receiver.count} messages came"
    finally:
        sys.setswitchinterval(interval)
        assert runtime.stop()


def test_a_callback_that_asks_while_the_messages_of_a_turn_are_run() -> None:
    """The ask inside has messages of its own run: the loop outside goes on where it was."""
    runtime, scheduler = manual_runtime()
    first_log: list[Any] = []
    last_log: list[Any] = []
    asked, told = Echo(first_log), Echo(last_log)
    refs = [begin(actor, runtime) for actor in (Echo(), asked, Echo(), told)]
    first, second, third, fourth = refs
    scheduler.run_all()

    def turn() -> str:
        question = second.ask("question", block=False)
        question.add_done_callback(lambda _: third.ask(lambda: fourth.tell("from the callback")))
        return "answer"

    assert first.ask(turn, block=False).get(timeout=0) == "answer"
    assert first_log[1:] == ["question"]
    assert last_log[1:] == ["from the callback"]


def test_a_tell_to_an_actor_that_waits_in_a_simulated_run() -> None:
    """An actor that is told something while its handler waits can be told more afterwards.

    Whoever runs it meanwhile finds it in a turn on the same stack.
    """
    for seed in range(20):
        with Simulation(seed) as simulation:
            log: list[Any] = []
            actors = (MayBlock(), MayBlock(), MayBlock(log))
            last, middle, first = (begin(actor, simulation.runtime) for actor in actors)
            simulation.settle()

            def tell_who_waits(first: Any = first, last: Any = last) -> Any:
                first.tell("while it waits")
                return last.ask("question")

            def wait(middle: Any = middle, handler: Any = tell_who_waits) -> Any:
                return middle.ask(handler)

            assert first.ask(wait) == "question"
            simulation.settle()
            first.tell("afterwards")
            simulation.settle()
            assert log[1:] == ["while it waits", "afterwards"], f"seed {seed}"


# -- names of actors with a thread of their own ----------------------------------------------------


class Own(BlockingActor):
    """Says that it is in a handler, and leaves it when it is told to."""

    use_daemon_thread: ClassVar[bool] = True

    def __init__(self, entered: threading.Event, leave: threading.Event) -> None:
        super().__init__()
        self._entered = entered
        self._leave = leave

    def on_receive(self, message: Any) -> Any:
        if message in ("crash", "linger"):
            self._entered.set()
            assert self._leave.wait(SECONDS)
            if message == "crash":
                raise ValueError("a bug")
        return message


def test_a_named_actor_with_its_own_thread_is_told_something_while_it_crashes() -> None:
    """The thread that was woken for the message ends: the next one has to be woken as well."""
    entered, leave = threading.Event(), threading.Event()
    spec = ChildSpec(id="own", name="own", start=lambda: Own(entered, leave))
    runtime = Runtime().start()
    try:
        top = Supervisor.start([spec], runtime=runtime)
        assert runtime.registry.ask("own", "before").get(timeout=SECONDS) == "before"
        runtime.registry.tell("own", "crash")
        assert entered.wait(SECONDS)
        meanwhile = runtime.registry.ask("own", "meanwhile")
        leave.set()
        assert meanwhile.get(timeout=SECONDS) == "meanwhile"
        assert runtime.registry.ask("own", "after").get(timeout=SECONDS) == "after"
        top.stop(timeout=SECONDS)
    finally:
        leave.set()
        assert runtime.stop()


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_a_named_actor_with_its_own_thread_starts_again_after_it_was_abandoned(
    kind: type[Any],
) -> None:
    """The old thread is still in its handler; the new incarnation does not wait for it."""
    entered, leave = threading.Event(), threading.Event()
    spec = ChildSpec(
        id="own",
        name="own",
        start=lambda: Own(entered, leave),
        restart="temporary",
        shutdown="brutal_kill",
    )
    runtime = Runtime().start()
    try:
        supervisor = begin(kind(), runtime)
        old = supervisor.ask(StartChild(spec), timeout=SECONDS)
        runtime.registry.tell("own", "linger")
        assert entered.wait(SECONDS)
        behind = runtime.registry.ask("own", "behind")
        supervisor.ask(TerminateChild("own"), timeout=SECONDS)
        assert old.monitor().get(timeout=SECONDS).reason is ExitReason.UNSTOPPED
        assert behind.done()
        new = supervisor.ask(StartChild(spec), timeout=SECONDS)
        assert new.ask("hello", timeout=SECONDS) == "hello"
        assert runtime.registry.ask("own", "by name").get(timeout=SECONDS) == "by name"
        leave.set()
        assert new.ask("still there", timeout=SECONDS) == "still there"
        supervisor.stop(timeout=SECONDS)
    finally:
        leave.set()
        assert runtime.stop()


# -- abandoned while it ends -----------------------------------------------------------------------


class Ending:
    """A child that ends or crashes on a thread of its own, as soon as ``leave`` is set."""

    def __init__(self, crashes: bool) -> None:
        self.runtime, self.scheduler = manual_runtime()
        self.entered, self.leave = threading.Event(), threading.Event()
        ending = self

        class Child(MayBlock):
            def on_stop(self) -> None:
                ending.wait()

        class Listener(Echo):
            def on_info(self, message: Any) -> None:
                self.log.append(message)

        self.told: list[Any] = []
        listener = begin(Listener(self.told), self.runtime)
        attach(child := Child(), self.runtime, None, listener._cell.mailbox)
        assert isinstance(child._actor_ref, Ref)
        self.ref = child._actor_ref
        self.cell = child._cell
        self.mailbox = self.cell.mailbox
        self.scheduler.run_all()
        self.told.clear()
        self.early = self.ref.monitor()
        self.asked: list[ReplyFuture[Any]] = []
        if crashes:
            self.asked.append(self.mailbox.ask(self.crash))
            self.asked.append(self.mailbox.ask("behind"))
        else:
            self.mailbox.post_urgent(ExitRequest(self.cell, ExitReason.SHUTDOWN))

    def wait(self) -> None:
        self.entered.set()
        assert self.leave.wait(SECONDS)

    def crash(self) -> None:
        self.wait()
        raise ValueError("a bug")

    def check(self) -> None:
        self.scheduler.run_all()
        record = self.early.get(timeout=0)
        late = self.ref.monitor()
        assert late.done(), "a monitor that comes later is never told"
        assert late.get(timeout=0) is record, "it ended twice"
        told = [message for message in self.told if isinstance(message, ChildExited)]
        assert told
        assert all(exited.record is record for exited in told)
        assert not self.ref.is_alive()
        assert all(future.done() for future in self.asked)


@pytest.mark.parametrize("crashes", [False, True])
def test_an_end_at_any_moment_of_being_abandoned(crashes: bool) -> None:
    """The supervisor has given up on a child, and just then the child comes to its end.

    Whichever of the two is first, there is one exit record, and neither trips over the other.
    """
    subject: Ending
    thread: threading.Thread
    failures: list[BaseException] = []

    def run(subject: Ending) -> None:
        try:
            subject.mailbox.run()
        except BaseException as error:
            failures.append(error)

    def prepare() -> Ending:
        nonlocal subject, thread
        subject = Ending(crashes)
        thread = threading.Thread(target=run, args=(subject,))
        thread.start()
        assert subject.entered.wait(SECONDS)
        return subject

    def let_it_end() -> None:
        subject.leave.set()
        thread.join(SECONDS)

    def check(subject: Ending, interrupted: bool) -> None:
        let_it_end()
        assert not failures
        subject.check()

    points = interrupt_at_every_bytecode(
        lambda subject: subject.mailbox.abandon(subject.cell),
        check,
        prepare=prepare,
        modules=("pollin_actors.otp.mailbox", "pollin_actors.otp.cell"),
        error=let_it_end,
    )
    assert points > 50


@pytest.mark.parametrize("crashes", [False, True])
def test_being_abandoned_at_any_moment_of_an_end(crashes: bool) -> None:
    """A child is in its last handler or hook, and then its supervisor gives up on it."""
    subject: Ending

    def prepare() -> Ending:
        nonlocal subject
        subject = Ending(crashes)
        subject.leave.set()
        return subject

    def abandon() -> None:
        if subject.entered.is_set():
            in_thread(lambda: subject.mailbox.abandon(subject.cell))

    points = interrupt_at_every_bytecode(
        lambda subject: subject.mailbox.run(),
        lambda subject, interrupted: subject.check(),
        prepare=prepare,
        modules=("pollin_actors.otp.turns", "pollin_actors.otp.ends", "pollin_actors.otp.cell"),
        error=abandon,
    )
    assert points > 200


def test_a_supervisor_survives_that_gives_up_on_a_child_that_is_just_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It looks, finds the child alive, and the child is gone before it acts."""
    from pollin_actors.otp import mailbox as module
    from pollin_actors.otp.simulation import SimulatedTimers

    stopping, leave = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    class Slow(BlockingActor):
        def on_stop(self) -> None:
            threads.append(threading.current_thread())
            stopping.set()
            assert leave.wait(SECONDS)

    def end_before_the_new_token_is_made() -> threading.RLock:
        leave.set()
        threads[0].join(SECONDS)
        return threading.RLock()

    clock = VirtualClock()
    timers = SimulatedTimers(clock)
    runtime = Runtime(clock=clock, timers=timers).start()
    try:
        log: list[Any] = []
        children = [
            ChildSpec(id="sibling", start=lambda: Echo(log)),
            ChildSpec(id="slow", start=Slow, shutdown=1.0),
        ]
        supervisor = Supervisor.start(children, runtime=runtime, timeout=SECONDS)
        fake = SimpleNamespace(RLock=end_before_the_new_token_is_made)
        monkeypatch.setattr(module, "threading", fake)
        terminated = supervisor.ask(TerminateChild("slow"), block=False)
        assert stopping.wait(SECONDS)
        assert supervisor.ask(CountChildren(), timeout=SECONDS).specs == 2  # so the timer is set
        fire_until(timers, 1.0)
        assert terminated.get(timeout=SECONDS) is None
        assert supervisor.is_alive()
        assert log == [("start", None)]
        monkeypatch.undo()
        supervisor.stop(timeout=SECONDS)
    finally:
        leave.set()
        assert runtime.stop()


# -- answers that come later -----------------------------------------------------------------------


class AbandonedMeanwhile(Actor):
    """Its handler answers later, but by then the actor has been abandoned."""

    never_blocks: ClassVar[bool] = True

    def on_receive(self, message: Any) -> Any:
        cell = self._cell
        in_thread(lambda: cell.mailbox.abandon(cell))
        return message


def test_an_answer_that_is_promised_after_the_end_is_an_error() -> None:
    """The end has failed the answers that were owed then; this one was not among them."""
    runtime, scheduler = manual_runtime()
    ref = begin(AbandonedMeanwhile(), runtime)
    scheduler.run_all()
    never: ReplyFuture[Any] = ReplyFuture()
    asked = ref.ask(Later(never), block=False)
    assert asked.done()
    with pytest.raises(ActorDead):
        asked.get(timeout=0)


def test_a_detached_answer_that_is_promised_after_the_end_still_comes() -> None:
    """Whoever settles it does not depend on the actor."""
    runtime, scheduler = manual_runtime()
    ref = begin(AbandonedMeanwhile(), runtime)
    scheduler.run_all()
    inner: ReplyFuture[Any] = ReplyFuture()
    asked = ref.ask(Later(inner, detached=True), block=False)
    assert not asked.done()
    inner.set("answer")
    assert asked.get(timeout=0) == "answer"


def test_an_interrupt_while_somebody_elses_answer_is_put_off() -> None:
    """The caller runs another asker's message, which is answered later: that asker hears of it."""

    class Subject:
        def __init__(self) -> None:
            self.runtime, self.scheduler = manual_runtime()
            self.ref = begin(Answering(), self.runtime)
            self.scheduler.run_all()
            mailbox = self.ref._cell.mailbox
            self.inner: ReplyFuture[Any] = ReplyFuture()
            self.other: ReplyFuture[Any] = ReplyFuture()
            mailbox.queue.append(Item(self.inner, self.other, None))
            mailbox.schedule()

    def operation(subject: Subject) -> None:
        mine: ReplyFuture[Any] = ReplyFuture()
        mine.set("mine")
        subject.ref.ask(mine)

    def check(subject: Subject, interrupted: bool) -> None:
        subject.scheduler.run_all()
        subject.inner.set("answer")
        assert subject.other.done(), "the other asker waits for ever"
        try:
            assert subject.other.get(timeout=0) == "answer"
        except ActorDead:
            assert interrupted

    points = interrupt_at_every_bytecode(
        operation,
        check,
        prepare=Subject,
        modules=(
            "pollin_actors.otp.turns",
            "pollin_actors.otp.ends",
            "pollin_actors.otp.cell",
            "tests.otp.actors",
        ),
    )
    assert points > 100


# -- interrupts ------------------------------------------------------------------------------------


def test_an_actor_whose_end_is_interrupted_says_that_it_is_dead() -> None:
    """Whatever an interrupt left undone is done by the time the next incarnation is there."""

    class Died(Exception):
        pass

    class Subject:
        def __init__(self) -> None:
            self.runtime, self.scheduler = manual_runtime()
            spec = ChildSpec(id="echo", name="echo", start=Echo)
            self.top = begin(Supervisor([spec], max_restarts=9), self.runtime)
            self.scheduler.run_all()
            found = self.runtime.registry.whereis("echo")
            assert found is not None
            self.ref = found
            self.monitor = found.monitor()

    def operation(subject: Subject) -> None:
        with pytest.raises(Died):
            subject.runtime.registry.ask("echo", Died()).get()

    def check(subject: Subject, interrupted: bool) -> None:
        subject.scheduler.run_all()
        if not subject.top.is_alive():
            return  # the interrupt struck the supervisor's own turn
        hello = subject.runtime.registry.ask("echo", "hello")
        subject.scheduler.run_all()
        assert hello.get(timeout=0) == "hello"
        assert subject.runtime.registry.whereis("echo") is not subject.ref
        assert not subject.ref.is_alive()
        assert subject.monitor.done()

    points = interrupt_at_every_bytecode(
        operation, check, prepare=Subject, modules=("pollin_actors.otp.cell",)
    )
    assert points > 50


def test_timers_go_on_after_an_interrupt_of_whoever_sets_one() -> None:
    """No lock stays behind that the next one, or the thread that makes the calls, waits for."""
    made: list[ThreadTimers] = []

    def prepare() -> ThreadTimers:
        timers = ThreadTimers(VirtualClock())
        timers.start()
        made.append(timers)
        timers.call_later(1000.0, lambda: None)
        return timers

    def check(timers: ThreadTimers, interrupted: bool) -> None:
        called = threading.Event()
        in_thread(lambda: timers.call_later(0.0, called.set))
        assert called.wait(SECONDS), "the call is never made"
        in_thread(timers.stop)

    points = interrupt_at_every_bytecode(
        lambda timers: timers.call_later(500.0, lambda: None),
        check,
        prepare=prepare,
        modules=("pollin_actors.otp.timers", "threading", "queue"),
    )
    assert points > 10


# -- a full mailbox, and idle actors ---------------------------------------------------------------


class Small(MayBlock):
    """Takes one message at a time."""

    mailbox_bound: ClassVar[int | None] = 1


@pytest.mark.parametrize("by_ref", [False, True])
def test_a_stop_is_taken_by_a_full_mailbox(by_ref: bool) -> None:
    """It comes after what fills the mailbox, and is never refused."""
    runtime, scheduler = manual_runtime()
    log: list[Any] = []
    actor = Small(log)
    ref = begin(actor, runtime)
    scheduler.run_all()
    stopped: list[ReplyFuture[bool]] = []

    def handler() -> None:
        ref.tell("fills the mailbox")
        if by_ref:
            stopped.append(ref.stop(block=False))
        else:
            actor.stop()

    ref.tell(handler)
    scheduler.run_all()
    assert not ref.is_alive()
    assert log == [("start", None), "fills the mailbox", ("stop", None)]
    assert [future.get(timeout=0) for future in stopped] == [True] * by_ref


def test_an_actor_that_owes_an_answer_is_not_passivated() -> None:
    """It handles nothing while it waits for the answer, and yet it is not idle."""
    for seed in range(8):
        with Simulation(seed) as simulation:
            inner: ReplyFuture[Any] = ReplyFuture()
            supervisor = begin(
                DynamicSupervisor(
                    spec_for=lambda name: ChildSpec(
                        id=name, name=name, start=Answering, restart="transient"
                    ),
                    idle_after=60.0,
                ),
                simulation.runtime,
            )
            registry = simulation.runtime.registry
            registry.mailbox("a", on_demand_by(supervisor._cell.mailbox))
            asked = registry.ask("a", inner, timeout=None)
            simulation.advance(500)
            assert not asked.done()
            ref = registry.whereis("a")
            assert ref is not None
            inner.set("answer")
            assert asked.get() == "answer"
            simulation.advance(500)
            assert not ref.is_alive(), "it owes nothing any more"


def test_an_actor_that_has_come_to_owe_an_answer_ignores_its_passivation() -> None:
    """The supervisor found it idle, and before its request is read the actor has promised one."""
    runtime, scheduler = manual_runtime()
    ref = begin(Answering(), runtime)
    scheduler.run_all()
    cell = ref._cell
    inner: ReplyFuture[Any] = ReplyFuture()
    asked = ref.ask(inner, block=False)
    if_idle = ExitRequest(cell, ExitReason.NORMAL, only_if_idle=True)
    cell.mailbox.post_urgent(if_idle)
    scheduler.run_all()
    assert ref.is_alive()
    inner.set("answer")
    assert asked.get(timeout=0) == "answer"
    cell.mailbox.post_urgent(if_idle)
    scheduler.run_all()
    assert not ref.is_alive()
