"""The application's supervision as its users see it: tree, handle, events, phases, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import pykka
import pytest

from pollin_actors import Application, Callback, Endpoint, NotRunning, Request
from pollin_actors.application import State
from pollin_actors.otp import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildSpec,
    ChildState,
    Crashed,
    Event,
    InvalidSpec,
    Simulation,
    TreeNode,
    Unstopped,
)
from tests.otp.actors import Echo

SECONDS = 60.0


class Crash(Exception):
    """A handler's mistake."""


class Plain(pykka.ThreadingActor):
    """Knows nothing of us."""

    def on_receive(self, message: Any) -> Any:
        return message


def by_id(root: TreeNode) -> dict[Any, TreeNode]:
    return {node.id: node for node in root.walk()}


def push(app: Application, endpoint_id: str) -> None:
    app.callbacks.push(endpoint_id, Callback.new(Request([], b"{}"))).get()


@pytest.mark.parametrize("seed", range(4))
def test_the_whole_tree_can_be_looked_at(seed: int) -> None:
    """Endpoints' actors come on demand; a crash shows with its time, and up times are real."""
    with Simulation(seed=seed) as simulation:
        endpoints = [Endpoint.new(id="orders", ttl=0), Endpoint.new(id="idle")]
        own = ChildSpec(id="mine", name="mine", start=Echo)
        app = Application(endpoints=endpoints, children=[own], runtime=simulation.runtime)
        with app:
            push(app, "orders")
            simulation.advance(3.0)
            app.tell("mine", Crash("once"))
            simulation.advance(2.0)
            root = app.tree().get()
        ids = [node.id for node in root.walk()]
        assert ids == [
            "application",
            "callbacks",
            "orders",
            "endpoints",
            "consumers",
            "actors",
            "mine",
        ]
        nodes = by_id(root)
        assert {node.state for node in root.walk()} == {ChildState.RUNNING}
        assert nodes["orders"].actor == "CallbackActor"
        assert nodes["mine"].uptime == pytest.approx(2.0)
        assert nodes["mine"].restarts == 1
        crash = nodes["mine"].last_crash
        assert crash is not None
        assert crash.error == "Crash('once')"
        assert str(root).startswith("application  Supervisor, one_for_one  running  up 5.0 s\n")


def test_the_tree_can_be_awaited() -> None:
    async def look(app: Application) -> TreeNode:
        return await app.tree()

    with Application() as app:
        assert by_id(asyncio.run(look(app)))["endpoints"].actor == "EndpointActor"


def test_the_handle_of_own_actors() -> None:
    """Start, list, count, stop, restart and delete; a bare class and a class of plain Pykka too."""
    with Application(children=[Echo]) as app:
        actors = app.actors
        started = app.start_child(Plain).get()
        assert started.ask("hello", timeout=SECONDS) == "hello"
        assert [info.id for info in actors.which_children().get()] == ["Plain", "Echo"]
        assert actors.count_children().get() == (2, 2, 0, 2)
        with pytest.raises(AlreadyStarted) as caught:
            app.start_child(Echo).get()
        assert caught.value.ref is actors.which_child("Echo").get().ref
        app.terminate_child("Echo").get()
        with pytest.raises(AlreadyPresent):
            app.start_child(Echo).get()
        assert actors.restart_child("Echo").get().is_alive()
        app.terminate_child("Plain").get()
        actors.delete_child("Plain").get()
        with pytest.raises(ChildNotFound):
            actors.get_childspec("Plain").get()
        assert actors.get_childspec("Echo").get().shutdown == 5.0


def test_an_application_that_does_not_run_shows_nothing() -> None:
    app = Application()
    for look in (app.tree, lambda: app.actors):
        with pytest.raises(NotRunning):
            look()


def test_events_come_to_the_hook() -> None:
    """All of them by the time ``stop`` has returned, those of its own end included."""
    events: list[Event] = []
    with Application(children=[ChildSpec("a", Echo, name="a")], on_event=events.append) as app:
        app.tell("a", Crash())
        assert app.ask("a", "hello").get() == "hello"
    crashed = [event for event in events if isinstance(event, Crashed)]
    assert [(event.child, event.supervisor) for event in crashed] == [
        ("a", "Supervisor 'pollin.actors'")
    ]
    told = [(event.child, event.event) for event in events]
    assert told[-4:] == [
        ("actors", "actor.exited"),
        ("consumers", "actor.exited"),
        ("endpoints", "actor.exited"),
        ("callbacks", "actor.exited"),
    ]


def test_what_does_not_end_is_told_to_the_hook() -> None:
    """An actor that hangs in its end is abandoned and reported; ``stop`` goes on."""
    events: list[Event] = []
    hanging, gate = threading.Event(), threading.Event()

    class Hanging(Plain):
        use_daemon_thread = True

        def on_stop(self) -> None:
            hanging.set()
            gate.wait(SECONDS)

    spec = ChildSpec("hanging", Hanging, shutdown=0.0)
    app = Application(children=[spec], on_event=events.append).start()
    try:
        app.stop()
        assert [event.child for event in events if isinstance(event, Unstopped)] == ["hanging"]
    finally:
        gate.set()
        hanging.wait(0)


class Phased(Application):
    """Says what it goes through."""

    start_phases: ClassVar[Sequence[str]] = ("connect", "warm up")

    def __init__(self, fails: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.fails = fails
        self.log: list[str] = []

    def _say(self, what: str) -> None:
        self.log.append(f"{what} while {self.state}")
        if self.fails == what:
            raise Crash(what)

    def start_phase(self, phase: str) -> None:
        self._say(phase)

    def prep_stop(self) -> None:
        self.callbacks.count("orders").get()  # everything can still be used
        self.stop()  # harmless, also here
        self._say("prep_stop")

    def stopped(self) -> None:
        self._say("stopped")


def phased(fails: str = "") -> Phased:
    return Phased(fails, endpoints=[Endpoint.new(id="orders")])


def test_phases_of_a_life() -> None:
    """start → phases → running → prep_stop → the tree stops → stopped; again after a new start."""
    app = phased()
    life = [
        "connect while running",
        "warm up while running",
        "prep_stop while running",
        "stopped while stopped",
    ]
    for _ in range(2):
        with app:
            app.ensure_started()
            assert app.log == life[:2]
        assert app.log == life
        app.log.clear()
    app.stop()
    assert app.log == []


def test_a_phase_that_fails_makes_the_start_fail() -> None:
    """Nothing is left running, and the hooks of the stop are not called for what never ran."""
    app = phased("warm up")
    with pytest.raises(Crash, match="warm up"):
        app.start()
    assert app.log == ["connect while running", "warm up while running"]
    assert app.state is State.NEW
    app.fails = ""
    with app:
        push(app, "orders")


@pytest.mark.parametrize("hook", ["prep_stop", "stopped"])
def test_a_hook_that_fails_does_not_keep_the_application_from_stopping(hook: str) -> None:
    app = phased(hook)
    with app:
        pass
    assert app.state is State.STOPPED
    assert [entry.split()[0] for entry in app.log] == ["connect", "warm", "prep_stop", "stopped"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_ends_at_a_signal(number: signal.Signals) -> None:
    """It starts, waits, stops in order, and puts the handlers back."""
    assert threading.current_thread() is threading.main_thread()
    before = signal.getsignal(number)

    class Signalled(Phased):
        def start_phase(self, phase: str) -> None:
            super().start_phase(phase)
            if phase == "warm up":
                threading.Thread(target=partial(os.kill, os.getpid(), number)).start()

    app = Signalled(endpoints=[Endpoint.new(id="orders")])
    assert app.run() is True
    assert app.state is State.STOPPED
    assert app.log[-1] == "stopped while stopped"
    assert signal.getsignal(number) is before


def test_a_second_signal_does_not_wait() -> None:
    """Not even for the stop: whoever signals twice means it. The handlers are put back."""
    before = signal.getsignal(signal.SIGTERM)

    class Signalled(Phased):
        def start_phase(self, phase: str) -> None:
            if phase == "warm up":
                for _ in range(2):
                    signal.raise_signal(signal.SIGTERM)

    app = Signalled(endpoints=[Endpoint.new(id="orders")])
    with pytest.raises(SystemExit) as caught:
        app.run()
    assert caught.value.code == 128 + signal.SIGTERM
    assert app.state is State.NEW
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_wrong_child_is_refused_before_anything_starts() -> None:
    with pytest.raises(InvalidSpec, match="children"):
        Application(children=[5])  # type: ignore[list-item]
    with pytest.raises(InvalidSpec, match="ids that differ"):
        Application(children=[Echo, Echo])


def test_a_tree_that_gives_up_during_the_phases_is_a_failed_start() -> None:
    """``start`` does not say that all is well."""

    class GivingUp(Phased):
        def start_phase(self, phase: str) -> None:
            assert self._root is not None
            self._root.stop()

    app = GivingUp(endpoints=[Endpoint.new(id="orders")])
    with pytest.raises(NotRunning):
        app.start()
    with Application() as other:
        assert other.state is State.RUNNING


def test_run_ends_when_the_application_fails() -> None:
    """The root supervisor gives up: nobody waits for a signal that may never come."""

    class Hopeless(Echo):
        def on_start(self) -> None:
            if self.tag():  # type: ignore[operator]
                raise Crash

    starts = iter(range(1_000))
    spec = ChildSpec("a", lambda: Hopeless(tag=lambda: next(starts) > 0), name="a")

    class Failing(Phased):
        def start_phase(self, phase: str) -> None:
            if phase == "warm up":
                self.tell("a", Crash())

        def prep_stop(self) -> None:
            raise AssertionError("there is nothing left that could be prepared")

    app = Failing(endpoints=[Endpoint.new(id="orders")], children=[spec])
    app.run()
    assert app.log[-1] == "stopped while stopped"
    assert app.state is State.STOPPED


def test_the_last_hook_is_called_although_the_stop_was_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever calls stop() again has the application stopped as if for the first time."""
    called: list[str] = []

    class Mine(Application):
        def stopped(self) -> None:
            called.append("stopped")

    def interrupted(_: float) -> bool:
        raise KeyboardInterrupt

    app = Mine().start()
    with monkeypatch.context() as patched:
        patched.setattr(app.handlers, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            app.stop()
    assert called == []
    assert app.stop() is True
    assert called == ["stopped"]
