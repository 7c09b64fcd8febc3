"""Looking into a SQLite file of the backend from outside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["check_file"]

LIVE = "queue NOT IN (SELECT number FROM queues WHERE dropped)"

# Each finds nothing in a file that is sound.
NOTHING = {
    "more repeats than are recorded": """
        SELECT callback FROM history WHERE kind = 7 GROUP BY callback HAVING count(*) > 20""",
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
        for table in ("callbacks", "history", "counts", "cursors")
    },
    "an id that is queued twice": f"""
        SELECT queue, id FROM callbacks WHERE {LIVE} AND gone IS NULL AND expires_at IS NULL
            GROUP BY queue, id HAVING count(*) > 1""",
    "a callback without request": """
        SELECT position FROM callbacks WHERE gone IS NULL OR keep
        EXCEPT SELECT position FROM requests""",
    "a request without callback": """
        SELECT position FROM requests
        EXCEPT SELECT position FROM callbacks WHERE gone IS NULL OR keep""",
    "a record without callback": """
        SELECT callback FROM history WHERE kind != 6
        EXCEPT SELECT position FROM callbacks WHERE keep""",
    "a callback that was not recorded": """
        SELECT position FROM callbacks WHERE keep
        EXCEPT SELECT callback FROM history WHERE kind = 1""",
    "a phase that was not recorded": """
        SELECT position FROM callbacks WHERE keep AND phase != (
            SELECT ifnull(to_phase, from_phase) FROM history
            WHERE callback = callbacks.position AND kind != 7
            ORDER BY history.position DESC LIMIT 1)""",
    "an end that was not recorded": """
        SELECT position FROM callbacks WHERE keep AND (gone IS NULL) = (
            SELECT to_phase IS NULL FROM history WHERE callback = callbacks.position
            ORDER BY history.position DESC LIMIT 1)""",
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


def check_file(path: Path) -> None:
    """Assert that the file is sound, and that what is derived in it agrees with the callbacks."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for what, query in NOTHING.items():
            assert (what, connection.execute(query).fetchall()) == (what, [])
