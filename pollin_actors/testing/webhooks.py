"""Requests as senders make them."""

from __future__ import annotations

import json as json_of
from collections.abc import Mapping
from typing import Any

from pollin_actors.errors import InvalidValue
from pollin_actors.resources import Request

__all__ = ["webhook"]


def webhook(
    json: Any = None, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Request:
    """Make a request as a sender would.

    Arguments:
        json: the body, as a value that JSON can tell.
        body: the body in bytes, instead.
        headers: besides the content type, or instead of it.

    Raises:
        InvalidValue: both bodies were given.
    """
    if body is not None and json is not None:
        raise InvalidValue("webhook", "json or body", "both", "leave one of them out")
    named = dict(headers or {})
    if body is None:
        body = json_of.dumps(json).encode()
        if "content-type" not in map(str.lower, named):
            named = {"content-type": "application/json", **named}
    return Request(list(named.items()), body)
