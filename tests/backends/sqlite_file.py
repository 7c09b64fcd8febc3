"""Looking into a SQLite file of the backend from outside."""

from __future__ import annotations

import sqlite3
from pathlib import Path

__all__ = ["check_file"]


def check_file(path: Path) -> None:
    """Assert that the file is sound, and that what is derived in it agrees with the callbacks."""
    connection = sqlite3.connect(path)
    try:
        live = "queue NOT IN (SELECT number FROM queues WHERE dropped)"
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        queued = connection.execute(
            f"SELECT queue, phase, count(*) FROM callbacks WHERE {live} GROUP BY queue, phase "
            "ORDER BY queue, phase"
        ).fetchall()
        counts = connection.execute(
            "SELECT queue, phase, queued FROM counts WHERE queued != 0 ORDER BY queue, phase"
        ).fetchall()
        assert counts == queued
        rows = f"SELECT queue, id, position FROM callbacks WHERE {live} ORDER BY position"
        ids = (
            "SELECT queue, id, position FROM ids "
            f"WHERE position IS NOT NULL AND {live} ORDER BY position"
        )
        assert connection.execute(ids).fetchall() == connection.execute(rows).fetchall()
        queues = "SELECT number FROM queues WHERE NOT dropped ORDER BY number"
        used = "SELECT queue FROM endpoints ORDER BY queue"
        assert connection.execute(used).fetchall() == connection.execute(queues).fetchall()
        for table in ("callbacks", "ids", "counts"):
            lost = f"SELECT queue FROM {table} EXCEPT SELECT number FROM queues"
            assert connection.execute(lost).fetchall() == []
    finally:
        connection.close()
