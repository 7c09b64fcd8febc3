"""How long a dynamic supervisor takes to stop its children, and what restarts leave behind.

    python -m tests.benchmarks.many_children [children] >/dev/null

Stopping must take time in proportion to the number of children; restarts must leave memory flat.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from typing import Any, ClassVar

import structlog

from pollin_actors.otp import Actor, ChildSpec, DynamicSupervisor, Runtime, Supervisor
from tests.benchmarks.idle_actors import resident_mib

RESTARTS = 10_000


class Worker(Actor):
    """Does nothing but crash when told to."""

    never_blocks: ClassVar[bool] = True

    def on_start(self) -> None:
        self.send_after(3600.0, "a timer that its end must take away")

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise RuntimeError("told to")
        return message


class Pooled(Worker):
    """The same on the pool."""

    never_blocks: ClassVar[bool] = False


def stopping(runtime: Runtime, kind: type[Actor], count: int) -> tuple[float, float]:
    """Seconds to start and to stop so many dynamic children."""
    supervisor = DynamicSupervisor.start(runtime=runtime)
    begin = time.perf_counter()
    last = None
    for number in range(count):
        last = supervisor.start_child(ChildSpec(id=number, start=kind), timeout=None)
    if last is not None:
        last.get()
    started = time.perf_counter() - begin
    gc.collect()
    begin = time.perf_counter()
    supervisor.stop()
    return started, time.perf_counter() - begin


def restarting(runtime: Runtime, kind: type[Actor]) -> list[float]:
    """MiB in use after each tenth of the restarts."""
    supervisor = Supervisor.start(
        [ChildSpec(id="worker", name="worker", start=kind)],
        max_restarts=RESTARTS + 1,
        max_seconds=0.5,
        runtime=runtime,
    )
    figures = []
    for number in range(1, RESTARTS + 1):
        runtime.registry.tell("worker", "crash")
        runtime.registry.ask("worker", "hello", timeout=None).get()
        if number % (RESTARTS // 10) == 0:
            gc.collect()
            figures.append(resident_mib())
    supervisor.stop()
    return figures


def main() -> None:
    structlog.configure(processors=[_drop])
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    runtime = Runtime().start()
    for kind in (Worker, Pooled):
        print(f"{kind.__name__}:", file=sys.stderr)
        base = 0.0
        for count in (most // 8, most // 4, most // 2, most):
            figures = [stopping(runtime, kind, count) for _ in range(5)]
            started = statistics.median(each[0] for each in figures)
            stopped = statistics.median(each[1] for each in figures)
            base = base or stopped / count
            print(
                f"  {count:7} children: started in {started:6.2f} s, stopped in {stopped:6.3f} s, "
                f"{stopped / count * 1e6:5.1f} us each, x {stopped / count / base:.2f}",
                file=sys.stderr,
            )
        memory = restarting(runtime, kind)
        text = " ".join(f"{figure:.1f}" for figure in memory)
        print(f"  MiB after each {RESTARTS // 10} restarts: {text}", file=sys.stderr)
    runtime.stop()


def _drop(*_: Any) -> Any:
    raise structlog.DropEvent


if __name__ == "__main__":
    main()
