"""What belongs to an application: companions, and handlers that are taken away again."""

from __future__ import annotations

import asyncio

from pollin_actors import Application, Callback, Endpoint
from pollin_actors.otp import Runtime
from pollin_actors.testing import Tester


class Noted:
    """Notes with which runtimes it was told to begin."""

    def __init__(self, app: Application) -> None:
        self.begun: list[Runtime] = []

    def begin(self, runtime: Runtime) -> None:
        self.begun.append(runtime)


class TestCompanion:
    def test_there_is_one_of_each_kind_and_application(self) -> None:
        one, other = Application(), Application()
        assert one.companion(Noted) is one.companion(Noted)
        assert one.companion(Noted) is not other.companion(Noted)

    def test_it_begins_with_each_start(self) -> None:
        app = Application()
        noted = app.companion(Noted)
        assert noted.begun == []
        runtimes = []
        for _ in range(2):
            with app:
                runtimes.append(app.runtime)
        assert noted.begun == runtimes

    def test_it_begins_at_once_where_the_application_runs(self) -> None:
        with Application() as app:
            assert app.companion(Noted).begun == [app.runtime]

    def test_one_that_is_made_while_the_application_starts_begins_too(self) -> None:
        """It is told by the start, by who made it, or by both."""

        class Starting(Application):
            start_phases = ("first",)

            def start_phase(self, phase: str) -> None:
                self.noted = self.companion(Noted)

        with Starting() as app:
            assert set(app.noted.begun) == {app.runtime}


class TestRemove:
    def test_what_it_has_claimed_goes_back_and_its_name_is_free(self) -> None:
        """Also where it is in the middle of something."""
        endpoint = Endpoint.new(["received"], 0, id="orders")
        handled: list[str] = []

        async def slow(callback: Callback) -> None:
            await asyncio.Event().wait()

        async def quick(callback: Callback) -> None:
            handled.append(callback.id)

        for seed in range(10):
            with Tester(endpoints=[endpoint], seed=seed) as tester:
                handlers = tester.app.handlers
                name = tester.app.add_handler(slow, "orders", name="handle", timeout=None)
                tester.settle()
                tester.push("orders", id=str(seed))
                tester.advance(1.0)
                assert handlers[name].held == 1
                assert handlers.function_of(name) is slow
                ended = handlers.remove(name)
                tester.settle()
                assert ended.get(timeout=0) is None
                assert (len(handlers), handlers.function_of(name)) == (0, None)
                tester.app.add_handler(quick, "orders", name=name)
                tester.drain()
        assert handled == [str(seed) for seed in range(10)]

    def test_one_that_is_not_there_is_none(self) -> None:
        app = Application()
        app.handlers.remove("nobody").get(timeout=0)
        app.add_handler(print, "orders", name="somebody")
        app.handlers.remove("somebody").get(timeout=0)
        assert len(app.handlers) == 0
        with app:
            app.handlers.remove("somebody").get(timeout=60)
