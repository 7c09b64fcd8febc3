"""Requests as they are stored: bytes as bytes, the rest as JSON that gives back what went in.

Nothing is pickled: a file may come from somebody else, and unpickling runs what is in it.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any, TypeAlias

from pollin_actors.errors import InvalidValue
from pollin_actors.resources import Request

__all__ = ["Stored", "decode", "encode"]

Stored: TypeAlias = "tuple[int, str | None, bytes]"
"""Which kind of value it is, the headers if it is a Request, and its bytes."""

_REQUEST, _BYTES, _JSON = range(3)

# Escapes everything beyond ASCII, so that lone surrogates are kept too.
_dump = json.JSONEncoder(separators=(",", ":")).encode
_load = json.JSONDecoder().decode

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
        return _REQUEST, _dump(value.headers), value.body
    if kind is bytes:
        return _BYTES, None, value
    try:
        return _JSON, None, _dump(_tagged(value)).encode("ascii")
    except RecursionError:
        got = "one nested too deeply, or in itself"
    except ValueError:
        got = "an int of too many digits"
    raise InvalidValue("Callback.request", _EXPECTED, got) from None


def decode(stored: Stored) -> Any:
    """What was given to :func:`encode`."""
    kind, headers, body = stored
    if kind == _REQUEST:
        return Request(tuple(_load(headers or "")), body)
    if kind == _BYTES:
        return body
    return _untagged(_load(body.decode("ascii")))


def _tagged(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [_tagged(item) for item in value]
    if kind is dict:
        if _TAG not in value and all(type(key) is str for key in value):
            return {key: _tagged(item) for key, item in value.items()}
        return {_TAG: ["dict", [[_tagged(key), _tagged(item)] for key, item in value.items()]]}
    if kind is tuple:
        return {_TAG: ["tuple", [_tagged(item) for item in value]]}
    if kind is bytes:
        return {_TAG: ["bytes", b64encode(value).decode("ascii")]}
    got = f"a {kind.__module__}.{kind.__qualname__}"
    raise InvalidValue("Callback.request", _EXPECTED, got, "convert it before pushing it")


def _untagged(value: Any) -> Any:
    if type(value) is list:
        return [_untagged(item) for item in value]
    if type(value) is not dict:
        return value
    if _TAG not in value:
        return {key: _untagged(item) for key, item in value.items()}
    name, content = value[_TAG]
    if name == "bytes":
        return b64decode(content)
    if name == "tuple":
        return tuple(_untagged(item) for item in content)
    return {_untagged(key): _untagged(item) for key, item in content}
