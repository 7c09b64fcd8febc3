"""Verifying and signing webhooks, with or without the receiver: the schemes by their public names.

They are at home in ``pollin_actors.signatures``, below the endpoints, which are checked with them.
"""

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
    Unsigned,
    Verified,
    parse_scheme,
)

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
