"""JSON as it is read and written here: nothing that readers of JSON disagree about is taken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

from pollin_actors.web.admin_api.problems import Problem, malformed

__all__ = ["DEPTH", "parse", "render"]

DEPTH = 64
"""How often values may be nested."""

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def parse(raw: bytes) -> Any:
    """The value that a body holds.

    Raises:
        Problem: it is no JSON in UTF-8, or has what has no meaning that all agree on: a name twice
            in one object, numbers that are none or too large, half a surrogate pair; or it is
            nested more than 64 times.
    """
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_number,
            parse_float=_finite,
        )
    except Problem:
        raise
    except UnicodeDecodeError as error:
        raise malformed(f"the body: expected UTF-8, got none at byte {error.start}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise malformed(f"the body: expected JSON, got none at {where}: {error.msg}") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise malformed("the body: expected numbers of some digits, got one of thousands") from None
    _check(value)
    return value


def render(value: Any) -> bytes:
    """A value as JSON in UTF-8. Half surrogate pairs, which Python's texts may have, become
    question marks."""
    return b"".join(text.encode("utf-8", "replace") for text in _pieces(value))


def _pieces(value: Any) -> list[str]:
    """The items of lists one by one: the encoder lets no other thread run while it is at work."""
    if not isinstance(value, Mapping):
        return [_encode(value)]
    pieces = []
    for number, (name, content) in enumerate(value.items()):
        pieces.append(f"{',' if number else '{'}{_encode(name)}:")
        if isinstance(content, list):
            items = [_encode(item) for item in content]
            pieces += ["[", ",".join(items), "]"]
        else:
            pieces.append(_encode(content))
    return [*pieces, "}"] if pieces else ["{}"]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        # In one pass: somebody may have sent tens of thousands of names.
        for name, _ in pairs:
            if name in seen:
                raise malformed(f"the body: expected each name once, got {ascii(name)[:80]} again")
            seen.add(name)
    return found


def _no_number(text: str) -> Any:
    raise malformed(f"the body: expected JSON, got {text}, which is no number there")


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise malformed("the body: expected numbers that 64 bits can hold, got a larger one")
    return value


def _too_deep() -> Problem:
    return malformed(f"the body: expected at most {DEPTH} levels of nesting, got more")


def _check(value: Any) -> None:
    """Without recursion: a hostile value must not cost the stack."""
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, str):
            if not item.isascii() and any("\ud800" <= c <= "\udfff" for c in item):
                raise malformed("the body: expected whole characters, got half a surrogate pair")
        elif isinstance(item, dict | list):
            if depth == DEPTH:
                raise _too_deep()
            inner = [*item, *item.values()] if isinstance(item, dict) else item
            waiting.extend((one, depth + 1) for one in inner)
