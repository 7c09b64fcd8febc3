"""Standard Webhooks: we and the reference library accept and refuse the same."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterator
from typing import Any

import pytest
import standardwebhooks.webhooks as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from pollin_actors.secret import Secret
from pollin_actors.signatures import Delivery, StandardWebhooks, Verified

NOW = 1_700_000_000
SCHEME = StandardWebhooks()

ids = st.text("abcXYZ0189_-", min_size=1, max_size=40)
keys = st.binary(min_size=24, max_size=64)
texts = st.text(max_size=200)


class Stopped(datetime.datetime):
    """A calendar whose present is always the same."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.datetime.fromtimestamp(NOW, tz)


@pytest.fixture(autouse=True, scope="module")
def stopped() -> Iterator[None]:
    """The library looks at no other clock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "datetime", Stopped)
        yield


def secret_of(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


def they_accept(secret: str, headers: dict[str, str], body: str) -> bool:
    try:
        reference.Webhook(secret).verify(body, headers, json_parse=False)
    except reference.WebhookVerificationError:
        return False
    return True


def we_accept(secret: str, headers: dict[str, str], body: str) -> bool:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    outcome = SCHEME.verify(Delivery(pairs, body.encode()), [Secret(secret)], NOW)
    return isinstance(outcome, Verified)


@settings(deadline=None)
@given(keys, ids, texts)
def test_what_they_sign_we_sign_the_same(key: bytes, id: str, body: str) -> None:
    """The signature is the same text."""
    secret = secret_of(key)
    at = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    theirs = reference.Webhook(secret).sign(id, at, body)
    ours = dict(SCHEME.sign(body.encode(), Secret(secret), NOW, id=id))
    assert ours["webhook-signature"] == theirs


@settings(deadline=None)
@given(keys, keys, ids, texts, st.integers(-400, 400), st.booleans())
def test_what_they_accept_we_accept_and_nothing_else(
    key: bytes, other: bytes, id: str, body: str, away: int, mine: bool
) -> None:
    """With the right secret and another, in time and not."""
    known = secret_of(key)
    signer = Secret(known if mine else secret_of(other))
    headers = dict(SCHEME.sign(body.encode(), signer, NOW + away, id=id))
    wanted = (mine or key == other) and abs(away) <= 300
    assert they_accept(known, headers, body) == wanted
    assert we_accept(known, headers, body) == wanted


@settings(deadline=None)
@given(keys, ids, texts, texts)
def test_neither_accepts_another_body(key: bytes, id: str, body: str, other: str) -> None:
    """It is signed by its bytes."""
    secret = secret_of(key)
    headers = dict(SCHEME.sign(body.encode(), Secret(secret), NOW, id=id))
    assert they_accept(secret, headers, other) == we_accept(secret, headers, other)
    assert we_accept(secret, headers, other) == (body == other)
