"""The PostgreSQL backend through the application, against raw psycopg and against procrastinate.

    python -m tests.benchmarks.postgres             # all of it, some minutes
    python -m tests.benchmarks.postgres --rounds 3 --scale 0.3
    python -m tests.benchmarks.postgres --no-fsync

A server is started for it, with synchronous_commit on and, unless it is told otherwise, fsync. Raw
means one thread, no actors, no futures, ids made beforehand; schema and statements are the
backend's own, with as many rows in each as there are in flight. procrastinate is shown if it is
installed, with its defaults: a job is put into its queue, and worked off by its own worker.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import psycopg

from pollin_actors import Application, Callback, Endpoint, Request
from pollin_actors.backends.postgres import PostgresBackend
from pollin_actors.backends.postgres.exchanges import Call, encoded, receive
from pollin_actors.backends.postgres.operations import Operations
from pollin_actors.backends.postgres.pushes import PUSH_ONE, PUSH_ONE_VALUES
from pollin_actors.backends.postgres.rows import Terms
from pollin_actors.backends.postgres.schema import VERSION
from pollin_actors.backends.values import encode
from pollin_actors.messages import Push
from tests.benchmarks.rounds import measure, table
from tests.servers.postgres import Server

REQUEST = Request([("content-type", "application/json")], b"x" * 1024)
IN_FLIGHT = 512
CLAIMED = 256
WORKERS = 8
SCHEMA = "pollin"


class Ours:
    """The application on the backend, with an endpoint for pushes and one for work."""

    def __init__(self, app: Application) -> None:
        self._app = app
        for id in ("e", "work"):
            app.endpoints.create(Endpoint.new(id=id, ttl=0)).get()

    def one(self, number: int) -> None:
        push = self._app.callbacks.push
        for _ in range(number):
            push("e", Callback.new(REQUEST)).get()

    def in_flight(self, number: int, to: str = "e") -> None:
        waiting: deque[Any] = deque()
        for _ in range(number):
            waiting.append(self._app.callbacks.push(to, Callback.new(REQUEST)))
            if len(waiting) >= IN_FLIGHT:
                waiting.popleft().get()
        for future in waiting:
            future.get()

    def prepare(self, number: int) -> None:
        self.in_flight(number, "work")

    def work(self, number: int) -> None:
        callbacks = self._app.callbacks
        done = 0
        while done < number:
            claims = callbacks.claim("work", limit=CLAIMED).get()
            for future in [callbacks.ack(claim) for claim in claims]:
                future.get()
            done += len(claims)


def raw(url: str, per_commit: int) -> Callable[[int], None]:
    """Execute what the backend executes for so many pushes that wait together."""
    from psycopg.types.numeric import Int8Dumper

    connection = psycopg.connect(url, autocommit=True)
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.prepare_threshold = 2
    operations = Operations(SCHEMA, time.time_ns)
    query = f"SELECT queue, revision FROM {SCHEMA}.endpoints WHERE id = 'e'".encode()
    queue, revision = connection.execute(query).fetchone() or (0, 0)
    terms = Terms(queue, revision, Endpoint.new(id="e", ttl=0), 0, 10**14, 10**14)
    stored = encode(REQUEST)
    callbacks = [Callback.new(REQUEST) for _ in range(400_000)]
    taken = count()

    def one(number: int) -> None:
        for _ in range(number):
            found = operations.lone_push(Push("e", callbacks[next(taken)], None, True), stored)
            assert found is not None
            call.send(connection.pgconn, [*entering, *found[0]], True)
            assert receive(connection.pgconn, None) is None

    operations._known["e"] = terms
    entering = [encoded(value) for value in (VERSION, "on", "5000ms")]
    call = Call(operations.statement(PUSH_ONE), PUSH_ONE_VALUES, 2)
    call.prepare(connection.pgconn)

    def run(number: int) -> None:
        for start in range(0, number, per_commit):
            batch = [callbacks[next(taken)] for _ in range(min(per_commit, number - start))]
            pushes = [(Push("e", callback, None, True), stored) for callback in batch]
            shot = operations.push_shot(pushes, lambda _: terms, True)
            assert shot is not None
            text = shot.call.replace("{e}", "e.e")
            text = f"SELECT f.* FROM {{s}}.enter(%s, %s, %s, %s, %s) AS e, LATERAL {text} AS f"
            values = (VERSION, "on", "5000ms", f"{{{queue}}}", f"{{{revision}}}", *shot.values)
            connection.execute(operations.statement(text), values, binary=True).fetchall()

    return one if per_commit == 1 else run


class Procrastinate:
    """Jobs that do nothing, with a payload of the same size."""

    def __init__(self, url: str) -> None:
        api: Any = importlib.import_module("procrastinate")
        logging.getLogger("procrastinate").setLevel(logging.ERROR)
        # One that sends and one that works: the end of a worker closes its connections.
        self._app = api.App(connector=api.SyncPsycopgConnector(conninfo=url))
        self._worker = api.App(connector=api.PsycopgConnector(conninfo=url))
        self._worker.task(queue="work", name="nothing")(_do_nothing)
        self._task = self._app.task(queue="work", name="nothing")(_do_nothing)
        self._body = REQUEST.body.decode()

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        with self._app.open():
            self._app.schema_manager.apply_schema()
            yield

    def defer(self, number: int) -> None:
        task = self._task.configure(queue="e")
        for _ in range(number):
            task.defer(body=self._body)

    def prepare(self, number: int) -> None:
        jobs = [{"body": self._body}] * 100
        for _ in range(0, number, 100):
            self._task.batch_defer(*jobs)

    def work(self, number: int) -> None:
        self._worker.run_worker(
            queues=["work"],
            wait=False,
            concurrency=WORKERS,
            install_signal_handlers=False,
            listen_notify=False,
        )


def _do_nothing(body: str) -> None:
    """A job."""


def ratio(figures: dict[str, list[float]], ours: str, theirs: str) -> float:
    pairs = zip(figures[ours], figures[theirs], strict=True)
    return statistics.median(their / our for our, their in pairs)


def compare(server: Server, rounds: int, scale: float) -> None:
    plain = {"dbname": "procrastinate"}
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE procrastinate")
    theirs: Procrastinate | None = None
    try:
        theirs = Procrastinate(psycopg.conninfo.make_conninfo(server.url, **plain))
    except ImportError:
        print("procrastinate is not installed")
    with (
        Application(PostgresBackend(server.url)) as app,
        contextlib.nullcontext() if theirs is None else theirs.open(),
    ):
        ours = Ours(app)
        runs: dict[str, Callable[[int], None]] = {
            "push": ours.one,
            f"push, {IN_FLIGHT} in flight": ours.in_flight,
            "claim and acknowledge": ours.work,
            "raw, one": raw(server.url, 1),
            f"raw, {IN_FLIGHT}": raw(server.url, IN_FLIGHT),
        }
        counts = dict(zip(runs, (400, 8_000, 4_000, 400, 8_000), strict=True))
        prepare: dict[str, Callable[[int], None]] = dict.fromkeys(runs, _nothing)
        prepare["claim and acknowledge"] = ours.prepare
        if theirs is not None:
            runs |= {"procrastinate, defer": theirs.defer, "procrastinate, work": theirs.work}
            counts |= {"procrastinate, defer": 400, "procrastinate, work": 400}
            prepare["procrastinate, defer"] = _nothing
            prepare["procrastinate, work"] = theirs.prepare
        counts = {
            name: max(round(number * scale / 100), 1) * 100 for name, number in counts.items()
        }
        figures = measure(runs, counts, rounds, prepare)
    table(figures, "push")
    wanted = [(f"push, {IN_FLIGHT} in flight", f"raw, {IN_FLIGHT}", 0.6), ("push", "raw, one", 0.0)]
    if theirs is not None:
        wanted += [
            ("push", "procrastinate, defer", 3.0),
            ("claim and acknowledge", "procrastinate, work", 10.0),
        ]
    for one, other, least in wanted:
        print(f"{one} / {other}: {ratio(figures, one, other):.2f}, wanted {least or 'nothing'}")


def _nothing(number: int) -> None:
    """Nothing is to be prepared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--no-fsync", action="store_true", help="what is left where disks are fast")
    arguments = parser.parse_args()
    fsync = "off" if arguments.no_fsync else "on"
    server = Server(fsync=fsync, full_page_writes="on", synchronous_commit="on")
    try:
        server.start()
        compare(server, arguments.rounds, arguments.scale)
    finally:
        server.remove()


if __name__ == "__main__":
    main()
