"""What orders the callbacks of requests."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollin_actors import Intake
from pollin_actors.resources import MAX_ORDERING_KEY, Callback
from pollin_actors.signatures import Delivery
from pollin_actors.testing import Tester
from pollin_actors.web import wsgi
from pollin_actors.web.ordering import ordering_key
from tests.web.receiving import orders, send

BODY = {"data": {"customer": "c-1", "number": 7, "yes": True, "a/b": "slash", "m~n": "tilde"}}
NESTED = {"items": [{"id": "first"}, {"id": "second"}], "": {"": "empty names"}}


def key_of(order_by: str, body: Any = BODY, *headers: tuple[bytes, bytes]) -> str | None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ordering_key(Intake(order_by=order_by), Delivery(headers, raw))


@pytest.mark.parametrize(
    ("pointer", "body", "key"),
    [
        ("/data/customer", BODY, "c-1"),
        ("/data/number", BODY, "7"),
        ("/data/a~1b", BODY, "slash"),
        ("/data/m~0n", BODY, "tilde"),
        ("/items/1/id", NESTED, "second"),
        ("//", NESTED, "empty names"),
        ("/data/yes", BODY, None),
        ("/data", BODY, None),
        ("/data/customer/0", BODY, None),
        ("/missing", BODY, None),
        ("/items/01/id", NESTED, None),
        ("/items/-1/id", NESTED, None),
        ("/items/2/id", NESTED, None),
        ("/a", {"a": 1.5}, None),
        ("/a", {"a": ""}, None),
        ("/a", b"no JSON", None),
        ("/a", b"[" * 100_000, None),
        ("/a", b'{"a": ' + b"9" * 10_000 + b"}", None),
        ("/a", b"\xff", None),
    ],
)
def test_a_pointer_leads_into_the_body(pointer: str, body: Any, key: str | None) -> None:
    """To a text or a whole number, as RFC 6901 has it; whatever else there is orders nothing."""
    assert key_of(pointer, body) == key


def test_a_header_is_found_in_any_case() -> None:
    """One that is repeated counts as HTTP has it: as a list."""
    assert key_of("header:X-Shop", b"", (b"x-shop", b"one")) == "one"
    assert key_of("header:x-shop", b"", (b"X-Shop", b"one"), (b"X-SHOP", b"two")) == "one, two"
    assert key_of("header:X-Shop", b"", (b"x-shopper", b"one")) is None


def test_what_cannot_be_a_key_is_one_by_its_digest() -> None:
    """Too long, or not printable: equal ones stay equal, and others differ."""
    for text in ("x" * (MAX_ORDERING_KEY + 1), "nul\0", "lone \ud800"):
        digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        assert key_of("/a", json.dumps({"a": text}).encode()) == digest


@given(st.binary(max_size=200), st.sampled_from(["/", "/a", "/a/0", "header:a"]))
def test_no_request_is_an_error(raw: bytes, order_by: str) -> None:
    """Whatever came, there is a key that a callback can have, or none."""
    key = key_of(order_by, raw, (b"a", raw))
    assert Callback.new(b"", ordering_key=key).ordering_key == key


@pytest.mark.parametrize("verify", ["first", "later"])
def test_events_of_one_customer_are_handled_in_order(verify: str) -> None:
    """The second waits until the first is done; another customer's does not."""
    endpoint = orders(order_by="/customer", verify=verify)
    with Tester(endpoints=[endpoint]) as tester:
        receiver = wsgi(tester.app)
        for body in (b'{"customer": 1}', b'{"customer": 1, "n": 2}', b'{"customer": 2}', b"{}"):
            assert send(receiver, body=body).status == 200
            tester.settle()
        keys = [callback.ordering_key for callback in tester.received("orders")]
        assert keys == ["1", "1", "2", None]
        claims = tester.app.callbacks.claim("orders", limit=10).get()
        assert [claim.callback.ordering_key for claim in claims] == ["1", "2", None]
        tester.app.callbacks.ack(claims[0]).get()
        [second] = tester.app.callbacks.claim("orders", limit=10).get()
        assert second.callback.request.body == b'{"customer": 1, "n": 2}'
