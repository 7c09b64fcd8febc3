"""Schemes without a signature: the sender shows the secret itself, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pollin_actors.errors import InvalidValue
from pollin_actors.secret import Secret
from pollin_actors.signatures.common import (
    check_no_space_around,
    missing,
    read_header_name,
    repeated,
)
from pollin_actors.signatures.interface import Delivery, Refused, Scheme, Verified, headers_of

__all__ = ["SharedSecret", "Unsigned"]

_MISSING = Refused("no header shows a secret")
_WRONG = Refused("the secret that was shown is not one of the endpoint's")


@dataclass(frozen=True, slots=True)
class SharedSecret(Scheme):
    """The sender shows the secret: the default, as Pollin has it.

    It is looked for in ``X-Pollin-Secret`` and, if there is no such header, in
    ``Authorization: Bearer``.

    Arguments:
        header: the one header to look in instead, such as ``X-Gitlab-Token``.

    Raises:
        InvalidValue: this is no name of a header.
    """

    name: ClassVar[str] = "secret"
    header: str = ""

    def __post_init__(self) -> None:
        read_header_name("SharedSecret.header", self.header, optional=True)

    def verify(
        self, delivery: Delivery, secrets: Sequence[Secret], now: float
    ) -> Verified | Refused:
        if self.header:
            return self._verify_header(delivery, secrets)
        token = bearer = None
        carriers = []
        for name, value in delivery.headers:
            # Two lengths: most headers are passed over without making anything.
            if len(name) not in (13, 15):
                continue
            key = name.lower()
            if key == b"authorization":
                if value[:7].lower() == b"bearer ":
                    carriers.append(key)
                    bearer = bearer or value[7:].strip()
            elif key == b"x-pollin-secret":
                carriers.append(key)
                token = value.strip() if token is None else token
        token = bearer if token is None else token
        if not token:
            return _MISSING
        return _shown(token, secrets, tuple(carriers))

    def _verify_header(self, delivery: Delivery, secrets: Sequence[Secret]) -> Verified | Refused:
        name = self.header.lower().encode()
        headers = headers_of(delivery.headers, name)
        if headers is None:
            return repeated(f"the header {self.header}")
        token = headers.get(name, b"").strip()
        return _shown(token, secrets, (name,)) if token else missing(self.header)

    def sign(
        self, body: bytes, secret: Secret, now: float, *, id: str | None = None, query: bytes = b""
    ) -> list[tuple[str, str]]:
        return [(self.header or "X-Pollin-Secret", secret.reveal())]

    def shown_in(self, name: bytes, value: bytes) -> bytes | None:
        if self.header:
            return value.strip() if name == self.header.lower().encode() else None
        if name == b"authorization":
            return value[7:].strip() if value[:7].lower() == b"bearer " else None
        return value.strip() if name == b"x-pollin-secret" else None

    def check_secret(self, secret: Secret) -> None:
        check_no_space_around(secret)
        # A tab may be inside the value of a header; other characters go there as UTF-8.
        if not secret.reveal().replace("\t", " ").isprintable():
            raise InvalidValue("secret", "printable characters, as headers can have", "others")


def _shown(
    token: bytes, secrets: Sequence[Secret], hidden: tuple[bytes, ...]
) -> Verified | Refused:
    found = None
    for secret in secrets:
        if secret.matches(token) and found is None:
            found = secret
    return _WRONG if found is None else Verified(None, None, found, hidden)


@dataclass(frozen=True, slots=True)
class Unsigned(Scheme):
    """Whatever comes is taken, from whomever."""

    name: ClassVar[str] = "none"

    def verify(
        self, delivery: Delivery, secrets: Sequence[Secret], now: float
    ) -> Verified | Refused:
        return Verified()

    def sign(
        self, body: bytes, secret: Secret, now: float, *, id: str | None = None, query: bytes = b""
    ) -> list[tuple[str, str]]:
        return []
