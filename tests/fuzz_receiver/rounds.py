"""Rounds of requests, after each of which the server's queues are compared with the book."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from random import Random
from typing import Any

from tests.fuzz_receiver.book import Book
from tests.fuzz_receiver.cases import Claim, Desk, Then
from tests.fuzz_receiver.client import Plan, send_all
from tests.fuzz_receiver.kinds import genuine, next_case
from tests.fuzz_receiver.senders import Sender, senders

__all__ = ["GROWTH", "Fuzz", "Server"]

ROUND = 2_000
"""Requests between two looks."""
WARM_UP = 0.25
GROWTH = 16 * 1024 * 1024
"""Bytes by which the server may be larger at the end than after the first quarter. It holds nothing
at both times. A hundred bytes left behind by each request are as much in 160,000 of them; what it
may keep, the allocator's gaps and caches with a limit, is less."""


class Server:
    """The receiver that is tested.

    Arguments:
        backend: the URL of its backend.
        http: uvicorn's implementation of HTTP.
        secrets: of the senders, by name.
    """

    def __init__(self, backend: str, http: str, secrets: dict[str, str]) -> None:
        command = [sys.executable, "-m", "tests.fuzz_receiver.server"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self.port = int(self._ask({"backend": backend, "http": http, "secrets": secrets}))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._in.close()
        try:
            self._process.wait(60)
        finally:
            self._process.kill()
            self._process.wait()
            self._out.close()

    def look(self) -> Any:
        """What it holds, which it forgets, and how it is."""
        return json.loads(self._ask("look"))

    def _ask(self, what: object) -> str:
        line = what if isinstance(what, str) else json.dumps(what)
        print(line, file=self._in, flush=True)
        return self._out.readline()


class Fuzz:
    """One run against one server.

    Arguments:
        backend: the URL of its backend.
        http: uvicorn's implementation of HTTP.
        requests: how many, at least.
        seed: of what is sent.
    """

    def __init__(self, backend: str, http: str, requests: int, seed: int) -> None:
        self.book = Book()
        self.seconds = 0.0
        self.memory: list[int] = []
        """Bytes that the server had after each round."""
        self._secrets: dict[str, str] = {}
        self._senders: list[Sender] = senders(self._secrets)
        self._backend, self._http = backend, http
        self._requests = requests
        self._desk = Desk(self._senders, Random(seed))

    def run(self) -> None:
        """Send everything; the book tells what came of it."""
        begin = time.monotonic()
        with Server(self._backend, self._http, self._secrets) as server:
            while self.book.requests < self._requests and not self.book.failures:
                self._round(server, min(ROUND, self._requests - self.book.requests))
            self._round(server, 0)
        self.seconds = time.monotonic() - begin
        after = self.memory[int(len(self.memory) * WARM_UP)]
        if self.memory[-1] - after > GROWTH:
            self.book.failures.append(f"it grows: {self.shown_memory()}")

    def shown_memory(self) -> str:
        """Its size after the warm-up and at the end."""
        after = self.memory[int(len(self.memory) * WARM_UP)]
        return f"{after / 2**20:.1f} and {self.memory[-1] / 2**20:.1f} MiB"

    def _round(self, server: Server, requests: int) -> None:
        plans = list(self._plans(requests)) or [self._last_plan()]
        asyncio.run(send_all(server.port, iter(plans), self.book))
        found = server.look()
        self.book.compare(found)
        self.memory.append(found["rss"])
        self._desk.taken.clear()

    def _plans(self, requests: int) -> Iterator[Plan]:
        chance, made = self._desk.chance, 0
        while made < requests:
            plan = Plan([], chance.random() < 0.5)
            length = chance.choice([1, 2, 5, 12])
            while len(plan.cases) < length:
                case = next_case(self._desk)
                if case.then is not Then.GO_ON and plan.pipelined and plan.cases:
                    break  # it could take the answers to others with it
                plan.cases.append(case)
                if case.then is not Then.GO_ON:
                    break
            made += len(plan.cases)
            yield plan

    def _last_plan(self) -> Plan:
        """One after everything: it still takes what is genuine."""
        while True:
            case = genuine(self._desk)
            if case.claim is Claim.GENUINE:
                return Plan([case], False)
