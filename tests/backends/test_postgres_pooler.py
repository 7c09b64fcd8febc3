"""Through PgBouncer in transaction mode, where nothing of a session is kept."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from pollin_actors.backends.conformance import Check, NewBackend, claims, pushes, stores
from pollin_actors.backends.postgres import PostgresBackend, link, schema
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import ClaimSlice, Pop
from tests.backends.postgres_inbox import WAIT_S, PostgresInbox
from tests.backends.postgres_schema import schema_of
from tests.servers import pgbouncer, postgres

pytestmark = pytest.mark.skipif(pgbouncer.find() is None, reason="PgBouncer is not installed")


@pytest.fixture(scope="module")
def pooler() -> Iterator[pgbouncer.PgBouncer]:
    pooler = pgbouncer.PgBouncer()
    yield pooler
    pooler.close()


@pytest.mark.parametrize(
    "check",
    [*stores.CHECKS, *claims.CHECKS, *pushes.CHECKS],
    ids=lambda check: check.__name__,
)
def test_passes(pooler: pgbouncer.PgBouncer, check: Check) -> None:
    """The rules hold there as well, with fewer connections than handles."""

    def new_store() -> NewBackend:
        url = f"{pooler.url}&schema={schema_of(postgres.new_schema())}"
        return lambda: PostgresBackend(url)

    check(new_store)


def test_nothing_is_left_in_the_session(pooler: pgbouncer.PgBouncer) -> None:
    """Statements are not prepared there, however often they are sent, and no setting stays."""
    name = schema_of(postgres.new_schema())
    with PostgresInbox(f"{pooler.url}&schema={name}", synchronous_commit="off") as inbox:
        other = inbox.open()
        for turn in range(10):
            inbox.push(f"a{turn}").get(timeout=WAIT_S)
            inbox.do(ClaimSlice("e", None), other)
            inbox.do(Pop("e"))
        assert inbox.backend._writer is not None
        connection = inbox.backend._writer._link.open()
        names = ("enable_seqscan", "enable_hashjoin", "synchronous_commit", "lock_timeout")
        query = f"SELECT {', '.join([f'current_setting({name!r})' for name in names])}"
        row = connection.execute(query.encode()).fetchone()
        assert row == ("on", "on", "on", "0")
        prepared = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
        assert prepared == (0,)


def test_who_halts_while_the_tables_are_made(
    pooler: pgbouncer.PgBouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lets go of the lock after a moment: who comes next makes them."""
    monkeypatch.setattr(link, "HALTED_MS", 200)
    url = f"{pooler.url}&schema={schema_of(postgres.new_schema())}"
    run = schema._run
    halted, awake = threading.Event(), threading.Event()

    def halt(*args: Any) -> None:
        monkeypatch.setattr(schema, "_run", run)
        halted.set()
        awake.wait()
        run(*args)

    monkeypatch.setattr(schema, "_run", halt)
    first, errors = PostgresBackend(url), []

    def begin() -> None:
        try:
            first.open(time.time_ns)
        except BackendUnavailable as error:
            errors.append(str(error))

    opening = threading.Thread(target=begin)
    opening.start()
    try:
        halted.wait()
        with PostgresInbox(url) as inbox:
            assert inbox.push("a").get(timeout=WAIT_S).outcome == "queued"
    finally:
        awake.set()
        opening.join()
        first.close()
    assert len(errors) == 1
    assert "halted in the middle" in errors[0]


def test_transactions_must_see_what_others_commit() -> None:
    """No setting of a session is kept there: another isolation by default is refused."""
    name = schema_of(postgres.new_schema())
    with psycopg.connect(postgres.server(), autocommit=True) as connection:
        setting = f'ALTER ROLE "{connection.info.user}" {{}} default_transaction_isolation'
        connection.execute(f"{setting.format('SET')} = 'repeatable read'".encode())
        try:
            pooler = pgbouncer.PgBouncer()
            with closing(pooler), pytest.raises(BackendUnavailable, match="is repeatable read"):
                PostgresBackend(f"{pooler.url}&schema={name}").open(time.time_ns)
        finally:
            connection.execute(setting.format("RESET").encode())


def test_there_it_tells_and_does_not_hear(pooler: pgbouncer.PgBouncer) -> None:
    """Who is connected directly hears of it; who is not finds out by looking."""
    name = schema_of(postgres.new_schema())
    heard: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    with PostgresInbox(f"{pooler.url}&schema={name}") as inbox:
        direct = PostgresBackend(f"{postgres.server()}&schema={name}")
        direct.announce_to(lambda endpoint_id, revised: heard.put(endpoint_id))
        direct.open(time.time_ns)
        pooled = PostgresBackend(f"{pooler.url}&schema={name}")
        news: list[str | None] = []
        pooled.announce_to(lambda endpoint_id, revised: news.append(endpoint_id))
        pooled.open(time.time_ns)
        inbox.push("a").get(timeout=WAIT_S)
        while heard.get(timeout=WAIT_S) != "e":
            pass
        direct.close()
        pooled.close()
        assert news == []
