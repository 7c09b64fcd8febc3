"""What the providers have published verifies, and nothing that differs in one byte does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote_to_bytes

import pytest

from pollin_actors.errors import InvalidValue
from pollin_actors.secret import Secret
from pollin_actors.signatures import Delivery, Refused, StandardWebhooks, Twilio
from tests.signatures.vectors import (
    BY_NAME,
    PRIVATE_KEY,
    PUBLIC_KEY,
    VECTORS,
    Vector,
    accepted,
    refused,
)

each = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)


def changes(text: bytes) -> Iterator[bytes]:
    """Every text that differs from this one in exactly one byte."""
    for at, byte in enumerate(text):
        for other in range(256):
            if other != byte:
                yield b"%b%c%b" % (text[:at], other, text[at + 1 :])


@each
def test_the_published_request_verifies(vector: Vector) -> None:
    """With the key and the fence that it should have, by the secret that has signed it."""
    outcome = accepted(vector.verify(vector.delivery()))
    assert (outcome.key, outcome.fence) == (vector.key, vector.fence)
    assert outcome.secret == (None if vector.name == "standard-v1a" else Secret(vector.secret))
    assert outcome.reply is None


@each
def test_the_published_signature_is_the_one_we_make(vector: Vector) -> None:
    """``sign`` says what the provider has sent, but for what it says besides."""
    secret = Secret(PRIVATE_KEY if vector.name == "standard-v1a" else vector.secret)
    id = vector.signed.get("webhook-id", vector.signed.get("svix-id"))
    made = vector.scheme.sign(vector.body, secret, vector.now, id=id, query=vector.query)
    wanted = {name.replace("svix", "webhook"): value for name, value in vector.signed.items()}
    assert {name: value for name, value in made if name in wanted} == wanted


@each
def test_names_of_headers_have_any_case(vector: Vector) -> None:
    """HTTP does not tell them apart."""
    came = vector.delivery()
    for written in (bytes.upper, bytes.lower):
        headers = [(written(name), value) for name, value in came.headers]
        assert accepted(vector.verify(came._replace(headers=headers))).key == vector.key


@each
def test_no_other_body_is_accepted(vector: Vector) -> None:
    """Each change of one byte of the body is refused."""
    came = vector.delivery()
    for body in changes(vector.body):
        outcome = vector.verify(came._replace(body=body))
        if not isinstance(outcome, Refused):
            # Twilio signs what the parameters are, not how they are written: it is the same.
            assert isinstance(vector.scheme, Twilio)
            assert unquote_to_bytes(body) == unquote_to_bytes(vector.body)
            assert (outcome.key, outcome.fence) == (vector.key, vector.fence)


@each
def test_no_other_signed_header_is_accepted(vector: Vector) -> None:
    """Each change of one byte of the signature, of a signed time or a signed id is refused."""
    came = vector.delivery()
    for at, (name, value) in enumerate(vector.signed.items()):
        for other in changes(value.encode()):
            headers = list(came.headers)
            headers[at] = (name.encode(), other)
            assert isinstance(vector.verify(came._replace(headers=headers)), Refused), other


@each
def test_no_part_of_a_signed_header_is_accepted(vector: Vector) -> None:
    """Nor any that is longer: all of it is compared."""
    came = vector.delivery()
    for at, (name, value) in enumerate(vector.signed.items()):
        parts = [value[:end] for end in range(len(value))]
        for other in (*parts, value[1:], f"{value}a", f"a{value}"):
            headers = list(came.headers)
            headers[at] = (name.encode(), other.encode())
            refused(vector.verify(came._replace(headers=headers)))


@pytest.mark.parametrize(
    "vector", [it for it in VECTORS if it.name != "standard-v1a"], ids=lambda vector: vector.name
)
def test_no_other_secret_is_accepted(vector: Vector) -> None:
    """Each change of one byte of the secret is refused."""
    came = vector.delivery()
    for other in changes(vector.secret.encode()):
        assert isinstance(vector.verify(came, other.decode("latin-1")), Refused), other


def test_no_other_public_key_is_accepted() -> None:
    """Each change of one byte of the key is refused, as a key or when it verifies."""
    vector = BY_NAME["standard-v1a"]
    came, looked_at = vector.delivery(), 0
    for other in changes(PUBLIC_KEY.encode()):
        try:
            scheme = StandardWebhooks(public_keys=(other.decode("latin-1"),))
        except InvalidValue:
            continue
        looked_at += 1
        outcome = scheme.verify(came, [Secret(vector.secret)], vector.now)
        assert isinstance(outcome, Refused), other
    assert looked_at > 1000


@pytest.mark.parametrize("name", ["twilio", "twilio-json"])
def test_no_other_query_is_accepted(name: str) -> None:
    """Twilio signs the query: each change of one byte of it is refused."""
    vector = BY_NAME[name]
    for query in changes(vector.query):
        outcome = vector.verify(vector.delivery()._replace(query=query))
        assert isinstance(outcome, Refused), query


@each
def test_each_signed_header_has_to_be_there_once(vector: Vector) -> None:
    """Missing, empty, or there twice, even with the same value: refused."""
    came = vector.delivery()
    for at, pair in enumerate(list(came.headers)[: len(vector.signed)]):
        others = [it for index, it in enumerate(came.headers) if index != at]
        refused(vector.verify(came._replace(headers=others)))
        refused(vector.verify(came._replace(headers=[*others, (pair[0], b"")])))
        refused(vector.verify(came._replace(headers=[*came.headers, pair])))
        refused(vector.verify(came._replace(headers=[(pair[0], b"x"), *came.headers])))


@pytest.mark.parametrize(
    ("url", "signature"),
    [
        ("https://mycompany.com:1234/myapp.php", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("http://mycompany.com:1234/myapp.php", "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),
        ("https://mycompany.com/myapp.php", "kvajT1Ptam85bY51eRf/AJRuM3w="),
        ("http://mycompany.com/myapp.php", "0ZXoZLH/DfblKGATFgpif+LLRf4="),
    ],
)
def test_twilio_signs_the_url_with_its_port_or_without(url: str, signature: str) -> None:
    """The vectors of Twilio's libraries with ports."""
    vector = BY_NAME["twilio"]
    scheme = Twilio(f"{url}?foo=1&bar=2")
    vector = replace(vector, scheme=scheme, signed={"X-Twilio-Signature": signature})
    accepted(vector.verify(vector.delivery()))


@pytest.mark.parametrize(
    "body",
    [
        b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234",
        b"Digits=1234&Digits=5678&SidAccount=AC123&Sid=CA123",
        b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234",
    ],
)
def test_twilio_signs_repeated_parameters_sorted_and_once(body: bytes) -> None:
    """The vector of Twilio's libraries, and what is the same by its rule: with one fence."""
    vector = BY_NAME["twilio"]
    headers = [(b"x-twilio-signature", b"IK+Dwps556ElfBT0I3Rgjkr1wJU=")]
    outcome = accepted(vector.verify(Delivery(headers, body, vector.query)))
    first = accepted(
        vector.verify(
            Delivery(headers, b"Digits=5678&Digits=1234&Sid=CA123&SidAccount=AC123", vector.query)
        )
    )
    assert outcome.fence == first.fence == first.key
