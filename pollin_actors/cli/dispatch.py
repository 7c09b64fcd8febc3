"""What the ``pollin`` command is asked for, and its end: an exit code, an error in one line."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from pollin_actors.cli.errors import EXIT_CODES, CommandError, Exit, UserError, of_error
from pollin_actors.cli.logs import log_to_stderr
from pollin_actors.cli.output import note
from pollin_actors.cli.screen import drop_the_rest
from pollin_actors.errors import PollinError
from pollin_actors.otp import OtpError

__all__ = ["dispatch", "new_parser"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for every other error, instead of the usage on several."""
        raise UserError(f"{message}; see `{self.prog} --help`")


def dispatch(argv: Sequence[str] | None) -> int:
    """Run the command that is asked for; the exit code. An interrupt is raised.

    Args:
        argv: the arguments without the command's name; None: those of the process.
    """
    try:
        arguments = new_parser().parse_args(argv)
        with log_to_stderr():
            code: int = arguments.run(arguments)
    except (CommandError, PollinError, OtpError) as error:
        ending = of_error(error)
        note("pollin: " + " ".join(str(ending).splitlines()))
        return int(ending.code)
    except SystemExit as end:
        # --help and --version have printed what was asked for.
        return end.code if isinstance(end.code, int) else 0
    except BrokenPipeError:
        drop_the_rest(sys.stdout)
        return int(Exit.BROKEN_PIPE)
    except Exception:
        traceback.print_exc()
        return int(Exit.BUG)
    return int(code)


def new_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    # Only now: who only imports this needs none of them.
    from pollin_actors.cli import (
        again,
        callbacks,
        dead,
        demo,
        doctor,
        endpoint,
        forward,
        past,
        prune,
        serve,
        sign,
        top,
        transfer,
    )

    codes = "\n".join(f"  {code:<4} {text}" for code, text in EXIT_CODES.items())
    parser = _Parser(
        prog="pollin",
        description="A durable inbox for webhooks.",
        epilog=f"exit codes:\n{codes}\n\n`pollin COMMAND --help` explains a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pollin {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    serve.add_parser(commands)
    demo.add_parser(commands)
    endpoint.add_parsers(commands)
    callbacks.add_parsers(commands)
    past.add_parsers(commands)
    dead.add_parsers(commands)
    again.add_parsers(commands)
    transfer.add_parsers(commands)
    sign.add_parsers(commands)
    forward.add_parser(commands)
    top.add_parser(commands)
    prune.add_parsers(commands)
    doctor.add_parser(commands)
    return parser


def _version() -> str:
    try:
        return version("pollin-actors")
    except PackageNotFoundError:
        return "(not installed: no version)"
