"""Running the examples as programs of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ROOT", "Server", "post", "run", "serve"]

ROOT = Path(__file__).resolve().parents[2]
LISTENING = re.compile(r"(?:listening|running) on (http://\S+)")


def _command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments]


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def run(name: str) -> str:
    """Run an example to its end; it must succeed. Returns what it printed."""
    done = subprocess.run(
        _command(name), check=False, env=_environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Server:
    """An example that serves, as a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.printed = ""
        self.url = ""

    def wait_until_listening(self) -> None:
        """Read what it prints until it says where it listens."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line
            if found := LISTENING.search(line):
                self.url = found[1]
                return
        raise AssertionError(f"it ended before it listened:\n{self.printed}")

    def stop(self) -> int:
        """Send SIGTERM and wait for the end; returns the exit status."""
        self.process.terminate()
        assert self.process.stdout is not None
        self.printed += self.process.stdout.read()
        return self.process.wait(timeout=60)


@contextmanager
def serve(name: str) -> Iterator[Server]:
    """Run an example on a free port."""
    with subprocess.Popen(
        _command(name, "0"),
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            server = Server(process)
            server.wait_until_listening()
            yield server
        finally:
            process.kill()


def post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """POST to a server of this machine; returns the status of an answer that is no error."""
    request = urllib.request.Request(url, data=body, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        status: int = answer.status
    return status
