"""Signature schemes: whether a webhook was sent by somebody who knows the secret.

Each works by itself, without a server::

    scheme = parse_scheme("github")
    outcome = scheme.verify(Delivery(headers, body), [Secret("…")], time.time())
"""

from __future__ import annotations

from pollin_actors.checking import describe
from pollin_actors.errors import InvalidValue
from pollin_actors.signatures.generic import Hmac
from pollin_actors.signatures.github import GitHub
from pollin_actors.signatures.interface import Delivery, Refused, Scheme, Verified
from pollin_actors.signatures.options import pattern_of, read_options
from pollin_actors.signatures.shared import SharedSecret, Unsigned
from pollin_actors.signatures.shopify import Shopify
from pollin_actors.signatures.slack import Slack
from pollin_actors.signatures.standard import StandardWebhooks
from pollin_actors.signatures.stripe import Stripe
from pollin_actors.signatures.twilio import Twilio

__all__ = [
    "Delivery",
    "GitHub",
    "Hmac",
    "Refused",
    "Scheme",
    "SharedSecret",
    "Shopify",
    "Slack",
    "StandardWebhooks",
    "Stripe",
    "Twilio",
    "Unsigned",
    "Verified",
    "parse_scheme",
]

_KINDS: tuple[type[Scheme], ...] = (
    GitHub,
    Hmac,
    SharedSecret,
    Shopify,
    Slack,
    StandardWebhooks,
    Stripe,
    Twilio,
    Unsigned,
)
_SCHEMES = {kind.name: kind for kind in _KINDS}

SCHEME_PATTERN = pattern_of(_KINDS)
"""A regular expression that the texts of all schemes match, also as one writes them by hand."""


def parse_scheme(text: str) -> Scheme:
    """The scheme that ``Scheme.text`` has written: ``github``, or ``slack?tolerance=60``.

    Raises:
        InvalidValue: there is no such scheme or option, or an option has a value that it cannot
            have; the error names it.
        MissingExtra: the scheme needs a package that is not installed.
    """
    if not isinstance(text, str):
        raise InvalidValue("scheme", "a str", f"a {type(text).__name__}")
    name, _, options = text.partition("?")
    kind = _SCHEMES.get(name)
    if kind is None:
        raise InvalidValue("scheme", f"one of {', '.join(sorted(_SCHEMES))}", describe(name))
    return kind(**read_options(kind, options))
