"""Schemes without a signature: the sender shows the secret itself, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pollin_actors.secret import Secret
from pollin_actors.signatures.interface import Delivery, Refused, Scheme, Verified

__all__ = ["SharedSecret", "Unsigned"]

_MISSING = Refused("no header shows a secret")
_WRONG = Refused("the secret that was shown is not one of the endpoint's")


@dataclass(frozen=True, slots=True)
class SharedSecret(Scheme):
    """The sender shows the secret: the default, as Pollin has it.

    It is looked for in ``X-Pollin-Secret`` and, if there is no such header, in
    ``Authorization: Bearer``.
    """

    name: ClassVar[str] = "secret"

    def verify(
        self, delivery: Delivery, secrets: Sequence[Secret], now: float
    ) -> Verified | Refused:
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
        for secret in secrets:
            if secret.matches(token):
                return Verified(secret=secret, hidden=tuple(carriers))
        return _WRONG

    def sign(
        self, body: bytes, secret: Secret, now: float, *, id: str | None = None, query: bytes = b""
    ) -> list[tuple[str, str]]:
        return [("X-Pollin-Secret", secret.reveal())]

    def text(self) -> str:
        return self.name


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

    def text(self) -> str:
        return self.name
