"""The ``pollin`` command."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from pollin_actors.cli import serve
from pollin_actors.cli.errors import UserError

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for every other error, instead of the usage on several."""
        raise UserError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``pollin`` command.

    Args:
        argv: the arguments without the command's name; by default those of the process.

    Returns:
        The exit code: 0 for success, 2 for what the user has to change, which is said in one line
        on stderr.
    """
    try:
        arguments = _parser().parse_args(argv)
        code: int = arguments.run(arguments)
    except UserError as error:
        print("pollin:", *str(error).splitlines(), file=sys.stderr)
        return 2
    except SystemExit as end:
        # --help and --version have printed what was asked for.
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pollin",
        description="A durable inbox for webhooks.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pollin {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    serve.add_parser(commands)
    return parser


def _version() -> str:
    try:
        return version("pollin-actors")
    except PackageNotFoundError:
        return "(not installed: no version)"
