"""What of headers is shown to who looks at an inbox, and what is not."""

from __future__ import annotations

import pytest

from pollin_actors.masking import MASK, Secrets, masked, without_secrets
from pollin_actors.secret import Secret

CREDENTIALS = """
    Authorization Proxy-Authorization Cookie Set-Cookie X-Pollin-Secret X-Gitlab-Token X-Api-Key
    x_api_key apikey X-Access-Key X-Auth X-Auth-User X-Goog-Iap-Jwt-Assertion X-Passwd X-Password
    X-Pwd PHP-Auth-Pw PHP_AUTH_PW X-Client-Cert X-Forwarded-Client-Cert SSL_CLIENT_CERT X-Bearer
    X-Credentials X-Amz-Security-Token Stripe-Signature X-Hub-Signature-256 X-Shopify-Hmac-Sha256
    X-Session-Id X-SAML-Response X-Otp X-Sig X-Secret X-JWT
"""
OTHERS = """
    Content-Type Content-Length Date Host User-Agent Accept X-GitHub-Event X-GitHub-Delivery
    Idempotency-Key I-Twilio-Idempotency-Token webhook-id webhook-timestamp X-Request-Id X-Design
    X-Shopify-Topic Traceparent Stripe-Version
"""


@pytest.mark.parametrize("name", CREDENTIALS.split())
def test_credentials_are_hidden_by_their_names(name: str) -> None:
    """However they are written; proxies and gateways write underscores."""
    for written in (name, name.lower(), name.upper(), name.replace("-", "_")):
        assert masked(written, "hush") == MASK


@pytest.mark.parametrize("name", OTHERS.split())
def test_others_are_shown(name: str) -> None:
    """Also what names an event, though it is called a key or a token."""
    assert masked(name, "value") == "value"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("open-sesame", False),
        (" open-sesame\t", False),
        ("Bearer open-sesame", False),
        ("token=open-sesame", False),
        ("open-sesame and more", True),
        ("Open-Sesame", True),
        ("open-barley", False),
        ("Basic open-barley", False),
        ("x=open-barley", True),
        ("k", False),
        ("Bearer k", False),
        ("ok", True),
        ("y", True),
        ("gr\u00f6\u00dfe-sesam", False),
        ("gr\u00f6\u00dfe-sesam".encode().decode("latin-1"), False),
        ("", True),
        ("\ud800", True),
    ],
)
def test_a_value_that_shows_a_secret_is_hidden_whatever_its_name(value: str, shown: bool) -> None:
    """Own secrets also at the end of a word, unless they are short; others as a word only, and
    not short ones, which anything might be."""
    others = Secrets([Secret("open-barley"), Secret("y")])
    texts = ("open-sesame", "k", "gr\u00f6\u00dfe-sesam")
    secrets = Secrets(map(Secret, texts), others)
    expected = value if shown else MASK
    assert masked("X-Thing", value, secrets) == expected
    assert without_secrets("X-Thing", value, secrets) == expected
    assert masked("X-Thing", value) == value
    assert all(text not in repr(secrets) for text in texts)


@pytest.mark.parametrize(
    ("query", "shown", "dumped"),
    [
        ("", "", ""),
        ("a=1&b=2", "a=1&b=2", "a=1&b=2"),
        ("a=1&access_token=x&b", f"a=1&access_token={MASK}&b", "a=1&access_token=x&b"),
        ("api%5Fkey=x;code=y", f"api%5Fkey={MASK};code={MASK}", "api%5Fkey=x;code=y"),
        ("sig=x&statuscode=5", f"sig={MASK}&statuscode=5", "sig=x&statuscode=5"),
        ("a=open-sesame", f"a={MASK}", f"a={MASK}"),
        ("a=open%2Dsesame&b=1", f"a={MASK}&b=1", f"a={MASK}&b=1"),
        ("a=1&open-sesame", f"a=1&{MASK}", f"a=1&{MASK}"),
        ("open-sesame=1", MASK, MASK),
        ("token", "token", "token"),
    ],
)
def test_queries_that_are_kept_as_headers(query: str, shown: str, dumped: str) -> None:
    """Parameters are hidden by their names, or because they show a secret; order and rest stay."""
    secrets = Secrets([Secret("open-sesame")])
    assert masked(":query", query, secrets) == shown
    assert without_secrets(":query", query, secrets) == dumped
    assert without_secrets("Authorization", "hush", secrets) == "hush"
