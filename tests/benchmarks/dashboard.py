"""Pages of the dashboard over many callbacks in SQLite: how long each takes.

    python -m tests.benchmarks.dashboard              # 1,000,000 callbacks; takes minutes
    python -m tests.benchmarks.dashboard 300000
    python -m tests.benchmarks.dashboard --file /tmp/inbox.db   # kept, and filled only once

Each page is asked for over ASGI, one after another, the event loop and the inbox included. The
longest time for which the loop could do nothing else is measured as well.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import httpx

from pollin_actors import Application, Callback, Endpoint, Request, web

TOKEN = "a-token-of-the-benchmark"
IN_FLIGHT = 512
PAGES = {
    "overview": "/",
    "endpoints": "/endpoints",
    "one endpoint": "/endpoints/orders",
    "callbacks, newest first": "/callbacks?endpoint=orders",
    "callbacks of a phase": "/callbacks?endpoint=orders&phase=failed",
    "callbacks, oldest first": "/callbacks?endpoint=orders&order=oldest",
    "oldest first of a rare phase": "/callbacks?endpoint=orders&order=oldest&phase=failed",
    "queued and kept": "/callbacks?endpoint=orders&kept=1",
    "search, one that matches": "/callbacks?endpoint=orders&text=%22order%22:+700000&order=oldest",
    "search, none matches": "/callbacks?endpoint=orders&text=nothing",
    "search by header": "/callbacks?endpoint=orders&header=x-event:+nothing",
    "from a time on, oldest first": "/callbacks?endpoint=orders&order=oldest&since={middle}",
    "one callback": "/callback?endpoint=orders&key={key}",
    "dead letters": "/dead-letters?endpoint=orders&phase=failed",
    "quarantine": "/quarantine",
    "supervision": "/tree",
}


def fill(app: Application, number: int) -> None:
    """Push what is missing, in flight; every thousandth is a dead letter."""
    waiting: deque[Any] = deque()
    begin = time.time_ns() - number * 1_000_000
    headers = [("content-type", "application/json"), ("x-event", "order.created")]
    for count in range(app.callbacks.count("orders").get(), number):
        body = b'{"order": %d, "customer": "c%d", "lines": [%s]}' % (count, count % 97, b"1," * 60)
        phase = "failed" if count % 1_000 == 0 else "received"
        callback = Callback(f"c{count}", Request(headers, body), phase, begin + count * 1_000_000)
        waiting.append(app.callbacks.push("orders", callback, timeout=None))
        if len(waiting) >= IN_FLIGHT:
            waiting.popleft().get()
    for future in waiting:
        future.get()


class Lag:
    """How late a loop is for what is due at once."""

    def __init__(self) -> None:
        self.most = 0.0
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.wait({self._task}, timeout=0.001)
            self.most = max(self.most, time.perf_counter() - due)

    def end(self) -> None:
        self._task.cancel()


async def measure(app: Application, rounds: int) -> None:
    transport = httpx.ASGITransport(web.dashboard(app, token=TOKEN))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        form = (await client.get("/login")).text
        found = re.search(r'name="form_token" value="(\w+)"', form)
        assert found is not None
        await client.post("/login", data={"form_token": found[1], "token": TOKEN})
        some = (await app.callbacks.fetch("orders", phase="failed", limit=200))[-1]
        at = time.gmtime(some.created_at / 1e9)
        middle = time.strftime("%Y-%m-%dT%H:%M:%S", at)
        lag = Lag()
        print(f"{'page':32} {'median':>9} {'most':>9} {'loop held':>10} {'size':>9}")
        for name, path in PAGES.items():
            times, size, lag.most = [], 0, 0.0
            for _ in range(rounds):
                begin = time.perf_counter()
                answer = await client.get(path.format(key=some.id, middle=middle))
                times.append(time.perf_counter() - begin)
                assert answer.status_code == 200, (path, answer.status_code)
                size = len(answer.content)
            middle_time, most = statistics.median(times), max(times)
            row = f"{middle_time * 1e3:6.0f} ms {most * 1e3:6.0f} ms {lag.most * 1e3:7.0f} ms"
            print(f"{name:32} {row} {size / 1000:6.0f} kB", flush=True)
        lag.end()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("number", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--rounds", type=int, default=11)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.file or Path(folder) / "inbox.db"
        orders = Endpoint.new(["received", "done", "failed"], 0, id="orders")
        with Application(f"sqlite:///{path}?durability=normal", endpoints=[orders]) as app:
            begin = time.perf_counter()
            fill(app, given.number)
            print(f"{given.number:,} callbacks, filled in {time.perf_counter() - begin:.0f} s")
            asyncio.run(measure(app, given.rounds))


if __name__ == "__main__":
    main()
