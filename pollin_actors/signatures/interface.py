"""What a signature scheme is: it says whether what came was sent by who knows the secret.

A scheme works on bytes, never on parsed bodies, and compares in constant time. Whatever a sender
sends, the outcome is :class:`Verified` or :class:`Refused`, never an exception.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias

from pollin_actors.secret import Secret
from pollin_actors.signatures.options import write

__all__ = ["Delivery", "HeaderPairs", "Refused", "Scheme", "Verified", "headers_of"]

HeaderPairs: TypeAlias = "Sequence[tuple[bytes, bytes]]"


class Delivery(NamedTuple):
    """What came over HTTP, as bytes."""

    headers: HeaderPairs
    """Names in any case; order and repeats as they came."""
    body: bytes
    query: bytes = b""
    """Of the URL, without the question mark, undecoded."""


class Verified(NamedTuple):
    """It was signed by somebody who knows a secret."""

    key: str | None = None
    """Names the event, as the callback's id; None: nothing that was sent names it, and each
    delivery is one of its own."""
    fence: str | None = None
    """Where the key has an unsigned part: the signed part alone. What has the fence of
    something that was taken is a replay, whatever its key."""
    secret: Secret | None = None
    """The one of the secrets that has verified it; None where the scheme needs none."""
    hidden: tuple[bytes, ...] = ()
    """Names, in lower case, of the headers that carried the secret itself."""
    reply: bytes | None = None
    """JSON to be answered with 200, and nothing is to be stored: the sender only asks whether
    we are there."""


class Refused(NamedTuple):
    """It was not, or that cannot be told. The reason is for operators, never for the sender."""

    reason: str


@dataclass(frozen=True, slots=True)
class Scheme:
    """Base of all schemes. One is immutable; equal ones have equal options.

    ``text`` writes a scheme as one line, such as ``github`` or ``slack?tolerance=60.0``, and
    ``pollin_actors.signatures.parse_scheme`` reads it.
    """

    name: ClassVar[str] = ""

    def verify(
        self, delivery: Delivery, secrets: Sequence[Secret], now: float
    ) -> Verified | Refused:
        """Say whether a delivery is genuine.

        Arguments:
            delivery: what came.
            secrets: those that are valid at the moment; any may have been used.
            now: seconds since the epoch.
        """
        raise NotImplementedError

    def sign(
        self, body: bytes, secret: Secret, now: float, *, id: str | None = None, query: bytes = b""
    ) -> list[tuple[str, str]]:
        """The headers that the provider would send with this body.

        Arguments:
            body: what is sent.
            secret: the secret to sign with.
            now: seconds since the epoch.
            id: of the event, where the scheme sends one; None: a new one.
            query: of the URL that it is sent to, without the question mark.
        """
        raise NotImplementedError

    def shown_in(self, name: bytes, value: bytes) -> bytes | None:
        """The secret itself, right or wrong, where a header shows one; it is the end of the value.

        Who stores a request before it has verified does not store that. Schemes that sign need
        nothing of the kind.

        Arguments:
            name: the header's, in lower case.
            value: as it came.
        """
        return None

    def check_secret(self, secret: Secret) -> None:
        """See whether a secret can be one of this scheme.

        Raises:
            InvalidValue: it cannot; says what was expected, and never shows it.
        """

    def generate_secret(self) -> Secret:
        """A new, strong secret of the form that the scheme wants."""
        return Secret.generate()

    def text(self) -> str:
        """The scheme as one line: its name, and those of its options that are not as by default."""
        return write(self)


def headers_of(headers: Iterable[tuple[bytes, bytes]], *names: bytes) -> dict[bytes, bytes] | None:
    """Those of the headers that have one of these names (lower case); None if one is repeated."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if (name := name.lower()) in names:
            if name in found:
                return None
            found[name] = value
    return found
