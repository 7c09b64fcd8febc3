"""A session with the command, from Python: what scripts do in a shell, with the same exit codes.

Run it: ``python examples/command_session.py``
"""

from __future__ import annotations

import os
import tempfile

from pollin_actors.cli import main

NOT_THERE = 1
"""The exit code for what is not there."""


def pollin(*arguments: str) -> int:
    """Run one command, as a shell would; its exit code."""
    return main(arguments)


def fill() -> None:
    """An endpoint with two callbacks; the second is moved on by hand."""
    pollin("endpoint", "create", "orders", "--phases", "received,done", "--secret", "change-me")
    for number in ("1001", "1002"):
        pollin("push", "orders", "--id", number, "--data", f'{{"order": {number}}}')
    pollin("phase", "orders", "1002", "done", "--expect", "received")
    pollin("count", "orders", "--phase", "done")


def work_off() -> int:
    """Take what is received, one after the other; how many that were."""
    done = 0
    while pollin("pop", "orders", "--phase", "received", "--body") != NOT_THERE:
        print()  # a body has no line end of its own
        done += 1
    return done


def session() -> None:
    """All of it, on an inbox in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POLLIN_BACKEND"] = f"sqlite:///{folder}/inbox.db"
        fill()
        print("worked off:", work_off())
        # What has left the queue is kept for a while: it can be received again.
        pollin("replay", "orders", "1001", "--name", "again")
        pollin("pop", "orders", "again:1001", "--body")
        print()


if __name__ == "__main__":
    session()
