"""What an operation costs with 1,000 callbacks queued and with 100,000.

    python -m tests.benchmarks.queue_depth

Both queues are in one application and are measured in turn; the ratio should be under 1.5.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

from pollin_actors import Application, Callback, Endpoint, Request
from tests.benchmarks.rounds import measure

DEPTHS = (1_000, 100_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    request = Request([("content-type", "application/json")], b'{"hello": "world"}')
    names = {depth: f"d{depth}" for depth in DEPTHS}
    endpoints = [Endpoint.new(["received", "processed"], id=name) for name in names.values()]
    with Application(endpoints=endpoints) as app:
        callbacks = app.callbacks
        keys = {}
        for depth, name in names.items():
            for _ in range(depth):
                keys[depth] = callbacks.push(name, Callback.new(request)).get().callback.id
        ready: dict[int, list[Callback]] = {depth: [] for depth in DEPTHS}
        number = 500

        def refill(depth: int) -> Callable[[int], None]:
            def run(count: int) -> None:
                ready[depth] = [Callback.new(request) for _ in range(count)]

            return run

        def push(depth: int) -> Callable[[int], None]:
            def run(count: int) -> None:
                for callback in ready[depth]:
                    callbacks.push(names[depth], callback).get()

            return run

        def pop(depth: int) -> Callable[[int], None]:
            def run(count: int) -> None:
                for _ in range(count):
                    callbacks.pop(names[depth]).get()

            return run

        def fetch(depth: int) -> Callable[[int], None]:
            def run(count: int) -> None:
                for _ in range(count):
                    callbacks.fetch(names[depth], key=keys[depth]).get()

            return run

        def count_all(depth: int) -> Callable[[int], None]:
            def run(count: int) -> None:
                for _ in range(count):
                    callbacks.count(names[depth]).get()

            return run

        kinds = {"(new)": refill, "push": push, "fetch by key": fetch, "count": count_all}
        kinds["pop"] = pop
        subjects = {
            f"{kind} {depth}": make(depth) for kind, make in kinds.items() for depth in DEPTHS
        }
        # Keys are pushed last and only about 500 are popped a round: the key fetched stays.
        rounds = min(arguments.rounds, DEPTHS[0] // number * 100)
        figures = measure(subjects, dict.fromkeys(subjects, number), rounds)
        print(f"{'':16}{'us at 1,000':>14}{'us at 100,000':>16}{'ratio':>8}")
        for kind in kinds:
            if kind == "(new)":
                continue
            small, large = (statistics.median(figures[f"{kind} {depth}"]) for depth in DEPTHS)
            print(f"{kind:16}{small * 1e6:14.2f}{large * 1e6:16.2f}{large / small:8.2f}")


if __name__ == "__main__":
    main()
