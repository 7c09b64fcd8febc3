"""Subscriptions: order, going on, waiting, ending, and cursors that move with what is pushed."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pollin_actors import (
    Application,
    BackendUnavailable,
    Callback,
    CursorConflict,
    Endpoint,
    EndpointNotFound,
    InvalidValue,
    Kind,
    NotRunning,
    Record,
    Subscription,
)
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.messages import FindCursor, HistoryPage, MoveCursor, Push
from pollin_actors.otp import Actor, ChildSpec, ReplyFuture, Simulation, WouldBlock
from tests.test_facade_claims import Late

SECONDS = 10.0


def endpoints(*ids: str) -> list[Endpoint]:
    return [Endpoint.new(["received", "done"], 0, id=id) for id in ids]


@pytest.fixture(params=[MemoryBackend, Late, SqliteBackend])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    kind = request.param
    backend = kind(tmp_path / "inbox.db") if kind is SqliteBackend else kind()
    with Application(backend, endpoints=endpoints("a", "b")) as app:
        yield app


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with Simulation(seed=3) as simulation:
        yield simulation


def push(app: Application, endpoint: str, *ids: str) -> None:
    for id in ids:
        app.callbacks.push(endpoint, Callback.new(b"x", id=id)).get()


def texts(records: Any) -> list[str]:
    return [f"{record.callback_id} {record.kind}" for record in records]


class Reader:
    """A thread that reads until the end, or until something comes that it cannot read."""

    def __init__(self, subscription: Subscription, waits_for: int = 0) -> None:
        self.records: list[Record] = []
        self.error: Exception | None = None
        self.enough = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(subscription, waits_for))
        self._thread.start()

    def _run(self, subscription: Subscription, waits_for: int) -> None:
        try:
            for record in subscription:
                self.records.append(record)
                if len(self.records) == waits_for:
                    self.enough.set()
        except Exception as error:
            self.error = error

    def end(self) -> None:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "it still waits"


# -- reading ---------------------------------------------------------------------------------------


def test_everything_comes_in_order_and_from_where_it_was_left(app: Application) -> None:
    push(app, "a", "1", "2")
    app.callbacks.pop("a").get()
    first = app.callbacks.subscribe("a", follow=False)
    assert texts(islice(first, 2)) == ["1 pushed", "2 pushed"]
    [popped] = app.callbacks.subscribe("a", after=first.positions, follow=False)
    assert (popped.callback_id, popped.kind) == ("1", Kind.POPPED)
    assert list(app.callbacks.subscribe("a", after=popped.position, follow=False)) == []
    assert list(first) == [popped]
    assert list(first) == []
    assert first.positions == {"a": popped.position}


def test_only_the_kinds_that_are_wanted_come_and_the_others_are_passed_over(
    app: Application,
) -> None:
    push(app, "a", "1")
    app.callbacks.pop("a").get()
    push(app, "a", "2")
    subscription = app.callbacks.subscribe("a", kinds=[Kind.POPPED], follow=False)
    assert texts(subscription) == ["1 popped"]
    assert subscription.positions["a"] == app.callbacks.history("a", key="2").get()[0].position


def test_several_endpoints_take_turns_each_in_its_order(app: Application) -> None:
    push(app, "a", *(f"a{n}" for n in range(4)))
    push(app, "b", "b0", "b1")
    subscription = app.callbacks.subscribe("a", "b", "a", follow=False)
    found = [record.callback_id for record in subscription]
    assert found == ["a0", "b0", "a1", "b1", "a2", "a3"]
    assert set(subscription.positions) == {"a", "b"}


def test_more_than_a_page_comes_whole(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pollin_actors.subscription.PAGE", 2)
    push(app, "a", *map(str, range(7)))
    push(app, "b", "b0")
    found = [r.callback_id for r in app.callbacks.subscribe("a", "b", follow=False)]
    assert [id for id in found if id != "b0"] == list(map(str, range(7)))
    assert "b0" in found[:2]


@pytest.mark.parametrize(
    "arguments",
    [
        {"after": -1},
        {"after": True},
        {"after": {"other": 1}},
        {"after": {"a": "1"}},
        {"after": 1, "cursor": "c"},
        {"kinds": "pushed"},
        {"kinds": ["eaten"]},
        {"kinds": 7},
    ],
)
def test_what_makes_no_sense_is_refused(app: Application, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        app.callbacks.subscribe("a", **arguments)


def test_one_position_for_several_endpoints_is_refused(app: Application) -> None:
    with pytest.raises(InvalidValue, match="after"):
        app.callbacks.subscribe("a", "b", after=3)


# -- waiting ---------------------------------------------------------------------------------------


def test_what_happens_wakes_who_waits_and_close_ends_it(app: Application) -> None:
    subscription = app.callbacks.subscribe("a", "b")
    reader = Reader(subscription, waits_for=3)
    push(app, "a", "1")
    push(app, "b", "2")
    app.callbacks.delete("a", key="1").get()
    assert reader.enough.wait(SECONDS)
    subscription.close()
    subscription.close()
    reader.end()
    assert sorted(texts(reader.records)) == ["1 deleted", "1 pushed", "2 pushed"]
    assert app.callbacks._changes._watchers == {}


def test_a_subscription_is_awaited_and_ends_with_its_block(app: Application) -> None:
    async def read() -> list[str]:
        found = []
        with app.callbacks.subscribe("a") as subscription:
            waiting = asyncio.ensure_future(anext(aiter(subscription)))
            await asyncio.to_thread(push, app, "a", "1", "2")
            found.append(await waiting)
            found.append(await anext(subscription))
            last = asyncio.ensure_future(_collect(subscription))
            await asyncio.to_thread(push, app, "a", "3")
        return texts([*found, *(await last)])

    async def _collect(subscription: Subscription) -> list[Record]:
        return [record async for record in subscription]

    found = asyncio.run(read())
    assert found[:2] == ["1 pushed", "2 pushed"]


def test_a_cancelled_wait_loses_nothing(app: Application) -> None:
    async def read() -> str:
        subscription = app.callbacks.subscribe("a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(subscription), 0.01)
        await asyncio.to_thread(push, app, "a", "1")
        return (await anext(subscription)).callback_id

    assert asyncio.run(read()) == "1"


def test_what_happens_between_a_look_and_the_wait_is_not_missed() -> None:
    """The push comes when the page has been read, and the reader does not wait yet."""

    class Sly(MemoryBackend):
        app: Application
        slyly = True

        def execute(self, message: Any) -> Any:
            reply = super().execute(message)
            if isinstance(message, HistoryPage) and self.slyly and not reply.records:
                self.slyly = False
                super().execute(Push("a", Callback.new(b"x", id="seen"), None, True))
                self.app.callbacks._changes.happened("a")
            return reply

    backend = Sly()
    with Application(backend, endpoints=endpoints("a", "b")) as app:
        backend.app = app
        assert next(app.callbacks.subscribe("a")).callback_id == "seen"


def test_time_does_not_wake_it_where_nobody_else_writes(simulation: Simulation) -> None:
    reads: list[HistoryPage] = []

    class Counting(MemoryBackend):
        def execute(self, message: Any) -> Any:
            if isinstance(message, HistoryPage):
                reads.append(message)
            return super().execute(message)

    with Application(Counting(), endpoints=endpoints("a"), runtime=simulation.runtime) as app:
        simulation.timers.call_later(3600.0, lambda: app.callbacks.push("a", Callback.new(b"x")))
        assert next(app.callbacks.subscribe("a")).kind is Kind.PUSHED
        assert simulation.clock.monotonic() == 3600.0
        assert len(reads) == 2


def test_what_other_processes_write_is_found_by_looking_again(simulation: Simulation) -> None:
    class Shared(MemoryBackend):
        shared = True

    backend = Shared()
    message = Push("a", Callback.new(b"x", id="theirs"), None, True)
    with Application(backend, endpoints=endpoints("a"), runtime=simulation.runtime) as app:
        simulation.timers.call_later(60.5, lambda: backend.execute(message))
        assert next(app.callbacks.subscribe("a")).callback_id == "theirs"
        assert 60.5 <= simulation.clock.monotonic() <= 61.5


def test_an_expiry_is_told_once_it_is_swept(simulation: Simulation) -> None:
    short = Endpoint.new(["received"], 1_000, id="a")
    with Application(MemoryBackend(), endpoints=[short], runtime=simulation.runtime) as app:
        push(app, "a", "1")
        subscription = app.callbacks.subscribe("a")
        assert texts(islice(subscription, 2)) == ["1 pushed", "1 expired"]


def test_an_actor_that_never_blocks_cannot_iterate(app: Application) -> None:
    """Waiting in it would hold up others: it is told so, as with every future."""

    class Reading(Actor):
        never_blocks = True
        replies = (WouldBlock,)

        def on_receive(self, message: Any) -> Any:
            return next(message)

    ref = app.start_child(ChildSpec(id="reading", start=Reading)).get()
    with pytest.raises(WouldBlock):
        ref.ask(app.callbacks.subscribe("a"))


# -- the end ---------------------------------------------------------------------------------------


def test_the_end_of_an_endpoint_ends_it_with_its_error(app: Application) -> None:
    reader = Reader(app.callbacks.subscribe("a", "b"), waits_for=1)
    push(app, "b", "1")
    assert reader.enough.wait(SECONDS)
    app.endpoints.delete("a").get()
    reader.end()
    assert isinstance(reader.error, EndpointNotFound)


def test_the_stop_of_the_application_ends_it_with_its_error(app: Application) -> None:
    reader = Reader(app.callbacks.subscribe("a"), waits_for=1)
    push(app, "a", "1")
    assert reader.enough.wait(SECONDS)
    app.stop()
    reader.end()
    assert isinstance(reader.error, NotRunning)


def test_it_goes_on_after_a_failure_of_the_backend() -> None:
    class Failing(MemoryBackend):
        failing = False

        def execute(self, message: Any) -> Any:
            if isinstance(message, HistoryPage | FindCursor) and self.failing:
                raise BackendUnavailable("list", "on purpose")
            return super().execute(message)

    backend = Failing()
    with Application(backend, endpoints=endpoints("a")) as app:
        push(app, "a", "1", "2")
        subscription = app.callbacks.subscribe("a", cursor="mine")
        for failing in (True, False):
            backend.failing = failing
            if failing:
                with pytest.raises(BackendUnavailable):
                    next(subscription)
        assert texts(islice(subscription, 2)) == ["1 pushed", "2 pushed"]
        assert len(app.callbacks._changes._watchers["a"]) == 1


def test_one_that_was_forgotten_watches_no_longer(app: Application) -> None:
    push(app, "a", "1")
    subscription = app.callbacks.subscribe("a")
    next(subscription)
    assert "a" in app.callbacks._changes._watchers
    del subscription
    gc.collect()
    assert app.callbacks._changes._watchers == {}


# -- cursors ---------------------------------------------------------------------------------------


def test_a_cursor_is_where_the_next_one_begins(app: Application) -> None:
    push(app, "a", "1", "2", "3")
    subscription = app.callbacks.subscribe("a", cursor="billing", follow=False)
    for record in subscription:
        subscription.commit([Callback.new(b"y", id=f"of {record.callback_id}")]).get()
        if record.callback_id == "2":
            break
    again = app.callbacks.subscribe("a", cursor="billing", follow=False)
    assert next(again).callback_id == "3"
    assert app.callbacks.fetch("a", key="of 2").get() is not None
    assert app.callbacks.fetch("a", key="of 3").get() is None
    other = app.callbacks.subscribe("a", cursor="other", follow=False)
    assert next(other).callback_id == "1"


def test_of_two_with_one_cursor_one_succeeds_and_nothing_is_pushed_twice(
    app: Application,
) -> None:
    push(app, "a", "1")
    one, two = (app.callbacks.subscribe("a", cursor="billing", follow=False) for _ in range(2))
    for subscription in (one, two):
        next(subscription)
    one.commit([Callback.new(b"y", id="once")]).get()
    with pytest.raises(CursorConflict):
        two.commit([Callback.new(b"y", id="twice")]).get()
    assert app.callbacks.fetch("a", key="twice").get() is None
    with pytest.raises(CursorConflict):
        two.commit().get()


def test_commits_need_not_be_waited_for(app: Application) -> None:
    push(app, "a", *"12345")
    subscription = app.callbacks.subscribe("a", cursor="billing", follow=False)
    replies = [subscription.commit() for _ in subscription]
    assert [reply.get() for reply in replies] == [()] * 5
    assert subscription.commit().get() == ()
    assert app.callbacks.cursor("a", "billing").get() == subscription.positions["a"]


def test_the_cursors_of_several_endpoints_move_each_by_itself(app: Application) -> None:
    push(app, "a", "1")
    push(app, "b", "2", "3")
    subscription = app.callbacks.subscribe("a", "b", cursor="billing", follow=False)
    list(subscription)
    subscription.commit().get()
    for id in ("a", "b"):
        assert app.callbacks.cursor(id, "billing").get() == subscription.positions[id]
    with pytest.raises(InvalidValue, match="pushes"):
        subscription.commit([Callback.new(b"y")]).get()


class Held(MemoryBackend):
    """Leaves it to the test to answer the first commits."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[ReplyFuture[Any]] = []

    def execute(self, message: Any) -> Any:
        if type(message) is not MoveCursor or len(self.held) == 2:
            return super().execute(message)
        self.held.append(ReplyFuture())
        return self.held[-1]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_after_commits_that_failed_the_next_one_succeeds(order: tuple[int, int]) -> None:
    """Of two that nobody waited for the first fails, and so the second has nothing to go on from:
    neither has moved the cursor, and the third moves it from where it was."""
    backend = Held()
    with Application(backend, endpoints=endpoints("a")) as app:
        push(app, "a", "1", "2", "3")
        records = app.callbacks.subscribe("a", cursor="c", follow=False)
        commits = []
        for _ in range(2):
            next(records)
            commits.append(records.commit())
        for number in order:
            backend.held[number]._fail(CursorConflict("a", "c", 1, 0))
            with pytest.raises(CursorConflict):
                commits[number].get()
        assert records.commit().get() == ()
        assert app.callbacks.cursor("a", "c").get() == records.positions["a"]


def test_a_commit_without_a_cursor_is_refused(app: Application) -> None:
    with pytest.raises(InvalidValue, match="commit"):
        app.callbacks.subscribe("a").commit().get()
    with pytest.raises(InvalidValue, match="commit"):
        app.callbacks.subscribe("a", cursor="unread").commit().get()
