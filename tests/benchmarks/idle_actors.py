"""What 100,000 idle endpoints cost, each with an actor (passivation off).

    python -m tests.benchmarks.idle_actors [number]

Prints the memory of the process, the threads, and the time to start and to stop.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from pathlib import Path

from pollin_actors import Application, Callback, Endpoint, Request, Settings


def resident_mib() -> float:
    """Memory of this process now, in MiB."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with Application(settings=Settings(idle_after=None)) as app:
        app.endpoints.create(Endpoint.new(id="first")).get()
        app.callbacks.count("first").get()
        threads, before = threading.active_count(), resident_mib()
        begin = time.perf_counter()
        for index in range(number):
            app.endpoints.create(Endpoint.new(id=f"endpoint-{index}", secret="s3cret")).get()
            app.callbacks.count(f"endpoint-{index}").get()
        started = time.perf_counter() - begin
        after = resident_mib()
        print(f"{number} endpoints, each with an actor: {after:.0f} MiB in all, ", end="")
        print(f"{(after - before) * 2**20 / number:.0f} bytes each")
        print(f"threads: {threads} before, {threading.active_count()} after")
        for index in range(0, number, max(1, number // 1000)):
            request = Request([], b"{}")
            app.callbacks.push(f"endpoint-{index}", Callback.new(request)).get()
        print(f"pushed to {min(number, 1000)} of them")
        begin = time.perf_counter()
    stopped = time.perf_counter() - begin
    print(f"started in {started:.1f} s ({started / number * 1e6:.0f} us each), ", end="")
    print(f"stopped in {stopped:.1f} s")


if __name__ == "__main__":
    main()
