"""Metrics: their values after known traffic, their names and types, and that labels are bounded."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

from pollin_actors import (
    Application,
    BackendUnavailable,
    Backoff,
    Callback,
    Discard,
    Endpoint,
    InvalidValue,
    MissingExtra,
    WrongSecret,
)
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import Push
from pollin_actors.otp import Actor, ChildSpec, ReplyFuture
from pollin_actors.telemetry import PrometheusMetrics
from pollin_actors.telemetry.catalogue import METRICS
from pollin_actors.telemetry.prometheus import metrics_of
from pollin_actors.testing import FaultyBackend, Tester
from pollin_actors.web import wsgi
from tests.handling import pass_time
from tests.telemetry.scraping import OPENMETRICS, measured, scrape
from tests.web.receiving import orders, send

PHASES = ["received", "processed", "failed"]


def application(*ids: str, **fields: Any) -> Application:
    return Application(
        endpoints=[Endpoint.new(PHASES, 0, id=each, **fields) for each in ids or ("orders",)]
    )


@pytest.fixture(params=["memory", "sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each test that takes it runs on each backend."""
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/inbox.db"


class TestQueues:
    def test_how_they_stand(self, backend: str) -> None:
        """By endpoint and phase; sizes, claims, delays, and the age of what waits longest."""
        app = application("orders", "mails", secret="s")
        metrics = measured(app, timeout=10.0)
        with Tester(app, backend=backend) as tester:
            tester.push("orders", b"12345")
            tester.advance(30.0)
            tester.push("orders", b"123")
            tester.push("orders", b"1", phase="processed")
            tester.push("orders", b"", not_before=tester.clock.time_ns() + 10**12)
            app.callbacks.claim("orders", phase="received", lease=60).get()
            tester.advance(12.0)
            seen = scrape(metrics)
        assert seen.value("pollin_up") == 1
        assert seen.value("pollin_scrape_unanswered") == 0
        assert seen.value("pollin_endpoints") == 2
        queued = {
            phase: seen.value("pollin_queued_callbacks", endpoint="orders", phase=phase)
            for phase in PHASES
        }
        assert queued == {"received": 3, "processed": 1, "failed": 0}
        assert seen.value("pollin_queued_bytes", endpoint="orders") == 9
        assert seen.value("pollin_claimed_callbacks", endpoint="orders") == 1
        assert seen.value("pollin_delayed_callbacks", endpoint="orders") == 1
        age = seen.value("pollin_oldest_waiting_seconds", endpoint="orders", phase="received")
        assert age == pytest.approx(42.0)
        # What is done waits for nobody.
        assert len(seen.samples["pollin_oldest_waiting_seconds"]) == 2
        empty = seen.value("pollin_oldest_waiting_seconds", endpoint="mails", phase="received")
        assert empty == 0

    def test_what_has_expired_is_counted(self, backend: str) -> None:
        app = Application(endpoints=[Endpoint.new(PHASES, 10_000, id="orders")])
        metrics = measured(app, timeout=10.0)
        with Tester(app, backend=backend) as tester:
            tester.push("orders")
            tester.push("orders")
            tester.advance(20.0)
            seen = scrape(metrics)
        assert seen.value("pollin_expired_callbacks_total", endpoint="orders") == 2
        assert seen.value("pollin_queued_callbacks", endpoint="orders", phase="received") == 0

    @pytest.mark.parametrize("most", [0, 10])
    def test_what_has_expired_never_goes_back(self, backend: str, most: int) -> None:
        """Not when an endpoint is deleted or reset, nor after a restart: a counter that falls is
        taken for one that began anew, and all that is left of it for new."""
        names = ["a", "b", "c"]
        app = Application(endpoints=[Endpoint.new(PHASES, 10_000, id=name) for name in names])
        metrics = measured(app, timeout=10.0, max_endpoints=most)

        def expired(name: str) -> float | None:
            # Of those without a name one is looked at each time.
            seen = [scrape(metrics) for _ in names][-1]
            label = name if most else "other"
            return seen.value("pollin_expired_callbacks_total", endpoint=label)

        with Tester(app, backend=backend) as tester:
            for name in names:
                tester.push(name)
            tester.push("b")
            tester.advance(20.0)
            assert expired("b") == (2 if most else 4)
            app.callbacks.reset("b").get()
            assert expired("b") == (2 if most else 4)
            tester.push("b")
            tester.advance(20.0)
            assert expired("b") == (3 if most else 5)
            app.endpoints.delete("a").get()
            assert expired("b") == (3 if most else 5)
            if most:
                assert expired("a") is None
        with tester:
            assert expired("b") == (3 if most else 5)

    def test_phases_that_are_consumed_have_an_age_too(self) -> None:
        app = application()
        app.add_handler(lambda _: None, "orders", phase="processed", name="h")
        app.handlers.pause("h")
        metrics = measured(app)
        with Tester(app) as tester:
            tester.push("orders", phase="processed")
            tester.advance(5.0)
            seen = scrape(metrics)
        age = seen.value("pollin_oldest_waiting_seconds", endpoint="orders", phase="processed")
        assert age == pytest.approx(5.0)

    def test_endpoints_come_and_go(self) -> None:
        """One that was deleted is not given any more, nor what was counted of it."""
        app = application("orders", "mails")
        metrics = measured(app)
        with Tester(app) as tester:
            tester.push("mails")
            assert scrape(metrics).labels("endpoint") == {"orders", "mails"}
            app.endpoints.delete("mails").get()
            app.endpoints.create(Endpoint.new(id="new")).get()
            tester.push("new")
            scrape(metrics)
            seen = scrape(metrics)
            assert seen.labels("endpoint") == {"orders", "new"}
            assert seen.value("pollin_pushes_total", endpoint="new", outcome="queued") == 1
            assert seen.value("pollin_endpoints") == 2


class TestCounters:
    def test_pushes_by_what_has_become_of_them(self, tmp_path: Path) -> None:
        app = application(secret="right")
        metrics = measured(app)
        backend = FaultyBackend(MemoryBackend())
        with Tester(app, backend=backend) as tester:
            tester.push("orders", id="a")
            tester.push("orders", id="b")
            tester.push("orders", id="a")
            with pytest.raises(WrongSecret):
                app.callbacks.push("orders", Callback.new(b""), secret="wrong").get()
            backend.fail(Push)
            with pytest.raises(BackendUnavailable):
                tester.push("orders")
            moved = app.callbacks.move_cursor(
                "orders", "c", 1, pushes=[Callback.new(b"", id="c"), Callback.new(b"", id="a")]
            )
            assert len(moved.get()) == 2
            seen = scrape(metrics)
        assert {
            dict(key)["outcome"]: value
            for key, value in seen.samples["pollin_pushes_total"].items()
        } == {"queued": 3, "duplicate": 2, "refused": 1, "failed": 1}
        operations = seen.samples["pollin_backend_operations_total"]
        pushes = {
            dict(key)["outcome"]: value
            for key, value in operations.items()
            if dict(key)["operation"] == "push"
        }
        assert pushes == {"ok": 3, "refused": 1, "failed": 1}
        count = seen.value("pollin_backend_operation_duration_seconds_count", operation="push")
        assert count == 5

    def test_requests_by_their_answers(self) -> None:
        """Those for no endpoint have none; how long they take is told of those that have one."""
        app = Application(endpoints=[orders()])
        metrics = measured(app)
        with Tester(app):
            receiver = wsgi(app)
            for headers in ({"X-Sign": "old", "X-Id": "1"}, {"X-Sign": "old", "X-Id": "1"}, {}):
                send(receiver, headers)
            send(receiver, path="/made-up")
            seen = scrape(metrics)
        requests = {
            tuple(value for _, value in key): number
            for key, number in seen.samples["pollin_received_requests_total"].items()
        }
        assert requests == {
            ("200", "orders", "queued"): 1,
            ("200", "orders", "duplicate"): 1,
            ("401", "orders", "refused"): 1,
            ("404", "unknown", "refused"): 1,
        }
        assert seen.value("pollin_receive_duration_seconds_count", endpoint="orders") == 3
        assert seen.value("pollin_receive_duration_seconds_count", endpoint="unknown") is None

    @pytest.mark.parametrize("is_async", [False, True])
    def test_handlers(self, is_async: bool) -> None:
        """Calls and their times; what has become of the callbacks; what is under way."""
        app = application()

        def handle(callback: Callback) -> Any:
            if callback.request == "bad":
                raise ValueError
            return Discard() if callback.request == "drop" else None

        async def ahandle(callback: Callback) -> Any:
            await pass_time(2.0)
            return handle(callback)

        app.add_handler(
            ahandle if is_async else handle,
            "orders",
            then="processed",
            dead_letter="failed",
            max_attempts=3,
            backoff=Backoff(first=1.0),
            name="h",
        )
        metrics = measured(app)
        with Tester(app) as tester:
            for request in ("good", "bad", "drop"):
                tester.push("orders", request)
            tester.settle()
            under_way = scrape(metrics).value(
                "pollin_handler_held_callbacks", endpoint="orders", handler="h"
            )
            tester.drain()
            seen = scrape(metrics)
        labels = {"endpoint": "orders", "handler": "h"}
        assert under_way == (3 if is_async else 0)
        assert seen.value("pollin_handler_held_callbacks", **labels) == 0
        calls = {
            outcome: seen.value("pollin_handler_calls_total", outcome=outcome, **labels)
            for outcome in ("returned", "raised")
        }
        assert calls == {"returned": 2, "raised": 3}
        outcomes = {
            outcome: seen.value("pollin_handler_outcomes_total", outcome=outcome, **labels)
            for outcome in ("acknowledged", "failed", "dead", "discarded")
        }
        assert outcomes == {"acknowledged": 1, "failed": 2, "dead": 1, "discarded": 1}
        assert seen.value("pollin_handler_duration_seconds_count", **labels) == 5
        took = seen.value("pollin_handler_duration_seconds_sum", **labels)
        assert took == pytest.approx(10.0 if is_async else 0.0)
        below = seen.value("pollin_handler_duration_seconds_bucket", le="1.0", **labels)
        assert below == (0 if is_async else 5)

    def test_crashes_and_restarts(self) -> None:
        app = application()
        app.add_handler(lambda _: None, "orders", name="h")
        metrics = measured(app)
        with Tester(app) as tester:
            tester.push("orders")
            for _ in range(2):
                tester.crash("orders")
                tester.advance(10.0)
            tester.simulation.runtime.events.flush()
            seen = scrape(metrics)
        assert seen.value("pollin_crashes_total", supervisor="callbacks") == 2
        assert seen.value("pollin_restarts_total", supervisor="callbacks") == 2

    def test_they_go_on_after_a_restart_of_the_application(self) -> None:
        """And while it does not run they are given, with what cannot be known left out."""
        app = application()
        metrics = measured(app)
        for run in (1, 2):
            with Tester(app) as tester:
                tester.push("orders")
                scrape(metrics)
            seen = scrape(metrics)
            assert seen.value("pollin_up") == 0
            assert seen.value("pollin_pushes_total", endpoint="orders", outcome="queued") == run
            assert "pollin_queued_callbacks" not in seen.samples

    def test_mailboxes_and_the_pool(self) -> None:
        app = application()
        metrics = measured(app)
        with app:
            app.callbacks.push("orders", Callback.new(b"")).get()
            seen = scrape(metrics)
        assert seen.value("pollin_mailbox_messages", endpoint="orders") == 0
        assert seen.value("pollin_endpoint_actor_messages") == 0
        threads = seen.value("pollin_pool_threads")
        assert threads is not None
        assert threads >= 1
        assert seen.value("pollin_pool_waiting_threads") == 0
        assert seen.value("pollin_pool_tasks") == 0

    def test_an_actor_that_waits_for_an_answer(self) -> None:
        """It keeps a thread, which the pool makes up for."""
        entered, answer = threading.Event(), ReplyFuture[str]()

        class Waits(Actor):
            def on_receive(self, message: Any) -> Any:
                entered.set()
                return answer.get(timeout=60)

        app = Application(children=[ChildSpec("waits", Waits, name="waits")])
        metrics = measured(app)
        with app:
            reply = app.ask("waits", "for it", timeout=60)
            assert entered.wait(60)
            within = scrape(metrics)
            answer.set("it")
            assert reply.get() == "it"
            afterwards = scrape(metrics)
        assert within.value("pollin_pool_waiting_threads") == 1
        assert afterwards.value("pollin_pool_waiting_threads") == 0

    def test_what_waits_in_a_mailbox(self) -> None:
        """Of an endpoint whose actor is kept from its work."""
        app = application()
        metrics = measured(app)
        with Tester(app) as tester:
            tester.push("orders")
            mailbox = app.callbacks._mailbox("orders")
            token = mailbox.token
            assert token.acquire(blocking=False)
            cell, mailbox.cell = mailbox.cell, None
            demand, mailbox.on_demand = mailbox.on_demand, lambda _: None
            for _ in range(3):
                app.callbacks.count("orders")
            seen = scrape(metrics)
            mailbox.cell, mailbox.on_demand = cell, demand
            token.release()
            mailbox.schedule()
            tester.settle()
        assert seen.value("pollin_mailbox_messages", endpoint="orders") == 3


class TestLabels:
    def test_ten_thousand_endpoints(self) -> None:
        """So many have a name; the others are one, whose numbers are the sum, as far as it has been
        asked for: each scrape asks about some more. What a scrape costs stays the same."""
        app = Application(
            endpoints=[Endpoint.new(id=f"e{number:05}", ttl=0) for number in range(10_000)]
        )
        metrics = measured(app, max_endpoints=50, timeout=30.0)
        with app:
            for number in range(1_000):
                app.callbacks.push(f"e{number:05}", Callback.new(b"12")).get()
            seen = scrape(metrics)
            assert len(seen.labels("endpoint")) == 51
            assert seen.value("pollin_pushes_total", endpoint="other", outcome="queued") == 950
            assert seen.value("pollin_endpoints") == 10_000
            first = seen.value("pollin_queued_callbacks", endpoint="other", phase="other")
            assert first == 50
            size = seen.total()
            for _ in range(3):
                seen = scrape(metrics)
            assert seen.total() == size
            assert seen.value("pollin_queued_bytes", endpoint="other") == 2 * 200
        assert size < 2_000

    def test_hostile_ids(self) -> None:
        """Whatever an id holds, it is a label as it is; one that is called as the others are is
        counted among them."""
        ids = ['a"b', "a\\b", "a{b}=", "ünï☃", "other", "unknown", "le", "a,b"]
        app = application(*ids)
        metrics = measured(app)
        with Tester(app) as tester:
            for each in ids:
                tester.push(each)
            for accept in ("", OPENMETRICS):
                seen = scrape(metrics, accept)
                assert seen.labels("endpoint") == {*ids} - {"unknown"}
                other = seen.value("pollin_pushes_total", endpoint="other", outcome="queued")
                assert other == 2
                queued = seen.value("pollin_queued_callbacks", endpoint="other", phase="other")
                assert queued == 2

    def test_strangers_make_no_labels(self) -> None:
        """Whatever ids they try."""
        app = Application(endpoints=[orders()])
        metrics = measured(app)
        with Tester(app):
            receiver = wsgi(app)
            for number in range(1_000):
                assert send(receiver, path=f"/guess-{number}").status == 404
            seen = scrape(metrics)
        assert seen.labels("endpoint") == {"orders", "unknown"}

    def test_handlers_of_endpoints_without_a_name(self) -> None:
        """There may be one for each endpoint: they have no names either."""
        app = application(*(f"e{number}" for number in range(20)))
        for number in range(20):
            app.add_handler(lambda _: None, f"e{number}", name=f"h{number}")
        metrics = measured(app, max_endpoints=3)
        with Tester(app) as tester:
            for number in range(20):
                tester.push(f"e{number}")
            tester.drain()
            seen = scrape(metrics)
        assert seen.labels("handler") == {"h0", "h1", "h2", "other"}
        labels = {"endpoint": "other", "handler": "other"}
        done = seen.value("pollin_handler_outcomes_total", outcome="acknowledged", **labels)
        assert done == 17

    def test_many_phases(self) -> None:
        """Beyond some they are counted together."""
        phases = [f"p{number}" for number in range(100)]
        app = Application(endpoints=[Endpoint.new(phases, 0, id="orders")])
        metrics = measured(app)
        with Tester(app) as tester:
            for phase in ("p0", "p98", "p99"):
                tester.push("orders", phase=phase)
            seen = scrape(metrics)
        assert len(seen.labels("phase")) == 21
        assert seen.value("pollin_queued_callbacks", endpoint="orders", phase="other") == 2

    def test_none_at_all(self) -> None:
        app = application("orders", "mails")
        metrics = measured(app, max_endpoints=0)
        with Tester(app) as tester:
            tester.push("orders")
            scrape(metrics)
            seen = scrape(metrics)
        assert seen.labels("endpoint") == {"other"}
        assert seen.value("pollin_queued_callbacks", endpoint="other", phase="other") == 1


class TestNames:
    def test_they_follow_the_conventions(self) -> None:
        """One prefix, base units, counters in ``_total``, each with a help of its own."""
        for metric in METRICS.values():
            assert re.fullmatch(r"pollin_[a-z]+(_[a-z]+)*", metric.name)
            assert metric.name.endswith("_total") == (metric.kind == "counter")
            assert not re.search(r"_(ms|milliseconds|kb|mb|percent)(_|$)", metric.name)
            if metric.kind == "histogram":
                assert metric.name.endswith("_seconds")
        assert len({metric.says for metric in METRICS.values()}) == len(METRICS)

    @pytest.mark.parametrize("accept", ["", OPENMETRICS])
    def test_all_of_them_are_exposed(self, accept: str) -> None:
        """In both formats, as the parsers of Prometheus' own client read them."""
        app = application()
        app.add_handler(lambda _: None, "orders", name="h")
        metrics = measured(app)
        with app:
            app.callbacks.push("orders", Callback.new(b"")).get()
            seen = scrape(metrics, accept)
        assert set(seen.types) == {
            name.removesuffix("_total") if metric.kind == "counter" else name
            for name, metric in METRICS.items()
        }


class TestRegistering:
    def test_one_application_per_registry(self) -> None:
        """A second one is refused, and nothing of it is left."""
        registry = CollectorRegistry()
        PrometheusMetrics(application(), registry=registry)
        second = application()
        with pytest.raises(InvalidValue, match="registry of its own"):
            PrometheusMetrics(second, registry=registry)
        assert second.instruments.listeners == ()

    def test_registering_asks_the_inbox_nothing(self) -> None:
        """Not even a registry that wants to know all names at once."""
        registry = CollectorRegistry(auto_describe=True)
        with application() as app:
            app.backend.execute = None  # type: ignore[assignment]
            PrometheusMetrics(app, registry=registry)
            del app.backend.execute

    def test_beside_others(self) -> None:
        """What else is in the registry is exposed with them, and stays after they have gone."""

        class Own:
            def collect(self) -> list[GaugeMetricFamily]:
                return [GaugeMetricFamily("pollin_up_and_more", "mine", value=7)]

        registry = CollectorRegistry()
        registry.register(Own())
        app = application()
        metrics = PrometheusMetrics(app, registry=registry)
        assert b"pollin_up_and_more 7" in metrics.render()[0]
        for _ in range(2):
            metrics.close()
        assert app.instruments.listeners == ()
        assert b"pollin_up 0" not in metrics.render()[0]
        assert b"pollin_up_and_more 7" in metrics.render()[0]

    def test_found_again(self) -> None:
        app = application()
        assert metrics_of(app) is metrics_of(app)
        other = application()
        metrics = measured(other)
        assert metrics_of(other) is metrics

    @pytest.mark.parametrize(
        "options",
        [
            {"max_endpoints": -1},
            {"max_endpoints": True},
            {"max_endpoints": 1.5},
            {"timeout": -0.1},
            {"timeout": float("nan")},
            {"timeout": float("inf")},
            {"timeout": "1"},
        ],
    )
    def test_values_that_cannot_be(self, options: dict[str, Any]) -> None:
        app = application()
        with pytest.raises(InvalidValue, match=next(iter(options))):
            measured(app, **options)
        assert app.instruments.listeners == ()

    def test_without_the_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error says which extra brings it."""
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        for make in (PrometheusMetrics, metrics_of):
            app = application()
            with pytest.raises(MissingExtra, match=r"pollin-actors\[prometheus\]"):
                make(app)
            assert app.instruments.listeners == ()
