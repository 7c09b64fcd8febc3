"""The testing kit: what it shows about an application, and what it says when that is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pollin_actors import (
    Application,
    Callback,
    Endpoint,
    InvalidValue,
    NotRunning,
    State,
)
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.testing import Tester, crash, webhook

PHASES = ["received", "processed", "failed"]


def application() -> Application:
    return Application(endpoints=[Endpoint.new(PHASES, 0, id="orders")])


@pytest.fixture
def tester() -> Iterator[Tester]:
    with Tester(application()) as tester:
        yield tester


class TestTester:
    def test_gives_back_what_it_borrowed(self) -> None:
        """Backend and clock: the application starts as ever afterwards, and knows of nothing."""
        app = application()
        before = app.backend
        with Tester(app) as tester:
            tester.push("orders", id="a")
            assert app.backend is not before
        assert app.state is State.STOPPED
        assert app.backend is before
        with app:
            assert app.callbacks.count("orders").get() == 0

    def test_gives_it_back_also_where_the_start_fails(self) -> None:
        app = application()
        app.add_handler(print, "orders", phase="missing", name="h")
        before = app.backend
        with pytest.raises(Exception, match="missing"), Tester(app):
            raise AssertionError("it has started")
        assert app.backend is before

    def test_refuses_an_application_that_runs(self) -> None:
        with application() as app, pytest.raises(InvalidValue, match="running"), Tester(app):
            raise AssertionError("it has started")

    def test_refuses_endpoints_for_an_application_that_is_given(self) -> None:
        with pytest.raises(InvalidValue, match="endpoints"):
            Tester(application(), endpoints=[Endpoint.new(id="more")])

    def test_makes_an_application(self) -> None:
        with Tester(endpoints=[Endpoint.new(id="orders")]) as tester:
            tester.push("orders", id="a")
            assert [it.id for it in tester.assert_received("orders")] == ["a"]

    def test_repeats_itself_with_the_same_seed(self) -> None:
        """Delays of the back-off included."""

        def run(seed: int) -> list[int]:
            app = application()

            @app.handler("orders", then="processed", dead_letter="failed", name="h")
            def handle(callback: Callback) -> None:
                raise ValueError

            with Tester(app, backend=MemoryBackend(), seed=seed) as tester:
                tester.push("orders", id="a")
                tester.drain(within=10**7)
                start = tester.history("orders", "a")[0].at
                return [record.at - start for record in tester.history("orders", "a")]

        assert run(1) == run(1)
        assert run(1) != run(2)

    def test_drains_coroutines_and_chains(self, tester: Tester) -> None:
        """Sub events that a coroutine pushes are handled too, after their delay."""

        @tester.app.handler("orders", then="processed", dead_letter="failed", name="h")
        async def handle(callback: Callback) -> None:
            if callback.id == "a":
                await asyncio.wait_for(asyncio.Event().wait(), 5)
            if callback.parent is None:
                later = tester.clock.time_ns() + 60 * 10**9
                child = Callback.new(b"", id=f"{callback.id}/sub")
                calls = tester.app.callbacks
                await calls.push("orders", child, parent=callback.id, not_before=later)

        tester.push("orders", id="b")
        tester.drain()
        ids = [it.id for it in tester.assert_received("orders", phase="processed", count=2)]
        assert ids == ["b", "b/sub"]

    def test_says_what_is_not_done(self, tester: Tester) -> None:
        @tester.app.handler("orders", then="processed", name="h")
        def handle(callback: Callback) -> None:
            raise KeyError("colour")

        tester.push("orders", id="a")
        with pytest.raises(
            AssertionError, match=r"after 60 s .*\n  orders/a in 'received'.*colour"
        ):
            tester.drain(within=60)

    def test_does_not_wait_for_who_is_paused(self, tester: Tester) -> None:
        tester.app.add_handler(print, "orders", name="h")
        tester.settle()
        tester.app.handlers.pause("h").get()
        tester.push("orders", id="a")
        tester.drain()
        assert tester.assert_received("orders", phase="received", count=1)

    def test_handles_inline_also_what_a_handler_pushes(self) -> None:
        app = application()

        @app.handler("orders", name="h")
        def handle(callback: Callback) -> None:
            if callback.parent is None:
                app.callbacks.push("orders", Callback.new(b"", id="sub"), parent=callback.id).get()

        with Tester(app, inline=True) as tester:
            app.callbacks.push("orders", Callback.new(b"", id="a"))
            kinds = [str(record.kind) for record in tester.history("orders", "sub")]
            assert kinds == ["pushed", "claimed", "acknowledged"]

    @pytest.mark.parametrize(
        ("wanted", "told"),
        [
            ({"count": 3}, "expected 3 callbacks, got 2"),
            ({"phase": "failed"}, "expected at least one callback in phase 'failed', got 0"),
            ({"where": lambda it: False, "count": 1}, "1 callback that `where` accepts, got 0"),
        ],
    )
    def test_says_what_is_there_instead(
        self, tester: Tester, wanted: dict[str, Any], told: str
    ) -> None:
        tester.push("orders", id="a")
        tester.push("orders", id="b")
        tester.app.callbacks.pop("orders", key="b").get()
        with pytest.raises(AssertionError) as caught:
            tester.assert_received("orders", **wanted)
        text = str(caught.value)
        assert told in text
        there = ["orders/a in 'received', last pushed", "orders/b in 'received', last popped"]
        assert text.split("\n  ")[1:] == there

    def test_says_that_nothing_is_there(self, tester: Tester) -> None:
        with pytest.raises(AssertionError, match=r"got 0; there are:\n  none"):
            tester.assert_received("orders")


class TestCrashing:
    @pytest.mark.parametrize("actor", ["h", "orders", "endpoints", "consumers"])
    def test_is_followed_by_a_restart(self, tester: Tester, actor: str) -> None:
        """Of a handler, an endpoint's actor, the actor of endpoints, a supervisor."""
        tester.app.add_handler(lambda callback: None, "orders", then="processed", name="h")
        tester.push("orders", id="a")
        before = str(tester.app.tree().get())
        tester.crash(actor)
        tester.advance(10)
        tester.push("orders", id="b")
        tester.drain()
        tester.assert_received("orders", phase="processed", count=2)
        assert str(tester.app.tree().get()) != before

    def test_needs_an_actor(self, tester: Tester) -> None:
        with pytest.raises(InvalidValue, match="'nobody'"):
            tester.crash("nobody")

    def test_needs_an_application_that_runs(self) -> None:
        with pytest.raises(NotRunning):
            crash(application(), "orders")


def test_a_webhook_is_a_request() -> None:
    request = webhook({"a": 1}, headers={"x-id": "7"})
    assert request.headers == (("content-type", "application/json"), ("x-id", "7"))
    assert request.body == b'{"a": 1}'
    assert webhook(body=b"raw").headers == ()
    own = {"Content-Type": "application/cloudevents+json"}
    assert webhook({}, headers=own).headers == tuple(own.items())
    with pytest.raises(InvalidValue, match="both"):
        webhook({}, body=b"")
