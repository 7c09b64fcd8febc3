"""Traces for OpenTelemetry, by its conventions for messaging."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from structlog.contextvars import bind_contextvars

from pollin_actors.application import Application
from pollin_actors.errors import MissingExtra
from pollin_actors.handlers import Reject, Retry
from pollin_actors.instruments import Call, Instruments
from pollin_actors.instruments.trace_headers import PARENT, STATE, read_trace
from pollin_actors.records import Claim
from pollin_actors.request import Request
from pollin_actors.resources import Callback, PushResult

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanContext, TracerProvider

__all__ = ["Tracing", "carry"]

SYSTEM = "pollin"

MOST_SENT = 10_000
"""Pushes whose spans are remembered until their callbacks are handled."""

FIELDS = (PARENT, STATE)
"""The headers in which a trace is carried."""


class Tracing(Instruments):
    """Spans of an application: ``receive``, ``send`` and ``process``, each followed by the
    endpoint's id.

    A request that a receiver gets continues the trace of its ``traceparent`` header, or that of the
    host's own instrumentation; the push is a span below it. A handler's call begins a trace of its
    own, which is *linked* to that header, and to the push if it was made in this process: between
    the two may lie days, several calls, and a batch has many of them. The callback keeps its
    headers, so the link is there whichever process handles it. What is called or pushed in a
    handler is below its span; :func:`carry` writes that into the headers of a sub event.

    Attributes hold ids and sizes, never headers, bodies, secrets, or what an exception says. Log
    lines in a handler have the ``trace_id`` and ``span_id`` of its span, instead of those of the
    sender.

    Args:
        app: the application; it may run already.
        tracer_provider: where spans go; by default OpenTelemetry's global provider.
        parent: have the span of a handler continue the trace of the header instead, where it is
            called with one callback. For senders that one knows, whose callbacks are handled soon.

    Raises:
        MissingExtra: ``opentelemetry`` is not installed.

    Example::

        Tracing(app, tracer_provider=provider)
    """

    def __init__(
        self,
        app: Application,
        *,
        tracer_provider: TracerProvider | None = None,
        parent: bool = False,
    ) -> None:
        try:
            from opentelemetry import context, trace
            from opentelemetry.trace.propagation.tracecontext import (
                TraceContextTextMapPropagator,
            )
        except ImportError as error:
            raise MissingExtra("opentelemetry-api", "otel") from error
        self._app = app
        self._parent = parent
        self._trace = trace
        self._attach = context.attach
        self._nothing: Context = context.Context()
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = trace.get_tracer("pollin_actors", _version(), tracer_provider)
        # The request that is being received in this task or thread.
        self._receiving: ContextVar[Context | None] = ContextVar("pollin_receiving", default=None)
        self._sent: dict[tuple[str, str], SpanContext] = {}
        app.instruments.add(self)

    def close(self) -> None:
        """Make no more spans."""
        self._app.instruments.remove(self)
        self._sent.clear()

    # -- receive -----------------------------------------------------------------------------------

    def receiving(self, headers: Any) -> Span:
        trace = self._trace
        # A host that is instrumented has read the headers already.
        local = trace.get_current_span().get_span_context().is_valid
        span = self._tracer.start_span(
            "receive",
            context=None if local else self._extract(_carrier(headers)),
            kind=trace.SpanKind.INTERNAL if local else trace.SpanKind.SERVER,
        )
        self._receiving.set(trace.set_span_in_context(span))
        return span

    def received(
        self, token: Span, endpoint_id: str | None, status: int, outcome: str, seconds: float
    ) -> None:
        self._receiving.set(None)
        if endpoint_id is None:
            return  # never ended, it is never seen: nobody is to fill our traces with rubbish
        if token.is_recording():
            token.update_name(f"receive {endpoint_id}")
            token.set_attributes(
                {
                    "messaging.system": SYSTEM,
                    "messaging.operation.name": "receive",
                    "messaging.destination.name": endpoint_id,
                    "http.request.method": "POST",
                    "http.response.status_code": status,
                    "pollin.outcome": outcome,
                }
            )
            if status >= 500 or not status:
                self._fail(token, str(status) if status else "gone")
        token.end()

    # -- send --------------------------------------------------------------------------------------

    def sending(self, endpoint_id: str, callback: Callback) -> tuple[Span, str, Callback]:
        span = self._tracer.start_span(
            f"send {endpoint_id}",
            context=self._receiving.get(),
            kind=self._trace.SpanKind.PRODUCER,
        )
        # Now: it may be handled before its push is known to have succeeded.
        self._remember((endpoint_id, callback.id), span.get_span_context())
        return span, endpoint_id, callback

    def sent(
        self,
        token: tuple[Span, str, Callback],
        result: PushResult | None,
        error: BaseException | None,
    ) -> None:
        span, endpoint_id, callback = token
        key, context = (endpoint_id, callback.id), span.get_span_context()
        if result is None or result.outcome.value != "queued":
            self._forget(key, context)
        elif self._sent.get(key) is not context:
            # Of an earlier callback, whose id is not known to the endpoint any more.
            self._sent.pop(key, None)
            self._remember(key, context)
        if span.is_recording():
            span.set_attributes(
                {
                    **_about(endpoint_id, "send"),
                    "messaging.message.id": callback.id,
                    "messaging.message.body.size": _body_size(callback.request),
                }
            )
            if result is not None:
                span.set_attribute("pollin.outcome", result.outcome.value)
            if error is not None:
                self._fail(span, type(error).__name__)
        span.end()

    def _remember(self, key: tuple[str, str], span: SpanContext) -> None:
        if not span.is_valid:
            return
        sent = self._sent
        if len(sent) >= MOST_SENT:
            # The oldest first. Another thread may do so at the same time.
            with contextlib.suppress(StopIteration, RuntimeError):
                sent.pop(next(iter(sent)), None)
        sent.setdefault(key, span)  # a duplicate is handled as what it repeats

    def _forget(self, key: tuple[str, str], span: SpanContext) -> None:
        if self._sent.get(key) is span:
            self._sent.pop(key, None)

    # -- process -----------------------------------------------------------------------------------

    def calling(self, call: Call) -> Span:
        trace, claims = self._trace, call.claims
        senders = [self._sender(claim) for claim in claims]
        context = self._nothing
        if self._parent and len(claims) == 1 and senders[0].is_valid:
            context = trace.set_span_in_context(trace.NonRecordingSpan(senders[0]))
            senders = []
        span = self._tracer.start_span(
            f"process {call.endpoint_id}",
            context=context,
            kind=trace.SpanKind.CONSUMER,
            links=self._links(claims, senders),
        )
        if span.is_recording():
            span.set_attributes(_about(call.endpoint_id, "process"))
            span.set_attribute("messaging.consumer.group.name", call.handler)
            if len(claims) == 1:
                callback = claims[0].callback
                span.set_attributes(
                    {
                        "messaging.message.id": callback.id,
                        "messaging.message.body.size": _body_size(callback.request),
                        "pollin.attempt": callback.attempts,
                    }
                )
            else:
                span.set_attribute("messaging.batch.message_count", len(claims))
        # The context is this call's own, and ends with it: there is nothing to detach.
        self._attach(trace.set_span_in_context(span))
        own = span.get_span_context()
        if own.is_valid:
            bind_contextvars(
                trace_id=trace.format_trace_id(own.trace_id),
                span_id=trace.format_span_id(own.span_id),
            )
        return span

    def called(self, token: Span, call: Call, result: Any, error: BaseException | None) -> None:
        if token.is_recording():
            if error is not None:
                self._fail(token, type(error).__name__)
            elif isinstance(result, Retry | Reject):
                self._fail(token, type(result).__name__)
        token.end()

    def _sender(self, claim: Claim) -> SpanContext:
        """The span in whose trace a callback came, as its headers say; an invalid one if none."""
        request = claim.callback.request
        headers = request.headers if isinstance(request, Request) else ()
        context = self._extract(read_trace(headers))
        found: SpanContext = self._trace.get_current_span(context).get_span_context()
        return found

    def _links(self, claims: Sequence[Claim], senders: Sequence[SpanContext]) -> list[Link]:
        contexts = [sender for sender in senders if sender.is_valid]
        for claim in claims:
            pushed = self._sent.get((claim.endpoint_id, claim.callback.id))
            if pushed is not None:
                contexts.append(pushed)
        return [self._trace.Link(context) for context in contexts]

    # -- inside ------------------------------------------------------------------------------------

    def _extract(self, carrier: dict[str, str]) -> Context:
        return self._propagator.extract(carrier, self._nothing)

    def _fail(self, span: Span, kind: str) -> None:
        # Not what the exception says: it may quote a body.
        span.set_attribute("error.type", kind)
        span.set_status(self._trace.StatusCode.ERROR)


def carry(request: Request) -> Request:
    """The same request with the headers of the present trace, for a callback that is to be pushed:
    who handles it is linked to this place.

    It replaces what the request says of a trace. Where there is no trace it stays as it is.

    Args:
        request: of a sub event, for example.

    Raises:
        MissingExtra: ``opentelemetry`` is not installed.
    """
    try:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError as error:
        raise MissingExtra("opentelemetry-api", "otel") from error
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    if not carrier:
        return request
    kept = [(name, value) for name, value in request.headers if name.lower() not in FIELDS]
    return Request([*kept, *carrier.items()], request.body)


def _carrier(headers: Any) -> dict[str, str]:
    """What headers say of a trace, whatever else they are: nobody has looked at them yet."""
    pairs = []
    for pair in headers if isinstance(headers, list) else ():
        if isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], bytes):
            name, value = pair
            if len(name) in (10, 11) and isinstance(value, bytes):
                pairs.append((name.decode("latin-1"), value.decode("latin-1")))
    return read_trace(pairs)


def _about(endpoint_id: str, operation: str) -> dict[str, str]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": endpoint_id,
    }


def _body_size(request: Any) -> int:
    if isinstance(request, Request):
        return len(request.body)
    return len(request) if isinstance(request, bytes | str) else 0


def _version() -> str:
    try:
        return version("pollin-actors")
    except PackageNotFoundError:
        return ""
