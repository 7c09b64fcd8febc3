"""Whatever is sent, the outcome is a value: no header, body or query makes a scheme raise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pollin_actors.secret import Secret
from pollin_actors.signatures import Delivery, Hmac, Refused, Scheme, Unsigned, Verified
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
        (b"bodySHA256=" + b"0" * 64, "not the one whose digest"),
        (b"bodySHA256=", "not the one whose digest"),
        (b"bodySHA256=\xff", "not the one whose digest"),
        (b"bodySHA256=a&bodySHA256=a", "more than one bodySHA256"),
        (b"", "no form"),
    ],
)
def test_bodies_of_twilio_that_are_no_forms(query: bytes, reason: str) -> None:
    """The digest in the query has to be theirs."""
    vector = BY_NAME["twilio-json"]
    assert reason in refused(vector.verify(vector.delivery()._replace(query=query)))
