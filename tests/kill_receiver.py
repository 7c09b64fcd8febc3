"""Kill a server that takes webhooks into a SQLite inbox, and see that what it answered is there.

    python -m tests.kill_receiver 50

64 connections send as fast as they are answered; after a random number of answers the server is
killed (SIGKILL). Each request that was answered 200 must be in the file, once and as it was sent;
nothing may be there that was not sent; and the file must be sound.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import uvicorn

from pollin_actors import Application, Callback, Endpoint
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.messages import DumpPage
from pollin_actors.web import asgi
from tests.backends.sqlite_file import check_file

__all__ = ["Rounds"]

CONNECTIONS = 64
SECRET = "open-sesame"


def serve(path: str) -> None:
    """Serve on a free port, which is printed, until killed."""
    endpoint = Endpoint.new(["received"], 0, id="orders", secret=SECRET)
    with (
        Application(f"sqlite:///{path}", endpoints=[endpoint]) as app,
        socket.create_server(("127.0.0.1", 0), backlog=1024) as sock,
    ):
        config = uvicorn.Config(
            asgi(app), ws="none", lifespan="off", access_log=False, log_config=None
        )
        print(sock.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[sock])


class Load:
    """Requests over many connections, and what became of them.

    Arguments:
        name: begins each body, so that no two rounds send the same.
        answers: after how many the server is killed.
    """

    def __init__(self, name: str, answers: int) -> None:
        self._name = name
        self._answers = answers
        self._chance = random.Random(name)
        self.sent: set[bytes] = set()
        self.taken: dict[str, bytes] = {}
        """The bodies that were answered 200, by the id that was answered."""

    def run(self, port: int, server: subprocess.Popen[str]) -> None:
        """Send until the server is dead."""
        asyncio.run(self._run(port, server))

    async def _run(self, port: int, server: subprocess.Popen[str]) -> None:
        numbers = count()
        work = [self._connection(port, numbers, server) for _ in range(CONNECTIONS)]
        await asyncio.gather(*work)

    async def _connection(
        self, port: int, numbers: Iterator[int], server: subprocess.Popen[str]
    ) -> None:
        # It ends with the server: in the middle of whatever it does.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                for number in numbers:
                    body = f"{self._name}-{number}-".encode() + b"x" * self._chance.randrange(3_000)
                    self.sent.add(body)
                    writer.write(_request(body))
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
                    answer = await reader.readexactly(int(length))
                    if head.startswith(b"HTTP/1.1 200"):
                        self.taken[json.loads(answer)["id"]] = body
                    if len(self.taken) >= self._answers:
                        server.kill()


def _request(body: bytes) -> bytes:
    head = f"POST /orders HTTP/1.1\r\nHost: inbox\r\nX-Pollin-Secret: {SECRET}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Rounds:
    """Rounds of killing on one file.

    Arguments:
        path: of the file.
        seed: of the moments at which the server is killed.
    """

    def __init__(self, path: Path, seed: int = 0) -> None:
        self._path = path
        self._chance = random.Random(seed)
        self._sent: set[bytes] = set()
        self._taken: dict[str, bytes] = {}
        self._number = 0

    @property
    def answered(self) -> int:
        """How many requests were answered 200."""
        return len(self._taken)

    def run(self) -> None:
        """One round: load, kill, look.

        Raises:
            AssertionError: something is missing, is there twice, or came from nowhere.
        """
        self._number += 1
        load = Load(str(self._number), self._chance.randint(1, 2_000))
        command = [sys.executable, "-m", "tests.kill_receiver", "--serve", str(self._path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                load.run(int(server.stdout.readline()), server)
            finally:
                server.kill()
        assert load.taken, "nothing was answered 200"
        self._sent |= load.sent
        self._taken |= load.taken
        self._look()

    def _look(self) -> None:
        there = self._read()
        check_file(self._path)
        found = {callback.id: callback.request.body for callback in there}
        bodies = [callback.request.body for callback in there]
        assert len(set(bodies)) == len(bodies), "a request is there twice"
        assert set(bodies) <= self._sent, "something is there that was never sent"
        gone = [id for id, body in self._taken.items() if found.get(id) != body]
        assert not gone, f"answered 200 and gone, or not as sent: {gone[:5]}"

    def _read(self) -> list[Callback]:
        backend = SqliteBackend(self._path)
        backend.open(time.time_ns)
        try:
            found: list[Callback] = []
            after: int | None = None
            while True:
                page = backend.execute(DumpPage("orders", after)).get()
                found += page.callbacks
                after = page.cursor
                if after is None:
                    return found
        finally:
            backend.close()


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
        return
    rounds = int(sys.argv[1]) if sys.argv[1:] else 50
    with tempfile.TemporaryDirectory() as folder:
        killing = Rounds(Path(folder) / "inbox.db", random.randrange(10**9))
        for number in range(rounds):
            killing.run()
            print(f"{number + 1}: {killing.answered} requests answered 200, none lost", flush=True)


if __name__ == "__main__":
    main()
