"""The statements. Each names the index that it is to use where SQLite might choose another."""

from __future__ import annotations

LARGEST = (1 << 63) - 1
"""The largest integer that SQLite stores."""

COLUMNS = "position, id, phase, created_at, kind, headers, body"
LIVE = f"ifnull(expires_at, {LARGEST}) > ?"
HEAD = f"""SELECT {COLUMNS} FROM callbacks WHERE position = (
    SELECT position FROM callbacks INDEXED BY callbacks_in_order
    WHERE queue = ? AND {LIVE} ORDER BY position LIMIT 1)"""
KEY = f"""SELECT {COLUMNS} FROM callbacks WHERE position = (
    SELECT position FROM ids WHERE queue = ? AND id = ?) AND {LIVE}"""
PAGE = f"""SELECT {COLUMNS} FROM callbacks INDEXED BY callbacks_in_order
    WHERE queue = ? AND {LIVE} AND position > ? ORDER BY position LIMIT ?"""
FIND = """SELECT queue, id, secret, phases, ttl, created_at, dedup_for
    FROM endpoints WHERE id = ?"""
DUE = """SELECT queue, id FROM ids INDEXED BY ids_by_until
    WHERE position IS NULL AND until <= ? ORDER BY until LIMIT ?"""
DROPPED = "SELECT number FROM queues INDEXED BY queues_dropped WHERE dropped ORDER BY number"
EXPIRED = f"""SELECT position FROM callbacks INDEXED BY callbacks_by_expiry
    WHERE expires_at <= ? AND queue NOT IN ({DROPPED}) ORDER BY expires_at LIMIT ?"""
# Of a queue that was dropped, first the ids: then no row has any to mark as removed.
CLEAR = (
    "DELETE FROM ids WHERE queue = ? AND id IN (SELECT id FROM ids WHERE queue = ? LIMIT ?)",
    """DELETE FROM callbacks WHERE queue = ? AND position IN (
        SELECT position FROM callbacks INDEXED BY callbacks_in_order WHERE queue = ? LIMIT ?)""",
)


def _slice(phase: bool, direction: str) -> str:
    # The inner query reads an index only: an offset passes over rows without reading them.
    index, more = ("callbacks_in_phase", " AND phase = ?") if phase else ("callbacks_in_order", "")
    return f"""SELECT {COLUMNS} FROM callbacks WHERE position IN (
        SELECT position FROM callbacks INDEXED BY {index} WHERE queue = ?{more} AND {LIVE}
        ORDER BY position {direction} LIMIT ? OFFSET ?) ORDER BY position {direction}"""


QUEUE_OF = "SELECT queue FROM endpoints WHERE id = ?"


SLICES = {(by, to): _slice(by, to) for by in (False, True) for to in ("ASC", "DESC")}

KNOWN = "SELECT position, until FROM ids WHERE queue = ? AND id = ?"

# A few sizes, so that few statements are prepared; 9 values each, and SQLite takes 999 at least.
BATCHES = (64, 32, 16, 8, 4)


def _add(rows: int) -> str:
    values = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?)"] * rows)
    return f"""INSERT INTO callbacks
        (queue, id, phase, created_at, expires_at, remembered_until, kind, headers, body)
        VALUES {values}"""


# Triggers make their ids known, and pass over those that are.
ADD = _add(1)
ADD_MANY = {rows: _add(rows) for rows in BATCHES}

REMOVE = "DELETE FROM callbacks WHERE position = ?"
FORGET = "DELETE FROM ids WHERE queue = ? AND id = ?"
CREATE = """INSERT INTO endpoints (secret, phases, ttl, created_at, dedup_for, queue, id)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""
UPDATE = """UPDATE endpoints SET secret = ?, phases = ?, ttl = ?, created_at = ?, dedup_for = ?
    WHERE id = ?"""
