"""What of headers may be shown: not the credentials that somebody could use."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_plus

from pollin_actors.secret import Secret

__all__ = ["MASK", "NO_SECRETS", "Secrets", "masked", "without_secrets"]

MASK = "**********"

# Under this name a request's query is kept beside its headers.
_QUERY = ":query"
# And under this one digests of what it has shown.
_SHOWN = ":shown"
_PARAMETERS = re.compile("([&;])")

# Names whose values somebody could use, or that were made with a secret. That of an event is none.
_CREDENTIAL = re.compile(
    "auth|pass|pwd|jwt|cert|assertion|credential|bearer|secret|signature|hmac|cookie|session|saml"
    "|(?<!idempotency-)(?:key|token)|(?:^|-)(?:sig|otp)(?:$|-)"
)
# Of parameters of a URL, which are shorter.
_SHORT = frozenset({"code"})

# Anything may end like a shorter one.
_LONG = 8


class Secrets:
    """Secrets that are looked for in values of headers.

    One is shown by a value that is the same or whose last word it is, as after ``Bearer``; one of
    at least 8 characters also by a value that only ends with it.

    Arguments:
        own: those of the endpoint that the headers came to.
        besides: those of any others, which may be many: only what is a whole word is looked for
            among them, and only those of at least 8 characters.
    """

    __slots__ = ("_besides", "_ends", "_words")

    def __init__(self, own: Iterable[Secret] = (), besides: Secrets | None = None) -> None:
        self._words = frozenset([text for secret in own for text in _written(secret)])
        self._ends = tuple([text for text in self._words if len(text) >= _LONG])
        # Not merged: one set may be shared by very many.
        self._besides: frozenset[str] = frozenset() if besides is None else besides._words

    def __repr__(self) -> str:
        return f"<Secrets: {len(self._words)}, and {len(self._besides)} besides>"

    def shown_in(self, value: str) -> bool:
        """Whether a value shows one of them."""
        text = value.strip()
        if text.endswith(self._ends):
            return True
        words = {text, *text.split()[-1:]}
        if not self._words.isdisjoint(words):
            return True
        return any(len(word) >= _LONG and word in self._besides for word in words)


NO_SECRETS = Secrets()


def _written(secret: Secret) -> tuple[str, ...]:
    """As a program writes it, and as its bytes are read out of a header."""
    return (secret.reveal(), secret.encode().decode("latin-1"))


def masked(name: str, value: str, secrets: Secrets = NO_SECRETS) -> str:
    """The value of a header, hidden if it is a credential by its name, or shows a secret.

    Of a query that is kept as ``:query`` the values of such parameters are hidden.

    Arguments:
        name: of the header.
        value: of the header.
        secrets: those that are looked for in values.
    """
    if name == _QUERY:
        return _query(value, secrets, by_name=True)
    return MASK if _is_credential(name) or secrets.shown_in(value) else value


def without_secrets(name: str, value: str, secrets: Secrets) -> str:
    """The value of a header, hidden only if it shows a secret.

    Arguments are those of :func:`masked`.
    """
    if name == _QUERY:
        return _query(value, secrets, by_name=False)
    return MASK if secrets.shown_in(value) else value


def _is_credential(name: str) -> bool:
    return name == _SHOWN or _CREDENTIAL.search(name.lower().replace("_", "-")) is not None


def _query(query: str, secrets: Secrets, by_name: bool) -> str:
    parts = []
    for part in _PARAMETERS.split(query):
        name, mark, value = part.partition("=")
        plain = unquote_plus(name)
        hidden = by_name and (_is_credential(plain) or plain.lower() in _SHORT)
        if secrets.shown_in(plain):
            parts.append(MASK)
        elif mark and (hidden or secrets.shown_in(unquote_plus(value))):
            parts.append(f"{name}={MASK}")
        else:
            parts.append(part)
    return "".join(parts)
