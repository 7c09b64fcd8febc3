"""The statements. Each names the index that it is to use where SQLite might choose another."""

from __future__ import annotations

from pollin_actors.records import MAX_REPEATS, Kind

# Statements that fire triggers say OR FAIL: see the triggers.

LARGEST = (1 << 63) - 1
"""The largest integer that SQLite stores."""

# From 10 on, those of claims: the triggers tell them apart by that.
KINDS: dict[int, Kind] = {
    1: Kind.PUSHED,
    2: Kind.MOVED,
    3: Kind.POPPED,
    4: Kind.DELETED,
    5: Kind.EXPIRED,
    6: Kind.RESET,
    7: Kind.REPEATED,
    10: Kind.CLAIMED,
    11: Kind.ACKNOWLEDGED,
    12: Kind.FAILED,
    13: Kind.RELEASED,
    14: Kind.LAPSED,
    15: Kind.DEAD,
    16: Kind.DISCARDED,
}
NUMBERS: dict[Kind, int] = {kind: number for number, kind in KINDS.items()}

COLUMNS = """callbacks.position, id, phase, created_at, parent, root, origin, ordering_key,
    not_before, attempts, requests.kind, headers, body, fence"""
FROM = "FROM callbacks JOIN requests ON requests.position = callbacks.position"
LIVE = f"ifnull(expires_at, {LARGEST}) > ?"

HELDS = (0, 1, 2)
"""What a queued callback may be: available, claimed or waiting, behind others."""


def queued(held: int, more: str = "", *, phase: bool = False) -> str:
    """The positions of what is so held, by an index only: parameters are the queue, with
    ``phase`` the phase, and now."""
    if phase:
        where = f"INDEXED BY callbacks_in_phase WHERE queue = ? AND phase = ? AND held = {held}"
        where += " AND gone IS NULL"
    else:
        where = f"INDEXED BY callbacks_in_order WHERE queue = ? AND held = {held}"
    return f"SELECT position FROM callbacks {where} AND {LIVE}{more}"


def _first(held: int) -> str:
    return f"SELECT * FROM ({queued(held, ' ORDER BY position LIMIT 1')})"


# The oldest of all, and the oldest that is available.
HEAD = f"""SELECT {COLUMNS} {FROM} WHERE callbacks.position = (
    SELECT min(position) FROM ({" UNION ALL ".join(map(_first, HELDS))}))"""
NEXT = f"""SELECT {COLUMNS} {FROM} WHERE callbacks.position = (
    {queued(0, " ORDER BY position LIMIT 1")})"""
KEY = f"""SELECT {COLUMNS}, held {FROM} WHERE callbacks.position = (
    SELECT max(position) FROM callbacks INDEXED BY callbacks_by_id
    WHERE queue = ? AND id = ? AND gone IS NULL) AND {LIVE}"""

# As KEY, by fence. One that has expired, and is not swept yet, may have the same.
FENCED = f"""SELECT {COLUMNS}, held {FROM} WHERE callbacks.position = (
    SELECT max(position) FROM callbacks INDEXED BY callbacks_by_fence
    WHERE queue = ? AND fence = ? AND gone IS NULL AND {LIVE})"""

LAST = f"""SELECT {COLUMNS} {FROM} WHERE callbacks.position = (
    SELECT max(position) FROM callbacks INDEXED BY callbacks_by_id
    WHERE queue = ? AND id = ? AND gone IS NOT NULL AND keep > 0)"""


def _merged(helds: tuple[int, ...], more: str, order: str, *, phase: bool = False) -> str:
    parts = " UNION ALL ".join(queued(held, more, phase=phase) for held in helds)
    return f"{parts} ORDER BY position {order}"


PAGE = f"""SELECT {COLUMNS} {FROM} WHERE callbacks.position IN (
    {_merged(HELDS, " AND position > ?", "ASC")} LIMIT ?) ORDER BY callbacks.position"""


def _slice(phase: bool, direction: str, helds: tuple[int, ...]) -> str:
    # The inner query reads an index only: an offset passes over rows without reading them.
    return f"""SELECT {COLUMNS} {FROM} WHERE callbacks.position IN (
        {_merged(helds, "", direction, phase=phase)} LIMIT ? OFFSET ?)
        ORDER BY callbacks.position {direction}"""


SLICES = {(by, to): _slice(by, to, HELDS) for by in (False, True) for to in ("ASC", "DESC")}
AVAILABLE = {by: _slice(by, "ASC", (0,)) for by in (False, True)}

# -- endpoints and queues --------------------------------------------------------------------------

FIND = """SELECT queue, id, secret, phases, ttl, created_at, dedup_for, keep_for, consumes,
    capacity, capacity_bytes, intake, old_secrets FROM endpoints WHERE id = ?"""
CREATE = """INSERT INTO endpoints (secret, phases, ttl, created_at, dedup_for, keep_for, consumes,
    capacity, capacity_bytes, intake, old_secrets, queue, id)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
UPDATE = """UPDATE endpoints SET secret = ?, phases = ?, ttl = ?, created_at = ?, dedup_for = ?,
    keep_for = ?, consumes = ?, capacity = ?, capacity_bytes = ?, intake = ?, old_secrets = ?
    WHERE id = ?"""
QUEUE_OF = "SELECT queue FROM endpoints WHERE id = ?"
DROPPED = "SELECT number FROM queues INDEXED BY queues_dropped WHERE dropped ORDER BY number"
NEVER_EXPIRES = f"""UPDATE OR FAIL callbacks SET expires_at = NULL, kept_expiry = NULL
    WHERE queue = ? AND phase = ? AND gone IS NULL AND {LIVE}"""
# Of a queue that was dropped.
CLEAR = (
    """DELETE FROM callbacks WHERE position IN (
        SELECT position FROM callbacks INDEXED BY callbacks_in_order WHERE queue = ? LIMIT ?)""",
    """DELETE FROM history WHERE position IN (
        SELECT position FROM history INDEXED BY history_in_order WHERE queue = ? LIMIT ?)""",
    """DELETE FROM cursors WHERE queue = ?1 AND name IN (
        SELECT name FROM cursors WHERE queue = ?1 LIMIT ?2)""",
)

# -- pushes ----------------------------------------------------------------------------------------

_KNOWN = f"(remembered_until > ? OR (gone IS NULL AND {LIVE}))"
KNOWN = f"""SELECT EXISTS (SELECT 1 FROM callbacks INDEXED BY callbacks_by_id
    WHERE queue = ? AND id = ? AND {_KNOWN})"""
KNOWN_FENCE = f"""SELECT EXISTS (SELECT 1 FROM callbacks INDEXED BY callbacks_by_fence
    WHERE queue = ? AND fence = ? AND {_KNOWN})"""
ADDS = 10
"""Values of one callback that is added."""
# A few sizes, so that few statements are prepared; SQLite takes 999 values at least.
BATCHES = (64, 32, 16, 8, 4)


def _values(rows: int, columns: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)


def _add(rows: int) -> str:
    return f"""INSERT OR FAIL INTO callbacks (queue, id, phase, created_at, expires_at,
        remembered_until, keep, size, changed_at, fence) VALUES {_values(rows, ADDS)}"""


def _store(rows: int) -> str:
    return f"INSERT INTO requests (position, kind, headers, body) VALUES {_values(rows, 4)}"


# Triggers pass over those whose id is known, count and record the others.
ADD = _add(1)
ADD_MANY = {rows: _add(rows) for rows in BATCHES}
STORE = _store(1)
STORE_MANY = {rows: _store(rows) for rows in BATCHES}
ADD_RARE = """INSERT OR FAIL INTO callbacks (queue, id, phase, created_at, expires_at,
    remembered_until, keep, size, changed_at, fence, parent, root, origin, ordering_key,
    not_before, held, due) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
ADDED = "SELECT queue, id, position FROM callbacks WHERE position > ? ORDER BY position"
FRONT = """SELECT 1 FROM callbacks INDEXED BY callbacks_ordered WHERE queue = ? AND phase = ?
    AND ordering_key = ? AND held < 2 AND gone IS NULL LIMIT 1"""
RELATIVE = f"""SELECT position, root FROM callbacks INDEXED BY callbacks_by_id
    WHERE queue = ? AND id = ? AND (keep > 0 OR (gone IS NULL AND {LIVE}))
    ORDER BY position DESC LIMIT 1"""

# The last that is kept and like a duplicate, and whether it has expired and is not swept yet.
_LIKE = """SELECT position, gone IS NULL, id FROM callbacks INDEXED BY callbacks_by_{0}
    WHERE queue = ? AND {0} = ? AND keep > 0 ORDER BY position DESC LIMIT 1"""
LIKE_ID, LIKE_FENCE = _LIKE.format("id"), _LIKE.format("fence")
REPEATED = f"""INSERT INTO history
    (queue, callback, kind, from_phase, to_phase, at, attempt, reason)
    SELECT queue, position, 7, CASE WHEN gone IS NULL THEN phase END,
        CASE WHEN gone IS NULL THEN phase END, ?2, 0, ?3
    FROM callbacks WHERE position = ?1 AND keep > 0
        AND (SELECT count(*) FROM history INDEXED BY history_repeats
            WHERE callback = ?1 AND kind = 7) < {MAX_REPEATS}"""

# -- what leaves -----------------------------------------------------------------------------------

# Parameters: now twice, the number of the kind, now, the reason.
_LEAVE = """UPDATE OR FAIL callbacks SET held = 3, due = NULL, expires_at = NULL, token = NULL,
    gone = CASE WHEN keep THEN ? + keep ELSE max(remembered_until, ?) END,
    kind = ?, changed_at = ?, reason = ?"""
REMOVE = f"{_LEAVE} WHERE position = ?"
EXPIRED = f"""SELECT position FROM callbacks INDEXED BY callbacks_by_expiry
    WHERE expires_at <= ? AND queue NOT IN ({DROPPED}) ORDER BY expires_at LIMIT ?"""
# What has been gone for long enough: first what it held, then what is remembered of its id.
GONE = """SELECT position, keep, remembered_until > ?1 FROM callbacks INDEXED BY callbacks_gone
    WHERE gone <= ?1 ORDER BY gone LIMIT ?2"""
FORGET = "DELETE FROM callbacks WHERE position = ?"
STRIP = (
    "DELETE FROM requests WHERE position = ?",
    "DELETE FROM history WHERE callback = ?",
    "UPDATE callbacks SET keep = 0, gone = remembered_until WHERE position = ?",
)

# -- what enters a phase ---------------------------------------------------------------------------

_FRONT_THERE = """ordering_key IS NOT NULL AND EXISTS (
    SELECT 1 FROM callbacks AS other INDEXED BY callbacks_ordered
    WHERE other.queue = callbacks.queue AND other.phase = ?2
        AND other.ordering_key = callbacks.ordering_key AND other.held < 2
        AND other.gone IS NULL AND other.position <> callbacks.position)"""


def _enter(expires_at: str) -> str:
    # 1: now, 2: the phase, 3: the kind, 4: the reason, 5: when it expires.
    return f"""UPDATE OR FAIL callbacks SET phase = ?2, attempts = attempts * (phase = ?2),
        token = NULL, claimed_by = NULL,
        expires_at = {expires_at}, kept_expiry = NULL,
        held = CASE WHEN {_FRONT_THERE} THEN 2 ELSE ifnull(not_before, 0) > ?1 END,
        due = CASE WHEN {_FRONT_THERE} THEN NULL WHEN not_before > ?1 THEN not_before END,
        kind = ?3, changed_at = ?1, reason = ?4"""


# By whether phases of the endpoint are consumed: then it begins or ends here. Otherwise it stays,
# and what was claimed gets back the one that it had before.
_ENTER = {
    True: _enter("?5"),
    False: _enter("CASE WHEN token IS NULL THEN expires_at ELSE kept_expiry END"),
}
MOVE = {consumed: f"{enter} WHERE position = ?6" for consumed, enter in _ENTER.items()}

# -- claims ----------------------------------------------------------------------------------------

# 1: the end of the lease, 2: now, 3: the end of the token, 4: who claims, 5: the queue, 6: the
# phase, 7: how many.
_TAKE = {
    by: f"""SELECT position FROM callbacks INDEXED BY {index} WHERE queue = ?5{phase}
        AND held = 0 AND gone IS NULL AND ifnull(expires_at, {LARGEST}) > ?2
        ORDER BY position LIMIT ?7"""
    for by, index, phase in (
        (True, "callbacks_in_phase", " AND phase = ?6"),
        (False, "callbacks_in_order", ""),
    )
}
CLAIM = {
    by: f"""UPDATE OR FAIL callbacks SET held = 1, due = ?1, token = position || ?3,
        kept_expiry = expires_at, expires_at = max(expires_at, ?1), attempts = attempts + 1,
        claimed_by = ?4, kind = 10, changed_at = ?2, reason = NULL WHERE position IN ({take})"""
    for by, take in _TAKE.items()
}
# A claim that still holds: position, queue, id, token, now.
_HELD = "position = ? AND queue = ? AND id = ? AND token = ? AND due > ?"
ACK = f"{_LEAVE} WHERE {_HELD}"
ADVANCE = {
    consumed: f"""{enter} WHERE position = ?6 AND queue = ?7 AND id = ?8 AND token = ?9
        AND due > ?1"""
    for consumed, enter in _ENTER.items()
}
BACK = f"""UPDATE OR FAIL callbacks SET held = ?, due = ?, token = NULL, claimed_by = NULL,
    expires_at = kept_expiry, kept_expiry = NULL, attempts = attempts - ?,
    kind = ?, changed_at = ?, reason = ? WHERE {_HELD}"""
EXTEND = f"UPDATE OR FAIL callbacks SET due = ?, expires_at = max(kept_expiry, ?) WHERE {_HELD}"

# Whether time has made something available.
TURNED = """SELECT
    EXISTS (SELECT 1 FROM callbacks INDEXED BY callbacks_ordered_by_expiry
        WHERE queue = ?1 AND expires_at <= ?2 AND ordering_key IS NOT NULL),
    EXISTS (SELECT 1 FROM callbacks INDEXED BY callbacks_due WHERE queue = ?1 AND due <= ?2)"""
ORDERED_EXPIRED = """SELECT position FROM callbacks INDEXED BY callbacks_ordered_by_expiry
    WHERE queue = ? AND expires_at <= ? AND ordering_key IS NOT NULL ORDER BY expires_at"""
TURNED_CLAIMS = """SELECT position FROM callbacks INDEXED BY callbacks_due
    WHERE queue = ? AND due <= ? AND token IS NOT NULL ORDER BY due"""
LAPSE = """UPDATE OR FAIL callbacks SET held = 0, due = NULL, token = NULL, claimed_by = NULL,
    expires_at = kept_expiry, kept_expiry = NULL, kind = 14, changed_at = ?, reason = NULL
    WHERE position = ?"""
COME = """UPDATE OR FAIL callbacks SET held = 0, due = NULL WHERE position IN (
    SELECT position FROM callbacks INDEXED BY callbacks_due WHERE queue = ? AND due <= ?)"""
NEXT_AT = """SELECT min(at) FROM (
    SELECT min(due) AS at FROM callbacks INDEXED BY callbacks_due
        WHERE queue = ?1 AND due IS NOT NULL
    UNION ALL SELECT min(expires_at) FROM callbacks INDEXED BY callbacks_ordered_by_expiry
        WHERE queue = ?1 AND ordering_key IS NOT NULL AND expires_at IS NOT NULL)"""

# -- what was --------------------------------------------------------------------------------------

_RECORD = """history.position, callbacks.id, history.kind, from_phase, to_phase, at, by, attempt,
    history.reason"""
HISTORY = f"""SELECT {_RECORD} FROM callbacks INDEXED BY callbacks_by_id
    JOIN history INDEXED BY history_by_callback ON callback = callbacks.position
    WHERE callbacks.queue = ? AND id = ? ORDER BY history.position"""
HISTORY_PAGE = f"""SELECT {_RECORD} FROM history INDEXED BY history_in_order
    LEFT JOIN callbacks ON callbacks.position = callback
    WHERE history.queue = ? AND history.position > ? ORDER BY history.position LIMIT ?"""
RECORD_RESET = "INSERT INTO history (queue, callback, kind, at, attempt) VALUES (?, 0, 6, ?, 0)"
FIND_CURSOR = "SELECT position FROM cursors WHERE queue = ? AND name = ?"
MOVE_CURSOR = """INSERT INTO cursors (queue, name, position) VALUES (?, ?, ?)
    ON CONFLICT (queue, name) DO UPDATE SET position = excluded.position"""
CHILDREN = f"""SELECT {COLUMNS}, gone IS NULL AND ifnull(expires_at, {LARGEST}) <= ?3
    {FROM} WHERE callbacks.position IN (
        SELECT position FROM callbacks INDEXED BY callbacks_by_parent
        WHERE queue = ?1 AND parent = ?2 AND (keep > 0 OR gone IS NULL))
    ORDER BY callbacks.position"""
# Kept or queued, and pushed after a position.
PAST = f"""SELECT {COLUMNS} {FROM} WHERE callbacks.position IN (
    SELECT position FROM callbacks INDEXED BY callbacks_in_order
        WHERE queue = ?1 AND held = 0 AND position > ?2
    UNION ALL SELECT position FROM callbacks INDEXED BY callbacks_in_order
        WHERE queue = ?1 AND held = 1 AND position > ?2
    UNION ALL SELECT position FROM callbacks INDEXED BY callbacks_in_order
        WHERE queue = ?1 AND held = 2 AND position > ?2
    UNION ALL SELECT position FROM callbacks INDEXED BY callbacks_in_order
        WHERE queue = ?1 AND held = 3 AND position > ?2 AND keep > 0
    ORDER BY position LIMIT ?3) ORDER BY callbacks.position"""
STATS = f"""SELECT claimed, waiting,
    (SELECT count(*) FROM callbacks INDEXED BY callbacks_in_order
        WHERE queue = ?1 AND held = 2 AND ifnull(expires_at, {LARGEST}) > ?2),
    (SELECT expired FROM queues WHERE number = ?1)
    FROM (SELECT count(token) AS claimed,
            count(CASE WHEN token IS NULL AND ifnull(expires_at, {LARGEST}) > ?2 THEN 1 END)
                AS waiting
        FROM callbacks INDEXED BY callbacks_due WHERE queue = ?1 AND due > ?2)"""
