"""The tables, and what brings those of earlier versions up to date."""

from __future__ import annotations

from pollin_actors.resources import DEFAULT_KEEP_FOR_S

__all__ = ["MIGRATIONS"]

_KEEP_NS = round(DEFAULT_KEEP_FOR_S * 1e9)

_FIRST = (
    # Callbacks belong to a queue, and queues to endpoints: so a whole queue is taken away from
    # its endpoint at once, however long it is, and removed bit by bit.
    "CREATE TABLE queues (number INTEGER PRIMARY KEY AUTOINCREMENT, dropped INTEGER NOT NULL)",
    "CREATE INDEX queues_dropped ON queues (number) WHERE dropped",
    """CREATE TABLE endpoints (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        queue INTEGER NOT NULL,
        secret TEXT NOT NULL,
        phases TEXT NOT NULL,
        ttl INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        dedup_for REAL NOT NULL
    )""",
    """CREATE TABLE callbacks (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL,
        id TEXT NOT NULL,
        phase TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER,
        remembered_until INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        headers BLOB,
        body BLOB NOT NULL
    )""",
    # Both hold expires_at, so that what has expired is passed over without reading its row.
    "CREATE INDEX callbacks_in_order ON callbacks (queue, position, expires_at)",
    "CREATE INDEX callbacks_in_phase ON callbacks (queue, phase, position, expires_at)",
    """CREATE INDEX callbacks_by_expiry ON callbacks (expires_at, queue, phase)
        WHERE expires_at IS NOT NULL""",
    # Queued ids have a position; the others are remembered until a time.
    """CREATE TABLE ids (
        queue INTEGER NOT NULL,
        id TEXT NOT NULL,
        position INTEGER,
        until INTEGER NOT NULL,
        PRIMARY KEY (queue, id)
    ) WITHOUT ROWID""",
    "CREATE INDEX ids_by_until ON ids (until) WHERE position IS NULL",
    """CREATE TABLE counts (
        queue INTEGER NOT NULL,
        phase TEXT NOT NULL,
        queued INTEGER NOT NULL,
        PRIMARY KEY (queue, phase)
    ) WITHOUT ROWID""",
    # What a trial writes: as much as a push with a body of that size.
    "CREATE TABLE trial (number INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    "INSERT INTO trial (number, body) VALUES (1, zeroblob(65536))",
    # Triggers, because each statement of its own costs as much again as what it does. Rows
    # whose id is known are passed over: the statement then counts fewer than it was given.
    """CREATE TRIGGER callback_known BEFORE INSERT ON callbacks
        WHEN EXISTS (SELECT 1 FROM ids WHERE queue = new.queue AND id = new.id) BEGIN
        SELECT RAISE(IGNORE);
    END""",
    """CREATE TRIGGER callback_added AFTER INSERT ON callbacks BEGIN
        INSERT INTO counts (queue, phase, queued) VALUES (new.queue, new.phase, 1)
            ON CONFLICT (queue, phase) DO UPDATE SET queued = queued + 1;
        INSERT INTO ids (queue, id, position, until)
            VALUES (new.queue, new.id, new.position, new.remembered_until);
    END""",
    """CREATE TRIGGER callback_removed AFTER DELETE ON callbacks BEGIN
        UPDATE counts SET queued = queued - 1
            WHERE queue = old.queue AND phase = old.phase;
        UPDATE ids SET position = NULL WHERE queue = old.queue AND id = old.id;
    END""",
    """CREATE TRIGGER callback_moved AFTER UPDATE OF phase ON callbacks BEGIN
        UPDATE counts SET queued = queued - 1
            WHERE queue = old.queue AND phase = old.phase;
        INSERT INTO counts (queue, phase, queued) VALUES (new.queue, new.phase, 1)
            ON CONFLICT (queue, phase) DO UPDATE SET queued = queued + 1;
    END""",
)

_SECOND = (
    "ALTER TABLE queues ADD COLUMN expired INTEGER NOT NULL DEFAULT 0",
    f"ALTER TABLE endpoints ADD COLUMN keep_for REAL NOT NULL DEFAULT {DEFAULT_KEEP_FOR_S}",
    "ALTER TABLE endpoints ADD COLUMN consumes TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE endpoints ADD COLUMN capacity INTEGER",
    "ALTER TABLE endpoints ADD COLUMN capacity_bytes INTEGER",
    *(
        f"DROP {kind} {name}"
        for kind, names in {
            "TRIGGER": ("known", "added", "removed", "moved"),
            "INDEX": ("in_order", "in_phase", "by_expiry"),
        }.items()
        for name in (f"callback_{n}" if kind == "TRIGGER" else f"callbacks_{n}" for n in names)
    ),
    "DROP TABLE counts",
    "ALTER TABLE callbacks RENAME TO old_callbacks",
    # A change of state rewrites its row, so the requests, which may be large, have their own table.
    # held: 0 available, 1 claimed or waiting for a time, 2 waiting for others of its ordering
    # key, 3 not queued any more. due: when what is held becomes available by itself. gone: when
    # something of what is not queued any more is to be forgotten. What is last changed, and why,
    # is in kind, changed_at and reason; the triggers make it a record of its own.
    """CREATE TABLE callbacks (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL,
        id TEXT NOT NULL,
        phase TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER,
        remembered_until INTEGER NOT NULL,
        keep INTEGER NOT NULL,
        size INTEGER NOT NULL,
        changed_at INTEGER NOT NULL,
        kind INTEGER NOT NULL DEFAULT 1,
        held INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        due INTEGER,
        gone INTEGER,
        token TEXT,
        claimed_by TEXT,
        kept_expiry INTEGER,
        reason TEXT,
        parent TEXT,
        root TEXT,
        origin TEXT,
        ordering_key TEXT,
        not_before INTEGER
    )""",
    """CREATE TABLE requests (
        position INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        headers BLOB,
        body BLOB NOT NULL
    )""",
    """CREATE TABLE history (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL,
        callback INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        from_phase TEXT,
        to_phase TEXT,
        at INTEGER NOT NULL,
        by TEXT,
        attempt INTEGER NOT NULL,
        reason TEXT
    )""",
    """CREATE TABLE cursors (
        queue INTEGER NOT NULL,
        name TEXT NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (queue, name)
    ) WITHOUT ROWID""",
    """CREATE TABLE counts (
        queue INTEGER NOT NULL,
        phase TEXT NOT NULL,
        queued INTEGER NOT NULL,
        size INTEGER NOT NULL,
        PRIMARY KEY (queue, phase)
    ) WITHOUT ROWID""",
    # What lay in the tables of the first version. The size of headers is not known there.
    f"""INSERT INTO callbacks (position, queue, id, phase, created_at, expires_at,
            remembered_until, keep, size, changed_at)
        SELECT position, queue, id, phase, created_at, expires_at, remembered_until, {_KEEP_NS},
            length(body), created_at FROM old_callbacks ORDER BY position""",
    """INSERT INTO requests (position, kind, headers, body)
        SELECT position, kind, headers, body FROM old_callbacks ORDER BY position""",
    """INSERT INTO history (queue, callback, kind, to_phase, at, attempt)
        SELECT queue, position, 1, phase, created_at, 0 FROM callbacks ORDER BY position""",
    """INSERT INTO counts (queue, phase, queued, size)
        SELECT queue, phase, count(*), sum(size) FROM callbacks
            WHERE queue NOT IN (SELECT number FROM queues WHERE dropped) GROUP BY queue, phase""",
    """INSERT INTO callbacks (queue, id, phase, created_at, remembered_until, keep, size,
            changed_at, held, gone)
        SELECT queue, id, '', 0, until, 0, 0, 0, 3, until FROM ids WHERE position IS NULL""",
    "DROP TABLE old_callbacks",
    "DROP TABLE ids",
    # Those that are partial are empty unless something is used that few need. Where expires_at
    # is in them, what has expired is passed over without reading its row.
    "CREATE INDEX callbacks_in_order ON callbacks (queue, held, position, expires_at)",
    """CREATE INDEX callbacks_in_phase ON callbacks (queue, phase, held, position, expires_at)
        WHERE gone IS NULL""",
    """CREATE INDEX callbacks_by_expiry ON callbacks (expires_at, queue, phase)
        WHERE expires_at IS NOT NULL""",
    "CREATE INDEX callbacks_by_id ON callbacks (queue, id)",
    "CREATE INDEX callbacks_due ON callbacks (queue, due) WHERE due IS NOT NULL",
    "CREATE INDEX callbacks_gone ON callbacks (gone) WHERE gone IS NOT NULL",
    """CREATE INDEX callbacks_ordered ON callbacks (queue, phase, ordering_key, held)
        WHERE ordering_key IS NOT NULL AND gone IS NULL""",
    """CREATE INDEX callbacks_ordered_by_expiry ON callbacks (queue, expires_at)
        WHERE ordering_key IS NOT NULL AND expires_at IS NOT NULL""",
    "CREATE INDEX callbacks_by_parent ON callbacks (queue, parent) WHERE parent IS NOT NULL",
    "CREATE INDEX history_in_order ON history (queue)",
    "CREATE INDEX history_by_callback ON history (callback)",
    # Triggers, because each statement of its own costs as much again as what it does. Rows
    # whose id is known are passed over: the statement then counts fewer than it was given. No
    # upserts in them: with one, SQLite copies each page first, in case that it has to undo half
    # a statement. For the same reason statements that fire triggers say OR FAIL: what fails half
    # done is undone with its whole transaction.
    f"""CREATE TRIGGER callback_known BEFORE INSERT ON callbacks
        WHEN EXISTS (SELECT 1 FROM callbacks WHERE queue = new.queue AND id = new.id AND (
            remembered_until > new.changed_at
            OR (gone IS NULL AND ifnull(expires_at, {(1 << 63) - 1}) > new.changed_at)))
    BEGIN
        SELECT RAISE(IGNORE);
    END""",
    # That the one before has expired is recorded before the push of the next one of its id.
    """CREATE TRIGGER callback_again BEFORE INSERT ON callbacks
        WHEN EXISTS (SELECT 1 FROM callbacks WHERE queue = new.queue AND id = new.id
            AND gone IS NULL AND expires_at <= new.changed_at
            AND remembered_until <= new.changed_at)
    BEGIN
        UPDATE callbacks SET held = 3, due = NULL, expires_at = NULL, token = NULL,
            gone = new.changed_at + keep, kind = 5, changed_at = new.changed_at, reason = NULL
            WHERE queue = new.queue AND id = new.id AND gone IS NULL;
    END""",
    """CREATE TRIGGER callback_added AFTER INSERT ON callbacks BEGIN
        INSERT INTO counts (queue, phase, queued, size)
            SELECT new.queue, new.phase, 0, 0 WHERE NOT EXISTS (
                SELECT 1 FROM counts WHERE queue = new.queue AND phase = new.phase);
        UPDATE counts SET queued = queued + 1, size = size + new.size
            WHERE queue = new.queue AND phase = new.phase;
    END""",
    """CREATE TRIGGER callback_recorded AFTER INSERT ON callbacks WHEN new.keep BEGIN
        INSERT INTO history (queue, callback, kind, to_phase, at, attempt, reason)
            VALUES (new.queue, new.position, new.kind, new.phase, new.changed_at, 0, new.origin);
    END""",
    # From 10 on, kinds are of claims: they tell who had claimed it, and which attempt it was.
    """CREATE TRIGGER callback_changed AFTER UPDATE OF kind ON callbacks WHEN old.keep BEGIN
        INSERT INTO history
            (queue, callback, kind, from_phase, to_phase, at, by, attempt, reason)
            VALUES (new.queue, new.position, new.kind, old.phase,
                CASE WHEN new.gone IS NULL THEN new.phase END, new.changed_at,
                CASE WHEN new.kind = 10 THEN new.claimed_by
                    WHEN new.kind > 10 THEN old.claimed_by END,
                CASE WHEN new.kind = 10 THEN new.attempts
                    WHEN new.kind > 10 THEN old.attempts ELSE 0 END,
                new.reason);
    END""",
    """CREATE TRIGGER callback_moved AFTER UPDATE OF phase ON callbacks
        WHEN new.phase <> old.phase BEGIN
        UPDATE counts SET queued = queued - 1, size = size - old.size
            WHERE queue = old.queue AND phase = old.phase;
        INSERT INTO counts (queue, phase, queued, size)
            SELECT new.queue, new.phase, 0, 0 WHERE NOT EXISTS (
                SELECT 1 FROM counts WHERE queue = new.queue AND phase = new.phase);
        UPDATE counts SET queued = queued + 1, size = size + new.size
            WHERE queue = new.queue AND phase = new.phase;
    END""",
    """CREATE TRIGGER callback_left AFTER UPDATE OF gone ON callbacks WHEN old.gone IS NULL BEGIN
        UPDATE counts SET queued = queued - 1, size = size - old.size
            WHERE queue = old.queue AND phase = old.phase;
    END""",
    """CREATE TRIGGER callback_not_kept AFTER UPDATE OF gone ON callbacks
        WHEN old.gone IS NULL AND NOT old.keep BEGIN
        DELETE FROM requests WHERE position = old.position;
    END""",
    """CREATE TRIGGER callback_expired AFTER UPDATE OF gone ON callbacks
        WHEN old.gone IS NULL AND new.kind = 5 BEGIN
        UPDATE queues SET expired = expired + 1 WHERE number = old.queue;
    END""",
    # Who is next of an ordering key, once the one before it has left.
    f"""CREATE TRIGGER callback_next AFTER UPDATE OF phase, gone ON callbacks
        WHEN old.ordering_key IS NOT NULL AND old.held < 2
            AND (new.gone IS NOT NULL OR new.phase <> old.phase) BEGIN
        UPDATE callbacks SET
            held = ifnull(not_before, 0) > new.changed_at,
            due = CASE WHEN not_before > new.changed_at THEN not_before END
        WHERE position = (
            SELECT min(position) FROM callbacks WHERE queue = old.queue AND phase = old.phase
                AND ordering_key = old.ordering_key AND gone IS NULL AND held = 2
                AND ifnull(expires_at, {(1 << 63) - 1}) > new.changed_at);
    END""",
    """CREATE TRIGGER callback_forgotten AFTER DELETE ON callbacks BEGIN
        DELETE FROM requests WHERE position = old.position;
        DELETE FROM history WHERE callback = old.position;
    END""",
)

_THIRD = (
    # Old secrets are pairs: the secret, and the time at which it is valid no longer.
    "ALTER TABLE endpoints ADD COLUMN intake TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE endpoints ADD COLUMN old_secrets TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE callbacks ADD COLUMN fence TEXT",
    "CREATE INDEX callbacks_by_fence ON callbacks (queue, fence) WHERE fence IS NOT NULL",
    # Records that the same came again are counted: there are only so many of one callback.
    "CREATE INDEX history_repeats ON history (callback) WHERE kind = 7",
    "DROP TRIGGER callback_known",
    f"""CREATE TRIGGER callback_known BEFORE INSERT ON callbacks
        WHEN EXISTS (SELECT 1 FROM callbacks WHERE queue = new.queue AND id = new.id AND (
            remembered_until > new.changed_at
            OR (gone IS NULL AND ifnull(expires_at, {(1 << 63) - 1}) > new.changed_at)))
        OR (new.fence IS NOT NULL AND EXISTS (
            SELECT 1 FROM callbacks WHERE queue = new.queue AND fence = new.fence AND (
                remembered_until > new.changed_at
                OR (gone IS NULL AND ifnull(expires_at, {(1 << 63) - 1}) > new.changed_at))))
    BEGIN
        SELECT RAISE(IGNORE);
    END""",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _SECOND, _THIRD)
"""Statements that bring a file from version n to n + 1, in one transaction."""
