"""The application when something happens at an awkward moment.

Interrupted while it starts, forked while it starts, crashes between two sweeps, and a backend
that answers late, in another order, or not at all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from typing import Any, ClassVar

import pytest

from pollin_actors import (
    Application,
    BackendUnavailable,
    Callback,
    Endpoint,
    EndpointNotFound,
    NotRunning,
    Outcome,
    Settings,
    State,
)
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import DeleteEndpoint, FindEndpoint, Sweep
from pollin_actors.otp import (
    Actor,
    ActorDead,
    BlockingActor,
    ChildSpec,
    ReplyFuture,
    Simulation,
)
from pollin_actors.otp.waiting import block_on

SECONDS = 10.0


def left_running(before: set[threading.Thread]) -> list[threading.Thread]:
    """The threads that have come since and do not end."""
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(2)
    return [thread for thread in left if thread.is_alive()]


# -- starting --------------------------------------------------------------------------------------


def test_an_interrupt_while_the_application_starts_leaves_nothing_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C while one child starts slowly: the one before it, with a thread of its own, ends."""
    starting, gate = threading.Event(), threading.Event()

    class Slow(Actor):
        def on_start(self) -> None:
            starting.set()
            assert gate.wait(SECONDS)

    class Own(BlockingActor):
        use_daemon_thread: ClassVar[bool] = True

    def interrupted_once(future: ReplyFuture[Any], timeout: float | None) -> bool:
        if not starting.is_set():
            assert starting.wait(SECONDS)
            raise KeyboardInterrupt
        gate.set()  # the wait for the end
        return block_on(future, timeout)

    before = set(threading.enumerate())
    app = Application(children=[ChildSpec(id=1, start=Own), ChildSpec(id=2, start=Slow)])
    monkeypatch.setattr("pollin_actors.otp.futures.block_on", interrupted_once)
    try:
        with pytest.raises(KeyboardInterrupt):
            app.start()
    finally:
        gate.set()
        monkeypatch.undo()
    states = [app.state]
    assert not left_running(before)
    with app:
        states.append(app.state)
    assert states == [State.NEW, State.RUNNING]


def test_a_failed_application_that_is_started_again_leaves_no_threads() -> None:
    """``start()`` clears away what the failed one had before it builds anew."""
    backend = Failing()
    before = set(threading.enumerate())
    app = Application(backend, endpoints=[Endpoint.new(id="a")]).start()
    for _ in range(3):
        backend.broken = True
        while app.state is State.RUNNING:
            with pytest.raises((ZeroDivisionError, NotRunning, ActorDead)):
                app.endpoints.index().get()
        backend.broken = False
        assert app.state is State.FAILED
        app.start()
        assert app.callbacks.count("a").get() == 0
    assert app.stop() is True
    assert not left_running(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_while_another_thread_adds_a_hook() -> None:
    """The child adds its own: what the thread held is held by nobody there."""
    program = """
        import os, signal, threading, warnings
        warnings.simplefilter("ignore")
        from pollin_actors import Application, Endpoint
        from pollin_actors.instruments import Instruments

        app = Application(endpoints=[Endpoint.new(id="orders")])
        held, go_on = threading.Barrier(4), threading.Event()

        def hold():
            held.wait()
            go_on.wait(60)

        guards = (app._event_hooks._guard, app._changes._guard, app.instruments._guard)
        threads = [threading.Thread(target=guard.run, args=(hold,)) for guard in guards]
        for thread in threads:
            thread.start()
        held.wait()
        pid = os.fork()
        if pid == 0:
            signal.alarm(50)
            app.add_event_hook(lambda event: None)()
            app._changes.watch("orders", lambda: None)()
            app.instruments.add(Instruments())
            with app:
                good = app.endpoints.index().get()[0].id == "orders"
            os._exit(0 if good else 1)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        go_on.set()
        for thread in threads:
            thread.join()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_while_another_thread_starts_the_application() -> None:
    """In the child nobody holds the lock any more: stop() returns, and start() says why not."""
    program = """
        import os, threading, warnings
        warnings.simplefilter("ignore")
        from pollin_actors import Application, ForkedProcess
        from pollin_actors.otp import Actor, ChildSpec

        starting, gate = threading.Event(), threading.Event()

        class Slow(Actor):
            def on_start(self):
                starting.set()
                assert gate.wait(20)

        app = Application(children=[ChildSpec(id=1, start=Slow)])
        thread = threading.Thread(target=app.start)
        thread.start()
        assert starting.wait(20)
        pid = os.fork()
        if pid == 0:
            said = []

            def use():
                said.append(app.stop())
                try:
                    app.start()
                except ForkedProcess:
                    said.append(str(app.state))

            child = threading.Thread(target=use, daemon=True)
            child.start()
            child.join(5)
            os._exit(0 if said == [True, "forked"] else 1)
        _, status = os.waitpid(pid, 0)
        gate.set()
        thread.join(20)
        assert app.stop()
        assert os.waitstatus_to_exitcode(status) == 0
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


# -- sweeps ----------------------------------------------------------------------------------------


class Failing(MemoryBackend):
    """Counts sweeps; makes the actor that uses it crash, or says that it is not available."""

    def __init__(self) -> None:
        super().__init__()
        self.sweeps = 0
        self.broken = False
        self.down = False

    def execute(self, message: Any) -> Any:
        if self.broken:
            raise ZeroDivisionError
        if self.down:
            raise BackendUnavailable("failing", "it is down", "try again later")
        if isinstance(message, Sweep):
            self.sweeps += 1
        return super().execute(message)


def test_a_crash_of_the_endpoint_actor_leaves_one_chain_of_sweeps() -> None:
    """The timer of the incarnation that crashed does not begin a second one."""
    for seed in range(8):
        with Simulation(seed) as simulation:
            backend = Failing()
            app = Application(
                backend, settings=Settings(sweep_interval=5.0), runtime=simulation.runtime
            ).start()
            simulation.advance(50)
            assert backend.sweeps == 10
            for _ in range(2):
                simulation.advance(1)
                backend.broken = True
                with pytest.raises(ZeroDivisionError):
                    app.endpoints.index().get()
                backend.broken = False
            simulation.advance(5)
            backend.sweeps = 0
            simulation.advance(50)
            assert backend.sweeps == 10, f"seed {seed}"
            app.stop()


# -- a backend that answers later ------------------------------------------------------------------


class Deferred(MemoryBackend):
    """Carries everything out at once, and answers with futures.

    The answers to the held classes of messages come when ``answer`` is called, others at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hold: set[type] = set()
        self.held: list[tuple[Any, ReplyFuture[Any], Any]] = []
        self.down = False
        self.sweeps = 0

    def execute(self, message: Any) -> Any:
        reply: ReplyFuture[Any] = ReplyFuture()
        self.sweeps += isinstance(message, Sweep)
        if self.down:
            reply._fail(BackendUnavailable("deferred", "it is down", "try again later"))
            return reply
        value = super().execute(message)
        if type(message) in self.hold:
            self.held.append((message, reply, value))
        else:
            reply.set(value)
        return reply

    def answer(self, kind: type) -> None:
        """Give every answer to this class of messages that is held."""
        self.hold.discard(kind)
        held = [entry for entry in self.held if isinstance(entry[0], kind)]
        assert held, f"nobody waits for the answer to {kind.__name__}"
        for entry in held:
            self.held.remove(entry)
            entry[1].set(entry[2])


def _deferred(simulation: Simulation, *ids: str) -> tuple[Application, Deferred]:
    backend = Deferred()
    app = Application(
        backend,
        endpoints=[Endpoint.new(id=id, ttl=0) for id in ids],
        settings=Settings(sweep_interval=5.0),
        runtime=simulation.runtime,
    )
    return app.start(), backend


@pytest.fixture(params=range(8))
def simulation(request: pytest.FixtureRequest) -> Any:
    with Simulation(seed=request.param) as simulation:
        yield simulation


def test_a_look_up_that_fails_later_fails_who_waits_for_it(simulation: Simulation) -> None:
    """The first call to an endpoint, without a deadline, while the backend is down."""
    app, backend = _deferred(simulation, "a")
    backend.down = True
    waiting = [app.callbacks.count("a", timeout=None) for _ in range(3)]
    simulation.settle()
    for future in waiting:
        assert future.done(), "somebody waits for ever"
        with pytest.raises(BackendUnavailable):
            future.get(timeout=0)
    backend.down = False
    assert app.callbacks.count("a").get() == 0
    app.stop()


def test_sweeps_go_on_after_one_that_fails_later(simulation: Simulation) -> None:
    """However long the backend was down."""
    app, backend = _deferred(simulation)
    backend.down = True
    simulation.advance(20)
    backend.down = False
    backend.sweeps = 0
    simulation.advance(50)
    assert backend.sweeps == 10
    app.stop()


def test_a_delete_that_is_answered_after_a_later_create(simulation: Simulation) -> None:
    """The endpoint that was created since is there; its senders are not told otherwise."""
    app, backend = _deferred(simulation, "a")
    backend.hold = {DeleteEndpoint, FindEndpoint}
    deleted = app.endpoints.delete("a")
    simulation.settle()
    created = app.endpoints.create(Endpoint.new(id="a"))
    pushed = app.callbacks.push("a", Callback.new(1))
    simulation.settle()
    assert created.get(timeout=0).id == "a"
    backend.answer(DeleteEndpoint)
    simulation.settle()
    backend.answer(FindEndpoint)
    simulation.settle()
    assert deleted.get(timeout=0) is True
    assert pushed.get(timeout=0).outcome is Outcome.QUEUED
    assert app.callbacks.count("a").get() == 1
    app.stop()


def test_a_look_up_that_is_answered_after_a_later_create(simulation: Simulation) -> None:
    """The backend did not know the endpoint yet when it was asked; now it does."""
    app, backend = _deferred(simulation)
    backend.hold = {FindEndpoint}
    early = app.callbacks.push("a", Callback.new(1))
    simulation.settle()
    created = app.endpoints.create(Endpoint.new(id="a"))
    late = app.callbacks.push("a", Callback.new(2))
    simulation.settle()
    assert created.get(timeout=0).id == "a"
    backend.answer(FindEndpoint)
    simulation.settle()
    for future in (early, late):
        assert future.get(timeout=0).outcome is Outcome.QUEUED
    assert app.callbacks.count("a").get() == 2
    app.stop()


def test_a_delete_without_a_later_create_tells_who_waits(simulation: Simulation) -> None:
    """The counterpart: the name is given up once the backend has answered, whatever else a deletion
    has to ask it."""
    app, backend = _deferred(simulation, "a")
    backend.hold = {DeleteEndpoint, FindEndpoint}
    deleted = app._endpoints().ask(DeleteEndpoint("a"))
    pushed = app.callbacks.push("a", Callback.new(1))
    simulation.settle()
    backend.answer(DeleteEndpoint)
    simulation.settle()
    assert deleted.get(timeout=0) is True
    with pytest.raises(EndpointNotFound):
        pushed.get(timeout=0)
    backend.answer(FindEndpoint)
    simulation.settle()
    app.stop()


# -- memory ----------------------------------------------------------------------------------------


def test_refused_messages_leave_nothing_behind(simulation: Simulation) -> None:
    """Their bodies would be kept for as long as the backend is down, and longer."""
    backend = Failing()
    app = Application(
        backend,
        endpoints=[Endpoint.new(id="a", ttl=0)],
        settings=Settings(sweep_interval=1e6),
        runtime=simulation.runtime,
    ).start()
    registry = app._registry
    assert registry is not None
    backend.down = True
    refused = [app.callbacks.push("a", Callback.new(n), timeout=None) for n in range(50)]
    refused += [app.callbacks.count(f"unknown {n}", timeout=None) for n in range(50)]  # type: ignore[misc]
    simulation.settle()
    for future in refused:
        with pytest.raises(BackendUnavailable):
            future.get(timeout=0)
    kept = [registry.find(name) for name in registry.names()]
    assert [len(mailbox.queue) for mailbox in kept if mailbox is not None] == []
    backend.down = False
    assert app.callbacks.count("a").get() == 0
    app.stop()
