"""examples/command_session.py: the command, driven from Python."""

from __future__ import annotations

from tests.examples.programs import run


def test_the_session_is_as_the_guide_tells() -> None:
    """Every command does what it says, and the loop ends with the exit code for nothing there."""
    assert run("command_session").splitlines() == [
        "created  orders",
        "secret  as given, fingerprint 2a27e4a7",
        "queued  orders  1001",
        "queued  orders  1002",
        "moved  orders  1002  done",
        "1",
        '{"order": 1001}',
        "worked off: 1",
        "replay      again",
        "matched     1",
        "pushed      1",
        "duplicates  0",
        "  again:1001",
        '{"order": 1001}',
    ]
