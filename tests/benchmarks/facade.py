"""Operations through the public facade beside an ask on a Pykka ThreadingActor.

    python -m tests.benchmarks.facade            both cores
    python -m tests.benchmarks.facade --pin      the whole process on one core

Every operation goes through ``app.callbacks``: name look-up, future and deadline included.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import pykka

from pollin_actors import Application, Callback, Endpoint, Request
from tests.benchmarks.rounds import measure, table


class PykkaEcho(pykka.ThreadingActor):
    """What is compared with: an actor that answers what it is asked."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        return message


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pin", action="store_true", help="pin the process to one core")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    if arguments.pin:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    ref = PykkaEcho.start()
    request = Request([("content-type", "application/json")], b'{"hello": "world"}')
    with Application(endpoints=[Endpoint.new(["received", "processed"], id="orders")]) as app:
        callbacks = app.callbacks
        ready: list[Callback] = []
        key = callbacks.push("orders", Callback.new(request)).get().callback.id

        def ask(count: int) -> None:
            for _ in range(count):
                ref.ask(1)

        def push(count: int) -> None:
            for callback in ready[:count]:
                callbacks.push("orders", callback).get()

        def pop(count: int) -> None:
            for _ in range(count):
                callbacks.pop("orders").get()

        def fetch(count: int) -> None:
            for _ in range(count):
                callbacks.fetch("orders", key=key).get()

        def count_all(count: int) -> None:
            for _ in range(count):
                callbacks.count("orders").get()

        def refill(count: int) -> None:
            nonlocal key
            callbacks.reset("orders").get()
            ready[:] = [Callback.new(request) for _ in range(count)]
            key = callbacks.push("orders", Callback.new(request)).get().callback.id

        number = 30_000
        figures = measure(
            {
                "Pykka ask": ask,
                "(new callbacks)": refill,
                "push": push,
                "fetch by key": fetch,
                "count": count_all,
                "pop": pop,
            },
            {
                "Pykka ask": 5_000,
                "(new callbacks)": number,
                "push": number,
                "fetch by key": number,
                "count": number,
                "pop": number,
            },
            arguments.rounds,
        )
        print("pinned to one core" if arguments.pin else f"{os.cpu_count()} cores")
        table(figures, "Pykka ask")
    ref.stop()


if __name__ == "__main__":
    main()
