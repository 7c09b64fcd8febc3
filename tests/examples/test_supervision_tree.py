"""examples/supervision_tree.py: strategies, a partitioned pool, a class of plain Pykka."""

from __future__ import annotations

from examples import supervision_tree
from tests.examples.programs import run

EXPECTED = """\
page 1, read in session 1
a new session: 2
page 2, read in session 2
cat.png: 1
dog.png: 1
cat.png: 2
archived: 1
the reader of session 2 is done
page 3, read in session 2
Supervisor running restarts 0
session running restarts 0
line running restarts 1
reader running restarts 2
sizers running restarts 0
0 running restarts 0
1 running restarts 0
archive running restarts 0
"""


def test_it_runs_as_a_program() -> None:
    """Each session has a reader of its own; equal names meet the same sizer."""
    assert run("supervision_tree") == EXPECTED


def test_main_can_be_called() -> None:
    """The program's main runs within another program, and leaves nothing behind it to wait for."""
    supervision_tree.main()
