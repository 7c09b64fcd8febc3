"""The stores that tests of every backend run on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

from pollin_actors.backends.conformance import NewBackend, NewStore
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.backends.postgres import PostgresBackend
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.backends.valkey import ValkeyBackend
from tests.servers import postgres, valkey

__all__ = ["STORES", "Stores"]


def _memory(path: Path) -> NewBackend:
    return MemoryBackend


def _sqlite(path: Path) -> NewBackend:
    return lambda: SqliteBackend(path)


def _postgres(path: Path) -> NewBackend:
    url = postgres.new_schema()
    return lambda: PostgresBackend(url)


def _valkey(path: Path) -> NewBackend:
    url = valkey.new_url()
    return lambda: ValkeyBackend(url)


STORES: dict[str, Callable[[Path], NewBackend]] = {
    "memory": _memory,
    "postgres": _postgres,
    "sqlite": _sqlite,
    "valkey": _valkey,
}
"""By name: what makes a new store, in a file of that name if it needs one."""


class Stores:
    """Makes stores in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()

    def new(self, kind: str) -> NewStore:
        """What the checks take."""
        return lambda: STORES[kind](self._folder / f"{next(self._numbers)}.db")
