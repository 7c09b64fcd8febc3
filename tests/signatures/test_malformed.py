"""Whatever is sent, the outcome is a value: no header, body or query makes a scheme raise."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pollin_actors.secret import Secret
from pollin_actors.signatures import (
    Delivery,
    Hmac,
    Refused,
    Scheme,
    StandardWebhooks,
    Unsigned,
    Verified,
    standard,
)
from tests.signatures.vectors import BY_NAME, VECTORS, Vector, accepted, refused

NOW = 1_614_265_330.0
SECRETS = [Secret(it) for it in ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "12345", "é")]
SCHEMES: list[Scheme] = [
    *[vector.scheme for vector in VECTORS],
    Hmac(signed="{body}:{id}:{timestamp}", id_header="webhook-id", timestamp_header="x-time"),
    Unsigned(),
]
NAMES = sorted(
    {
        name.lower().encode()
        for vector in VECTORS
        for name in (*vector.signed, *dict(vector.unsigned), "authorization", "x-pollin-secret")
    }
    | {b"x-time", b"x-signature", b"x-acme", b""}
)
PIECES = [
    b"v1,",
    b"v1a,",
    b"v1=",
    b"v0=",
    b"t=",
    b"sha256=",
    b"1614265330",
    b"Bearer ",
    b" ",
    b",",
    b"=",
    b"\0",
    b"\xff",
    b"-1",
    b"A" * 44,
    b"g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    b"9" * 5000,
]
values = st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=6).map(b"".join)
names = st.sampled_from(NAMES) | st.sampled_from(NAMES).map(bytes.upper) | st.binary(max_size=10)
headers = st.lists(st.tuples(names, values), max_size=10)
bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"{}", b'{"id": 1}', b'{"event_id": "\\ud800"}', b"a=1&b=%ff", b"a=%", b"[" * 9999]
    ),
)
queries = st.binary(max_size=30) | st.sampled_from(
    [
        b"bodySHA256=",
        b"bodySHA256=\xff",
        b"bodySHA256=a&bodySHA256=b",
        b"a=1&bodySHA256=" + b"0" * 64,
    ]
)
nows = st.just(NOW) | st.floats()


@settings(max_examples=400, deadline=None)
@given(headers, bodies, queries, nows, st.lists(st.sampled_from(SECRETS), max_size=3))
def test_no_delivery_makes_a_scheme_raise(
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    query: bytes,
    now: float,
    secrets: list[Secret],
) -> None:
    """Nor is any accepted that was not signed, but where nothing has to be."""
    for scheme in SCHEMES:
        outcome = scheme.verify(Delivery(headers, body, query), secrets, now)
        if scheme.name == "none":
            assert outcome == Verified()
        else:
            assert isinstance(outcome, Refused)
            assert outcome.reason


@settings(deadline=None)
@given(st.sampled_from(VECTORS), st.data())
def test_a_genuine_request_with_a_header_too_many_never_raises(
    vector: Vector, data: st.DataObject
) -> None:
    """What is beside the signed headers does not matter to the outcome, but for the fenced id."""
    came = vector.delivery()
    signed = {name.lower().encode() for name in vector.signed}
    fenced = {name.lower().encode() for name, _ in vector.unsigned}
    strange = names.filter(
        lambda name: name.lower() not in signed | fenced | {b"webhook-signature"}
    )
    more = data.draw(st.lists(st.tuples(strange, values), max_size=5))
    outcome = vector.verify(came._replace(headers=[*more, *came.headers]))
    if vector.name != "svix":
        assert accepted(outcome).key == vector.key


@settings(deadline=None)
@given(st.sampled_from(VECTORS), st.data())
def test_a_genuine_request_that_was_damaged_is_refused(vector: Vector, data: st.DataObject) -> None:
    """Any other value of a signed header, and any other body where it is covered."""
    came = vector.delivery()
    at = data.draw(st.integers(0, len(vector.signed) - 1))
    name, value = came.headers[at]
    other = data.draw(values.filter(lambda it: it.strip() != value))
    changed = list(came.headers)
    changed[at] = (name, other)
    refused(vector.verify(came._replace(headers=changed)))


@pytest.mark.parametrize("name", ["standard", "standard-v1a", "stripe"])
def test_thousands_of_signatures_are_refused_unread(name: str) -> None:
    """Each would be compared: so there is a bound, also where one of them is right."""
    vector = BY_NAME[name]
    header = "Stripe-Signature" if name == "stripe" else "webhook-signature"
    between = "," if name == "stripe" else " "
    right = vector.signed[header]
    for count, other in ((16, "v1=a"), (5000, "v1=" + "a" * 64), (100_000, "")):
        other = other if name == "stripe" else other.replace("=", ",")
        value = between.join([right, *[other] * count])
        pairs = [(n.encode(), v.encode()) for n, v in {**vector.signed, header: value}.items()]
        reason = refused(vector.verify(vector.delivery()._replace(headers=pairs)))
        assert "more than 16" in reason


@pytest.mark.parametrize("name", ["standard", "stripe"])
def test_a_header_of_signatures_has_an_end(name: str) -> None:
    """One that is very long is not taken apart."""
    vector = BY_NAME[name]
    header = "Stripe-Signature" if name == "stripe" else "webhook-signature"
    for length, sound in ((3000, True), (5000, False)):
        value = f"{vector.signed[header]}{',' if name == 'stripe' else ' '}v0={'a' * length}"
        pairs = [(n.encode(), v.encode()) for n, v in {**vector.signed, header: value}.items()]
        outcome = vector.verify(vector.delivery()._replace(headers=pairs))
        if sound:
            accepted(outcome)
        else:
            assert "too long" in refused(outcome)


def test_sixteen_signatures_are_looked_at() -> None:
    """The right one may be the last."""
    vector = BY_NAME["standard"]
    value = " ".join([*["v1,a"] * 15, vector.signed["webhook-signature"]])
    pairs = [
        (n.encode(), v.encode()) for n, v in {**vector.signed, "webhook-signature": value}.items()
    ]
    accepted(vector.verify(vector.delivery()._replace(headers=pairs)))


def private_key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))


def public_key(number: int) -> str:
    raw = private_key(number).public_key().public_bytes_raw()
    return "whpk_" + base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    ("count", "right", "most", "reason"),
    [
        (16, True, 0, "more than 4 signatures of version v1a"),
        (5, False, 0, "more than 4 signatures of version v1a"),
        (4, False, 16, "by any of 4 trusted keys"),
        (3, True, 16, ""),
    ],
)
def test_the_body_is_hashed_a_few_times_at_most(
    monkeypatch: pytest.MonkeyPatch, count: int, right: bool, most: int, reason: str
) -> None:
    """Whoever sends signatures makes us hash the body for each of them and each key: 16 times,
    also where a signature is repeated, and where the list of keys is as long as may be."""
    calls = []

    def counted(*arguments: Any) -> bool:
        calls.append(arguments)
        return bool(is_signed_by(*arguments))

    is_signed_by = standard._is_signed_by
    monkeypatch.setattr(standard, "_is_signed_by", counted)
    scheme = StandardWebhooks(tuple(map(public_key, range(4))))
    others = [private_key(9).sign(b"%d" % number) for number in range(count)]
    signatures = [*others, *others][:15]
    if right:
        signatures = [*signatures[:15], private_key(3).sign(b"a.100.body")]
    value = b" ".join([b"v1a," + base64.b64encode(it) for it in signatures])
    headers = [(b"webhook-id", b"a"), (b"webhook-timestamp", b"100")]
    came = Delivery([*headers, (b"webhook-signature", value)], b"body")
    outcome = scheme.verify(came, [Secret("any")], 100.0)
    if reason:
        assert reason in refused(outcome)
    else:
        assert accepted(outcome).key == "a"
    assert len(calls) <= most


@pytest.mark.parametrize(
    "raw", [b"", b"x" * 63, b"x" * 65, b"x" * 32 + (2**252 + 2**125).to_bytes(32, "little")]
)
def test_what_no_key_can_have_signed_costs_no_hash(
    monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    """A wrong length, or a number that is larger than the order of the curve."""
    monkeypatch.setattr(standard, "_is_signed_by", lambda *_: pytest.fail("hashed"))
    value = b"v1a," + base64.b64encode(raw)
    headers = [(b"webhook-id", b"a"), (b"webhook-timestamp", b"100")]
    came = Delivery([*headers, (b"webhook-signature", value)], b"body")
    outcome = StandardWebhooks((public_key(1),)).verify(came, [Secret("any")], 100.0)
    assert "by any of 1 trusted keys" in refused(outcome)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("standard", {"webhook-signature": "v1,a"}, "no v1 signature matches the secret"),
        ("standard", {"webhook-signature": "v9,a"}, "no signature of a version"),
        ("standard", {"webhook-id": ""}, "the header webhook-id is missing"),
        ("standard", {"webhook-timestamp": "1614264330"}, "the timestamp is 1000 s old, 300 are"),
        ("standard-v1a", {"webhook-signature": "v1a,a"}, "by any of 1 trusted keys"),
        ("stripe", {"Stripe-Signature": "v1=a"}, "not exactly one t="),
        ("stripe", {"Stripe-Signature": "t=1,t=1,v1=a"}, "not exactly one t="),
        ("stripe", {"Stripe-Signature": "t=1533204620"}, "has no v1="),
        ("stripe", {"Stripe-Signature": "t=1533204620,v1="}, "has no v1="),
        ("github", {"X-Hub-Signature-256": "sha1=a"}, "is the body unchanged"),
        ("slack", {"X-Slack-Signature": ""}, "the header X-Slack-Signature is missing"),
        ("twilio", {"X-Twilio-Signature": "a"}, "https://mycompany.com/myapp.php"),
        ("hmac", {"X-Acme": "a"}, "no signature in X-Acme matches"),
        ("secret", {"X-Gitlab-Token": "a"}, "not one of the endpoint's"),
    ],
)
def test_reasons_say_what_to_look_at(name: str, change: dict[str, str], reason: str) -> None:
    """They are for operators; the sender sees none."""
    vector = BY_NAME[name]
    pairs = [(n.encode(), v.encode()) for n, v in {**vector.signed, **change}.items()]
    assert reason in refused(vector.verify(vector.delivery()._replace(headers=pairs)))


def test_a_reason_says_how_many_secrets_were_tried() -> None:
    """During a rotation it is more than one."""
    vector = BY_NAME["github"]
    assert "any of 2 secrets" in refused(vector.verify(vector.delivery(), "a", "b"))


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (b"foo=1&bar=2&bodySHA256=" + b"0" * 64, "not the one whose digest"),
        (b"foo=1&bar=2&bodySHA256=", "the query is not that of Twilio.url"),
        (b"foo=1&bar=2&bodySHA256=\xff", "the query is not that of Twilio.url"),
        (b"bodySHA256=" + b"0" * 64, "the query is not that of Twilio.url"),
        (b"", "the query is not that of Twilio.url"),
        (b"foo=1&bar=2", "no form"),
    ],
)
def test_bodies_of_twilio_that_are_no_forms(query: bytes, reason: str) -> None:
    """The digest in the query has to be theirs."""
    vector = BY_NAME["twilio-json"]
    assert reason in refused(vector.verify(vector.delivery()._replace(query=query)))
