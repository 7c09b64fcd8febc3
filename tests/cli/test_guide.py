"""The guide to the command says what is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pollin_actors.cli.dispatch import new_parser
from pollin_actors.cli.errors import EXIT_CODES
from tests.examples.programs import ROOT

GUIDE = (ROOT / "examples" / "command.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if "pollin " in line]
COMMANDS = [line for line in LINES if not line.startswith("pip ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_line_can_be_entered(line: str, tmp_path: Path) -> None:
    """Commands and options are those that there are."""
    words = shlex.split(line, comments=True)
    words = words[words.index("pollin") + 1 :]
    for end in ("<", ">"):
        if end in words:
            words = words[: words.index(end)]
    new_parser().parse_args(words)


def test_every_command_is_in_it() -> None:
    """Those of the help, with those below them."""
    parser = new_parser()
    shown = set()
    for line in COMMANDS:
        words = shlex.split(line, comments=True)
        words = words[words.index("pollin") + 1 :]
        shown |= {words[0], " ".join(words[:2])}
    for name, command in parser._subparsers._group_actions[0].choices.items():  # type: ignore[union-attr]
        assert name in shown
        if command._subparsers is not None:
            for below in command._subparsers._group_actions[0].choices:
                assert f"{name} {below}" in shown


def test_the_exit_codes_are_those_that_there_are() -> None:
    """With the words of the help."""
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", GUIDE, re.MULTILINE)
    assert rows == [(str(code.value), text) for code, text in EXIT_CODES.items()]
