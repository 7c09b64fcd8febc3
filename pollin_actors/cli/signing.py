"""Requests as lines for a shell, and signed as providers sign them."""

from __future__ import annotations

import json
import shlex
from base64 import b64encode
from collections.abc import Iterable

__all__ = ["content_type_of", "curl_line"]


def curl_line(url: str, headers: Iterable[tuple[str, str]], body: bytes) -> str:
    """A line for a POSIX shell that POSTs just these bytes."""
    words = ["curl", "-X", "POST", url]
    for name, value in headers:
        words += ["-H", f"{name}: {value}"]
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = "\0"
    if all(c.isprintable() or c == "\n" for c in text):
        # Raw: a body may begin with an @, which would be a file's name.
        return shlex.join([*words, "--data-raw", text])
    # What cannot be pasted, or would not arrive as it is.
    encoded = b64encode(body).decode("ascii")
    return f"echo {encoded} | base64 -d | {shlex.join([*words, '--data-binary', '@-'])}"


def content_type_of(body: bytes, scheme: str) -> str:
    """A content type that fits a body."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        if scheme == "twilio":
            return "application/x-www-form-urlencoded"
        return "application/octet-stream"
    return "application/json"
