"""Processes that halt in the middle of something: they hold up the others for a moment only."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from pollin_actors.backends.postgres import PostgresBackend, link, transactions
from pollin_actors.backends.postgres.watched import connection_class
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import DeleteCallback, Push
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.resources import Callback
from tests.backends.postgres_inbox import WAIT_S, PostgresInbox
from tests.backends.postgres_schema import Gate, ask
from tests.servers import postgres

HALTED_MS = 200


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HALTED_MS", HALTED_MS)
    monkeypatch.setattr(transactions, "SILENT_MS", HALTED_MS)


@pytest.fixture
def inbox() -> Iterator[PostgresInbox]:
    with PostgresInbox(lock_timeout=0.3) as inbox:
        yield inbox


def schema_of(inbox: PostgresInbox) -> str:
    return inbox.url.rpartition("schema=")[2]


def stranger(inbox: PostgresInbox) -> psycopg.Connection[Any]:
    """A connection of nobody's backend."""
    return psycopg.connect(inbox.url.partition("schema=")[0].rstrip("?&"))


def hold(connection: psycopg.Connection[Any], inbox: PostgresInbox) -> None:
    """Begin a pipeline, lock the endpoint, and say nothing more: not even that this was all."""
    connection.pgconn.enter_pipeline_mode()
    connection.pgconn.send_query_params(b"BEGIN", [])
    lock = f"SELECT 1 FROM {schema_of(inbox)}.endpoints WHERE id = 'e' FOR NO KEY UPDATE"
    connection.pgconn.send_query_params(lock.encode(), [])
    connection.pgconn.send_flush_request()
    while connection.pgconn.flush():
        pass
    while connection.pgconn.is_busy():
        connection.pgconn.consume_input()


def test_who_falls_silent_between_two_statements_is_cut_off(inbox: PostgresInbox) -> None:
    """No setting of the server ends such a session; whoever waits for the endpoint does."""
    with closing(stranger(inbox)) as halted:
        hold(halted, inbox)
        with capture_logs() as logs:
            pushed = inbox.push("one")
            assert pushed.get(timeout=WAIT_S).outcome == "queued"
        [entry] = [it for it in logs if it["event"] == "backend.halted_session_ended"]
        assert entry["pid"] == halted.info.backend_pid


def test_who_halts_in_a_transaction_is_cut_off(inbox: PostgresInbox) -> None:
    """As whoever looks at what is there, and does one thing after another."""
    halted = link.connect(inbox.backend._address)
    with closing(halted):
        with halted.pipeline():
            halted.execute("BEGIN")
            query = f"SELECT 1 FROM {schema_of(inbox)}.endpoints WHERE id = 'e' FOR UPDATE"
            halted.execute(query.encode())
        assert inbox.push("one").get(timeout=WAIT_S).outcome == "queued"
        with pytest.raises(psycopg.OperationalError):
            halted.execute("SELECT 1")


def test_who_only_works_slowly_is_left_alone(inbox: PostgresInbox) -> None:
    """A transaction in which statements go on, however long it takes, is not silent."""
    with closing(stranger(inbox)) as slow:
        query = f"SELECT 1 FROM {schema_of(inbox)}.endpoints WHERE id = 'e' FOR UPDATE"
        slow.execute(query.encode())
        waiting = inbox.push("one")
        finished = threading.Event()
        waiting.add_done_callback(lambda _: finished.set())
        while not finished.is_set():
            slow.execute("SELECT pg_sleep(0.02)")
        assert not slow.closed


class Talker:
    """A handle whose clock stands still, in the middle of a transaction, until it may go on."""

    def __init__(self, inbox: PostgresInbox) -> None:
        self.backend = PostgresBackend(inbox.url)
        self.backend.open(self._time_ns)
        self._stands, self._goes_on = threading.Event(), threading.Event()
        self._goes_on.set()

    def _time_ns(self) -> int:
        if not self._goes_on.is_set():
            self._stands.set()
            self._goes_on.wait()
        return time.time_ns()

    def begin(self, id: str) -> ReplyFuture[Any]:
        """Lock the endpoint, to remove a callback, and fall silent."""
        self._stands.clear()
        self._goes_on.clear()
        future = self.backend.execute(DeleteCallback("e", id))
        self._stands.wait()
        return future

    def go_on(self) -> None:
        self._goes_on.set()


@contextmanager
def trap(inbox: PostgresInbox) -> Iterator[str]:
    """The URL of a handle that waits at an advisory lock, which is held in here until the end,
    between finding whom to end and ending it."""
    name = f"{schema_of(inbox)}_trap"
    with psycopg.connect(postgres.server(), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", (name,))
        connection.execute(f"CREATE SCHEMA {name}".encode())
        connection.execute(
            f"""CREATE FUNCTION {name}.pg_terminate_backend(process integer) RETURNS boolean
            LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_advisory_xact_lock(hashtext('{name}'));
            RETURN pg_catalog.pg_terminate_backend(process); END $$""".encode()
        )
        yield f"{inbox.url}&options=-c%20search_path%3D{name},pg_catalog"
        connection.execute("SELECT pg_advisory_unlock_all()")


@pytest.mark.parametrize("then", ["is idle", "is in the next one", "commits the next one"])
def test_who_speaks_again_just_before_it_is_cut_off(
    inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """What it was told stays true, and what it has begun since is done, or in doubt."""
    monkeypatch.setattr(link, "HALTED_MS", WAIT_S * 1000)  # by the others, not by the server
    for id in ("a", "b", "c"):
        inbox.push(id).get(timeout=WAIT_S)
    talker, gate = Talker(inbox), Gate(inbox.url)
    with closing(talker.backend), ExitStack() as stack:
        following = deleted = talker.begin("a")
        with trap(inbox) as url:
            waiter = PostgresBackend(url, lock_timeout=0.3)
            waiter.open(time.time_ns)
            stack.callback(waiter.close)
            pushed = waiter.execute(Push("e", Callback.new(b"x", id="d"), trusted=True))
            waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while not ask(inbox.url, waits):
                pass
            talker.go_on()
            assert deleted.get(timeout=WAIT_S) is True
            assert inbox.ids() == "b c"
            if then == "is in the next one":
                following = talker.begin("b")
            elif then == "commits the next one":
                stack.enter_context(gate)
                following = talker.backend.execute(DeleteCallback("e", "b"))
                commits = """SELECT 1 FROM pg_stat_activity
                    WHERE wait_event_type = 'Lock' AND query = 'COMMIT'"""
                while not ask(inbox.url, commits):
                    pass
        if then == "commits the next one":
            with pytest.raises(BackendUnavailable, match="may have been stored"):
                following.get(timeout=WAIT_S)
            gate.open()
        else:
            talker.go_on()
            if then == "is idle":
                following = talker.backend.execute(DeleteCallback("e", "b"))
            assert following.get(timeout=WAIT_S) is True
        assert pushed.get(timeout=WAIT_S).outcome == "queued"
        assert inbox.ids() == ("b c d" if then == "commits the next one" else "c d")
        last = talker.backend.execute(DeleteCallback("e", "c"))
        assert last.get(timeout=WAIT_S) is True


def test_a_wait_ends_with_the_connection() -> None:
    """libpq closes its socket when the server hangs up. psycopg waits for the number that it had,
    which may be another's by then: a wait would never end."""
    with PostgresInbox() as inbox:
        connection = link.connect(inbox.backend._address)
        assert isinstance(connection, connection_class())
        ends: list[socket.socket] = []

        def generator() -> Any:
            yield 1  # to be read from
            number = connection.fileno()
            connection.pgconn.finish()
            ends.extend(socket.socketpair())
            if number not in (ends[0].fileno(), ends[1].fileno()):
                os.dup2(ends[0].fileno(), number)
                taken.append(number)
            while True:
                yield 1

        taken: list[int] = []
        connection.pgconn.send_query(b"SELECT 1")
        connection.pgconn.flush()
        try:
            with pytest.raises(psycopg.OperationalError):
                connection.wait(generator())
        finally:
            for number in taken:
                os.close(number)
            for end in ends:
                end.close()
            connection.close()
