"""What comes between two steps of an end, a start or a close, and what must not be lost over it.

Where it matters at which place another thread comes in, a hook lets it come in there; where it
could be any, it comes in at every bytecode, one run for each.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from pollin_actors.otp import (
    Actor,
    ActorDead,
    BlockingActor,
    ExitReason,
    Later,
    ReplyFuture,
    Runtime,
    Simulation,
    Stop,
    Supervisor,
    start_actor,
)
from pollin_actors.otp.actor import attach
from pollin_actors.otp.cell import ChildExited, Status
from pollin_actors.otp.handlers import IdleTimeout
from pollin_actors.otp.items import Item
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.otp.pool import OwnThread, ThreadPool
from tests.interrupts import interrupt_at
from tests.otp.actors import Echo, MayBlock, begin, in_thread, manual_runtime

SECONDS = 10.0


def at_every_bytecode(
    modules: list[str],
    prepare: Callable[[], Any],
    operation: Callable[[Any], object],
    meanwhile: Callable[[Any], object],
    check: Callable[[Any, bool], object],
) -> int:
    """Run the operation on fresh subjects; another thread comes in one instruction later each."""
    number, reached = 0, True
    while reached:
        subject = prepare()
        come_in = partial(in_thread, partial(meanwhile, subject))
        reached = interrupt_at(number, partial(operation, subject), modules, come_in)
        check(subject, reached)
        number += 1
    return number


# -- messages --------------------------------------------------------------------------------------


class HookedQueue(deque[Any]):
    """Calls a hook when its head is looked at for the first time."""

    hooks: list[Callable[[], object]]

    def __getitem__(self, index: Any) -> Any:
        while self.hooks:
            self.hooks.pop()()
        return super().__getitem__(index)


@pytest.mark.parametrize("how", ["kill", "abandon"])
def test_a_message_that_a_shut_out_thread_takes_is_handed_back(how: str) -> None:
    """It had not begun with it: the next incarnation handles all messages, and in order."""
    runtime, scheduler = manual_runtime()
    mailbox = runtime.registry.mailbox("x")
    old, new = MayBlock(), MayBlock()
    attach(old, runtime, mailbox)
    scheduler.run_all()
    queue = mailbox.queue = HookedQueue()
    queue.hooks = []
    asked = [ReplyFuture[Any]() for _ in range(3)]
    queue.extend(Item(number, future, None) for number, future in enumerate(asked))

    def swap() -> None:
        getattr(mailbox, how)(old._cell)
        attach(new, runtime, mailbox)

    queue.hooks.append(partial(in_thread, swap))
    mailbox.run()
    assert old._cell.ends, "not ended"
    scheduler.run_all()
    assert new.log[1:] == [0, 1, 2]
    assert [future.get(timeout=0) for future in asked] == [0, 1, 2]


def test_what_a_shut_out_thread_takes_from_a_name_that_is_given_up_is_failed() -> None:
    """There is nobody to hand it back to: its asker is told."""
    runtime, scheduler = manual_runtime()
    mailbox = runtime.registry.mailbox("x")
    old = MayBlock()
    attach(old, runtime, mailbox)
    scheduler.run_all()
    queue = mailbox.queue = HookedQueue()
    asked = [ReplyFuture[Any]() for _ in range(2)]
    queue.extend(Item(number, future, None) for number, future in enumerate(asked))

    def end() -> None:
        mailbox.abandon(old._cell)
        # The first is in that thread's hands when the others are failed.
        taken = queue.popleft()
        runtime.registry.give_up("x")
        queue.appendleft(taken)

    queue.hooks = [partial(in_thread, end)]
    mailbox.run()
    scheduler.run_all()
    for future in asked:
        with pytest.raises(ActorDead):
            future.get(timeout=0)


def test_an_urgent_message_is_not_lost_when_a_supervisor_takes_the_name() -> None:
    """It gets another queue for urgent messages, at any point of somebody's sending one."""
    exited: Any = None

    def prepare() -> tuple[Runtime, Mailbox]:
        runtime, _ = manual_runtime()
        return runtime, runtime.registry.mailbox("x")

    def post(subject: Any) -> None:
        subject[1].post_urgent(exited)

    def take_over(subject: Any) -> None:
        attach(Supervisor(), *subject)

    def check(subject: Any, reached: bool) -> None:
        assert exited in subject[1].urgent
        if reached:
            assert isinstance(subject[1].urgent, deque)

    runtime, scheduler = manual_runtime()
    somebody = begin(Echo(), runtime)
    scheduler.run_all()
    somebody._cell.mailbox.kill(somebody._cell)
    exited = ChildExited(somebody._cell, somebody.monitor().get(timeout=0))
    assert at_every_bytecode(["pollin_actors.otp.mailbox"], prepare, post, take_over, check) > 10


@pytest.mark.parametrize("lost", ["give_up", "vacate"])
def test_a_stop_that_waits_when_the_name_goes_is_carried_out(lost: str) -> None:
    """Nobody is told that an actor has ended that goes on living."""
    runtime, scheduler = manual_runtime()
    started = start_actor(MayBlock(), runtime, name="x")
    scheduler.run_all()
    ref = started.get(timeout=0)
    stopped = ref.stop(block=False)
    if lost == "give_up":
        runtime.registry.give_up("x")
    else:
        ref._cell.mailbox.fail_queued(lambda: ActorDead("nobody bears it"))
    assert not stopped.done()
    scheduler.run_all()
    assert stopped.get(timeout=0) is True
    assert not ref.is_alive()
    assert ref.stop() is False


def test_a_stop_while_the_actor_takes_a_name_over_is_carried_out() -> None:
    """At any point of the sending: the mailbox it was sent to is its actor's no longer."""

    def prepare() -> Any:
        runtime, scheduler = manual_runtime()
        return runtime, scheduler, MayBlock(), []

    def stop(subject: Any) -> None:
        subject[3].append(subject[2].actor_ref.stop(block=False))

    def take_over(subject: Any) -> None:
        attach(subject[2], subject[0], subject[0].registry.mailbox("x"))

    def check(subject: Any, reached: bool) -> None:
        if not reached:
            take_over(subject)
        subject[1].run_all()
        assert subject[3][0].done()
        assert subject[3][0].get(timeout=0) is True
        assert subject[2]._cell.ends

    modules = ["pollin_actors.otp.mailbox", "pollin_actors.otp.actor"]
    assert at_every_bytecode(modules, prepare, stop, take_over, check) > 30


def test_a_tick_that_comes_while_the_name_is_given_up() -> None:
    """At any point of the giving up: the interval goes on."""
    modules = ["pollin_actors.otp.registry", "pollin_actors.otp.mailbox", "pollin_actors.otp.ends"]

    class Ticking(MayBlock):
        def on_start(self) -> None:
            self.send_every(1.0, "tick")

        def on_info(self, message: Any) -> None:
            self.log.append(message)

    number, reached = 0, True
    while reached:
        with Simulation(seed=1) as simulation:
            registry = simulation.runtime.registry
            actor = Ticking()
            attach(actor, simulation.runtime, registry.mailbox("x"))
            simulation.settle()
            reached = interrupt_at(
                number, partial(registry.give_up, "x"), modules, simulation.timers.fire_next
            )
            simulation.advance(9.5)
            assert len(actor.log) >= 9
        number += 1
    assert number > 30


# -- ends ------------------------------------------------------------------------------------------


def test_the_next_incarnation_is_not_shut_out_by_a_late_abandonment() -> None:
    """The actor ends by itself while it is abandoned, and the next one is in its first turn.

    The end, and the next one's start, come at any point of the abandonment.
    """
    entered_at: list[int] = []
    number, reached = 0, True
    while reached:
        runtime, scheduler = manual_runtime()
        mailbox = runtime.registry.mailbox("x")
        entered, leave = threading.Event(), threading.Event()
        owned: list[bool] = []

        class Next(MayBlock):
            def on_start(
                self,
                box: Any = mailbox,
                entered: Any = entered,
                leave: Any = leave,
                at: Any = owned,
            ) -> None:
                entered.set()
                assert leave.wait(SECONDS)
                at.append(box.token._is_owned())

        old, new = MayBlock(), Next()
        attach(old, runtime, mailbox)
        scheduler.run_all()
        threads: list[threading.Thread] = []

        def end_and_take_over(
            old: Any = old,
            new: Any = new,
            mailbox: Any = mailbox,
            runtime: Any = runtime,
            entered: Any = entered,
            threads: Any = threads,
        ) -> None:
            old._cell.mailbox.stop(old._cell)
            in_thread(mailbox.run)
            if old._cell.told:
                attach(new, runtime, mailbox)
                thread = threading.Thread(target=mailbox.run, daemon=True)
                threads.append(thread)
                thread.start()
                while thread.is_alive() and not entered.wait(0.001):
                    pass

        try:
            reached = interrupt_at(
                number,
                partial(mailbox.abandon, old._cell),
                ["pollin_actors.otp.mailbox"],
                end_and_take_over,
            )
            if entered.is_set():
                entered_at.append(number)
                # Whoever abandoned has it run: that must find the token taken.
                in_thread(scheduler.run_all)
                assert not owned
        finally:
            leave.set()
            for thread in threads:
                thread.join(SECONDS)
        assert old._cell.told
        if not reached:
            break
        if new._cell.status is Status.UNSTARTED:
            attach(new, runtime, mailbox)
        scheduler.run_all()
        assert owned == [True], number
        hello = runtime.registry.ask("x", "hello")
        scheduler.run_all()
        assert hello.get(timeout=0) == "hello"
        number += 1
    assert number > 30
    assert entered_at, "it never came in between"


@pytest.mark.parametrize("continues", [False, True])
def test_a_start_that_is_over_while_its_actor_is_abandoned(continues: bool) -> None:
    """Its thread says so at any point of the abandonment: the actor stays dead."""

    class Continuing(Echo):
        def on_continue(self) -> None:
            pass

    def prepare() -> Any:
        runtime, scheduler = manual_runtime()
        actor = Continuing() if continues else Echo()
        attach(actor, runtime)
        return actor._cell, scheduler

    def abandon(subject: Any) -> None:
        subject[0].mailbox.abandon(subject[0])

    def started(subject: Any) -> None:
        subject[0].context.copy().run(subject[0].mark_started)

    def check(subject: Any, reached: bool) -> None:
        subject[1].run_all()
        cell = subject[0]
        assert cell.status is Status.STOPPING
        assert not cell.caller_runs
        assert cell.record.reason is ExitReason.UNSTOPPED

    modules = ["pollin_actors.otp.mailbox", "pollin_actors.otp.cell"]
    assert at_every_bytecode(modules, prepare, abandon, started, check) > 100


def test_an_interrupt_in_an_abandonment_keeps_no_token() -> None:
    """Wherever it comes: the name can be had afterwards, and its next bearer answers."""
    number, reached = 0, True
    while reached:
        runtime, scheduler = manual_runtime()
        mailbox = runtime.registry.mailbox("x")
        old = MayBlock()
        attach(old, runtime, mailbox)
        scheduler.run_all()
        modules = ["pollin_actors.otp.mailbox", "pollin_actors.otp.cell", "pollin_actors.otp.ends"]
        reached = interrupt_at(number, partial(mailbox.abandon, old._cell), modules)
        in_thread(scheduler.run_all)
        mailbox.abandon(old._cell)  # as whoever was interrupted would, if it has not ended
        assert old._cell.told
        attach(MayBlock(), runtime, runtime.registry.mailbox("x"))
        in_thread(scheduler.run_all)
        hello = runtime.registry.ask("x", "hello")
        in_thread(scheduler.run_all)
        assert hello.get(timeout=0) == "hello"
        number += 1
    assert number > 100


def test_a_log_that_fails_does_not_stop_an_end() -> None:
    """Whoever has nobody above logs its crash itself: the asker, and who monitors it, are told."""

    class Fails(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise OSError("the disk is full")

    runtime, scheduler = manual_runtime()
    ref = begin(Echo(), runtime)
    scheduler.run_all()
    fails = Fails()
    logger = logging.getLogger("pykka")
    logger.addFilter(fails)
    try:
        crashed = ref.ask(ValueError("a bug"), block=False)
        scheduler.run_all()
    finally:
        logger.removeFilter(fails)
    with pytest.raises(ValueError, match="a bug"):
        crashed.get(timeout=0)
    assert ref.monitor().get(timeout=0).reason is ExitReason.CRASH
    assert in_thread(lambda: ref._cell.mailbox.token.acquire(False)), "the token is held"


# -- beginnings ------------------------------------------------------------------------------------


def test_an_interrupt_in_the_attachment_leaves_no_thread_behind() -> None:
    """Wherever it comes: the thread of an actor that will not live ends."""
    modules = [f"pollin_actors.otp.{name}" for name in ("actor", "mailbox", "pool", "turns")]
    number, reached, given_up = 0, True, 0
    while reached:
        runtime, _ = manual_runtime()
        before = set(threading.enumerate())
        actor = BlockingActor()
        reached = interrupt_at(number, partial(attach, actor, runtime), modules)
        threads = [thread for thread in threading.enumerate() if thread not in before]
        if actor._cell.status is Status.UNSTARTED:
            given_up += 1
        else:
            assert actor.actor_ref.stop(block=False).get(timeout=SECONDS)
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive(), number
        number += 1
    assert given_up > 30
    assert number > given_up


def test_an_interrupt_in_the_attachment_to_a_name_that_is_vacant() -> None:
    """Either its bearer lives and is reached, or whoever asks is told that there is none."""
    modules = [f"pollin_actors.otp.{name}" for name in ("actor", "mailbox", "turns")]
    number, reached, lives = 0, True, 0
    while reached:
        runtime, scheduler = manual_runtime()
        registry = runtime.registry
        registry.mailbox("x").vacate(lambda: ActorDead("nobody bears it"))
        actor = MayBlock()
        mailbox = registry.claim("x", actor._cell)
        reached = interrupt_at(number, partial(attach, actor, runtime, mailbox), modules)
        registry.release_claim("x", actor._cell)
        in_thread(scheduler.run_all)
        asked = registry.ask("x", "hello", timeout=None)
        in_thread(scheduler.run_all)
        if actor._cell.status is Status.RUNNING:
            lives += 1
            assert asked.get(timeout=0) == "hello"
        else:
            with pytest.raises(ActorDead, match="nobody bears it"):
                asked.get(timeout=0)
        number += 1
    assert 10 < lives < number


@pytest.mark.parametrize("kind", [Echo, MayBlock])
def test_a_mailbox_that_is_closed_while_its_actor_starts(kind: type[Echo]) -> None:
    """At any point of the start: afterwards it takes nothing, from callers' threads neither."""

    def prepare() -> Any:
        runtime, scheduler = manual_runtime()
        attach(kind(), runtime, runtime.registry.mailbox("x"))
        return runtime.registry, scheduler, runtime.registry.mailbox("x")

    def run(subject: Any) -> None:
        subject[2].run()

    def close(subject: Any) -> None:
        subject[0].close(lambda: ActorDead("closed"))

    def check(subject: Any, reached: bool) -> None:
        if reached:
            asked = subject[0].ask("x", "hello")
            subject[1].run_all()
            with pytest.raises(ActorDead, match="closed"):
                asked.get(timeout=0)

    modules = ["pollin_actors.otp.turns", "pollin_actors.otp.cell"]
    assert at_every_bytecode(modules, prepare, run, close, check) > 50


# -- whose thread ----------------------------------------------------------------------------------


@pytest.mark.parametrize("in_a_turn", [False, True])
def test_a_successor_that_may_block_is_not_run_by_who_asked(in_a_turn: bool) -> None:
    """The asking thread has run who bore the name before; the pool runs the next one.

    In a turn the message is told, and run after that turn by the same thread.
    """
    runtime, scheduler = manual_runtime()
    successor = MayBlock()

    class First(Actor):
        never_blocks = True

        def on_receive(self, message: Any) -> Any:
            raise Stop("bye")

        def on_stop(self, *_: Any) -> None:
            attach(successor, runtime, runtime.registry.claim("x", successor._cell))

    first = First()
    attach(first, runtime, runtime.registry.claim("x", first._cell))
    asker = begin(Echo(), runtime)
    scheduler.run_all()
    if in_a_turn:
        asker.ask(lambda: runtime.registry.tell("x", "end"))
    else:
        assert runtime.registry.ask("x", "end").get(timeout=0) == "bye"
    assert first._cell.told
    assert successor.log == [], "started on this thread"
    scheduler.run_all()
    assert successor.log == [("start", None)]


class HeldThread(OwnThread):
    """An actor's own thread, which is told nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__("held", daemon=True)
        self.held: list[Any] | None = []

    def submit(self, mailbox: Any) -> None:
        if self.held is not None:
            self.held.append(mailbox)
        else:
            super().submit(mailbox)

    def let_go(self) -> None:
        held, self.held = self.held, None
        for mailbox in held or ():
            super().submit(mailbox)


def test_a_blocking_actor_that_takes_a_name_over_while_the_pool_has_it_queued() -> None:
    """The pool's thread finds another's actor there, and leaves it to that one's thread."""
    runtime = Runtime(scheduler=ThreadPool(size=1)).start()
    started: ReplyFuture[str] = ReplyFuture()
    own = HeldThread()

    class Blocking(BlockingActor):
        @classmethod
        def _make_executor(cls, runtime: Runtime) -> OwnThread:
            return own

        def on_start(self) -> None:
            started.set(threading.current_thread().name)

    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        assert leave.wait(SECONDS)

    try:
        mailbox = runtime.registry.mailbox("x")
        old, last = MayBlock(), begin(MayBlock(), runtime)
        attach(old, runtime, mailbox)
        assert mailbox.ask("up").get(timeout=SECONDS) == "up"
        begin(MayBlock(), runtime).tell(hold)
        assert entered.wait(SECONDS)
        runtime.scheduler.submit(mailbox)
        mailbox.kill(old._cell)
        attach(Blocking(), runtime, mailbox)
        leave.set()
        assert last.ask("it has passed by", timeout=SECONDS)
        assert not started.done()
        own.let_go()
        assert started.get(timeout=SECONDS) == "held"
        assert runtime.registry.stop("x").get(timeout=SECONDS)
    finally:
        leave.set()
        assert runtime.stop()


# -- timers and answers ----------------------------------------------------------------------------


def test_a_cancelled_message_in_the_queue_does_not_put_idleness_off() -> None:
    """It will not be handled: the actor is as idle as it was."""
    with Simulation(seed=3) as simulation:
        told: list[Any] = []

        class Idling(MayBlock):
            idle_timeout = 10.0

            def on_receive(self, message: Any) -> None:
                self.timer = self.send_after(10.0, "never")

            def on_info(self, message: Any) -> None:
                told.append((simulation.clock.monotonic(), message))

        actor = Idling()
        ref = begin(actor, simulation.runtime)
        simulation.settle()
        ref.tell("set it")
        simulation.settle()
        # Both are due; neither has been handled yet.
        simulation.timers.fire_next()
        simulation.timers.fire_next()
        actor.timer.cancel()
        simulation.settle()
        assert told == [(10.0, IdleTimeout())]


@pytest.mark.parametrize("crash", [False, True])
def test_nothing_is_sent_in_the_name_of_who_is_ending(crash: bool) -> None:
    """Its exit has begun, and takes longer than its timer."""
    with Simulation(seed=3) as simulation:
        other: Any = begin(MayBlock(), simulation.runtime)

        class Ending(MayBlock):
            def on_start(self) -> None:
                self.send_after(2.0, "from the dead", to=other)

            def on_stop(self, *_: Any) -> None:
                simulation.timers.fire_next()

            def on_failure(self, *_: Any) -> None:
                simulation.timers.fire_next()

        ref = begin(Ending(), simulation.runtime)
        simulation.settle()
        if crash:
            ref.tell(ValueError("a bug"))
        else:
            ref.stop(block=False)
        simulation.advance(10.0)
        assert not ref.is_alive()
        assert "from the dead" not in other._cell.actor.log


def test_a_timer_whose_target_is_full_drops_its_message() -> None:
    """As with one that is dead: nobody hears of it, and nothing is logged."""

    class Bounded(MayBlock):
        mailbox_bound = 1

    with capture_logs() as logs, Simulation(seed=3) as simulation:
        ref: Any = begin(Bounded(), simulation.runtime)
        sender = begin(MayBlock(), simulation.runtime)
        simulation.settle()
        sender.tell(partial(sender._cell.actor.send_after, 1.0, "dropped", to=ref))
        simulation.settle()
        ref.tell("it is full")
        simulation.timers.fire_next()
        simulation.settle()
        assert ref._cell.actor.log[1:] == ["it is full"]
    assert logs == []


def test_a_pool_that_gets_no_more_threads_and_cannot_log_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread it has goes on."""

    def broken(*_: object) -> Any:
        raise OSError("the disk is full")

    runtime = Runtime().start()
    before = structlog.get_config()
    structlog.configure(processors=[broken])
    try:
        monkeypatch.setattr(runtime.scheduler, "_ensure_spare", _no_thread)
        ref = begin(MayBlock(), runtime)
        assert [ref.ask(number, timeout=SECONDS) for number in range(3)] == [0, 1, 2]
    finally:
        structlog.configure(**before)
        assert runtime.stop()


def _no_thread() -> None:
    raise RuntimeError("can't start new thread")


def test_a_detached_answer_that_comes_too_late_leaves_nothing_behind() -> None:
    """The future that never came keeps nothing of calls whose deadlines have passed."""
    with Simulation(seed=1) as simulation:
        never: ReplyFuture[Any] = ReplyFuture()

        class Detaching(Echo):
            def on_receive(self, message: Any) -> Any:
                return Later(never, detached=True)

        attach(Detaching(), simulation.runtime, simulation.runtime.registry.mailbox("x"))
        for number in range(20):
            with pytest.raises(Exception, match="did not answer"):
                simulation.runtime.registry.ask("x", number, timeout=1.0).get()
        assert not (never._box or {}).get("waiters")
