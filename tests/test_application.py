"""The application: its life, every operation through the facade, crashes, and forks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from pollin_actors import (
    Application,
    Callback,
    CallbackNotFound,
    Endpoint,
    EndpointExists,
    EndpointNotFound,
    InvalidValue,
    NotRunning,
    Outcome,
    PhaseConflict,
    PollinError,
    Request,
    Settings,
    State,
    TooLarge,
    UnknownBackend,
    UnknownPhase,
    WrongSecret,
)
from pollin_actors.actors import CallbackActor
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import Count, DeleteEndpoint, FindEndpoint, Pop, Push
from pollin_actors.otp import (
    Actor,
    ChildSpec,
    DeadlineExceeded,
    NameNotFound,
    ReplyFuture,
    Simulation,
)

PHASES = ["received", "processed"]


class Poison(Exception):
    """A mistake in a handler: none of the declared replies."""


class Poisoned(MemoryBackend):
    """Crashes the actor that pushes a callback whose request says so."""

    def execute(self, message: Any) -> Any:
        if isinstance(message, Push) and message.callback.request == "poison":
            raise Poison
        return super().execute(message)


@pytest.fixture
def app() -> Iterator[Application]:
    with Application(endpoints=[Endpoint.new(PHASES, id="orders", secret="s3cret")]) as app:
        yield app


def push(app: Application, *ids: str, endpoint: str = "orders", phase: str = "") -> None:
    for id in ids:
        callback = Callback.new(Request([], id.encode()), id=id, phase=phase)
        assert app.callbacks.push(endpoint, callback).get().outcome is Outcome.QUEUED


def ids(callbacks: Any) -> list[str]:
    return [callback.id for callback in callbacks]


# -- life ------------------------------------------------------------------------------------------


def test_starting_and_stopping_twice_is_harmless() -> None:
    app = Application()
    states = [app.state]
    assert app.stop() is True
    assert app.start().start() is app
    states.append(app.state)
    assert app.stop() is True
    assert app.stop() is True
    states.append(app.state)
    assert states == [State.NEW, State.RUNNING, State.STOPPED]


def test_an_application_can_be_started_again_and_finds_what_its_backend_kept() -> None:
    app = Application(MemoryBackend(), endpoints=[Endpoint.new(id="orders")])
    with app:
        push(app, "a")
    with app:
        assert app.callbacks.pop("orders").get().id == "a"  # type: ignore[union-attr]


@pytest.mark.parametrize("stopped", [False, True])
def test_an_application_that_does_not_run_says_so(stopped: bool) -> None:
    app = Application()
    if stopped:
        app.start()
        app.stop()
    calls: list[Any] = [
        lambda: app.callbacks.pop("orders"),
        lambda: app.endpoints.index(),
        lambda: app.ask("anybody", 1),
        lambda: app.runtime,
    ]
    for call in calls:
        with pytest.raises(NotRunning, match="start it"):
            call()


def test_threads_end_with_the_application() -> None:
    before = set(threading.enumerate())
    with Application(endpoints=[Endpoint.new(id="a")]) as app:
        push(app, "x", endpoint="a")
    assert set(threading.enumerate()) <= before


def test_what_waits_when_the_application_stops_fails() -> None:
    app = Application().start()
    gate: ReplyFuture[None] = ReplyFuture()

    entered = threading.Event()

    class Waiting(Actor):
        def on_receive(self, message: Any) -> Any:
            entered.set()
            return gate.get()

    app.start_child(ChildSpec(id="w", name="w", start=Waiting, shutdown=0.05)).get()
    handled, queued = app.ask("w", 1), app.ask("w", 2)
    assert entered.wait(10), "else the stop overtakes both"
    with capture_logs() as logs:
        app.stop()
    for future in (handled, queued):
        assert future.done()
        assert isinstance(_error(future), Exception)
    assert "actor.unstopped" in [entry["event"] for entry in logs]
    gate.set(None)


def _error(future: ReplyFuture[Any]) -> Exception | None:
    try:
        future.get(timeout=0)
    except Exception as error:
        return error
    return None


def test_declared_endpoints_are_there_and_are_brought_up_to_date() -> None:
    backend = MemoryBackend()
    with Application(backend, endpoints=[Endpoint.new(id="a", secret="old")]) as app:
        created = app.endpoints.find("a").get()
        push(app, "x", endpoint="a")
    with Application(backend, endpoints=[Endpoint.new(["n"], id="a", secret="new")]) as app:
        found = app.endpoints.find("a").get()
        assert found is not None
        assert created is not None
        assert found.secret.matches("new")
        assert found.phases == ("n",)
        assert found.created_at == created.created_at
        assert app.callbacks.count("a").get() == 1


def test_bad_arguments_are_refused_before_anything_starts() -> None:
    twice = [Endpoint.new(id="a"), Endpoint.new(id="a")]
    with pytest.raises(InvalidValue, match="ids that differ"):
        Application(endpoints=twice)
    with pytest.raises(InvalidValue, match="Endpoint instances"):
        Application(endpoints=["a"])  # type: ignore[list-item]
    with pytest.raises(UnknownBackend, match="memory"):
        Application("nosuch://")
    with pytest.raises(InvalidValue, match="max_bytes: expected an int >= 1, got 0"):
        Settings(max_bytes=0)


def test_settings_from_the_environment() -> None:
    environ = {"POLLIN_MAX_BYTES": "100", "POLLIN_IDLE_AFTER": "never", "OTHER": "x"}
    settings = Settings.from_env(environ, sweep_interval=1.0)
    assert (settings.max_bytes, settings.idle_after, settings.sweep_interval) == (100, None, 1.0)
    with pytest.raises(InvalidValue, match="POLLIN_MAX_BYTES: expected a whole number, got 'x'"):
        Settings.from_env({"POLLIN_MAX_BYTES": "x"})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_after_a_fork_every_use_is_an_error_that_names_the_hooks() -> None:
    """In a process of its own: a child forked from one with threads is a delicate thing."""
    program = """
        import os, warnings
        warnings.simplefilter("ignore")
        from pollin_actors import Application, Endpoint, ForkedProcess
        app = Application(endpoints=[Endpoint.new(id="a")]).start()
        app.callbacks.count("a").get()
        mailbox = app.callbacks._find("a")
        pid = os.fork()
        if pid == 0:
            said = []
            for use in (
                lambda: app.callbacks.count("a").get(),
                lambda: app.callbacks.count("new").get(),
                lambda: app.endpoints.index().get(),
                lambda: app.ask("x", 1),
                lambda: app.start(),
                lambda: mailbox.ask("held from before", 1.0).get(),
            ):
                try:
                    use()
                except ForkedProcess as error:
                    said.append("post_fork" in str(error))
            app.stop()
            os._exit(0 if said == [True] * 6 else 1)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert app.callbacks.count("a").get() == 0, "the parent goes on"
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


def test_an_application_whose_actors_crash_too_often_fails_with_a_word() -> None:
    class Broken(MemoryBackend):
        broken = False

        def execute(self, message: Any) -> Any:
            if self.broken:
                raise Poison
            return super().execute(message)

    backend = Broken()
    app = Application(backend, endpoints=[Endpoint.new(id="a")]).start()
    backend.broken = True
    with capture_logs() as logs:
        for _ in range(10):
            if app.state is not State.RUNNING:
                break
            with pytest.raises((Poison, NotRunning)):
                app.endpoints.index().get()
    assert app.state is State.FAILED
    assert "application.failed" in [entry["event"] for entry in logs]
    with pytest.raises(NotRunning, match="crashed too often"):
        app.callbacks.count("a").get()
    backend.broken = False
    assert app.stop() is True
    with app:
        assert app.callbacks.count("a").get() == 0


# -- endpoints -------------------------------------------------------------------------------------


def test_endpoints(app: Application) -> None:
    created = app.endpoints.create(Endpoint.new(["new"], id="b", ttl=0)).get()
    assert [endpoint.id for endpoint in app.endpoints.index().get()] == ["orders", "b"]
    assert app.endpoints.find("b").get() == created
    assert app.endpoints.find("nope").get() is None
    with pytest.raises(EndpointExists):
        app.endpoints.create(Endpoint.new(id="b")).get()
    changed = created.replace(phases=("new", "old"))
    assert app.endpoints.update(changed).get() == changed
    assert app.endpoints.find("b").get() == changed
    with pytest.raises(EndpointNotFound):
        app.endpoints.update(Endpoint.new(id="nope")).get()
    assert app.endpoints.delete("b").get() is True
    assert app.endpoints.delete("b").get() is False
    with pytest.raises(InvalidValue, match="an Endpoint"):
        app.endpoints.create("b").get()  # type: ignore[arg-type]


def test_a_deleted_endpoint_takes_its_callbacks_and_its_actor_with_it(app: Application) -> None:
    push(app, "a")
    ref = app.callbacks.ref("orders").get()
    ended = ref.monitor()
    assert app.endpoints.delete("orders").get() is True
    assert ended.get(timeout=10).ref is ref
    with pytest.raises(EndpointNotFound):
        app.callbacks.pop("orders").get()
    app.endpoints.create(Endpoint.new(PHASES, id="orders")).get()
    assert app.callbacks.count("orders").get() == 0
    push(app, "a")
    assert app.callbacks.ref("orders").get() is not ref


def test_an_updated_endpoint_counts_for_the_next_push(app: Application) -> None:
    push(app, "a")
    orders = app.endpoints.find("orders").get()
    assert orders is not None
    app.endpoints.update(Endpoint.new(["other"], id="orders", secret="changed")).get()
    with pytest.raises(WrongSecret):
        app.callbacks.push("orders", Callback.new(1), secret="s3cret").get()
    pushed = app.callbacks.push("orders", Callback.new(1), secret="changed").get()
    assert pushed.callback.phase == "other"
    assert app.callbacks.count("orders").get() == 2


# -- callbacks -------------------------------------------------------------------------------------


def test_push_checks_and_stores_nothing_that_is_refused(app: Application) -> None:
    callbacks = app.callbacks
    with pytest.raises(WrongSecret):
        callbacks.push("orders", Callback.new(1), secret="wrong").get()
    with pytest.raises(WrongSecret):
        callbacks.push("orders", Callback.new(1), secret="").get()
    with pytest.raises(EndpointNotFound):
        callbacks.push("nope", Callback.new(1)).get()
    with pytest.raises(UnknownPhase):
        callbacks.push("orders", Callback.new(1, phase="lost")).get()
    with pytest.raises(InvalidValue):
        callbacks.push("orders", Request([], b"")).get()  # type: ignore[arg-type]
    large = Request([], bytes(app.settings.max_bytes + 1))
    with pytest.raises(TooLarge, match=str(app.settings.max_bytes)):
        callbacks.push("orders", Callback.new(large)).get()
    assert callbacks.count("orders").get() == 0
    right = callbacks.push("orders", Callback.new(1), secret="s3cret").get()
    assert (right.outcome, right.callback.phase) == (Outcome.QUEUED, "received")


def test_an_id_that_was_pushed_before_is_a_duplicate(app: Application) -> None:
    push(app, "a")
    again = Callback.new(2, id="a")
    assert app.callbacks.push("orders", again).get().outcome is Outcome.DUPLICATE
    app.callbacks.pop("orders").get()
    assert app.callbacks.push("orders", again).get().outcome is Outcome.DUPLICATE
    app.callbacks.reset("orders").get()
    assert app.callbacks.push("orders", again).get().outcome is Outcome.QUEUED


def test_every_form_of_pop_and_fetch(app: Application) -> None:
    callbacks = app.callbacks
    push(app, "a", "b", "c", "d", "e")
    callbacks.update_phase("orders", key="b", phase="processed").get()
    callbacks.update_phase("orders", key="d", phase="processed").get()
    assert callbacks.fetch("orders").get().id == "a"  # type: ignore[union-attr]
    assert callbacks.fetch("orders", key="c").get().id == "c"  # type: ignore[union-attr]
    assert callbacks.fetch("orders", key="nope").get() is None
    assert ids(callbacks.fetch("orders", limit=100).get()) == ["a", "b", "c", "d", "e"]
    assert ids(callbacks.fetch("orders", offset=1, limit=2).get()) == ["b", "c"]
    assert ids(callbacks.fetch("orders", offset=3).get()) == ["d", "e"]
    assert ids(callbacks.fetch("orders", phase="processed").get()) == ["b", "d"]
    assert ids(callbacks.fetch("orders", phase="received", offset=1, limit=1).get()) == ["c"]
    assert ids(callbacks.fetch_reverse("orders").get()) == ["e", "d", "c", "b", "a"]
    assert ids(callbacks.fetch_reverse("orders", phase="processed", limit=1).get()) == ["d"]
    assert callbacks.count("orders").get() == 5
    assert callbacks.count("orders", phase="processed").get() == 2
    assert ids(callbacks.dump("orders")) == ["a", "b", "c", "d", "e"]

    assert callbacks.pop("orders", key="c").get().id == "c"  # type: ignore[union-attr]
    assert callbacks.pop("orders", key="c").get() is None
    assert ids(callbacks.pop("orders", phase="processed", limit=1).get()) == ["b"]
    assert ids(callbacks.pop("orders", offset=1, limit=5).get()) == ["d", "e"]
    assert callbacks.pop("orders").get().id == "a"  # type: ignore[union-attr]
    assert callbacks.pop("orders").get() is None
    assert callbacks.pop("orders", limit=3).get() == []

    methods: list[Any] = [callbacks.pop, callbacks.fetch]
    for call in methods:
        with pytest.raises(InvalidValue, match="either key= or a slice"):
            call("orders", key="a", phase="received").get()
        with pytest.raises(InvalidValue, match="offset"):
            call("orders", offset=-1).get()
        with pytest.raises(UnknownPhase, match="'received', 'processed'"):
            call("orders", phase="lost").get()


def test_delete_reset_and_update_phase(app: Application) -> None:
    push(app, "a", "b", "c")
    assert app.callbacks.delete("orders", key="b").get() is True
    assert app.callbacks.delete("orders", key="b").get() is False
    changed = app.callbacks.update_phase("orders", key="a", phase="processed").get()
    assert (changed.id, changed.phase) == ("a", "processed")
    with pytest.raises(UnknownPhase):
        app.callbacks.update_phase("orders", key="a", phase="lost").get()
    with pytest.raises(CallbackNotFound):
        app.callbacks.update_phase("orders", key="b", phase="processed").get()
    assert app.callbacks.reset("orders").get() == 2
    assert app.callbacks.reset("orders").get() == 0


@pytest.mark.parametrize("durable", [False, True])
def test_of_several_who_move_a_callback_one_succeeds(tmp_path: Path, durable: bool) -> None:
    """With expect, also through two applications on one file."""
    url = f"sqlite:///{tmp_path / 'inbox.db'}"
    first = Application(url if durable else None, endpoints=[Endpoint.new(PHASES, 0, id="orders")])
    with first, Application(url) if durable else contextlib.nullcontext(first) as second:
        for turn in range(20):
            push(first, str(turn))
            calls = [
                app.callbacks.update_phase(
                    "orders", key=str(turn), phase="processed", expect="received"
                )
                for app in (first, second, first, second)
            ]
            errors = []
            for call in calls:
                try:
                    assert call.get().phase == "processed"
                except PhaseConflict as error:
                    errors.append((error.expected, error.phase))
            assert errors == [("received", "processed")] * 3


def test_every_operation_on_an_unknown_endpoint(app: Application) -> None:
    callbacks = app.callbacks
    calls: list[Any] = [
        lambda: callbacks.push("nope", Callback.new(1)),
        lambda: callbacks.pop("nope"),
        lambda: callbacks.fetch("nope", key="a"),
        lambda: callbacks.fetch_reverse("nope"),
        lambda: callbacks.count("nope"),
        lambda: callbacks.reset("nope"),
        lambda: callbacks.delete("nope", key="a"),
        lambda: callbacks.update_phase("nope", key="a", phase="received"),
        lambda: callbacks.ref("nope"),
    ]
    for call in calls:
        with pytest.raises(EndpointNotFound, match="'nope'"):
            call().get()
    with pytest.raises(EndpointNotFound):
        list(callbacks.dump("nope"))
    registry = app._registry
    assert registry is not None
    assert "nope" not in registry, "nothing is left of it"


def test_a_dump_reads_page_by_page(app: Application) -> None:
    names = [f"{number:04}" for number in range(1234)]
    push(app, *names)
    assert ids(app.callbacks.dump("orders")) == names
    stream = iter(app.callbacks.dump("orders"))
    seen = [next(stream).id for _ in range(700)]
    app.callbacks.pop("orders", limit=1234).get()
    assert ids(stream) == names[700:1000], "the page that was read already, then nothing"
    assert seen == names[:700]


def test_from_asyncio(app: Application) -> None:
    """The same calls, awaited: the first message of an endpoint, errors, and the stream."""

    async def scenario() -> list[str]:
        async def one(name: str) -> str:
            result = await app.callbacks.push("orders", Callback.new(1, id=name))
            return result.callback.id

        pushed = await asyncio.gather(*(one(str(number)) for number in range(50)))
        assert await app.callbacks.count("orders") == 50
        with pytest.raises(EndpointNotFound):
            await app.callbacks.count("nope")
        with pytest.raises(WrongSecret):
            await app.callbacks.push("orders", Callback.new(1), secret="wrong")
        dumped = [callback.id async for callback in app.callbacks.dump("orders")]
        assert dumped == pushed
        popped = await app.callbacks.pop("orders", limit=100)
        return ids(popped)

    assert asyncio.run(scenario()) == [str(number) for number in range(50)]


def test_the_same_messages_to_the_actors_refs(app: Application) -> None:
    ref = app.callbacks.ref("orders").get()
    assert ref.actor_class is CallbackActor
    ref.tell(Push("orders", Callback.new(1, id="a"), None, trusted=True))
    assert ref.ask(Count("orders")) == 1
    assert ref.ask(Pop("orders"), block=False).get().id == "a"
    with pytest.raises(WrongSecret):
        ref.ask(Push("orders", Callback.new(1), "wrong"))
    ref.tell(Push("orders", Callback.new(1), "wrong"))
    assert ref.ask(Count("orders")) == 0
    assert ref.is_alive(), "a refused tell is no crash"
    endpoints = app.endpoints.ref().get()
    assert endpoints.ask(FindEndpoint("orders")).id == "orders"
    for wrong in (Count("other"), DeleteEndpoint("orders"), "no message at all"):
        with pytest.raises(InvalidValue):
            ref.ask(wrong)
    with pytest.raises(InvalidValue, match="CallbackActor"):
        endpoints.ask(Count("orders"))


def test_what_expires_is_invisible_at_once_and_swept_soon(app: Application) -> None:
    with Simulation() as simulation:
        app = Application(
            endpoints=[Endpoint.new(PHASES, ttl=1000, id="a"), Endpoint.new(ttl=0, id="b")],
            settings=Settings(sweep_interval=5.0),
            runtime=simulation.runtime,
        ).start()
        push(app, "1", endpoint="a")
        push(app, "2", endpoint="b")
        with capture_logs() as logs:
            simulation.advance(1.5)
            assert app.callbacks.pop("a").get() is None
            assert app.callbacks.count("b").get() == 1
            push(app, "3", endpoint="a")
            simulation.advance(10)
        assert [e["count"] for e in logs if e["event"] == "callback.expired"] == [1]
        app.stop()


# -- crashes ---------------------------------------------------------------------------------------


def test_a_crash_in_mid_traffic_loses_nothing_and_keeps_the_order() -> None:
    """The actor is crashed again and again while eight threads push."""
    endpoint = Endpoint.new(PHASES, id="orders", ttl=0)
    with Application(Poisoned(), endpoints=[endpoint]) as app:
        acknowledged: list[list[int]] = [[] for _ in range(8)]
        crashes = 0

        def send(sender: int) -> None:
            for number in range(200):
                callback = Callback.new((sender, number))
                app.callbacks.push("orders", callback, timeout=30).get()
                acknowledged[sender].append(number)

        def crash() -> None:
            nonlocal crashes
            for _ in range(5):
                with pytest.raises(Poison):
                    app.callbacks.push("orders", Callback.new("poison"), timeout=30).get()
                crashes += 1

        threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
        threads.append(threading.Thread(target=crash))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert crashes == 5
        queued = [callback.request for callback in app.callbacks.dump("orders")]
        for sender in range(8):
            mine = [number for who, number in queued if who == sender]
            assert mine == acknowledged[sender] == list(range(200))


def test_a_poisoned_endpoint_does_not_stop_the_others() -> None:
    """It crashes at every message; the others are answered at once, all the time."""
    with Simulation(3) as simulation:
        endpoints = [Endpoint.new(id=name, ttl=0) for name in ("bad", "good")]
        app = Application(Poisoned(), endpoints=endpoints, runtime=simulation.runtime).start()
        poisoned = []
        for number in range(300):
            poisoned.append(app.callbacks.push("bad", Callback.new("poison")))
            before = simulation.clock.monotonic()
            push(app, str(number), endpoint="good")
            assert simulation.clock.monotonic() == before
            simulation.advance(0.05)
        simulation.advance(6)
        for future in poisoned:
            assert isinstance(_error(future), Poison | DeadlineExceeded)
        assert app.callbacks.count("good").get() == 300
        assert app.state is State.RUNNING
        app.stop()


def test_64_threads_push_to_one_new_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 x 1,000 pushes: one actor, 64,000 callbacks, each thread's own order kept."""
    started: list[str] = []
    monkeypatch.setattr(CallbackActor, "on_start", lambda self: started.append(self._endpoint_id))
    with Application() as app:
        app.endpoints.create(Endpoint.new(id="new", ttl=0)).get()
        start = threading.Barrier(64)

        def send(sender: int) -> None:
            start.wait(30)
            futures = [
                app.callbacks.push("new", Callback.new((sender, number)), timeout=60)
                for number in range(1000)
            ]
            for future in futures:
                future.get()

        threads = [threading.Thread(target=send, args=(n,)) for n in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
            assert not thread.is_alive()
        assert started == ["new"]
        assert app.callbacks.count("new").get() == 64_000
        orders: dict[int, list[int]] = {sender: [] for sender in range(64)}
        for callback in app.callbacks.dump("new"):
            sender, number = callback.request
            orders[sender].append(number)
        assert all(numbers == list(range(1000)) for numbers in orders.values())


def test_idle_actors_are_passivated_without_a_trace() -> None:
    with Simulation(1) as simulation:
        app = Application(
            endpoints=[Endpoint.new(id="a", ttl=0)],
            settings=Settings(idle_after=60),
            runtime=simulation.runtime,
        ).start()
        push(app, "x", endpoint="a")
        ref = app.callbacks.ref("a").get()
        simulation.advance(200)
        assert not ref.is_alive()
        assert app.callbacks.pop("a").get().id == "x"  # type: ignore[union-attr]
        app.stop()


# -- actors of the user's own ----------------------------------------------------------------------


class Counter(Actor):
    """Counts; a mistake makes it crash."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_receive(self, message: Any) -> int:
        if message == "crash":
            raise ZeroDivisionError
        self.count += 1
        return self.count


def test_an_actor_of_the_users_own_crashes_and_comes_back() -> None:
    children = [ChildSpec(id="counter", name="counter", start=Counter)]
    with Application(children=children, endpoints=[Endpoint.new(id="a")]) as app:
        assert [app.ask("counter", "+").get() for _ in range(2)] == [1, 2]
        ref = app.whereis("counter")
        crashing, behind = app.ask("counter", "crash"), app.ask("counter", "+")
        with pytest.raises(ZeroDivisionError):
            crashing.get()
        assert behind.get() == 1, "a new incarnation counts anew"
        assert app.whereis("counter") is not ref
        added = app.start_child(ChildSpec(id="second", name="second", start=Counter)).get()
        app.tell("second", "+")
        assert app.ask("second", "+").get() == 2
        app.terminate_child("second").get()
        assert not added.is_alive()
        with pytest.raises(NameNotFound):
            app.ask("nobody", 1)


def test_an_actor_of_the_users_own_that_keeps_crashing_leaves_the_inbox_alone() -> None:
    """Its supervisor gives up and is restarted: at first nothing more happens."""
    children = [ChildSpec(id="counter", name="counter", start=Counter)]
    with Application(children=children, endpoints=[Endpoint.new(id="a")]) as app:
        for _ in range(4):
            with pytest.raises(ZeroDivisionError):
                app.ask("counter", "crash").get()
        assert app.ask("counter", "+").get() == 1
        push(app, "x", endpoint="a")


# -- simulated runs --------------------------------------------------------------------------------


def _story(seed: int) -> list[Any]:
    """One run of the whole application in virtual time, told as a list."""
    told: list[Any] = []
    with Simulation(seed) as simulation:
        app = Application(
            Poisoned(),
            endpoints=[Endpoint.new(PHASES, id=name, ttl=2000) for name in "ab"],
            runtime=simulation.runtime,
        ).start()
        futures = []
        for number in range(60):
            name = "ab"[number % 2]
            request = "poison" if number % 11 == 5 else number
            callback = Callback.new(request, id=str(number))
            futures.append(app.callbacks.push(name, callback, timeout=1.0))
            if number % 7 == 0:
                futures.append(app.callbacks.pop(name, timeout=1.0))  # type: ignore[arg-type]
            if number % 5 == 0:
                simulation.scheduler.step()
            if number % 13 == 0:
                simulation.advance(0.3)
        simulation.advance(3)
        for future in futures:
            try:
                reply: Any = future.get(timeout=0)
                told.append(getattr(reply, "outcome", None) or getattr(reply, "id", None))
            except (Poison, DeadlineExceeded, PollinError) as error:
                told.append(type(error).__name__)
        told.append(simulation.scheduler.turns)
        app.stop()
    return told


def test_the_same_seed_gives_the_same_run() -> None:
    stories = [_story(seed) for seed in range(24)]
    assert stories == [_story(seed) for seed in range(24)]
    assert len({str(story) for story in stories}) > 6, "other seeds give other runs"
