"""Requests as they are stored: bytes as bytes, the rest as JSON that gives back what went in.

Nothing is pickled: a file may come from somebody else, and unpickling runs what is in it.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from json.encoder import encode_basestring as quote
from math import isfinite
from typing import Any, TypeAlias

from pollin_actors.errors import InvalidValue
from pollin_actors.resources import Request

__all__ = ["DEPTH", "Stored", "decode", "encode", "is_plain", "tagged", "untagged"]

Stored: TypeAlias = "tuple[int, bytes | None, bytes]"
"""Which kind of value it is, the headers if it is a Request, and its bytes."""

_REQUEST, _BYTES, _JSON = range(3)

DEPTH = 64
"""How often values may be nested."""

_dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_load = json.JSONDecoder().decode

_FLOATS = ("nan", "inf", "-inf")

# A dict with this one key stands for what JSON has no notation for.
_TAG = "$"
_EXPECTED = (
    "a Request, None, bool, int, float, str, bytes, or lists, tuples and dicts of these, no "
    "subclasses"
)


def encode(value: Any) -> Stored:
    """The request as it is stored.

    Raises:
        InvalidValue: it is, or holds, something of another type.
    """
    kind = type(value)
    if kind is Request:
        # In half the time of the encoder, and the same: every webhook comes this way.
        pairs = ",".join([f"[{quote(name)},{quote(text)}]" for name, text in value.headers])
        return _REQUEST, f"[{pairs}]".encode("utf-8", "surrogatepass"), value.body
    if kind is bytes:
        return _BYTES, None, value
    try:
        return _JSON, None, _bytes(tagged(value))
    except InvalidValue:
        raise
    except ValueError:
        raise InvalidValue("Callback.request", _EXPECTED, "an int of too many digits") from None


def decode(stored: Stored) -> Any:
    """What was given to :func:`encode`."""
    kind, headers, body = stored
    if kind == _REQUEST:
        return Request(tuple(_read(headers or b"")), body)
    if kind == _BYTES:
        return body
    return untagged(_read(body))


def _bytes(value: Any) -> bytes:
    # Not as escapes: those of two lone surrogates would be read as one character.
    return _dump(value).encode("utf-8", "surrogatepass")


def _read(stored: bytes) -> Any:
    return _load(stored.decode("utf-8", "surrogatepass"))


def is_plain(text: str) -> bool:
    """Whether a text has no lone surrogates, which only Python's strings can have."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def tagged(value: Any, depth: int = DEPTH) -> Any:
    """The value made of what JSON has.

    Arguments:
        value: what is to be stored.
        depth: how often it may be nested at most: whoever reads it may have little stack left.

    Raises:
        InvalidValue: it is, or holds, something of a type that cannot be stored; or it is nested
            too deeply.
    """
    kind = type(value)
    if value is None or kind in (bool, int):
        return value
    if kind is str:
        if is_plain(value):
            return value
        # JSON's escapes of two lone surrogates would be read as one character.
        octets = value.encode("utf-8", "surrogatepass")
        return {_TAG: ["text", b64encode(octets).decode("ascii")]}
    if kind is float:
        return value if isfinite(value) else {_TAG: ["float", str(value)]}
    if kind is bytes:
        return {_TAG: ["bytes", b64encode(value).decode("ascii")]}
    if depth == 0:
        raise InvalidValue("Callback.request", f"at most {DEPTH} levels of nesting", "more")
    less = depth - 1
    if kind is list:
        return [tagged(item, less) for item in value]
    if kind is dict:
        if _TAG not in value and all(type(key) is str and is_plain(key) for key in value):
            return {key: tagged(item, less) for key, item in value.items()}
        pairs = [[tagged(key, less), tagged(item, less)] for key, item in value.items()]
        return {_TAG: ["dict", pairs]}
    if kind is tuple:
        return {_TAG: ["tuple", [tagged(item, less) for item in value]]}
    got = f"a {kind.__module__}.{kind.__qualname__}"
    raise InvalidValue("Callback.request", _EXPECTED, got, "convert it before pushing it")


def untagged(value: Any, depth: int = DEPTH) -> Any:
    """What was given to :func:`tagged`.

    Raises:
        LookupError, TypeError, ValueError: it does not come from there.
    """
    less = depth - 1
    if less < -1:
        raise ValueError(f"nested more than {DEPTH} times")
    if type(value) is list:
        return [untagged(item, less) for item in value]
    if type(value) is not dict:
        return value
    if _TAG not in value:
        return {key: untagged(item, less) for key, item in value.items()}
    if len(value) != 1:
        raise ValueError(f"more than {_TAG!r} in one object")
    mark = value[_TAG]
    if type(mark) is not list or len(mark) != 2:
        raise ValueError(f"expected a list of two in {_TAG!r}")
    name, content = mark
    # Only what is written: there is one notation for each value.
    if name == "float":
        if content not in _FLOATS:
            raise ValueError(f"expected one of {', '.join(_FLOATS)}")
        return float(content)
    if name in ("text", "bytes"):
        if type(content) is not str:
            raise TypeError("expected base64 as a text")
        octets = b64decode(content, validate=True)
        return octets if name == "bytes" else octets.decode("utf-8", "surrogatepass")
    if name not in ("tuple", "dict"):
        raise ValueError(f"expected text, float, bytes, tuple or dict, got {name!r}")
    if type(content) is not list:
        raise TypeError(f"expected a list for a {name}")
    if name == "tuple":
        return tuple([untagged(item, less) for item in content])
    if any(type(pair) is not list for pair in content):
        raise TypeError("expected pairs of key and value")
    made = {untagged(key, less): untagged(item, less) for key, item in content}
    if len(made) != len(content):
        raise ValueError("a key more than once")
    return made
