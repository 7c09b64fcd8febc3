"""Looking into a SQLite file of the backend from outside."""

from __future__ import annotations

import sqlite3
from pathlib import Path

__all__ = ["check_file"]


def check_file(path: Path) -> None:
    """Assert that the file is sound, and that what is derived in it agrees with the callbacks."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        queued = connection.execute(
            "SELECT endpoint, phase, count(*) FROM callbacks GROUP BY endpoint, phase "
            "ORDER BY endpoint, phase"
        ).fetchall()
        counts = connection.execute(
            "SELECT endpoint, phase, queued FROM counts WHERE queued != 0 ORDER BY endpoint, phase"
        ).fetchall()
        assert counts == queued
        rows = "SELECT endpoint, id, position FROM callbacks ORDER BY position"
        ids = "SELECT endpoint, id, position FROM ids WHERE position IS NOT NULL ORDER BY position"
        assert connection.execute(ids).fetchall() == connection.execute(rows).fetchall()
        lost = "SELECT endpoint FROM callbacks EXCEPT SELECT number FROM endpoints"
        assert connection.execute(lost).fetchall() == []
    finally:
        connection.close()
