"""The tester where it is less simple: restarts, borrowed handlers, time, what never ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from pollin_actors import Application, Callback, Endpoint, InvalidValue, Secret, State
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.otp import Actor, ChildSpec
from pollin_actors.testing import Crash, FaultyBackend, Tester, crash
from pollin_actors.web import asgi

PHASES = ["received", "processed", "failed"]
SECRET = "a secret of a test"


def application() -> Application:
    return Application(endpoints=[Endpoint.new(PHASES, 0, id="orders", secret=Secret(SECRET))])


def do_nothing(callback: Callback) -> None:
    """A handler."""


@pytest.fixture
def tester() -> Iterator[Tester]:
    with Tester(application()) as tester:
        yield tester


# -- draining --------------------------------------------------------------------------------------


def test_drain_waits_for_a_handler_that_is_being_restarted(tester: Tester) -> None:
    """It has nothing at the moment, and yet there is work for it."""
    tester.app.add_handler(do_nothing, "orders", then="processed", name="h")
    tester.settle()
    with contextlib.suppress(InvalidValue):
        for _ in range(20):
            tester.crash("h")
    with pytest.raises(InvalidValue, match="restarted"):
        tester.crash("h")  # the back-off has begun
    tester.push("orders", id="a")
    tester.drain()
    tester.assert_received("orders", phase="processed", count=1)


def test_drain_says_that_a_handler_does_not_run(tester: Tester) -> None:
    """Its endpoint lacks the phase that it moves callbacks into."""
    tester.push("orders", id="a")
    tester.app.add_handler(do_nothing, "orders", then="elsewhere", name="h")
    with pytest.raises(AssertionError, match=r"orders/a in 'received'.*'h' does not run"):
        tester.drain(within=5)


def test_drain_says_who_holds_what(tester: Tester) -> None:
    @tester.app.handler("orders", then="processed", timeout=None, name="h")
    async def handle(callback: Callback) -> None:
        await asyncio.Event().wait()

    tester.push("orders", id="a")
    with pytest.raises(AssertionError, match=r"last claimed 60 s ago by 'h'"):
        tester.drain(within=60)


def test_drain_leaves_alone_what_is_for_later(tester: Tester) -> None:
    """And what must wait for it, because it has the same ordering key."""
    tester.app.add_handler(do_nothing, "orders", then="processed", name="h")
    later = tester.clock.time_ns() + 3 * 86_400 * 10**9
    tester.push("orders", id="later", not_before=later, ordering_key="k")
    tester.push("orders", id="after it", ordering_key="k")
    tester.push("orders", id="now")
    tester.drain()
    assert [it.id for it in tester.assert_received("orders", phase="processed")] == ["now"]
    tester.advance(3 * 86_400)
    tester.drain()
    tester.assert_received("orders", phase="processed", count=3)


def test_drain_sees_past_faults() -> None:
    """The backend fails; the look at what is left does not."""
    backend = FaultyBackend(MemoryBackend(), seed=3)
    app = application()
    app.add_handler(do_nothing, "orders", then="processed", name="h")
    with Tester(app, backend=backend) as tester:
        for number in range(20):
            tester.push("orders", id=f"o-{number}")
        backend.fail(rate=0.5)
        tester.drain()
        tester.assert_received("orders", phase="processed", count=20)
        assert backend.injected


def test_what_never_ends_is_an_error(tester: Tester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that pushes what it handles again would keep a test busy for ever."""
    monkeypatch.setattr("pollin_actors.testing.tester.MOST_TURNS", 2_000)

    @tester.app.handler("orders", name="h")
    def handle(callback: Callback) -> None:
        tester.app.callbacks.push("orders", Callback.new(b""))

    tester.push("orders", id="a")
    with pytest.raises(AssertionError, match="for ever"):
        tester.drain()
    with pytest.raises(AssertionError, match="for ever"):
        tester.advance(1)


def test_an_application_that_fails_ends_the_draining(tester: Tester) -> None:
    """Its supervisors have given up: nothing will be handled any more."""

    @tester.app.handler("orders", name="h")
    async def handle(callback: Callback) -> None:
        await asyncio.Event().wait()

    tester.push("orders", id="a")
    for _ in range(50):
        if tester.app.state is not State.RUNNING:
            break
        tester.crash("endpoints")
    assert tester.app.state is State.FAILED
    with pytest.raises(AssertionError, match="does not run any more"):
        tester.drain()


# -- what is borrowed ------------------------------------------------------------------------------


def test_handlers_are_given_back_as_they_were() -> None:
    """What one test adds or pauses, the next one knows nothing of."""
    app = application()
    app.add_handler(do_nothing, "orders", then="processed", name="h")
    for _ in range(2):
        with Tester(app) as tester:
            app.add_handler(do_nothing, "orders", phase="processed", then="failed", name="more")
            app.handlers.pause("h").get()
    assert [info.name for info in app.handlers] == ["h"]
    with Tester(app) as tester:
        tester.push("orders", id="a")
        tester.drain()
        tester.assert_received("orders", phase="processed", count=1)


# -- time ------------------------------------------------------------------------------------------


def test_the_clock_begins_at_present_or_when_it_is_told() -> None:
    """So that code which asks the system for the time gets along."""
    app = application()
    app.add_handler(do_nothing, "orders", then="processed", name="h")
    with Tester(app) as tester:
        soon = datetime.now(UTC) + timedelta(hours=1)
        app.callbacks.push("orders", Callback.new(b"", id="a"), not_before=soon).get()
        tester.drain()
        tester.assert_received("orders", phase="processed", count=1)
    with Tester(app, start=datetime(2030, 1, 1, tzinfo=UTC)) as tester:
        assert tester.clock.time_ns() == 1_893_456_000 * 10**9
        tester.advance(1)
        tester.push("orders", id="a")
        (callback,) = tester.received("orders")
        assert callback.created_at == 1_893_456_001 * 10**9


# -- inline ----------------------------------------------------------------------------------------


def test_inline_calls_get_the_time_that_they_take() -> None:
    """A coroutine that sleeps has ended when the push returns; attempts to come wait."""
    app = application()

    @app.handler("orders", then="processed", name="h")
    async def handle(callback: Callback) -> None:
        await asyncio.wait_for(asyncio.Event().wait(), 3) if callback.id == "late" else None

    with Tester(app, inline=True) as tester:
        tester.push("orders", id="quick")
        assert tester.clock.monotonic() == 0
        tester.assert_handled("orders", count=1)
        tester.push("orders", id="late")
        assert tester.clock.monotonic() == 3
        assert [str(record.kind) for record in tester.history("orders", "late")][-1] == "failed"


def test_inline_pushes_of_handlers_do_not_pile_up() -> None:
    """A chain longer than Python's stack is deep, begun by time that passes."""
    app = application()

    @app.handler("orders", then="processed", name="h")
    def handle(callback: Callback) -> None:
        if int(callback.id) < 3000:
            app.callbacks.push("orders", Callback.new(b"", id=str(int(callback.id) + 1)))

    with Tester(app, inline=True) as tester:
        tester.push("orders", id="0", not_before=tester.clock.time_ns() + 10**9)
        tester.drain()
        tester.assert_handled("orders", count=3001)


def test_inline_handles_what_comes_over_http() -> None:
    """The web application runs on an event loop of another thread, as test clients have it."""
    app = application()
    app.add_handler(do_nothing, "orders", then="processed", name="h")

    async def post() -> int:
        transport = httpx.ASGITransport(asgi(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {"x-pollin-secret": SECRET}
            return (await client.post("/orders", json={"order": 1}, headers=headers)).status_code

    with Tester(app, inline=True) as tester:
        with ThreadPoolExecutor(1) as executor:
            assert executor.submit(asyncio.run, post()).result(60) == 200
        tester.assert_handled("orders", count=1, by="h")


# -- assertions ------------------------------------------------------------------------------------


def test_handled_and_dead_are_told_apart(tester: Tester) -> None:
    """By whom, too; a failure shows what there is."""

    @tester.app.handler("orders", then="processed", dead_letter="failed", max_attempts=2, name="h")
    def handle(callback: Callback) -> None:
        if callback.id == "bad":
            raise ValueError("not this one")

    for key in ("good", "bad", "also good"):
        tester.push("orders", id=key)
    tester.drain()
    assert [it.id for it in tester.assert_handled("orders", by="h")] == ["good", "also good"]
    assert [it.id for it in tester.assert_dead("orders", count=1)] == ["bad"]
    tester.assert_handled("orders", count=1, where=lambda it: it.id == "good")
    tester.assert_handled("orders", count=0, by="another")
    with pytest.raises(AssertionError) as caught:
        tester.assert_dead("orders", by="h", count=2)
    assert str(caught.value).split("\n  ") == [
        "endpoint 'orders': expected 2 callbacks dead by 'h', got 1; there are:",
        "orders/good in 'processed', last acknowledged",
        "orders/bad in 'failed', last dead: ValueError: not this one",
        "orders/also good in 'processed', last acknowledged",
    ]


def test_a_failure_lists_a_few(tester: Tester) -> None:
    for number in range(50):
        tester.push("orders", id=f"o-{number}")
    with pytest.raises(AssertionError) as caught:
        tester.assert_received("orders", count=1)
    assert str(caught.value).split("\n  ")[-1] == "and 30 more"
    assert len(str(caught.value).split("\n  ")) == 22


# -- crashes ---------------------------------------------------------------------------------------


class Own(Actor):
    """An actor of a user's own."""

    def on_receive(self, message: object) -> object:
        return message


def test_actors_of_ones_own_crash_by_name_by_id_and_by_ref(tester: Tester) -> None:
    """Their records say so: it is a real crash."""
    tester.app.start_child(ChildSpec(id="first", name="named", start=Own)).get()
    tester.app.start_child(ChildSpec(id="second", start=Own)).get()
    for target, child in (("named", "first"), ("second", "second")):
        ref = tester.app.actors.which_child(child).get().ref
        assert ref is not None
        tester.crash(target)
        assert isinstance(ref.monitor().get(timeout=0).exception, Crash)
    tester.advance(10)
    named = tester.app.whereis("named")
    assert named is not None
    tester.crash(named)
    assert not named.is_alive()
    with pytest.raises(InvalidValue, match="runs"):
        crash(tester.app, named)


def test_the_actor_of_an_endpoint_is_started_to_be_crashed(tester: Tester) -> None:
    tester.crash("orders")
    tester.push("orders", id="a")
    tester.assert_received("orders", count=1)
