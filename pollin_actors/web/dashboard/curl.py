"""A callback as a command that sends the same again, safe to paste into a shell."""

from __future__ import annotations

import re
from shlex import quote
from typing import NamedTuple
from urllib.parse import quote as quote_url

from pollin_actors.masking import NO_SECRETS, Secrets
from pollin_actors.resources import Callback, Request
from pollin_actors.web.admin_api.views import MASK, masked

__all__ = ["Curl", "curl_of"]

LONGEST = 16 * 1024
"""Bytes of a body that stands in the command; a longer one is read from a file."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
# curl makes these itself.
_OWN = frozenset({"host", "content-length", "connection", "transfer-encoding", "expect", "te"})


class Curl(NamedTuple):
    """The command, and what it lacks."""

    command: str
    hidden: tuple[str, ...]
    """Names of headers that carry credentials: whoever sends puts them in."""
    file: bool
    """Whether the body is read from the file ``body.bin``."""


def curl_of(
    endpoint_id: str, callback: Callback, receiver: str | None, secrets: Secrets = NO_SECRETS
) -> Curl | None:
    """The command; None for what is no request.

    Arguments:
        endpoint_id: where to.
        callback: what is sent again.
        receiver: the URL below which webhooks are received; None: a variable stands for it.
        secrets: what no header may show.
    """
    request = callback.request
    if not isinstance(request, Request):
        return None
    path = quote_url(endpoint_id, safe="")
    url = f'"$RECEIVER"/{quote(path)}' if receiver is None else quote(f"{receiver}/{path}")
    lines, hidden = [f"curl -i -X POST {url}"], []
    for name, value in request.headers:
        if name.lower() in _OWN or not _NAME.fullmatch(name):
            continue
        if MASK in (value, masked(name, value, secrets)):
            hidden.append(name)
        elif value.isprintable():
            # An empty value needs another sign, or curl leaves the header out.
            lines.append("-H " + quote(f"{name}: {value}" if value else f"{name};"))
    body = _pasteable(request.body)
    # Never as --data: what begins with @ would be read from a file of whoever pastes it.
    lines.append("--data-binary @body.bin" if body is None else f"--data-raw {quote(body)}")
    return Curl(" \\\n  ".join(lines), tuple(dict.fromkeys(hidden)), body is None)


def _pasteable(body: bytes) -> str | None:
    """The body as text, if a terminal takes it as text only."""
    if len(body) > LONGEST:
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    safe = all(char.isprintable() or char == "\n" for char in text)
    return text if safe else None
