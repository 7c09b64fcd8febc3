"""Requests as they are stored until they are verified: nobody finds a secret in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollin_actors import Endpoint, Intake, Secret
from pollin_actors.signatures import Delivery, GitHub, Refused, Scheme, SharedSecret
from pollin_actors.testing import Tester
from pollin_actors.web import quarantine_of, quarantined, verify_again, wsgi
from pollin_actors.web.waiting import packed, unpacked
from tests.web.receiving import send

RIGHT = "the-right-one"
PLACE = quarantine_of("orders")

HEADERS = [("X-Pollin-Secret", ""), ("Authorization", "Bearer "), ("Authorization", "bearer   ")]


def orders(secret: str, scheme: Scheme | str = "secret") -> Endpoint:
    intake = Intake(scheme, verify="later")
    return Endpoint.new(["received"], 0, id="orders", secret=secret, intake=intake)


@pytest.mark.parametrize(("name", "lead"), HEADERS)
@pytest.mark.parametrize("configured", [RIGHT, "the-wrong-one"])
def test_a_secret_that_is_shown_is_not_stored(name: str, lead: str, configured: str) -> None:
    """Neither while it waits nor afterwards, whether or not it is one: after a mistake it is.
    That it was the right one is found out all the same."""
    with Tester(endpoints=[orders(configured)]) as tester:
        app, receiver = tester.app, wsgi(tester.app)
        assert send(receiver, {name: lead + RIGHT, "X-Tag": "a"}, b"body").status == 200
        [waiting] = app.callbacks.fetch(PLACE, limit=10).get()
        assert RIGHT not in str(waiting.request.headers)
        assert waiting.request.header("x-tag") == "a"
        tester.drain()
        if configured != RIGHT:
            [held] = quarantined(app, "orders")
            assert RIGHT not in str(held.callback.request.headers)
            app.endpoints.rotate("orders", secret=RIGHT, overlap=0).get()
            assert verify_again(app, "orders") == 1
            tester.drain()
        [callback] = tester.received("orders")
        assert callback.request.header(name) == "**********"
        assert callback.request.header(":shown") is None
        assert callback.request.body == b"body"


def test_a_scheme_that_was_the_mistake_can_be_mended_too() -> None:
    """What looked like a secret stays hidden, also where it is not asked for any more."""
    with Tester(endpoints=[orders(RIGHT)]) as tester:
        app, receiver = tester.app, wsgi(tester.app)
        headers = {"X-Pollin-Secret": "something", "X-Gitlab-Token": RIGHT}
        assert send(receiver, headers).status == 200
        tester.drain()
        app.endpoints.update(orders(RIGHT, "secret?header=X-Gitlab-Token")).get()
        assert verify_again(app, "orders") == 1
        tester.drain()
        [callback] = tester.received("orders")
        assert callback.request.header("x-pollin-secret") == "**********"
        assert callback.request.header("x-gitlab-token") == "**********"


def test_what_stands_for_a_secret_is_none() -> None:
    """Not even where the secret is that very text."""
    with Tester(endpoints=[orders("**********")]) as tester:
        receiver = wsgi(tester.app)
        send(receiver, {"X-Pollin-Secret": "wrong"})
        send(receiver, {"X-Pollin-Secret": "**********"})
        tester.drain()
        assert len(tester.received("orders")) == 1
        assert len(quarantined(tester.app, "orders")) == 1


def test_nobody_else_can_say_what_was_shown() -> None:
    """Headers by the names of ours are headers like any other."""
    secret = Secret(RIGHT)
    forged = [(b":shown", b"salt 0:1"), (b":query", b"a"), (b"x-pollin-secret", b"wrong")]
    waiting = unpacked(packed(Delivery(forged, b"", b"real"), SharedSecret()))
    assert (waiting.query, waiting.salt != b"salt") == (b"real", True)
    assert waiting.headers[:2] == forged[:2]
    again = unpacked(packed(Delivery(forged[:2], b""), GitHub()))
    assert (again.headers, again.shown) == (forged[:2], {})
    outcome = SharedSecret().verify(waiting.delivery([secret]), [secret], 0.0)
    assert isinstance(outcome, Refused)


def test_two_requests_do_not_tell_whether_they_showed_the_same() -> None:
    delivery = Delivery([(b"x-pollin-secret", b"one")], b"")
    assert packed(delivery, SharedSecret()) != packed(delivery, SharedSecret())


names = st.sampled_from([b"authorization", b"X-Pollin-Secret", b"x-tag", b":shown", b":query"])
values = st.binary(max_size=12) | st.sampled_from([b"Bearer right", b"right ", b"bearer  right"])


@given(
    headers=st.lists(st.tuples(names, values), max_size=5),
    body=st.binary(max_size=5),
    query=st.binary(max_size=5),
)
def test_it_verifies_as_it_did_when_it_came(
    headers: list[tuple[bytes, bytes]], body: bytes, query: bytes
) -> None:
    """Whatever came: with the right secret among those that are valid, or without."""
    delivery, scheme = Delivery(headers, body, query), SharedSecret()
    waiting = unpacked(packed(delivery, scheme))
    assert (waiting.body, waiting.query, len(waiting.headers)) == (body, query, len(headers))
    for secrets in ([Secret("right")], [Secret("other"), Secret("right")], [Secret("other")]):
        came = scheme.verify(delivery, secrets, 0.0)
        assert scheme.verify(waiting.delivery(secrets), secrets, 0.0) == came


def test_anything_else_that_waits_verifies_nowhere() -> None:
    """Somebody has pushed it there by hand."""
    waiting = unpacked("no request")
    assert isinstance(waiting.delivery([Secret("a")]), Delivery)
    assert not waiting.headers
