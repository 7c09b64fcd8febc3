"""Kill a process that works on a SQLite inbox, again and again, and see that nothing is lost.

    python -m tests.kill_sqlite 200

The child announces what it is about to do and says what was answered; it is killed (SIGKILL)
after a random number of lines. Then every push that was answered must be there exactly once,
unless its pop was answered, or was under way; and the file must be sound.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from itertools import count
from pathlib import Path

from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.messages import CreateEndpoint, DumpPage, FindEndpoint, Pop, Push, UpdatePhase
from pollin_actors.resources import Callback, Endpoint, Request
from tests.backends.sqlite_file import check_file

__all__ = ["Rounds"]

THREADS = 4
IN_FLIGHT = 16


def work(path: str, name: str) -> None:
    """Push, advance and pop on several threads, for ever; say so on standard output."""
    backend = SqliteBackend(path)
    backend.open(time.time_ns)
    if backend.execute(FindEndpoint("e")).get() is None:
        endpoint = Endpoint.new(["received", "processed"], 0, id="e")
        backend.execute(CreateEndpoint(endpoint)).get()

    def say(word: str, ids: list[str]) -> None:
        # Up to PIPE_BUF bytes at once are one piece in the pipe, whoever else writes.
        os.write(1, "".join(f"{word} {id}\n" for id in ids).encode())

    def run(number: int) -> None:
        chance = random.Random(f"{name} {number}")
        for turn in count():
            ids = [f"{name}-{number}-{turn}-{n}" for n in range(chance.randint(1, IN_FLIGHT))]
            body = chance.randbytes(chance.choice([0, 100, 3_000]))
            say("push", ids)
            pushes = [Push("e", Callback.new(Request([], body), id=id), None, True) for id in ids]
            for future in [backend.execute(push) for push in pushes]:
                future.get()
            say("pushed", ids)
            moved = chance.sample(ids, len(ids) // 2)
            say("move", moved)
            for future in [backend.execute(UpdatePhase("e", id, "processed")) for id in moved]:
                future.get()
            say("moved", moved)
            popped = chance.sample(ids, len(ids) * 3 // 4)
            say("pop", popped)
            for future in [backend.execute(Pop("e", id)) for id in popped]:
                assert future.get() is not None
            say("popped", popped)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()


class Rounds:
    """Rounds of killing on one file.

    Arguments:
        path: of the file.
        seed: of the moments at which the child is killed.
    """

    def __init__(self, path: Path, seed: int = 0) -> None:
        self._path = path
        self._chance = random.Random(seed)
        self._left: dict[str, str] = {}
        self._number = 0
        self.acknowledged = 0

    def run(self) -> None:
        """One round: work, kill, look.

        Raises:
            AssertionError: something is missing, is there twice, or came from nowhere.
        """
        self._number += 1
        command = [sys.executable, "-m", "tests.kill_sqlite", "--child", str(self._path)]
        child = subprocess.Popen([*command, str(self._number)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        said: dict[str, set[str]] = {}
        with child:
            try:
                lines = self._chance.randint(1, 3_000)
                for number, line in enumerate(child.stdout):
                    word, _, id = line.rstrip("\n").partition(" ")
                    said.setdefault(word, set()).add(id)
                    if number == lines:
                        child.kill()
            finally:
                child.kill()
        assert said, "the child ended by itself"
        self._look(said)

    def _look(self, said: dict[str, set[str]]) -> None:
        backend = SqliteBackend(self._path)
        backend.open(time.time_ns)
        try:
            found: list[tuple[str, str]] = []
            after: int | None = None
            while True:
                page = backend.execute(DumpPage("e", after)).get()
                found += [(callback.id, callback.phase) for callback in page.callbacks]
                after = page.cursor
                if after is None:
                    break
        finally:
            backend.close()
        check_file(self._path)
        there = dict(found)
        assert len(there) == len(found), "an id is there twice"
        none: set[str] = set()
        pushed = said.get("pushed", none)
        self.acknowledged += len(pushed)
        missing = (pushed | self._left.keys()) - said.get("pop", none) - there.keys()
        assert not missing, f"acknowledged and gone: {sorted(missing)[:5]}"
        back = said.get("popped", none) & there.keys()
        assert not back, f"popped and still there: {sorted(back)[:5]}"
        strange = there.keys() - said.get("push", none) - self._left.keys()
        assert not strange, f"never pushed: {sorted(strange)[:5]}"
        for id, phase in found:
            if id in said.get("moved", none):
                assert phase == "processed", f"{id}: its phase was acknowledged, and is not there"
            elif id not in said.get("move", none):
                assert phase == self._left.get(id, "received"), f"{id} is {phase}"
        self._left = there


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        work(*sys.argv[2:])
        return
    rounds = int(sys.argv[1]) if sys.argv[1:] else 200
    with tempfile.TemporaryDirectory() as folder:
        killing = Rounds(Path(folder) / "inbox.db", random.randrange(10**9))
        for number in range(rounds):
            killing.run()
            print(
                f"{number + 1}: {killing.acknowledged} pushes acknowledged, none lost", flush=True
            )


if __name__ == "__main__":
    main()
