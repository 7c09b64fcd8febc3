"""Executions of a handler that does nothing, on SQLite, against huey on SQLite.

    python -m tests.benchmarks.handlers              # with fsync at each commit
    python -m tests.benchmarks.handlers --normal     # without

Each subject works off callbacks, or tasks, that were queued before: eight threads, one process.
Every execution is durable: ours is claimed and acknowledged, and both are in its history; a task
of huey is taken from its queue, which is all that huey does. huey is shown if it is installed.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import statistics
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pollin_actors import Application, Callback, Endpoint, Request
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.backends.sqlite.schema import Durability
from tests.benchmarks.rounds import measure, table

REQUEST = Request([("content-type", "application/json")], b"x" * 1024)
CONCURRENCY = 8
IN_FLIGHT = 512


class Countdown:
    """Is set once something has been done so many times."""

    def __init__(self, number: int) -> None:
        self._done = itertools.count(1)
        self._number = number
        self.reached = threading.Event()

    def one(self) -> None:
        if next(self._done) == self._number:
            self.reached.set()


class Ours:
    """A handler on threads, or a coroutine, that is paused until its callbacks are queued."""

    def __init__(self, app: Application, name: str, *, is_async: bool, keep_for: float) -> None:
        self._app = app
        self._name = name
        self._countdown = Countdown(0)
        endpoint = Endpoint.new(["new", "done", "failed"], 0, id=name, keep_for=keep_for)
        app.endpoints.create(endpoint).get()

        def handle(callback: Callback) -> None:
            self._countdown.one()

        async def ahandle(callback: Callback) -> None:
            self._countdown.one()

        function = ahandle if is_async else handle
        app.add_handler(function, name, dead_letter="failed", concurrency=CONCURRENCY, name=name)

    def prepare(self, number: int) -> None:
        self._countdown = Countdown(number)
        self._app.handlers.pause(self._name).get()
        waiting: deque[Any] = deque()
        for _ in range(number):
            waiting.append(self._app.callbacks.push(self._name, Callback.new(REQUEST)))
            if len(waiting) >= IN_FLIGHT:
                waiting.popleft().get()
        for future in waiting:
            future.get()

    def run(self, number: int) -> None:
        self._app.handlers.resume(self._name).get()
        assert self._countdown.reached.wait(60)
        # Until the last one is acknowledged, too.
        self._app.handlers.drain(self._name).get()


class Huey:
    """huey's own consumer with threads."""

    def __init__(self, path: Path, fsync: bool) -> None:
        api: Any = importlib.import_module("huey")
        self._huey = api.SqliteHuey(filename=str(path), fsync=fsync, results=False)
        self._countdown = Countdown(0)

        def work(body: bytes) -> None:
            self._countdown.one()

        self._task = self._huey.task()(work)

    def prepare(self, number: int) -> None:
        self._countdown = Countdown(number)
        for _ in range(number):
            self._task(REQUEST.body)

    def run(self, number: int) -> None:
        consumer = self._huey.create_consumer(
            workers=CONCURRENCY, periodic=False, initial_delay=0.001, backoff=1.0, max_delay=0.001
        )
        consumer.start()
        assert self._countdown.reached.wait(120)
        consumer.stop()
        for _, thread in consumer.worker_threads:
            thread.join()


def compare(folder: Path, durability: Durability, rounds: int, number: int) -> None:
    backend = SqliteBackend(folder / "app.db", durability=durability)
    with Application(backend) as app:
        subjects: dict[str, Any] = {
            "threads": Ours(app, "threads", is_async=False, keep_for=86_400.0),
            "threads, no history": Ours(app, "plain", is_async=False, keep_for=0.0),
            "coroutines": Ours(app, "loop", is_async=True, keep_for=86_400.0),
        }
        try:
            subjects["huey"] = Huey(folder / "huey.db", durability == "full")
        except ImportError:
            print("huey is not installed")
        runs: dict[str, Callable[[int], None]] = {
            name: subject.run for name, subject in subjects.items()
        }
        prepare = {name: subject.prepare for name, subject in subjects.items()}
        figures = measure(runs, dict.fromkeys(runs, number), rounds, prepare)
    table(figures, "threads")
    if "huey" in figures:
        pairs = zip(figures["threads"], figures["huey"], strict=True)
        ratio = statistics.median(theirs / ours for ours, theirs in pairs)
        print(f"threads / huey: {ratio:.2f}, wanted 3.0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--number", type=int, default=4000)
    parser.add_argument("--normal", action="store_true")
    arguments = parser.parse_args()
    durability: Durability = "normal" if arguments.normal else "full"
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), durability, arguments.rounds, arguments.number)


if __name__ == "__main__":
    main()
