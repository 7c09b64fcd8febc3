"""``pollin dump`` and ``pollin load``: an inbox as lines of JSON."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pollin_actors.cli.ending import Terminated, terminable
from pollin_actors.cli.errors import CommandError, Exit, NotThere, Unavailable, UserError
from pollin_actors.cli.human import size
from pollin_actors.cli.inbox import Inbox
from pollin_actors.cli.options import Commands, add_command, open_inbox, output_of
from pollin_actors.cli.output import note, writing

__all__ = ["add_parsers", "progress"]

_END = b'{"end":'

Advance = Callable[[int], None]


def add_parsers(commands: Commands) -> None:
    """Add the commands to the parser of ``pollin``."""
    dump_ = add_command(
        commands,
        "dump",
        dump,
        "write endpoints and what is queued, as lines of JSON",
        "Write endpoints and all that is queued in them as lines of JSON, which `pollin load` "
        "reads. Headers are in it as they came, with credentials: keep it accordingly.",
    )
    dump_.add_argument("endpoints", metavar="ENDPOINT", nargs="*", help="(default: all)")
    dump_.add_argument(
        "--output", "-o", metavar="FILE", help="only its owner can read it (default: stdout)"
    )
    dump_.add_argument(
        "--secrets", action="store_true", help="with the endpoints' secrets (of a backend only)"
    )

    load_ = add_command(
        commands,
        "load",
        load,
        "add what a dump holds",
        "Add what a dump holds. Endpoints that exist stay as they are; repeated, nothing is added "
        "twice.",
    )
    load_.add_argument("file", metavar="FILE", nargs="?", default="-", help="(default: stdin)")


def dump(arguments: argparse.Namespace) -> int:
    """Write a dump."""
    with terminable():
        try:
            return _dump(arguments)
        except Terminated:
            return Exit.TERMINATED  # no part of a file is left, which would hold credentials


def _dump(arguments: argparse.Namespace) -> int:
    with open_inbox(arguments) as inbox, _written(arguments.output) as file:
        ids = arguments.endpoints or [it["id"] for it in inbox.endpoints()]
        # With one that says what it is, and one that says that it ends.
        total = len(ids) + 2
        for id in dict.fromkeys(ids):
            # One that is deleted meanwhile is not in it, unless it was asked for.
            with contextlib.suppress(*(() if arguments.endpoints else (NotThere,))):
                total += inbox.count(id)
        between, line, length = arguments.output is None and sys.stdout.isatty(), b"", 0
        with progress("dumping", total, "lines", wanted=not between) as advance:
            for line in inbox.dump(arguments.endpoints, arguments.secrets):
                file.write(line)
                length += len(line)
                advance(1)
        file.flush()
        if not line.startswith(_END):
            # A server cannot say so once it has begun.
            raise Unavailable(f"{inbox.where} ended the dump too early: see its log, and try again")
    if arguments.output is not None:
        note(f"written  {arguments.output}  {size(length)}")
    return 0


def load(arguments: argparse.Namespace) -> int:
    """Read a dump."""
    output = output_of(arguments)
    with _read(arguments.file) as (file, total), open_inbox(arguments, create=True) as inbox:
        loaded = _load(inbox, file, total)
    if output.as_json:
        output.document(loaded)
    else:
        output.fields([(name, loaded[name]) for name in ("endpoints", "queued", "duplicates")])
    return 0


def _load(inbox: Inbox, file: BinaryIO, total: int | None) -> dict[str, Any]:
    with progress("loading", total, "bytes") as advance:

        def lines() -> Iterator[bytes]:
            for line in file:
                yield line
                advance(len(line))

        return inbox.load(lines())


@contextlib.contextmanager
def _written(name: str | None) -> Iterator[BinaryIO]:
    """A file that is there once all of it is, or stdout."""
    if name is None:
        stream: Any = sys.stdout
        if stream is None:
            raise UserError("there is no standard output: give a file as --output")
        with writing(stream):
            yield stream.buffer
        return
    try:
        # What a link points at, and not the link.
        target = Path(name).resolve()
        # A pipe, or a device: no file may take its place.
        part = None if target.exists() and not (target.is_file() or target.is_dir()) else ""
        if part is None:
            number = os.open(target, os.O_WRONLY)
        else:
            # Made by its owner, for its owner.
            number, part = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except (OSError, RuntimeError, ValueError) as error:
        raise _unusable(name, error) from None
    try:
        with os.fdopen(number, "wb") as file:
            yield file
        if part is not None:
            os.replace(part, target)
    except BaseException as error:
        if part is not None:
            with contextlib.suppress(OSError):
                os.unlink(part)
        if isinstance(error, OSError):
            raise _unusable(name, error) from None
        raise


@contextlib.contextmanager
def _read(name: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """A file and its size, or stdin."""
    if name == "-":
        stream: Any = sys.stdin
        if stream is None:
            raise UserError("there is no standard input: give a FILE")
        yield stream.buffer, None
        return
    try:
        file = open(name, "rb")  # noqa: SIM115
    except (OSError, ValueError) as error:
        raise _unusable(name, error) from None
    with file:
        yield file, os.fstat(file.fileno()).st_size


def _unusable(name: str, error: Exception) -> CommandError:
    reason = getattr(error, "strerror", None) or "it cannot be the name of one"
    return UserError(f"file {name!r} cannot be used ({reason}): give another")


@contextlib.contextmanager
def progress(what: str, total: int | None, unit: str, wanted: bool = True) -> Iterator[Advance]:
    """A bar on stderr, if that is a terminal and rich is installed.

    Args:
        what: is being done.
        total: how much there is to be done; None: nobody knows.
        unit: of it: ``"bytes"`` or another.
        wanted: False: none, as where it would come between what is written to the same terminal.
    """
    if not wanted or sys.stderr is None or not sys.stderr.isatty():
        yield _ignore
        return
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )
    except ImportError:
        yield _ignore
        return
    counted = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        counted,
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda number: bar.advance(task, number)


def _ignore(number: int) -> None:
    pass
