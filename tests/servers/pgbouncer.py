"""PgBouncer in transaction mode before the PostgreSQL server, if the machine has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg

from tests.servers.postgres import privileges, server

__all__ = ["PgBouncer", "find"]

# In transaction mode each transaction gets one of these, with whatever is left there of others.
CONNECTIONS = 2


def find() -> str | None:
    """The program, if there is one."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class PgBouncer:
    """A pooler on a socket that nobody else reaches, in front of the server that all share."""

    def __init__(self) -> None:
        program = find()
        assert program is not None
        parameters = psycopg.conninfo.conninfo_to_dict(server())
        self.folder = Path(tempfile.mkdtemp(prefix="pollin-pb-"))
        self._database = parameters.get("dbname", "postgres")
        target = " ".join(
            f"{name}={parameters[name]}"
            for name in ("host", "port", "user", "password", "dbname")
            if parameters.get(name)
        )
        (self.folder / "users").write_text('"pollin" ""\n')
        (self.folder / "ini").write_text(
            f"[databases]\n{self._database} = {target}\n"
            f"[pgbouncer]\nunix_socket_dir = {self.folder}\nlisten_addr =\nlisten_port = 6432\n"
            f"auth_type = trust\nauth_file = {self.folder}/users\npool_mode = transaction\n"
            f"default_pool_size = {CONNECTIONS}\nmax_client_conn = 50\n"
            f"logfile = {self.folder}/log\n"
        )
        user = privileges()
        if user:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, **user)
        command = [program, "-q", str(self.folder / "ini")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user
        )
        self._wait()

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"postgresql://pollin@/{self._database}?host={self.folder}&port=6432"

    def _wait(self) -> None:
        for _ in range(200):
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                with psycopg.connect(server()) as connection:
                    connection.execute("SELECT pg_sleep(0.05)")
            else:
                return
        said = (self.folder / "log").read_text(errors="replace")
        raise AssertionError(f"PgBouncer should take connections by now: {said[-2000:]}")

    def close(self) -> None:
        """End it, and remove its files."""
        self._process.terminate()
        self._process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)
