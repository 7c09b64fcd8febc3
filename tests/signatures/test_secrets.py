"""Secrets: which can be one of a scheme, which has verified, and that none is shown."""

from __future__ import annotations

import base64
import hmac
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pollin_actors.endpoint import Endpoint
from pollin_actors.errors import InvalidValue, MissingExtra
from pollin_actors.intake import Intake
from pollin_actors.secret import Secret
from pollin_actors.signatures import (
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
)
from tests.signatures.vectors import (
    BY_NAME,
    PRIVATE_KEY,
    PUBLIC_KEY,
    VECTORS,
    Vector,
    accepted,
    refused,
)

NOW = 1_700_000_000.0
BODY = b"a=1&b=2"

SCHEMES: list[Scheme] = [
    StandardWebhooks(),
    GitHub(),
    Stripe(),
    Slack(),
    Shopify(),
    Twilio("https://a.example/hook"),
    Hmac(),
    SharedSecret(),
    SharedSecret(header="X-Token"),
]
each = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)


def whsec(length: int) -> str:
    return "whsec_" + base64.b64encode(b"\xfb" * length).decode()


def delivered(scheme: Scheme, secret: Secret) -> Delivery:
    made = scheme.sign(BODY, secret, NOW, id="one")
    return Delivery([(name.encode(), value.encode()) for name, value in made], BODY)


@each
def test_what_is_signed_with_a_generated_secret_verifies(scheme: Scheme) -> None:
    """Each makes secrets of its own form, and no two alike."""
    secret = scheme.generate_secret()
    scheme.check_secret(secret)
    assert secret != scheme.generate_secret()
    assert accepted(scheme.verify(delivered(scheme, secret), [secret], NOW)).secret is secret
    assert len(secret.encode()) >= 43


@each
def test_any_valid_secret_verifies_and_is_named(scheme: Scheme) -> None:
    """While secrets are rotated, several are known: the one that was used is told."""
    secrets = [scheme.generate_secret() for _ in range(3)]
    for used in secrets:
        assert accepted(scheme.verify(delivered(scheme, used), secrets, NOW)).secret is used


@each
def test_a_secret_that_is_not_known_does_not_verify(scheme: Scheme) -> None:
    """Nor does any, where none is valid."""
    came = delivered(scheme, scheme.generate_secret())
    refused(scheme.verify(came, [scheme.generate_secret(), scheme.generate_secret()], NOW))
    refused(scheme.verify(came, [], NOW))


def test_senders_that_rotate_sign_twice() -> None:
    """Stripe and Standard Webhooks send a signature by each secret: one that is known is enough."""
    for scheme, header, between in (
        (StandardWebhooks(), b"webhook-signature", b" "),
        (Stripe(), b"Stripe-Signature", b","),
    ):
        known, unknown = scheme.generate_secret(), scheme.generate_secret()
        came, other = delivered(scheme, known), delivered(scheme, unknown)
        both = between.join([dict(other.headers)[header], dict(came.headers)[header]])
        if scheme.name == "stripe":
            both = both.replace(b",t=%d" % NOW, b"")
        headers = [pair for pair in came.headers if pair[0] != header]
        came = came._replace(headers=[*headers, (header, both)])
        assert accepted(scheme.verify(came, [known], NOW)).secret is known
        assert accepted(scheme.verify(came, [unknown], NOW)).secret is unknown


def test_signatures_of_other_versions_are_passed_over() -> None:
    """A sender may know more than we do."""
    for vector, header, more in (
        (BY_NAME["standard"], "webhook-signature", "v2,x {} v1a,y v1,z"),
        (BY_NAME["stripe"], "Stripe-Signature", "v0=x,{},v2=y,z"),
    ):
        value = more.format(vector.signed[header])
        headers = {**vector.signed, header: value}
        pairs = [(name.encode(), it.encode()) for name, it in headers.items()]
        accepted(vector.verify(vector.delivery()._replace(headers=pairs)))


@pytest.mark.parametrize("length", [24, 32, 63, 64])
def test_secrets_of_standard_webhooks(length: int) -> None:
    """whsec_ and the base64 of 24 to 64 bytes, with its padding or without."""
    StandardWebhooks().check_secret(Secret(whsec(length)))
    StandardWebhooks().check_secret(Secret(whsec(length).rstrip("=")))


def test_a_secret_of_random_characters_is_one_too() -> None:
    """Not every sender makes it of bytes: bits that are over at its end are dropped, as he does."""
    scheme, text = StandardWebhooks(), whsec(32).rstrip("=")
    assert text[-1] == "s"
    for other in ("t", "u", "v"):
        secret = Secret(text[:-1] + other)
        scheme.check_secret(secret)
        accepted(scheme.verify(delivered(scheme, Secret(text)), [secret], NOW))


@pytest.mark.parametrize(
    "text",
    [
        whsec(23),
        whsec(65),
        whsec(32).removeprefix("whsec_"),
        whsec(32).replace("+", "-"),
        whsec(32) + "\n",
        "whsec_é",
        "a password",
    ],
)
@pytest.mark.parametrize("keys", [(), (PUBLIC_KEY,)])
def test_texts_that_are_no_secrets_of_standard_webhooks(text: str, keys: tuple[str, ...]) -> None:
    """They are refused when they are configured, and not shown."""
    scheme = StandardWebhooks(keys)
    if keys and not text.startswith("whsec_"):
        scheme.check_secret(Secret(text))  # it is only not used
        return
    with pytest.raises(InvalidValue) as caught:
        scheme.check_secret(Secret(text))
    assert text not in str(caught.value).replace("whsec_ and", "")
    assert "whsec_ and the base64 of 24 to 64 bytes" in str(caught.value)


def test_a_secret_of_another_form_never_verifies() -> None:
    """Also if it got past the check: what is no key has signed nothing."""
    vector = BY_NAME["standard"]
    for text in ("whsec_", "x", whsec(2)):
        refused(vector.verify(vector.delivery(), text))
        with pytest.raises(InvalidValue):
            vector.scheme.sign(b"", Secret(text), NOW)
        for key in (b"", text.encode(), b"\xfb" * 2):
            signed = base64.b64encode(hmac.digest(key, b"a.1614265330.", "sha256"))
            headers = [(b"webhook-signature", b"v1," + signed), (b"webhook-id", b"a")]
            came = Delivery([*headers, (b"webhook-timestamp", b"1614265330")], b"")
            refused(vector.verify(came, text))


def test_with_public_keys_the_symmetric_secret_still_verifies() -> None:
    """One endpoint may be sent to in either way; whose secret it was is told where there is one."""
    scheme = StandardWebhooks((PUBLIC_KEY,))
    secret = scheme.generate_secret()
    assert accepted(scheme.verify(delivered(scheme, secret), [secret], NOW)).secret is secret
    came = delivered(scheme, Secret(PRIVATE_KEY))
    assert accepted(scheme.verify(came, [secret], NOW)).secret is None
    # Without the trust list nobody is trusted.
    reason = refused(StandardWebhooks().verify(came, [secret], NOW))
    assert reason == "there is no signature of a version that is verified here"


def test_the_secret_key_of_the_sender_does_not_belong_here() -> None:
    """Who only verifies has the public one."""
    for keys in ((), (PUBLIC_KEY,)):
        with pytest.raises(InvalidValue, match="public key"):
            StandardWebhooks(keys).check_secret(Secret(PRIVATE_KEY))


@pytest.mark.parametrize(
    "keys",
    [
        "whpk_x",
        5,
        (5,),
        ("whpk_",),
        (PRIVATE_KEY,),
        (PUBLIC_KEY[:-4],),
        (PUBLIC_KEY + "\n",),
        (PUBLIC_KEY,) * 9,
        (PUBLIC_KEY,) * 5,
    ],
    ids=range(9),
)
def test_trust_lists_that_are_none(keys: object) -> None:
    """The error names the option, and shows no key."""
    with pytest.raises(InvalidValue, match="public_keys") as caught:
        StandardWebhooks(public_keys=keys)  # type: ignore[arg-type]
    assert PRIVATE_KEY not in str(caught.value)


# The y of the points whose order divides 8: 1, 0, -1, and the two of order 8; and those of them
# that have a second way to be written, which is larger than the field.
_P = 2**255 - 19
_EIGHTH = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
SMALL = [1, 0, _P - 1, _EIGHTH, _P - _EIGHTH, _P + 1, _P]


@pytest.mark.parametrize("sign", [0, 1 << 255])
@pytest.mark.parametrize("y", SMALL)
def test_keys_for_which_anybody_can_sign_are_not_trusted(y: int, sign: int) -> None:
    """The signature of 32 zero bytes and one more point fits all that there is, or much of it."""
    key = "whpk_" + base64.b64encode((y | sign).to_bytes(32, "little")).decode()
    with pytest.raises(InvalidValue, match="anybody can sign for it"):
        StandardWebhooks((PUBLIC_KEY, key))


def test_a_genuine_key_is_of_no_small_order() -> None:
    """A thousand of them are taken, and a signature by the first verifies."""
    for number in range(1000):
        seed = number.to_bytes(32, "big")
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        scheme = StandardWebhooks(("whpk_" + base64.b64encode(public).decode(),))
        if number == 0:
            private = Secret("whsk_" + base64.b64encode(seed).decode())
            accepted(scheme.verify(delivered(scheme, private), [], NOW))


def test_a_private_key_of_a_wrong_length_signs_nothing() -> None:
    """It has to be 32 bytes, or 64 with the public half."""
    half = base64.b64decode(PUBLIC_KEY.removeprefix("whpk_"))
    seed = base64.b64decode(PRIVATE_KEY.removeprefix("whsk_"))
    whole = Secret("whsk_" + base64.b64encode(seed + half).decode())
    scheme = StandardWebhooks()
    assert scheme.sign(b"", whole, NOW, id="a") == scheme.sign(
        b"", Secret(PRIVATE_KEY), NOW, id="a"
    )
    with pytest.raises(InvalidValue, match="whsk_"):
        scheme.sign(b"", Secret("whsk_AAAA"), NOW)


def test_without_the_package_a_trust_list_cannot_be_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the error says how to get it; symmetric signatures need nothing."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    fresh = "whpk_" + base64.b64encode(bytes(range(32))).decode()
    with pytest.raises(MissingExtra, match=r"pollin-actors\[signatures\]"):
        StandardWebhooks((fresh,))
    with pytest.raises(MissingExtra, match="cryptography"):
        StandardWebhooks().sign(b"", Secret(PRIVATE_KEY), NOW)
    StandardWebhooks().generate_secret()


@each
@pytest.mark.parametrize("text", [" s", "s\n", "\ts", "s\r\n"])
def test_a_secret_that_was_read_with_its_line_is_refused(scheme: Scheme, text: str) -> None:
    """Else nothing would ever verify, and nobody would know why."""
    with pytest.raises(InvalidValue, match="secret"):
        scheme.check_secret(Secret(text))


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "a\x7fb", "a\u2028b", "a\r\nX-Other: b"])
def test_a_secret_that_no_header_can_show_is_refused(text: str) -> None:
    """Other characters can be shown, in UTF-8."""
    for scheme in (SharedSecret(), SharedSecret("X-Token")):
        with pytest.raises(InvalidValue, match="secret: expected printable"):
            scheme.check_secret(Secret(text))
        for sound in ("a b", "a\tb", "gr\u00f6\u00dfe", "\u20ac"):
            scheme.check_secret(Secret(sound))
            accepted(scheme.verify(delivered(scheme, Secret(sound)), [Secret(sound)], NOW))


def test_an_endpoint_is_refused_whose_secret_cannot_verify() -> None:
    """There is no endpoint with signatures that has no secret for them; one is made if need be."""
    intake = Intake(scheme=StandardWebhooks())
    with pytest.raises(InvalidValue, match="whsec_"):
        Endpoint.new(intake=intake, secret="a password")
    with pytest.raises(InvalidValue):
        Endpoint.new(intake=intake, secret="")
    assert Endpoint.new(intake=intake).secret.reveal().startswith("whsec_")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_nothing_that_is_said_shows_a_secret_or_a_signature(vector: Vector) -> None:
    """Neither outcomes nor schemes do."""
    said = [
        repr(vector.verify(vector.delivery())),
        repr(vector.verify(vector.delivery(), "whsec_" + "A" * 32)),
        repr(vector.verify(vector.delivery()._replace(body=b"other"))),
        vector.scheme.text(),
    ]
    for hidden in (vector.secret, *vector.signed.values()):
        if hidden != vector.key and not hidden.isdigit():
            assert not any(hidden in text for text in said)


def test_whatever_comes_unsigned_is_taken() -> None:
    """If that is what is wanted: it has no key, and no secret is asked for."""
    outcome = accepted(Unsigned().verify(Delivery([], b""), [], NOW))
    assert outcome == (None, None, None, (), None)
    assert Unsigned().sign(b"", Secret("x"), NOW) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-pollin-secret", b" s "),
        (b"Authorization", b"Bearer s"),
        (b"authorization", b"bEARER  s"),
    ],
)
def test_the_shared_secret_is_looked_for_in_two_headers(name: bytes, value: bytes) -> None:
    """As Pollin has it; the header that showed it is named."""
    outcome = SharedSecret().verify(Delivery([(name, value)], b""), [Secret("s")], NOW)
    assert accepted(outcome).hidden == (name.lower(),)


@pytest.mark.parametrize(
    "headers",
    [[(b"x-pollin-secret", b"s")], [(b"x-token", b"")], [(b"x-token", b"s")] * 2, []],
)
def test_the_shared_secret_in_a_header_of_its_own_is_nowhere_else(
    headers: list[tuple[bytes, bytes]],
) -> None:
    """Once, and only there."""
    refused(SharedSecret("X-Token").verify(Delivery(headers, b""), [Secret("s")], NOW))
