"""Bodies and headers as they are shown: text, never anything that a browser would run."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from pollin_actors.masking import Secrets
from pollin_actors.resources import Callback, Request
from pollin_actors.web.admin_api.strict_json import render
from pollin_actors.web.admin_api.views import MASK, callback_view, masked

__all__ = ["Body", "body_of", "headers_of", "preview", "show"]

SHOWN = 64 * 1024
"""Characters of a body that are shown; the rest can be downloaded."""
PARSED = 1024 * 1024
"""Bytes of the largest body that is shown as indented JSON."""
HEX = 4 * 1024
"""Bytes of a body that are shown in hexadecimal."""
PREVIEW = 120

DEEPEST = 40
"""Levels that are indented."""

VIEWS = ("json", "text", "hex")

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


class Body(NamedTuple):
    """A body, ready to be shown."""

    view: str
    """One of ``json``, ``text`` and ``hex``."""
    views: tuple[str, ...]
    """Those that there are."""
    text: str
    size: int
    """Bytes of all of it."""
    cut: bool
    """Whether there is more than is shown."""


def body_of(callback: Callback) -> bytes | None:
    """The body as bytes; None for a value that is no request and no text."""
    request = callback.request
    if isinstance(request, Request):
        return request.body
    if isinstance(request, bytes | bytearray):
        return bytes(request)
    if isinstance(request, str):
        return request.encode("utf-8", "replace")
    return None


def show(callback: Callback, view: str = "") -> Body:
    """A callback's body in one of the views; by default the first that fits.

    It may take as long as parsing takes: call it on a thread.
    """
    raw = body_of(callback)
    if raw is None:
        raw = _value(callback)
    parsed = _indented(raw)
    try:
        text: str | None = raw.decode()
    except UnicodeDecodeError:
        text = None
    views = tuple(
        name for name, there in zip(VIEWS, (parsed, text, True), strict=True) if there is not None
    )
    if view not in views:
        view = views[0]
    if view == "json":
        assert parsed is not None
        return _cut(view, views, parsed, len(raw))
    if view == "text":
        assert text is not None
        return _cut(view, views, text, len(raw))
    return Body(view, views, _hex(raw[:HEX]), len(raw), len(raw) > HEX)


def _cut(view: str, views: tuple[str, ...], text: str, size: int) -> Body:
    return Body(view, views, text[:SHOWN], size, len(text) > SHOWN)


def _indented(raw: bytes) -> str | None:
    """JSON with ends of lines and indentation; every name, text and number stays as it was
    written."""
    if not 0 < len(raw) <= PARSED or raw.lstrip()[:1] not in (b"{", b"["):
        return None
    try:
        text = raw.decode()
        json.loads(text, parse_int=float)  # an int of thousands of digits is an error in Python
    except (ValueError, RecursionError):
        return None
    pieces: list[str] = []
    depth, before = 0, ""
    for token in _TOKEN.findall(text):
        if token in "]}":
            depth -= 1
            if before not in ("[", "{"):
                pieces.append(_new_line(depth))
        elif before in ("[", "{"):
            pieces.append(_new_line(depth))
        pieces.append(token)
        if token in "[{":
            depth += 1
        elif token == ",":
            pieces.append(_new_line(depth))
        elif token == ":":
            pieces.append(" ")
        before = token
    return "".join(pieces)


def _new_line(depth: int) -> str:
    return "\n" + "  " * min(depth, DEEPEST)


def _value(callback: Callback) -> bytes:
    view = callback_view(callback)
    if "value" in view:
        return bytes(render(view["value"]))
    return f"a value of type {view.get('unshown', 'unknown')}, which is not shown".encode()


def _hex(raw: bytes) -> str:
    lines = []
    for at in range(0, len(raw), 16):
        row = raw[at : at + 16]
        left = " ".join(f"{byte:02x}" for byte in row)
        right = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}  {left:<47}  {right}")
    return "\n".join(lines)


def headers_of(callback: Callback, secrets: Secrets) -> list[tuple[str, str, bool]]:
    """The headers: name, value, and whether the value is hidden."""
    if not isinstance(callback.request, Request):
        return []
    shown = []
    for name, value in callback.request.headers:
        value = masked(name, value, secrets)
        shown.append((name, value, value == MASK))
    return shown


def preview(callback: Callback) -> str:
    """The beginning of the body on one line; empty if it is no text."""
    raw = body_of(callback)
    if raw is None:
        return ""
    try:
        text = raw[: 4 * PREVIEW].decode("utf-8", "strict" if len(raw) <= 4 * PREVIEW else "ignore")
    except UnicodeDecodeError:
        return ""
    line = " ".join(text.split())
    return line if len(line) <= PREVIEW else line[:PREVIEW] + "…"
