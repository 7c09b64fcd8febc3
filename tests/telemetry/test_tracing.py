"""Traces: which spans there are, how they hang together, and what they do not tell."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.contextvars import get_contextvars

from pollin_actors import (
    Application,
    Backoff,
    Callback,
    Endpoint,
    MissingExtra,
    Reject,
    Request,
    Retry,
    WrongSecret,
)
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import Push
from pollin_actors.telemetry import Tracing, carry
from pollin_actors.telemetry.tracing import MOST_SENT
from pollin_actors.testing import FaultyBackend, Tester
from pollin_actors.web import asgi, wsgi
from tests.handling import pass_time
from tests.web.calls import BEARER, Exchange, endpoint
from tests.web.receiving import orders, send

TRACE, SENDER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SENDER}-01"


class Traced:
    """An application whose spans are kept, without the process's global provider."""

    def __init__(self, app: Application, **options: Any) -> None:
        self.app = app
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(app, tracer_provider=self.provider, **options)

    def spans(self, name: str) -> list[ReadableSpan]:
        """The ended spans of this name."""
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def span(self, name: str) -> ReadableSpan:
        """The only one."""
        [span] = self.spans(name)
        return span

    @contextmanager
    def within(self, name: str) -> Iterator[trace.Span]:
        """A span of the host's."""
        tracer = self.provider.get_tracer("host")
        with tracer.start_as_current_span(name) as span:
            yield span


def application(**fields: Any) -> Application:
    return Application(endpoints=[Endpoint.new(["received", "failed"], 0, id="orders", **fields)])


def traced_request(body: bytes = b"") -> Request:
    return Request([("traceparent", TRACEPARENT), ("tracestate", "vendor=1")], body)


def ids(context: Any) -> tuple[str, str]:
    return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)


class TestReceive:
    def test_it_continues_the_trace_of_the_sender(self) -> None:
        """The push is below it; the handler has a trace of its own that is linked to both."""
        traced = Traced(Application(endpoints=[orders()]))
        traced.app.add_handler(lambda _: None, "orders", name="h")
        with Tester(traced.app) as tester:
            headers = {"X-Sign": "old", "X-Id": "e-1", "traceparent": TRACEPARENT}
            assert send(wsgi(traced.app), headers, b"12345").status == 200
            tester.drain()
        receive, sent = traced.span("receive orders"), traced.span("send orders")
        process = traced.span("process orders")
        assert receive.kind is SpanKind.SERVER
        assert receive.parent is not None
        assert ids(receive.parent) == (TRACE, SENDER)
        assert receive.parent.is_remote
        assert sent.kind is SpanKind.PRODUCER
        assert sent.parent is not None
        assert ids(sent.parent) == ids(receive.context)
        assert process.kind is SpanKind.CONSUMER
        assert process.parent is None
        assert [ids(link.context) for link in process.links] == [
            (TRACE, SENDER),
            ids(sent.context),
        ]
        assert trace.format_trace_id(process.context.trace_id) != TRACE

    def test_attributes(self) -> None:
        """By the conventions for messaging; nothing that was sent but its id and size."""
        traced = Traced(Application(endpoints=[orders()]))
        traced.app.add_handler(lambda _: None, "orders", name="h")
        with Tester(traced.app) as tester:
            secret = {"X-Sign": "old", "X-Id": "e-1", "X-Card": "4242"}
            assert send(wsgi(traced.app), secret, b"confidential").status == 200
            tester.drain()
        common = {"messaging.system": "pollin", "messaging.destination.name": "orders"}
        assert dict(traced.span("receive orders").attributes or {}) == {
            **common,
            "messaging.operation.name": "receive",
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "pollin.outcome": "queued",
        }
        assert dict(traced.span("send orders").attributes or {}) == {
            **common,
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.message.id": "e-1",
            "messaging.message.body.size": 12,
            "pollin.outcome": "queued",
        }
        assert dict(traced.span("process orders").attributes or {}) == {
            **common,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": "h",
            "messaging.message.id": "e-1",
            "messaging.message.body.size": 12,
            "pollin.attempt": 1,
        }
        told = "".join(span.to_json() for span in traced.exporter.get_finished_spans())
        assert "confidential" not in told
        assert "4242" not in told

    def test_below_the_span_of_a_host_that_is_instrumented(self) -> None:
        traced = Traced(Application(endpoints=[endpoint("orders")]))
        with traced.app, traced.within("POST /hooks") as host:
            asyncio.run(Exchange(headers=[BEARER]).through(asgi(traced.app)))
        receive = traced.span("receive orders")
        assert receive.kind is SpanKind.INTERNAL
        assert receive.parent is not None
        assert ids(receive.parent) == ids(host.get_span_context())

    def test_requests_that_come_at_once_do_not_mix(self) -> None:
        """Each push is below its own request, on one loop and on one thread after another."""
        traced = Traced(Application(endpoints=[endpoint("orders")]))
        with traced.app:
            receiver = asgi(traced.app)

            async def requests() -> None:
                await asyncio.gather(
                    *(Exchange(headers=[BEARER]).through(receiver) for _ in range(20))
                )
                traced.app.callbacks.push("orders", Callback.new(b"")).get()

            asyncio.run(requests())
        parents = [span.parent and ids(span.parent) for span in traced.spans("send orders")]
        assert sorted(parents, key=str)[1:] != []
        received = {ids(span.context) for span in traced.spans("receive orders")}
        assert {parent for parent in parents if parent} == received
        assert parents.count(None) == 1

    def test_nothing_of_a_request_is_left_on_its_thread(self) -> None:
        """Taken, refused or for nobody: what is pushed there later is not below it."""
        traced = Traced(Application(endpoints=[orders()]))
        with Tester(traced.app) as tester:
            several: list[dict[str, Any]] = [{}, {"headers": {}}, {"path": "/gone"}]
            for options in several:
                send(wsgi(traced.app), **options)
                traced.exporter.clear()
                tester.push("orders")
                assert traced.span("send orders").parent is None

    def test_strangers_leave_no_spans(self) -> None:
        """A refusal of an endpoint that exists is seen; what is for none is not."""
        traced = Traced(Application(endpoints=[orders()]))
        with Tester(traced.app):
            receiver = wsgi(traced.app)
            assert send(receiver, path="/guessed").status == 404
            assert send(receiver, {"traceparent": "rubbish"}).status == 401
            assert send(receiver, {"traceparent": TRACEPARENT * 99}).status == 401
        assert {span.name for span in traced.exporter.get_finished_spans()} == {"receive orders"}
        assert [span.status.status_code for span in traced.spans("receive orders")] == [
            StatusCode.UNSET
        ] * 2
        assert all(span.parent is None for span in traced.spans("receive orders"))

    def test_an_inbox_that_fails_is_an_error(self) -> None:
        backend = FaultyBackend(MemoryBackend())
        traced = Traced(Application(endpoints=[orders()]))
        with Tester(traced.app, backend=backend):
            backend.fail(Push)
            assert send(wsgi(traced.app)).status == 503
        receive, sent = traced.span("receive orders"), traced.span("send orders")
        assert receive.status.status_code is StatusCode.ERROR
        assert (receive.attributes or {})["error.type"] == "503"
        assert sent.status.status_code is StatusCode.ERROR
        assert (sent.attributes or {})["error.type"] == "InjectedFault"
        assert sent.status.description is None


class TestSend:
    def test_it_is_below_what_the_caller_does(self) -> None:
        traced = Traced(application())
        with Tester(traced.app), traced.within("work") as work:
            traced.app.callbacks.push("orders", Callback.new(b"12", id="a")).get()
        sent = traced.span("send orders")
        assert sent.parent is not None
        assert ids(sent.parent) == ids(work.get_span_context())
        assert (sent.attributes or {})["messaging.message.body.size"] == 2

    def test_a_refusal_is_an_error_of_its_kind(self) -> None:
        """Without what it says."""
        traced = Traced(application(secret="right"))
        with Tester(traced.app), pytest.raises(WrongSecret):
            traced.app.callbacks.push("orders", Callback.new(b""), secret="wrong").get()
        sent = traced.span("send orders")
        assert sent.status.status_code is StatusCode.ERROR
        assert (sent.attributes or {})["error.type"] == "WrongSecret"
        assert sent.events == ()

    def test_it_lasts_until_the_answer(self) -> None:
        """Also where nobody waits for that."""
        backend = FaultyBackend(MemoryBackend())
        traced = Traced(application())
        with Tester(traced.app, backend=backend) as tester:
            backend.delay(Push, seconds=1.0)
            traced.app.callbacks.push("orders", Callback.new(b""))
            assert traced.spans("send orders") == []
            tester.advance(2.0)
            assert (traced.span("send orders").attributes or {})["pollin.outcome"] == "queued"

    def test_of_a_duplicate_the_first_push_is_linked(self) -> None:
        traced = Traced(application())
        traced.app.add_handler(lambda _: None, "orders", name="h")
        traced.app.handlers.pause("h")
        with Tester(traced.app) as tester:
            tester.push("orders", id="a")
            tester.push("orders", id="a")
            traced.app.handlers.resume("h")
            tester.drain()
        [link] = traced.span("process orders").links
        assert ids(link.context) == ids(traced.spans("send orders")[0].context)

    def test_an_id_that_comes_again_later_is_linked_to_its_own_push(self) -> None:
        """Once the endpoint has forgotten it, it is another callback."""
        traced = Traced(Application(endpoints=[Endpoint.new(id="orders", dedup_for=0, keep_for=0)]))
        traced.app.add_handler(lambda _: None, "orders", name="h")
        with Tester(traced.app) as tester:
            for _ in range(2):
                tester.push("orders", id="a")
                tester.drain()
        sent = [ids(span.context) for span in traced.spans("send orders")]
        linked = [
            ids(link.context) for span in traced.spans("process orders") for link in span.links
        ]
        assert linked == sent

    def test_only_so_many_are_remembered(self) -> None:
        """Those that nobody handles are forgotten in the end."""
        traced = Traced(application())
        with Tester(traced.app) as tester:
            for number in range(MOST_SENT + 50):
                tester.push("orders", id=str(number))
        assert len(traced.tracing._sent) == MOST_SENT
        assert ("orders", "0") not in traced.tracing._sent
        traced.tracing.close()
        assert traced.tracing._sent == {}


class TestProcess:
    @pytest.mark.parametrize("is_async", [False, True])
    def test_what_a_handler_does_is_below_it(self, is_async: bool) -> None:
        """Spans of its own, and sub events that it pushes; in the next call nothing is left of
        the one before."""
        traced = Traced(application())
        app = traced.app

        def handle(callback: Callback) -> None:
            assert trace.get_current_span().get_span_context().is_valid
            if callback.parent is None:
                with traced.within("query"):
                    pass
                app.callbacks.push("orders", Callback.new(b"", parent=callback.id))

        async def ahandle(callback: Callback) -> None:
            await pass_time(1.0)
            handle(callback)

        app.add_handler(ahandle if is_async else handle, "orders", name="h")
        with Tester(app) as tester:
            for key in "ab":
                tester.push("orders", id=key)
            tester.drain()
        assert not trace.get_current_span().get_span_context().is_valid
        process = traced.spans("process orders")
        assert len(process) == 4
        assert len({span.context.trace_id for span in process}) == 4
        first = {ids(span.context) for span in process if _of(span, "messaging.message.id") in "ab"}
        assert {ids(span.parent) for span in traced.spans("query") if span.parent} == first
        below = [span for span in traced.spans("send orders") if span.parent is not None]
        assert {ids(span.parent) for span in below if span.parent} == first

    def test_a_sub_event_carries_the_trace(self) -> None:
        """Its headers say where it was made, instead of where its parent came from; so the link is
        there also where another process handles it."""
        traced = Traced(application())
        app = traced.app
        seen: list[Request] = []

        def handle(callback: Callback) -> None:
            if callback.parent is None:
                app.callbacks.push(
                    "orders", Callback.new(carry(callback.request), id="sub", parent=callback.id)
                )
            else:
                seen.append(callback.request)

        app.add_handler(handle, "orders", name="h")
        with Tester(app) as tester:
            tester.push("orders", traced_request(b"body"), id="whole")
            tester.drain()
            traced.tracing._sent.clear()
        process = {
            _of(span, "messaging.message.id"): span for span in traced.spans("process orders")
        }
        whole, sub = process["whole"], process["sub"]
        assert ids(whole.links[0].context) == (TRACE, SENDER)
        assert ids(sub.links[0].context) == ids(whole.context)
        assert seen[0].body == b"body"
        assert len(seen[0].header_values("traceparent")) == 1
        assert seen[0].header_values("tracestate") == []

    def test_there_is_nothing_to_carry_outside_a_trace(self) -> None:
        request = traced_request()
        assert carry(request) is request

    def test_a_parent_if_that_was_asked_for(self) -> None:
        """Then the call is in the sender's trace; not where it is for a batch, or there is none."""
        traced = Traced(application(), parent=True)
        traced.app.add_handler(lambda _: None, "orders", name="h")
        with Tester(traced.app) as tester:
            tester.push("orders", traced_request(), id="a")
            tester.push("orders", b"", id="b")
            tester.drain()
        process = {
            _of(span, "messaging.message.id"): span for span in traced.spans("process orders")
        }
        assert process["a"].parent is not None
        assert ids(process["a"].parent) == (TRACE, SENDER)
        assert process["b"].parent is None
        assert len(process["b"].links) == 1

    def test_a_batch_is_linked_to_all(self) -> None:
        traced = Traced(application(), parent=True)
        traced.app.add_handler(lambda _: None, "orders", name="h", batch=10)
        traced.app.handlers.pause("h")
        with Tester(traced.app) as tester:
            tester.push("orders", traced_request())
            tester.push("orders", b"")
            traced.app.handlers.resume("h")
            tester.drain()
        span = traced.span("process orders")
        assert span.parent is None
        assert _of(span, "messaging.batch.message_count") == 2
        sent = [ids(each.context) for each in traced.spans("send orders")]
        assert [ids(link.context) for link in span.links] == [(TRACE, SENDER), *sent]

    @pytest.mark.parametrize("is_async", [False, True])
    def test_failures(self, is_async: bool) -> None:
        """An exception, and what says that the attempt has failed; never with a text."""
        traced = Traced(application())

        def handle(callback: Callback) -> Any:
            if callback.id == "raise":
                raise ValueError("sesame")
            return {"retry": Retry(reason="sesame"), "reject": Reject("sesame"), "ok": None}[
                callback.id
            ]

        async def ahandle(callback: Callback) -> Any:
            return handle(callback)

        traced.app.add_handler(
            ahandle if is_async else handle,
            "orders",
            name="h",
            dead_letter="failed",
            max_attempts=1,
            backoff=Backoff(1.0),
        )
        with Tester(traced.app) as tester:
            for key in ("raise", "retry", "reject", "ok"):
                tester.push("orders", id=key)
            tester.drain()
        process = traced.spans("process orders")
        errors = {_of(span, "messaging.message.id"): _of(span, "error.type") for span in process}
        assert errors == {"raise": "ValueError", "retry": "Retry", "reject": "Reject", "ok": None}
        assert [span.status.status_code for span in process].count(StatusCode.ERROR) == 3
        assert "sesame" not in "".join(span.to_json() for span in process)

    def test_lines_of_the_log_have_the_ids_of_the_span(self) -> None:
        traced, seen = Traced(application()), []
        traced.app.add_handler(lambda _: seen.append(get_contextvars()), "orders", name="h")
        with Tester(traced.app) as tester:
            tester.push("orders", traced_request(), id="a")
            tester.drain()
        trace_id, span_id = ids(traced.span("process orders").context)
        assert seen == [
            {
                "handler": "h",
                "endpoint_id": "orders",
                "callback_id": "a",
                "attempt": 1,
                "trace_id": trace_id,
                "span_id": span_id,
            }
        ]

    def test_real_threads_keep_nothing(self) -> None:
        """One thread makes many calls, each in a trace of its own."""
        traced = Traced(application())
        done = threading.Event()
        left = 30

        def handle(callback: Callback) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set()

        traced.app.add_handler(handle, "orders", name="h", concurrency=1)
        with traced.app:
            for _ in range(30):
                traced.app.callbacks.push("orders", Callback.new(b"")).get()
            assert done.wait(60)
        process = traced.spans("process orders")
        assert len({span.context.trace_id for span in process}) == 30
        assert all(span.parent is None for span in process)


class TestInstalling:
    def test_without_a_provider_nothing_is_made(self) -> None:
        """The process's own is used, which does nothing unless the host has set one."""
        app = application()
        Tracing(app)
        seen: list[Any] = []
        app.add_handler(lambda _: seen.append(get_contextvars()), "orders", name="h")
        with Tester(app) as tester:
            tester.push("orders", traced_request(), id="a")
            tester.drain()
        assert seen[0]["trace_id"] == TRACE  # the sender's, as without tracing

    def test_closing(self) -> None:
        traced = Traced(application())
        traced.tracing.close()
        with Tester(traced.app) as tester:
            tester.push("orders")
        assert traced.exporter.get_finished_spans() == ()

    def test_without_the_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error says which extra brings it."""
        for name in ("context", "trace", "trace.propagation.tracecontext"):
            monkeypatch.setitem(sys.modules, f"opentelemetry.{name}", None)
        monkeypatch.setitem(sys.modules, "opentelemetry", None)
        app = application()
        with pytest.raises(MissingExtra, match=r"pollin-actors\[otel\]"):
            Tracing(app)
        with pytest.raises(MissingExtra, match=r"pollin-actors\[otel\]"):
            carry(Request())
        assert app.instruments.listeners == ()


def _of(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)
