"""Events: what happens to children is told, typed, in order, and logged."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from pollin_actors.otp import (
    AutoShutdown,
    ChildSpec,
    Crashed,
    Event,
    Exited,
    ExitReason,
    GaveUp,
    Restarting,
    Runtime,
    Simulation,
    Started,
    StartFailed,
    StartRefused,
    Stop,
    Supervisor,
    Unstopped,
)
from tests.otp.actors import Echo


class Crash(Exception):
    """A handler's mistake."""


@pytest.fixture(params=range(8))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulation:
        yield simulation


def spec(child_id: str, **options: Any) -> ChildSpec:
    return ChildSpec(id=child_id, name=child_id, start=Echo, **options)


def listen(simulation: Simulation) -> list[Event]:
    events: list[Event] = []
    simulation.runtime.on_event = events.append
    return events


def test_a_life_in_events(simulation: Simulation) -> None:
    """Started, crashed, restarting, started, gave up: each with what it is about."""
    events = listen(simulation)
    Supervisor.start([spec("a")], name="root", max_restarts=1, runtime=simulation.runtime)
    old = simulation.runtime.registry.whereis("a")
    for _ in range(2):
        simulation.runtime.registry.tell("a", Crash())
        simulation.settle()
    kinds = [type(event) for event in events]
    assert kinds == [Started, Crashed, Restarting, Started, Crashed, GaveUp]
    assert {event.child for event in events} == {"a"}
    assert {event.supervisor for event in events} == {"Supervisor 'root'"}
    started, exited, restarting, again, _, gave_up = events
    assert started.ref is old
    assert isinstance(exited, Crashed)
    assert exited.ref is old
    assert exited.generation == 1
    assert exited.record.reason is ExitReason.CRASH
    assert isinstance(restarting, Restarting)
    assert (restarting.crashes, restarting.delay, restarting.others) == (1, 0.0, ())
    assert isinstance(again, Started)
    assert (again.generation, again.restarts) == (2, 1)
    assert isinstance(gave_up, GaveUp)
    assert (gave_up.max_restarts, gave_up.max_seconds) == (1, 5.0)


def test_a_round_names_the_others(simulation: Simulation) -> None:
    events = listen(simulation)
    Supervisor.start(
        [spec(tag) for tag in "abc"], strategy="one_for_all", runtime=simulation.runtime
    )
    simulation.runtime.registry.tell("b", Crash())
    simulation.settle()
    (restarting,) = [event for event in events if isinstance(event, Restarting)]
    assert restarting.child == "b"
    assert restarting.others == ("a", "c")


def test_a_start_that_fails_and_an_auto_shutdown(simulation: Simulation) -> None:
    events = listen(simulation)

    def broken() -> Echo:
        raise LookupError("no such thing")

    supervisor = Supervisor.start(
        [spec("a", restart="transient", significant=True)],
        auto_shutdown="any_significant",
        runtime=simulation.runtime,
    )
    with pytest.raises(StartFailed):
        supervisor.start_child(ChildSpec(id="b", start=broken)).get()
    simulation.runtime.registry.tell("a", Stop())
    simulation.settle()
    assert not supervisor.is_alive()
    kinds = [type(event) for event in events]
    assert kinds == [Started, StartRefused, Exited, AutoShutdown]
    refused = events[1]
    assert isinstance(refused, StartRefused)
    assert isinstance(refused.exception, LookupError)


def test_a_child_that_does_not_end_is_reported(simulation: Simulation) -> None:
    events = listen(simulation)

    class Reluctant(Echo):
        def on_stop(self) -> None:
            simulation.advance(2.0)

    supervisor = Supervisor.start(
        [ChildSpec(id="a", start=Reluctant, shutdown=1.0)], runtime=simulation.runtime
    )
    with capture_logs() as logs:
        supervisor.terminate_child("a", timeout=None).get()
        simulation.settle()
    (unstopped,) = [event for event in events if isinstance(event, Unstopped)]
    assert unstopped.shutdown == 1.0
    entry = next(entry for entry in logs if entry["event"] == "actor.unstopped")
    assert entry["log_level"] == "error"
    assert (entry["child"], entry["shutdown"]) == ("a", 1.0)


def test_a_hook_that_raises_is_logged_and_goes_on(simulation: Simulation) -> None:
    """Neither the supervisor nor the next event is harmed."""
    told: list[Event] = []

    def hook(event: Event) -> None:
        told.append(event)
        raise RuntimeError("a bad hook")

    simulation.runtime.on_event = hook
    with capture_logs() as logs:
        supervisor = Supervisor.start([spec("a"), spec("b")], runtime=simulation.runtime)
        simulation.settle()
    assert len(told) == 2
    assert supervisor.is_alive()
    assert [e["failed"] for e in logs if e["event"] == "event_hook.failed"] == ["actor.started"] * 2


def test_state_is_redacted_in_crash_reports(simulation: Simulation) -> None:
    """Attributes and their types by default; an actor may say more, or fail to."""

    class Secretive(Echo):
        def __init__(self, token: str) -> None:
            super().__init__()
            self.token = token

    class Broken(Secretive):
        def format_state(self) -> Any:
            raise RuntimeError(self.token)

    Supervisor.start(
        [
            ChildSpec(id=kind.__name__, name=kind, start=partial(kind, "s3cret"))
            for kind in (Secretive, Broken)
        ],
        runtime=simulation.runtime,
    )
    with capture_logs() as logs:
        for kind in (Secretive, Broken):
            simulation.runtime.registry.tell(kind, Crash())
        simulation.settle()
    states = {e["child"]: e["state"] for e in logs if e["event"] == "actor.crashed"}
    assert states["Secretive"] == {"log": "list", "tag": "NoneType", "token": "str"}
    assert "RuntimeError" in states["Broken"]
    assert "s3cret" not in str(states)


def test_nothing_but_trouble_is_logged_until_the_host_configures_logging(
    simulation: Simulation, capsys: pytest.CaptureFixture[str]
) -> None:
    """Starts and orderly ends are debug events: without a configuration they would be noise."""
    structlog.reset_defaults()
    supervisor = Supervisor.start([spec("a")], runtime=simulation.runtime)
    simulation.runtime.registry.tell("a", Crash())
    simulation.settle()
    supervisor.stop()
    simulation.settle()
    printed = capsys.readouterr().out
    assert "actor.crashed" in printed
    assert "actor.restarting" in printed
    assert "actor.started" not in printed
    assert "actor.exited" not in printed


def test_events_are_told_in_order_and_all_by_the_time_the_runtime_has_stopped() -> None:
    """On real threads: they come after the supervisor's turn, but none is lost at the end."""
    events: list[Event] = []
    runtime = Runtime(on_event=events.append).start()
    supervisor = Supervisor.start([spec("a")], max_restarts=1_000, runtime=runtime)
    for _ in range(200):
        runtime.registry.tell("a", Crash())
        runtime.registry.ask("a", "hello", timeout=60.0).get()
    supervisor.stop()
    runtime.stop()
    generations = [event.generation for event in events if isinstance(event, Started)]
    assert generations == list(range(1, 202))
    kinds = [type(event) for event in events]
    assert kinds == [Started] + [Crashed, Restarting, Started] * 200 + [Exited]
