"""Replays: what is made, what is left out, and what happens when one is repeated or fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pollin_actors import (
    Application,
    Callback,
    Endpoint,
    EndpointNotFound,
    Full,
    InvalidValue,
    NotRunning,
    ReplayResult,
    Request,
    UnknownPhase,
)
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.messages import PastPage
from pollin_actors.otp import Simulation
from pollin_actors.replay import MAX_IDS, new_id
from tests.test_facade_claims import Late

SECONDS = 10.0


def endpoints(*ids: str, **more: Any) -> list[Endpoint]:
    return [Endpoint.new(["received", "done"], 0, id=id, **more) for id in ids]


@pytest.fixture(params=["threads", "late", "sqlite", "simulated"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    if request.param != "simulated":
        backends: dict[str, Callable[[], Any]] = {
            "threads": MemoryBackend,
            "late": Late,
            "sqlite": lambda: SqliteBackend(tmp_path / "inbox.db"),
        }
        backend = backends[request.param]()
        with Application(backend, endpoints=endpoints("a", "b")) as app:
            yield app
    else:
        with (
            Simulation(seed=1) as simulation,
            Application(
                MemoryBackend(), endpoints=endpoints("a", "b"), runtime=simulation.runtime
            ) as app,
        ):
            yield app


@pytest.fixture
def threaded() -> Iterator[Application]:
    with Application(MemoryBackend(), endpoints=endpoints("a", "b")) as app:
        yield app


def push(app: Application, endpoint: str, *ids: str, **more: Any) -> None:
    for id in ids:
        request = Request([("n", id)], id.encode())
        app.callbacks.push(endpoint, Callback.new(request, id=id), **more).get()


def queued(app: Application, endpoint: str) -> list[str]:
    return [callback.id for callback in app.callbacks.dump(endpoint)]


def test_what_was_received_comes_again_queued_or_not(app: Application) -> None:
    """The same request and ordering key; no parent, and an origin that says what it was."""
    push(app, "a", "1", ordering_key="k")
    push(app, "a", "2", parent="1")
    app.callbacks.pop("a", key="1").get()
    result = app.callbacks.replay("a", name="again").get()
    assert result == ReplayResult(2, 2, 0, ("again:1", "again:2"))
    assert queued(app, "a") == ["2", "again:1", "again:2"]
    one = app.callbacks.fetch("a", key="again:1").get()
    two = app.callbacks.fetch("a", key="again:2").get()
    assert one is not None
    assert two is not None
    assert (one.origin, one.ordering_key, one.request.body) == ("a/1", "k", b"1")
    assert (two.origin, two.parent, two.root) == ("a/2", None, None)
    assert app.callbacks.history("a", key="again:1").get()[0].reason == "a/1"


def test_into_another_endpoint_and_a_phase(app: Application) -> None:
    push(app, "a", "1", "2")
    replay = app.callbacks.replay("a", into="b", phase="done", filter=lambda c: c.id == "2")
    assert replay.get().ids == (f"{replay.name}:2",)
    assert queued(app, "a") == ["1", "2"]
    [copy] = app.callbacks.fetch("b", phase="done").get()
    assert copy.origin == "a/2"


def test_the_same_name_adds_nothing_twice(app: Application) -> None:
    push(app, "a", "1", "2")
    app.callbacks.replay("a", name="n").get()
    push(app, "a", "3")
    result = app.callbacks.replay("a", name="n").get()
    assert (result.matched, result.pushed, result.duplicates) == (3, 1, 2)
    assert queued(app, "a") == ["1", "2", "n:1", "n:2", "3", "n:3"]
    other = app.callbacks.replay("a", name="m", filter=lambda c: c.origin is None).get()
    assert other.ids == ("m:1", "m:2", "m:3")


def test_a_dry_run_says_what_would_be(app: Application) -> None:
    push(app, "a", "1", "2")
    result = app.callbacks.replay("a", name="n", dry_run=True).get()
    assert result == ReplayResult(2, 0, 0, ("n:1", "n:2"))
    assert queued(app, "a") == ["1", "2"]


def test_a_dry_run_finds_a_target_that_is_not_there(app: Application) -> None:
    """Also where there is nothing to be replayed."""
    with pytest.raises(EndpointNotFound):
        app.callbacks.replay("a", into="none", dry_run=True).get()
    with pytest.raises(UnknownPhase):
        app.callbacks.replay("a", phase="none", dry_run=True).get()


def test_the_bounds_are_those_of_the_creation(app: Application) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    at = 1_893_456_000_000_000_000
    for number, offset in enumerate((-1, 0, 1)):
        callback = Callback.new(b"x", id=str(number)).replace(created_at=at + offset)
        app.callbacks.push("a", callback).get()
    replay = app.callbacks.replay
    assert replay("a", name="n", since=moment, dry_run=True).get().ids == ("n:1", "n:2")
    assert replay("a", name="n", until=at + 1, dry_run=True).get().ids == ("n:0", "n:1")
    assert replay("a", name="n", since=at, until=at + 1, dry_run=True).get().ids == ("n:1",)


@pytest.mark.parametrize("size", [1, 2, 3, 500])
def test_what_is_pushed_after_it_began_is_not_replayed(app: Application, size: int) -> None:
    """Whoever pushes meanwhile, and wherever the pages end."""
    execute = app.backend.execute

    def small(message: Any) -> Any:
        return execute(message._replace(limit=size) if isinstance(message, PastPage) else message)

    push(app, "a", *"123456")
    mailbox = app.callbacks._mailbox("a")
    assert mailbox.cell is not None
    mailbox.cell.actor._execute = small
    seen: list[str] = []

    def filter(callback: Callback) -> bool:
        seen.append(callback.id)
        push(app, "a", f"new{len(seen)}")
        return True

    result = app.callbacks.replay("a", name="n", filter=filter).get()
    assert seen == list("123456")
    assert result.pushed == 6


def test_without_history_the_time_of_creation_tells() -> None:
    with Application(MemoryBackend(), endpoints=endpoints("a", keep_for=0)) as app:
        push(app, "a", "1", "2")

        def filter(callback: Callback) -> bool:
            push(app, "a", f"new {callback.id}")
            return True

        assert app.callbacks.replay("a", filter=filter).get().matched == 2


def test_errors_go_to_the_caller_and_the_same_name_goes_on(app: Application) -> None:
    push(app, "a", "1", "2", "3")

    def filter(callback: Callback) -> bool:
        if callback.id == "3":
            raise ZeroDivisionError
        return True

    replay = app.callbacks.replay("a", into="b", filter=filter)
    with pytest.raises(ZeroDivisionError):
        replay.get()
    result = app.callbacks.replay("a", into="b", name=replay.name).get()
    assert (result.pushed, result.duplicates) == (1, 2)
    assert len(queued(app, "b")) == 3


def test_a_filter_that_wants_to_end_the_thread_ends_the_replay(app: Application) -> None:
    push(app, "a", "1")

    def filter(callback: Callback) -> bool:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        app.callbacks.replay("a", filter=filter).get()


def test_what_cannot_be_pushed_is_an_error(app: Application) -> None:
    push(app, "a", "1", "2")
    app.endpoints.create(endpoints("small", capacity=1)[0]).get()
    for into, phase, error in (
        ("small", "", Full),
        ("nowhere", "", EndpointNotFound),
        ("b", "nowhere", UnknownPhase),
    ):
        with pytest.raises(error):
            app.callbacks.replay("a", into=into, phase=phase).get()
    with pytest.raises(EndpointNotFound):
        app.callbacks.replay("nowhere").get()


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": ""},
        {"name": "x" * 201},
        {"name": "\ud800"},
        {"filter": "x"},
        {"phase": None},
        {"since": datetime(2030, 1, 1)},
    ],
)
def test_what_makes_no_sense_is_refused(app: Application, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        app.callbacks.replay("a", **arguments)


def test_long_ids_are_cut_and_still_differ() -> None:
    one, two = (new_id("n", "x" * 499 + end) for end in "12")
    assert one != two
    assert len(one) == len(two) == 500
    assert new_id("n", "x" * 499 + "1") == one
    assert new_id("n", "x" * 498) == "n:" + "x" * 498


def test_many_are_counted_and_the_first_ids_named(threaded: Application) -> None:
    count = MAX_IDS + 5
    for number in range(count):
        threaded.callbacks.push("a", Callback.new(b"x", id=str(number)))
    result = threaded.callbacks.replay("a", name="n", dry_run=True).get()
    assert result.matched == count
    assert len(result.ids) == MAX_IDS


def test_the_filter_runs_on_a_thread_of_its_own_and_may_wait(threaded: Application) -> None:
    push(threaded, "a", "1")
    threads: list[str] = []

    def filter(callback: Callback) -> bool:
        threads.append(threading.current_thread().name)
        return threaded.callbacks.count("a").get() == 1

    assert threaded.callbacks.replay("a", filter=filter).get().matched == 1
    assert threads == ["pollin-replay"]


def test_a_replay_can_be_awaited(threaded: Application) -> None:
    push(threaded, "a", "1")

    async def work() -> ReplayResult:
        return await threaded.callbacks.replay("a", name="n")

    assert asyncio.run(work()).ids == ("n:1",)


def test_the_stop_of_the_application_ends_it(threaded: Application) -> None:
    push(threaded, "a", "1", "2")
    begun, go = threading.Event(), threading.Event()

    def filter(callback: Callback) -> bool:
        begun.set()
        assert go.wait(SECONDS)
        return True

    replay = threaded.callbacks.replay("a", filter=filter)
    assert begun.wait(SECONDS)
    threaded.stop()
    go.set()
    with pytest.raises(NotRunning):
        replay.get()
