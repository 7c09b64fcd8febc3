"""Move an inbox from one backend to another, by way of a file that can be kept and looked into.

python -m examples.move_inbox sqlite:///old.db sqlite:///new.db inbox.ndjson
"""

from __future__ import annotations

import sys

from pollin_actors import Application
from pollin_actors.transfer import Loaded, dump, load


def move(source: str, target: str, path: str) -> Loaded:
    """Write everything to the file, then read the file into the other inbox."""
    with Application(source) as old, open(path, "wb") as file:
        # With secrets=True senders can go on as before; keep such a file like passwords.
        file.writelines(dump(old, secrets=True))
    with Application(target) as new, open(path, "rb") as file:
        return load(new, file)


if __name__ == "__main__":
    loaded = move(*sys.argv[1:])
    print(f"{loaded.queued} callbacks of {loaded.endpoints} new endpoints")
