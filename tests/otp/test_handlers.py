"""What handlers can say and set: stops, timers, monitors and more; and being killed."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import pykka
import pytest

from pollin_actors.otp import (
    Actor,
    ActorCrashed,
    ActorDead,
    BlockingActor,
    ChildSpec,
    DynamicSupervisor,
    ExitReason,
    ExitRecord,
    InvalidSpec,
    MailboxFull,
    NameNotFound,
    Ref,
    ReplyFuture,
    Runtime,
    Simulation,
    StartChild,
    Supervisor,
)
from pollin_actors.otp.actor import attach
from pollin_actors.otp.cell import ChildExited, ExitRequest
from pollin_actors.otp.exits import Shutdown, Stop
from pollin_actors.otp.handlers import IdleTimeout
from pollin_actors.otp.items import Item
from tests.interrupts import interrupt_at_every_bytecode
from tests.otp.actors import Echo, MayBlock, begin, in_thread, manual_runtime

SECONDS = 10.0
SEEDS = range(6)
MODULES = ("pollin_actors.otp", "tests.otp.test_handlers")


class Hooked(Actor):
    """Calls what it is sent with itself; logs its hooks and what ``on_info`` gets."""

    never_blocks: ClassVar[bool] = True

    def __init__(
        self,
        log: list[Any] | None = None,
        at_start: Callable[[Any], Any] | None = None,
        at_info: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        super().__init__()
        self.log: list[Any] = log if log is not None else []
        self._at_start = at_start
        self._at_info = at_info

    def on_start(self) -> None:
        self.log.append("start")
        if self._at_start is not None:
            self._at_start(self)

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.log.append(message)
        return message

    def on_info(self, message: Any) -> None:
        self.log.append(("info", message))
        if self._at_info is not None:
            self._at_info(self, message)

    def on_stop(self, reason: ExitReason = ExitReason.UNSTOPPED) -> None:
        self.log.append(("stop", reason))

    def on_failure(self, *_exc_info: Any) -> None:
        self.log.append("failure")


class HookedBlocking(Hooked):
    never_blocks: ClassVar[bool] = False


KINDS = [Hooked, HookedBlocking]


class Continuing(Hooked):
    def on_continue(self) -> None:
        self.log.append("continue")


def raise_(error: BaseException) -> Callable[[Any], Any]:
    def handler(actor: Any) -> Any:
        raise error

    return handler


def record_of(ref: Any) -> ExitRecord:
    record: ExitRecord = ref.monitor().get(timeout=0)
    return record


class Manual:
    """One actor on a manual scheduler, with a listener as its supervisor."""

    def __init__(self, actor: Hooked | None = None) -> None:
        self.runtime, self.scheduler = manual_runtime()
        self.actor = actor if actor is not None else Hooked()
        self.log = self.actor.log
        self.told: list[Any] = []
        told = self.told

        class Listener(Echo):
            def on_info(self, message: Any) -> None:
                told.append(message)

        listener = begin(Listener(), self.runtime)
        attach(self.actor, self.runtime, None, listener._cell.mailbox)
        self.cell = self.actor._cell
        self.mailbox = self.cell.mailbox
        self.ref: Ref[Any] = self.cell.ref
        self.scheduler.run_all()

    def exits(self) -> list[ExitRecord]:
        self.scheduler.run_all()
        return [message.record for message in self.told if isinstance(message, ChildExited)]


# -- stopping from inside --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_handler_stops_its_actor(
    kind: type[Hooked], seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """on_stop runs, the asker is answered, what is queued is not handled, nothing is logged."""
    with Simulation(seed) as simulation, caplog.at_level(logging.INFO, "pykka"):
        actor = kind()
        ref = begin(actor, simulation.runtime)
        simulation.settle()
        mailbox = ref._cell.mailbox
        asked: ReplyFuture[Any] = ReplyFuture()
        behind: ReplyFuture[Any] = ReplyFuture()
        mailbox.queue.append(Item(raise_(Stop("bye")), asked, None))
        mailbox.queue.append(Item("behind", behind, None))
        mailbox.schedule()
        simulation.settle()
        assert asked.get() == "bye"
        with pytest.raises(ActorDead) as caught:
            behind.get()
        assert caught.value.reason is ExitReason.NORMAL
        assert actor.log == ["start", ("stop", ExitReason.NORMAL)]
        record = record_of(ref)
        assert (record.reason, record.exception, record.detail) == (ExitReason.NORMAL, None, None)
        assert record.started
        assert not caplog.records


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_without_a_reply_is_an_error_for_who_asked(kind: type[Hooked]) -> None:
    subject = Manual(kind())
    detail = {"why": "done"}
    asked = subject.ref.ask(raise_(Shutdown(detail)), block=False)
    subject.scheduler.run_all()
    with pytest.raises(ActorDead, match="it ended: shutdown") as caught:
        asked.get(timeout=0)
    (record,) = subject.exits()
    assert caught.value.record == record
    assert (record.reason, record.detail) == (ExitReason.SHUTDOWN, detail)
    assert subject.log == ["start", ("stop", ExitReason.SHUTDOWN)]


def test_none_is_a_reply() -> None:
    """``Stop(None)`` answers None, ``Stop()`` answers nothing."""
    subject = Manual()
    assert subject.ref.ask(raise_(Stop(None)), timeout=0) is None


def test_a_stop_is_no_reply_and_is_not_ignored() -> None:
    """It wins over what the class declares about exceptions."""

    class Lenient(Hooked):
        replies: ClassVar[tuple[type[Exception], ...]] = (Exception,)
        ignored_in_tell: ClassVar[tuple[type[Exception], ...]] = (Exception,)

    asked, told = Manual(Lenient()), Manual(Lenient())
    assert asked.ref.ask(raise_(Stop("bye")), timeout=0) == "bye"
    told.ref.tell(raise_(Stop("bye")))
    for subject in (asked, told):
        assert [record.reason for record in subject.exits()] == [ExitReason.NORMAL]


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(1)])
@pytest.mark.parametrize("stop", [Stop("bye"), Stop()])
def test_the_asker_is_answered_although_on_stop_fails(
    stop: Stop, error: BaseException, foreign: bool
) -> None:
    """The record is that of a crash; the reply is given all the same.

    What is no Exception is raised again in a caller's thread, and in no other.
    """

    class Failing(HookedBlocking):
        def on_stop(self, *_: Any) -> None:
            raise error

    subject = Manual(Failing())
    mailbox = subject.mailbox
    asked: ReplyFuture[Any] = ReplyFuture()
    mailbox.queue.append(Item(raise_(stop), asked, None))
    if isinstance(error, Exception) or not foreign:
        mailbox.run(foreign=foreign)
    else:
        with pytest.raises(SystemExit):
            mailbox.run(foreign=True)
    (record,) = subject.exits()
    assert (record.reason, record.exception) == (ExitReason.CRASH, error)
    if stop.reply == "bye":
        assert asked.get(timeout=0) == "bye"
    else:
        with pytest.raises(ActorCrashed) as caught:
            asked.get(timeout=0)
        assert caught.value.__cause__ is error


def test_a_start_that_stops() -> None:
    """It has never been started, so its on_stop does not run."""
    subject = Manual(Hooked(at_start=raise_(Shutdown("not now"))))
    (record,) = subject.exits()
    assert (record.reason, record.started, record.detail) == (
        ExitReason.SHUTDOWN,
        False,
        "not now",
    )
    assert subject.log == ["start"]


def test_an_info_that_stops() -> None:
    def at_info(actor: Any, message: Any) -> None:
        raise Shutdown(message)

    for seed in SEEDS:
        with Simulation(seed) as simulation:
            actor = Hooked(at_start=lambda a: a.send_after(1.0, "x"), at_info=at_info)
            ref = begin(actor, simulation.runtime)
            simulation.advance(1.0)
            assert actor.log == ["start", ("info", "x"), ("stop", ExitReason.SHUTDOWN)]
            assert record_of(ref).detail == "x"


@pytest.mark.parametrize(
    ("restart", "starts"), [("permanent", 2), ("transient", 1), ("temporary", 1)]
)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_supervisor_and_a_child_that_stops_itself(seed: int, restart: Any, starts: int) -> None:
    with Simulation(seed) as simulation:
        log: list[Any] = []
        spec = ChildSpec(id="a", name="a", start=lambda: Hooked(log), restart=restart)
        Supervisor.start([spec], runtime=simulation.runtime)
        assert simulation.runtime.registry.ask("a", raise_(Stop("bye"))).get() == "bye"
        simulation.settle()
        assert log.count("start") == starts


def test_a_supervisor_that_raises_stop_ends_after_its_children() -> None:
    class Stopping(Supervisor):
        def handle(self, message: Any) -> Any:
            if message == "stop":
                raise Stop("bye")
            return super().handle(message)

    for seed in SEEDS:
        with Simulation(seed) as simulation:
            log: list[Any] = []
            top = begin(
                Stopping([ChildSpec(id="a", start=partial(Hooked, log))]), simulation.runtime
            )
            simulation.settle()
            assert top.ask("stop") == "bye"
            simulation.settle()
            assert record_of(top).reason is ExitReason.NORMAL
            assert log == ["start", ("stop", ExitReason.SHUTDOWN)]


def test_an_interrupt_while_a_handler_stops_its_actor() -> None:
    """Whatever is left undone is done: one record, and the asker has an answer."""
    mine: list[ReplyFuture[Any]] = []

    def operation(subject: Manual) -> None:
        mine.clear()
        mine.append(subject.ref.ask(raise_(Stop("bye")), block=False))

    def check(subject: Manual, interrupted: bool) -> None:
        assert not subject.mailbox.token._is_owned()  # type: ignore[attr-defined]
        exits = subject.exits()
        if mine:
            assert mine[0].done()
        if not subject.ref.is_alive():
            # None if the interrupt struck the turn of who is told.
            assert all(record is record_of(subject.ref) for record in exits)
            if not interrupted:
                assert mine[0].get(timeout=0) == "bye"
                assert exits[0].reason is ExitReason.NORMAL
        else:
            assert interrupted
            assert in_thread(lambda: subject.ref.ask("hello", timeout=5)) == "hello"

    points = interrupt_at_every_bytecode(operation, check, prepare=Manual, modules=MODULES)
    assert points > 200


def test_an_interrupt_while_somebody_elses_message_stops_the_actor() -> None:
    class Subject(Manual):
        def __init__(self) -> None:
            super().__init__()
            self.other: ReplyFuture[Any] = ReplyFuture()
            self.mailbox.queue.append(Item(raise_(Stop("bye")), self.other, None))
            self.mailbox.schedule()

    def check(subject: Subject, interrupted: bool) -> None:
        subject.exits()
        assert subject.other.done()
        assert not subject.mailbox.token._is_owned()  # type: ignore[attr-defined]
        assert record_of(subject.ref).reason in (ExitReason.NORMAL, ExitReason.CRASH)

    interrupt_at_every_bytecode(
        lambda subject: subject.mailbox.run(foreign=True), check, prepare=Subject, modules=MODULES
    )


# -- on_stop ---------------------------------------------------------------------------------------


def test_on_stop_takes_the_reason_or_nothing() -> None:
    reasons: list[Any] = []

    class Reason(Echo):
        def on_stop(self, reason: ExitReason) -> None:  # type: ignore[override]
            super().on_stop()
            reasons.append(reason)

    class Plain(Actor):
        def on_stop(self) -> None:
            super().on_stop()
            reasons.append("plain")

    class Typed(Actor):
        # With a default mypy accepts it: Pykka's own takes nothing.
        def on_stop(self, reason: ExitReason = ExitReason.CRASH) -> None:
            super().on_stop(reason)
            reasons.append(reason)

    class Inherits(Typed):
        pass

    class Static(Actor):
        @staticmethod
        def on_stop(reason: ExitReason = ExitReason.CRASH) -> None:
            reasons.append(("static", reason))

    class Keyword(Actor):
        def on_stop(self, *, flag: bool = False) -> None:
            reasons.append(flag)

    class Silent(Actor):
        pass

    runtime, scheduler = manual_runtime()
    for kind in (Reason, Plain, Typed, Inherits, Static, Keyword, Silent):
        ref = begin(kind(), runtime)
        scheduler.run_all()
        stopped = ref.stop(block=False)
        scheduler.run_all()
        assert stopped.get(timeout=0) is True
    normal = ExitReason.NORMAL
    assert reasons == [normal, "plain", normal, normal, ("static", normal), False]


# -- being killed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_idle_actor_is_killed_without_its_on_stop(kind: type[Hooked]) -> None:
    subject = Manual(kind())
    waiting: ReplyFuture[Any] = ReplyFuture()
    subject.mailbox.queue.append(Item("waiting", waiting, None))
    subject.mailbox.kill(subject.cell)
    assert not subject.ref.is_alive()
    with pytest.raises(ActorDead, match="killed") as caught:
        waiting.get(timeout=0)
    assert caught.value.reason is ExitReason.KILLED
    assert [record.reason for record in subject.exits()] == [ExitReason.KILLED]
    assert subject.log == ["start"]
    subject.mailbox.kill(subject.cell)
    assert len(subject.exits()) == 1
    with pytest.raises(ActorDead, match=r"not found \(it ended: killed\)"):
        subject.ref.tell("hello")


def test_one_that_has_not_started_is_killed() -> None:
    runtime, scheduler = manual_runtime()
    log: list[Any] = []
    ref = begin(Hooked(log), runtime)
    ref._cell.mailbox.kill(ref._cell)
    scheduler.run_all()
    record = record_of(ref)
    assert (record.reason, record.started, log) == (ExitReason.KILLED, False, [])


@pytest.mark.parametrize("base", [MayBlock, BlockingActor])
def test_a_busy_actor_is_abandoned_at_once(base: Any) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Busy(base):  # type: ignore[misc]
        def on_receive(self, message: Any) -> Any:
            if message == "linger":
                entered.set()
                assert leave.wait(SECONDS)
            return message

    runtime = Runtime().start()
    try:
        ref = begin(Busy(), runtime)
        lingering = ref.ask("linger", block=False) if base is BlockingActor else None
        if lingering is None:
            ref.tell("linger")
        assert entered.wait(SECONDS)
        ref._cell.mailbox.kill(ref._cell)
        assert record_of(ref).reason is ExitReason.UNSTOPPED
    finally:
        leave.set()
        assert runtime.stop()


def test_a_killed_actors_own_thread_ends() -> None:
    runtime = Runtime().start()
    threads: list[threading.Thread] = []

    class Own(BlockingActor):
        def on_receive(self, message: Any) -> Any:
            threads.append(threading.current_thread())

    try:
        ref = begin(Own(), runtime)
        ref.ask("who", timeout=SECONDS)
        mailbox = ref._cell.mailbox
        while mailbox.token._is_owned() or not mailbox.token.acquire(False):  # type: ignore[attr-defined]
            pass  # its turn is over in a moment
        mailbox.token.release()
        mailbox.kill(ref._cell)
        assert record_of(ref).reason in (ExitReason.KILLED, ExitReason.UNSTOPPED)
        threads[0].join(SECONDS)
        assert not threads[0].is_alive()
    finally:
        assert runtime.stop()


@pytest.mark.parametrize("kind", [Echo, MayBlock])
def test_the_next_bearer_of_a_name_runs_after_a_kill(kind: type[Echo]) -> None:
    """Also if it comes while the killer holds the token."""
    runtime, scheduler = manual_runtime()
    mailbox = runtime.registry.mailbox("a")
    first, second = kind(), kind()
    cell = attach(first, runtime, mailbox)
    scheduler.run_all()
    waiting = runtime.registry.ask("a", "x", timeout=None) if kind is MayBlock else None
    taken_over: list[Any] = []
    monitor = cell.monitor()

    def take_over(_: Any) -> None:
        taken_over.append(attach(second, runtime, mailbox))
        in_thread(mailbox.run)

    monitor.add_done_callback(take_over)
    mailbox.queue.append(Item("for whoever bears it", None, None))
    mailbox.kill(cell)
    assert taken_over
    scheduler.run_all()
    assert record_of(cell.ref).reason is (ExitReason.KILLED)
    assert second.log[0] == ("start", None)
    assert second.log[-1] == "for whoever bears it"
    assert waiting is None or waiting.get(timeout=0) == "x"
    answer = runtime.registry.ask("a", "hello")
    scheduler.run_all()
    assert answer.get(timeout=0) == "hello"


def test_an_interrupt_while_an_actor_is_killed() -> None:
    """It is dead, or alive and well; never in between."""

    def check(subject: Manual, interrupted: bool) -> None:
        subject.scheduler.run_all()
        assert not subject.mailbox.token._is_owned()  # type: ignore[attr-defined]
        if subject.ref.is_alive():
            assert interrupted
            assert in_thread(lambda: subject.ref.ask("hello", timeout=5)) == "hello"
        else:
            assert record_of(subject.ref).reason is ExitReason.KILLED
            exits = subject.exits()
            assert exits
            assert all(record is exits[0] for record in exits)

    points = interrupt_at_every_bytecode(
        lambda subject: subject.mailbox.kill(subject.cell), check, prepare=Manual, modules=MODULES
    )
    assert points > 50


def test_a_kill_at_any_moment_of_a_turn() -> None:
    """Another thread kills at every bytecode of an ask: one record, and the asker is answered."""
    answers: list[ReplyFuture[Any]] = []
    subject: Manual

    def prepare() -> Manual:
        nonlocal subject
        subject = Manual()
        answers.clear()
        return subject

    def kill() -> None:
        in_thread(lambda: subject.mailbox.kill(subject.cell))

    def check(subject: Manual, interrupted: bool) -> None:
        exits = subject.exits()
        assert answers[0].done()
        if interrupted:
            assert exits
            assert all(record is exits[0] for record in exits)
            assert exits[0].reason in (ExitReason.KILLED, ExitReason.UNSTOPPED)

    points = interrupt_at_every_bytecode(
        lambda subject: answers.append(subject.ref.ask("hello", block=False)),
        check,
        prepare=prepare,
        modules=("pollin_actors.otp.mailbox", "pollin_actors.otp.turns"),
        error=kill,
    )
    assert points > 50


# -- on_continue -----------------------------------------------------------------------------------


@pytest.mark.parametrize("never_blocks", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_on_continue_comes_before_what_was_queued(seed: int, never_blocks: bool) -> None:
    """Messages that waited for the name, and those sent meanwhile, come after it."""
    kind = type("Kind", (Continuing,), {"never_blocks": never_blocks})
    with Simulation(seed) as simulation:
        registry = simulation.runtime.registry
        log: list[Any] = []
        registry.mailbox("a")
        early = registry.ask("a", "early", timeout=None)
        spec = ChildSpec(
            id="a", name="a", start=lambda: kind(log, lambda actor: actor.actor_ref.tell("own"))
        )
        Supervisor.start([spec], runtime=simulation.runtime)
        assert registry.ask("a", "late").get() == "late"
        assert early.get() == "early"
        assert log == ["start", "continue", "early", "own", "late"]


def test_an_ask_does_not_overtake_on_continue() -> None:
    """Between the two steps of the start the token is given back, and then somebody asks."""
    runtime, scheduler = manual_runtime()
    actor = Continuing()
    ref = begin(actor, runtime)
    mailbox = ref._cell.mailbox
    mailbox.run(1)
    assert actor.log == ["start"]
    assert mailbox.has_work()
    assert in_thread(lambda: ref.ask("asked", timeout=SECONDS)) == "asked"
    scheduler.run_all()
    assert actor.log == ["start", "continue", "asked"]
    assert ref._cell.caller_runs


def test_an_exit_request_does_not_overtake_on_continue() -> None:
    runtime, scheduler = manual_runtime()
    actor = Continuing()
    ref = begin(actor, runtime)
    mailbox = ref._cell.mailbox
    mailbox.run(1)
    mailbox.post_urgent(ExitRequest(ref._cell, ExitReason.SHUTDOWN))
    scheduler.run_all()
    assert actor.log == ["start", "continue", ("stop", ExitReason.SHUTDOWN)]


@pytest.mark.parametrize("error", [ValueError("a bug"), Stop(), Shutdown("enough")])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_failure_in_on_continue_is_that_of_a_started_actor(seed: int, error: Exception) -> None:
    class Failing(Hooked):
        def on_continue(self) -> None:
            self.log.append("continue")
            if self.log.count("start") == 1:
                raise error

    with Simulation(seed) as simulation:
        log: list[Any] = []
        top = begin(DynamicSupervisor(), simulation.runtime)
        spec = ChildSpec(id="a", name="a", start=lambda: Failing(log))
        # The start does not wait for it, and is no failure.
        first: Ref[Any] = top.ask(StartChild(spec))
        simulation.settle()
        assert simulation.runtime.registry.ask("a", "hello").get() == "hello"
        record = record_of(first)
        assert record.started
        if isinstance(error, Stop):
            assert (record.reason, record.detail) == (error.reason, error.detail)
            last: Any = ("stop", error.reason)
        else:
            assert record.exception is error
            last = "failure"
        assert log == ["start", "continue", last, "start", "continue", "hello"]


def test_an_interrupt_in_on_continue_crashes_the_actor() -> None:
    class Subject:
        def __init__(self) -> None:
            self.runtime, self.scheduler = manual_runtime()
            self.actor = Continuing()
            self.ref = begin(self.actor, self.runtime)
            self.mailbox = self.ref._cell.mailbox
            self.mailbox.run(1)

    def check(subject: Subject, interrupted: bool) -> None:
        subject.scheduler.run_all()
        assert not subject.mailbox.token._is_owned()  # type: ignore[attr-defined]
        if subject.ref.is_alive():
            assert in_thread(lambda: subject.ref.ask("x", timeout=5)) == "x"
            assert subject.actor.log == ["start", "continue", "x"]
        else:
            assert interrupted
            assert isinstance(record_of(subject.ref).exception, KeyboardInterrupt)

    interrupt_at_every_bytecode(
        lambda subject: subject.mailbox.run(foreign=True), check, prepare=Subject, modules=MODULES
    )


# -- timers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_send_after(kind: type[Hooked], seed: int) -> None:
    with Simulation(seed) as simulation:
        timers: list[Any] = []
        actor = kind(at_start=lambda a: timers.append(a.send_after(2.5, "x")))
        begin(actor, simulation.runtime)
        simulation.advance(2.4)
        assert actor.log == ["start"]
        simulation.advance(0.2)
        simulation.advance(100)
        assert actor.log == ["start", ("info", "x")]
        assert timers[0].cancel() is False
        assert not actor._cell.extras.timers  # type: ignore[union-attr]


def test_an_info_comes_in_order_and_past_the_bound() -> None:
    class Bounded(Hooked):
        mailbox_bound: ClassVar[int | None] = 2
        never_blocks: ClassVar[bool] = False

    with Simulation(1) as simulation:
        actor = Bounded(at_start=lambda a: a.send_after(1.0, "tick"))
        ref = begin(actor, simulation.runtime)
        simulation.settle()
        ref.tell("a")
        ref.tell("b")
        with pytest.raises(MailboxFull):
            ref.tell("c")
        simulation.timers.fire_next()
        simulation.settle()
        assert actor.log == ["start", "a", "b", ("info", "tick")]


@pytest.mark.parametrize("every", [True, False])
def test_a_timer_is_cancelled_although_its_message_is_queued(every: bool) -> None:
    with Simulation(3) as simulation:
        timers: list[Any] = []
        results: list[bool] = []

        def at_start(actor: Any) -> None:
            set_timer = actor.send_every if every else actor.send_after
            timers.append(set_timer(1.0, "tick"))

        actor = Hooked(at_start=at_start)
        ref = begin(actor, simulation.runtime)
        simulation.settle()
        ref.tell(lambda _: results.append(timers[0].cancel()))
        simulation.timers.fire_next()
        assert len(ref._cell.mailbox.queue) == 2
        simulation.settle()
        simulation.advance(100)
        assert actor.log == ["start"]
        assert results == [True]
        assert timers[0].cancel() is True


@pytest.mark.parametrize("seed", SEEDS)
def test_send_every_keeps_its_phase_and_never_piles_up(seed: int) -> None:
    with Simulation(seed) as simulation:
        clock = simulation.clock
        at: list[float] = []
        pauses = {0.5: 1.7}

        class Slow(MayBlock):
            def on_start(self) -> None:
                self.send_every(0.5, "tick")

            def on_info(self, message: Any) -> None:
                now = clock.monotonic()
                at.append(now)
                if now in pauses:
                    with pytest.raises(pykka.Timeout):
                        ReplyFuture[Any]().get(timeout=pauses[now])

        begin(Slow(), simulation.runtime)
        simulation.advance(4.0)
        # Set for 1.0 when the first was handled; handled at 2.2, and then in phase again.
        assert at == pytest.approx([0.5, 2.2, 2.5, 3.0, 3.5, 4.0])


def test_an_interval_goes_on_for_ever_without_drift() -> None:
    with Simulation(0) as simulation:
        at: list[float] = []
        actor = Hooked(
            at_start=lambda a: a.send_every(0.1, "tick"),
            at_info=lambda _a, _m: at.append(simulation.clock.monotonic()),
        )
        begin(actor, simulation.runtime)
        simulation.advance(1000.05)
        assert len(at) == 10_000
        assert at[-1] == pytest.approx(1000.0, abs=1e-9)


@pytest.mark.parametrize("restarts_by", ["crash", "stop", "kill", "abandon"])
@pytest.mark.parametrize("seed", SEEDS)
def test_timers_of_a_dead_incarnation_never_reach_the_next(seed: int, restarts_by: str) -> None:
    with Simulation(seed) as simulation:
        numbers = iter(range(1, 100))
        log: list[Any] = []

        def at_start(actor: Any) -> None:
            number = next(numbers)
            actor.send_every(1.0, number)
            actor.send_after(2.0, -number)

        spec = ChildSpec(id="a", name="a", start=lambda: Hooked(log, at_start))
        Supervisor.start([spec], runtime=simulation.runtime)
        simulation.settle()
        mailbox = simulation.runtime.registry.mailbox("a")
        first = mailbox.cell
        assert first is not None
        simulation.timers.fire_next()  # it lies in the queue at the end
        if restarts_by == "crash":
            first.mailbox.queue.appendleft(Item(raise_(ValueError()), None, first))
        elif restarts_by == "stop":
            first.mailbox.queue.appendleft(Item(raise_(Stop()), None, first))
        elif restarts_by == "kill":
            mailbox.kill(first)
        else:
            mailbox.abandon(first)
        simulation.advance(2.5)
        assert ("info", 1) not in log
        assert ("info", -1) not in log
        assert ("info", 2) in log
        assert ("info", -2) in log


def test_ten_thousand_restarts_with_long_timers_leave_nothing_behind() -> None:
    with Simulation(0) as simulation:
        registry = simulation.runtime.registry
        actors: weakref.WeakSet[Any] = weakref.WeakSet()

        def at_start(actor: Any) -> None:
            actors.add(actor)
            actor.send_after(1e6, bytearray(1000))
            actor.send_every(1e6, bytearray(1000))
            actor.set_idle_timeout(1e6)

        spec = ChildSpec(id="a", name="a", start=lambda: Hooked(None, at_start))
        top = Supervisor([spec], max_restarts=20_000)
        begin(top, simulation.runtime)
        simulation.settle()
        for _ in range(10_000):
            registry.tell("a", raise_(Stop()))
            simulation.settle()
        gc.collect()
        assert len(simulation.timers._heap) < 100
        assert len(simulation.timers._heap.cancels) < 100
        assert len(actors) <= 2
        assert len(registry.mailbox("a").queue) == 0


def test_a_message_to_another_actor() -> None:
    """It is an ordinary message there; to the dead and to strangers' names it is dropped."""
    for seed in SEEDS:
        with Simulation(seed) as simulation:
            registry = simulation.runtime.registry
            actor, other = Hooked(), Hooked()
            ref, target = begin(actor, simulation.runtime), begin(other, simulation.runtime)
            log: list[Any] = []
            named = ChildSpec(id="n", name="n", start=partial(Hooked, log))
            Supervisor.start([named], runtime=simulation.runtime)
            timers = ref.ask(
                lambda a, t=target: [
                    a.send_after(1.0, "by ref", to=t),
                    a.send_after(2.0, "by name", to="n"),
                    a.send_after(3.0, "nobody", to="never borne"),
                    a.send_after(4.0, "too late", to=t),
                    a.send_after(2.5, "cancelled", to=t),
                ]
            )
            assert timers[-1].cancel() is True
            simulation.advance(3.5)
            target.stop()
            simulation.advance(10)
            assert other.log == ["start", "by ref", ("stop", ExitReason.NORMAL)]
            assert log == ["start", "by name"]
            assert [timer.cancel() for timer in timers] == [False, False, False, False, True]
            assert registry.find("never borne") is None
            assert ref.is_alive()


def test_a_timer_of_an_actor_that_has_ended_tells_nobody() -> None:
    with Simulation(0) as simulation:
        other = Hooked()
        target = begin(other, simulation.runtime)
        ref = begin(Hooked(), simulation.runtime)
        ref.ask(lambda a: a.send_after(1.0, "x", to=target))
        ref.stop()
        simulation.advance(5)
        assert other.log == ["start"]


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", None, True, 10**400])
def test_delays_and_intervals_are_validated(value: Any) -> None:
    subject = Manual()
    for call in (
        subject.actor.send_after,
        subject.actor.send_every,
    ):
        with pytest.raises(InvalidSpec, match="expected finite seconds"):
            call(value, "x")
    with pytest.raises(InvalidSpec, match="interval"):
        subject.actor.send_every(0, "x")
    if value is not None:
        with pytest.raises(InvalidSpec, match="seconds > 0 or None"):
            subject.actor.set_idle_timeout(value)
        with pytest.raises(InvalidSpec, match=r"Wrong\.idle_timeout"):
            type("Wrong", (Actor,), {"idle_timeout": value})


@pytest.mark.parametrize(
    "call",
    [
        lambda a: a.send_after(1, "x"),
        lambda a: a.send_every(1, "x"),
        lambda a: a.set_idle_timeout(1),
        lambda a: a.monitor("x"),
    ],
)
def test_too_early(call: Callable[[Any], Any]) -> None:
    with pytest.raises(RuntimeError, match="call it in on_start"):
        call(Hooked())


def test_real_timers() -> None:
    """On real threads, with every class of actor."""
    runtime = Runtime().start()
    try:
        for base in (Echo, MayBlock, BlockingActor):
            ticked = threading.Event()

            class Ticking(base):  # type: ignore[misc, valid-type]
                def on_start(self) -> None:
                    self.ticks = 0
                    self.send_every(0.001, "tick")

                def on_info(self, message: Any, ticked: Any = ticked) -> None:
                    self.ticks += 1
                    if self.ticks == 5:
                        ticked.set()
                        raise Stop

            ref = begin(Ticking(), runtime)
            assert ticked.wait(SECONDS)
            assert ref.monitor().get(timeout=SECONDS).reason is ExitReason.NORMAL
    finally:
        assert runtime.stop()


def test_an_exception_in_on_info_is_a_crash() -> None:
    class Lenient(Hooked):
        ignored_in_tell: ClassVar[tuple[type[Exception], ...]] = (Exception,)

    def at_info(actor: Any, message: Any) -> None:
        raise ValueError("a bug")

    with Simulation(0) as simulation:
        actor = Lenient(at_start=lambda a: a.send_after(1.0, "x"), at_info=at_info)
        ref = begin(actor, simulation.runtime)
        simulation.advance(2.0)
        record = record_of(ref)
        assert (record.reason, record.last_message) == (ExitReason.CRASH, "x")
        assert actor.log == ["start", ("info", "x"), "failure"]


# -- idleness --------------------------------------------------------------------------------------


class Idling(Hooked):
    idle_timeout: ClassVar[float | None] = 10.0


@pytest.mark.parametrize("never_blocks", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_idle_timeout_is_exact_and_comes_once(seed: int, never_blocks: bool) -> None:
    kind = type("Kind", (Idling,), {"never_blocks": never_blocks})
    with Simulation(seed) as simulation:
        at: list[float] = []
        actor = kind(at_info=lambda _a, _m: at.append(simulation.clock.monotonic()))
        ref = begin(actor, simulation.runtime)
        simulation.settle()
        simulation.advance(7.3)
        ref.tell("x")
        simulation.advance(3.1)
        ref.ask("y")
        simulation.advance(500)
        assert at == [pytest.approx(7.3 + 3.1 + 10.0, abs=1e-9)]
        assert actor.log[-1] == ("info", IdleTimeout())
        start = simulation.clock.monotonic()
        ref.tell("z")
        simulation.advance(500)
        assert at[1:] == [pytest.approx(start + 10.0, abs=1e-9)]
        assert simulation.timers.next_due() is None


def test_infos_count_and_so_does_what_is_queued() -> None:
    with Simulation(2) as simulation:
        at: list[tuple[Any, float]] = []
        actor = Idling(
            at_start=lambda a: a.send_after(6.0, "tick"),
            at_info=lambda _a, m: at.append((m, simulation.clock.monotonic())),
        )
        ref = begin(actor, simulation.runtime)
        simulation.settle()
        simulation.advance(15.5)
        assert at == [("tick", 6.0)]
        simulation.timers.fire_next()  # the time-out is in the queue, and a message behind it
        assert simulation.clock.monotonic() == 16.0
        ref.tell("behind")
        simulation.settle()
        assert at == [("tick", 6.0)]
        simulation.advance(100)
        assert at == [("tick", 6.0), (IdleTimeout(), 26.0)]


def test_it_is_set_for_one_actor() -> None:
    with Simulation(5) as simulation:
        at: list[float] = []
        actor = Hooked(at_info=lambda _a, _m: at.append(simulation.clock.monotonic()))
        ref = begin(actor, simulation.runtime)
        simulation.settle()
        ref.tell(lambda a: a.set_idle_timeout(3.0))
        simulation.advance(2.0)
        ref.tell(lambda a: a.set_idle_timeout(1.0))
        simulation.advance(20.0)
        assert at == [3.0]
        ref.tell(lambda a: a.set_idle_timeout(None))
        simulation.advance(20.0)
        ref.tell("x")
        simulation.advance(20.0)
        assert at == [3.0]
        ref.tell(lambda a: a.set_idle_timeout(4.0))
        simulation.advance(20.0)
        assert at == [3.0, 66.0]


def test_one_that_is_set_in_on_start_wins_over_the_class() -> None:
    with Simulation(5) as simulation:
        actor = Idling(at_start=lambda a: a.set_idle_timeout(None))
        begin(actor, simulation.runtime)
        simulation.advance(100.0)
        assert actor.log == ["start"]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_idle_actor_ends_itself(seed: int) -> None:
    def at_info(actor: Any, message: Any) -> None:
        raise Stop

    with Simulation(seed) as simulation:
        log: list[Any] = []
        top = begin(DynamicSupervisor(), simulation.runtime)
        spec = ChildSpec(
            id="a",
            name="a",
            start=lambda: Idling(log, at_info=at_info),
            restart="temporary",
        )
        ref: Ref[Any] = top.ask(StartChild(spec))
        simulation.advance(9.0)
        assert simulation.runtime.registry.ask("a", "x").get() == "x"
        simulation.advance(9.9)
        assert ref.is_alive()
        simulation.advance(0.2)
        assert record_of(ref).reason is ExitReason.NORMAL
        assert simulation.timers.next_due() is None


def test_who_has_no_idle_timeout_has_no_wrapper() -> None:
    subject = Manual()
    assert subject.cell.handle == subject.actor._receive
    assert subject.cell.extras is None


def test_a_reply_that_is_an_exception_counts_as_handled() -> None:
    class Refusing(Idling):
        replies: ClassVar[tuple[type[Exception], ...]] = (ValueError,)

    with Simulation(0) as simulation:
        at: list[float] = []
        actor = Refusing(at_info=lambda _a, _m: at.append(simulation.clock.monotonic()))
        ref = begin(actor, simulation.runtime)
        simulation.settle()
        simulation.advance(5.0)
        with pytest.raises(ValueError, match="no"):
            ref.ask(raise_(ValueError("no")))
        simulation.advance(100.0)
        assert at == [15.0]


# -- monitors --------------------------------------------------------------------------------------


def infos(actor: Hooked) -> list[Any]:
    return [entry[1] for entry in actor.log if isinstance(entry, tuple) and entry[0] == "info"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_monitor_brings_the_record_once(kind: type[Hooked], dead: bool, seed: int) -> None:
    with Simulation(seed) as simulation:
        watcher = kind()
        ref = begin(watcher, simulation.runtime)
        target = begin(Hooked(), simulation.runtime)
        simulation.settle()
        if dead:
            target.stop()
        monitors = ref.ask(lambda a: [a.monitor(target), a.monitor(target)])
        simulation.settle()
        if not dead:
            assert infos(watcher) == []
            assert len(target._cell.monitors) == 2
            target.tell(raise_(Shutdown("enough")))
        simulation.settle()
        record = record_of(target)
        assert infos(watcher) == [record, record]
        assert all(monitor.ref is target for monitor in monitors)
        assert not watcher._cell.extras.monitors  # type: ignore[union-attr]
        assert not target._cell.monitors
        target._cell.told = False
        target._cell.finish()  # as if its own thread came after who abandoned it
        simulation.settle()
        assert infos(watcher) == [record, record]


def test_one_that_is_abandoned_and_ends_later_is_told_of_once() -> None:
    runtime, scheduler = manual_runtime()
    watcher = Hooked()
    ref = begin(watcher, runtime)
    entered, leave = threading.Event(), threading.Event()

    class Lingering(HookedBlocking):
        def on_receive(self, message: Any) -> Any:
            entered.set()
            assert leave.wait(SECONDS)
            raise ValueError("after it was abandoned")

    target = begin(Lingering(), runtime)
    scheduler.run_all()
    ref.ask(lambda a: a.monitor(target))
    target._cell.mailbox.queue.append(Item("linger", None, None))
    thread = threading.Thread(target=target._cell.mailbox.run)
    thread.start()
    assert entered.wait(SECONDS)
    target._cell.mailbox.abandon(target._cell)
    leave.set()
    thread.join(SECONDS)
    scheduler.run_all()
    assert [record.reason for record in infos(watcher)] == [ExitReason.UNSTOPPED]


def test_a_monitor_that_comes_at_any_moment_of_an_end() -> None:
    """Another thread's actor begins to watch at every bytecode of the end: one record each."""
    watcher: Hooked
    watchers: list[Hooked] = []
    target: Ref[Any]
    scheduler: Any

    def prepare() -> Ref[Any]:
        nonlocal watcher, target, scheduler
        runtime, scheduler = manual_runtime()
        watcher = Hooked()
        begin(watcher, runtime)
        target = begin(Hooked(), runtime)
        scheduler.run_all()
        return target

    def watch() -> None:
        in_thread(lambda: watcher.actor_ref.ask(lambda a: a.monitor(target), timeout=SECONDS))

    def check(_: Any, interrupted: bool) -> None:
        scheduler.run_all()
        watchers.append(watcher)
        assert len(infos(watcher)) == (1 if interrupted else 0)

    points = interrupt_at_every_bytecode(
        lambda ref: ref.stop(block=False),
        check,
        prepare=prepare,
        modules=("pollin_actors.otp.cell", "pollin_actors.otp.ends"),
        error=watch,
    )
    assert points > 50


def test_an_interrupt_of_an_end_loses_no_record_of_monitors() -> None:
    class Subject:
        def __init__(self) -> None:
            self.runtime, self.scheduler = manual_runtime()
            self.watcher = Hooked()
            ref = begin(self.watcher, self.runtime)
            self.target = begin(Hooked(), self.runtime)
            self.scheduler.run_all()
            ref.ask(lambda a: a.monitor(self.target))

    def check(subject: Subject, interrupted: bool) -> None:
        subject.scheduler.run_all()
        assert len(infos(subject.watcher)) == (0 if subject.target.is_alive() else 1)

    interrupt_at_every_bytecode(
        lambda subject: subject.target.stop(block=False), check, prepare=Subject, modules=MODULES
    )


@pytest.mark.parametrize("queued", [False, True])
def test_a_cancelled_monitor_brings_nothing(queued: bool) -> None:
    with Simulation(1) as simulation:
        watcher = Hooked()
        ref = begin(watcher, simulation.runtime)
        target = begin(Hooked(), simulation.runtime)
        simulation.settle()
        monitor = ref.ask(lambda a: a.monitor(target))
        if queued:
            watcher._cell.mailbox.queue.append(Item(lambda _: monitor.cancel(), None, None))
            target._cell.mailbox.kill(target._cell)
            assert len(watcher._cell.mailbox.queue) == 2
        else:
            ref.tell(lambda _: monitor.cancel())
            simulation.settle()
            assert not target._cell.monitors
            target.stop()
        simulation.settle()
        assert infos(watcher) == []


def test_names() -> None:
    """Who bears it now; who bore it last; nobody ever did."""
    with Simulation(4) as simulation:
        registry = simulation.runtime.registry
        watcher = Hooked()
        ref = begin(watcher, simulation.runtime)
        simulation.settle()
        registry.mailbox("named, never borne")
        for name in ("never heard of", "named, never borne"):
            with pytest.raises(NameNotFound):
                watcher.monitor(name)
        spec = ChildSpec(id="a", name="a", start=Hooked, restart="transient")
        Supervisor.start([spec], runtime=simulation.runtime)
        first = registry.whereis("a")
        ref.ask(lambda a: a.monitor("a"))
        registry.tell("a", raise_(ValueError("a bug")))
        simulation.settle()
        assert [record.ref for record in infos(watcher)] == [first]
        second = registry.whereis("a")
        assert second is not first
        registry.tell("a", raise_(Stop()))
        simulation.settle()
        ref.ask(lambda a: a.monitor("a"))
        simulation.settle()
        assert [record.ref for record in infos(watcher)] == [first, second]


def test_what_cannot_be_monitored() -> None:
    subject = Manual()

    class Foreign(pykka.ThreadingActor):
        use_daemon_thread = True

    foreign = Foreign.start()
    try:
        with pytest.raises(TypeError, match="expected a Ref of a pollin_actors Actor, got"):
            subject.actor.monitor(foreign)
    finally:
        foreign.stop()
    with pytest.raises(TypeError, match="expected a Ref or a registered name, got"):
        subject.actor.monitor([])  # type: ignore[arg-type]


def test_watchers_that_come_and_go_leave_nothing_behind() -> None:
    with Simulation(0) as simulation:
        target = begin(Hooked(), simulation.runtime)
        actors: weakref.WeakSet[Any] = weakref.WeakSet()
        watcher: Any
        ref: Any
        for number in range(300):
            watcher = Hooked()
            actors.add(watcher)
            ref = begin(watcher, simulation.runtime)
            ref.ask(lambda a: a.monitor(target))
            if number % 3 == 0:
                ref._cell.mailbox.kill(ref._cell)
            elif number % 3 == 1:
                ref._cell.mailbox.abandon(ref._cell)
            else:
                ref.stop()
            simulation.settle()
        watcher = ref = None
        gc.collect()
        assert not target._cell.monitors
        assert len(actors) == 0


def test_a_record_for_a_dead_incarnation_does_not_reach_the_next() -> None:
    for seed in SEEDS:
        with Simulation(seed) as simulation:
            registry = simulation.runtime.registry
            target = begin(Hooked(), simulation.runtime)
            log: list[Any] = []
            spec = ChildSpec(id="a", name="a", start=partial(Hooked, log))
            Supervisor.start([spec], runtime=simulation.runtime)

            def watch(actor: Any, target: Any = target) -> None:
                actor.monitor(target)

            registry.ask("a", watch).get()
            target._cell.mailbox.kill(target._cell)
            mailbox = registry.mailbox("a")
            mailbox.queue.appendleft(Item(raise_(ValueError()), None, None))
            simulation.settle()
            assert log == ["start", "failure", "start"]
            assert not mailbox.queue


def test_a_turn_of_an_abandoned_actor_sets_nothing() -> None:
    """Its incarnation is over: what its thread still sets is cancelled at once."""
    with Simulation(0) as simulation:
        target = begin(Hooked(), simulation.runtime)
        ref = begin(HookedBlocking(), simulation.runtime)
        simulation.settle()

        def handler(actor: Any) -> None:
            actor._cell.mailbox.abandon(actor._cell)
            actor.send_after(1.0, "x")
            actor.send_every(1.0, "x")
            actor.send_after(1.0, "x", to=target)
            actor.set_idle_timeout(1.0)
            actor.monitor(target)

        ref.tell(handler)
        simulation.settle()
        assert simulation.timers.next_due() is None
        assert not target._cell.monitors
        extras = ref._cell.extras
        assert extras is not None
        assert not extras.timers
        assert not extras.monitors


# -- what a crash says -----------------------------------------------------------------------------


def test_a_crash_record_says_types_and_no_values() -> None:
    class Secretive(Hooked):
        def __init__(self) -> None:
            super().__init__()
            self.password = "hunter2"
            self._hidden = "hunter3"

    subject = Manual(Secretive())
    with pytest.raises(ValueError, match="a bug"):
        subject.ref.ask(raise_(ValueError("a bug")))
    (record,) = subject.exits()
    assert record.state == {"log": "list", "password": "str"}


def test_format_state_is_called_before_on_failure_and_may_fail() -> None:
    class Own(Hooked):
        def format_state(self) -> Any:
            self.log.append("format")
            if len(self.log) > 2:
                raise ValueError("hunter2")
            return len(self.log)

    subject, failing = Manual(Own()), Manual(Own(["something"]))
    for each in (subject, failing):
        with pytest.raises(ZeroDivisionError):
            each.ref.ask(lambda _: 1 / 0)
    assert subject.exits()[0].state == 2
    assert subject.log == ["start", "format", "failure"]
    assert failing.exits()[0].state == "format_state raised ValueError"
    assert failing.log[-1] == "failure"
    ended = Manual(Own())
    ended.ref.stop()
    assert ended.exits()[0].state is None
    assert "format" not in ended.log


def test_a_format_state_that_raises_an_interrupt_leaves_nothing_undone() -> None:
    class Own(HookedBlocking):
        def format_state(self) -> Any:
            raise KeyboardInterrupt

    subject = Manual(Own())
    asked: ReplyFuture[Any] = ReplyFuture()
    subject.mailbox.queue.append(Item(raise_(ValueError("a bug")), asked, None))
    with pytest.raises(KeyboardInterrupt):
        subject.mailbox.run()
    assert asked.done()
    assert not subject.mailbox.token._is_owned()  # type: ignore[attr-defined]
    assert [record.reason for record in subject.exits()] == [ExitReason.CRASH]


@pytest.mark.parametrize("end", ["crash", "stop", "shutdown", "kill", "abandon"])
def test_errors_of_the_dead_say_why(end: str) -> None:
    subject = Manual(HookedBlocking())
    reason = {
        "crash": ExitReason.CRASH,
        "stop": ExitReason.NORMAL,
        "shutdown": ExitReason.SHUTDOWN,
        "kill": ExitReason.KILLED,
        "abandon": ExitReason.UNSTOPPED,
    }[end]
    if end == "crash":
        subject.ref.tell(raise_(ValueError("a bug")))
    elif end == "stop":
        subject.ref.tell(raise_(Stop()))
    elif end == "shutdown":
        subject.mailbox.post_urgent(ExitRequest(subject.cell, ExitReason.SHUTDOWN))
    elif end == "kill":
        subject.mailbox.kill(subject.cell)
    else:
        subject.mailbox.abandon(subject.cell)
    (record,) = subject.exits()
    with pytest.raises(ActorDead) as caught:
        subject.ref.tell("hello")
    assert caught.value.record is record
    assert caught.value.reason is reason
    assert (f"(it ended: {reason})" in str(caught.value)) == (end != "stop")
    asked = subject.ref.ask("hello", block=False)
    with pytest.raises(ActorDead) as asked_error:
        asked.get(timeout=0)
    assert asked_error.value.reason is reason
