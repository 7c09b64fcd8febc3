"""What one request may cost: time, work, memory, lines of the log, and other people's rate."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import pytest
from structlog.testing import capture_logs

from pollin_actors import Application, BackendUnavailable, Endpoint, Intake
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.instruments.seldom import MOST
from pollin_actors.messages import CreateEndpoint, FindEndpoint, Push, Stats, UpdateEndpoint
from pollin_actors.signatures import Hmac, Scheme, Stripe
from pollin_actors.testing import FaultyBackend, Tester
from pollin_actors.web import in_flight, known, wsgi
from pollin_actors.web.failures import Failures
from tests.web.receiving import Told, orders, send

EVENT = {"X-Sign": "old", "X-Id": "e-1"}


class TestTime:
    @pytest.mark.parametrize("verify", ["first", "later"])
    @pytest.mark.parametrize("sign", ["old", "wrong"])
    def test_a_request_has_one_deadline_and_not_one_for_each_step(
        self, verify: str, sign: str
    ) -> None:
        """However many steps it takes, each of them just quick enough: until the body is asked for,
        and once more from when it is there."""
        backend = FaultyBackend(MemoryBackend())
        with Tester(endpoints=[orders(verify=verify)], backend=backend) as tester:
            receiver = wsgi(tester.app, timeout=1.5)
            for kind in (FindEndpoint, CreateEndpoint, Push, Stats):
                backend.delay(kind, seconds=1.0, times=10)
            began = tester.clock.monotonic()
            answer = send(receiver, {"X-Sign": sign})
            assert answer.status in (401, 503)
            assert tester.clock.monotonic() - began <= 3.0
            backend.heal()
            tester.drain()
            assert send(receiver).status == 200

    def test_when_it_is_used_up_nothing_more_is_begun(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What nobody waits for any more need not be stored."""
        verify = Told.verify

        def slow(*args: Any) -> Any:
            tester.advance(2.0)
            return verify(*args)

        monkeypatch.setattr(Told, "verify", slow)
        with Tester(endpoints=[orders()]) as tester, capture_logs() as logs:
            assert send(wsgi(tester.app, timeout=1.5)).status == 503
            tester.settle()
            assert tester.received("orders") == []
            [told] = [entry for entry in logs if entry["event"] == "receiver.unavailable"]
            assert (told["endpoint"], told["error"]) == ("orders", "OutOfTime")
            assert "1.5 s" in told["reason"]


class TestWork:
    def test_what_is_refused_is_verified_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A second time only where another process has changed what it is verified with."""
        verified = []
        verify = Told.verify

        def counted(*args: Any) -> Any:
            verified.append(args)
            return verify(*args)

        monkeypatch.setattr(Told, "verify", counted)
        backend = MemoryBackend()
        with Tester(endpoints=[orders()], backend=backend) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver, {"X-Sign": "new"}).status == 401
            assert len(verified) == 1
            backend.execute(UpdateEndpoint(orders().replace(ttl=5)))
            assert send(receiver, {"X-Sign": "new"}).status == 401
            assert len(verified) == 2
            backend.execute(UpdateEndpoint(orders("new")))
            assert send(receiver, {"X-Sign": "new"}).status == 200
            assert len(verified) == 4

    def test_what_another_process_has_disabled_is_gone_with_its_new_secret(self) -> None:
        """Whoever has that does not get in, although the old one was known a moment ago."""
        backend = MemoryBackend()
        with Tester(endpoints=[orders()], backend=backend) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver).status == 200
            backend.execute(UpdateEndpoint(orders("new", enabled=False)))
            assert send(receiver, {"X-Sign": "new"}).status == 410
            backend.execute(UpdateEndpoint(orders("newer", content_types=["text/plain"])))
            tester.advance(1.0)
            assert send(receiver, {"X-Sign": "newer"}).status == 415

    def test_a_secret_that_is_withdrawn_under_way_is_looked_at_again(self) -> None:
        """Found out by the backend with the push; then the endpoint is gone for such senders."""
        backend = MemoryBackend()
        with Tester(endpoints=[orders()], backend=backend) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver).status == 200
            backend.execute(UpdateEndpoint(orders("new", enabled=False)))
            assert send(receiver).status == 410
            assert len(tester.received("orders")) == 1

    def test_an_endpoint_that_changes_all_the_while_is_given_up(self) -> None:
        """Each time that it has verified, its first phase is another."""

        class Changing(MemoryBackend):
            def execute(self, message: Any) -> Any:
                if isinstance(message, Push):
                    phases.append(f"p{len(phases)}")
                    super().execute(UpdateEndpoint(orders().replace(phases=[phases[-1]])))
                return super().execute(message)

        phases: list[str] = []
        with Tester(endpoints=[orders()], backend=Changing()) as tester, capture_logs() as logs:
            assert send(wsgi(tester.app)).status == 503
            assert len(phases) == 3
            [told] = [entry for entry in logs if entry["event"] == "receiver.unavailable"]
            assert "changed each time" in told["reason"]


class TestRate:
    def test_a_genuine_request_sent_again_uses_nothing_up(self) -> None:
        """Whoever has seen one could shut out all others with it."""
        with Tester(endpoints=[orders(rate=1)]) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver, EVENT).status == 200
            tester.advance(1.0)
            for _ in range(5):
                assert send(receiver, EVENT).json["outcome"] == "duplicate"
            assert send(receiver).status == 200
            assert send(receiver).status == 429

    def test_the_same_where_it_is_answered_before_it_is_stored(self) -> None:
        for seed in range(10):  # which thread takes it, and when, is drawn
            with Tester(endpoints=[orders(rate=1)], seed=seed) as tester:
                receiver = wsgi(tester.app, ack="accepted")
                for _ in range(3):
                    assert send(receiver, EVENT).status == 200
                    tester.settle()
                    tester.advance(1.0)
                assert send(receiver, EVENT).status == 200
                tester.settle()
                assert send(receiver).status == 200
                assert send(receiver).status == 429

    def test_what_could_not_be_taken_does_not_count(self) -> None:
        """The sender is told to come again: then there must be room."""
        backend = FaultyBackend(MemoryBackend())
        with Tester(endpoints=[orders(rate=1).replace(capacity=1)], backend=backend) as tester:
            receiver = wsgi(tester.app)
            backend.fail(Push)
            assert [send(receiver).status for _ in range(2)] == [503, 200]
            tester.advance(1.0)
            assert send(receiver).status == 503
            tester.app.callbacks.pop("orders").get()
            assert send(receiver).status == 200

    def test_it_counts_on_however_many_endpoints_there_are(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Endpoints that were read least lately are forgotten, what was counted is not."""
        monkeypatch.setattr(known, "MOST", 2)
        others = [orders().replace(id=f"other-{number}") for number in range(5)]
        with Tester(endpoints=[orders(rate=0.1), *others]) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver).status == 200
            for other in others:
                assert send(receiver, path=f"/{other.id}").status == 200
            assert send(receiver).status == 429

    def test_counts_that_say_nothing_any_more_are_dropped(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(known, "MOST", 2)
        limited = [orders(rate=10).replace(id=f"e-{number}") for number in range(6)]
        with Tester(endpoints=limited) as tester:
            receiver = wsgi(tester.app)
            for endpoint in limited:
                assert send(receiver, path=f"/{endpoint.id}").status == 200
                tester.advance(1.0)
            assert len(receiver._reception._known._rates) <= 2  # type: ignore[attr-defined]


class TestLog:
    def test_strangers_cannot_fill_it_while_the_inbox_is_away(self) -> None:
        """Whatever endpoints they ask for."""
        app = Application()
        receiver = wsgi(app)
        with capture_logs() as logs:
            for number in range(50):
                assert send(receiver, path=f"/any-{number}").status == 503
        [told] = logs
        assert (told["event"], told["endpoint"]) == ("receiver.unavailable", "")
        assert (told["error"], "start" in told["reason"]) == ("NotRunning", True)

    def test_nor_with_what_nobody_expected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A defect that each request meets is told once a second, whatever they ask for."""
        with Tester(endpoints=[orders()]) as tester, capture_logs() as logs:
            with monkeypatch.context() as patched:
                patched.setattr(tester.app.endpoints, "find", lambda *_, **__: 1 / 0)
                receiver = wsgi(tester.app)
                for number in range(50):
                    assert send(receiver, path=f"/any-{number}").status == 503
                tester.advance(1.0)
                assert send(receiver, path="/another").status == 503
            told = [entry for entry in logs if entry["event"] == "receiver.failed"]
            assert [(entry["endpoint"], entry["more"]) for entry in told] == [("", 0), ("", 49)]

    def test_a_full_endpoint_is_told(self) -> None:
        with Tester(endpoints=[orders().replace(capacity=1)]) as tester, capture_logs() as logs:
            receiver = wsgi(tester.app)
            assert [send(receiver).status for _ in range(3)] == [200, 503, 503]
            [told] = [entry for entry in logs if entry["event"] == "receiver.unavailable"]
            assert (told["endpoint"], told["error"], told["more"]) == ("orders", "Full", 0)

    def test_it_remembers_only_so_many(self) -> None:
        """Of those that it has told; what comes on top is told as one, and counted."""
        now = [1.0]
        failures = Failures(lambda: now[0])
        with capture_logs() as logs:
            for number in range(MOST + 3):
                failures.refused("receiver.refused", str(number), "any")
            failures.refused("receiver.refused", "0", "any")
            assert len(logs) == MOST + 1
            now[0] += 1.0
            failures.refused("receiver.refused", "0", "any")
        assert len(logs) == MOST + 2
        assert logs[-1]["more"] == 1

    @pytest.mark.parametrize(
        ("scheme", "dedup_for", "warned"),
        [
            (Stripe(), 599.0, True),
            (Stripe(), 0, True),
            (Stripe(), 600.0, False),
            (Stripe(tolerance=60), 120.0, False),
            (Told(), 0, False),
            (Hmac("X-Sign"), 0, False),
            (Hmac("X-Sign", timestamp_header="X-Time", signed="{timestamp}.{body}"), 0, True),
        ],
    )
    def test_ids_that_are_forgotten_too_soon_are_told(
        self, scheme: Scheme, dedup_for: float, warned: bool
    ) -> None:
        """A signed request could be sent again; once for each such endpoint."""
        made = Endpoint.new(id="orders", dedup_for=dedup_for, intake=Intake(scheme))
        with Tester(endpoints=[made]) as tester, capture_logs() as logs:
            receiver = wsgi(tester.app)
            for _ in range(3):
                send(receiver)
                tester.advance(2.0)
            told = [entry for entry in logs if entry["event"] == "receiver.replays_possible"]
            assert [entry["endpoint"] for entry in told] == ["orders"] * warned


class TestInFlight:
    @pytest.mark.parametrize(("limit", "most", "taken"), [("MOST", 3, 3), ("MOST_BYTES", 3_000, 2)])
    def test_a_backend_that_stands_still_is_not_waited_for_with_all_the_memory(
        self, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, taken: int
    ) -> None:
        """What was answered before it was stored is bounded; what comes beyond is answered 503, and
        taken again once the others are stored."""
        monkeypatch.setattr(in_flight, limit, most)
        stored: list[concurrent.futures.Future[Any]] = []

        class Still(MemoryBackend):
            def execute(self, message: Any) -> Any:
                if not isinstance(message, Push):
                    return super().execute(message)
                stored.append(concurrent.futures.Future())
                return stored[-1]

        with Tester(endpoints=[orders()], backend=Still()) as tester:
            receiver = wsgi(tester.app, ack="accepted")
            statuses = [send(receiver, body=bytes(1000)).status for _ in range(5)]
            assert statuses == [200] * taken + [503] * (5 - taken)
            tester.settle()
            for future in stored:
                future.set_exception(BackendUnavailable("still", "it stood still"))
            tester.settle()
            assert send(receiver, body=bytes(1000)).status == 200

    def test_one_alone_may_be_as_large_as_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(in_flight, "MOST_BYTES", 1)
        with Tester(endpoints=[orders()]) as tester:
            receiver = wsgi(tester.app, ack="accepted")
            for _ in range(3):
                assert send(receiver, body=bytes(1000)).status == 200
                tester.settle()
