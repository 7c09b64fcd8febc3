"""Who may see the dashboard, and who may change things there."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pollin_actors.errors import InvalidValue
from pollin_actors.secret import Secret
from pollin_actors.web.admin_api.tokens import Tokens

__all__ = ["Access", "Authenticate", "Role", "TokenKey", "split_url"]

_ROUNDS = 50_000
_SALT = b"pollin dashboard"


class Role(StrEnum):
    """What somebody may do."""

    READ = "read"
    """Look at everything."""
    WRITE = "write"
    """Change things, too."""


Authenticate: TypeAlias = "Callable[[Any], Role | str | Awaitable[Role | str | None] | None]"


class TokenKey(NamedTuple):
    """What sessions of those who showed one token are signed with."""

    name: str
    key: bytes
    role: Role
    token: Secret

    def __repr__(self) -> str:
        return f"<the key of a token, {self.role}>"


class Access:
    """Tells who may do what; holds the keys of cookies and forms.

    Arguments:
        writers: tokens of those who may change things; None: there are none.
        readers: tokens of those who may look only.
        authenticate: the host's own way, asked first.
        key: what is signed with where there is no token.
        origins: further origins that forms may come from.

    Raises:
        InvalidValue: there is neither a token nor a hook; one token has two roles; an origin is
            none.
    """

    def __init__(
        self,
        writers: Tokens | None,
        readers: Tokens | None,
        authenticate: Authenticate | None,
        key: str | Secret | None,
        origins: tuple[str, ...],
    ) -> None:
        if writers is None and readers is None and authenticate is None:
            raise InvalidValue(
                "token",
                "token=, read_only_token= or authenticate=",
                "none of them",
                "generate a token, for example by secrets.token_urlsafe(32)",
            )
        if authenticate is not None and not callable(authenticate):
            raise InvalidValue("authenticate", "a function", f"a {type(authenticate).__name__}")
        self.authenticate = authenticate
        self.origins = frozenset(_origin(origin) for origin in origins)
        self._keys = (
            *_keys(writers, Role.WRITE),
            *_keys(readers, Role.READ),
        )
        names = [token.name for token in self._keys]
        if len(set(names)) != len(names):
            expected = "tokens that differ from those of token="
            raise InvalidValue("read_only_token", expected, "one that is among them")
        # Of those who are nobody yet, and of forms. The same in all processes with these tokens.
        material = b"".join(sorted(token.key for token in self._keys))
        if key is not None:
            material += _key(key)
        lasting = bool(material)
        if not lasting:
            material = secrets.token_bytes(32)
        self.root_key = hmac.digest(material, b"root", "sha256")
        # Tells dashboards of one host apart, whose cookies know no ports. One whose key is new with
        # each process has none, or browsers would gather the cookies of all its processes.
        mark = hmac.digest(self.root_key, b"cookie", "sha256").hex()[:8]
        self.mark = f"_{mark}" if lasting else ""

    def __repr__(self) -> str:
        return f"<access by {len(self._keys)} tokens>"

    @property
    def has_tokens(self) -> bool:
        """Whether one can log in here."""
        return bool(self._keys)

    def of_token(self, shown: str) -> TokenKey | None:
        """What belongs to a token that was shown; it takes as long whichever it is."""
        found = [token for token in self._keys if token.token.matches(shown)]
        return found[0] if found else None

    def of_name(self, name: str) -> TokenKey | None:
        """What belongs to the token of that name, which is no secret."""
        return next((token for token in self._keys if token.name == name), None)


def _keys(tokens: Tokens | None, role: Role) -> tuple[TokenKey, ...]:
    if tokens is None:
        return ()
    return tuple(_token_key(token, role) for token in tokens.each())


def _token_key(token: Secret, role: Role) -> TokenKey:
    key = _derive(token.encode())
    return TokenKey(hmac.digest(key, b"name", "sha256").hex()[:12], key, role, token)


def _key(value: object) -> bytes:
    text = value.reveal() if isinstance(value, Secret) else value
    if not isinstance(text, str) or len(text) < 16:
        got = f"{len(text)} characters" if isinstance(text, str) else f"a {type(text).__name__}"
        raise InvalidValue("key", "a str or a Secret of at least 16 characters", got)
    return _derive(text.encode())


@lru_cache(maxsize=16)
def _derive(secret: bytes) -> bytes:
    # Slow on purpose: who has a cookie must not find the token by trying.
    return hashlib.pbkdf2_hmac("sha256", secret, _SALT, _ROUNDS)


def split_url(text: str) -> SplitResult | None:
    """The parts of a URL; None for what is none: anybody may send such a thing in a header."""
    try:
        return urlsplit(text)
    except ValueError:
        return None


def _origin(value: object) -> str:
    parts = split_url(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.netloc or parts.path:
        expected = "origins, such as 'https://ops.example'"
        raise InvalidValue("origins", expected, repr(value)[:80])
    return f"{parts.scheme}://{parts.netloc}".lower()
