"""How a schema becomes one of ours: made once, by whoever comes first, and never over others."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pollin_actors.backends.conformance.probe import at_once
from pollin_actors.backends.postgres import PostgresBackend
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import CheckReady, Count, CreateEndpoint, IndexEndpoints, Push
from pollin_actors.resources import Callback, Endpoint
from tests.backends.postgres_inbox import WAIT_S, PostgresInbox
from tests.backends.postgres_schema import ask, check_schema, schema_of
from tests.servers import postgres

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def url() -> str:
    return postgres.new_schema()


def test_threads_make_it_at_once(url: str) -> None:
    """Of many that open a new schema one makes it, and all find it made."""
    backends = [PostgresBackend(url) for _ in range(8)]

    def begin(number: int) -> None:
        backends[number].open(time.time_ns)
        endpoint = Endpoint.new(id=f"e{number}")
        backends[number].execute(CreateEndpoint(endpoint)).get(timeout=WAIT_S)

    at_once(begin, 8)
    found = backends[0].execute(IndexEndpoints()).get(timeout=WAIT_S)
    assert sorted(endpoint.id for endpoint in found) == [f"e{number}" for number in range(8)]
    for backend in backends:
        backend.close()
    check_schema(url)


def test_processes_make_it_at_once(url: str) -> None:
    """The lock is the server's, and not this process's."""
    code = (
        "import sys, time\n"
        "from pollin_actors.backends.postgres import PostgresBackend\n"
        "backend = PostgresBackend(sys.argv[1])\n"
        "backend.open(time.time_ns)\n"
        "backend.close()\n"
    )
    command = [sys.executable, "-c", code, url]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait(WAIT_S) for process in processes] == [0, 0, 0]
    assert ask(url, "SELECT application, version FROM about") == [("pollin_actors", 1)]


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE {0}.orders (id integer)",
        "CREATE TABLE {0}.about (id integer)",
        "CREATE TABLE {0}.about AS SELECT 'other' AS application, 1 AS version",
        "CREATE TABLE {0}.about AS SELECT 'pollin_actors' AS application, 1 AS version LIMIT 0",
        "CREATE FUNCTION {0}.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE {0}.mood AS ENUM ('good')",
    ],
)
def test_what_holds_something_else_is_refused(url: str, made: str) -> None:
    """Another application's schema stays as it is."""
    schema = schema_of(url)
    ask(url, f"CREATE SCHEMA {schema}")
    ask(url, made.format(schema))
    holds = "SELECT count(*) FROM pg_class WHERE relnamespace = %s::regnamespace"
    before = ask(url, holds, schema)
    with pytest.raises(BackendUnavailable, match="holds something else"):
        PostgresBackend(url).open(time.time_ns)
    assert ask(url, holds, schema) == before


def test_an_empty_schema_is_taken(url: str) -> None:
    """Somebody may have made it for us: who may not make any can work in it."""
    ask(url, f"CREATE SCHEMA {schema_of(url)}")
    with PostgresInbox(url) as inbox:
        assert inbox.do(Count("e")) == 0


def test_a_newer_version_is_refused(url: str) -> None:
    """At the beginning, and by who had it open when it was brought up to date."""
    inbox = PostgresInbox(url)
    inbox.push("a").get(timeout=WAIT_S)
    schema = schema_of(url)
    (source,) = ask(
        url,
        "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'enter' "
        "AND pronamespace = %s::regnamespace",
        schema,
    )[0]
    ask(url, "UPDATE about SET version = 2")
    ask(url, source.replace("knows <> 1", "knows <> 2"))
    for message in (CheckReady(), Count("e")):
        with pytest.raises(BackendUnavailable, match=r"has version 2.*upgrade pollin-actors"):
            inbox.do(message)
    with pytest.raises(BackendUnavailable, match="has version 2"):
        inbox.push("b").get(timeout=WAIT_S)
    with pytest.raises(BackendUnavailable, match="has version 2"):
        PostgresBackend(url).open(time.time_ns)
    inbox.backend.close()
    assert ask(url, "SELECT id FROM callbacks") == [("a",)]


def test_a_schema_that_is_removed(url: str) -> None:
    """Who uses it is told so; it is not made anew, for what it held was acknowledged."""
    inbox = PostgresInbox(url)
    inbox.push("a").get(timeout=WAIT_S)
    ask(url, f"DROP SCHEMA {schema_of(url)} CASCADE")
    for message in (Push("e", Callback.new(b"x"), "s"), Count("e")):
        with pytest.raises(BackendUnavailable, match="was removed"):
            inbox.do(message)
    inbox.backend.close()
    assert ask(url, "SELECT 1 FROM pg_namespace WHERE nspname = %s", schema_of(url)) == []
