"""Timestamps: near enough to now, both ways, and nothing else than a number of seconds."""

from __future__ import annotations

import math

import pytest

from pollin_actors.errors import InvalidValue
from pollin_actors.secret import Secret
from pollin_actors.signatures import (
    Delivery,
    Hmac,
    Refused,
    Scheme,
    Slack,
    StandardWebhooks,
    Stripe,
    Verified,
)
from tests.signatures.vectors import STANDARD, refused

NOW = 1_700_000_000
SECRET = Secret(STANDARD.secret)
TIMED = Hmac(signed="{timestamp}.{body}", timestamp_header="X-Time")
SCHEMES: list[Scheme] = [StandardWebhooks(), Stripe(), Slack(), TIMED]
each = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)


def outcome(scheme: Scheme, now: float, signed_at: float = NOW) -> Verified | Refused:
    headers = scheme.sign(b"{}", SECRET, signed_at)
    pairs = [(name.encode(), value.encode()) for name, value in headers]
    return scheme.verify(Delivery(pairs, b"{}"), [SECRET], now)


@each
@pytest.mark.parametrize("away", [0, 299.9, 300])
def test_five_minutes_are_allowed_both_ways(scheme: Scheme, away: float) -> None:
    """The edge too."""
    assert isinstance(outcome(scheme, NOW + away), Verified)
    assert isinstance(outcome(scheme, NOW - away), Verified)


@each
@pytest.mark.parametrize(("away", "said"), [(300.001, "301 s"), (412, "412 s"), (1e9, "10000")])
def test_more_is_refused_both_ways(scheme: Scheme, away: float, said: str) -> None:
    """The reason says how far it is off, and which way."""
    late, early = refused(outcome(scheme, NOW + away)), refused(outcome(scheme, NOW - away))
    assert late.startswith(f"the timestamp is {said}")
    assert late.endswith(" s old, 300 are allowed")
    assert early.endswith(" s ahead, 300 are allowed")


@pytest.mark.parametrize("tolerance", [0, 0.5, 60, 86_400.0])
def test_the_tolerance_is_an_option(tolerance: float) -> None:
    """In seconds; with 0 only the second itself is right."""
    for scheme in (
        StandardWebhooks(tolerance=tolerance),
        Stripe(tolerance=tolerance),
        Slack(tolerance=tolerance),
        Hmac(signed="{timestamp}.{body}", timestamp_header="X-Time", tolerance=tolerance),
    ):
        for sign in (1, -1):
            assert isinstance(outcome(scheme, NOW + sign * tolerance), Verified)
            assert isinstance(outcome(scheme, NOW + sign * (tolerance + 0.01)), Refused)


@pytest.mark.parametrize("value", [-1, math.inf, math.nan, 31 * 86_400, "60", None, True, 10**400])
def test_a_tolerance_that_is_none_is_refused(value: object) -> None:
    """Without an end to it, a request could be sent again for ever."""
    for kind in (StandardWebhooks, Stripe, Slack, Hmac):
        with pytest.raises(InvalidValue, match="tolerance"):
            kind(tolerance=value)  # type: ignore[arg-type]


MALFORMED = [
    b"",
    b" ",
    b"-1",
    b"+1700000000",
    b" 1700000000",
    b"1700000000 ",
    b"1700000000.0",
    b"1_700_000_000",
    b"1.7e9",
    b"0x6553f100",
    b"inf",
    b"nan",
    b"\xff",
    b"1700000000\0",
    "\N{ARABIC-INDIC DIGIT ONE}".encode() * 5,
    "\N{FULLWIDTH DIGIT ONE}".encode() * 3,
    b"1" * 12,
    b"9" * 10_000,
    b"2023-11-14T22:13:20Z",
]


@each
@pytest.mark.parametrize("stamp", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_number_of_seconds_is_refused(scheme: Scheme, stamp: bytes) -> None:
    """Whatever Python would make of it."""
    headers = []
    for name, value in scheme.sign(b"{}", SECRET, NOW):
        old = b"%d" % NOW
        headers.append((name.encode(), value.encode().replace(old, stamp)))
    reason = refused(scheme.verify(Delivery(headers, b"{}"), [SECRET], NOW))
    assert "timestamp" in reason or "too long" in reason


@each
@pytest.mark.parametrize("now", [math.nan, math.inf, -math.inf])
def test_a_clock_that_says_nothing_lets_nothing_in(scheme: Scheme, now: float) -> None:
    """Nothing is near a time that is no number."""
    refused(outcome(scheme, now))
