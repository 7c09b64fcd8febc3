"""A text that is used but never shown."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any, NamedTuple

from pollin_actors.errors import InvalidValue

__all__ = ["OldSecret", "Secret"]

_MASK = "**********"


class Secret:
    """A secret text, hidden wherever a text would be printed, logged or serialised.

    It is deliberately neither a ``str`` nor a dataclass: ``json.dumps`` refuses it and
    ``dataclasses.asdict`` leaves it whole, so that only :meth:`reveal` and :meth:`encode` give
    the text away. Pickling and copying keep the text: that is how it is stored.

    Arguments:
        text: the secret, not empty.

    Raises:
        InvalidValue: it is not a non-empty text that UTF-8 can carry.
    """

    __slots__ = ("_encoded", "_generated", "_text")

    _encoded: bytes
    _generated: bool
    _text: str

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise InvalidValue("Secret", "a non-empty str", f"a {type(text).__name__}")
        if not text:
            raise InvalidValue("Secret", "a non-empty str", "an empty one")
        encoded = str.encode(text, "utf-8", "replace")
        # Compared instead of caught: a UnicodeEncodeError would carry the text along.
        if encoded.decode("utf-8") != text:
            raise InvalidValue("Secret", "text that UTF-8 can carry", "lone surrogates")
        object.__setattr__(self, "_text", str(text))
        object.__setattr__(self, "_encoded", encoded)
        object.__setattr__(self, "_generated", False)

    @classmethod
    def generate(cls) -> Secret:
        """Make a random secret: 32 random bytes as URL-safe text of 43 characters."""
        return cls(secrets.token_urlsafe(32)).as_generated()

    def as_generated(self) -> Secret:
        """The same, known to be nobody's choice: see :attr:`is_generated`."""
        secret = Secret(self._text)
        object.__setattr__(secret, "_generated", True)
        return secret

    @property
    def is_generated(self) -> bool:
        """Whether it was made here for want of another, so that a stored one is as good. Nothing
        else depends on it, and it is not kept."""
        return self._generated

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def encode(self) -> bytes:
        """Return the text itself in UTF-8."""
        return self._encoded

    def fingerprint(self) -> str:
        """Eight hexadecimal digits by which to tell secrets apart without seeing them."""
        return hashlib.sha256(b"pollin secret\0" + self._encoded).hexdigest()[:8]

    def matches(self, candidate: str | bytes | Secret | None) -> bool:
        """Say whether the candidate is this secret. It takes as long wherever they differ.

        Anything else than a text, its UTF-8 bytes or a ``Secret`` does not match; nothing raises.
        """
        if isinstance(candidate, Secret):
            encoded = candidate._encoded
        elif isinstance(candidate, str):
            encoded = str.encode(candidate, "utf-8", "surrogatepass")
        elif isinstance(candidate, bytes):
            encoded = candidate
        else:
            return False
        return hmac.compare_digest(self._encoded, encoded)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (Secret, str)):
            return self.matches(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"Secret('{_MASK}')"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, format_spec: str) -> str:
        return format(_MASK, format_spec)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Secret cannot be changed: make a new one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Secret cannot be changed: make a new one")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (self._text,)


class OldSecret(NamedTuple):
    """A secret that was replaced, and may be valid for a while yet."""

    secret: Secret
    until: int
    """Nanoseconds since the epoch at which it is valid no longer."""
