"""Options that commands have in common, and the inbox that they say."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from typing import Any, TypeAlias

from pollin_actors.cli.errors import UserError
from pollin_actors.cli.inbox import Inbox
from pollin_actors.cli.output import Output

__all__ = [
    "DEFAULT_BACKEND",
    "Commands",
    "Run",
    "add_command",
    "backend_url",
    "open_inbox",
    "output_of",
    "positive",
    "seconds",
    "whole",
]

Commands: TypeAlias = "argparse._SubParsersAction[Any]"
Run: TypeAlias = Callable[[argparse.Namespace], int]

DEFAULT_BACKEND = "sqlite:///pollin.db"
DEFAULT_TIMEOUT = 10.0
# Thirty years: nothing waits for longer, and no clock of a system can be asked to.
LONGEST_S = 1e9


def add_command(
    commands: Commands,
    name: str,
    run: Run,
    help: str,
    description: str = "",
    *,
    backend: bool = True,
    server: bool = True,
    json: bool = True,
) -> argparse.ArgumentParser:
    """Add a command, with the options that all have.

    Args:
        commands: where.
        name: what it is called.
        run: carries it out; its result is the exit code.
        help: a line for the list of commands.
        description: for its own help; by default that line.
        backend: whether it works on a backend.
        server: whether it works on a running server.
        json: whether it can answer in JSON.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description or f"{help[0].upper()}{help[1:]}.",
        allow_abbrev=False,
    )
    target = parser.add_argument_group("which inbox" if backend or server else "options")
    if backend:
        target.add_argument(
            "--backend",
            metavar="URL",
            help=f"the backend to open; else POLLIN_BACKEND, else {DEFAULT_BACKEND}",
        )
    if server:
        target.add_argument(
            "--server",
            metavar="URL",
            help="a running server instead: where its admin API is mounted; else POLLIN_SERVER",
        )
        target.add_argument(
            "--token",
            help="of the admin API; better POLLIN_TOKEN, which no list of processes shows",
        )
    if backend or server:
        target.add_argument(
            "--timeout",
            type=seconds,
            default=DEFAULT_TIMEOUT,
            metavar="SECONDS",
            help=f"for each operation (default: {DEFAULT_TIMEOUT:g})",
        )
    if json:
        target.add_argument("--json", action="store_true", help="answer in JSON, for programs")
    parser.set_defaults(run=run)
    return parser


def seconds(text: str) -> float:
    """Seconds of an option, more than none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= LONGEST_S:
        expected = f"a number of seconds > 0, at most {LONGEST_S:.0f}"
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text[:80]!r}")
    return value


def whole(text: str) -> int:
    """A whole number of an option, from 0 on."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text[:80]!r}")
    return int(text)


def positive(text: str) -> int:
    """A whole number of an option, from 1 on."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError("expected a whole number from 1 on, got '0'")
    return value


def output_of(arguments: argparse.Namespace) -> Output:
    """Where a command writes to."""
    return Output(arguments.json)


def backend_url(arguments: argparse.Namespace) -> str:
    """The backend that is meant."""
    return arguments.backend or os.environ.get("POLLIN_BACKEND") or DEFAULT_BACKEND


def open_inbox(arguments: argparse.Namespace, *, create: bool = False) -> Inbox:
    """The inbox that is meant: what an option says wins over the environment.

    Args:
        arguments: of the command.
        create: whether a backend may be made that is not there.

    Raises:
        CommandError: it cannot be told, or cannot be opened.
    """
    server = _server(arguments)
    if server is None:
        if arguments.token is not None:
            raise UserError("--token belongs to --server: give that, or POLLIN_SERVER, too")
        from pollin_actors.cli.local import open_local

        return open_local(backend_url(arguments), arguments.timeout, create=create)
    from pollin_actors.cli.remote import Remote

    token = arguments.token if arguments.token is not None else os.environ.get("POLLIN_TOKEN", "")
    return Remote(server, token, arguments.timeout)


def _server(arguments: argparse.Namespace) -> str | None:
    if arguments.server is not None:
        if arguments.backend is not None:
            raise UserError("expected --backend or --server, got both: leave one of them out")
        return str(arguments.server)
    if arguments.backend is not None:
        return None
    server = os.environ.get("POLLIN_SERVER")
    if server and os.environ.get("POLLIN_BACKEND"):
        raise UserError(
            "POLLIN_BACKEND and POLLIN_SERVER are both set: say which by --backend or --server, or "
            "unset one"
        )
    return server or None
