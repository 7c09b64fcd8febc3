"""A service that can be watched: metrics, traces and lines of log about its inbox; and a backup.

Run it: ``python examples/observed_service.py 8000``, then
``curl -d '{"total": 12}' -H 'x-pollin-secret: change-me' http://127.0.0.1:8000/hooks/orders`` and
``curl http://127.0.0.1:8000/metrics``
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import structlog
import uvicorn
from prometheus_client import REGISTRY, CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from pollin_actors import Application, Callback, Endpoint, Request, web
from pollin_actors.telemetry import PrometheusMetrics, Tracing, carry

log = structlog.get_logger("shop")


def configure_logs() -> None:
    """One JSON object a line, with what is bound in the context; never the locals of a frame."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(),
        ]
    )


def new_inbox(backend: str = "memory://") -> Application:
    """Orders, and the invoices that come of them."""
    phases = ["received", "processed", "failed"]
    inbox = Application(
        backend,
        endpoints=[
            Endpoint.new(phases, ttl=3_600_000, id="orders", secret="change-me"),
            Endpoint.new(phases, ttl=3_600_000, id="invoices"),
        ],
    )

    @inbox.handler("orders", then="processed", dead_letter="failed", max_attempts=5)
    def accept(order: Callback) -> None:
        total = json.loads(order.request.body)["total"]
        # The line says which callback this is, which attempt, and in which trace.
        log.info("order.accepted", total=total)
        body = json.dumps({"total": total}).encode()
        # Who handles the invoice is linked to this place.
        inbox.callbacks.push("invoices", Callback.new(carry(Request(body=body)), id=order.id))

    @inbox.handler("invoices", then="processed", dead_letter="failed")
    async def send(invoice: Callback) -> None:
        log.info("invoice.sent")

    return inbox


def observe(inbox: Application, registry: CollectorRegistry = REGISTRY) -> None:
    """Have it counted and traced."""
    PrometheusMetrics(inbox, registry=registry, max_endpoints=200)
    Tracing(inbox)  # where to, is said by OpenTelemetry's SDK, if there is one


def service(inbox: Application) -> Starlette:
    """The receiver, and beside it what Prometheus scrapes."""

    @asynccontextmanager
    async def lifespan(service: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(inbox.start)
        try:
            yield
        finally:
            await asyncio.to_thread(inbox.stop)

    routes = [Route("/metrics", web.metrics(inbox)), Mount("/hooks", web.asgi(inbox))]
    return Starlette(routes=routes, lifespan=lifespan)


def back_up(path: str, copy: str) -> None:
    """Copy the file of an inbox, also while it is used."""
    # The secrets and bodies are in the copy as well.
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target, pages=1_000)


def main(port: int = 8000) -> None:
    """Serve until Ctrl-C."""
    configure_logs()
    inbox = new_inbox()
    observe(inbox)
    uvicorn.run(service(inbox), host="127.0.0.1", port=port)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
