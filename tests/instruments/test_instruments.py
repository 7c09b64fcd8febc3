"""Instruments: they are told what happens, and can do no harm."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs

from pollin_actors import (
    Application,
    BackendUnavailable,
    Backoff,
    Callback,
    Discard,
    Endpoint,
    InvalidValue,
    Reject,
    Retry,
    WrongSecret,
)
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.instruments import NOBODY, Instruments
from pollin_actors.messages import Ack, Push
from pollin_actors.otp import Event
from pollin_actors.testing import FaultyBackend, Tester
from pollin_actors.web import asgi, wsgi
from tests.handling import pass_time
from tests.instruments.recording import Recording
from tests.interrupts import interrupt_at_every_bytecode
from tests.web.calls import BEARER, Exchange, endpoint
from tests.web.receiving import orders, send

PHASES = ["received", "processed", "failed"]


def application(**fields: Any) -> tuple[Application, Recording]:
    app = Application(endpoints=[Endpoint.new(PHASES, 0, id="orders", **fields)])
    recording = Recording()
    app.instruments.add(recording)
    return app, recording


class TestOperations:
    def test_each_is_told_with_its_answer(self) -> None:
        """Also a refusal, which is an error."""
        app, told = application(secret="right")
        with Tester(app):
            told.told.clear()
            app.callbacks.push("orders", Callback.new(b"1", id="a")).get()
            app.callbacks.push("orders", Callback.new(b"1", id="a")).get()
            with pytest.raises(WrongSecret):
                app.callbacks.push("orders", Callback.new(b"1"), secret="wrong").get()
            assert app.callbacks.count("orders").get() == 1
        assert told.of("operated") == [
            ("operated", "FindEndpoint", "Endpoint", None),
            ("operated", "Push", "queued", None),
            ("operated", "Push", "duplicate", None),
            ("operated", "Push", None, "WrongSecret"),
            ("operated", "Count", 1, None),
        ]

    def test_also_those_of_endpoints_and_what_the_backend_cannot_do(self) -> None:
        backend = FaultyBackend(MemoryBackend())
        app, told = application()
        with Tester(app, backend=backend):
            told.told.clear()
            app.endpoints.create(Endpoint.new(id="more")).get()
            backend.fail(Push)
            with pytest.raises(BackendUnavailable):
                app.callbacks.push("orders", Callback.new(b"")).get()
        operated = told.of("operated")
        assert ("operated", "CreateEndpoint", "Endpoint", None) in operated
        assert ("operated", "Push", None, "InjectedFault") in operated

    def test_answers_that_come_later_are_told_when_they_come(self, tmp_path: Path) -> None:
        """SQLite's do, and they may be errors."""
        app, told = application(secret="right")
        with Tester(app, backend=f"sqlite:///{tmp_path}/inbox.db"):
            app.callbacks.push("orders", Callback.new(b"", id="a")).get()
            with pytest.raises(WrongSecret):
                app.callbacks.push("orders", Callback.new(b""), secret="wrong").get()
        operated = told.of("operated")
        assert ("operated", "Push", "queued", None) in operated
        assert ("operated", "Push", None, "WrongSecret") in operated
        assert ("operated", "CreateEndpoint", "Endpoint", None) in operated

    def test_the_time_that_an_answer_takes_is_told(self) -> None:
        taken: list[float] = []

        class Stopwatch(Instruments):
            def operated(self, message: Any, seconds: float, *_: Any) -> None:
                if isinstance(message, Push):
                    taken.append(seconds)

        backend = FaultyBackend(MemoryBackend())
        app, _ = application()
        app.instruments.add(Stopwatch())
        with Tester(app, backend=backend) as tester:
            backend.delay(Push, seconds=3.0)
            reply = app.callbacks.push("orders", Callback.new(b""))
            tester.advance(5.0)
            assert reply.get().outcome == "queued"
        assert taken == [3.0]


class TestPushes:
    def test_each_has_a_beginning_and_an_end(self) -> None:
        app, told = application()
        with Tester(app):
            app.callbacks.push("orders", Callback.new(b"", id="a")).get()
            with pytest.raises(Exception, match="gone"):
                app.callbacks.push("gone", Callback.new(b"", id="b")).get()
        assert told.of("sending", "sent") == [
            ("sending", "orders", "a"),
            ("sent", "a", "queued", None),
            ("sending", "gone", "b"),
            ("sent", "b", None, "EndpointNotFound"),
        ]

    def test_in_an_application_that_does_not_run_too(self) -> None:
        """The call itself raises then, before anything was begun."""
        app, told = application()
        with pytest.raises(Exception, match="not running"):
            app.callbacks.push("orders", Callback.new(b""))
        assert told.told == []


class TestRequests:
    def test_each_answer_is_told_and_whose_it_is(self) -> None:
        """What a stranger has made up is nobody's."""
        app = Application(endpoints=[orders()])
        told = Recording()
        app.instruments.add(told)
        with Tester(app) as tester:
            receiver = wsgi(app, max_bytes=10)
            signed = {"X-Sign": "old", "X-Id": "e-1"}
            assert send(receiver, signed).status == 200
            assert send(receiver, signed).status == 200
            assert send(receiver, {}).status == 401
            assert send(receiver, {"X-Hello": "1"}).status == 200
            assert send(receiver, signed, b"x" * 11).status == 413
            chunked = {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}
            assert send(receiver, signed, b"x" * 11, more=chunked).status == 413
            assert send(receiver, path="/made-up").status == 404
            assert send(receiver, path="/made/up").status == 404
            assert send(receiver, method="GET").status == 405
            assert send(receiver, path="/healthz", method="GET").status == 200
            assert send(receiver, path="/readyz", method="GET").status == 200
            tester.settle()
        assert [each[1:] for each in told.of("received")] == [
            ("orders", 200, "queued"),
            ("orders", 200, "duplicate"),
            ("orders", 401, "refused"),
            ("orders", 200, "replied"),
            ("orders", 413, "refused"),
            ("orders", 413, "refused"),
            (None, 404, "refused"),
            (None, 404, "refused"),
            ("orders", 405, "refused"),
        ]

    def test_who_leaves_is_told_as_well(self) -> None:
        """And bodies that are too large, or too slow, over ASGI."""
        app = Application(endpoints=[endpoint("orders")])
        told = Recording()
        app.instruments.add(told)
        with app:
            receiver = asgi(app, max_bytes=4, body_timeout=60)

            async def cut_off() -> None:
                """The server cancels the request while its body is waited for."""
                waits = asyncio.Event()

                async def receive() -> Any:
                    waits.set()
                    await asyncio.Event().wait()

                task = asyncio.ensure_future(
                    _call(receiver, Exchange(headers=(BEARER,)).scope, receive)
                )
                await waits.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

            async def requests() -> None:
                await Exchange().through(receiver)
                await Exchange(gone=True).through(receiver)
                await Exchange(chunks=(b"12", b"345")).through(receiver)
                await cut_off()

            asyncio.run(requests())
        assert [each[1:] for each in told.of("received")] == [
            ("orders", 200, "queued"),
            ("orders", 0, "gone"),
            ("orders", 413, "refused"),
            ("orders", 0, "gone"),
        ]

    def test_one_that_is_verified_later_is_accepted(self) -> None:
        app = Application(endpoints=[orders(verify="later")])
        told = Recording()
        app.instruments.add(told)
        with Tester(app) as tester:
            assert send(wsgi(app), {}).status == 200
            tester.drain()
        assert told.of("received") == [("received", "orders", 200, "accepted")]

    def test_malformed_headers_are_refused_as_ever(self) -> None:
        app = Application(endpoints=[endpoint("orders")])
        told = Recording()
        app.instruments.add(told)
        with app, capture_logs() as logs:
            for headers in (None, 5, [1], [(b"a",)], [("a", "b")]):
                exchange = Exchange()
                exchange.scope["headers"] = headers
                asyncio.run(exchange.through(asgi(app)))
                assert exchange.status == 400
        assert "instruments.failed" in [entry["event"] for entry in logs]  # ours asks for a len
        assert {each[2:] for each in told.of("received")} == {(400, "refused")}


async def _call(receiver: Any, scope: Any, receive: Any) -> None:
    async def send(message: Any) -> None:
        raise AssertionError(message)

    await receiver(scope, receive, send)


class TestHandlers:
    @pytest.mark.parametrize("is_async", [False, True])
    def test_calls_and_ends_are_told(self, is_async: bool) -> None:
        """Of sync functions and coroutines alike."""
        app, told = application()

        def handle(callback: Callback) -> Any:
            return {"ok": None, "retry": Retry(after=1), "drop": Discard(), "no": Reject()}[
                callback.request
            ]

        async def ahandle(callback: Callback) -> Any:
            return handle(callback)

        app.add_handler(
            ahandle if is_async else handle,
            "orders",
            then="processed",
            dead_letter="failed",
            max_attempts=2,
            backoff=Backoff(first=1.0, jitter=0.0),
            name="h",
        )
        with Tester(app) as tester:
            for request in ("ok", "retry", "drop", "no", "what?"):
                tester.push("orders", request, id=request)
                tester.drain()
        assert [each[2:] for each in told.of("calling")] == [
            (["ok"],),
            (["retry"],),
            (["retry"],),
            (["drop"],),
            (["no"],),
            (["what?"],),
            (["what?"],),
        ]
        assert [each[2:] for each in told.of("called")] == [
            (None, None),
            ("Retry", None),
            ("Retry", None),
            ("Discard", None),
            ("Reject", None),
            (None, "KeyError"),
            (None, "KeyError"),
        ]
        assert [each[4] for each in told.of("handled")] == ["returned"] * 5 + ["raised"] * 2
        assert [each[2:] for each in told.of("settled")] == [
            ("ok", 1, "acknowledged"),
            ("retry", 1, "failed"),
            ("retry", 2, "dead"),
            ("drop", 1, "discarded"),
            ("no", 1, "dead"),
            ("what?", 1, "failed"),
            ("what?", 2, "dead"),
        ]

    def test_a_batch_is_one_call_with_many_ends(self) -> None:
        app, told = application()
        app.add_handler(lambda batch: None, "orders", batch=10, name="h")
        app.handlers.pause("h")
        with Tester(app) as tester:
            for key in "abc":
                tester.push("orders", id=key)
            app.handlers.resume("h")
            tester.drain()
        assert told.of("calling") == [("calling", "h", ["a", "b", "c"])]
        [handled] = told.of("handled")
        assert handled[2] == 3
        assert [each[2] for each in told.of("settled")] == ["a", "b", "c"]

    def test_what_takes_too_long_and_what_is_lost(self) -> None:
        """A call that was given up is told with its time; a claim whose lease ends is lost."""
        backend = FaultyBackend(MemoryBackend())
        app, told = application()

        async def slow(callback: Callback) -> None:
            if callback.request == "slow":
                await pass_time(100.0)

        app.add_handler(slow, "orders", timeout=5.0, lease=10.0, name="h", backoff=Backoff(50.0))
        with Tester(app, backend=backend) as tester:
            tester.push("orders", "slow", id="a")
            tester.advance(6.0)
            assert told.of("handled") == [("handled", "h", 1, 5.0, "timed_out")]
            assert told.of("settled") == [("settled", "h", "a", 1, "failed")]
            tester.app.callbacks.delete("orders", key="a").get()
            backend.fail(Ack, times=20)
            tester.push("orders", "quick", id="b")
            tester.advance(10.5)
        assert ("settled", "h", "b", 1, "lost") in told.of("settled")

    def test_what_is_given_back_is_released(self) -> None:
        app, told = application()

        async def slow(callback: Callback) -> None:
            await pass_time(1.0)

        app.add_handler(slow, "orders", concurrency=1, name="h")
        with Tester(app) as tester:
            tester.push("orders", id="a")
            tester.advance(2.0)
            # Now it is known not to be quick: one at a time is claimed.
            told.told.clear()
            app.handlers.pause("h")
            tester.push("orders", id="b")
            app.handlers.resume("h")
            tester.drain()
        assert [each[4] for each in told.of("settled")] == ["acknowledged"]


class TestSupervision:
    def test_crashes_and_restarts_are_told(self) -> None:
        app, told = application()
        with Tester(app) as tester:
            tester.push("orders")
            tester.crash("orders")
            tester.push("orders")
        events = [each[1:] for each in told.of("supervised")]
        assert ("actor.crashed", "orders") in events
        assert ("actor.restarting", "orders") in events

    def test_beside_the_hook_of_the_application(self) -> None:
        """Both are told, however late the instruments come, and the hook alone afterwards."""
        heard: list[Event] = []
        app = Application(endpoints=[Endpoint.new(id="orders")], on_event=heard.append)
        told = Recording()
        with Tester(app) as tester:
            tester.push("orders")
            app.instruments.add(told)
            tester.crash("orders")
            tester.simulation.runtime.events.flush()
            assert "actor.crashed" in [event.event for event in heard]
            assert "actor.crashed" in [each[1] for each in told.told if each[0] == "supervised"]
            app.instruments.remove(told)
            told.told.clear()
            heard.clear()
            tester.crash("orders")
            tester.simulation.runtime.events.flush()
            assert "actor.crashed" in [event.event for event in heard]
        assert told.told == []

    def test_a_hook_that_fails_is_named(self) -> None:
        """As where there are no instruments."""

        def on_strike(event: Event) -> None:
            raise ValueError

        app = Application(endpoints=[Endpoint.new(id="orders")], on_event=on_strike)
        told = Recording()
        app.instruments.add(told)
        with capture_logs() as logs, Tester(app) as tester:
            tester.push("orders")
            tester.crash("orders")
            tester.simulation.runtime.events.flush()
        failed = [entry for entry in logs if entry["event"] == "event_hook.failed"]
        assert "actor.crashed" in [entry["failed"] for entry in failed]
        assert all("on_strike" in entry["hook"] for entry in failed)
        assert "actor.crashed" in [each[1] for each in told.of("supervised")]

    @pytest.mark.parametrize("kind", ["instruments", "hook"])
    def test_one_that_comes_while_the_application_starts(self, kind: str) -> None:
        """Between the question whether anybody wants to hear, and what comes of the answer."""
        heard = threading.Event()

        class Told(Instruments):
            def supervised(self, event: Event) -> None:
                heard.set()

        class Late(Application):
            comes = True

            def _is_heard(self) -> bool:
                answer = super()._is_heard()
                if self._runtime is not None and self.comes:
                    self.comes = False
                    thread = threading.Thread(target=come)
                    thread.start()
                    thread.join()
                return answer

        def come() -> None:
            if kind == "hook":
                app.add_event_hook(lambda event: heard.set())
            else:
                app.instruments.add(Told())

        app = Late(endpoints=[Endpoint.new(id="orders")])
        with app:
            assert not app.comes
            app.callbacks.push("orders", Callback.new(b"")).get()
            assert heard.wait(30)

    def test_beside_the_hook_of_a_runtime_that_was_given(self) -> None:
        """Also when it is used a second time."""
        heard: list[Event] = []
        app, told = application()
        tester = Tester(app)
        tester.simulation.runtime.on_event = heard.append
        for _ in range(2):
            with tester:
                tester.push("orders")
                tester.crash("orders")
                tester.simulation.runtime.events.flush()
        assert [event.event for event in heard].count("actor.crashed") == 2
        assert [each[1] for each in told.of("supervised")].count("actor.crashed") == 2


class Failing(Recording):
    """Raises, whatever it is told."""

    def __getattribute__(self, name: str) -> Any:
        if name in vars(Instruments) and not name.startswith("_"):
            return self._fail
        return super().__getattribute__(name)

    def _fail(self, *args: Any) -> None:
        raise SystemExit("sesame")


class TestHarm:
    def test_those_that_raise_disturb_nothing_and_are_logged_once(self) -> None:
        """Each method once, without what the exception says; others are told as ever."""
        app, told = application()
        app.instruments.add(Failing())
        app.add_handler(lambda callback: None, "orders", name="h")
        with capture_logs() as logs, Tester(app) as tester:
            for number in range(3):
                tester.push("orders", id=str(number))
            tester.drain()
            tester.crash("orders")
            tester.assert_handled("orders", count=3)
            tester.simulation.runtime.events.flush()
        failed = [entry for entry in logs if entry["event"] == "instruments.failed"]
        methods = [entry["method"] for entry in failed]
        assert sorted(methods) == sorted(set(methods))
        assert {"operated", "sending", "calling", "handled", "settled"} <= set(methods)
        assert {entry["reason"] for entry in failed} == {"SystemExit"}
        assert "test_instruments.py" in failed[0]["at"]
        assert "sesame" not in str(failed)
        assert len(told.of("settled")) == 3

    def test_an_interrupt_is_no_failure_of_theirs(self) -> None:
        """It goes on to who is interrupted."""

        class Interrupted(Instruments):
            def sending(self, endpoint_id: str, callback: Callback) -> None:
                raise KeyboardInterrupt

        app, _ = application()
        with Tester(app):
            app.instruments.add(Interrupted())
            with pytest.raises(KeyboardInterrupt):
                app.callbacks.push("orders", Callback.new(b""))

    def test_no_interrupt_is_taken_for_an_answer(self) -> None:
        """Whenever it comes while they are told how a push went, it comes out."""

        class Pushed(NamedTuple):
            app: Application
            done: list[bool]

        class Sent(Instruments):
            def sent(self, *args: Any) -> None:
                pass

        app = Application(endpoints=[Endpoint.new(id="orders")])
        app.instruments.add(Sent())

        def push(it: Pushed) -> None:
            try:
                it.app.callbacks.push("orders", Callback.new(b""))
            except KeyboardInterrupt:
                return
            it.done.append(True)

        def check(it: Pushed, interrupted: bool) -> None:
            assert it.done == ([] if interrupted else [True])

        with app:
            app.callbacks.push("orders", Callback.new(b"")).get()
            modules = ["pollin_actors.instruments.hub"]
            number = interrupt_at_every_bytecode(
                push, check, prepare=lambda: Pushed(app, []), modules=modules
            )
        assert number > 50


class TestAdding:
    def test_only_instruments_can_be_added(self) -> None:
        with pytest.raises(InvalidValue, match="Instruments"):
            Application().instruments.add(print)  # type: ignore[arg-type]

    def test_each_is_told_once_and_only_of_what_it_has_a_method_for(self) -> None:
        class Calls(Instruments):
            def called(self, *args: Any) -> None:
                raise AssertionError

        app, told = application()
        calls = Calls()
        for _ in range(2):
            app.instruments.add(told)
            app.instruments.add(calls)
        assert app.instruments.listeners == (told, calls)
        assert app.instruments.operated_by == [told]
        assert app.instruments.called_by == [told, calls]
        app.instruments.remove(told)
        app.instruments.remove(told)
        assert not app.instruments.operated_by

    def test_those_that_say_that_they_are_equal_are_two(self) -> None:
        """As data classes do."""

        @dataclass
        class Equal(Instruments):
            name: str = ""

        app = Application()
        one, two = Equal(), Equal()
        for each in (one, two, one):
            app.instruments.add(each)
        assert len(app.instruments.listeners) == 2
        app.instruments.remove(one)
        assert [each is two for each in app.instruments.listeners] == [True]

    def test_while_it_runs_from_any_thread(self) -> None:
        """What is added by several threads at once is all there."""
        app = Application(endpoints=[Endpoint.new(id="orders")])
        several = [Recording() for _ in range(8)]
        together = threading.Barrier(len(several))

        def add(recording: Recording) -> None:
            together.wait()
            app.instruments.add(recording)

        with app:
            threads = [threading.Thread(target=add, args=(each,)) for each in several]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            app.callbacks.push("orders", Callback.new(b"")).get()
        assert all(each.of("sent") for each in several)

    def test_they_stay_from_one_start_to_the_next(self) -> None:
        app, told = application()
        for _ in range(2):
            with Tester(app) as tester:
                tester.push("orders")
        assert len(told.of("sent")) == 2

    def test_nobody_is_told_of_an_application_that_has_none(self) -> None:
        assert NOBODY.listeners == ()
        assert NOBODY.operated_by == []
        assert repr(Application().instruments) == "<Instrumentation: nobody>"
