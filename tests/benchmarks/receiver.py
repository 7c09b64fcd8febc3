"""Webhooks over HTTP: the receiver beside a Starlette route that only verifies and answers.

    python -m tests.benchmarks.receiver
    python -m tests.benchmarks.receiver --requests 30000 --rounds 7

Both run under the same uvicorn, each in a process of its own, and are asked in turn by the same
client: 64 connections, each of which sends its next request once it has the answer to the one
before. Every request is signed, with an id of its own. In the end every request that was answered
200 has to be in the queue. CPU is that of the server's process, in all rounds. What is queued in
memory is kept there from round to round, or, in the line "drained", taken out after each: with
nobody who takes anything out, each request is stored where memory was never used before, which
costs the operating system time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from pollin_actors import Application, Endpoint, Intake, Secret
from pollin_actors.signatures import Delivery, Verified, parse_scheme
from pollin_actors.web import asgi

CONNECTIONS = 64
SECRET = Secret("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
SCHEME = "standard"
BODY = b'{"type": "order.created", "data": "' + b"x" * 960 + b'"}'


# -- the servers -----------------------------------------------------------------------------------


def starlette() -> Any:
    """The route to compare with: it verifies, and answers."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    scheme = parse_scheme(SCHEME)

    async def take(request: Request) -> JSONResponse:
        delivery = Delivery(request.headers.raw, await request.body())
        verified = scheme.verify(delivery, (SECRET,), time.time())
        if not isinstance(verified, Verified):
            return JSONResponse({"error": "not genuine"}, 401)
        return JSONResponse({"id": verified.key, "outcome": "queued"})

    return Starlette(routes=[Route("/{endpoint}", take, methods=["POST"])])


def serve(kind: str, backend: str) -> None:
    """Serve on a free port, which is printed, until standard input ends."""
    intake = Intake(parse_scheme(SCHEME))
    endpoint = Endpoint.new(["received"], 0, id="orders", secret=SECRET, intake=intake)
    with contextlib.ExitStack() as stack:
        app = None
        if kind == "starlette":
            hosted = starlette()
        else:
            app = stack.enter_context(Application(backend, endpoints=[endpoint]))
            hosted = asgi(app)
        config = uvicorn.Config(
            hosted, http="httptools", ws="none", lifespan="off", access_log=False
        )
        config.log_config = None
        sock = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        print(sock.getsockname()[1], flush=True)
        server = uvicorn.Server(config)
        begin = time.process_time()

        async def run() -> None:
            serving = asyncio.create_task(server.serve(sockets=[sock]))
            while await asyncio.to_thread(sys.stdin.readline):
                assert app is not None
                print(await app.callbacks.reset("orders", timeout=60), flush=True)
            server.should_exit = True
            await serving

        uvloop.run(run())
        held = 0 if app is None else app.callbacks.count("orders").get()
        print(held, time.process_time() - begin, flush=True)


class Server:
    """One of them, in a process of its own."""

    def __init__(self, kind: str, backend: str = "memory://") -> None:
        command = [sys.executable, "-m", __spec__.name, "--serve", kind, "--backend", backend]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._out = self._process.stdout
        self.port = int(self._out.readline())
        self._kind = kind

    def drain(self, answered: int) -> None:
        """Have it empty its queue, and see that it held what it has answered."""
        assert self._process.stdin is not None
        self._process.stdin.write("drain\n")
        self._process.stdin.flush()
        held = int(self._out.readline())
        if held != answered:
            raise SystemExit(f"{self._kind}: answered {answered}, held {held}")

    def stop(self, answered: int) -> float:
        """End it, and see that it holds what it has answered; how many seconds it has worked."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        held, seconds = self._out.read().split()
        if self._process.wait() or (self._kind != "starlette" and int(held) != answered):
            raise SystemExit(f"{self._kind}: answered {answered}, holds {held}")
        return float(seconds)


# -- the client ------------------------------------------------------------------------------------


def requests(number: int, first: int) -> list[bytes]:
    """So many requests, signed, with ids of their own."""
    scheme, made, now = parse_scheme(SCHEME), [], time.time()
    for count in range(first, first + number):
        lines = [
            "POST /orders HTTP/1.1",
            "Host: 127.0.0.1",
            "User-Agent: benchmark/1.0",
            "Accept: */*",
            "Content-Type: application/json",
            f"Content-Length: {len(BODY)}",
        ]
        signed = scheme.sign(BODY, SECRET, now, id=f"msg_{count}")
        lines += [f"{name}: {value}" for name, value in signed]
        made.append("\r\n".join([*lines, "", ""]).encode() + BODY)
    return made


class Connection(asyncio.Protocol):
    """Sends requests one after another, and notes how long each took to be answered."""

    def __init__(self, todo: Iterator[bytes], times: list[float]) -> None:
        self._todo = todo
        self._times = times
        self._buffer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        request = next(self._todo, None)
        if request is None:
            self._transport.close()
            return
        self._begin = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        head, found, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
        if not found or len(body) < length:
            self._buffer = data
            return
        self._buffer = b""
        self._times.append(time.perf_counter() - self._begin)
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(SystemExit(f"answered {data[:200]!r}"))
            return
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def load(port: int, todo: list[bytes]) -> tuple[float, list[float]]:
    """Send all of them; requests per second, and the seconds that each took, in order of size."""
    loop = asyncio.get_running_loop()
    times: list[float] = []
    left = iter(todo)
    begin = time.perf_counter()
    made = [
        await loop.create_connection(lambda: Connection(left, times), "127.0.0.1", port)
        for _ in range(CONNECTIONS)
    ]
    await asyncio.gather(*[protocol.done for _, protocol in made])
    return len(todo) / (time.perf_counter() - begin), sorted(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000, help="of each, a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--backend", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.backend)
        return
    rates: dict[str, list[float]] = {"starlette": [], "memory": [], "drained": [], "sqlite": []}
    tails: dict[str, list[float]] = {name: [] for name in rates}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inbox.db"
        servers = {
            "starlette": Server("starlette"),
            "memory": Server("ours"),
            "drained": Server("ours"),
            "sqlite": Server("ours", f"sqlite:///{path}"),
        }
        for number in range(options.rounds + 1):
            for name, server in servers.items():
                todo = requests(options.requests, number * options.requests)
                rate, times = uvloop.run(load(server.port, todo))
                if number:  # the first round warms up
                    rates[name].append(rate)
                    tails[name].append(times[int(0.99 * len(times))])
                if name == "drained":
                    server.drain(options.requests)
        total = (options.rounds + 1) * options.requests
        worked = {
            name: server.stop(0 if name == "drained" else total) / total
            for name, server in servers.items()
        }
    print(
        f"{'':12}{'per second':>12}{'x starlette':>14}{'p99 ms':>10}{'x starlette':>14}"
        f"{'CPU us each':>14}"
    )
    for name, values in rates.items():
        faster = statistics.median(a / b for a, b in zip(values, rates["starlette"], strict=True))
        slower = statistics.median(
            a / b for a, b in zip(tails[name], tails["starlette"], strict=True)
        )
        print(
            f"{name:12}{statistics.median(values):12,.0f}{faster:14.2f}"
            f"{statistics.median(tails[name]) * 1e3:10.2f}{slower:14.2f}"
            f"{worked[name] * 1e6:14.0f}"
        )


if __name__ == "__main__":
    main()
