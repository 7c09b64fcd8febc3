"""The ``pollin`` command as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pollin_actors

__all__ = ["TIMEOUT", "Running", "Serve", "environment", "pollin"]

TIMEOUT = 60.0
"""Seconds until a process that should have ended counts as hanging."""


def environment(**variables: str) -> dict[str, str]:
    """The variables of a process that finds the package, and has no secret unless given."""
    root = str(Path(pollin_actors.__file__).parents[1])
    found = {name: value for name, value in os.environ.items() if not name.startswith("POLLIN_")}
    paths = filter(None, [root, os.environ.get("PYTHONPATH")])
    return {**found, "PYTHONPATH": os.pathsep.join(paths), **variables}


def pollin(
    *arguments: str, program: Sequence[str] = ("-m", "pollin_actors.cli")
) -> tuple[int, str, str]:
    """Run the command to its end: the exit code, what it wrote to stdout, and to stderr."""
    done = subprocess.run(
        [sys.executable, *program, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


class Running:
    """A command that goes on until it is stopped, as a process of its own.

    Arguments:
        arguments: of the command.
        variables: of its environment.
    """

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pollin_actors.cli", *arguments],
            env=environment(PYTHONIOENCODING="utf-8", **variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate(timeout=TIMEOUT)

    def line(self) -> str:
        """The next line of stdout; waits for it."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text.endswith("\n"), self.process.communicate(timeout=TIMEOUT)
        return text.removesuffix("\n")

    def error_line(self) -> str:
        """The next line of stderr; waits for it."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().removesuffix("\n")

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Send a signal and wait: the exit code, and what was not read yet."""
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, output, errors


class Serve:
    """``pollin serve --port 0`` in a folder of its own, which is up once the object is made."""

    def __init__(
        self, *arguments: str, endpoints: int = 1, folder: Path | None = None, **variables: str
    ) -> None:
        # It keeps its callbacks in the folder that it is started in.
        self._folder = tempfile.TemporaryDirectory() if folder is None else None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pollin_actors.cli", "serve", "--port", "0", *arguments],
            cwd=folder if self._folder is None else self._folder.name,
            env=environment(PYTHONIOENCODING="utf-8", **variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        # The banner ends with a line per endpoint.
        self.banner = [self.line() for _ in range(2 + endpoints)]
        self.curls = self.banner[2:]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self._process
        process.kill()
        process.communicate(timeout=TIMEOUT)
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.banner[0].split()[1]

    @property
    def secret(self) -> str:
        """The secret of the first endpoint."""
        found = re.search(r"Bearer (\S+)'", self.curls[0])
        assert found is not None, self.curls
        return found[1]

    def line(self) -> str:
        """The next line that it shows; waits for it."""
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        if not text.endswith("\n"):
            _, errors = self._process.communicate(timeout=TIMEOUT)
            raise AssertionError(f"it has ended: {text!r}, {errors!r}")
        return text.removesuffix("\n")

    def stop_reading(self) -> None:
        """Close the pipe that it writes to."""
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.stdout = None

    def error_line(self) -> str:
        """The next line of its stderr; waits for it."""
        assert self._process.stderr is not None
        return self._process.stderr.readline()

    def send_signal(self, number: int) -> None:
        """Send a signal, and do not wait."""
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, list[str], str]:
        """Send a signal and wait: the exit code, the lines not read yet, and stderr."""
        self._process.send_signal(number)
        output, errors = self._process.communicate(timeout=TIMEOUT)
        return self._process.returncode, (output or "").splitlines(), errors
