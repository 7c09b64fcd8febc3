"""Something between us and the PostgreSQL server that holds up what either says."""

from __future__ import annotations

import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from urllib.parse import quote

import psycopg

from tests.servers.postgres import server

__all__ = ["Relay"]


# The last message of an answer.
READY = b"Z\0\0\0\5I"


class Relay:
    """Passes bytes on, each way, until it is told to hold them."""

    def __init__(self) -> None:
        with psycopg.connect(server()) as connection:
            info = connection.info
            self._host, self._port = info.host, info.port
            user, password, database = (quote(it) for it in (info.user, info.password, info.dbname))
        self._folder = Path(tempfile.mkdtemp(prefix="pollin-re-"))
        self.url = f"postgresql://{user}:{password}@/{database}?host={self._folder}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self._changed = threading.Condition()
        self._holds: set[str] = set()
        self._held: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self._sockets = [self._listener]
        self._run(self._accept)

    def hold(self, *what: str) -> None:
        """Hold "questions" of clients, the "end" after the server has hung up, or the "rest" of
        its answers, which only says that it is ready again; or nothing of it."""
        with self._changed:
            self._holds, self._held = {*what}, {}
            self._changed.notify_all()

    def wait(self, what: str) -> None:
        """Wait until something of that kind is held."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._held.get(what), 60)

    def close(self) -> None:
        """Pass on what is held; once the connections are closed, nothing is left."""
        self.hold()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()
        rmtree(self._folder)

    def _run(self, function: object, *args: object) -> None:
        thread = threading.Thread(target=function, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            target = self._connect()
            self._sockets += [client, target]
            self._run(self._pass_on, client, target, "questions", None)
            self._run(self._pass_on, target, client, "answers", "end")

    def _connect(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        target = socket.socket(socket.AF_UNIX)
        target.connect(f"{self._host}/.s.PGSQL.{self._port}")
        return target

    def _pass_on(
        self, source: socket.socket, target: socket.socket, what: str, last: str | None
    ) -> None:
        with suppress(OSError):  # one of them has hung up
            while said := source.recv(1 << 16):
                self._stop_at(what)
                rest = said[-len(READY) :] if last is not None and said.endswith(READY) else b""
                target.sendall(said[: len(said) - len(rest)])
                if rest:
                    self._stop_at("rest")
                    target.sendall(rest)
            self._stop_at(last)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _stop_at(self, what: str | None) -> None:
        with self._changed:
            if what is not None and what in self._holds:
                self._held[what] = 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: what not in self._holds)
