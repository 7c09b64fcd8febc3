"""The statements that clients send. ``{s}`` stands for the schema's name."""

from __future__ import annotations

from pollin_actors.backends.postgres.functions import at
from pollin_actors.records import MAX_REPEATS, Kind

LARGEST = (1 << 63) - 1
"""The largest integer that is stored."""

# From 10 on, those of claims: the functions tell them apart by that.
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

HELDS = (0, 1, 2)
"""What a queued callback may be: available, claimed or waiting, behind others."""

COLUMNS = """c.position, c.id, c.phase, c.created_at, c.parent, c.root, c.origin,
    c.ordering_key, c.not_before, c.attempts, r.kind, r.headers, r.body, c.fence"""
FROM = f"""FROM {{s}}.callbacks AS c JOIN {{s}}.requests AS r ON {at("r", "c", "c.queue")}"""
LIVE = "(c.expires_at IS NULL OR c.expires_at > %(now)s)"
_QUEUE = "c.queue = %(queue)s"
# By the indexes that begin with this, and no other.
_WAITING = "c.queue + 0 = %(queue)s"
_BY_ID = "c.queue + 1 = %(queue)s + 1"
_BY_ORDER = "c.queue + 2 = %(queue)s + 2"
_BY_PHASE = "c.queue + 3 = %(queue)s + 3"
_BY_EXPIRY = "c.queue + 4 = %(queue)s + 4"


def _positions(held: int, where: str, order: str, *, phase: bool = False) -> str:
    """The positions of what is so held, by an index only."""
    which = f"{_BY_PHASE} AND c.phase = %(phase)s" if phase else _WAITING
    return f"""(SELECT c.position FROM {{s}}.callbacks AS c WHERE {which}
        AND c.held = {held} AND c.gone IS NULL AND {LIVE}{where}
        ORDER BY c.position {order} LIMIT %(most)s)"""


def _merged(helds: tuple[int, ...], where: str, order: str, *, phase: bool = False) -> str:
    parts = " UNION ALL ".join(_positions(held, where, order, phase=phase) for held in helds)
    return f"SELECT position FROM ({parts}) AS p ORDER BY position {order}"


def _rows(positions: str, order: str = "ASC") -> str:
    # The lookup of each row follows the list, so that nothing but an index is read in order.
    return f"""WITH p AS MATERIALIZED ({positions})
        SELECT {COLUMNS} FROM p JOIN {{s}}.callbacks AS c ON {at("c", "p", "%(queue)s")}
        JOIN {{s}}.requests AS r ON {at("r", "p", "%(queue)s")}
        ORDER BY c.position {order}"""


HEAD = _rows(_merged(HELDS, "", "ASC") + " LIMIT 1")
PAGE = _rows(_merged(HELDS, " AND c.position > %(after)s", "ASC") + " LIMIT %(most)s")
# The first of each kind of row, no more than are asked for with those that are passed over.
SLICES = {
    (by, to): _rows(
        _merged(HELDS, "", to, phase=by) + " LIMIT %(limit)s OFFSET %(offset)s",
        to,
    )
    for by in (False, True)
    for to in ("ASC", "DESC")
}
AVAILABLE = {
    by: _rows(_merged((0,), "", "ASC", phase=by) + " LIMIT %(limit)s OFFSET %(offset)s")
    for by in (False, True)
}
KEY = f"""SELECT {COLUMNS}, c.held {FROM}
    WHERE {_BY_ID} AND c.id = %(key)s AND c.held < 3 AND {LIVE}
    ORDER BY c.position DESC LIMIT 1"""
# As KEY, by fence. One that has expired, and is not swept yet, may have the same.
FENCED = f"""SELECT {COLUMNS}, c.held {FROM}
    WHERE {_WAITING} AND c.fence = %(key)s AND c.held < 3 AND {LIVE}
    ORDER BY c.position DESC LIMIT 1"""
LAST = f"""SELECT {COLUMNS} {FROM}
    WHERE {_BY_ID} AND c.id = %(key)s AND c.gone IS NOT NULL AND c.keep > 0
    ORDER BY c.position DESC LIMIT 1"""

# -- endpoints and queues --------------------------------------------------------------------------

_TERMS = """SELECT queue, revision, id, secret, phases, ttl, created_at, dedup_for, keep_for,
    consumes, capacity, capacity_bytes, intake, old_secrets FROM {s}.endpoints"""
FIND = {
    # In the order in which `enter` locks them, so that nobody waits in a circle.
    True: f"{_TERMS} WHERE id = ANY (%s) ORDER BY queue FOR NO KEY UPDATE",
    False: f"{_TERMS} WHERE id = ANY (%s)",
}
"""By whether they are to be locked."""
INDEX = f"{_TERMS} ORDER BY number"
NEW_QUEUE = "INSERT INTO {s}.queues DEFAULT VALUES RETURNING number"
CREATE = """INSERT INTO {s}.endpoints (secret, phases, ttl, created_at, dedup_for, keep_for,
    consumes, capacity, capacity_bytes, intake, old_secrets, queue, id)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO NOTHING"""
UPDATE = """UPDATE {s}.endpoints SET secret = %s, phases = %s, ttl = %s, created_at = %s,
    dedup_for = %s, keep_for = %s, consumes = %s, capacity = %s, capacity_bytes = %s, intake = %s,
    old_secrets = %s, revision = revision + 1 WHERE id = %s"""
REQUEUE = "UPDATE {s}.endpoints SET queue = %s, revision = revision + 1 WHERE id = %s"
DELETE = "DELETE FROM {s}.endpoints WHERE id = %s"
DROP = "UPDATE {s}.queues SET dropped = true WHERE number = %s"
DROP_COUNTS = "DELETE FROM {s}.counts WHERE queue = %s"
DROPPED = """SELECT number FROM {s}.queues WHERE dropped ORDER BY number LIMIT 1
    FOR UPDATE SKIP LOCKED"""
# Of a queue that was dropped: rows of it, so many at once. A row's place does, as nobody moves it.
# Other partitions have the same places, so the queue is compared, but by a sum that no index begins
# with: else all of it would be read each time.
CLEAR = tuple(
    f"""DELETE FROM {{s}}.{table} WHERE queue + 5 = %(queue)s + 5 AND ctid = ANY (ARRAY(
        SELECT ctid FROM {{s}}.{table} WHERE queue = %(queue)s LIMIT %(limit)s))"""
    for table in ("callbacks", "requests", "history", "cursors")
)
REMOVE_QUEUE = "DELETE FROM {s}.queues WHERE number = %s"
NEVER_EXPIRES = f"""UPDATE {{s}}.callbacks AS c SET expires_at = NULL, kept_expiry = NULL
    WHERE {_BY_PHASE} AND c.phase = %(phase)s AND c.gone IS NULL AND {LIVE}"""
TRIAL = "UPDATE {s}.trial SET body = %s WHERE number = %s"

# -- pushes ----------------------------------------------------------------------------------------

_KNOWN = f"(c.remembered_until > %(now)s OR (c.gone IS NULL AND {LIVE}))"
KNOWN = f"""SELECT EXISTS (SELECT 1 FROM {{s}}.callbacks AS c
        WHERE {_BY_ID} AND c.id = %(id)s AND {_KNOWN})
    OR EXISTS (SELECT 1 FROM {{s}}.callbacks AS c
        WHERE {_WAITING} AND c.fence = %(fence)s AND {_KNOWN})"""
FRONT = f"""SELECT EXISTS (SELECT 1 FROM {{s}}.callbacks AS c WHERE {_BY_ORDER}
    AND c.phase = %(phase)s AND c.ordering_key = %(key)s AND c.held < 2 AND c.gone IS NULL)"""
TURN = "SELECT {s}.turn(%s, %s)"
RELATIVE = f"""SELECT c.position, c.root FROM {{s}}.callbacks AS c
    WHERE {_BY_ID} AND c.id = %(key)s AND (c.keep > 0 OR (c.gone IS NULL AND {LIVE}))
    ORDER BY c.position DESC LIMIT 1"""
# The last that is kept and like a duplicate, and whether it has expired and is not swept yet.
_LIKE = """SELECT c.position, c.gone IS NULL, c.id FROM {{s}}.callbacks AS c
    WHERE c.queue + {1} = %s + {1} AND c.{0} = %s AND c.keep > 0 ORDER BY c.position DESC LIMIT 1"""
LIKE_ID, LIKE_FENCE = _LIKE.format("id", 1), _LIKE.format("fence", 0)
REPEATED = f"""INSERT INTO {{s}}.history
    (queue, callback, kind, from_phase, to_phase, at, attempt, reason)
    SELECT c.queue, c.position, 7, CASE WHEN c.gone IS NULL THEN c.phase END,
        CASE WHEN c.gone IS NULL THEN c.phase END, %(now)s, 0, %(reason)s
    FROM {{s}}.callbacks AS c WHERE {_QUEUE} AND c.position = %(position)s AND c.keep > 0
        AND (SELECT count(*) FROM {{s}}.history AS h WHERE h.queue + 0 = %(queue)s
            AND h.callback = %(position)s AND h.kind = 7) < {MAX_REPEATS}"""
ROOM = {
    every: f"""SELECT coalesce(sum(queued), 0)::bigint, coalesce(sum(size), 0)::bigint
        FROM {{s}}.counts WHERE queue = %(queue)s{more}"""
    for every, more in ((True, ""), (False, " AND phase = ANY (%(phases)s)"))
}
"""By whether all phases count."""
EXPIRED = {
    every: f"""SELECT count(*), coalesce(sum(c.size), 0)::bigint FROM {{s}}.callbacks AS c
        WHERE c.expires_at <= %(now)s AND {_BY_EXPIRY}{more}"""
    for every, more in ((True, ""), (False, " AND c.phase = ANY (%(phases)s)"))
}

# -- what leaves, and what moves -------------------------------------------------------------------

LEAVE = "SELECT {s}.leave(%s, %s, %s, %s, NULL)"
MOVE = "SELECT {s}.move(%s, %s, %s, %s, %s, %s, %s, %s)"
OLD = """SELECT c.queue, c.position FROM {s}.callbacks AS c
    WHERE c.expires_at <= %s AND NOT EXISTS (
        SELECT 1 FROM {s}.queues AS q WHERE q.number = c.queue AND q.dropped)
    ORDER BY c.expires_at LIMIT %s"""
_THESE = "unnest(%(positions)s::bigint[]) AS p(position)"
STILL_OLD = f"""SELECT c.position
    FROM {_THESE} JOIN {{s}}.callbacks AS c ON {at("c", "p", "%(queue)s")}
    WHERE coalesce(c.expires_at <= %(now)s, false) ORDER BY c.expires_at, c.position"""
LOCK = "SELECT queue FROM {s}.endpoints WHERE queue = ANY (%s) ORDER BY queue FOR NO KEY UPDATE"
LOCK_FREE = f"{LOCK} SKIP LOCKED"
# What has been gone for long enough: first what it held, then what is remembered of its id.
GONE = """SELECT c.queue, c.position, c.keep > 0 AND c.remembered_until > %(now)s
    FROM {s}.callbacks AS c WHERE c.gone <= %(now)s AND NOT EXISTS (
        SELECT 1 FROM {s}.queues AS q WHERE q.number = c.queue AND q.dropped)
    ORDER BY c.gone LIMIT %(limit)s"""
STRIP = (
    f"DELETE FROM {{s}}.requests AS r USING {_THESE} WHERE {at('r', 'p', '%(queue)s')}",
    f"""DELETE FROM {{s}}.history AS h USING {_THESE}
        WHERE h.queue + 0 = ANY (ARRAY[%(queue)s + 0 * p.position]) AND h.callback = p.position""",
)
BARE = f"""UPDATE {{s}}.callbacks AS c SET keep = 0, gone = remembered_until
    FROM {_THESE} WHERE {at("c", "p", "%(queue)s")}"""
FORGET = f"DELETE FROM {{s}}.callbacks AS c USING {_THESE} WHERE {at('c', 'p', '%(queue)s')}"

# -- what was --------------------------------------------------------------------------------------

_RECORD = """h.position, c.id, h.kind, h.from_phase, h.to_phase, h.at, h.by, h.attempt, h.reason"""
HISTORY = f"""SELECT {_RECORD} FROM {{s}}.callbacks AS c
    JOIN {{s}}.history AS h ON h.queue + 0 = c.queue AND h.callback = c.position
    WHERE {_BY_ID} AND c.id = %(key)s ORDER BY h.position"""
HISTORY_PAGE = f"""SELECT {_RECORD} FROM (
        SELECT * FROM {{s}}.history AS h WHERE h.queue = %(queue)s AND h.position > %(after)s
        ORDER BY h.position LIMIT %(limit)s) AS h
    LEFT JOIN {{s}}.callbacks AS c ON c.queue = ANY (ARRAY[h.queue]) AND c.position = h.callback
    ORDER BY h.position"""
RECORD_RESET = """INSERT INTO {s}.history (queue, callback, kind, at, attempt)
    VALUES (%s, 0, 6, %s, 0)"""
FIND_CURSOR = "SELECT position FROM {s}.cursors WHERE queue = %s AND name = %s"
MOVE_CURSOR = """INSERT INTO {s}.cursors (queue, name, position) VALUES (%s, %s, %s)
    ON CONFLICT (queue, name) DO UPDATE SET position = excluded.position"""
CHILDREN = f"""SELECT {COLUMNS}, c.gone IS NULL AND NOT {LIVE} {FROM}
    WHERE {_WAITING} AND c.parent = %(parent)s AND (c.keep > 0 OR c.gone IS NULL)
    ORDER BY c.position"""
# Kept or queued, and pushed after a position.
PAST = _rows(f"""SELECT c.position FROM {{s}}.callbacks AS c WHERE {_QUEUE}
    AND c.position > %(after)s AND (c.gone IS NULL OR c.keep > 0)
    ORDER BY c.position LIMIT %(most)s""")
STATS = f"""SELECT
    (SELECT count(*) FROM {{s}}.callbacks AS c
        WHERE {_WAITING} AND c.due > %(now)s AND c.token IS NOT NULL),
    (SELECT count(*) FROM {{s}}.callbacks AS c
        WHERE {_WAITING} AND c.due > %(now)s AND c.token IS NULL AND {LIVE}),
    (SELECT count(*) FROM {{s}}.callbacks AS c
        WHERE {_WAITING} AND c.held = 2 AND c.gone IS NULL AND {LIVE}),
    (SELECT q.expired FROM {{s}}.queues AS q WHERE q.number = %(queue)s)"""

# Sessions that have locked endpoints and say nothing more. The server ends by itself who is idle
# in a transaction, but not who falls silent in a pipeline, or after one. First all are found, then
# they are ended: conditions have no order.
END_HALTED = """WITH halted AS MATERIALIZED (
        SELECT a.pid FROM pg_catalog.pg_stat_activity AS a
        WHERE a.datname = current_database() AND a.usename = current_user
            AND a.pid <> pg_backend_pid() AND a.wait_event = 'ClientRead'
            AND a.xact_start IS NOT NULL
            AND a.query_start < clock_timestamp() - %s * interval '1 millisecond'
            AND EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE l.pid = a.pid AND l.granted
                AND l.relation = to_regclass('{s}.endpoints') AND l.mode = 'RowShareLock'))
    SELECT pid, pg_terminate_backend(pid) FROM halted"""
