"""What it costs to be watched: pushes with and without, and a scrape of a long queue.

    python -m tests.benchmarks.telemetry                        1,000,000 callbacks in SQLite
    python -m tests.benchmarks.telemetry --callbacks 300000
    python -m tests.benchmarks.telemetry --callbacks 0          pushes only

Push and pop in memory, with nobody watching, with instruments that do nothing, with metrics, with
traces that are not sampled and that are; each on an inbox of its own, in turn, in one run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from prometheus_client import CollectorRegistry

from pollin_actors import Application, Callback, Endpoint, Request
from pollin_actors.instruments import Instruments
from pollin_actors.telemetry import PrometheusMetrics, Tracing
from tests.benchmarks.rounds import measure, table

PHASES = ["received", "processed"]
# Short rounds and many of them: then all meet the same machine.
NUMBER = 1_000
IN_FLIGHT = 1_000


class Idle(Instruments):
    """Is told of everything that is told on the way of a push, and does nothing."""

    def operated(self, *_: Any) -> None: ...

    def sent(self, *_: Any) -> None: ...


def metrics_of(app: Application) -> PrometheusMetrics:
    return PrometheusMetrics(app, registry=CollectorRegistry())


SUBJECTS: dict[str, Callable[[Application], object]] = {
    "nobody": lambda app: None,
    "instruments": lambda app: app.instruments.add(Idle()),
    "metrics": metrics_of,
    "traces, not sampled": lambda app: Tracing(
        app, tracer_provider=TracerProvider(sampler=ALWAYS_OFF)
    ),
    "traces, sampled": lambda app: Tracing(app, tracer_provider=TracerProvider(sampler=ALWAYS_ON)),
}


def measure_pushes(rounds: int) -> None:
    """Print what a push and a pop take, for each of those who may watch."""
    request = Request([("content-type", "application/json")], b'{"hello": "world"}')
    ready: list[Callback] = []
    subjects: dict[str, Callable[[int], None]] = {}
    prepare: dict[str, Callable[[int], None]] = {}
    with ExitStack() as stack:
        for name, watch in SUBJECTS.items():
            app = stack.enter_context(Application(endpoints=[Endpoint.new(PHASES, id="orders")]))
            watch(app)
            callbacks = app.callbacks

            def work(count: int, callbacks: Any = callbacks) -> None:
                for callback in ready[:count]:
                    callbacks.push("orders", callback).get()
                for _ in range(count):
                    callbacks.pop("orders").get()

            def refill(count: int, callbacks: Any = callbacks) -> None:
                callbacks.reset("orders").get()
                ready[:] = [Callback.new(request) for _ in range(count)]

            subjects[name], prepare[name] = work, refill
        counts = dict.fromkeys(subjects, NUMBER)
        figures = measure(subjects, counts, rounds, prepare)
    print(f"push and pop in memory, {os.cpu_count()} cores")
    table(figures, "nobody")


def measure_scrapes(callbacks: int, rounds: int) -> None:
    """Print what a scrape takes, with so many callbacks in a SQLite file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inbox.db"
        orders = Endpoint.new(PHASES, 0, id="orders")
        with Application(f"sqlite:///{path}?durability=normal", endpoints=[orders]) as app:
            metrics = metrics_of(app)
            fill(app, callbacks, None)
            size = sum(each.stat().st_size for each in Path(folder).iterdir())
            print(f"\n{callbacks:,} callbacks of 18 bytes: {size / callbacks:.0f} bytes each")
            report("scrape", metrics, rounds)
            fill(app, callbacks // 2, time.time_ns() + 10**15)
            report(f"and {callbacks // 2:,} that are delayed", metrics, rounds)
        several = [Endpoint.new(PHASES, 0, id=f"e{number}") for number in range(200)]
        with Application(f"sqlite:///{path}", endpoints=several) as app:
            metrics = metrics_of(app)
            for number in range(200):
                app.callbacks.push(f"e{number}", Callback.new(b"{}")).get()
            report("and 200 endpoints, 100 of them named", metrics, rounds)


def fill(app: Application, callbacks: int, not_before: int | None) -> None:
    request = Request([("content-type", "application/json")], b'{"hello": "world"}')
    for _ in range(0, callbacks, IN_FLIGHT):
        replies = [
            app.callbacks.push("orders", Callback.new(request, not_before=not_before), timeout=None)
            for _ in range(IN_FLIGHT)
        ]
        for reply in replies:
            reply.get()


def report(what: str, metrics: PrometheusMetrics, rounds: int) -> None:
    seconds, unanswered, body = [], 0, b""
    for _ in range(rounds):
        begin = time.perf_counter()
        body, _ = metrics.render()
        seconds.append(time.perf_counter() - begin)
        unanswered += b"pollin_up 1.0" not in body
    median, most = statistics.median(seconds) * 1e3, max(seconds) * 1e3
    print(
        f"{what:44}{median:8.1f} ms, at most {most:.1f} ms; {body.count(10):,} lines, "
        f"{unanswered} of {len(seconds)} not up"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callbacks", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    measure_pushes(arguments.rounds)
    if arguments.callbacks:
        measure_scrapes(arguments.callbacks, arguments.rounds)


if __name__ == "__main__":
    main()
