"""A request as it came in: its headers and its body."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain

from pollin_actors.errors import InvalidValue

__all__ = ["Request"]

HeaderPairs = Iterable[tuple[str | bytes, str | bytes]]


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Request:
    """A request as it came in. It is immutable.

    Arguments:
        headers: pairs of name and value, or a mapping. Order and repeats are kept. Bytes are
            read as Latin-1, which loses nothing.
        body: the raw bytes, or any object that holds bytes.

    Raises:
        InvalidValue: the headers are not pairs of texts, or the body is not bytes.

    Example::

        Request([(b"content-type", b"application/json")], b"{}").header("Content-Type")
    """

    headers: tuple[tuple[str, str], ...]
    body: bytes
    size: int = field(init=False, compare=False)
    """Bytes of the body and of the names and values of the headers."""

    def __init__(
        self,
        headers: HeaderPairs | Mapping[str, str] | Mapping[bytes, bytes] = (),
        body: bytes | bytearray | memoryview = b"",
    ) -> None:
        pairs = _read_headers(headers)
        raw = body if type(body) is bytes else _read_body(body)
        object.__setattr__(self, "headers", pairs)
        object.__setattr__(self, "body", raw)
        size = len(raw) + sum(map(len, chain.from_iterable(pairs)))
        object.__setattr__(self, "size", size)

    @classmethod
    def arrived(cls, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Request:
        """Make a request as a server hands it over: the quick way, for the receiver.

        Anything but pairs of bytes, and bytes, is read or refused as by the class.
        """
        try:
            pairs = tuple([_common.get(pair) or _decode(pair) for pair in headers])
        except (TypeError, ValueError):
            return cls(headers, body)
        if body.__class__ is not bytes:
            return cls(headers, body)
        request = _new(cls)
        _set_headers(request, pairs)
        _set_body(request, body)
        _set_size(request, len(body) + sum(map(len, chain.from_iterable(pairs))))
        return request

    def header(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of a header, or ``default``. Case does not matter."""
        wanted = name.lower()
        for key, value in self.headers:
            if key.lower() == wanted:
                return value
        return default

    def header_values(self, name: str) -> list[str]:
        """Return all values of a header in order. Case does not matter."""
        wanted = name.lower()
        return [value for key, value in self.headers if key.lower() == wanted]

    def __repr__(self) -> str:
        # Headers carry credentials and bodies are long: neither belongs in a log.
        return f"<Request: {len(self.headers)} headers, body of {len(self.body)} bytes>"


# The slots' own setters: quicker than those of a frozen dataclass.
_new = object.__new__
_set_headers = vars(Request)["headers"].__set__
_set_body = vars(Request)["body"].__set__
_set_size = vars(Request)["size"].__set__

# Headers that come with every request and mostly say the same. A request that is stored then shares
# them with others; most of what it would cost otherwise are these many small texts.
_COMMON_NAMES = frozenset(
    {
        b"accept",
        b"accept-charset",
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"content-type",
        b"host",
        b"user-agent",
        b"x-forwarded-proto",
    }
)
_MOST_COMMON = 1_000
_common: dict[tuple[bytes, bytes], tuple[str, str]] = {}
# The names of all the others: what few senders send, each sends again and again.
_names: dict[bytes, str] = {}


def _decode(pair: tuple[bytes, bytes]) -> tuple[str, str]:
    name, value = pair
    text = _names.get(name)
    if text is None:
        text = str(name, "latin-1")
        if len(text) <= 100:
            if len(_names) >= _MOST_COMMON:
                _names.clear()
            _names[name] = text
    decoded = text, str(value, "latin-1")
    if name in _COMMON_NAMES and len(value) <= 200:
        if len(_common) >= _MOST_COMMON:
            _common.clear()
        _common[pair] = decoded
    return decoded


def _read_headers(headers: object) -> tuple[tuple[str, str], ...]:
    if type(headers) is list:
        # As a server hands them over, pairs of bytes: the quick way, and the usual one.
        with suppress(TypeError, ValueError):  # others are read, or refused with a reason, below
            return tuple([_common.get(pair) or _decode(pair) for pair in headers])
    expected = "pairs of name and value, each a str or bytes"
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    if isinstance(pairs, (str, bytes)) or not isinstance(pairs, Iterable):
        raise InvalidValue("Request.headers", expected, f"a {type(headers).__name__}")
    result: list[tuple[str, str]] = []
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InvalidValue("Request.headers", expected, f"an item of {type(pair).__name__}")
        name, value = pair
        if isinstance(name, bytes):
            name = name.decode("latin-1")
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if not isinstance(name, str) or not isinstance(value, str):
            got = f"a pair of {type(name).__name__} and {type(value).__name__}"
            raise InvalidValue("Request.headers", expected, got)
        result.append((name, value))
    return tuple(result)


def _read_body(body: object) -> bytes:
    if isinstance(body, str):
        raise InvalidValue(
            "Request.body", "bytes", "a str", 'encode it first, for example with .encode("utf-8")'
        )
    try:
        return bytes(memoryview(body))  # type: ignore[arg-type]  # anything with the buffer protocol
    except TypeError:
        raise InvalidValue("Request.body", "bytes", f"a {type(body).__name__}") from None
