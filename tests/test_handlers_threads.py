"""Handlers in real time: on threads and on a real event loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from pollin_actors import Application, Callback, Settings
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.handlers import HandlerState
from pollin_actors.messages import Extend
from pollin_actors.otp import Backoff
from pollin_actors.otp.simulation import Simulation
from tests.handling import crash, history, orders, phases, push, story

SECONDS = 20.0
AT_ONCE = Backoff(first=0.0, most=0.0)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Every thread that a test brought ends with its application."""
    before = set(threading.enumerate())
    yield
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(SECONDS)
    assert not [thread for thread in left if thread.is_alive()]


def until(app: Application, wanted: dict[str, int]) -> None:
    """Wait until the queue looks like that: woken by every change, never by the clock."""
    changed = threading.Event()
    unwatch = app._changes.watch("orders", changed.set)
    try:
        while phases(app) != wanted:
            assert changed.wait(SECONDS), f"it is {phases(app)}, expected {wanted}"
            changed.clear()
    finally:
        unwatch()


def test_functions_run_on_threads_of_their_own() -> None:
    """As many at once as is said, named after the handler."""
    app = Application(endpoints=[orders()])
    together = threading.Barrier(3, timeout=SECONDS)
    names: set[str] = set()

    @app.handler("orders", phase="received", then="processed", concurrency=3)
    def handle(callback: Callback) -> None:
        together.wait()
        names.add(threading.current_thread().name)

    with app:
        push(app, *"abcdef")
        until(app, {"processed": 6})
    assert len(names) == 3
    assert all(name.startswith("pollin-handler-handle-") for name in names)


def test_many_at_once_and_each_once() -> None:
    """Thousands, eight threads, several that push: nothing is lost or done twice."""
    app = Application(endpoints=[orders()])
    lock, seen = threading.Lock(), []

    @app.handler("orders", then="processed")
    def handle(callback: Callback) -> None:
        with lock:
            seen.append(callback.id)

    def pusher(n: int) -> None:
        for m in range(500):
            push(app, f"{n}-{m}")

    with app:
        threads = [threading.Thread(target=pusher, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(app, {"processed": 2000})
    assert sorted(seen) == sorted(f"{n}-{m}" for n in range(4) for m in range(500))


def test_a_thread_that_hangs_is_replaced() -> None:
    """Its callback is another's, its result is ignored, and it ends when it comes back."""
    app = Application(endpoints=[orders()])
    gate = threading.Event()
    threads: dict[str, threading.Thread] = {}

    @app.handler(
        "orders", then="processed", dead_letter="failed", max_attempts=1, timeout=0.1, concurrency=1
    )
    def handle(callback: Callback) -> None:
        threads[callback.id] = threading.current_thread()
        if callback.id == "hangs":
            gate.wait(SECONDS)

    with capture_logs() as logs, app:
        push(app, "hangs", "a")
        until(app, {"failed": 1, "processed": 1})
        assert threads["a"] is not threads["hangs"]
        gate.set()
        threads["hangs"].join(SECONDS)
        assert not threads["hangs"].is_alive()
        push(app, "b")
        until(app, {"failed": 1, "processed": 2})
        assert threads["b"] is threads["a"]
    events = [entry["event"] for entry in logs if entry["event"].startswith("handler.")]
    assert events == ["handler.timed_out", "handler.dead", "handler.abandoned"]


def test_system_exit_harms_nobody() -> None:
    """In a thread and in a coroutine, and in a task that a coroutine has left behind."""
    app = Application(endpoints=[orders()])

    @app.handler("orders", then="processed", dead_letter="failed", max_attempts=1)
    def handle(callback: Callback) -> None:
        if callback.id == "bad":
            raise SystemExit(1)

    left: list[asyncio.Future[None]] = []

    async def leave() -> None:
        raise SystemExit(2)

    @app.handler("orders", phase="processed", dead_letter="failed", max_attempts=1)
    async def second(callback: Callback) -> None:
        if callback.id == "worse":
            left.append(asyncio.ensure_future(leave()))
            raise SystemExit(3)

    with app:
        push(app, "bad", "worse", "a", "b")
        until(app, {"failed": 2})
    assert isinstance(left[0].exception(), SystemExit)


def test_coroutines_run_together_on_one_loop() -> None:
    """As many as is said wait for each other; a late one is cancelled."""
    app = Application(endpoints=[orders()])
    waiting: list[asyncio.Event] = []
    threads: set[str] = set()
    cancelled = threading.Event()

    @app.handler(
        "orders", then="processed", dead_letter="failed", max_attempts=1, concurrency=4, timeout=5.0
    )
    async def handle(callback: Callback) -> None:
        threads.add(threading.current_thread().name)
        waiting.append(asyncio.Event())
        if len(waiting) == 4:
            for event in waiting:
                event.set()
        await waiting[-1].wait()

    @app.handler("orders", phase="failed", timeout=0.05, then="received", name="late")
    async def late(callback: Callback) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with app:
        push(app, *"abcd")
        until(app, {"processed": 4})
        push(app, "late", phase="failed")
        assert cancelled.wait(SECONDS)
    assert threads == {"pollin-handlers"}


@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_uses_the_application(is_async: bool) -> None:
    """A function waits, a coroutine awaits; what it pushes is handled in turn."""
    app = Application(endpoints=[orders()])

    def child_of(callback: Callback) -> Callback:
        return Callback.new(None, id=f"{callback.id}+", parent=callback.id)

    def handle(callback: Callback) -> None:
        if len(callback.id) < 5:
            app.callbacks.push("orders", child_of(callback)).get()

    async def ahandle(callback: Callback) -> None:
        if len(callback.id) < 5:
            await app.callbacks.push("orders", child_of(callback))

    app.add_handler(ahandle if is_async else handle, "orders", then="processed")
    with app:
        push(app, "a", "b")
        until(app, {"processed": 10})


def test_stop_waits_for_what_runs_and_gives_back_what_does_not() -> None:
    """Started by another thread in the middle: done is done, the rest is as it was."""
    backend = MemoryBackend()
    app = Application(backend, endpoints=[orders()])
    begun, gate = threading.Event(), threading.Event()

    @app.handler("orders", then="processed", concurrency=1, name="h")
    def handle(callback: Callback) -> None:
        begun.set()
        gate.wait(SECONDS)

    app.start()
    push(app, "a", "b", "c")
    assert begun.wait(SECONDS)
    run = app.handlers._run
    assert run is not None
    stopping = threading.Event()
    ask = run.registry.ask

    def asked(*args: Any, **options: Any) -> Any:
        try:
            return ask(*args, **options)
        finally:
            stopping.set()

    run.registry.ask = asked  # type: ignore[method-assign]
    stopper = threading.Thread(target=app.stop)
    stopper.start()
    assert stopping.wait(SECONDS)
    gate.set()
    stopper.join(SECONDS)
    assert app.handlers["h"].state is HandlerState.STOPPED
    app.handlers.pause("h")
    with app:
        assert phases(app) == {"received": 2, "processed": 1}
        assert story(app, "c") == [("pushed", 0)]
        app.handlers.resume("h")
        until(app, {"processed": 3})


def test_what_hangs_does_not_keep_stop() -> None:
    """Half the shutdown time, and the callback has gone back."""
    backend = MemoryBackend()
    gate, begun = threading.Event(), threading.Event()
    app = Application(backend, endpoints=[orders()], settings=Settings(shutdown=0.2))

    @app.handler("orders", then="processed", timeout=None)
    def handle(callback: Callback) -> None:
        begun.set()
        gate.wait(SECONDS)

    app.start()
    push(app, "a")
    assert begun.wait(SECONDS)
    app.stop()
    gate.set()
    with Application(backend, endpoints=[orders()]) as other:
        assert story(other, "a") == [("pushed", 0), ("claimed", 1), ("failed", 1)]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_may_stop_its_application(is_async: bool) -> None:
    """It waits for itself no longer than half the shutdown time."""
    app = Application(endpoints=[orders()], settings=Settings(shutdown=0.4))
    over = threading.Event()

    def handle(callback: Callback) -> None:
        app.stop()
        over.set()

    async def ahandle(callback: Callback) -> None:
        app.stop()
        over.set()

    app.add_handler(ahandle if is_async else handle, "orders")
    app.start()
    push(app, "a")
    assert over.wait(SECONDS)


class Extending(MemoryBackend):
    """Says when a lease was extended twice."""

    def __init__(self) -> None:
        super().__init__()
        self.extended = 0
        self.twice = threading.Event()

    def execute(self, message: Any) -> Any:
        reply = super().execute(message)
        if isinstance(message, Extend):
            self.extended += 1
            if self.extended >= 2:
                self.twice.set()
        return reply


def test_a_lease_is_extended_while_a_function_runs() -> None:
    backend = Extending()
    app = Application(backend, endpoints=[orders()])

    @app.handler("orders", then="processed", lease=1.0)
    def handle(callback: Callback) -> None:
        assert backend.twice.wait(SECONDS)

    with app:
        push(app, "a")
        until(app, {"processed": 1})
        assert story(app, "a") == [("pushed", 0), ("claimed", 1), ("acknowledged", 1)]


def test_a_crash_gives_back_and_the_old_threads_results_go_nowhere() -> None:
    """The next incarnation does the work; what the first still returns is ignored."""
    app = Application(endpoints=[orders()])
    gate, begun = threading.Event(), threading.Event()

    @app.handler("orders", then="processed", backoff=AT_ONCE)
    def handle(callback: Callback) -> None:
        if callback.attempts == 1:
            begun.set()
            gate.wait(SECONDS)

    with app:
        push(app, "a")
        assert begun.wait(SECONDS)
        crash(app, "handle")
        until(app, {"processed": 1})
        gate.set()
        assert [record.reason for record in history(app, "a")][2] == "claimer ended: crash: Crash"
        assert story(app, "a")[-1] == ("acknowledged", 2)


def test_start_stop_start() -> None:
    """Threads and loop are made anew each time."""
    app = Application(MemoryBackend(), endpoints=[orders()])

    @app.handler("orders", then="processed")
    def handle(callback: Callback) -> None:
        return None

    @app.handler("orders", phase="processed", then="failed")
    async def second(callback: Callback) -> None:
        await asyncio.to_thread(threading.get_ident)

    for n in range(3):
        with app:
            app.callbacks.reset("orders").get()
            push(app, f"a{n}", f"b{n}")
            until(app, {"failed": 2})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_no_handlers_and_the_parent_keeps_its_own() -> None:
    """In the child nothing runs, and the application says so; the parent goes on."""
    code = textwrap.dedent(
        """
        import os, threading
        from pollin_actors import Application, Callback, Endpoint, ForkedProcess, State
        from pollin_actors.handlers import HandlerState

        app = Application(endpoints=[Endpoint.new(["received", "processed"], id="orders")])
        done = threading.Event()

        @app.handler("orders")
        def handle(callback):
            if callback.id == "b":
                done.set()

        @app.handler("orders", phase="processed")
        async def second(callback):
            pass

        app.start()
        app.callbacks.push("orders", Callback.new(None, id="a")).get()
        child = os.fork()
        if child == 0:
            try:
                assert app.state is State.FORKED
                assert app.handlers["handle"].state is HandlerState.STOPPED
                app.handlers.pause("handle").get()
                app.stop()
                with Application(endpoints=[Endpoint.new(id="orders")]) as mine:
                    own = threading.Event()
                    mine.add_handler(lambda callback: own.set(), "orders", name="h")
                    mine.callbacks.push("orders", Callback.new(None)).get()
                    assert own.wait(20)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        app.callbacks.push("orders", Callback.new(None, id="b")).get()
        assert done.wait(20)
        assert app.stop()
        """
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr


def test_a_simulation_starts_no_threads() -> None:
    """Neither for functions nor for coroutines."""
    before = threading.active_count()
    with Simulation() as simulation:
        app = Application(MemoryBackend(), endpoints=[orders()], runtime=simulation.runtime)
        seen: list[int] = []

        @app.handler("orders", then="processed")
        def handle(callback: Callback) -> None:
            seen.append(threading.active_count())

        @app.handler("orders", phase="processed")
        async def second(callback: Callback) -> None:
            seen.append(threading.active_count())

        with app:
            push(app, "a")
            simulation.advance(1.0)
    assert seen == [before, before]


def test_a_loop_that_got_no_thread_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The consumer is restarted, and then has a loop that somebody runs."""
    start = threading.Thread.start
    refused: list[threading.Thread] = []

    def refusing(thread: threading.Thread) -> None:
        if thread.name == "pollin-handlers" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    app = Application(endpoints=[orders()])

    async def handle(_: Callback) -> None:
        return

    with app, capture_logs():
        app.add_handler(handle, "orders", then="processed", name="first")
        # Its start has failed, and the handler after it asks for the loop again.
        app.add_handler(handle, "orders", then="processed", name="second")
        push(app, "a")
        until(app, {"processed": 1})
    assert refused


def test_a_stop_that_leaves_handlers_behind_says_so() -> None:
    """What they had is claimed no more: it is there after another start."""
    begun, go_on = threading.Event(), threading.Event()
    settings = Settings(shutdown=0.2)
    with Application(endpoints=[orders()], settings=settings) as app:

        @app.handler("orders", then="processed", name="h")
        def handle(callback: Callback) -> None:
            begun.set()
            go_on.wait(60)

        push(app, "a")
        assert begun.wait(60)
        assert app.stop() is False
        go_on.set()
        with app:
            until(app, {"processed": 1})
            assert app.stop() is True
