"""Requests that are verified after they were answered, and those that do not verify."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from pollin_actors import (
    Application,
    CallbackNotFound,
    Endpoint,
    EndpointNotFound,
    PhaseConflict,
)
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import FindEndpoint, Nack, Push
from pollin_actors.testing import FaultyBackend, Tester
from pollin_actors.web import quarantine, quarantine_of, quarantined, verify_again, wsgi
from tests.web.receiving import orders, send

PLACE = quarantine_of("orders")


def genuine(key: str, **more: str) -> dict[str, str]:
    return {"X-Sign": "old", "X-Id": key, **more}


def forged(key: str) -> dict[str, str]:
    return {"X-Sign": "wrong", "X-Id": key}


def test_what_is_genuine_reaches_the_endpoint() -> None:
    """It is answered before anybody has looked; then it is there as if it had been verified
    first: its own id, its headers without the secret, and the time at which it came."""
    with Tester(endpoints=[orders(verify="later")]) as tester:
        receiver = wsgi(tester.app)
        arrived = tester.clock.time_ns()
        answer = send(receiver, genuine("e-1", X_Tag="x"), b"body")
        assert (answer.status, answer.json["outcome"]) == (200, "accepted")
        assert tester.app.callbacks.count("orders").get() == 0
        tester.drain()
        [callback] = tester.received("orders")
        assert (callback.id, callback.phase, callback.request.body) == ("e-1", "received", b"body")
        assert callback.created_at == arrived
        assert callback.origin == f"{PLACE}/{answer.json['id']}"
        assert callback.request.header("x-sign") == "**********"
        assert callback.request.header(":query") is None
        assert tester.app.callbacks.count(PLACE).get() == 0


def test_what_is_not_never_does() -> None:
    """It is in quarantine, as it came, with the reason."""
    with Tester(endpoints=[orders(verify="later")]) as tester, capture_logs() as logs:
        receiver = wsgi(tester.app)
        assert send(receiver, forged("e-1"), b"body").status == 200
        tester.drain()
        assert tester.received("orders") == []
        [found] = quarantined(tester.app, "orders")
        assert found.reason == "not signed with any secret"
        assert found.callback.id != "e-1"
        assert found.callback.request.body == b"body"
        assert [e["reason"] for e in logs if e["event"] == "receiver.quarantined"] == [found.reason]
        assert quarantined(tester.app, "orders", offset=1) == []


def test_nobody_can_use_up_the_id_of_an_event() -> None:
    """A forged request of the same id, which came before, does not make it a duplicate."""
    with Tester(endpoints=[orders(verify="later")]) as tester:
        receiver = wsgi(tester.app)
        send(receiver, forged("e-1"))
        send(receiver, genuine("e-1"))
        send(receiver, genuine("e-1"))
        tester.drain()
        [callback] = tester.received("orders")
        assert callback.id == "e-1"
        assert len(quarantined(tester.app, "orders")) == 1


def test_after_a_mistake_with_a_secret_they_are_verified_again() -> None:
    """As of the time at which they came, however long ago that is. What is forged comes back."""
    with Tester(endpoints=[orders("mistaken", verify="later")]) as tester:
        app, receiver = tester.app, wsgi(tester.app)
        at = str(tester.clock.time_ns() // 10**9)
        for headers in (genuine("a", X_At=at), forged("b"), genuine("c", X_At=at)):
            send(receiver, headers)
        tester.drain()
        assert len(quarantined(app, "orders")) == 3
        app.endpoints.update(orders("old", verify="later")).get()
        tester.advance(3600.0)
        assert verify_again(app, "orders") == 3
        tester.drain()
        assert {callback.id for callback in tester.received("orders")} == {"a", "c"}
        [left] = quarantined(app, "orders")
        assert left.callback.request.header("x-id") == "b"
        assert verify_again(app, "orders", key=left.callback.id) == 1
        with pytest.raises((PhaseConflict, CallbackNotFound)):
            verify_again(app, "orders", key="unheard of")
        tester.drain()
        assert len(quarantined(app, "orders")) == 1


def test_the_query_is_verified_too() -> None:
    with Tester(endpoints=[orders(verify="later")]) as tester:
        receiver = wsgi(tester.app)
        send(receiver, genuine("a"), query="a=%20b")
        send(receiver, genuine("b"), query="a=b")
        tester.drain()
        assert [callback.id for callback in tester.received("orders")] == ["a"]


def test_nobody_posts_there() -> None:
    """The place where they wait has a name that can be guessed."""
    with Tester(endpoints=[orders(verify="later")]) as tester:
        receiver = wsgi(tester.app)
        send(receiver, genuine("a"))
        assert send(receiver, genuine("b"), path=f"/{PLACE}").status == 410


def test_a_backlog_is_verified_after_a_restart() -> None:
    """Without any further request to that endpoint: a probe for readiness will do."""
    backend = MemoryBackend()
    with Tester(endpoints=[orders(verify="later")], backend=backend) as tester:
        receiver = wsgi(tester.app)
        send(receiver, genuine("a"))
        tester.drain()
        tester.app.handlers.pause("verify orders").get()
        send(receiver, genuine("b"))
        tester.settle()
        assert len(tester.received("orders")) == 1
    with Tester(backend=backend) as tester:
        tester.advance(60.0)
        assert len(tester.received("orders")) == 1
        assert send(wsgi(tester.app), path="/readyz", method="GET").status == 200
        tester.drain()
        assert len(tester.received("orders")) == 2


def test_a_backend_that_fails_in_between_delays_it() -> None:
    """Nothing that is genuine ends in quarantine because of that, nor is it pushed twice."""
    backend = FaultyBackend(MemoryBackend())
    with Tester(endpoints=[orders(verify="later")], backend=backend) as tester:
        receiver = wsgi(tester.app)
        for _ in range(2):
            send(receiver, genuine("warm"))
            tester.drain()
        assert send(receiver, {"X-Sign": "old"}).status == 200
        backend.fail(FindEndpoint, times=3)
        backend.fail(Push, when="after", times=2)
        tester.drain()
        assert len(tester.received("orders")) == 2
        assert quarantined(tester.app, "orders") == []
        assert backend.injected == 5


def test_a_verdict_that_is_lost_is_found_again() -> None:
    backend = FaultyBackend(MemoryBackend())
    with Tester(endpoints=[orders(verify="later")], backend=backend) as tester:
        backend.fail(Nack, when="before")
        send(wsgi(tester.app), forged("a"))
        tester.drain()
        [found] = quarantined(tester.app, "orders")
        assert found.reason == "not signed with any secret"


def test_an_endpoint_that_is_deleted_takes_it_with_it() -> None:
    """What waits, what did not verify, and the handler: the next endpoint of that id, perhaps
    somebody else's, finds nothing of it."""
    with Tester(endpoints=[orders(verify="later")]) as tester:
        app, receiver = tester.app, wsgi(tester.app)
        send(receiver, forged("a"), b"the first tenant's")
        tester.drain()
        tester.app.handlers.pause("verify orders").get()
        send(receiver, genuine("b"))
        tester.settle()
        assert app.endpoints.delete("orders").get() is True
        tester.settle()
        assert app.endpoints.index().get() == []
        assert list(app.handlers) == []
        app.endpoints.create(orders("second", verify="later")).get()
        with pytest.raises(EndpointNotFound):
            quarantined(app, "orders")
        assert send(receiver, {"X-Sign": "second"}).status == 200
        tester.drain()
        assert len(tester.received("orders")) == 1
        assert quarantined(app, "orders") == []


def test_endpoints_that_come_and_go_leave_no_handlers() -> None:
    with Tester() as tester:
        app, receiver = tester.app, wsgi(tester.app)
        for _ in range(5):
            app.endpoints.create(orders(verify="later")).get()
            assert send(receiver).status == 200
            app.endpoints.delete("orders").get()
        tester.settle()
        assert (app.endpoints.index().get(), len(app.handlers)) == ([], 0)


def test_a_place_that_is_made_again_while_its_handler_ends_has_another() -> None:
    """Whatever the order is in which the end and the next request are seen to."""
    for seed in range(20):
        with Tester(endpoints=[orders(verify="later")], seed=seed) as tester:
            app, receiver = tester.app, wsgi(tester.app)
            send(receiver, {"X-Sign": "old"})
            tester.drain()
            app.endpoints.delete("orders").get()
            app.endpoints.create(orders(verify="later")).get()
            assert send(receiver, {"X-Sign": "old"}).status == 200
            tester.drain()
            assert len(tester.received("orders")) == 1
            assert len(app.handlers) == 1


def test_a_request_under_way_to_an_endpoint_that_is_deleted_leaves_no_place() -> None:
    """It is deleted after it was read and before the place for the request is made."""
    backend = FaultyBackend(MemoryBackend())
    with Tester(endpoints=[orders(verify="later")], backend=backend) as tester:

        def create(endpoint: Endpoint, *, timeout: float) -> Any:
            app.endpoints.delete("orders").get()
            return original(endpoint, timeout=timeout)

        app, receiver = tester.app, wsgi(tester.app)
        original = app.endpoints.create
        app.endpoints.create = create  # type: ignore[assignment]
        assert send(receiver).status == 404
        tester.settle()
        assert app.endpoints.index().get() == []


def test_somebodys_own_endpoint_is_not_deleted_with_another() -> None:
    """It only has a name as a place would."""
    with Tester(endpoints=[orders(verify="later")]) as tester:
        app = tester.app
        app.endpoints.create(Endpoint.new(["received"], 0, id=PLACE)).get()
        app.endpoints.delete("orders").get()
        assert [endpoint.id for endpoint in app.endpoints.index().get()] == [PLACE]


class TestBounded:
    def test_a_full_quarantine_takes_no_more_that_does_not_verify(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Which is told the sender: nothing that was answered 200 is thrown away. What verifies is
        taken as before, so strangers can shut nobody out."""
        monkeypatch.setattr(quarantine, "MOST_QUARANTINED", 2)
        with Tester(endpoints=[orders("mistaken", verify="later")]) as tester:
            app, receiver = tester.app, wsgi(tester.app)
            statuses = [send(receiver, genuine(str(number))).status for number in range(3)]
            assert statuses == [200, 200, 503]
            tester.drain()
            assert send(receiver, genuine("again")).status == 503
            assert send(receiver, {"X-Sign": "mistaken"}).status == 200
            tester.drain()
            app.endpoints.rotate("orders", secret="old", overlap=0).get()
            assert verify_again(app, "orders") == 2
            tester.drain()
            assert len(tester.received("orders")) == 3
            tester.advance(1.0)
            assert send(receiver, genuine("later")).status == 200

    def test_it_is_bounded_in_bytes_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those of quarantine, which an endpoint's capacity leaves out, count as well."""
        monkeypatch.setattr(quarantine, "MOST_QUARANTINED_BYTES", 10_000)
        with Tester(endpoints=[orders(verify="later")]) as tester:
            receiver = wsgi(tester.app)
            for status in (200, 503):
                for number in range(9) if status == 200 else range(2):
                    assert send(receiver, forged(str(number)), bytes(1000)).status == status
                    tester.drain()
                tester.advance(1.0)
            assert len(quarantined(tester.app, "orders")) == 9
            assert tester.app.callbacks.stats(PLACE).get().size < 10_000

    def test_what_has_left_is_kept_no_longer(self) -> None:
        """It is in the endpoint that it was for, with its body; once is enough."""
        backend = MemoryBackend()
        with Tester(endpoints=[orders(verify="later")], backend=backend) as tester:
            receiver = wsgi(tester.app)
            answer = send(receiver)
            tester.drain()
            tester.advance(10.0)
            assert len(tester.received("orders")) == 1
            key, callbacks = answer.json["id"], tester.app.callbacks
            assert callbacks.fetch(PLACE, key=key, kept=True).get() is None


def test_its_rate_bounds_what_is_taken_unverified() -> None:
    """Strangers have as much, and leave the rest to those who are known."""
    with Tester(endpoints=[orders(verify="later", rate=1)]) as tester:
        receiver = wsgi(tester.app)
        assert [send(receiver, forged("a")).status for _ in range(2)] == [200, 429]
        assert [send(receiver, genuine("b")).status for _ in range(2)] == [200, 429]


def test_a_sender_that_asks_whether_we_are_there_is_told_at_once() -> None:
    """It would not ask again."""
    with Tester(endpoints=[orders(verify="later")]) as tester:
        answer = send(wsgi(tester.app), {"X-Hello": "7"})
        assert (answer.status, answer.json) == (200, {"hello": 7})


def test_two_receivers_of_one_application_verify_once() -> None:
    """Each finds that there is a handler already, or makes it."""
    with Tester(endpoints=[orders(verify="later")]) as tester:
        for receiver in (wsgi(tester.app), wsgi(tester.app)):
            send(receiver, {"X-Sign": "old"})
        tester.drain()
        assert len(tester.received("orders")) == 2
        assert [info.name for info in tester.app.handlers] == ["verify orders"]


def test_where_nothing_was_taken_unverified_there_is_no_quarantine() -> None:
    with Application(endpoints=[orders()]) as app:
        with pytest.raises(EndpointNotFound):
            quarantined(app, "orders")
        with pytest.raises(EndpointNotFound):
            verify_again(app, "orders")
