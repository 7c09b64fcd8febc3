"""What an endpoint asks of requests, and what becomes of those that are as it asks."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from pollin_actors import Endpoint, Intake, InvalidValue, Secret
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import DeleteEndpoint, FindEndpoint, Push, UpdateEndpoint
from pollin_actors.resources import Outcome
from pollin_actors.signatures import Unsigned
from pollin_actors.testing import FaultyBackend, Tester
from pollin_actors.web import wsgi
from tests.web.receiving import Answered, Told, orders, send


class TestAsked:
    def test_a_disabled_endpoint_is_gone(self) -> None:
        """Most senders stop then; what was queued stays."""
        with Tester(endpoints=[orders()]) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver).status == 200
            tester.app.endpoints.update(orders(enabled=False)).get()
            assert send(receiver).status == 410
            tester.assert_received("orders", count=1)
            tester.app.endpoints.update(orders()).get()
            assert send(receiver).status == 200

    @pytest.mark.parametrize(
        ("content_type", "status"),
        [
            ("application/json", 200),
            ("Application/JSON; charset=utf-8", 200),
            ("text/plain", 415),
            ("application/json5", 415),
            ("", 415),
            ("\xff/json", 415),
        ],
    )
    def test_other_content_types_are_refused(self, content_type: str, status: int) -> None:
        """Parameters and case do not matter; no content type is another one."""
        with Tester(endpoints=[orders(content_types=["application/json"])]) as tester:
            answer = send(wsgi(tester.app), more={"CONTENT_TYPE": content_type})
            assert answer.status == status
            assert len(tester.received("orders")) == (status == 200)

    def test_what_is_not_genuine_leaves_no_trace_but_in_the_log(self) -> None:
        """The answer does not say why; the log does, once a second and with a count."""
        with Tester(endpoints=[orders()]) as tester, capture_logs() as logs:
            receiver = wsgi(tester.app)
            answers = [send(receiver, {"X-Sign": "wrong"}) for _ in range(3)]
            tester.advance(1.0)
            answers.append(send(receiver, {}))
            assert {answer.status for answer in answers} == {401}
            assert len({str(answer) for answer in answers}) == 1
            assert tester.received("orders") == []
            refused = [entry for entry in logs if entry["event"] == "receiver.refused"]
            assert [(entry["reason"], entry["more"]) for entry in refused] == [
                ("not signed with any secret", 0),
                ("not signed with any secret", 2),
            ]

    def test_a_scheme_that_fails_has_not_verified_anything(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A defect in it is a refusal, and logged."""
        monkeypatch.setattr(Told, "verify", lambda *_: 1 / 0)
        with Tester(endpoints=[orders()]) as tester, capture_logs() as logs:
            assert send(wsgi(tester.app)).status == 401
            assert "receiver.scheme_failed" in [entry["event"] for entry in logs]

    def test_it_is_told_once_a_second_and_without_its_variables(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those of a scheme hold headers and secrets, also where its failure came from."""

        def fail(*_: object) -> None:
            try:
                raise KeyError("first")
            except KeyError:
                raise ValueError("then")  # noqa: B904

        monkeypatch.setattr(Told, "verify", fail)
        with Tester(endpoints=[orders()]) as tester, capture_logs() as logs:
            receiver = wsgi(tester.app)
            assert [send(receiver).status for _ in range(3)] == [401] * 3
            [told] = [entry for entry in logs if entry["event"] == "receiver.scheme_failed"]
            _, error, traceback = told["exc_info"]
            assert (str(error), str(error.__context__)) == ("then", "'first'")
            shown = (traceback, error.__traceback__, error.__context__.__traceback__)
            assert shown == (None, None, None)


class TestRate:
    def test_a_burst_is_taken_and_then_as_many_as_the_rate_says(self) -> None:
        with Tester(endpoints=[orders(rate=2, burst=3)]) as tester:
            receiver = wsgi(tester.app)
            assert [send(receiver).status for _ in range(5)] == [200] * 3 + [429] * 2
            assert send(receiver).headers["retry-after"] == "1"
            for _ in range(10):
                tester.advance(0.5)
                assert [send(receiver).status for _ in range(2)] == [200, 429]
            tester.advance(60.0)
            assert [send(receiver).status for _ in range(4)] == [200] * 3 + [429]
            tester.assert_received("orders", count=16)

    def test_the_answer_says_when_to_come_again(self) -> None:
        """In whole seconds, and not too early."""
        with Tester(endpoints=[orders(rate=0.3)]) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver).status == 200
            answer = send(receiver)
            assert (answer.status, answer.headers["retry-after"]) == (429, "4")
            tester.advance(4.0)
            assert send(receiver).status == 200

    def test_strangers_do_not_use_it_up(self) -> None:
        """What does not verify is not counted, nor is what only asks whether we are there."""
        with Tester(endpoints=[orders(rate=1)]) as tester:
            receiver = wsgi(tester.app)
            for _ in range(5):
                assert send(receiver, {"X-Sign": "wrong"}).status == 401
                assert send(receiver, {"X-Hello": "1"}).status == 200
            assert send(receiver).status == 200
            assert send(receiver).status == 429

    def test_it_is_counted_on_when_the_endpoint_is_read_again(self) -> None:
        """Only another rate begins anew."""
        with Tester(endpoints=[orders(rate=1, burst=10)]) as tester:
            receiver = wsgi(tester.app)
            assert [send(receiver).status for _ in range(11)] == [200] * 10 + [429]
            tester.app.endpoints.update(orders("new", rate=1, burst=10)).get()
            assert send(receiver, {"X-Sign": "new"}).status == 429
            tester.app.endpoints.update(orders(rate=1, burst=2)).get()
            assert [send(receiver).status for _ in range(3)] == [200, 200, 429]


class TestNamed:
    def test_the_event_names_the_callback(self) -> None:
        """The same event again is answered as well, adds nothing, and says so."""
        with Tester(endpoints=[orders()]) as tester:
            receiver = wsgi(tester.app)
            first = send(receiver, {"X-Sign": "old", "X-Id": "e-1"})
            again = send(receiver, {"X-Sign": "old", "X-Id": "e-1"})
            assert first.json == {"id": "e-1", "outcome": "queued"}
            assert (again.status, again.json) == (200, {"id": "e-1", "outcome": "duplicate"})
            [callback] = tester.received("orders")
            assert callback.id == "e-1"

    def test_without_a_name_each_delivery_is_one_of_its_own(self) -> None:
        with Tester(endpoints=[orders()]) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver).json["id"] != send(receiver).json["id"]
            assert len(tester.received("orders")) == 2

    def test_a_sender_that_asks_whether_we_are_there_is_told(self) -> None:
        """Nothing is stored then."""
        with Tester(endpoints=[orders()]) as tester:
            answer = send(wsgi(tester.app), {"X-Hello": "7"})
            assert (answer.status, answer.json) == (200, {"hello": 7})
            assert tester.received("orders") == []

    def test_a_header_that_shows_the_secret_is_not_stored(self) -> None:
        with Tester(endpoints=[orders()]) as tester:
            send(wsgi(tester.app), {"X-Sign": "old", "X-Other": "not the old one"})
            [callback] = tester.received("orders")
            assert callback.request.header("x-sign") == "**********"
            assert callback.request.header("x-other") == "not the old one"


class TestSecrets:
    def test_old_and_new_are_valid_while_they_overlap(self) -> None:
        with Tester(endpoints=[orders()]) as tester:
            receiver, app, now = wsgi(tester.app), tester.app, tester.clock.time_ns()
            rotated = orders().rotated(Secret("new"), now, now + 60 * 10**9)
            assert send(receiver).status == 200
            app.endpoints.update(rotated).get()
            assert send(receiver).status == send(receiver, {"X-Sign": "new"}).status == 200
            tester.advance(60.0)
            assert send(receiver).status == 401
            assert send(receiver, {"X-Sign": "new"}).status == 200

    def test_a_new_one_of_another_process_is_honoured_at_once(self) -> None:
        """And its old one is not, although it was read a moment ago: the backend knows."""
        backend = MemoryBackend()
        with Tester(endpoints=[orders()], backend=backend) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver).status == 200
            backend.execute(UpdateEndpoint(orders("new")))
            assert send(receiver).status == 401
            backend.execute(UpdateEndpoint(orders("newer")))
            assert send(receiver, {"X-Sign": "newer"}).status == 200
            assert len(tester.received("orders")) == 2

    def test_an_endpoint_that_another_process_deletes_is_not_found(self) -> None:
        backend = MemoryBackend()
        with Tester(endpoints=[orders()], backend=backend) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver).status == 200
            backend.execute(DeleteEndpoint("orders"))
            assert send(receiver).status == 404

    def test_phases_that_another_process_changes_lose_nothing(self) -> None:
        backend = MemoryBackend()
        with Tester(endpoints=[orders()], backend=backend) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver).status == 200
            backend.execute(UpdateEndpoint(orders().replace(phases=["new", "old"])))
            assert send(receiver).status == 200
            assert tester.received("orders")[1].phase == "new"

    def test_a_stricter_scheme_holds_at_once(self) -> None:
        with Tester(endpoints=[orders(scheme=Unsigned())]) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver, {}).status == 200
            tester.app.endpoints.update(orders()).get()
            assert send(receiver, {}).status == 401

    def test_what_changes_while_the_body_comes_holds(self) -> None:
        """A body may take its time; whether it is taken is decided when it is there."""

        class Body:
            def read(self, size: int) -> bytes:
                if tester.app.endpoints.find("orders").get().intake.enabled:  # type: ignore[union-attr]
                    tester.app.endpoints.update(orders(enabled=False)).get()
                    return b"{}"
                return b""

        with Tester(endpoints=[orders()]) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver, more={"wsgi.input": Body()}).status == 410
            assert tester.received("orders") == []

    def test_what_others_change_is_read_after_a_second(self) -> None:
        """Until then one reading serves all requests."""
        backend = MemoryBackend()
        with Tester(endpoints=[orders()], backend=backend) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver).status == 200
            backend.execute(UpdateEndpoint(orders(enabled=False)))
            assert send(receiver).status == 200
            tester.advance(1.0)
            assert send(receiver).status == 410


class TestAnswers:
    def test_a_backend_that_takes_too_long_is_503_and_the_retry_a_duplicate(self) -> None:
        """503 says that nobody knows; the same event again adds nothing if it was stored."""
        backend = FaultyBackend(MemoryBackend())
        with Tester(endpoints=[orders()], backend=backend) as tester:
            receiver = wsgi(tester.app, timeout=1.5)
            backend.delay(Push, seconds=3.0)
            headers = {"X-Sign": "old", "X-Id": "e-1"}
            answer = send(receiver, headers)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            again = send(receiver, headers)
            assert again.json == {"id": "e-1", "outcome": "duplicate"}
            assert len(tester.received("orders")) == 1

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_backend_that_fails_is_503(self, when: Any) -> None:
        """Whether or not it has stored it, the retry is answered 200 and it is there once."""
        backend = FaultyBackend(MemoryBackend())
        with Tester(endpoints=[orders()], backend=backend) as tester:
            receiver = wsgi(tester.app)
            headers = {"X-Sign": "old", "X-Id": "e-1"}
            backend.fail(Push, when=when)
            assert send(receiver, headers).status == 503
            assert send(receiver, headers).status == 200
            assert len(tester.received("orders")) == 1

    def test_an_endpoint_that_cannot_be_read_is_503(self) -> None:
        backend = FaultyBackend(MemoryBackend())
        with Tester(endpoints=[orders()], backend=backend) as tester:
            receiver = wsgi(tester.app)
            backend.fail(FindEndpoint)
            assert send(receiver).status == 503
            assert send(receiver).status == 200

    def test_a_full_endpoint_is_503(self) -> None:
        with Tester(endpoints=[orders().replace(capacity=1)]) as tester:
            receiver = wsgi(tester.app)
            assert send(receiver).status == 200
            answer = send(receiver)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert "full" in answer.json["error"]


class TestAccepted:
    def test_it_is_answered_before_it_is_stored(self) -> None:
        """``ack="accepted"``: who is told of what was received is told once it is."""
        backend = FaultyBackend(MemoryBackend())
        told: list[Outcome] = []
        with Tester(endpoints=[orders()], backend=backend) as tester:
            receiver = wsgi(
                tester.app, ack="accepted", on_received=lambda _, result: told.append(result[1])
            )
            backend.delay(Push, seconds=60.0)
            answer = send(receiver, {"X-Sign": "old", "X-Id": "e-1"})
            assert (answer.status, answer.json) == (200, {"id": "e-1", "outcome": "accepted"})
            assert told == []
            tester.advance(60.0)  # far beyond the time that a sender would wait
            assert told == [Outcome.QUEUED]

    def test_what_could_not_be_stored_is_logged(self) -> None:
        backend = FaultyBackend(MemoryBackend())
        with Tester(endpoints=[orders()], backend=backend) as tester, capture_logs() as logs:
            receiver = wsgi(tester.app, ack="accepted")
            backend.delay(Push, seconds=1.0)
            backend.fail(Push)
            assert send(receiver).json["outcome"] == "accepted"
            tester.advance(2.0)
            [lost] = [entry for entry in logs if entry["event"] == "receiver.lost"]
            assert lost["endpoint"] == "orders"

    def test_what_is_not_genuine_is_refused_all_the_same(self) -> None:
        with Tester(endpoints=[orders()]) as tester:
            assert send(wsgi(tester.app, ack="accepted"), {}).status == 401

    def test_another_word_is_refused(self) -> None:
        with Tester(endpoints=[orders()]) as tester, pytest.raises(InvalidValue, match="durable"):
            wsgi(tester.app, ack="maybe")  # type: ignore[arg-type]


def statuses(receiver: Any, *requests: dict[str, str]) -> list[int]:
    answers: list[Answered] = [send(receiver, headers) for headers in requests]
    return [answer.status for answer in answers]


def test_a_restart_of_the_application_is_noticed() -> None:
    """What was read before it, from a backend that has gone, says nothing any more."""
    with Tester(endpoints=[orders()]) as tester:
        receiver = wsgi(tester.app)
        assert statuses(receiver, {"X-Sign": "old"}) == [200]
        tester.app.stop()
        assert statuses(receiver, {"X-Sign": "old"}) == [503]
        tester.app.start()
        assert statuses(receiver, {"X-Sign": "old"}) == [200]


def test_endpoints_say_what_they_ask() -> None:
    """An endpoint that lacks something is refused where it is made."""
    for wrong in (
        {"scheme": "nobody"},
        {"scheme": 7},
        {"verify": "never"},
        {"enabled": 1},
        {"content_types": "application/json"},
        {"content_types": ["json"]},
        {"content_types": ["text/plain, x"]},
        {"rate": 0},
        {"rate": float("nan")},
        {"rate": True},
        {"burst": 0},
        {"burst": 1.5},
        {"order_by": 7},
        {"order_by": ""},
        {"order_by": "data/customer"},
        {"order_by": "/data/~2"},
        {"order_by": "/data/\0"},
        {"order_by": "header:"},
        {"order_by": "header:X Customer"},
        {"order_by": "/" + "x" * 200},
    ):
        with pytest.raises(InvalidValue, match=r"expected .*, got "):
            Intake(**wrong)
    with pytest.raises(InvalidValue, match=r"Endpoint\.id"):
        Endpoint.new(id="x" * 181, intake=Intake(verify="later"))
    assert Intake.from_fields(Intake().as_fields()) == Intake()
    with pytest.raises(InvalidValue, match="fields"):
        Intake.from_fields({"speed": 3})
