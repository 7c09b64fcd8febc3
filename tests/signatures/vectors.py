"""Requests with their signatures, as the providers have published them."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pollin_actors.secret import Secret
from pollin_actors.signatures import (
    Delivery,
    GitHub,
    Hmac,
    Refused,
    Scheme,
    SharedSecret,
    Shopify,
    Slack,
    StandardWebhooks,
    Stripe,
    Twilio,
    Verified,
)

__all__ = ["BY_NAME", "VECTORS", "Vector", "accepted", "refused"]


@dataclass(frozen=True)
class Vector:
    """One request. ``signed`` and ``unsigned`` are its headers; only the former are covered."""

    name: str
    scheme: Scheme
    secret: str
    body: bytes
    signed: dict[str, str]
    key: str | None
    now: float = 1_600_000_000.0
    fence: str | None = None
    unsigned: tuple[tuple[str, str], ...] = ()
    query: bytes = b""

    def delivery(self) -> Delivery:
        pairs = [*self.signed.items(), *self.unsigned]
        return Delivery([(n.encode(), v.encode()) for n, v in pairs], self.body, self.query)

    def verify(self, delivery: Delivery, *secrets: str) -> Verified | Refused:
        """Verify with the secret of the request, or with others."""
        known = [Secret(it) for it in secrets or (self.secret,)]
        return self.scheme.verify(delivery, known, self.now)


def accepted(outcome: Verified | Refused) -> Verified:
    assert isinstance(outcome, Verified), outcome
    return outcome


def refused(outcome: Verified | Refused) -> str:
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


# Standard Webhooks: of its specification's libraries, each of which has them in its tests.
STANDARD = Vector(
    "standard",
    StandardWebhooks(),
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    b'{"test": 2432232314}',
    {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    },
    "msg_p5jXN8AQM9LWM0D4loKWxJek",
    1_614_265_330.0,
)
SVIX = replace(
    STANDARD,
    name="svix",
    signed={name.replace("webhook", "svix"): value for name, value in STANDARD.signed.items()},
)

_SEED = base64.b64decode("VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=")
PRIVATE_KEY = f"whsk_{base64.b64encode(_SEED).decode()}"
PUBLIC_KEY = "whpk_" + base64.b64encode(
    Ed25519PrivateKey.from_private_bytes(_SEED).public_key().public_bytes_raw()
).decode("ascii")
ED25519 = replace(
    STANDARD,
    name="standard-v1a",
    scheme=StandardWebhooks(public_keys=(PUBLIC_KEY,)),
    signed={
        **STANDARD.signed,
        "webhook-signature": (
            "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHe"
            "YGb7KaaBRdM5WqyeFiL8Ag=="
        ),
    },
)

# GitHub: "Validating webhook deliveries" in its documentation.
_HELLO = "dffd6021bb2bd5b0af676290809ec3a53191dd81c7f70a4b28688a362182986f"
GITHUB = Vector(
    "github",
    GitHub(),
    "It's a Secret to Everybody",
    b"Hello, World!",
    {
        "X-Hub-Signature-256": (
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        )
    },
    f"72d3162e-cc78-11e3-81ab-4c9367dc0958:{_HELLO}",
    fence=_HELLO,
    unsigned=(
        ("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("X-GitHub-Event", "issues"),
    ),
)

# Stripe publishes none in its documentation; this is of the tests of a client library.
STRIPE = Vector(
    "stripe",
    Stripe(),
    "webhook_secret",
    b"""{
  "id": "evt_123",
  "object": "event",
  "account": "acct_123",
  "api_version": "2017-05-25",
  "created": 1533204620,
  "data": {
    "object": {
      "id": "ii_123",
      "object": "invoiceitem",
      "amount": 1000,
      "currency": "usd",
      "customer": "cus_123",
      "date": 1533204620,
      "description": "Test Invoice Item",
      "discountable": false,
      "invoice": "in_123",
      "livemode": false,
      "metadata": {},
      "period": {
        "start": 1533204620,
        "end": 1533204620
      },
      "proration": false,
      "quantity": 3
    }
  },
  "livemode": false,
  "pending_webhooks": 1,
  "request": {
    "id": "req_123",
    "idempotency_key": "idempotency-key-123"
  },
  "type": "invoiceitem.created"
}
""",
    {
        "Stripe-Signature": (
            "t=1533204620,v1=82216eca827bcb7b34b8055eb2d2d9e6bc13b9ac39ded14a61e69f70c565f53a"
        )
    },
    "evt_123",
    1_533_204_620.0,
)

# Slack: "Verifying requests from Slack" in its documentation.
SLACK = Vector(
    "slack",
    Slack(),
    "8f742231b10e8888abcd99yyyzzz85a5",
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
    b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
    b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
    b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
    {
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": (
            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
        ),
    },
    "825d85f1380c13692f843f77083a8bbf4bc9df455f355b153a64590c7cc195e1",
    1_531_420_618.0,
)

# Shopify publishes none: made with `openssl dgst -sha256 -hmac hush -binary`.
_ORDER = "8c1b8414bf50d14f7791bbc3ebd5692d0e72cd4bd6163f796c28fd8b873c2ab0"
SHOPIFY = Vector(
    "shopify",
    Shopify(),
    "hush",
    b'{"id":820982911946154508,"email":"jon@example.com"}',
    {"X-Shopify-Hmac-Sha256": "D0UMXmhjwBRi4y66TmhJrDlhQABD7zI2fm3p6/QLMo8="},
    f"98880550-7158-44d4-b7cd-2c97c8a091b5:{_ORDER}",
    fence=_ORDER,
    unsigned=(
        ("X-Shopify-Event-Id", "98880550-7158-44d4-b7cd-2c97c8a091b5"),
        ("X-Shopify-Webhook-Id", "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"),
        ("X-Shopify-Topic", "orders/create"),
    ),
)

# Twilio: "Security" in its documentation, and the tests of its libraries.
_CALL = (
    b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309"
    b"&To=%2B18005551212"
)
_CALL_DIGEST = "a5286dca8260c1287df8cc2c12dc67524c09aaa600b3996d5d2bba902229a481"
TWILIO = Vector(
    "twilio",
    Twilio("https://mycompany.com/myapp.php?foo=1&bar=2"),
    "12345",
    _CALL,
    {"X-Twilio-Signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8="},
    f"token-1:{_CALL_DIGEST}",
    fence=_CALL_DIGEST,
    unsigned=(("I-Twilio-Idempotency-Token", "token-1"),),
    query=b"foo=1&bar=2",
)
_JSON_DIGEST = "fd6a1ee23c0bfba5550a85d752deb0998884e164fe6fe6b5ffcf0572af90724f"
TWILIO_JSON = replace(
    TWILIO,
    name="twilio-json",
    body=b'{"property": "value", "boolean": true}',
    signed={"X-Twilio-Signature": "a9nBmqA0ju/hNViExpshrM61xv4="},
    key=f"token-1:{_JSON_DIGEST}",
    fence=_JSON_DIGEST,
    query=TWILIO.query
    + b"&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620",
)

# HMAC itself: RFC 4231 and RFC 2202, test case 2.
_JEFE = b"what do ya want for nothing?"
HMAC_256 = Vector(
    "hmac",
    Hmac(header="X-Acme", prefix="sha256="),
    "Jefe",
    _JEFE,
    {"X-Acme": "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    "b381e7fec653fc3ab9b178272366b8ac87fed8d31cb25ed1d0e1f3318644c89c",
)
HMAC_1 = replace(
    HMAC_256,
    name="hmac-sha1",
    scheme=Hmac(algorithm="sha1", encoding="base64url"),
    signed={"X-Signature": "7_zfauXrL6LSdBbV8YTfnCWafHk"},
)
HMAC_512 = replace(
    HMAC_256,
    name="hmac-sha512",
    scheme=Hmac(algorithm="sha512", encoding="base64"),
    signed={
        "X-Signature": (
            "Fkt6e/z4GeLjlfvnO1bgo4e9ZCIugx/WECcM1+olBVSXWL91wFqZSm0DT2X48Ob9yuqxo01Ka0tjbgcKOLznNw=="
        )
    },
)

GITLAB = Vector(
    "secret",
    SharedSecret(header="X-Gitlab-Token"),
    "a token of GitLab",
    b"",
    {"X-Gitlab-Token": "a token of GitLab"},
    None,
)

VECTORS = [
    STANDARD,
    SVIX,
    ED25519,
    GITHUB,
    STRIPE,
    SLACK,
    SHOPIFY,
    TWILIO,
    TWILIO_JSON,
    HMAC_256,
    HMAC_1,
    HMAC_512,
    GITLAB,
]
BY_NAME = {vector.name: vector for vector in VECTORS}
