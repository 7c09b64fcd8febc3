"""Pushes and handlers on a Valkey server, against RQ and dramatiq on the same server.

    python -m tests.benchmarks.valkey                # each write on disk before it is answered
    python -m tests.benchmarks.valkey --in-memory    # nothing on disk

RQ's enqueue is compared with a push, one at a time; pushes in flight are shown beside it, which RQ
has not. dramatiq's worker is compared with a handler that does nothing: eight threads each, one
process, and what is worked off was queued before. Both are shown if they are installed.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
from collections import deque
from collections.abc import Callable
from typing import Any

from pollin_actors import Application, Callback, Endpoint
from pollin_actors.backends.valkey import ValkeyBackend
from tests.benchmarks.handlers import CONCURRENCY, IN_FLIGHT, REQUEST, Countdown, Ours
from tests.benchmarks.rounds import measure, table
from tests.servers.valkey import ALWAYS, Server


class Rq:
    """Jobs of RQ, which nobody works off."""

    def __init__(self, server: Server) -> None:
        queue: Any = importlib.import_module("rq").Queue
        client: Any = importlib.import_module("redis").Redis(unix_socket_path=str(server.socket))
        self._queue = queue(connection=client)

    def one_at_a_time(self, number: int) -> None:
        for _ in range(number):
            self._queue.enqueue(len, REQUEST.body)


class Dramatiq:
    """dramatiq's own worker, on threads."""

    def __init__(self, server: Server) -> None:
        self._api: Any = importlib.import_module("dramatiq")
        brokers: Any = importlib.import_module("dramatiq.brokers.redis")
        client: Any = importlib.import_module("redis").Redis(unix_socket_path=str(server.socket))
        self._broker = brokers.RedisBroker(client=client)
        self._api.set_broker(self._broker)
        self._countdown = Countdown(0)

        def work(body: str) -> None:
            self._countdown.one()

        self._actor = self._api.actor(work)

    def prepare(self, number: int) -> None:
        self._countdown = Countdown(number)
        body = REQUEST.body.decode()
        for _ in range(number):
            self._actor.send(body)

    def run(self, number: int) -> None:
        worker = self._api.Worker(self._broker, worker_threads=CONCURRENCY)
        worker.start()
        assert self._countdown.reached.wait(120)
        worker.stop()


def pushes(app: Application, server: Server, rounds: int, number: int) -> None:
    app.endpoints.create(Endpoint.new(ttl=0, id="pushes")).get()

    def one_at_a_time(number: int) -> None:
        for _ in range(number):
            app.callbacks.push("pushes", Callback.new(REQUEST)).get()

    def in_flight(number: int) -> None:
        waiting: deque[Any] = deque()
        for _ in range(number):
            waiting.append(app.callbacks.push("pushes", Callback.new(REQUEST)))
            if len(waiting) >= IN_FLIGHT:
                waiting.popleft().get()
        for future in waiting:
            future.get()

    runs: dict[str, Callable[[int], None]] = {
        "push, one at a time": one_at_a_time,
        "push, in flight": in_flight,
    }
    try:
        runs = {"RQ enqueue": Rq(server).one_at_a_time, **runs}
    except ImportError:
        print("rq is not installed")
    counts = dict.fromkeys(runs, number)
    counts["push, in flight"] = 4 * number
    figures = measure(runs, counts, rounds)
    table(figures, "push, one at a time")
    if "RQ enqueue" in figures:
        pairs = zip(figures["push, one at a time"], figures["RQ enqueue"], strict=True)
        ratio = statistics.median(theirs / ours for ours, theirs in pairs)
        print(f"one at a time / RQ: {ratio:.2f}, wanted 2.0\n")


def handlers(app: Application, server: Server, rounds: int, number: int) -> None:
    subjects: dict[str, Any] = {
        "threads": Ours(app, "threads", is_async=False, keep_for=86_400.0),
        "threads, no history": Ours(app, "plain", is_async=False, keep_for=0.0),
        "coroutines": Ours(app, "loop", is_async=True, keep_for=86_400.0),
    }
    try:
        subjects["dramatiq"] = Dramatiq(server)
    except ImportError:
        print("dramatiq is not installed")
    runs: dict[str, Callable[[int], None]] = {
        name: subject.run for name, subject in subjects.items()
    }
    prepare = {name: subject.prepare for name, subject in subjects.items()}
    figures = measure(runs, dict.fromkeys(runs, number), rounds, prepare)
    table(figures, "threads")
    if "dramatiq" in figures:
        pairs = zip(figures["threads"], figures["dramatiq"], strict=True)
        ratio = statistics.median(theirs / ours for ours, theirs in pairs)
        print(f"threads / dramatiq: {ratio:.2f}, wanted 3.0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--number", type=int, default=2000)
    parser.add_argument("--in-memory", action="store_true")
    arguments = parser.parse_args()
    # Nobody is to be measured while the server makes its file shorter.
    whole = ("--auto-aof-rewrite-percentage", "0")
    server = Server() if arguments.in_memory else Server((*ALWAYS, *whole))
    try:
        with Application(ValkeyBackend(server.url())) as app:
            pushes(app, server, arguments.rounds, arguments.number)
            handlers(app, server, arguments.rounds, arguments.number)
    finally:
        server.remove()


if __name__ == "__main__":
    main()
