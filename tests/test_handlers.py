"""Handlers in virtual time: what their options mean, and what becomes of what they return."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pykka
import pytest
from structlog.testing import capture_logs

from pollin_actors import (
    Application,
    Callback,
    Endpoint,
    InvalidValue,
    NotRunning,
    Request,
    Settings,
    State,
    UnknownPhase,
)
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.errors import BackendUnavailable
from pollin_actors.handlers import Advance, Discard, HandlerState, Reject, Retry
from pollin_actors.messages import Ack, ClaimSlice, Consume, Extend, Nack, Push
from pollin_actors.otp import Backoff, NamedSupervisor, ReplyFuture, Simulation
from pollin_actors.otp.waiting import current_cell
from pollin_actors.records import Kind
from pollin_actors.tree import CONSUMERS
from tests.handling import (
    PHASES,
    Flaky,
    consumer,
    crash,
    history,
    orders,
    pass_time,
    phases,
    push,
    story,
)

SOON = Backoff(first=1.0, most=8.0, jitter=0.0)


def nothing(callback: Callback) -> None:
    """A handler that is content with everything."""


@pytest.fixture(params=range(3))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulated:
        yield simulated


def application(simulation: Simulation, *endpoints: Endpoint, **more: Any) -> Application:
    return Application(
        more.pop("backend", None) or MemoryBackend(),
        endpoints=endpoints or [orders()],
        runtime=simulation.runtime,
        **more,
    )


# -- what a handler returns ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "counts", "kind", "reason"),
    [
        (None, {"processed": 1}, Kind.ACKNOWLEDGED, ""),
        ("anything", {"processed": 1}, Kind.ACKNOWLEDGED, ""),
        (Advance("failed"), {"failed": 1}, Kind.ACKNOWLEDGED, ""),
        (Discard("spam"), {}, Kind.DISCARDED, "spam"),
        (Discard("a\0b\ud800"), {}, Kind.DISCARDED, "a\ufffdb\ufffd"),
        (Reject("never"), {"failed": 1}, Kind.DEAD, "never"),
        (Retry(after=1e6, reason="later"), {"received": 1}, Kind.FAILED, "later"),
        (Advance("nowhere"), {"received": 1}, Kind.FAILED, "UnknownPhase"),
    ],
)
def test_the_result_decides(
    simulation: Simulation, result: Any, counts: dict[str, int], kind: Kind, reason: str
) -> None:
    """Done, discarded, moved elsewhere, or once more."""
    app = application(simulation)
    app.add_handler(
        lambda callback: result,
        "orders",
        then="processed",
        dead_letter="failed",
        backoff=Backoff(first=1e6, most=1e6, jitter=0.0),
    )
    with app:
        push(app, "a")
        simulation.advance(1.0)
        assert phases(app) == counts
        last = history(app, "a")[-1]
        assert last.kind is kind
        assert last.reason.startswith(reason)
        assert last.by == "<lambda>"


def test_what_is_rejected_is_discarded_where_there_are_no_dead_letters(
    simulation: Simulation,
) -> None:
    app = application(simulation)
    app.add_handler(lambda callback: Reject("never"), "orders")
    with app:
        push(app, "a")
        simulation.advance(1.0)
        assert phases(app) == {}
        last = history(app, "a")[-1]
        assert (last.kind, last.reason) == (Kind.DISCARDED, "never")


def test_without_then_what_is_done_leaves_the_queue(simulation: Simulation) -> None:
    app = application(simulation)
    app.add_handler(nothing, "orders")
    with app:
        push(app, "a", "b")
        simulation.advance(1.0)
        assert phases(app) == {}
        assert story(app, "a") == [("pushed", 0), ("claimed", 1), ("acknowledged", 1)]


def test_exceptions_are_tried_again_ever_later_and_then_given_up(simulation: Simulation) -> None:
    """The back-off doubles; the reason is type and text; the last attempt goes to dead letters."""
    app = application(simulation)
    times: list[float] = []

    @app.handler("orders", dead_letter="failed", max_attempts=4, backoff=SOON)
    def handle(callback: Callback) -> None:
        times.append(simulation.clock.monotonic())
        raise ValueError("x" * 1000)

    with app, capture_logs() as logs:
        push(app, "a")
        simulation.advance(60.0)
        assert phases(app) == {"failed": 1}
        records = [r for r in history(app, "a") if r.kind in (Kind.FAILED, Kind.DEAD)]
        assert [(r.kind, r.attempt) for r in records] == [
            (Kind.FAILED, 1),
            (Kind.FAILED, 2),
            (Kind.FAILED, 3),
            (Kind.DEAD, 4),
        ]
        assert records[0].reason == ("ValueError: " + "x" * 1000)[:500]
    assert [round(b - a, 3) for a, b in itertools.pairwise(times)] == [1.0, 2.0, 4.0]
    told = [entry for entry in logs if entry["event"].startswith("handler.")]
    assert [entry["event"] for entry in told] == ["handler.failed"] * 3 + ["handler.dead"]
    assert told[0]["reason"] == "ValueError", "the log never says what was in it"


@pytest.mark.parametrize("is_async", [False, True])
def test_the_log_says_where_it_failed(simulation: Simulation, is_async: bool) -> None:
    """The last line of the handler's own file, not of a library's; and nowhere if it is in none."""
    app = application(simulation)

    def handle(callback: Callback) -> None:
        json.loads(b"no JSON")

    async def ahandle(callback: Callback) -> None:
        handle(callback)

    line = handle.__code__.co_firstlineno + 1
    app.add_handler(ahandle if is_async else handle, "orders", name="inside")
    app.add_handler(lambda: None, "orders", phase="failed", name="outside")
    with app, capture_logs() as logs:
        push(app, "a")
        push(app, "b", phase="failed")
        simulation.settle()
    told = {e["handler"]: e.get("at") for e in logs if e["event"] == "handler.failed"}
    assert told == {"inside": f"{__file__}:{line}", "outside": None}


def test_full_jitter_is_drawn_from_the_runtime() -> None:
    """By default anything up to the whole wait; the same seed draws the same."""

    def delays(seed: int) -> list[float]:
        with Simulation(seed) as simulation:
            app = application(simulation)
            times: list[float] = []

            @app.handler("orders", dead_letter="failed", max_attempts=8)
            def handle(callback: Callback) -> None:
                times.append(simulation.clock.monotonic())
                raise ValueError

            with app:
                push(app, "a")
                simulation.advance(600.0)
            return [b - a for a, b in itertools.pairwise(times)]

    drawn = delays(1)
    assert drawn == delays(1)
    assert drawn != delays(2)
    assert len(drawn) == 7
    assert all(delay <= 2.0**n + 0.01 for n, delay in enumerate(drawn))
    assert any(delay < 2.0**n * 0.5 for n, delay in enumerate(drawn))


def test_without_dead_letter_it_is_tried_for_ever(simulation: Simulation) -> None:
    app = application(simulation)
    attempts: list[int] = []

    @app.handler("orders", backoff=Backoff(first=1.0, most=1.0, jitter=0.0))
    def handle(callback: Callback) -> None:
        attempts.append(callback.attempts)
        raise ValueError

    with app:
        push(app, "a")
        simulation.advance(100.0)
        assert phases(app) == {"received": 1}
    assert attempts[:50] == list(range(1, 51))


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_is_no_exception_costs_one_attempt(
    simulation: Simulation, error: type[BaseException]
) -> None:
    """SystemExit and its like end neither the application nor another callback's work."""
    app = application(simulation)

    @app.handler("orders", then="processed", dead_letter="failed", max_attempts=1)
    def handle(callback: Callback) -> None:
        if callback.id == "bad":
            raise error

    with app:
        push(app, "bad", "a", "b")
        simulation.advance(1.0)
        assert phases(app) == {"processed": 2, "failed": 1}
        assert history(app, "bad")[-1].reason == error.__name__


def test_a_coroutine_that_nobody_would_await_is_a_failure(simulation: Simulation) -> None:
    """A function that hides that it is one is not taken for done."""
    app = application(simulation)

    async def work(callback: Callback) -> None:
        raise AssertionError("never awaited")

    app.add_handler(lambda callback: work(callback), "orders", dead_letter="failed", max_attempts=1)
    with app:
        push(app, "a")
        simulation.advance(1.0)
        assert phases(app) == {"failed": 1}
        assert "async def" in history(app, "a")[-1].reason


class Async:
    """An object that is called and awaited."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, callback: Callback) -> None:
        await pass_time(0.5)
        self.seen.append(callback.id)


@pytest.mark.parametrize("wrap", [lambda f: f, partial])
def test_coroutines_run_on_the_loop(simulation: Simulation, wrap: Callable[..., Any]) -> None:
    """In simulation, too: awaiting, sleeping, groups and time-outs of asyncio."""
    app = application(simulation)
    handler = Async()
    app.add_handler(wrap(handler), "orders", then="processed", name="h")
    results: list[Any] = []

    @app.handler("orders", phase="processed", then="failed")
    async def second(callback: Callback) -> None:
        async with asyncio.TaskGroup() as group:
            a = group.create_task(pass_time(1.0, "a"))
            b = group.create_task(asyncio.to_thread(str.upper, "b"))
        found = await app.callbacks.fetch("orders", key=callback.id)
        results.append((a.result(), b.result(), found.phase if found else None))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 1.0)

    with app:
        push(app, "a", "b", "c")
        simulation.advance(5.0)
        assert sorted(handler.seen) == ["a", "b", "c"]
        assert results == [("a", "B", "processed")] * 3
        assert phases(app) == {"failed": 3}


# -- batches ---------------------------------------------------------------------------------------


def test_batches(simulation: Simulation) -> None:
    """One result for all, a result for each, or an exception that fails them all."""
    app = application(simulation)
    sizes: list[int] = []

    @app.handler("orders", then="processed", dead_letter="failed", max_attempts=1, batch=3)
    def handle(callbacks: list[Callback]) -> Any:
        sizes.append(len(callbacks))
        if any(callback.id == "bad" for callback in callbacks):
            raise ValueError
        if any(callback.id == "few" for callback in callbacks):
            return [None] * 5
        return [Discard() if callback.id == "spam" else None for callback in callbacks]

    app.handlers.pause("handle")
    with app:
        push(app, "a", "spam", "b", "bad", "c", "d", "few", "e")
        app.handlers.resume("handle")
        simulation.advance(1.0)
        assert sorted(sizes, reverse=True) == [3, 3, 2]
        assert phases(app) == {"processed": 2, "failed": 5}
        assert history(app, "spam")[-1].kind is Kind.DISCARDED
        assert "a list of 2" in history(app, "e")[-1].reason


# -- time ------------------------------------------------------------------------------------------


def test_what_takes_too_long_has_failed(simulation: Simulation) -> None:
    """A function that hangs is left to itself: its place is another's, its result is ignored."""
    app = application(simulation)
    never: ReplyFuture[None] = ReplyFuture()
    done: dict[str, float] = {}

    options: dict[str, Any] = {"concurrency": 1, "timeout": 10.0, "max_attempts": 1}

    @app.handler("orders", then="processed", dead_letter="failed", **options)
    def handle(callback: Callback) -> None:
        if callback.id == "hangs":
            with contextlib.suppress(pykka.Timeout):
                never.get(timeout=50.0)
        done[callback.id] = simulation.clock.monotonic()

    with app, capture_logs() as logs:
        push(app, "hangs", "a")
        simulation.advance(60.0)
        assert phases(app) == {"processed": 1, "failed": 1}
        last = history(app, "hangs")[-1]
        assert last.reason == "timed out after 10 s"
        push(app, "b")
        simulation.advance(1.0)
        assert phases(app) == {"processed": 2, "failed": 1}
    assert done["a"] == pytest.approx(10.0, abs=0.1), "as soon as the first was given up"
    assert done["hangs"] == pytest.approx(50.0, abs=0.1)
    told = [entry["event"] for entry in logs if entry["event"].startswith("handler.")]
    assert told == ["handler.timed_out", "handler.dead", "handler.abandoned"]


def test_a_coroutine_that_takes_too_long_is_cancelled(simulation: Simulation) -> None:
    app = application(simulation)
    cancelled: list[str] = []

    @app.handler("orders", dead_letter="failed", max_attempts=1, timeout=2.0, concurrency=1)
    async def handle(callback: Callback) -> None:
        if callback.id == "hang":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(callback.id)
                raise

    with app:
        push(app, "hang", "a")
        simulation.advance(3.0)
        assert cancelled == ["hang"]
        assert phases(app) == {"failed": 1}


def test_leases_are_extended_as_long_as_work_goes_on(simulation: Simulation) -> None:
    """Ten times the lease, and nobody else gets what is worked on."""
    app = application(simulation)

    @app.handler("orders", then="processed", lease=1.0, timeout=None, batch=2, concurrency=1)
    async def handle(callbacks: list[Callback]) -> None:
        await pass_time(10.0)

    app.handlers.pause("handle")
    with app:
        push(app, "a", "b")
        app.handlers.resume("handle")
        simulation.advance(9.0)
        assert app.callbacks.claim("orders").get() == []
        simulation.advance(3.0)
        assert story(app, "a")[-1] == ("acknowledged", 1)


def test_a_claim_that_is_lost_is_left_alone(simulation: Simulation) -> None:
    """Somebody moves the callback meanwhile: what the function says then counts for nothing."""
    app = application(simulation)

    @app.handler("orders", then="processed", lease=2.0)
    async def handle(callback: Callback) -> None:
        await pass_time(10.0)

    with app, capture_logs() as logs:
        push(app, "a")
        simulation.advance(0.5)
        app.callbacks.update_phase("orders", key="a", phase="failed").get()
        simulation.advance(20.0)
        assert phases(app) == {"failed": 1}
        assert app.handlers["handle"].held == 0
    assert [e["event"] for e in logs if e["event"].startswith("handler.")] == ["handler.claim_lost"]


def test_not_before_is_waited_for_without_polling(simulation: Simulation) -> None:
    """The backend says when there is more: then it is looked for, and hardly in between."""
    backend = MemoryBackend()
    looks: list[float] = []
    execute = backend.execute

    def counted(message: Any) -> Any:
        if isinstance(message, ClaimSlice):
            looks.append(simulation.clock.monotonic())
        return execute(message)

    backend.execute = counted  # type: ignore[method-assign]
    app = application(simulation, backend=backend, settings=Settings(sweep_interval=1e6))
    done: list[float] = []

    @app.handler("orders")
    def handle(callback: Callback) -> None:
        done.append(simulation.clock.monotonic())

    with app:
        at = simulation.clock.time_ns() + 100 * 10**9
        push(app, "a", not_before=at)
        simulation.advance(200.0)
    assert done == [pytest.approx(100.0, abs=0.1)]
    assert len(looks) <= 8


def test_where_others_use_the_store_it_looks_now_and_then(simulation: Simulation) -> None:
    """Nobody tells of what another process pushes."""

    class Shared(MemoryBackend):
        shared = True

    backend = Shared()
    settings = Settings(poll_interval=2.0)
    app = application(simulation, backend=backend, settings=settings)
    done: list[float] = []

    @app.handler("orders")
    def handle(callback: Callback) -> None:
        done.append(simulation.clock.monotonic())

    with app:
        simulation.advance(10.0)
        app.callbacks.push("orders", Callback.new(Request([], b""), id="a")).get()
        simulation.settle()
        backend.execute(Push("orders", Callback.new(Request([], b""), id="b"), trusted=True))
        simulation.advance(2.5)
    assert len(done) == 2
    assert 10.0 < done[1] <= 12.5


def test_how_often_it_looks_can_be_set() -> None:
    assert Settings.from_env({"POLLIN_POLL_INTERVAL": "0.5"}).poll_interval == 0.5
    with pytest.raises(InvalidValue, match=r"Settings\.poll_interval"):
        Settings(poll_interval=0)


# -- order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_one_at_a_time_of_each_ordering_key(simulation: Simulation, fails: bool) -> None:
    """Eight workers, three keys: in their order, also where an attempt fails."""
    app = application(simulation)
    running: set[str] = set()
    done: dict[str, list[str]] = {"x": [], "y": [], "z": []}
    draw = simulation.runtime.random.random

    @app.handler("orders", then="processed", backoff=SOON)
    async def handle(callback: Callback) -> None:
        key = callback.ordering_key
        assert key is not None
        assert key not in running
        running.add(key)
        try:
            await pass_time(draw())
            if fails and draw() < 0.3:
                raise ValueError
        finally:
            running.discard(key)
        done[key].append(callback.id)

    with app:
        for n in range(30):
            push(app, f"{n:02}", ordering_key="xyz"[n % 3])
        simulation.advance(600.0)
        assert phases(app) == {"processed": 30}
    for n, key in enumerate("xyz"):
        assert done[key] == [f"{m:02}" for m in range(30) if m % 3 == n]


# -- endpoints -------------------------------------------------------------------------------------


def test_the_phase_is_said_to_be_consumed(simulation: Simulation) -> None:
    """So that what waits for its handler does not expire; by default it is the first phase."""
    app = application(simulation)
    app.add_handler(nothing, "orders", then="processed", name="a")
    app.add_handler(nothing, "orders", phase="failed", name="b")
    with app:
        simulation.settle()
        endpoint = app.endpoints.find("orders").get()
        assert endpoint is not None
        assert endpoint.consumes == ("received", "failed")


def test_an_endpoint_that_comes_later_is_waited_for(simulation: Simulation) -> None:
    """And one that is deleted and made again; and one whose phase comes with an update."""
    app = application(simulation, Endpoint.new(id="other"))
    app.add_handler(nothing, "orders", phase="received", then="processed", name="h")

    def state() -> HandlerState:
        return app.handlers["h"].state

    with app:
        simulation.settle()
        assert state() is HandlerState.WAITING
        app.endpoints.create(orders().replace(phases=("received",))).get()
        with capture_logs() as logs:
            push(app, "a")
            simulation.advance(1.0)
        assert [e["event"] for e in logs].count("handler.unknown_phase") <= 1
        assert state() is HandlerState.WAITING
        app.endpoints.update(orders()).get()
        simulation.advance(1.0)
        assert state() is HandlerState.RUNNING
        assert phases(app) == {"processed": 1}
        app.endpoints.delete("orders").get()
        simulation.advance(1.0)
        assert state() is HandlerState.WAITING
        app.endpoints.create(orders()).get()
        push(app, "b")
        simulation.advance(1.0)
        assert phases(app) == {"processed": 1}


@pytest.mark.parametrize("option", ["phase", "then", "dead_letter"])
def test_a_phase_that_is_not_there_is_found_at_the_start(
    simulation: Simulation, option: str
) -> None:
    """Nothing is left running; with the phase there the same application starts."""
    app = application(simulation)
    app.add_handler(nothing, "orders", **{option: "new"})
    with pytest.raises(UnknownPhase) as caught:
        app.start()
    assert caught.value.phase == "new"
    assert app.state is State.NEW
    with pytest.raises(NotRunning):
        app.callbacks.count("orders")


# -- while it runs ---------------------------------------------------------------------------------


def test_a_handler_can_come_while_the_application_runs(simulation: Simulation) -> None:
    app = application(simulation)
    with app:
        push(app, "a")

        @app.handler("orders", then="processed")
        def late(callback: Callback) -> None:
            return None

        simulation.advance(1.0)
        assert phases(app) == {"processed": 1}
        assert [info.name for info in app.handlers] == ["late"]
    assert app.handlers["late"].state is HandlerState.STOPPED


def test_pause_gives_back_and_resume_goes_on(simulation: Simulation) -> None:
    """What runs goes on; what waits is as if it had not been claimed. A crash changes nothing."""
    app = application(simulation)
    gate = asyncio.Event()

    @app.handler("orders", then="processed", concurrency=1)
    async def handle(callback: Callback) -> None:
        await gate.wait()

    with app, capture_logs() as logs:
        push(app, "a", "b")
        simulation.advance(1.0)
        app.handlers.pause("handle").get()
        assert app.handlers["handle"].state is HandlerState.PAUSED
        gate.set()
        simulation.advance(1.0)
        assert phases(app) == {"received": 1, "processed": 1}
        assert story(app, "b") == [("pushed", 0)]
        crash(app, "handle")
        simulation.advance(10.0)
        assert phases(app) == {"received": 1, "processed": 1}
        app.handlers.resume("handle").get()
        simulation.advance(1.0)
        assert phases(app) == {"processed": 2}
    told = [entry["event"] for entry in logs if entry["event"].startswith("handler.")]
    assert told == ["handler.paused", "handler.resumed"]


def test_drain_waits_for_what_runs(simulation: Simulation) -> None:
    app = application(simulation)

    @app.handler("orders", then="processed", concurrency=2)
    async def handle(callback: Callback) -> None:
        await pass_time(5.0)

    with app:
        push(app, "a", "b", "c")
        simulation.advance(1.0)
        drained = app.handlers.drain("handle")
        simulation.advance(3.0)
        assert not drained.done()
        drained.get()
        assert simulation.clock.monotonic() == pytest.approx(5.0, abs=0.5)
        assert phases(app) == {"received": 1, "processed": 2}


def test_stop_lets_what_runs_come_to_its_end(simulation: Simulation) -> None:
    """It can use the application until then, and is acknowledged; and a new start goes on."""
    backend = MemoryBackend()
    app = application(simulation, backend=backend)

    @app.handler("orders", then="processed", concurrency=2)
    async def handle(callback: Callback) -> None:
        await pass_time(2.0)
        if callback.id == "a":
            await app.callbacks.push("orders", Callback.new(None, id="child", parent="a"))

    with app:
        push(app, "a", "b", "c")
        simulation.advance(1.0)
        assert app.stop()
        assert app.handlers["handle"].held == 0
        app.start()
        assert story(app, "a")[-1] == ("acknowledged", 1)
        assert story(app, "b")[-1] == ("acknowledged", 1)
        simulation.advance(10.0)
        assert phases(app) == {"processed": 4}
        assert story(app, "c") == [("pushed", 0), ("claimed", 1), ("acknowledged", 1)]


def test_what_does_not_end_goes_back_when_the_application_stops(simulation: Simulation) -> None:
    """Half of the shutdown time is waited; the attempt has failed, and others may take it."""
    backend = MemoryBackend()
    app = application(simulation, backend=backend, settings=Settings(shutdown=8.0))

    @app.handler("orders", then="processed", timeout=None)
    async def handle(callback: Callback) -> None:
        await asyncio.Event().wait()

    app.start()
    push(app, "a")
    simulation.advance(1.0)
    before = simulation.clock.monotonic()
    with capture_logs() as logs:
        app.stop()
    assert simulation.clock.monotonic() - before == pytest.approx(4.0, abs=0.5)
    assert "handlers.undrained" in [entry["event"] for entry in logs]
    app = application(simulation, backend=backend)
    with app:
        assert story(app, "a") == [("pushed", 0), ("claimed", 1), ("failed", 1)]
        assert history(app, "a")[-1].reason == "claimer ended: shutdown"


def test_a_consumer_that_is_terminated_loses_nothing(simulation: Simulation) -> None:
    """By its supervisor's call: all that it had goes back at once."""
    app = application(simulation)

    @app.handler("orders", then="processed", lease=1000.0)
    async def handle(callback: Callback) -> None:
        await pass_time(5.0)

    with app:
        push(app, *"abcdefghijkl")
        simulation.advance(1.0)
        supervisor = NamedSupervisor(simulation.runtime.registry, CONSUMERS)
        supervisor.terminate_child("handle").get()
        simulation.advance(10.0)
        assert len(app.callbacks.claim("orders", limit=100, lease=1.0).get()) == 12
        simulation.advance(2.0)
        supervisor.restart_child("handle").get()
        simulation.advance(60.0)
        assert phases(app) == {"processed": 12}


def test_a_crash_of_one_consumer_stops_nobody(simulation: Simulation) -> None:
    """Again and again: its callbacks go back at once, the others and the application go on."""
    app = application(simulation, Endpoint.new(PHASES, id="other", ttl=0), orders())
    app.add_handler(nothing, "other", then="processed", name="other")

    @app.handler("orders", then="processed", lease=1000.0)
    async def handle(callback: Callback) -> None:
        await pass_time(3.0)

    with app:
        push(app, "a")
        simulation.advance(1.0)
        for _ in range(20):
            crash(app, "handle")
            simulation.advance(1.0)
        app.callbacks.push("other", Callback.new(None)).get()
        simulation.advance(60.0)
        assert app.callbacks.count("other", phase="processed").get() == 1
        assert phases(app) == {"processed": 1}
        assert "claimer ended: crash: Crash" in {r.reason for r in history(app, "a")}
        assert consumer(app, "handle") is not None


def test_attempts_that_never_ended_count_as_well(simulation: Simulation) -> None:
    """A callback that takes its process down with it is not tried for ever."""
    app = application(simulation)
    app.add_handler(nothing, "orders", dead_letter="failed", max_attempts=2)
    app.handlers.pause("nothing")
    with app:
        push(app, "a")
        for _ in range(2):
            app.callbacks.claim("orders", lease=1.0).get()
            simulation.advance(2.0)
        app.handlers.resume("nothing")
        simulation.advance(1.0)
        assert phases(app) == {"failed": 1}
        assert history(app, "a")[-1].reason == "no attempt left after 2"


# -- backends that fail ----------------------------------------------------------------------------


def test_an_acknowledgement_is_tried_again_while_the_lease_holds(simulation: Simulation) -> None:
    """The function is not called a second time because the backend was away for a moment."""
    backend = Flaky(0)
    app = application(simulation, backend=backend)
    runs: list[str] = []

    @app.handler("orders", then="processed")
    def handle(callback: Callback) -> None:
        runs.append(callback.id)

    away = BackendUnavailable("flaky", "away")
    with app:
        backend.refuse = lambda message: away if isinstance(message, Ack) else None
        push(app, "a")
        simulation.advance(10.0)
        assert phases(app) == {"received": 1}
        backend.refuse = lambda message: None
        simulation.advance(5.0)
        assert phases(app) == {"processed": 1}
    assert runs == ["a"]


def test_in_the_end_the_lease_runs_out(simulation: Simulation) -> None:
    """A backend that takes no end of a claim: it is let go, and another attempt follows."""
    backend = Flaky(0)
    app = application(simulation, backend=backend)
    runs: list[str] = []

    @app.handler("orders", then="processed", lease=5.0)
    def handle(callback: Callback) -> None:
        runs.append(callback.id)

    away = BackendUnavailable("flaky", "away")
    ends = (Ack, Nack, Extend)
    with app:
        backend.refuse = lambda message: away if isinstance(message, ends) else None
        push(app, "a")
        simulation.advance(4.0)
        assert runs == ["a"]
        simulation.advance(3.0)
        assert runs == ["a", "a"]
        backend.refuse = lambda message: None
        simulation.advance(10.0)
        assert phases(app) == {"processed": 1}
        assert Kind.LAPSED in [record.kind for record in history(app, "a")]


def test_a_dead_letter_phase_that_has_gone_is_done_without(simulation: Simulation) -> None:
    """The endpoint has lost the phase since: the callback stays, and is tried again."""
    app = application(simulation)

    @app.handler("orders", dead_letter="failed", max_attempts=1, backoff=SOON)
    def handle(callback: Callback) -> None:
        raise ValueError

    with app, capture_logs() as logs:
        simulation.settle()
        app.endpoints.update(orders().replace(phases=("received", "processed"))).get()
        push(app, "a")
        simulation.advance(0.5)
        assert app.callbacks.count("orders", phase="received").get() == 1
        assert history(app, "a")[-1].kind is Kind.FAILED
        app.endpoints.update(orders()).get()
        simulation.advance(10.0)
        assert phases(app) == {"failed": 1}
    assert "handler.refused" in [entry["event"] for entry in logs]


def test_consuming_waits_for_a_backend_that_is_away(simulation: Simulation) -> None:
    """It is asked again, less and less often; each outage is told once."""
    backend = Flaky(0)
    app = application(simulation, backend=backend)
    app.add_handler(nothing, "orders", then="processed")
    away = BackendUnavailable("flaky", "away")
    asked: list[Any] = []

    def refuse(message: Any) -> Exception | None:
        asked.append(message)
        return away

    with app, capture_logs() as logs:
        simulation.settle()
        backend.refuse = refuse
        push(app, "a")
        simulation.advance(20.0)
        assert 5 < len(asked) < 30
        backend.refuse = lambda message: None
        simulation.advance(3.0)
        assert phases(app) == {"processed": 1}
    told = [e["event"] for e in logs if e["event"].startswith("handler.")]
    assert told == ["handler.cannot_claim"]


# -- surroundings ----------------------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


@pytest.mark.parametrize("is_async", [False, True])
def test_each_call_has_a_context_of_its_own(simulation: Simulation, is_async: bool) -> None:
    """It finds nothing of the actor's, of whoever started the application, or of another call."""
    app = application(simulation)
    seen: list[Any] = []

    def look(callback: Callback) -> None:
        seen.append((variable.get(), current_cell.get()))
        variable.set(callback.id)

    async def alook(callback: Callback) -> None:
        look(callback)

    app.add_handler(alook if is_async else look, "orders")
    token = variable.set("the starter's")
    try:
        with app:
            push(app, "a", "b", "c")
            simulation.advance(1.0)
    finally:
        variable.reset(token)
    assert seen == [("none", None)] * 3


def test_functions_may_wait_for_the_application(simulation: Simulation) -> None:
    """A sync function that waits in simulation runs everything else meanwhile."""
    app = application(simulation)

    @app.handler("orders", then="processed", concurrency=3)
    def handle(callback: Callback) -> None:
        if callback.parent is None:
            child = Callback.new(None, id=f"{callback.id}-child", parent=callback.id)
            app.callbacks.push("orders", child).get()

    with app:
        push(app, "a", "b")
        simulation.advance(5.0)
        assert phases(app) == {"processed": 4}


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"max_attempts": 3}, "handler.max_attempts"),
        ({"max_attempts": 0, "dead_letter": "failed"}, "handler.max_attempts"),
        ({"phase": "x", "then": "x"}, "handler.then"),
        ({"phase": "x", "dead_letter": "x"}, "handler.dead_letter"),
        ({"phase": ""}, "handler.phase"),
        ({"phase": 3}, "handler.phase"),
        ({"concurrency": 0}, "handler.concurrency"),
        ({"concurrency": True}, "handler.concurrency"),
        ({"batch": 0}, "handler.batch"),
        ({"batch": 1001}, "handler.batch"),
        ({"backoff": 3}, "handler.backoff"),
        ({"timeout": 0}, "handler.timeout"),
        ({"timeout": float("nan")}, "handler.timeout"),
        ({"lease": 0}, "handler.lease"),
        ({"lease": None}, "handler.lease"),
        ({"name": "a\0b"}, "handler.name"),
        ({"name": "taken"}, "handler.name"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], name: str) -> None:
    """At once, and the error names the option."""
    app = Application()
    app.add_handler(nothing, "orders", name="taken")
    with pytest.raises(InvalidValue) as caught:
        app.add_handler(nothing, "orders", **options)
    assert caught.value.name == name
    assert len(app.handlers) == 1


def test_wrong_things_are_refused() -> None:
    app = Application()
    with pytest.raises(InvalidValue, match="handler: expected a function"):
        app.add_handler(3, "orders")  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match=r"handler\.endpoint_id"):
        app.add_handler(nothing, "")
    for callable_thing in (nothing, Application):
        with pytest.raises(InvalidValue, match=r'name the endpoint first, as in @app\.handler\("'):
            app.handler(callable_thing)  # type: ignore[arg-type]
    for call in (app.handlers.pause, app.handlers.resume, app.handlers.drain):
        with pytest.raises(InvalidValue, match="a handler's name, of none so far"):
            call("nobody")
    for wrong in (lambda: Retry(after=-1.0), lambda: Retry(after="x"), lambda: Discard(3)):  # type: ignore[arg-type]
        with pytest.raises(InvalidValue):
            wrong()


def test_before_the_start_handlers_are_known() -> None:
    """They can be looked at and paused; attempts are twenty where nothing else is said."""
    app = Application()

    @app.handler("orders", dead_letter="failed")
    def handle(callback: Callback) -> str:
        return "as it was"

    assert handle(Callback.new(None)) == "as it was"
    assert [info.state for info in app.handlers] == [HandlerState.STOPPED]
    assert app.handlers.pause("handle").get() is None
    assert app.handlers._controls["handle"].spec.max_attempts == 20
    assert repr(app.handlers) == "<Handlers: handle>"


def test_consume_is_told_once_the_endpoint_is_there(simulation: Simulation) -> None:
    """Not for an endpoint that lacks what the handler needs."""
    backend = MemoryBackend()
    consumed: list[Any] = []
    execute = backend.execute

    def watched(message: Any) -> Any:
        if isinstance(message, Consume):
            consumed.append(message)
        return execute(message)

    backend.execute = watched  # type: ignore[method-assign]
    app = application(simulation, Endpoint.new(id="other"), backend=backend)
    app.add_handler(nothing, "orders", phase="received", then="processed")
    with app:
        app.endpoints.create(orders().replace(phases=("received",))).get()
        simulation.advance(1.0)
        assert consumed == []
        app.endpoints.update(orders()).get()
        simulation.advance(1.0)
    assert consumed == [Consume("orders", "received")]
