"""Names and mailboxes that pass from one incarnation to the next while somebody is at them.

Each interleaving is forced: by a callback or a hook at the place where another thread comes in,
by a scheduler that runs nothing by itself, or by running into every bytecode.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import pytest

from pollin_actors import Application, BackendUnavailable, Callback, Endpoint, Outcome, Request
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import FindEndpoint
from pollin_actors.otp import (
    Actor,
    ActorDead,
    AlreadyRegistered,
    AlreadyStarted,
    ChildSpec,
    CountChildren,
    DynamicSupervisor,
    ExitReason,
    Ref,
    ReplyFuture,
    Simulation,
    StartChild,
    Supervisor,
    TerminateChild,
)
from pollin_actors.otp.actor import attach
from pollin_actors.otp.children import StopTimedOut
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.items import TURNS
from tests.interrupts import interrupt_at, interrupt_at_every_bytecode
from tests.otp.actors import Echo, MayBlock, begin, in_thread, manual_runtime
from tests.otp.test_supervision_races import SECONDS, children

T = TypeVar("T")


# -- names that others bear ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
@pytest.mark.parametrize("bearer", [Echo, MayBlock])
def test_a_child_with_the_name_of_a_stranger_leaves_the_stranger_alone(
    kind: type[Any], bearer: type[Actor]
) -> None:
    """Its start fails; the stranger keeps the name, and what waits in its mailbox."""
    runtime, scheduler = manual_runtime()
    owner = begin(Supervisor([ChildSpec(id=1, name="taken", start=bearer)]), runtime)
    supervisor = begin(kind(), runtime)
    scheduler.run_all()
    stranger = children(owner)[1]
    assert stranger is not None
    waiting = [runtime.registry.ask("taken", number) for number in range(3)]
    spec = ChildSpec(id=2, name="taken", start=bearer)
    failed = supervisor.ask(StartChild(spec), block=False)
    scheduler.run_all()
    with pytest.raises(AlreadyStarted) as caught:
        failed.get(timeout=0)
    assert caught.value.ref == stranger
    assert isinstance(caught.value.__cause__, AlreadyRegistered)
    assert 2 not in children(supervisor)
    assert [future.get(timeout=0) for future in waiting] == [0, 1, 2]
    assert stranger.is_alive()
    assert runtime.registry.whereis("taken") is stranger
    afterwards = runtime.registry.ask("taken", "afterwards")
    scheduler.run_all()
    assert afterwards.get(timeout=0) == "afterwards"


class TakenOver(MayBlock):
    """Does something at its end."""

    def __init__(self, at_the_end: Callable[[], object]) -> None:
        super().__init__()
        self._at_the_end = at_the_end

    def on_stop(self) -> None:
        self._at_the_end()


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
@pytest.mark.parametrize("while_it_ends", [False, True])
def test_a_name_borne_anew_before_the_old_supervisor_hears_of_the_end(
    kind: type[Any], while_it_ends: bool
) -> None:
    """The old bearer's supervisor does not vacate, or give up, a name that is another's by now.

    The new one comes while the old one is in its ``on_stop``, or just after that.
    """
    runtime, scheduler = manual_runtime()
    old_owner, new_owner = begin(kind(), runtime), begin(Supervisor(), runtime)
    scheduler.run_all()
    started: list[ReplyFuture[Any]] = []

    def take_over() -> None:
        spec = ChildSpec(id="new", name="x", start=MayBlock)
        started.append(new_owner.ask(StartChild(spec), block=False))

    at_the_end: Callable[[], object] = take_over if while_it_ends else int
    spec = ChildSpec(id="old", name="x", start=partial(TakenOver, at_the_end), restart="temporary")
    starting = old_owner.ask(StartChild(spec), block=False)
    scheduler.run_all()
    old = starting.get(timeout=0)
    mailbox = runtime.registry.mailbox("x")
    stopped = old.stop(block=False)
    # The child's end, without what it sends to its supervisor.
    scheduler.submitted.clear()
    mailbox.run()
    assert stopped.get(timeout=0)
    assert old_owner._cell.mailbox.urgent, "the supervisor should not know yet"
    if not while_it_ends:
        take_over()
    waiting = runtime.registry.ask("x", "waiting")
    old_owner._cell.mailbox.run()
    scheduler.submitted.append(mailbox)
    scheduler.run_all()
    new = started[0].get(timeout=0)
    assert new.is_alive()
    assert runtime.registry.whereis("x") is new
    assert waiting.get(timeout=0) == "waiting"
    afterwards = runtime.registry.ask("x", "afterwards")
    scheduler.run_all()
    assert afterwards.get(timeout=0) == "afterwards"


def test_who_bears_the_name_next_is_run_after_an_abandonment() -> None:
    """It was attached, and asked to be run, while the stuck one's thread held the token.

    That thread is shut out and looks at nothing more: whoever abandons has the next one run.
    """
    runtime, scheduler = manual_runtime()
    entered, leave = threading.Event(), threading.Event()

    def stick() -> None:
        entered.set()
        assert leave.wait(SECONDS)

    spec = ChildSpec(id="stuck", name="x", start=partial(TakenOver, stick))
    old_owner, new_owner = begin(Supervisor([spec]), runtime), begin(Supervisor(), runtime)
    scheduler.run_all()
    stuck = children(old_owner)["stuck"]
    mailbox = runtime.registry.mailbox("x")
    terminated = old_owner.ask(TerminateChild("stuck"), block=False)
    scheduler.submitted.clear()
    thread = threading.Thread(target=mailbox.run, daemon=True)
    thread.start()
    try:
        assert entered.wait(SECONDS)
        new = ChildSpec(id="new", name="x", start=MayBlock)
        started = new_owner.ask(StartChild(new), block=False)
        scheduler.run_all()
        assert not started.done(), "the token should be taken"
        old_owner._cell.mailbox.post_urgent(StopTimedOut((stuck._cell,)))
        scheduler.run_all()
        assert stuck.monitor().get(timeout=0).reason is ExitReason.UNSTOPPED
        terminated.get(timeout=0)
        assert started.done(), "nobody runs the new bearer"
        hello = runtime.registry.ask("x", "hello")
        scheduler.run_all()
        assert hello.get(timeout=0) == "hello"
    finally:
        leave.set()
        thread.join(SECONDS)
    scheduler.run_all()
    assert started.get(timeout=0).is_alive()


def test_the_end_of_an_incarnation_does_not_wipe_out_the_next() -> None:
    """Its supervisor crashes and takes the name over while the end fails what waits.

    The end has looked who bears the name, and has not yet stored that nobody does.
    """
    runtime, scheduler = manual_runtime()
    log: list[Any] = []

    class Crashing(Supervisor):
        def handle(self, message: Any) -> Any:
            if message == "crash":
                raise RuntimeError("a bug")
            return super().handle(message)

    def inner() -> Supervisor:
        return Crashing([ChildSpec(id="child", name="child", start=partial(MayBlock, log))])

    spec = ChildSpec(id="inner", name="inner", type="supervisor", start=inner)
    begin(Supervisor([spec]), runtime)
    scheduler.run_all()
    old = runtime.registry.whereis("child")
    assert old is not None

    bearers: list[Any] = []

    def take_over(_: object) -> None:
        runtime.registry.ask("inner", "crash")
        scheduler.run_all()
        bearers.append(runtime.registry.whereis("child"))

    runtime.registry.tell("child", ValueError("a bug"))
    only_it = old.ask("for this incarnation only", block=False)
    only_it.add_done_callback(take_over)
    scheduler.run_all()
    assert len(bearers) == 1
    assert bearers[0] not in (None, old), "not taken over"
    with pytest.raises(ActorDead):
        only_it.get(timeout=0)
    assert log.count(("start", None)) == 2
    hello = runtime.registry.ask("child", "hello", timeout=None)
    scheduler.run_all()
    assert hello.get(timeout=0) == "hello"
    assert runtime.registry.whereis("child") is bearers[0]


# -- runs inside runs ------------------------------------------------------------------------------


def test_a_mailbox_that_queues_itself_again_during_a_nested_run_is_not_dropped() -> None:
    """Its callbacks have pending mailboxes run on top of its own run; its messages go on after."""
    runtime, scheduler = manual_runtime()
    log: list[Any] = []
    actors = (Echo(), Echo(log), Echo(), Echo())
    first, many, asked, told = (begin(actor, runtime) for actor in actors)
    scheduler.run_all()
    log.clear()
    messages = TURNS * 2 + 36
    futures: list[ReplyFuture[Any]] = []

    def turn() -> None:
        for number in range(messages):
            future = many.ask(number, block=False)
            future.add_done_callback(
                lambda _: asked.ask(lambda: told.tell("in a callback"), block=False)
            )
            futures.append(future)

    first.ask(turn, block=False)
    scheduler.run_all()
    assert log == list(range(messages))
    assert all(future.done() for future in futures)
    many.tell("afterwards")
    scheduler.run_all()
    assert log[-1] == "afterwards"


class HookedToken:
    """A mailbox's token; one thread does something before it takes it, or gives it back."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._thread = threading.current_thread()
        self.before_acquire: list[Callable[[], object]] = []
        self.before_release: list[Callable[[], object]] = []

    def _is_owned(self) -> bool:
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]

    def acquire(self, blocking: bool = True) -> bool:
        self._call(self.before_acquire)
        return self._lock.acquire(blocking)

    def release(self) -> None:
        self._call(self.before_release)
        self._lock.release()

    def _call(self, hooks: list[Callable[[], object]]) -> None:
        if hooks and threading.current_thread() is self._thread:
            hooks.pop()()


class Restarted:
    """A supervisor and its child, whose token is hooked."""

    def __init__(self) -> None:
        self.runtime, self.scheduler = manual_runtime()
        self.log: list[Any] = []
        spec = ChildSpec(id="child", name="child", start=partial(Echo, self.log))
        self.supervisor = begin(Supervisor([spec]), self.runtime)
        self.scheduler.run_all()
        self.ref: Ref[Any] = children(self.supervisor)["child"]
        self.token = HookedToken()
        mailbox: Any = self.ref._cell.mailbox
        mailbox.token = self.token

    def restart_elsewhere(self) -> None:
        """Another thread runs the supervisor, which attaches the next incarnation."""
        in_thread(lambda: self.supervisor.ask(CountChildren(), timeout=SECONDS))
        assert self.runtime.registry.whereis("child") not in (None, self.ref), "not restarted"
        assert self.log.count(("start", None)) == 1, "the token should be taken"

    def check(self) -> None:
        assert not self.token.before_acquire
        assert not self.token.before_release
        self.scheduler.run_all()
        assert self.log.count(("start", None)) == 2, "the start is lost"
        assert children(self.supervisor)["child"].ask("hello", timeout=SECONDS) == "hello"


def test_a_restart_while_the_caller_who_crashed_the_actor_still_holds_the_token() -> None:
    """The thread that restarts it finds the token taken: the caller starts it, afterwards."""
    subject = Restarted()
    subject.token.before_release.append(subject.restart_elsewhere)
    crashed = subject.ref.ask(ValueError("a bug"), block=False)
    subject.check()
    with pytest.raises(ValueError, match="a bug"):
        crashed.get(timeout=0)


def test_a_restart_while_a_caller_who_came_too_late_holds_the_token() -> None:
    """It took the token only to find that the actor has crashed meanwhile, and gives it back."""
    subject = Restarted()
    supervisor = subject.supervisor._cell.mailbox

    def crash_elsewhere() -> None:
        supervisor.token.acquire()  # its thread cannot run the supervisor
        crash = partial(subject.ref.ask, ValueError("a bug"), block=False)
        assert in_thread(crash).done()

    def restart() -> None:
        supervisor.token.release()
        subject.restart_elsewhere()

    subject.token.before_acquire.append(crash_elsewhere)
    subject.token.before_release.append(restart)
    late = subject.ref.ask("too late", block=False)
    subject.check()
    with pytest.raises(ActorDead):
        late.get(timeout=0)


# -- refs that constructors hand out ---------------------------------------------------------------


class TakeOver:
    """A fresh actor whose ref is known already, and the name that it is going to bear."""

    def __init__(self, kind: Callable[[], Actor]) -> None:
        self.runtime, self.scheduler = manual_runtime()
        self.actor = kind()
        self.mailbox = self.runtime.registry.mailbox("x")
        self.asked: list[ReplyFuture[Any]] = []

    def ask(self) -> None:
        ref = self.actor.actor_ref
        self.asked.append(ref.ask("hello", block=False))  # type: ignore[arg-type]

    def attach(self) -> None:
        attach(self.actor, self.runtime, self.mailbox)

    def check(self) -> None:
        self.scheduler.run_all()
        assert all(future.done() for future in self.asked), "an ask is neither answered nor failed"
        afterwards = self.mailbox.ask("afterwards")
        self.scheduler.run_all()
        assert afterwards.get(timeout=0) == "afterwards"


class HookedQueue(deque[Any]):
    """Does something right before, or right after, the first message is appended."""

    def __init__(self, hook: Callable[[], object], before: bool) -> None:
        super().__init__()
        self._hooks = [hook]
        self._before = before

    def append(self, item: Any) -> None:
        hooks, self._hooks = self._hooks, []
        for hook in hooks if self._before else ():
            hook()
        super().append(item)
        for hook in () if self._before else hooks:
            hook()


@pytest.mark.parametrize("kind", [Echo, MayBlock])
@pytest.mark.parametrize("before", [False, True])
def test_an_ask_during_which_the_mailbox_of_the_name_is_taken_over(
    kind: Callable[[], Actor], before: bool
) -> None:
    """The sender has chosen the actor's first mailbox, which nobody will look at again."""
    subject = TakeOver(kind)
    subject.actor._cell.mailbox.queue = HookedQueue(subject.attach, before)
    subject.ask()
    assert subject.mailbox.cell is subject.actor._cell, "not taken over"
    subject.check()


@pytest.mark.parametrize("kind", [Echo, MayBlock])
def test_a_ref_of_a_constructor_is_used_at_any_moment_of_the_take_over(
    kind: Callable[[], Actor],
) -> None:
    """Another thread asks between any two instructions of it."""
    subject: TakeOver

    def prepare() -> TakeOver:
        nonlocal subject
        subject = TakeOver(kind)
        subject.ask()  # and once before
        return subject

    def check(subject: TakeOver, reached: bool) -> None:
        assert len(subject.asked) == 1 + reached
        subject.check()

    moments = interrupt_at_every_bytecode(
        TakeOver.attach,
        check,
        prepare=prepare,
        modules=("pollin_actors.otp.actor", "pollin_actors.otp.mailbox"),
        error=lambda: in_thread(lambda: subject.ask()),
    )
    assert moments > 20


# -- derived futures -------------------------------------------------------------------------------


class WatchedGuard(Guard):
    """Says when a second thread comes to it."""

    def __init__(self, entered: threading.Event, wanted: threading.Event) -> None:
        super().__init__()
        self._entered, self._wanted = entered, wanted

    def run(self, function: Callable[..., T], *args: Any) -> T:
        if self._entered.is_set() and not self.is_held():
            self._wanted.set()
        return super().run(function, *args)


class Derived:
    """A mapped future; its function ends when a second thread waits for the value."""

    def __init__(self) -> None:
        self.source: ReplyFuture[int] = ReplyFuture()
        self.entered, self.wanted = threading.Event(), threading.Event()
        self.mapped = self.source.map(self._compute)
        guarded: Any = self.mapped
        guarded._guard = WatchedGuard(self.entered, self.wanted)
        self.settler = threading.Thread(target=self.source.set, args=(1,), daemon=True)

    def _compute(self, value: int) -> int:
        self.entered.set()
        assert self.wanted.wait(SECONDS)
        return value + 1

    def settle(self) -> None:
        """Have a thread settle the source; it is inside the function when this returns."""
        self.settler.start()
        assert self.entered.wait(SECONDS)

    def check(self) -> None:
        self.settler.join(SECONDS)
        assert not self.settler.is_alive(), "the thread that settles hangs"


def test_two_sources_of_a_derived_future_settled_by_two_threads() -> None:
    """Each is at one of two derived futures and comes to the other's: neither waits for ever."""
    subject, other = Derived(), ReplyFuture[int]()
    joined = subject.mapped.join(other)
    told: list[Any] = []
    joined.add_done_callback(lambda future: told.append(future.get(timeout=0)))
    subject.settle()
    in_thread(lambda: other.set(10))
    subject.check()
    assert told == [[2, 10]]


def test_an_event_loop_awaits_a_derived_future_that_a_thread_is_computing() -> None:
    """The loop goes on, and so does the thread."""
    subject = Derived()
    last = subject.mapped.map(str)
    told: list[Any] = []
    last.add_done_callback(lambda future: told.append(future.get(timeout=0)))
    subject.settle()

    async def wait() -> str:
        return await last

    assert in_thread(lambda: asyncio.run(wait())) == "2"
    subject.check()
    assert told == ["2"]


# -- applications ----------------------------------------------------------------------------------


class AnswersWhenTold(MemoryBackend):
    """Answers look-ups with futures as long as it keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.keeps = False
        self.kept: list[tuple[ReplyFuture[Any], FindEndpoint]] = []

    def execute(self, message: Any) -> Any:
        if isinstance(message, FindEndpoint) and self.keeps:
            future: ReplyFuture[Any] = ReplyFuture()
            self.kept.append((future, message))
            return future
        return super().execute(message)


@pytest.fixture(params=range(4))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulation:
        yield simulation


def test_a_look_up_that_fails_after_the_actor_runs_leaves_the_endpoint_reachable(
    simulation: Simulation,
) -> None:
    """Two senders have it looked up twice: the first answer starts it, the second is an error."""
    backend = AnswersWhenTold()
    endpoint = Endpoint.new(id="e")
    app = Application(backend, endpoints=[endpoint], runtime=simulation.runtime).start()

    def push() -> Any:
        pushed = app.callbacks.push("e", Callback.new(Request([], b"x")))
        simulation.settle()
        return pushed

    backend.keeps = True
    early = [push(), push()]
    backend.keeps = False
    (first, message), (second, _) = backend.kept
    first.set(backend.execute(message))
    simulation.settle()
    assert [pushed.get(timeout=0).outcome for pushed in early] == [Outcome.QUEUED] * 2
    error = BackendUnavailable("memory", "a hiccup", "try again")
    second.set_exception((BackendUnavailable, error, None))
    simulation.settle()
    for _ in range(3):
        assert push().get(timeout=0).outcome is Outcome.QUEUED
    count = app.callbacks.count("e")
    simulation.settle()
    assert count.get(timeout=0) == 5
    assert app.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_callbacks_of_calls_that_are_pending_at_a_fork_are_called_in_the_parent_only() -> None:
    """They wait in the parent; in the child nobody is told anything."""
    program = """
        import os, warnings
        warnings.simplefilter("ignore")
        from pollin_actors import Application, Endpoint, ForkedProcess
        from pollin_actors.backends.memory import MemoryBackend
        from pollin_actors.messages import FindEndpoint
        from pollin_actors.otp import ReplyFuture

        kept = []

        class Backend(MemoryBackend):
            def execute(self, message):
                if isinstance(message, FindEndpoint):
                    kept.append((ReplyFuture(), message))
                    return kept[-1][0]
                return super().execute(message)

        backend = Backend()
        app = Application(backend, endpoints=[Endpoint.new(id="e")]).start()
        told = []
        pending = [app.callbacks.count("e"), app.endpoints.find("e")]
        for future in pending:
            future.add_done_callback(lambda _: told.append(os.getpid()))
        pid = os.fork()
        if pid == 0:
            try:
                app.callbacks.count("e").get()
            except ForkedProcess:
                os._exit(len(told))
            os._exit(9)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, "told in the child"
        for future, message in kept:
            future.set(MemoryBackend.execute(backend, message))
        assert pending[0].get(timeout=10) == 0
        assert pending[1].get(timeout=10).id == "e"
        assert told == [os.getpid()] * 2, told
        app.stop()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_a_name_that_is_taken_over_while_its_old_supervisor_hears_of_the_end(kind: Any) -> None:
    """Between any two instructions of that turn: the new bearer is alive and can be reached."""
    number, reached = 0, True
    while reached:
        runtime, scheduler = manual_runtime()
        old_supervisor = begin(kind(), runtime)
        new_supervisor = begin(Supervisor(), runtime)
        scheduler.run_all()
        spec = ChildSpec(id="old", name="x", start=MayBlock, restart="temporary")
        started = old_supervisor.ask(StartChild(spec), block=False)
        scheduler.run_all()
        mailbox = runtime.registry.mailbox("x")
        started.get(timeout=0).stop(block=False)
        scheduler.submitted.clear()
        mailbox.run()
        asked: list[Any] = []

        def take_over(asked: list[Any] = asked, by: Any = new_supervisor) -> None:
            message = StartChild(ChildSpec(id="new", name="x", start=MayBlock))
            asked.append(by.ask(message, block=False))

        def meanwhile(take: Any = take_over, registry: Any = runtime.registry) -> None:
            if not registry._guard.is_held():  # then it would have to wait, and comes afterwards
                in_thread(take)

        reached = interrupt_at(
            number, old_supervisor._cell.mailbox.run, ["pollin_actors.otp."], meanwhile
        )
        if reached:
            if not asked:
                take_over()
            scheduler.submitted.append(mailbox)
            scheduler.run_all()
            assert asked[0].get(timeout=0).is_alive()
            hello = runtime.registry.ask("x", "hello")
            scheduler.run_all()
            assert hello.get(timeout=0) == "hello"
        number += 1
    assert number > 300


def test_a_name_that_was_made_anew_is_not_taken_back() -> None:
    """Whoever still holds the mailbox that was given up is told at once."""
    runtime, _ = manual_runtime()
    registry = runtime.registry
    given_up = registry.mailbox("x")
    registry.give_up("x")
    anew = registry.mailbox("x")
    registry.restore("x", given_up)
    assert registry.find("x") is anew
    with pytest.raises(ActorDead):
        given_up.ask("hello").get(timeout=0)
    registry.give_up("x")
    registry.restore("x", given_up)
    assert registry.find("x") is given_up
    assert not given_up.ask("hello").done()
