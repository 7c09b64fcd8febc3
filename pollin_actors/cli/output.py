"""What a command writes to stdout: text for people, or JSON for programs."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from pollin_actors.cli.errors import UserError
from pollin_actors.cli.screen import Screen, drop_the_rest, one_line, printable

__all__ = ["Output", "note", "writing"]

# ASCII only: nothing in it can move a cursor, and no encoding lacks it.
_encode = json.JSONEncoder(ensure_ascii=True, separators=(", ", ": ")).encode


class Output:
    """Standard output.

    Writing raises ``BrokenPipeError`` when nobody reads any more, and ``UserError`` when it cannot
    take more, as a full disk.

    Args:
        as_json: whether documents are asked for, rather than text.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._stream: TextIO | None = sys.stdout
        # What a sender chose is shown: it must not fail for want of a character.
        Screen(self._stream)

    def document(self, value: Any) -> None:
        """A document of JSON, on one line: the only one, or one of a stream."""
        self._write(_encode(value))

    def line(self, text: str = "") -> None:
        """A line of text. What is not printable in it is escaped."""
        self._write(printable(text))

    def raw(self, text: str) -> None:
        """A text that holds nothing but what is printable, and line ends that belong there."""
        self._write("\n".join(map(printable, text.split("\n"))))

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Rows in columns; each cell on one line and of bounded length."""
        cells = [[*header], *[[one_line(str(cell)) for cell in row] for row in rows]]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            self._write("  ".join(padded).rstrip())

    def fields(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Names and values, one pair a line."""
        shown = [(name, one_line(str(value))) for name, value in pairs]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            self._write(f"{name.ljust(width)}  {value}".rstrip())

    def bytes(self, data: bytes) -> None:
        """Bytes as they are; escaped where a terminal would obey them."""
        stream = self._stream
        if stream is None:
            raise BrokenPipeError
        if stream.isatty():
            for text in data.decode("utf-8", "replace").splitlines():
                self.line(text)
            return
        with writing(stream):
            stream.flush()
            stream.buffer.write(data)
            stream.buffer.flush()

    def _write(self, text: str) -> None:
        if self._stream is None:
            raise BrokenPipeError
        with writing(self._stream):
            self._stream.write(text + "\n")
            self._stream.flush()


@contextlib.contextmanager
def writing(stream: TextIO | None) -> Iterator[None]:
    """Around what writes to stdout.

    Raises:
        UserError: it cannot take more; nobody reading any more stays ``BrokenPipeError``.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_the_rest(stream)
        reason = error.strerror or type(error).__name__
        raise UserError(f"what is asked for cannot be written to stdout ({reason})") from None


def note(text: str) -> None:
    """A line on stderr, beside the output. It is lost where nobody reads, or none can be written:
    what was asked for does not depend on it."""
    if sys.stderr is not None:
        try:
            print(printable(text), file=sys.stderr, flush=True)
        except OSError:
            drop_the_rest(sys.stderr)
