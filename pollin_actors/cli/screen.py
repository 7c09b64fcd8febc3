"""Standard output: lines about what arrives, also when nobody reads them any more."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any, TextIO

from pollin_actors.resources import Request

__all__ = ["Screen", "drop_the_rest", "one_line", "printable", "summary"]

WIDTH = 200


class Screen:
    """Writes lines at once, and goes quiet for good when the stream breaks.

    Args:
        stream: for example ``sys.stdout``; None, which that is without a terminal, is broken.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.broken = stream is None
        # What a sender chose is shown: it must not fail for want of a character.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def line(self, text: str) -> bool:
        """Write a line; say whether it could be written."""
        stream = self._stream
        if stream is None or self.broken:
            return False
        try:
            stream.write(text + "\n")
            stream.flush()
        except (OSError, ValueError):
            self.broken = True
            drop_the_rest(stream)
            return False
        return True


def drop_the_rest(stream: TextIO | None) -> None:
    """Give up a stream that broke: what is still in its buffer would raise once more when the
    interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        if stream is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, stream.fileno())
            finally:
                os.close(nowhere)


def summary(request: Any) -> str:
    """The size of a request's body and its beginning, on one line."""
    if not isinstance(request, Request):
        return f"a {type(request).__name__}"
    body = request.body
    # No character takes more than four bytes; one more than is shown tells that it was cut.
    text = one_line(body[: 4 * (WIDTH + 1)].decode("utf-8", "replace"))
    return f"{len(body)} bytes  {text}".rstrip()


def one_line(text: str) -> str:
    """The text without anything that could move the cursor, cut at 200 characters."""
    shown = printable(text[: WIDTH + 1])
    return shown if len(shown) <= WIDTH else shown[:WIDTH] + "…"


def printable(text: str) -> str:
    """The text with everything escaped that could move the cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
