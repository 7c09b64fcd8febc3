"""Who may use the admin API: those who show a token."""

from __future__ import annotations

from collections.abc import Iterable

from pollin_actors.errors import InvalidValue
from pollin_actors.secret import Secret

__all__ = ["Tokens", "read_tokens"]

SHORTEST = 16
LONGEST = 1_000

_HINT = "generate one, for example by secrets.token_urlsafe(32)"


class Tokens:
    """The tokens that are valid. None is ever shown."""

    __slots__ = ("_tokens",)

    def __init__(self, tokens: tuple[Secret, ...]) -> None:
        self._tokens = tokens

    def __repr__(self) -> str:
        return f"<{len(self._tokens)} tokens>"

    def each(self) -> tuple[Secret, ...]:
        """All of them."""
        return self._tokens

    def accept(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether one ``Authorization: Bearer`` header shows one of them, and there is no other.

        It takes as long whichever it is, and wherever they differ.
        """
        values = [value for name, value in headers if name.lower() == b"authorization"]
        if len(values) != 1:
            return False
        scheme, _, shown = values[0].partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        shown = shown.strip(b" ")
        # All of them, also after one was found.
        return sum([token.matches(shown) for token in self._tokens]) > 0


def read_tokens(given: object) -> Tokens:
    """The tokens of one, or of several.

    Raises:
        InvalidValue: there is none, or one is not strong, or could not stand in a header.
    """
    if isinstance(given, str | Secret):
        given = [given]
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        expected = "a str or a Secret, or several"
        raise InvalidValue("token", expected, f"a {type(given).__name__}", _HINT)
    tokens = tuple(_read_token(token) for token in given)
    if not tokens:
        raise InvalidValue("token", "at least one token", "none", _HINT)
    return Tokens(tokens)


def _read_token(value: object) -> Secret:
    if not isinstance(value, str | Secret):
        raise InvalidValue("token", "a str or a Secret", f"a {type(value).__name__}", _HINT)
    text = value.reveal() if isinstance(value, Secret) else value
    if not SHORTEST <= len(text) <= LONGEST:
        expected = f"{SHORTEST} to {LONGEST} characters"
        raise InvalidValue("token", expected, f"{len(text)} characters", _HINT)
    if not all("!" <= character <= "~" for character in text):
        expected = "printable ASCII without white space, as it has to stand in a header"
        raise InvalidValue("token", expected, "others", _HINT)
    return Secret(text)
