"""examples/handlers.py: timers, monitors, an idle time-out, a stop from inside; in virtual time."""

from __future__ import annotations

from tests.examples.programs import run

EXPECTED = """\
['a welcome gift', 'a lamp']
the session ends: normal
['a welcome gift', 'a lamp']
the desk: a visitor has left, having paid
the desk: 20 s
the session ends: shutdown
the desk: a visitor has left, nobody there any more
the desk: 40 s
the desk: 60 s
"""


def test_it_runs_as_a_program() -> None:
    """Silence ends the one visitor, paying the other; the desk hears of both."""
    assert run("handlers") == EXPECTED
