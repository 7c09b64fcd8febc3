"""Resources are checked when made, and hide what must not be shown."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import uuid
from typing import Any

import pytest

from pollin_actors.errors import InvalidValue
from pollin_actors.resources import Callback, Endpoint, Outcome, Page, PushResult, Request, Secret


class TestSecret:
    def test_is_hidden_everywhere(self) -> None:
        secret = Secret("hunter2")
        shown = [repr(secret), str(secret), f"{secret}", f"{secret:>20}", f"{[secret]}"]
        shown.append(f"{dataclasses.asdict(Endpoint.new(secret=secret))}")

        assert repr(secret) == "Secret('**********')"
        assert str(secret) == "**********"
        assert not any("hunter2" in text for text in shown)

    def test_is_no_text_to_serialisers(self) -> None:
        assert not isinstance(Secret("a"), str)
        assert not dataclasses.is_dataclass(Secret)
        with pytest.raises(TypeError):
            json.dumps(Secret("a"))
        with pytest.raises(TypeError):
            vars(Secret("a"))

    def test_is_revealed_on_request(self) -> None:
        assert Secret("hunter2 ä").reveal() == "hunter2 ä"
        assert Secret("hunter2 ä").encode() == "hunter2 ä".encode()

    @pytest.mark.parametrize("candidate", ["hünter", "hünter".encode(), Secret("hünter")])
    def test_matches(self, candidate: str | bytes | Secret) -> None:
        assert Secret("hünter").matches(candidate)

    @pytest.mark.parametrize(
        "candidate",
        ["", "x", b"", b"\xff", None, "\ud800", "\x00", Secret("other"), 5, ["hunter2"]],
    )
    def test_does_not_match(self, candidate: Any) -> None:
        assert not Secret("hunter2").matches(candidate)

    def test_compares(self) -> None:
        assert Secret("a") == Secret("a")
        assert Secret("a") == "a"
        assert Secret("a") != "b"
        assert Secret("a") != Secret("b")
        assert Secret("a") != b"a"
        assert hash(Secret("a")) == hash(Secret("a"))

    def test_is_generated_url_safe(self) -> None:
        first, second = Secret.generate(), Secret.generate()

        assert first != second
        assert len(first.reveal()) == 43
        assert first.reveal().replace("-", "").replace("_", "").isalnum()

    @pytest.mark.parametrize("value", ["", b"hunter2", None, 5, "hunter2\ud800"])
    def test_refuses(self, value: Any) -> None:
        with pytest.raises(InvalidValue) as caught:
            Secret(value)

        assert "hunter2" not in str(caught.value)
        assert caught.value.__context__ is None

    def test_cannot_be_changed(self) -> None:
        secret = Secret("a")
        with pytest.raises(AttributeError):
            secret.other = 1
        with pytest.raises(AttributeError):
            del secret._text

    def test_can_be_copied_and_pickled(self) -> None:
        secret = Secret("hunter2")

        assert copy.copy(secret) == copy.deepcopy(secret) == secret
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(secret, protocol)) == secret


class TestRequest:
    def test_reads_bytes_without_loss(self) -> None:
        every_byte = bytes(range(256))
        request = Request([(b"x-a", every_byte), ("x-b", "2")], bytearray(b"body"))

        assert request.headers == (("x-a", every_byte.decode("latin-1")), ("x-b", "2"))
        assert request.headers[0][1].encode("latin-1") == every_byte
        assert request.body == b"body"
        assert type(request.body) is bytes

    def test_keeps_order_and_repeats(self) -> None:
        request = Request(iter([("B", "1"), ("a", "2"), ("b", "3")]), b"")

        assert request.headers == (("B", "1"), ("a", "2"), ("b", "3"))
        assert request.header("b") == "1"
        assert request.header("B") == "1"
        assert request.header_values("b") == ["1", "3"]
        assert request.header("c") is None
        assert request.header("c", "none") == "none"
        assert request.header_values("c") == []

    def test_reads_mappings(self) -> None:
        assert Request({"a": "1"}).headers == (("a", "1"),)
        assert Request({b"a": b"1"}).headers == (("a", "1"),)
        assert Request().headers == ()

    def test_size(self) -> None:
        assert Request([("ab", "cde"), (b"f", b"\xff")], b"1234").size == 11
        assert Request().size == 0

    @pytest.mark.parametrize(
        "body", [bytearray(b"ab"), memoryview(b"ab"), memoryview(b"aXbX")[::2]]
    )
    def test_reads_what_holds_bytes(self, body: bytearray | memoryview) -> None:
        assert Request((), body).body == b"ab"

    def test_refuses_a_text_as_body(self) -> None:
        with pytest.raises(InvalidValue, match=r"Request\.body: expected bytes, got a str; encode"):
            Request((), "text")  # type: ignore[arg-type]

    @pytest.mark.parametrize("body", [None, 5, [1, 2], {"a": 1}])
    def test_refuses_other_bodies(self, body: Any) -> None:
        with pytest.raises(InvalidValue, match=r"Request\.body"):
            Request((), body)

    @pytest.mark.parametrize(
        "headers",
        ["ab", b"ab", None, 5, ["ab"], [("a",)], [("a", 1)], [(1, "a")], [("a", "b", "c")]],
    )
    def test_refuses_what_is_no_header(self, headers: Any) -> None:
        with pytest.raises(InvalidValue, match=r"Request\.headers"):
            Request(headers, b"")

    def test_shows_neither_headers_nor_body(self) -> None:
        request = Request([("authorization", "hunter2")], b"hunter2")

        assert repr(request) == "<Request: 1 headers, body of 7 bytes>"

    def test_is_a_value(self) -> None:
        request = Request([("a", "1")], b"x")

        assert request == Request({"a": "1"}, bytearray(b"x"))
        assert hash(request) == hash(Request({"a": "1"}, b"x"))
        assert pickle.loads(pickle.dumps(request)) == request
        assert copy.deepcopy(request) == request
        assert dataclasses.replace(request, body=b"y") == Request({"a": "1"}, b"y")
        with pytest.raises(dataclasses.FrozenInstanceError):
            request.body = b""  # type: ignore[misc]


class TestEndpoint:
    def test_new_fills_in(self) -> None:
        endpoint = Endpoint.new()

        assert uuid.UUID(endpoint.id).version == 7
        assert len(endpoint.secret.reveal()) == 43
        assert endpoint.phases == ("received",)
        assert endpoint.ttl == 900_000
        assert endpoint.dedup_for == 259_200.0
        assert endpoint.keep_for == 86_400.0
        assert endpoint.consumes == ()
        assert endpoint.capacity is None
        assert endpoint.capacity_bytes is None
        assert endpoint.created_at > 1_600_000_000 * 10**9

    def test_new_takes_all(self) -> None:
        endpoint = Endpoint.new(["a", "b"], 0, id="orders", secret="s", dedup_for=5)

        assert endpoint.id == "orders"
        assert endpoint.secret == "s"
        assert isinstance(endpoint.secret, Secret)
        assert endpoint.phases == ("a", "b")
        assert endpoint.ttl == 0
        assert isinstance(endpoint.dedup_for, float)
        assert Endpoint.new(secret=endpoint.secret).secret is endpoint.secret

    def test_new_takes_what_is_kept_consumed_and_held(self) -> None:
        endpoint = Endpoint.new(
            ["a", "b"], keep_for=5, consumes=["b"], capacity=0, capacity_bytes=7
        )

        assert (endpoint.keep_for, type(endpoint.keep_for)) == (5.0, float)
        assert endpoint.consumes == ("b",)
        assert (endpoint.capacity, endpoint.capacity_bytes) == (0, 7)
        assert pickle.loads(pickle.dumps(endpoint)) == endpoint

    @pytest.mark.parametrize("id", ["a", "orders", "ä-1_2.3~", "...", "x" * 200, "Healthz", "a%20"])
    def test_accepts_ids(self, id: str) -> None:
        assert Endpoint.new(id=id).id == id

    @pytest.mark.parametrize(
        "id",
        [
            "",
            "x" * 201,
            "a/b",
            "a?",
            "a#",
            "a b",
            " a",
            "a\u00a0b",
            "a\n",
            "a\x00",
            "a\ud800",
            ".",
            "..",
            "healthz",
            "readyz",
            5,
            b"a",
        ],
    )
    def test_refuses_ids(self, id: Any) -> None:
        with pytest.raises(InvalidValue, match=r"^Endpoint\.id: expected .*, got ") as caught:
            Endpoint.new(id=id)

        assert str(caught.value).isprintable()

    @pytest.mark.parametrize(
        "phases", [[], "received", None, 5, [""], ["a", "a"], ["x" * 101], [1]]
    )
    def test_refuses_phases(self, phases: Any) -> None:
        with pytest.raises(InvalidValue, match=r"^Endpoint\.phases: expected .*, got "):
            Endpoint.new(phases)

    @pytest.mark.parametrize("ttl", [-1, True, 1.0, "1", None, 10**13])
    def test_refuses_ttls(self, ttl: Any) -> None:
        with pytest.raises(InvalidValue, match=r"^Endpoint\.ttl: expected .*, got "):
            Endpoint.new(ttl=ttl)

    @pytest.mark.parametrize("seconds", [-1, True, float("nan"), float("inf"), "1", None, 1e300])
    def test_refuses_dedup_for(self, seconds: Any) -> None:
        with pytest.raises(InvalidValue, match=r"^Endpoint\.dedup_for: expected .*, got "):
            Endpoint.new(dedup_for=seconds)

    @pytest.mark.parametrize("seconds", [-1, True, float("nan"), float("inf"), "1", None, 1e300])
    def test_refuses_keep_for(self, seconds: Any) -> None:
        with pytest.raises(InvalidValue, match=r"^Endpoint\.keep_for: expected .*, got "):
            Endpoint.new(keep_for=seconds)

    @pytest.mark.parametrize("consumes", ["a", b"a", 5, ["c"], ["a", "c"], [None], [["a"]], True])
    def test_refuses_consumes(self, consumes: Any) -> None:
        with pytest.raises(InvalidValue, match=r"^Endpoint\.consumes: expected .*, got "):
            Endpoint.new(["a", "b"]).replace(consumes=consumes)

    @pytest.mark.parametrize("name", ["capacity", "capacity_bytes"])
    @pytest.mark.parametrize("value", [-1, True, 1.0, "1"])
    def test_refuses_capacities(self, name: str, value: Any) -> None:
        with pytest.raises(InvalidValue, match=rf"^Endpoint\.{name}: expected .*, got "):
            Endpoint.new().replace(**{name: value})

    def test_what_is_consumed_is_in_the_order_of_the_phases(self) -> None:
        endpoint = Endpoint.new(["a", "b", "c"], consumes=iter(["c", "a", "c"]))

        assert endpoint.consumes == ("a", "c")
        assert endpoint.replace(consumes=()).consumes == ()
        assert endpoint.replace(phases=["c", "a"]).consumes == ("c", "a")
        with pytest.raises(InvalidValue, match=r"^Endpoint\.consumes: expected .*'b'.*, got 'c'"):
            endpoint.replace(phases=["a", "b"])

    @pytest.mark.parametrize("secret", ["", b"hunter2", 5, "hunter2\ud800"])
    def test_refuses_secrets_without_showing_them(self, secret: Any) -> None:
        with pytest.raises(InvalidValue, match=r"^Endpoint\.secret: expected .*, got ") as caught:
            Endpoint.new(secret=secret)

        assert "hunter2" not in str(caught.value)

    def test_is_checked_when_made_directly(self) -> None:
        with pytest.raises(InvalidValue, match=r"Endpoint\.created_at"):
            Endpoint("a", Secret("s"), ("p",), 0, -1)

    def test_replace_checks(self) -> None:
        endpoint = Endpoint.new(id="orders")

        assert endpoint.replace(ttl=5).ttl == 5
        assert endpoint.replace(ttl=5).secret == endpoint.secret
        assert endpoint.replace(phases=["x"]).phases == ("x",)
        with pytest.raises(InvalidValue, match=r"Endpoint\.ttl"):
            endpoint.replace(ttl=-5)

    def test_hides_its_secret(self) -> None:
        assert "hunter2" not in repr(Endpoint.new(secret="hunter2"))

    def test_is_a_value(self) -> None:
        endpoint = Endpoint.new()

        assert {endpoint: 1}[copy.deepcopy(endpoint)] == 1
        assert pickle.loads(pickle.dumps(endpoint)) == endpoint


class TestCallback:
    def test_new_fills_in(self) -> None:
        callback = Callback.new({"any": "value"})

        assert uuid.UUID(callback.id).version == 7
        assert callback.request == {"any": "value"}
        assert callback.phase == ""
        assert callback.created_at > 1_600_000_000 * 10**9

    def test_new_takes_all(self) -> None:
        callback = Callback.new(b"x", id="c1", phase="received")

        assert (callback.id, callback.request, callback.phase) == ("c1", b"x", "received")

    @pytest.mark.parametrize("id", ["", "x" * 501, 5, b"a", "a\x00", "a\ud800"])
    def test_refuses_ids(self, id: Any) -> None:
        with pytest.raises(InvalidValue, match=r"^Callback\.id: expected .*, got "):
            Callback.new(b"", id=id)

    @pytest.mark.parametrize("id", ["x" * 500, "a b\n", "ä", "\U0001f600", "a\u00a0b"])
    def test_accepts_ids(self, id: str) -> None:
        assert Callback.new(b"", id=id).id == id

    @pytest.mark.parametrize("phase", [None, 5, "x" * 101])
    def test_refuses_phases(self, phase: Any) -> None:
        with pytest.raises(InvalidValue, match=r"^Callback\.phase: expected .*, got "):
            Callback.new(b"", phase=phase)

    @pytest.mark.parametrize(
        ("request_", "size"),
        [(Request({"a": "b"}, b"cd"), 4), (b"abc", 3), ("aé", 3), ("ab", 2), (None, 0), ([1], 0)],
    )
    def test_size(self, request_: Any, size: int) -> None:
        assert Callback.new(request_).size == size

    def test_with_phase_changes_nothing_else(self) -> None:
        callback = Callback.new(b"x", phase="a")

        assert callback.with_phase("b") == dataclasses.replace(callback, phase="b")
        assert callback.phase == "a"

    @pytest.mark.parametrize(
        "request_", [Request({"a": "hunter2"}, b"hunter2"), b"hunter2", "hunter2", ["hunter2"]]
    )
    def test_does_not_show_its_request(self, request_: Any) -> None:
        callback = Callback.new(request_, id="c1", phase="a")

        assert "hunter2" not in repr(callback)
        assert "id='c1'" in repr(callback)

    def test_new_takes_what_few_have(self) -> None:
        callback = Callback.new(b"x", parent="p", ordering_key="k", not_before=5)

        assert (callback.parent, callback.ordering_key, callback.not_before) == ("p", "k", 5)
        assert (callback.root, callback.origin, callback.attempts) == (None, None, 0)

    @pytest.mark.parametrize(
        ("name", "limit"), [("parent", 500), ("root", 500), ("origin", 701), ("ordering_key", 500)]
    )
    def test_checks_texts_that_few_have(self, name: str, limit: int) -> None:
        callback = Callback.new(b"")
        assert getattr(callback.replace(**{name: "x" * limit}), name) == "x" * limit
        odd: list[Any] = ["", "x" * (limit + 1), 5, b"a", "a\x00", "\ud800"]
        for value in odd:
            with pytest.raises(InvalidValue, match=rf"^Callback\.{name}: expected .*, got "):
                callback.replace(**{name: value})

    @pytest.mark.parametrize("value", [-1, True, 1.0, "1", 1 << 63])
    def test_refuses_not_before(self, value: Any) -> None:
        with pytest.raises(InvalidValue, match=r"^Callback\.not_before: expected .*, got "):
            Callback.new(b"", not_before=value)
        assert Callback.new(b"", not_before=(1 << 63) - 1).not_before == (1 << 63) - 1

    @pytest.mark.parametrize("value", [-1, True, 1.5, "1"])
    def test_refuses_attempts(self, value: Any) -> None:
        with pytest.raises(InvalidValue, match=r"^Callback\.attempts: expected .*, got "):
            Callback.new(b"").replace(attempts=value)

    def test_copies_change_one_thing(self) -> None:
        full = Callback("c", b"x", "a", 5, "p", "r", "o", "k", 7, 3)

        assert full.with_phase("b") == full.replace(phase="b")
        assert full.with_phase("b").attempts == 0
        assert full.with_attempts(4) == full
        assert full.with_attempts(4).attempts == 4
        assert full.with_root("s") == full.replace(root="s")
        assert full.with_root(None).root is None
        assert full.with_root("s").attempts == 3

    def test_attempts_do_not_count_for_equality(self) -> None:
        callback = Callback.new(b"x")

        assert callback.with_attempts(2) == callback
        assert hash(callback.with_attempts(2)) == hash(callback)
        for name in ("parent", "root", "origin", "ordering_key"):
            assert callback.replace(**{name: "x"}) != callback

    @pytest.mark.parametrize(
        "fields",
        [{"parent": "p"}, {"root": "r"}, {"origin": "o"}, {"ordering_key": "k"}, {"not_before": 0}],
    )
    def test_is_plain_without_what_few_have(self, fields: dict[str, Any]) -> None:
        callback = Callback.new(b"x", phase="a")

        assert callback.is_plain
        assert callback.with_attempts(2).is_plain
        assert not callback.replace(**fields).is_plain

    def test_shows_what_few_have_where_it_is_there(self) -> None:
        plain = Callback("c", b"x", "a", 5)
        full = Callback("c", b"x", "a", 5, "p", "r", "o", "k", 7, 3)

        shown = "Callback(id='c', request=<bytes>, phase='a', created_at=5"
        assert repr(plain) == f"{shown})"
        more = "parent='p', root='r', origin='o', ordering_key='k', not_before=7, attempts=3"
        assert repr(full) == f"{shown}, {more})"

    def test_can_be_pickled_with_all_it_has(self) -> None:
        full = Callback("c", b"x", "a", 5, "p", "r", "o", "k", 7, 3)
        for other in (pickle.loads(pickle.dumps(full)), copy.deepcopy(full)):
            assert other == full
            assert other.attempts == 3

    def test_can_be_pickled(self) -> None:
        callback = Callback.new(Request({"a": "b"}, b"c"))

        assert pickle.loads(pickle.dumps(callback)) == callback


def test_replies_are_tuples() -> None:
    callback = Callback.new(b"x")
    stored, outcome = PushResult(callback, Outcome.QUEUED)
    callbacks, cursor = Page([callback], None)

    assert (stored, outcome) == (callback, "queued")
    assert (callbacks, cursor) == ([callback], None)
    assert [str(value) for value in Outcome] == ["queued", "duplicate"]
