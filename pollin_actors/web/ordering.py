"""What orders the callbacks of a request: a text out of its body, or one of its headers."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from pollin_actors.intake import HEADER, Intake
from pollin_actors.resources import MAX_ORDERING_KEY
from pollin_actors.signatures import Delivery

__all__ = ["ordering_key"]


def ordering_key(intake: Intake, delivery: Delivery) -> str | None:
    """The ordering key that a genuine request gets; None if it has nothing of the kind.

    Whatever came, it is no error: a request that has nothing to be ordered by is not ordered.
    """
    wanted = intake.order_by
    if wanted is None:
        return None
    if wanted.startswith(HEADER):
        value = _of_header(delivery, wanted.removeprefix(HEADER).lower().encode())
    else:
        value = _of_body(delivery.body, wanted)
    if not value:
        return None
    if len(value) > MAX_ORDERING_KEY or not value.isprintable():
        # Which it is does not matter, only that equal ones stay equal.
        return sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return value


def _of_header(delivery: Delivery, name: bytes) -> str:
    values = [value for key, value in delivery.headers if key.lower() == name]
    return b", ".join(values).decode("utf-8", "backslashreplace")


def _of_body(body: bytes, pointer: str) -> str:
    """The text or number that a JSON pointer (RFC 6901) leads to, as a text; or an empty one."""
    try:
        value: Any = json.loads(body)
        for part in pointer.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            value = value[_index(name)] if isinstance(value, list) else value[name]
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    return str(value)


def _index(name: str) -> int:
    if not name.isascii() or not name.isdigit() or (name[0] == "0" and len(name) > 1):
        raise LookupError(name)
    return int(name)
