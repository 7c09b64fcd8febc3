"""A process that pushes and pops on a SQLite file that others use too."""

from __future__ import annotations

import json
import sys
import time

from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.messages import Pop, Push
from pollin_actors.resources import Callback


def main(path: str, name: str, turns: int) -> None:
    """Push and pop in turn, one and many at a time; print the ids that were popped."""
    backend = SqliteBackend(path, durability="normal", busy_timeout=60)
    backend.open(time.time_ns)
    popped = []
    for turn in range(turns):
        several = range(1 + turn % 3)
        pushes = [Callback.new(b"x", id=f"{name}-{turn}-{n}") for n in several]
        futures = [backend.execute(Push("e", callback, None, True)) for callback in pushes]
        futures += [backend.execute(Pop("e")) for _ in several]
        replies = [future.get() for future in futures]
        popped += [callback.id for callback in replies[len(pushes) :] if callback is not None]
    backend.close()
    print(json.dumps(popped))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
