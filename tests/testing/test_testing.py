"""The testing kit: what it shows about an application, and what it says when that is wrong."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import testing_handlers as example
from pollin_actors import (
    Application,
    BackendUnavailable,
    Callback,
    Endpoint,
    InvalidValue,
    NotRunning,
    State,
)
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import Count, Fetch, Push
from pollin_actors.testing import FaultyBackend, InjectedFault, Tester, crash, webhook

EXAMPLES = [value for name, value in vars(example).items() if name.startswith("test_")]
PHASES = ["received", "processed", "failed"]


@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.__name__)
def test_the_example_passes(test: Any) -> None:
    test()


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
            ({"where": lambda it: False, "count": 1}, "1 callbacks that `where` accepts, got 0"),
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


class TestFaults:
    @pytest.fixture
    def backend(self) -> FaultyBackend:
        return FaultyBackend(MemoryBackend())

    @pytest.fixture
    def tester(self, backend: FaultyBackend) -> Iterator[Tester]:
        with Tester(application(), backend=backend) as tester:
            yield tester

    def test_come_before_or_after_the_effect(self, tester: Tester, backend: FaultyBackend) -> None:
        for when, count in (("before", 0), ("after", 1)):
            backend.fail(Push, when=when)  # type: ignore[arg-type]
            with pytest.raises(InjectedFault, match="injected"):
                tester.push("orders", id="a")
            assert tester.app.callbacks.count("orders").get() == count
        assert tester.push("orders", id="a").outcome == "duplicate"
        assert backend.injected == 2

    def test_are_of_some_kinds_and_as_many_as_were_said(self, backend: FaultyBackend) -> None:
        backend.open(lambda: 1)
        backend.fail(Count, times=2)
        for kind in (Count, Fetch, Count, Fetch, Count):
            error: Any = None
            try:
                backend.execute(kind("orders"))
            except Exception as caught:
                error = caught
            assert isinstance(error, InjectedFault) is (kind is Count and backend.injected < 3)
            if kind is Count and backend.injected == 2:
                backend.injected = 3
        backend.close()

    def test_come_at_a_rate_until_they_are_healed(
        self, tester: Tester, backend: FaultyBackend
    ) -> None:
        backend.fail(rate=0.5)
        failed = 0
        for number in range(100):
            try:
                tester.push("orders", id=f"c{number}")
            except BackendUnavailable:
                failed += 1
        assert 30 < failed < 70
        backend.heal()
        tester.push("orders", id="last")
        assert not backend.shared
        assert not backend.durable

    @pytest.mark.parametrize("wrong", [{"when": "never"}, {"rate": 2.0}])
    def test_refuse_what_makes_no_sense(
        self, backend: FaultyBackend, wrong: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidValue):
            backend.fail(**wrong)


def test_a_webhook_is_a_request() -> None:
    request = webhook({"a": 1}, headers={"x-id": "7"})
    assert request.headers == (("content-type", "application/json"), ("x-id", "7"))
    assert request.body == b'{"a": 1}'
    assert webhook(body=b"raw").headers == ()
    with pytest.raises(InvalidValue, match="both"):
        webhook({}, body=b"")


PLUGIN = """
pytest_plugins = ["pollin_actors.testing.plugin"]
"""
USER = """
from pollin_actors import Endpoint

def test_passes(pollin_tester, pollin_seed):
    tester = pollin_tester(endpoints=[Endpoint.new(id="orders")])
    tester.push("orders", id="a")
    tester.assert_received("orders", count=1)
    assert pollin_seed == 5

def test_fails(pollin_tester):
    pollin_tester(endpoints=[Endpoint.new(id="orders")]).assert_received("orders")
"""


def test_the_plugin_has_fixtures(tmp_path: Path) -> None:
    """A failure tells the seed; the application is stopped whatever happens."""
    (tmp_path / "conftest.py").write_text(PLUGIN)
    (tmp_path / "test_user.py").write_text(USER)
    command = [sys.executable, "-m", "pytest", "-q", "--pollin-seed=5", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "--pollin-seed=5" in done.stdout


def test_the_plugin_imports_little() -> None:
    """Neither servers nor the command nor SQLite, for tests that need none of it."""
    program = "import sys, pollin_actors.testing.plugin; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    foreign = {"uvicorn", "sqlite3", "hypothesis", "pollin_actors.web", "pollin_actors.cli"}
    assert not foreign & loaded
