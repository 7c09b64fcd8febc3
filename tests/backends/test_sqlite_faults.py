"""Disks that fail under SQLite, at every write that there is, and files that cannot be written."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.backends.sqlite.schema import APPLICATION_ID
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import (
    Count,
    CreateEndpoint,
    DeleteCallback,
    DumpPage,
    FindEndpoint,
    Pop,
    Push,
    UpdatePhase,
)
from pollin_actors.resources import Callback, Endpoint
from tests.backends.faulty_disk import FaultyDisk
from tests.backends.sqlite_file import check_file


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    with FaultyDisk() as disk:
        yield disk


class Book:
    """A backend, and what must be in it by what it has answered."""

    def __init__(self, path: Path) -> None:
        self.backend = SqliteBackend(path, durability="normal")
        self.exists = False
        self.queued: dict[str, tuple[str, bytes]] = {}
        self.refused: list[Push] = []
        self.failures = 0

    def reopen(self) -> None:
        """Close it, which brings its log into the file, and open it."""
        self.backend.close()
        try:
            self.backend.open(time.time_ns)
        except BackendUnavailable as error:
            self._blame(error)

    def create(self) -> None:
        endpoint = Endpoint.new(["received", "processed"], 0, id="e")
        (reply,) = self._answers(CreateEndpoint(endpoint))
        self.exists = self.exists or reply is not None

    def push(self, *ids: str) -> None:
        """At once, so that they may share a transaction."""
        callbacks = [Callback.new(id.encode() * 700, id=id) for id in ids]
        messages = [Push("e", callback, None, True) for callback in callbacks]
        for message, reply in zip(messages, self._answers(*messages), strict=True):
            if reply is None:
                self.refused.append(message)
            else:
                assert reply.outcome == "queued"
                self.queued[reply.callback.id] = ("received", reply.callback.request)

    def advance(self, id: str) -> None:
        (reply,) = self._answers(UpdatePhase("e", id, "processed")) if id in self.queued else [None]
        if reply is not None:
            self.queued[id] = ("processed", self.queued[id][1])

    def take(self, kind: type[Pop] | type[DeleteCallback], id: str) -> None:
        if id in self.queued:
            (reply,) = self._answers(kind("e", id))
            if reply is not None:
                del self.queued[id]

    def check(self) -> None:
        """What was acknowledged is there, as a whole; what was refused is not."""
        found: dict[str, tuple[str, bytes]] = {}
        if self.exists:
            page = self.backend.execute(DumpPage("e", None, 1000)).get()
            assert page.cursor is None
            found = {c.id: (c.phase, c.request) for c in page.callbacks}
        else:
            assert self.backend.execute(FindEndpoint("e")).get() is None
        assert found == self.queued
        assert list(found) == [id for id in self.queued if id in found]

    def _answers(self, *messages: Any) -> list[Any]:
        """The replies; None for what failed."""
        if not self.exists and not isinstance(messages[0], CreateEndpoint):
            return [None] * len(messages)
        try:
            futures = [self.backend.execute(message) for message in messages]
        except BackendUnavailable:
            return [None] * len(messages)  # it could not be opened
        replies = []
        for future in futures:
            try:
                replies.append(future.get(timeout=60))
            except BackendUnavailable as error:
                self._blame(error)
                replies.append(None)
        return replies

    def _blame(self, error: BackendUnavailable) -> None:
        assert isinstance(error.__cause__, sqlite3.Error | OSError), repr(error.__cause__)
        self.failures += 1


def work(book: Book) -> None:
    """Something of everything, with the log brought into the file twice."""
    book.reopen()
    book.create()
    for turn in "abc":
        book.push(f"{turn}1", f"{turn}2", f"{turn}3")
        book.advance(f"{turn}1")
        book.take(Pop, f"{turn}2")
        if turn == "b":
            book.reopen()
    book.take(DeleteCallback, "a1")
    book.push("d1")
    book.reopen()


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize(
    ("error", "torn"),
    [(errno.EIO, False), (errno.EIO, True), (errno.ENOSPC, True)],
    ids=["I/O error", "torn write", "disk full"],
)
def test_a_fault_at_any_write_loses_nothing(
    disk: FaultyDisk, tmp_path: Path, error: int, torn: bool, lasting: bool
) -> None:
    """The n-th write fails, for every n; then the disk is well again, and so is the backend."""
    disk.error, disk.torn, disk.lasting = error, torn, lasting
    failures = number = 0
    reached = True
    while reached:
        number += 1
        disk.writes, disk.fail_at = 0, number
        folder = tmp_path / str(number)
        folder.mkdir()
        book = Book(folder / "inbox.db")
        work(book)
        reached = disk.writes >= number
        failures += book.failures
        disk.heal()

        if book.backend._writer is None:
            book.reopen()
        book.check()
        if not book.exists:
            book.create()
        for message in book.refused:
            assert book.backend.execute(message).get().outcome == "queued"
        book.backend.close()
        check_file(folder / "inbox.db")
        shutil.rmtree(folder)
    assert number > 50
    assert failures > 10


@pytest.mark.parametrize("every", [40, 97, 400])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["I/O error", "disk full"])
def test_threads_lose_nothing_on_a_disk_that_fails_again_and_again(
    disk: FaultyDisk, tmp_path: Path, error: int, every: int
) -> None:
    """Each n-th write fails: what was acknowledged is there once, what was refused is not."""
    book = Book(tmp_path / "inbox.db")
    book.reopen()
    book.create()
    disk.error, disk.every, disk.torn = error, every, True
    acknowledged: list[str] = []

    def work(name: int) -> None:
        for turn in range(60):
            ids = [f"{name}-{turn}-{number}" for number in range(1 + turn % 6)]
            pushes = [Push("e", Callback.new(id.encode() * 300, id=id), None, True) for id in ids]
            futures = [book.backend.execute(push) for push in pushes]
            for id, future in zip(ids, futures, strict=True):
                with suppress(BackendUnavailable):
                    future.get(timeout=60)
                    acknowledged.append(id)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    disk.heal()
    page = book.backend.execute(DumpPage("e", None, 10**6)).get()
    assert sorted(callback.id for callback in page.callbacks) == sorted(acknowledged)
    assert all(c.request == c.id.encode() * 300 for c in page.callbacks)
    # Where faults are rare, a second try succeeds, and nothing need be refused.
    assert disk.writes > 2 * every
    assert acknowledged
    book.backend.close()
    check_file(tmp_path / "inbox.db")


def test_a_file_that_is_read_only_is_told_and_no_more_once_it_is_not(
    disk: FaultyDisk, tmp_path: Path
) -> None:
    path = tmp_path / "inbox.db"
    book = Book(path)
    book.reopen()
    book.create()
    book.push("a")
    book.backend.close()
    disk.read_only = True
    with pytest.raises(BackendUnavailable, match="make the file and its folder writable"):
        book.backend.open(time.time_ns)
    disk.heal()
    book.backend.open(time.time_ns)
    book.check()
    book.push("b")
    book.check()
    book.backend.close()


def test_a_file_whose_log_was_being_moved_into_it_is_opened(tmp_path: Path) -> None:
    """Who is killed at that leaves a header that counts more pages than are in the file yet."""
    path, copy = tmp_path / "inbox.db", tmp_path / "copy.db"
    book = Book(path)
    book.reopen()
    book.create()
    book.push(*"abcdefgh")
    shutil.copy(path, copy)
    shutil.copy(f"{path}-wal", f"{copy}-wal")
    book.backend.close()
    with path.open("rb") as whole, copy.open("r+b") as file:
        file.write(whole.read(4096))
    with (
        closing(sqlite3.connect(f"{copy.as_uri()}?immutable=1", uri=True)) as connection,
        pytest.raises(sqlite3.DatabaseError, match="malformed"),
    ):
        connection.execute("PRAGMA page_count").fetchone()
    assert copy.read_bytes()[68:72] == APPLICATION_ID.to_bytes(4, "big")

    again = SqliteBackend(copy)
    again.open(time.time_ns)
    assert again.execute(Count("e")).get() == 8
    again.close()
    check_file(copy)
