"""How long a restart takes, against Pykka's ThreadingActor with a restart written by hand.

    python -m tests.benchmarks.restarts [rounds] 2>/dev/null

From the moment of a crash, in the handler, to the first answer of the new incarnation, in the
thread that asks. Crashes are logged on both sides as is usual without any configuration: send
stdout's and stderr's noise where you like; the figures come last, on both.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from typing import Any, ClassVar

import pykka

from pollin_actors.otp import Actor, BlockingActor, ChildSpec, Runtime, Supervisor

CRASHES = 40
"""In each round, of each kind."""


class Crash(Exception):
    """What the actors crash on."""


class _Crashing:
    crashed_at: ClassVar[float] = 0.0

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            _Crashing.crashed_at = time.perf_counter()
            raise Crash
        return message


class Pooled(_Crashing, Actor):
    """Runs on the pool."""


class Inline(_Crashing, Actor):
    """Runs where it is asked."""

    never_blocks: ClassVar[bool] = True


class Threaded(_Crashing, BlockingActor):
    """Has a thread of its own, as Pykka's has."""


class PykkaWorker(_Crashing, pykka.ThreadingActor):
    """Starts its successor when it fails, and says so: what one writes by hand."""

    use_daemon_thread = True

    def __init__(self, place: dict[str, Any]) -> None:
        super().__init__()
        self.place = place

    def on_start(self) -> None:
        self.place["ref"] = self.actor_ref
        self.place["up"].set()

    def on_failure(self, *_: Any) -> None:
        PykkaWorker.start(self.place)


def pykka_latencies(place: dict[str, Any]) -> list[float]:
    latencies = []
    for _ in range(CRASHES):
        place["up"].clear()
        place["ref"].tell("crash")
        place["up"].wait()
        place["ref"].ask("hello")
        latencies.append(time.perf_counter() - _Crashing.crashed_at)
    return latencies


def our_latencies(runtime: Runtime, name: str) -> list[float]:
    latencies = []
    for _ in range(CRASHES):
        runtime.registry.tell(name, "crash")
        runtime.registry.ask(name, "hello").get()
        latencies.append(time.perf_counter() - _Crashing.crashed_at)
        runtime.events.flush()  # ours is logged a moment later: not in the next one's time
    return latencies


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    runtime = Runtime().start()
    kinds: dict[str, type[Actor]] = {"pooled": Pooled, "inline": Inline, "threaded": Threaded}
    supervisor = Supervisor.start(
        [ChildSpec(id=name, name=name, start=kind) for name, kind in kinds.items()],
        max_restarts=10_000,
        runtime=runtime,
    )
    place: dict[str, Any] = {"up": threading.Event()}
    PykkaWorker.start(place)
    place["up"].wait()
    figures: dict[str, list[float]] = {name: [] for name in ("pykka", *kinds)}
    for number in range(rounds + 1):
        measured = {"pykka": pykka_latencies(place)}
        measured |= {name: our_latencies(runtime, name) for name in kinds}
        if number:  # the first round warms up
            for name, latencies in measured.items():
                figures[name].append(statistics.median(latencies))
    place["ref"].stop()
    supervisor.stop()
    runtime.stop()
    lines = [f"{'':12}{'median us':>12}{'share of pykka':>18}{'min-max':>16}"]
    for name, medians in figures.items():
        shares = [ours / theirs for ours, theirs in zip(medians, figures["pykka"], strict=True)]
        lines.append(
            f"{name:12}{statistics.median(medians) * 1e6:12.1f}{statistics.median(shares):18.2f}"
            f"{min(shares):10.2f}-{max(shares):.2f}"
        )
    for stream in (sys.stdout, sys.stderr):
        print("\n".join(lines), file=stream)


if __name__ == "__main__":
    main()
