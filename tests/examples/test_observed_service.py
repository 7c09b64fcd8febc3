"""examples/observed_service.py, and what examples/operations.md says of metrics and of the log."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import stat
import threading
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from examples import observed_service
from pollin_actors import Application, Callback, Claim, Request
from pollin_actors.instruments import Instruments
from pollin_actors.telemetry import Tracing
from pollin_actors.telemetry.catalogue import METRICS
from pollin_actors.testing import Tester
from tests.examples.programs import ROOT, post, serve
from tests.log_events import events, unnamed
from tests.telemetry.scraping import parsed

GUIDE = (ROOT / "examples" / "operations.md").read_text(encoding="utf-8")
RIGHT = {"x-pollin-secret": "change-me"}


def rows(header: str) -> dict[str, list[str]]:
    """The rows of the guide's table that begins with a header, by their first cells."""
    table = GUIDE.partition(header)[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    found = {first.strip("`"): rest for first, *rest in cells}
    assert len(found) == len(cells), "a row is there twice"
    return found


def codes(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


class TestTables:
    def test_every_event_of_the_log_is_listed(self) -> None:
        """With its level and all of its keys, and nothing that is not there."""
        levels: dict[str, set[str]] = {}
        keys: dict[str, set[str]] = {}
        for logged in events():
            levels.setdefault(logged.event, set()).add(logged.level)
            keys.setdefault(logged.event, set()).update(logged.keys)
        listed = rows("| event | level | keys |")
        assert set(listed) == set(levels)
        for event, (level, told, says) in listed.items():
            assert {level} == levels[event], event
            assert codes(told) == keys[event], event
            assert says, event

    def test_no_event_is_named_in_a_way_that_is_not_found(self) -> None:
        """A line of the log whose name is made up while it runs would be in no table."""
        assert list(unnamed()) == []
        assert len({event.event for event in events()}) > 40

    def test_every_metric_is_listed(self) -> None:
        """With its kind and labels."""
        listed = rows("| metric | kind | labels |")
        assert list(listed) == list(METRICS)
        for name, (kind, labels, says) in listed.items():
            assert kind == METRICS[name].kind
            assert codes(labels) == set(METRICS[name].labels)
            assert says

    def test_rules_name_metrics_that_there_are(self) -> None:
        """What is to be alerted on, and what else the guide says of them."""
        named = set(re.findall(r"\bpollin_[a-z_]+\b", GUIDE)) - {"pollin_actors"}
        ends = ("_bucket", "_sum", "_count")
        for name in named:
            stems = {name, *(name.removesuffix(end) for end in ends)}
            assert stems & set(METRICS), name


class Settled(Instruments):
    """Knows when both handlers have settled what they had; told last, when all others know it."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.all = threading.Event()

    def settled(self, handler: str, claim: Claim, outcome: str) -> None:
        self.seen.add(handler)
        if self.seen == {"accept", "send"}:
            self.all.set()


def test_the_page_and_the_receiver() -> None:
    """Requests are taken, handled, and seen on the page, within the host's lifespan."""
    inbox = observed_service.new_inbox()
    observed_service.observe(inbox, CollectorRegistry())
    settled = Settled()
    inbox.instruments.add(settled)
    host = observed_service.service(inbox)

    async def scenario() -> bytes:
        transport = httpx.ASGITransport(app=host)
        async with (
            host.router.lifespan_context(host),
            httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        ):
            answer = await client.post("/hooks/orders", content=b'{"total": 1}', headers=RIGHT)
            assert answer.status_code == 200
            assert await asyncio.to_thread(settled.all.wait, 60)
            page = await client.get("/metrics")
            assert page.status_code == 200
            return page.content

    seen = parsed(asyncio.run(scenario()))
    assert seen.value("pollin_up") == 1
    queued = {"code": "200", "endpoint": "orders", "outcome": "queued"}
    assert seen.value("pollin_received_requests_total", **queued) == 1
    done = {"endpoint": "orders", "handler": "accept", "outcome": "acknowledged"}
    assert seen.value("pollin_handler_outcomes_total", **done) == 1


def test_lines_of_the_handlers(capsys: pytest.CaptureFixture[str]) -> None:
    """They say which callback it was; what fails is told without what it had at hand."""
    structlog.reset_defaults()
    observed_service.configure_logs()
    with Tester(observed_service.new_inbox()) as tester:
        tester.push("orders", Request(body=b'{"total": 7}'), id="a")
        tester.push("orders", Request(body=b'{"sum": 4242}'), id="b")
        tester.settle()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [accepted] = [line for line in lines if line["event"] == "order.accepted"]
    assert {key: accepted[key] for key in ("endpoint_id", "callback_id", "attempt", "total")} == {
        "endpoint_id": "orders",
        "callback_id": "a",
        "attempt": 1,
        "total": 7,
    }
    [failed] = [line for line in lines if line["event"] == "handler.failed"]
    assert (failed["callback_id"], failed["reason"]) == ("b", "KeyError")
    [sent] = [line for line in lines if line["event"] == "invoice.sent"]
    assert sent["endpoint_id"] == "invoices"
    assert "4242" not in str(lines)


def test_an_invoice_is_linked_to_its_order() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    inbox = observed_service.new_inbox()
    tracing = Tracing(inbox, tracer_provider=provider)
    with Tester(inbox) as tester:
        tester.push("orders", Request(body=b'{"total": 7}'), id="a")
        tester.drain()
        tracing.close()
    process = {span.name: span for span in exporter.get_finished_spans()}
    links = [link.context.span_id for link in process["process invoices"].links]
    context = process["process orders"].context
    assert context is not None
    assert context.span_id in links
    assert trace.format_trace_id(context.trace_id) != "0" * 32


def test_a_backup_of_an_inbox_that_is_used(tmp_path: Path) -> None:
    """The copy is an inbox of its own, for its owner's eyes only; none is ever overwritten."""
    path, copy = str(tmp_path / "inbox.db"), str(tmp_path / "copy.db")
    with Application(f"sqlite:///{path}", endpoints=observed_endpoints()) as app:
        for number in range(500):
            app.callbacks.push("orders", Callback.new(b"x" * 100, id=str(number)))
        app.callbacks.count("orders").get()
        observed_service.back_up(path, copy)
        app.callbacks.push("orders", Callback.new(b"", id="later")).get()
    assert stat.S_IMODE(Path(copy).stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with Application(f"sqlite:///{copy}") as app:
        assert app.callbacks.count("orders").get() == 500
        assert app.callbacks.fetch("orders", key="later").get() is None
    with pytest.raises(FileExistsError):
        observed_service.back_up(path, copy)


def observed_endpoints() -> Any:
    return observed_service.new_inbox()._declared


def test_it_serves_as_a_program() -> None:
    """A real request is handled, and its line of the log and the page tell of it."""
    with serve("observed_service") as server:
        assert post(f"{server.url}/hooks/orders", b'{"total": 5}', RIGHT) == 200
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{server.url}/metrics", timeout=30) as page:
            body = page.read()
        assert server.process.stdout is not None
        accepted = next(line for line in server.process.stdout if "order.accepted" in line)
        server.stop()
    seen = parsed(b"".join(line for line in body.splitlines(True) if b"pollin_" in line))
    assert seen.value("pollin_up") == 1
    assert json.loads(accepted)["endpoint_id"] == "orders"
