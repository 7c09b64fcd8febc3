"""Whatever waits to be verified is verified, whoever took it and whatever has changed since."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from structlog.testing import capture_logs

from pollin_actors import Application, Callback, Endpoint, EndpointNotFound
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import (
    CreateEndpoint,
    DeleteEndpoint,
    IndexEndpoints,
    Push,
    UpdateEndpoint,
)
from pollin_actors.otp import ReplyFuture
from pollin_actors.signatures import Delivery
from pollin_actors.testing import FaultyBackend, Tester
from pollin_actors.unverified import UNVERIFIED, new_place, place_of
from pollin_actors.web import quarantined, verify_again, wsgi
from pollin_actors.web.waiting import packed
from tests.web.receiving import Told, orders, send


class Shared(MemoryBackend):
    """One that says that other processes use it too."""

    @property
    def shared(self) -> bool:
        return True


def left_behind(backend: MemoryBackend, sign: bytes = b"old") -> None:
    """Another process has taken a request, and has ended before it was verified."""
    request = packed(Delivery([(b"X-Sign", sign)], b"{}"), Told())
    backend.execute(CreateEndpoint(new_place("orders")))
    backend.execute(Push(place_of("orders"), Callback.new(request, phase=UNVERIFIED), None, True))


def opened(*endpoints: Endpoint) -> MemoryBackend:
    """A store that is not empty."""
    with Application(backend := MemoryBackend(), endpoints=endpoints):
        left_behind(backend)
    return backend


class TestBegin:
    def test_it_begins_with_the_application(self) -> None:
        """Where there is a receiver; nobody has to send anything."""
        app = Application()
        wsgi(app)
        with Tester(app, backend=opened(orders(verify="later"))) as tester:
            tester.drain()
            assert len(tester.received("orders")) == 1

    def test_it_begins_with_a_receiver_that_is_made_later(self) -> None:
        with Tester(backend=opened(orders(verify="later"))) as tester:
            tester.advance(60.0)
            assert tester.received("orders") == []
            wsgi(tester.app)
            tester.drain()
            assert len(tester.received("orders")) == 1

    def test_an_endpoint_that_verifies_first_by_now_gets_its_backlog(self) -> None:
        with Tester(backend=opened(orders())) as tester:
            wsgi(tester.app)
            tester.drain()
            assert len(tester.received("orders")) == 1

    def test_what_an_endpoint_has_left_that_is_gone_is_taken_away(self) -> None:
        """As where the process ended in the middle of its deletion. Nobody inherits it."""
        with Tester(backend=opened()) as tester:
            wsgi(tester.app)
            tester.settle()
            assert tester.app.endpoints.index().get() == []

    def test_again_after_each_start(self) -> None:
        """Handlers of the run before, and those that went with a test, are told apart."""
        app = Application()
        wsgi(app)
        for _ in range(2):
            with Tester(app, backend=opened(orders(verify="later"))) as tester:
                tester.drain()
                assert len(tester.received("orders")) == 1

    def test_a_handler_of_the_host_by_that_name_is_not_in_the_way(self) -> None:
        app = Application()
        app.add_handler(lambda callback: None, "something", name="verify orders")
        wsgi(app)
        with Tester(app, backend=opened(orders(verify="later"))) as tester:
            tester.drain()
            assert len(tester.received("orders")) == 1
            assert [info.name for info in app.handlers] == ["verify orders", "verify orders (2)"]

    def test_what_another_process_leaves_behind_is_found(self) -> None:
        """In a store that is shared it is looked for now and then; nobody sends anything here."""
        backend = Shared()
        with Tester(backend=backend) as tester:
            wsgi(tester.app)
            tester.settle()
            backend.execute(CreateEndpoint(orders(verify="later")))
            left_behind(backend)
            tester.advance(61.0)
            tester.drain()
            assert len(tester.received("orders")) == 1

    def test_what_another_process_deletes_is_forgotten(self) -> None:
        backend = Shared()
        with Tester(backend=backend, endpoints=[orders(verify="later")]) as tester:
            send(wsgi(tester.app))
            tester.drain()
            backend.execute(DeleteEndpoint(place_of("orders")))
            backend.execute(DeleteEndpoint("orders"))
            tester.advance(61.0)
            assert list(tester.app.handlers) == []

    def test_a_store_that_fails_is_asked_again_later_and_not_by_each_request(self) -> None:
        backend = FaultyBackend(opened(orders(verify="later"), orders().replace(id="other")))
        backend.fail(IndexEndpoints, times=3)
        with Tester(backend=backend) as tester, capture_logs() as logs:
            receiver = wsgi(tester.app)
            for _ in range(20):
                assert send(receiver, path="/other").status == 200
            assert backend.injected == 1
            tester.advance(20.0)
            tester.drain()
            assert len(tester.received("orders")) == 1
            told = [entry for entry in logs if entry["event"] == "receiver.cannot_verify"]
            assert {entry["error"] for entry in told} == {"InjectedFault"}
            assert backend.injected == 3

    def test_many_places_are_seen_to_a_few_at_a_time(self) -> None:
        """Whoever sends meanwhile must not wait until ten thousand handlers have begun."""
        backend = MemoryBackend()
        many = [orders(verify="later").replace(id=f"e-{number}") for number in range(120)]
        with Application(backend, endpoints=many):
            for endpoint in many:
                backend.execute(CreateEndpoint(new_place(endpoint.id)))
        with Tester(backend=backend) as tester:
            wsgi(tester.app)
            tester.settle()
            assert len(tester.app.handlers) == 50
            tester.advance(1.0)
            assert len(tester.app.handlers) == 120

    def test_it_is_not_done_by_the_thread_that_has_the_answer(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That may be the one that settles everything: ten thousand handlers take their time."""
        asked: list[ReplyFuture[list[Endpoint]]] = []
        threads: list[threading.Thread] = []
        added = threading.Event()

        class Later(MemoryBackend):
            def execute(self, message: Any) -> Any:
                if isinstance(message, IndexEndpoints):
                    asked.append(ReplyFuture())
                    return asked[-1]
                return super().execute(message)

        def add_handler(*args: object, **options: object) -> str:
            threads.append(threading.current_thread())
            added.set()
            return "verify orders"

        with Application(Later(), endpoints=[orders(verify="later")]) as app:
            monkeypatch.setattr(app, "add_handler", add_handler)
            wsgi(app)
            asked[0].set([orders(verify="later"), new_place("orders")])
            assert added.wait(60)
        assert threads != [threading.current_thread()]


class TestVerifyAgain:
    def test_it_needs_no_receiver(self) -> None:
        """A process without one verifies what it has moved."""
        backend = MemoryBackend()
        with Tester(endpoints=[orders("mistaken", verify="later")], backend=backend) as tester:
            send(wsgi(tester.app))
            tester.drain()
        with Tester(backend=backend) as tester:
            tester.app.endpoints.rotate("orders", secret="old", overlap=0).get()
            assert verify_again(tester.app, "orders") == 1
            tester.drain()
            assert len(tester.received("orders")) == 1

    def test_somebodys_own_endpoint_is_none(self) -> None:
        with Tester() as tester:
            tester.app.endpoints.create(Endpoint.new(id=place_of("orders"))).get()
            with pytest.raises(EndpointNotFound):
                verify_again(tester.app, "orders")


def test_somebodys_own_endpoint_is_in_the_way_and_that_is_said() -> None:
    """Not with each request: once a second."""
    with Tester(endpoints=[orders(verify="later")]) as tester, capture_logs() as logs:
        app, receiver = tester.app, wsgi(tester.app)
        app.endpoints.create(Endpoint.new(["received"], 0, id=place_of("orders"))).get()
        assert [send(receiver).status for _ in range(3)] == [503] * 3
        [told] = [entry for entry in logs if entry["event"] == "receiver.unavailable"]
        assert (told["endpoint"], told["error"]) == ("orders", "PlaceTaken")
        assert "'orders.unverified'" in told["reason"]
        assert list(app.handlers) == []
        app.endpoints.delete(place_of("orders")).get()
        assert send(receiver).status == 200


def test_what_does_not_verify_does_not_fill_the_log() -> None:
    with Tester(endpoints=[orders(verify="later")]) as tester, capture_logs() as logs:
        receiver = wsgi(tester.app)
        for _ in range(20):
            send(receiver, {"X-Sign": "wrong"})
        tester.drain()
        assert len(quarantined(tester.app, "orders")) == 20
        assert len([it for it in logs if it["event"] == "receiver.quarantined"]) == 1


def test_a_place_that_another_process_deletes_is_made_again() -> None:
    """With the request that finds it missing, whether or not that verifies as it comes."""
    backend = MemoryBackend()
    with Tester(endpoints=[orders(verify="later")], backend=backend) as tester:
        receiver = wsgi(tester.app)
        for sign in ("old", "wrong"):
            assert send(receiver).status == 200
            tester.drain()
            tester.advance(1.0)
            backend.execute(DeleteEndpoint(place_of("orders")))
            assert send(receiver, {"X-Sign": sign}).status == 200
            tester.drain()
        assert len(tester.received("orders")) == 3
        assert len(quarantined(tester.app, "orders")) == 1


def test_an_endpoint_that_is_switched_over_by_another_process_verifies_later_at_once() -> None:
    """What is refused makes the receiver look again, and then it is as the endpoint says."""
    backend = MemoryBackend()
    with Tester(endpoints=[orders()], backend=backend) as tester:
        receiver = wsgi(tester.app)
        assert send(receiver).status == 200
        backend.execute(UpdateEndpoint(orders(verify="later")))
        assert send(receiver, {"X-Sign": "wrong"}).status == 200
        tester.drain()
        assert len(quarantined(tester.app, "orders")) == 1
