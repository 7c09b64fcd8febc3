"""Schemes as one line of text, and options that cannot be."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pollin_actors.errors import InvalidValue
from pollin_actors.intake import Intake
from pollin_actors.secret import Secret
from pollin_actors.signatures import (
    SCHEME_PATTERN,
    Delivery,
    GitHub,
    Hmac,
    Scheme,
    SharedSecret,
    Shopify,
    Slack,
    StandardWebhooks,
    Stripe,
    Twilio,
    Unsigned,
    parse_scheme,
)
from pollin_actors.web import signatures
from tests.signatures.vectors import PUBLIC_KEY, VECTORS, accepted

tolerances = st.floats(0, 30 * 86_400.0)
header_names = st.text("abcXYZ-_0189!#$%&'*+.^`|~", min_size=1, max_size=30)
lines = st.text([chr(code) for code in range(32, 127)], max_size=40)
literals = st.text(
    [chr(code) for code in range(32, 127) if chr(code) not in "{}@"], min_size=1, max_size=5
)


@st.composite
def hmacs(draw: st.DrawFn) -> Hmac:
    """Any that is signed with, with the places in any order."""
    places = draw(
        st.sampled_from(["{body}", "{timestamp}{body}", "{body}{id}", "{id}{timestamp}{body}"])
    )
    signed = ""
    for place in draw(st.permutations(places.replace("}", "} ").split())):
        signed += draw(literals.filter(lambda it: not it[0].isdigit() and not it[-1].isdigit()))
        signed += place
    signed += draw(st.just("") | literals.filter(lambda it: not it[0].isdigit()))
    header, time_header, id_header = draw(
        st.lists(header_names, min_size=3, max_size=3, unique_by=str.lower)
    )
    return Hmac(
        header=header,
        algorithm=draw(st.sampled_from(["sha1", "sha256", "sha512"])),
        encoding=draw(st.sampled_from(["hex", "base64", "base64url"])),
        prefix=draw(lines),
        signed=signed,
        timestamp_header=time_header if "{timestamp}" in signed else "",
        id_header=id_header if "{id}" in signed or draw(st.booleans()) else "",
        tolerance=draw(tolerances),
    )


urls = st.builds(
    "{}://{}{}/{}{}".format,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["a.example", "A.example", "127.0.0.1", "[::1]"]),
    st.sampled_from(["", ":80", ":443", ":8443"]),
    st.text("abc%20/-_.~+=&;:@!", max_size=20),
    st.just("") | st.text("abc%20/-_.~+=&;:@!?", min_size=1, max_size=20).map("?{}".format),
)
schemes: st.SearchStrategy[Scheme] = st.one_of(
    st.sampled_from([GitHub(), Shopify(), Unsigned(), SharedSecret()]),
    st.builds(StandardWebhooks, st.just(()) | st.just((PUBLIC_KEY,) * 2), tolerances),
    st.builds(Stripe, tolerances),
    st.builds(Slack, tolerances),
    st.builds(Twilio, urls),
    st.builds(SharedSecret, header_names),
    hmacs(),
)


@settings(deadline=None)
@given(schemes)
def test_a_scheme_is_read_back_from_its_text(scheme: Scheme) -> None:
    """Equal, with all its options, out of one printable line; also by way of an Intake."""
    text = scheme.text()
    assert parse_scheme(text) == scheme
    assert re.search(SCHEME_PATTERN, text)
    assert text.isprintable()
    assert parse_scheme(text).text() == text
    assert Intake.from_fields(Intake(scheme=scheme).as_fields()).scheme == scheme


@settings(deadline=None)
@given(schemes, st.sampled_from([b"", b"a=1&b=2", b"a=%00&b="]), st.floats(0, 9e9), st.booleans())
def test_what_is_signed_verifies(scheme: Scheme, body: bytes, now: float, named: bool) -> None:
    """Whatever the options are: until the tolerance is over, and with the same key each time."""
    now, secret = float(int(now)), scheme.generate_secret()
    # An id that we make may have what separates in it; "@" is no separator here.
    with_id = isinstance(scheme, Hmac) and "{id}" in scheme.signed
    query = scheme.url.partition("?")[2].encode() if isinstance(scheme, Twilio) else b"q=1"
    made = scheme.sign(body, secret, now, id="@" if named or with_id else None, query=query)
    delivery = Delivery([(n.encode(), v.encode()) for n, v in made], body, query)
    first = accepted(scheme.verify(delivery, [secret], now))
    assert first == scheme.verify(delivery, [Secret("whsec_other"), secret], now)


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("github", GitHub()),
        ("none", Unsigned()),
        ("secret", SharedSecret()),
        ("secret?header=X-Gitlab-Token", SharedSecret("X-Gitlab-Token")),
        ("slack?tolerance=60", Slack(tolerance=60)),
        ("slack?tolerance=300.0", Slack()),
        ("slack?", Slack()),
        (
            "hmac?signed=%7Btimestamp%7D.%7Bbody%7D&timestamp_header=T",
            Hmac(signed="{timestamp}.{body}", timestamp_header="T"),
        ),
        ("twilio?url=https://a.example/hook", Twilio("https://a.example/hook")),
        (
            "twilio?url=https%3A%2F%2Fa.example%2Fhook%3Fb%3D1%26c",
            Twilio("https://a.example/hook?b=1&c"),
        ),
    ],
)
def test_texts_of_schemes(text: str, scheme: Scheme) -> None:
    """As they are written by hand."""
    assert parse_scheme(text) == scheme
    assert re.search(SCHEME_PATTERN, text)


@pytest.mark.parametrize(
    "text", ["", "gitlab", "github?a=1", "slack?tolerance=x", "twilio", "twilio?", "none?", "Slack"]
)
def test_the_pattern_tells_what_there_is(text: str) -> None:
    """Names, their options, and numbers: what it does not match is no scheme."""
    assert not re.search(SCHEME_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gitlab", "expected one of github, hmac, none, secret, shopify, slack, standard, stripe"),
        ("", "got ''"),
        ("GitHub", "got 'GitHub'"),
        ("github?tolerance=5", "scheme 'github': expected no option, got 'tolerance'"),
        ("slack?header=X", "scheme 'slack': expected an option out of tolerance, got 'header'"),
        ("slack?tolerance=abc", "option tolerance of scheme 'slack': expected a number, got 'abc'"),
        ("slack?tolerance=1&tolerance=2", "expected one value, got more than one"),
        ("slack?tolerance=-1", "Slack.tolerance: expected a number of seconds, at least 0"),
        ("slack?tolerance=nan", "Slack.tolerance"),
        ("slack?tolerance", "expected options as in a URL"),
        ("slack?tolerance=%ff", "expected options as in a URL"),
        ("twilio", "option url of scheme 'twilio': expected a value, got none; write twilio?url="),
        ("twilio?url=", "Twilio.url"),
        ("standard?public_keys=x", "StandardWebhooks.public_keys: expected whpk_"),
        ("secret?header=a%20b", "SharedSecret.header: expected the name of a header"),
        ("hmac?" + "&".join(["signed=x"] * 200), "expected options as in a URL"),
    ],
)
def test_texts_that_are_no_schemes(text: str, said: str) -> None:
    """The error names the option, what was expected, and what came."""
    with pytest.raises(InvalidValue) as caught:
        parse_scheme(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("value", [None, 5, b"github", GitHub()])
def test_only_a_text_is_read(value: Any) -> None:
    """Anything else is refused as what it is."""
    with pytest.raises(InvalidValue, match="scheme: expected a str"):
        parse_scheme(value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"header": ""}, "Hmac.header"),
        ({"header": "a b"}, "Hmac.header"),
        ({"header": "é"}, "Hmac.header"),
        ({"header": "x" * 101}, "Hmac.header"),
        ({"header": 5}, "Hmac.header"),
        ({"header": "X-Id", "id_header": "x-id"}, "a header of its own"),
        ({"algorithm": "md5"}, "Hmac.algorithm: expected one of sha1, sha256, sha512"),
        ({"algorithm": None}, "Hmac.algorithm"),
        ({"encoding": "HEX"}, "Hmac.encoding"),
        ({"prefix": "\n"}, "Hmac.prefix"),
        ({"prefix": "é"}, "Hmac.prefix"),
        ({"signed": ""}, "no {body}"),
        ({"signed": "{id}", "id_header": "X-Id"}, "no {body}"),
        ({"signed": "{body}{body}"}, "more than once"),
        ({"signed": "{url}{body}"}, "got '{url}'"),
        ({"signed": "{body}}"}, "got '}'"),
        ({"signed": "{{body}"}, "got '{'"),
        ({"signed": "{timestamp}{body}", "timestamp_header": "T"}, "a text between"),
        ({"signed": "{timestamp}0{body}", "timestamp_header": "T"}, "no digit between"),
        ({"signed": "{timestamp}.{body}"}, "timestamp_header"),
        ({"timestamp_header": "T"}, "not signed protects from nothing"),
        ({"signed": "{id}.{body}"}, "Hmac.id_header"),
    ],
)
def test_options_of_hmac_that_cannot_be(options: dict[str, Any], said: str) -> None:
    """Each would verify nothing, or too much."""
    with pytest.raises(InvalidValue) as caught:
        Hmac(**options)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example/hook",
        "ftp://a.example/",
        "https://",
        "https:///hook",
        "https://a.example/hook?",
        "https://a.example/hook?bodySHA256=",
        "https://a.example/hook?a=1&bodySHA256=00",
        "https://a.example/hook#a",
        "https://user:password@a.example/hook",
        "https://a.example/a b",
        "https://a.example:port/",
        "https://a.example:99999/",
        "https://[::1/",
        "https://é.example/",
        "https://a.example/" + "x" * 2000,
        None,
    ],
)
def test_urls_that_twilio_cannot_have_signed(url: Any) -> None:
    """The error shows no password."""
    with pytest.raises(InvalidValue, match=r"Twilio\.url") as caught:
        Twilio(url)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_schemes_do_not_change(vector: Any) -> None:
    """They are values: equal by their options, and usable as keys."""
    scheme = vector.scheme
    assert len({scheme, dataclasses.replace(scheme)}) == 1
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        scheme.name = "other"


def test_the_schemes_are_found_where_the_receiver_is() -> None:
    """``pollin_actors.web.signatures`` has all of them, without a server."""
    from pollin_actors import signatures as home

    assert signatures.__all__ == home.__all__
    assert all(getattr(signatures, name) is getattr(home, name) for name in home.__all__)
