"""Processes that halt in the middle of something: they hold up the others for a moment only."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from pollin_actors.backends.postgres import link, transactions
from pollin_actors.backends.postgres.watched import connection_class
from tests.backends.postgres_inbox import WAIT_S, PostgresInbox

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
