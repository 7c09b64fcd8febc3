"""The SQLite backend through the application, against raw sqlite3 with the same statements.

    python -m tests.benchmarks.sqlite            # with fsync at each commit
    python -m tests.benchmarks.sqlite --normal   # without
    python -m tests.benchmarks.sqlite --no-history
    python -m tests.benchmarks.sqlite --depth    # 1,000,000 queued against 1,000; takes minutes

Raw means one thread, no actors, no futures, arguments made beforehand; schema, connection and
statements are the backend's own. huey, persist-queue and litequeue are shown if they are
installed.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from pollin_actors import Application, Callback, Endpoint, Request
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.backends.sqlite.operations import Operations
from pollin_actors.backends.sqlite.schema import Durability, connect
from pollin_actors.backends.sqlite.statements import ADD, ADD_MANY, BATCHES, STORE, STORE_MANY
from pollin_actors.backends.values import encode
from pollin_actors.messages import CreateEndpoint, Push
from tests.benchmarks.rounds import measure, table

REQUEST = Request([("content-type", "application/json")], b"x" * 1024)
IN_FLIGHT = 512
THREADS = 64


class Recorded:
    """A connection that notes what is executed."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.statements: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, values: Any = ()) -> Any:
        self.statements.append((statement, values))
        return self._connection.execute(statement, values)


def raw(
    path: Path, durability: Durability, per_commit: int, keep_for: float
) -> Callable[[int], None]:
    """Execute what the backend executes for pushes; the statements are recorded from itself."""
    connection: Any = connect(str(path), durability, 5.0)
    recorded = Recorded(connection)
    operations = Operations(recorded, time.time_ns, str(path))  # type: ignore[arg-type]
    operations.create(CreateEndpoint(Endpoint.new(id="e", keep_for=keep_for)), None)
    operations.begun()
    stored = encode(REQUEST)
    operations.push(Push("e", Callback.new(REQUEST), None, True), stored)
    recorded.statements.clear()
    operations.begun()
    begun = recorded.statements.copy()

    def run(number: int) -> None:
        execute = connection.execute
        for start in range(0, number, per_commit):
            execute("BEGIN IMMEDIATE")
            for statement, values in begun:
                execute(statement, values).fetchone()
            left = min(per_commit, number - start)
            while left:
                # The same statements as the backend's: as many rows in each as it puts there.
                rows = next((rows for rows in BATCHES if rows <= left), 1)
                now = time.time_ns()
                rowset: list[Any] = []
                for _ in range(rows):
                    id, expires_at, until = ids[next(taken)], now + 10**12, now + 10**14
                    rowset += (1, id, "received", now, expires_at, until, keep, REQUEST.size, now)
                last = execute(ADD if rows == 1 else ADD_MANY[rows], rowset).lastrowid
                requests: list[Any] = []
                for position in range(last - rows + 1, last + 1):
                    requests += (position, *stored)
                execute(STORE if rows == 1 else STORE_MANY[rows], requests)
                left -= rows
            execute("COMMIT")

    keep = round(keep_for * 1e9)
    ids = [Callback.new(None).id for _ in range(400_000)]
    taken = count()
    return run


def in_flight(app: Application) -> Callable[[int], None]:
    def run(number: int) -> None:
        waiting: deque[Any] = deque()
        for _ in range(number):
            waiting.append(app.callbacks.push("e", Callback.new(REQUEST)))
            if len(waiting) >= IN_FLIGHT:
                waiting.popleft().get()
        for future in waiting:
            future.get()

    return run


def again(push: Callable[[], object]) -> Callable[[int], None]:
    def run(number: int) -> None:
        for _ in range(number):
            push()

    return run


def threads(push: Callable[[], object]) -> Callable[[int], None]:
    work = again(push)

    def run(number: int) -> None:
        several = [threading.Thread(target=work, args=(number // THREADS,)) for _ in range(THREADS)]
        for thread in several:
            thread.start()
        for thread in several:
            thread.join()

    return run


def peers(folder: Path, fsync: bool) -> dict[str, Callable[[int], None]]:
    """Those that are installed; 64 threads for huey, one for the others."""
    found: dict[str, Callable[[int], None]] = {}
    body = REQUEST.body
    try:
        api: Any = importlib.import_module("huey")
    except ImportError:
        pass
    else:
        huey = api.SqliteHuey(filename=str(folder / "huey.db"), fsync=fsync)
        task = huey.task()(lambda body: None)
        found["64 threads, huey"] = threads(lambda: task(body))
    try:
        queues: Any = importlib.import_module("persistqueue")
    except ImportError:
        pass
    else:
        queue = queues.SQLiteAckQueue(str(folder / "persist"), auto_commit=True)
        found["one, persist-queue"] = again(lambda: queue.put(body))
    try:
        lite: Any = importlib.import_module("litequeue")
    except ImportError:
        pass
    else:
        simple = lite.LiteQueue(str(folder / "lite.db"))
        text = body.decode()
        found["one, litequeue"] = again(lambda: simple.put(text))
    return found


def pushes(folder: Path, durability: Durability, rounds: int, keep_for: float) -> None:
    backend = SqliteBackend(folder / "app.db", durability=durability)
    with Application(backend, endpoints=[Endpoint.new(id="e", keep_for=keep_for)]) as app:
        subjects: dict[str, Callable[[int], None]] = {
            "one caller": again(lambda: app.callbacks.push("e", Callback.new(REQUEST)).get()),
            "one caller, raw": raw(folder / "raw1.db", durability, 1, keep_for),
            f"{IN_FLIGHT} in flight": in_flight(app),
            "100 a transaction, raw": raw(folder / "raw100.db", durability, 100, keep_for),
            f"{THREADS} threads": threads(
                lambda: app.callbacks.push("e", Callback.new(REQUEST)).get()
            ),
        }
        subjects |= peers(folder, durability == "full")
        counts = dict.fromkeys(subjects, 2000)
        counts[f"{IN_FLIGHT} in flight"] = counts["100 a transaction, raw"] = 15_000
        counts[f"{THREADS} threads"] = 10 * 64 * 10
        figures = measure(subjects, counts, rounds)
    table(figures, "one caller, raw")
    for ours, theirs, wanted in (
        ("one caller", "one caller, raw", 0.8),
        (f"{IN_FLIGHT} in flight", "100 a transaction, raw", 0.6),
        (f"{THREADS} threads", "64 threads, huey", 4.0),
    ):
        if theirs in figures:
            ratio = statistics.median(
                b / a for a, b in zip(figures[ours], figures[theirs], strict=True)
            )
            print(f"{ours} / {theirs}: {ratio:.2f}, wanted {wanted}")


def depth(folder: Path, durability: Durability, rounds: int, deep: int) -> None:
    """Push, pop, fetch and count beside long queues and short ones; and what memory it takes."""
    depths = (1_000, deep)
    names = {number: f"d{number}" for number in depths}
    backend = SqliteBackend(folder / "deep.db", durability=durability)
    endpoints = [Endpoint.new(id=name) for name in names.values()]
    with Application(backend, endpoints=endpoints) as app:
        callbacks = app.callbacks
        for number, name in names.items():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            waiting: deque[Any] = deque()
            for _ in range(number):
                waiting.append(callbacks.push(name, Callback.new(REQUEST), timeout=None))
                if len(waiting) >= IN_FLIGHT:
                    waiting.popleft().get()
            for future in waiting:
                future.get()
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(f"{number:,} queued: {before // 1024} MiB, then {after // 1024} MiB")

        def subject(kind: str, name: str) -> Callable[[int], None]:
            def run(number: int) -> None:
                for _ in range(number):
                    if kind == "push":
                        callbacks.push(name, Callback.new(REQUEST)).get()
                    elif kind == "pop":
                        callbacks.pop(name).get()
                    elif kind == "fetch":
                        callbacks.fetch(name).get()
                    else:
                        callbacks.count(name).get()

            return run

        kinds = ("push", "pop", "fetch", "count")
        subjects = {f"{kind} {n}": subject(kind, names[n]) for kind in kinds for n in depths}
        figures = measure(subjects, dict.fromkeys(subjects, 300), rounds)
        for kind in kinds:
            small, large = (statistics.median(figures[f"{kind} {n}"]) for n in depths)
            print(f"{kind:8}{small * 1e6:10.1f} us {large * 1e6:10.1f} us {large / small:6.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--normal", action="store_true")
    parser.add_argument("--no-history", action="store_true")
    parser.add_argument("--depth", action="store_true")
    parser.add_argument("--deep", type=int, default=1_000_000)
    arguments = parser.parse_args()
    durability: Durability = "normal" if arguments.normal else "full"
    with tempfile.TemporaryDirectory() as name:
        if arguments.depth:
            depth(Path(name), durability, arguments.rounds, arguments.deep)
        else:
            keep_for = 0.0 if arguments.no_history else 86_400.0
            pushes(Path(name), durability, arguments.rounds, keep_for)


if __name__ == "__main__":
    main()
