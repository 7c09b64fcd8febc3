"""Looking into a schema of the PostgreSQL backend from outside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.servers import postgres

__all__ = [
    "Gate",
    "ask",
    "check_schema",
    "locked_endpoint",
    "processes_of",
    "schema_of",
    "terminate",
    "wait_for_waiting",
]

LIVE = "queue NOT IN (SELECT number FROM queues WHERE dropped)"

# Each finds nothing in a schema that is sound.
NOTHING = {
    "more repeats than are recorded": """
        SELECT queue, callback FROM history WHERE kind = 7
            GROUP BY queue, callback HAVING count(*) > 20""",
    "a fence that is queued twice": """
        SELECT queue, fence FROM callbacks WHERE gone IS NULL AND expires_at IS NULL
            AND fence IS NOT NULL GROUP BY queue, fence HAVING count(*) > 1""",
    "a count that differs": f"""
        SELECT queue, phase, count(*), sum(size) FROM callbacks
            WHERE {LIVE} AND gone IS NULL GROUP BY queue, phase
        EXCEPT SELECT queue, phase, queued, size FROM counts""",
    "a count of nothing": f"""
        SELECT queue, phase FROM counts WHERE queued != 0 OR size != 0
        EXCEPT SELECT queue, phase FROM callbacks WHERE {LIVE} AND gone IS NULL""",
    "a queue without endpoint": """
        SELECT number FROM queues WHERE NOT dropped EXCEPT SELECT queue FROM endpoints""",
    "an endpoint without queue": """
        SELECT queue FROM endpoints EXCEPT SELECT number FROM queues WHERE NOT dropped""",
    **{
        f"a row of {table} without queue": f"""
        SELECT queue FROM {table} EXCEPT SELECT number FROM queues"""
        for table in ("callbacks", "requests", "history", "counts", "cursors")
    },
    "an id that is queued twice": f"""
        SELECT queue, id FROM callbacks WHERE {LIVE} AND gone IS NULL AND expires_at IS NULL
            GROUP BY queue, id HAVING count(*) > 1""",
    "a callback without request": f"""
        SELECT queue, position FROM callbacks WHERE {LIVE} AND (gone IS NULL OR keep > 0)
        EXCEPT SELECT queue, position FROM requests""",
    "a request without callback": f"""
        SELECT queue, position FROM requests WHERE {LIVE}
        EXCEPT SELECT queue, position FROM callbacks WHERE gone IS NULL OR keep > 0""",
    "a record without callback": f"""
        SELECT queue, callback FROM history WHERE kind != 6 AND {LIVE}
        EXCEPT SELECT queue, position FROM callbacks WHERE keep > 0""",
    "a callback that was not recorded": f"""
        SELECT queue, position FROM callbacks WHERE keep > 0 AND {LIVE}
        EXCEPT SELECT queue, callback FROM history WHERE kind = 1""",
    "a phase that was not recorded": f"""
        SELECT position FROM callbacks AS c WHERE keep > 0 AND {LIVE} AND phase != (
            SELECT coalesce(to_phase, from_phase) FROM history AS h
            WHERE h.queue = c.queue AND h.callback = c.position AND h.kind != 7
            ORDER BY h.position DESC LIMIT 1)""",
    "an end that was not recorded": f"""
        SELECT position FROM callbacks AS c WHERE keep > 0 AND {LIVE} AND (gone IS NULL) = (
            SELECT to_phase IS NULL FROM history AS h
            WHERE h.queue = c.queue AND h.callback = c.position
            ORDER BY h.position DESC LIMIT 1)""",
    "a hold that makes no sense": """
        SELECT position FROM callbacks WHERE NOT CASE held
            WHEN 0 THEN due IS NULL AND token IS NULL AND gone IS NULL
            WHEN 1 THEN due IS NOT NULL AND gone IS NULL
            WHEN 2 THEN due IS NULL AND token IS NULL AND ordering_key IS NOT NULL
            ELSE gone IS NOT NULL AND due IS NULL AND token IS NULL AND expires_at IS NULL END""",
    "two in front of an ordering key": f"""
        SELECT queue, phase, ordering_key FROM callbacks
            WHERE {LIVE} AND ordering_key IS NOT NULL AND held < 2
            GROUP BY queue, phase, ordering_key HAVING count(*) > 1""",
    "an ordering key that waits for nobody": f"""
        SELECT queue, phase, ordering_key FROM callbacks
            WHERE {LIVE} AND held = 2 AND expires_at IS NULL
        EXCEPT SELECT queue, phase, ordering_key FROM callbacks WHERE held < 2""",
}


def schema_of(url: str) -> str:
    """The schema that a URL of ``new_schema`` names."""
    found = re.search(r"[?&]schema=(\w+)", url)
    assert found is not None
    return found[1]


def ask(url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement with the schema of a URL as the search path; the rows, if it has any."""
    with psycopg.connect(postgres.server(), autocommit=True) as connection:
        connection.execute(f"SET search_path = {schema_of(url)}".encode())
        cursor = connection.execute(query.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def check_schema(url: str) -> None:
    """Assert that the schema is sound, and that what is derived in it agrees with the callbacks."""
    with psycopg.connect(postgres.server(), autocommit=True) as connection:
        connection.execute(f"SET search_path = {schema_of(url)}".encode())
        for what, query in NOTHING.items():
            assert (what, connection.execute(query.encode()).fetchall()) == (what, [])


@contextmanager
def locked_endpoint(url: str, endpoint_id: str = "e") -> Iterator[None]:
    """Hold an endpoint, as another node in the middle of a transaction does."""
    with psycopg.connect(postgres.server()) as connection:
        query = f"SELECT 1 FROM {schema_of(url)}.endpoints WHERE id = %s FOR UPDATE"
        assert connection.execute(query.encode(), (endpoint_id,)).fetchall() == [(1,)]
        yield
        connection.rollback()


def wait_for_waiting(url: str, count: int = 1) -> list[int]:
    """Wait until so many statements on a schema wait for a lock; the processes of the server."""
    query = """SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'
        AND strpos(query, %s) > 0 AND pg_sleep(0.005) IS NOT NULL"""
    for _ in range(4000):
        found = [row[0] for row in ask(url, query, f'"{schema_of(url)}"')]
        if len(found) >= count:
            return found
    raise AssertionError(f"{count} statements should wait for a lock by now")


def terminate(url: str, process: int) -> None:
    """End a connection from the server's side, as a failing network would."""
    assert ask(url, "SELECT pg_terminate_backend(%s)", process) == [(True,)]


def processes_of(url: str) -> list[int]:
    """The server's processes that have worked on a schema last."""
    query = "SELECT pid FROM pg_stat_activity WHERE strpos(query, %s) > 0 AND state = 'idle'"
    return [row[0] for row in ask(url, query, f'"{schema_of(url)}"')]


class Gate:
    """While it is shut, the server waits in the middle of each commit that has a record."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._schema = schema_of(url)

    def __enter__(self) -> Gate:
        ask(self._url, "CREATE TABLE gate AS SELECT 1 AS shut")
        ask(
            self._url,
            f"""CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM 1 FROM {self._schema}.gate FOR UPDATE; RETURN NULL; END $$""",
        )
        ask(
            self._url,
            """CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON history
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()""",
        )
        self._connection = psycopg.connect(postgres.server())
        self._connection.execute(f"SELECT 1 FROM {self._schema}.gate FOR UPDATE".encode())
        return self

    def wait(self) -> int:
        """Wait until a commit waits; the process of the server."""
        query = """SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'
            AND application_name = 'pollin_actors' AND pg_sleep(0.005) IS NOT NULL"""
        for _ in range(4000):
            if found := ask(self._url, query):
                return int(found[0][0])
        raise AssertionError("a commit should wait by now")

    def open(self) -> None:
        """Let whoever waits pass."""
        self._connection.rollback()

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        ask(self._url, "DROP TABLE gate; DROP FUNCTION wait() CASCADE")
