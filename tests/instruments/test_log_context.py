"""What the lines say that users log in handlers and hooks; and that nothing of it stays behind."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from pollin_actors import Application, Callback, Endpoint, Request
from pollin_actors.instruments.log_context import trace_id_of
from pollin_actors.resources import PushResult
from pollin_actors.testing import Tester
from pollin_actors.web import asgi, wsgi
from tests.handling import pass_time
from tests.web.calls import BEARER, Exchange, endpoint
from tests.web.receiving import orders, send

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def application() -> Application:
    return Application(endpoints=[Endpoint.new(["received", "failed"], 0, id="orders")])


def traced(value: str = TRACEPARENT, name: str = "traceparent") -> Request:
    return Request([("host", "example.org"), (name, value)], b"")


class TestHandlers:
    @pytest.mark.parametrize("is_async", [False, True])
    def test_lines_say_what_is_worked_on(self, is_async: bool) -> None:
        """Endpoint, callback, attempt, handler, and the trace of the sender if there is one."""
        app, seen = application(), []

        def handle(callback: Callback) -> None:
            seen.append(get_contextvars())
            bind_contextvars(left="behind")
            if callback.id == "b" and callback.attempts == 1:
                raise ValueError

        async def ahandle(callback: Callback) -> None:
            handle(callback)
            await pass_time(1.0)
            assert get_contextvars()["callback_id"] == callback.id

        app.add_handler(ahandle if is_async else handle, "orders", name="h", concurrency=1)
        with Tester(app) as tester:
            tester.push("orders", traced(), id="a")
            tester.push("orders", b"", id="b")
            tester.drain()
        common = {"handler": "h", "endpoint_id": "orders"}
        assert sorted(seen, key=lambda it: (it["callback_id"], it["attempt"])) == [
            {**common, "callback_id": "a", "attempt": 1, "trace_id": TRACE},
            {**common, "callback_id": "b", "attempt": 1},
            {**common, "callback_id": "b", "attempt": 2},
        ]
        assert get_contextvars() == {}

    def test_of_a_batch_they_say_how_many(self) -> None:
        app, seen = application(), []
        app.add_handler(lambda _: seen.append(get_contextvars()), "orders", name="h", batch=5)
        app.handlers.pause("h")
        with Tester(app) as tester:
            for key in "ab":
                tester.push("orders", traced(), id=key)
            app.handlers.resume("h")
            tester.drain()
        assert seen == [{"handler": "h", "endpoint_id": "orders", "callbacks": 2}]

    def test_coroutines_that_run_at_once_do_not_mix(self) -> None:
        """Each finds its own after every await, and so do the tasks that it starts."""
        app, wrong = application(), []

        async def look(callback: Callback) -> None:
            await pass_time(0.5)
            if get_contextvars().get("callback_id") != callback.id:
                wrong.append(callback.id)

        async def handle(callback: Callback) -> None:
            for _ in range(3):
                await asyncio.gather(look(callback), look(callback))

        app.add_handler(handle, "orders", name="h", concurrency=8)
        with Tester(app) as tester:
            for number in range(40):
                tester.push("orders", id=str(number))
            tester.drain()
            tester.assert_handled("orders", count=40)
        assert wrong == []

    def test_threads_are_given_back_clean(self) -> None:
        """Real threads, each of which makes many calls: none finds anything of the one before,
        whether that has returned or raised."""
        app = application()
        done, wrong, left = threading.Event(), [], 60

        def handle(callback: Callback) -> None:
            nonlocal left
            bound = get_contextvars()
            if "mine" in bound or bound.get("callback_id") != callback.id:
                wrong.append(bound)
            bind_contextvars(mine=callback.id)
            left -= 1
            if not left:
                done.set()
            if callback.request == b"bad" and callback.attempts < 2:
                raise ValueError

        app.add_handler(
            handle, "orders", name="h", concurrency=1, dead_letter="failed", max_attempts=1
        )
        with app:
            for number in range(60):
                request = b"bad" if number % 3 else b"good"
                app.callbacks.push("orders", Callback.new(request, id=str(number))).get()
            assert done.wait(60)
        assert wrong == []
        assert get_contextvars() == {}


class TestReceivers:
    def hook(self, seen: list[Any]) -> Any:
        def received(endpoint_id: str, result: PushResult) -> None:
            seen.append(get_contextvars())
            bind_contextvars(left="behind")
            if len(seen) == 2:
                raise ValueError

        return received

    def test_the_hook_of_wsgi(self) -> None:
        """The thread is the host's: it finds what it had bound itself, as it had bound it."""
        seen: list[Any] = []
        bind_contextvars(endpoint_id="the host's", more="of it")
        try:
            with Tester(endpoints=[orders()]) as tester:
                receiver = wsgi(tester.app, on_received=self.hook(seen))
                for key in ("a", "b", "c"):
                    headers = {"X-Sign": "old", "X-Id": key, "traceparent": TRACEPARENT}
                    assert send(receiver, headers).status == 200
                bound = get_contextvars()
        finally:
            clear_contextvars()
        about = {"endpoint_id": "orders", "trace_id": TRACE, "more": "of it"}
        assert [{k: v for k, v in it.items() if k != "left"} for it in seen] == [
            {**about, "callback_id": key} for key in ("a", "b", "c")
        ]
        assert bound == {"endpoint_id": "the host's", "more": "of it", "left": "behind"}

    def test_the_hook_of_asgi(self) -> None:
        seen: list[Any] = []
        with Application(endpoints=[endpoint("orders")]) as app:
            receiver = asgi(app, on_received=self.hook(seen))

            async def requests() -> dict[str, Any]:
                for _ in range(3):
                    headers = [BEARER, (b"traceparent", TRACEPARENT.encode())]
                    exchange = await Exchange(headers=headers).through(receiver)
                    assert exchange.status == 200
                return get_contextvars()

            assert asyncio.run(requests()) == {"left": "behind"}
        assert {it["trace_id"] for it in seen} == {TRACE}
        assert len({it["callback_id"] for it in seen}) == 3


class TestTraceIds:
    def test_as_senders_write_them(self) -> None:
        assert trace_id_of(traced()) == TRACE
        assert trace_id_of(traced(name="TraceParent")) == TRACE
        assert trace_id_of(traced(TRACEPARENT.replace("00-", "cc-", 1) + "-more")) == TRACE

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "rubbish",
            TRACEPARENT.upper(),
            TRACEPARENT.replace("00-", "ff-", 1),
            f"00-{'0' * 32}-b7ad6b7169203331-01",
            f"00-{TRACE}-{'0' * 16}-01",
            f"00-{TRACE}\n-b7ad6b7169203331-01",
            f"00-{TRACE}",
            "00-" + "a" * 5000,
        ],
    )
    def test_rubbish_is_none(self, value: str) -> None:
        """Nothing that a stranger has written gets into a log but what can be an id."""
        assert trace_id_of(traced(value)) is None

    def test_callbacks_that_are_no_requests_have_none(self) -> None:
        assert trace_id_of(b"") is None
        assert trace_id_of({"traceparent": TRACEPARENT}) is None
        assert trace_id_of(Request()) is None
