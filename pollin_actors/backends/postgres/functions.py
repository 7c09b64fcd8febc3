"""What the server does by itself: one call instead of a conversation.

``{s}`` stands for the schema's name. All of them but ``enter`` expect that the queue is locked.
What changes callbacks writes their history and keeps the counts, in the same statement.
"""

from __future__ import annotations

__all__ = ["FUNCTIONS", "STALE", "TWICE", "at"]

STALE = "PLN01"
"""The error of ``enter``: what is remembered of an endpoint is out of date. Nothing was changed."""
TWICE = "PLN02"
"""The error of ``push`` where all or nothing was asked for, and of ``push_one``: something is there
already. Nothing was changed."""


def at(row: str, found: str, queue: str = "the_queue") -> str:
    """The condition that a row is the one of the queue at the position that was found.

    It says no more than that both are equal, but so that it can only be looked up, by the key, for
    each position. Of a queue that the statistics do not know yet the planner thinks that it is
    empty; with the queue alone to go by it would read all of it instead, for each batch, however
    long it is by then. So there is no condition on the queue alone, and none that a whole index
    could be merged by.
    """
    return (
        f"{row}.queue = ANY (ARRAY[{queue} + 0 * {found}.position])"
        f" AND {row}.position = {found}.position"
    )


# Plans are to stay the same whatever the statistics say, or do not say yet: by an index, in its
# order. lock_timeout is in milliseconds.
_ENTER = f"""
CREATE FUNCTION {{s}}.enter(
    knows bigint, sync text, patience text, queues bigint[], revisions bigint[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF knows <> 1 THEN
        RAISE EXCEPTION 'the schema is of another version' USING ERRCODE = '{STALE}';
    END IF;
    PERFORM set_config('synchronous_commit', sync, true),
        set_config('lock_timeout', patience, true),
        set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
        set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true);
    FOR i IN 1 .. cardinality(queues) LOOP
        PERFORM 1 FROM {{s}}.endpoints AS e
            WHERE e.queue = queues[i] AND e.revision = revisions[i] FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the endpoint was changed' USING ERRCODE = '{STALE}';
        END IF;
    END LOOP;
    RETURN true;
END $$"""

# Who is next of an ordering key, once the one before it has left.
_FOLLOW = """
CREATE FUNCTION {s}.follow(
    the_queue bigint, the_phase text, the_key text, now bigint
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {s}.callbacks AS c SET
        held = CASE WHEN c.not_before > now THEN 1 ELSE 0 END,
        due = CASE WHEN c.not_before > now THEN c.not_before END
    WHERE c.queue = the_queue AND c.position = (
        SELECT o.position FROM {s}.callbacks AS o
            WHERE o.queue + 2 = the_queue + 2 AND o.phase = the_phase AND o.ordering_key = the_key
                AND o.held = 2 AND o.gone IS NULL
                AND (o.expires_at IS NULL OR o.expires_at > now)
            ORDER BY o.position LIMIT 1);
END $$"""

# From 10 on, kinds are of claims: they tell who had claimed it, and which attempt it was.
_LEAVE = (
    """
CREATE FUNCTION {s}.leave(
    the_queue bigint, positions bigint[], the_kind bigint, now bigint, reasons text[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    followed jsonb;
    many bigint;
BEGIN
    WITH old AS MATERIALIZED (
        SELECT c.*, p.n, p.why
        FROM unnest(positions, reasons) WITH ORDINALITY AS p(position, why, n)
            JOIN {s}.callbacks AS c ON """
    + at("c", "p")
    + """
            WHERE c.held < 3
    ), gone AS (
        UPDATE {s}.callbacks AS c SET held = 3, due = NULL, expires_at = NULL, token = NULL,
            claimed_by = NULL, kept_expiry = NULL,
            gone = CASE WHEN c.keep > 0 THEN now + c.keep ELSE greatest(c.remembered_until, now) END
        FROM old WHERE """
    + at("c", "old")
    + """
    ), recorded AS (
        INSERT INTO {s}.history (queue, callback, kind, from_phase, at, by, attempt, reason)
        SELECT the_queue, old.position, the_kind, old.phase, now,
            CASE WHEN the_kind > 10 THEN old.claimed_by END,
            CASE WHEN the_kind > 10 THEN old.attempts ELSE 0 END, old.why
        FROM old WHERE old.keep > 0 ORDER BY old.n
    ), counted AS (
        UPDATE {s}.counts AS t SET queued = t.queued - g.queued, size = t.size - g.size
        FROM (SELECT old.phase, count(*) AS queued, sum(old.size)::bigint AS size
            FROM old GROUP BY old.phase) AS g
        WHERE t.queue = the_queue AND t.phase = g.phase
    ), bare AS (
        DELETE FROM {s}.requests AS r USING old
        WHERE """
    + at("r", "old")
    + """ AND old.keep = 0
    )
    SELECT count(*), jsonb_agg(DISTINCT jsonb_build_array(old.phase, old.ordering_key))
        FILTER (WHERE old.ordering_key IS NOT NULL AND old.held < 2)
    INTO many, followed FROM old;
    IF the_kind = 5 THEN
        UPDATE {s}.queues AS q SET expired = q.expired + many WHERE q.number = the_queue;
    END IF;
    IF followed IS NOT NULL THEN
        PERFORM {s}.follow(the_queue, f->>0, f->>1, now) FROM jsonb_array_elements(followed) AS f;
    END IF;
    RETURN many;
END $$"""
)

# Make available what time has: leases and delays that have ended, whoever waited for others that
# have expired.
_TURN = """
CREATE FUNCTION {s}.turn(the_queue bigint, now bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found_positions bigint[];
BEGIN
    IF EXISTS (SELECT 1 FROM {s}.callbacks AS c WHERE c.queue + 0 = the_queue
            AND c.expires_at <= now AND c.ordering_key IS NOT NULL) THEN
        SELECT array_agg(c.position ORDER BY c.expires_at, c.position) INTO found_positions
            FROM {s}.callbacks AS c WHERE c.queue + 0 = the_queue AND c.expires_at <= now
                AND c.ordering_key IS NOT NULL;
        PERFORM {s}.leave(the_queue, found_positions, 5, now, NULL);
    END IF;
    IF EXISTS (SELECT 1 FROM {s}.callbacks AS c WHERE c.queue + 0 = the_queue AND c.due <= now) THEN
        INSERT INTO {s}.history (queue, callback, kind, from_phase, to_phase, at, by, attempt)
        SELECT the_queue, c.position, 14, c.phase, c.phase, now, c.claimed_by, c.attempts
            FROM {s}.callbacks AS c
            WHERE c.queue + 0 = the_queue AND c.due <= now AND c.token IS NOT NULL AND c.keep > 0
            ORDER BY c.due, c.position;
        UPDATE {s}.callbacks AS c SET held = 0, due = NULL, token = NULL, claimed_by = NULL,
            expires_at = CASE WHEN c.token IS NULL THEN c.expires_at ELSE c.kept_expiry END,
            kept_expiry = NULL
            WHERE c.queue + 0 = the_queue AND c.due <= now;
    END IF;
END $$"""

_MOVE = """
CREATE FUNCTION {s}.move(
    the_queue bigint, the_position bigint, new_phase text, the_kind bigint, now bigint, why text,
    new_expiry bigint, consumed boolean
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    old {s}.callbacks;
    blocked boolean := false;
BEGIN
    SELECT * INTO old FROM {s}.callbacks AS c
        WHERE c.queue = the_queue AND c.position = the_position;
    IF old.ordering_key IS NOT NULL THEN
        blocked := EXISTS (SELECT 1 FROM {s}.callbacks AS o WHERE o.queue + 2 = the_queue + 2
            AND o.phase = new_phase AND o.ordering_key = old.ordering_key AND o.held < 2
            AND o.gone IS NULL AND o.position <> the_position);
    END IF;
    UPDATE {s}.callbacks AS c SET phase = new_phase, token = NULL, claimed_by = NULL,
        attempts = CASE WHEN old.phase = new_phase THEN c.attempts ELSE 0 END,
        expires_at = CASE WHEN consumed THEN new_expiry WHEN old.token IS NULL THEN c.expires_at
            ELSE c.kept_expiry END,
        kept_expiry = NULL,
        held = CASE WHEN blocked THEN 2 WHEN c.not_before > now THEN 1 ELSE 0 END,
        due = CASE WHEN NOT blocked AND c.not_before > now THEN c.not_before END
    WHERE c.queue = the_queue AND c.position = the_position;
    IF old.keep > 0 THEN
        INSERT INTO {s}.history
            (queue, callback, kind, from_phase, to_phase, at, by, attempt, reason)
        VALUES (the_queue, the_position, the_kind, old.phase, new_phase, now,
            CASE WHEN the_kind > 10 THEN old.claimed_by END,
            CASE WHEN the_kind > 10 THEN old.attempts ELSE 0 END, why);
    END IF;
    IF old.phase <> new_phase THEN
        UPDATE {s}.counts AS t SET queued = t.queued - 1, size = t.size - old.size
            WHERE t.queue = the_queue AND t.phase = old.phase;
        INSERT INTO {s}.counts AS t (queue, phase, queued, size)
            VALUES (the_queue, new_phase, 1, old.size)
            ON CONFLICT (queue, phase)
            DO UPDATE SET queued = t.queued + 1, size = t.size + old.size;
        IF old.ordering_key IS NOT NULL AND old.held < 2 THEN
            PERFORM {s}.follow(the_queue, old.phase, old.ordering_key, now);
        END IF;
    END IF;
END $$"""

# As many arrays as there are fields; those that few have may be empty. Returns the numbers of
# those that were passed over because they are there already.
_PUSH = f"""
CREATE FUNCTION {{s}}.push(
    entered boolean, strict boolean, now bigint,
    queues bigint[], ids text[], phases text[], created bigint[], expiries bigint[],
    remembered bigint[], keeps bigint[], sizes bigint[], fences text[],
    kinds smallint[], starts integer[], heads integer[], bodies integer[], blob bytea,
    parents text[], roots text[], origins text[], keys text[], befores bigint[],
    helds smallint[], dues bigint[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    known bigint[];
    lapsed bigint[];
    of_queues bigint[];
BEGIN
    SELECT array_agg(p.n) FILTER (WHERE l.known),
        array_agg(c.position ORDER BY c.position) FILTER (WHERE NOT l.known),
        array_agg(c.queue ORDER BY c.position) FILTER (WHERE NOT l.known)
    INTO known, lapsed, of_queues
    FROM unnest(queues, ids) WITH ORDINALITY AS p(queue, id, n)
        JOIN {{s}}.callbacks AS c ON c.queue + 1 = ANY (ARRAY[p.queue + 1]) AND c.id = p.id
        CROSS JOIN LATERAL (SELECT c.remembered_until > now
            OR c.expires_at IS NULL OR c.expires_at > now AS known) AS l
    WHERE c.remembered_until > now OR c.gone IS NULL;
    IF cardinality(fences) > 0 THEN
        known := known || (SELECT array_agg(p.n)
            FROM unnest(queues, fences) WITH ORDINALITY AS p(queue, fence, n)
                JOIN {{s}}.callbacks AS c
                    ON c.queue + 0 = ANY (ARRAY[p.queue]) AND c.fence = p.fence
            WHERE c.remembered_until > now
                OR (c.gone IS NULL AND (c.expires_at IS NULL OR c.expires_at > now)));
    END IF;
    IF known IS NOT NULL AND strict THEN
        RAISE EXCEPTION 'some are known' USING ERRCODE = '{TWICE}';
    END IF;
    IF lapsed IS NOT NULL THEN
        -- That the one before has expired is recorded before the push of the next of its id.
        PERFORM {{s}}.leave(g.queue, g.positions, 5, now, NULL) FROM (
            SELECT e.queue, array_agg(e.position ORDER BY e.position) AS positions
                FROM unnest(of_queues, lapsed) AS e(queue, position)
                    JOIN {{s}}.callbacks AS c
                        ON c.queue = ANY (ARRAY[e.queue]) AND c.position = e.position
                WHERE known IS NULL OR NOT EXISTS (
                    SELECT 1 FROM unnest(known) AS k WHERE queues[k] = c.queue AND ids[k] = c.id)
                GROUP BY e.queue) AS g;
    END IF;
    WITH added AS MATERIALIZED (
        SELECT nextval('{{s}}.callback_positions') AS position, p.*
        FROM unnest(queues, ids, phases, created, expiries, remembered, keeps, sizes, fences,
            kinds, starts, heads, bodies, parents, roots, origins, keys, befores, helds, dues)
            WITH ORDINALITY AS p(queue, id, phase, created_at, expires_at, remembered_until, keep,
                size, fence, kind, start, head, body, parent, root, origin, ordering_key,
                not_before, held, due, n)
        WHERE known IS NULL OR p.n <> ALL (known)
    ), inserted AS (
        INSERT INTO {{s}}.callbacks (position, queue, id, phase, created_at, expires_at,
            remembered_until, keep, size, fence, parent, root, origin, ordering_key, not_before,
            held, due)
        SELECT a.position, a.queue, a.id, a.phase, a.created_at, a.expires_at, a.remembered_until,
            a.keep, a.size, a.fence, a.parent, a.root, a.origin, a.ordering_key, a.not_before,
            coalesce(a.held, 0), a.due FROM added AS a
    ), stored AS (
        INSERT INTO {{s}}.requests (queue, position, kind, headers, body)
        SELECT a.queue, a.position, a.kind,
            CASE WHEN a.head >= 0 THEN substring(blob FROM a.start + 1 FOR a.head) END,
            substring(blob FROM a.start + 1 + greatest(a.head, 0) FOR a.body) FROM added AS a
    ), recorded AS (
        INSERT INTO {{s}}.history (queue, callback, kind, to_phase, at, attempt, reason)
        SELECT a.queue, a.position, 1, a.phase, now, 0, a.origin
        FROM added AS a WHERE a.keep > 0 ORDER BY a.n
    )
    INSERT INTO {{s}}.counts AS t (queue, phase, queued, size)
        SELECT a.queue, a.phase, count(*), sum(a.size)::bigint FROM added AS a
            GROUP BY a.queue, a.phase
        ON CONFLICT (queue, phase) DO UPDATE
            SET queued = t.queued + excluded.queued, size = t.size + excluded.size;
    RETURN known;
END $$"""

# As ``enter`` and ``push`` for a single callback that has nothing of what few have: most are so.
_PUSH_ONE = f"""
CREATE FUNCTION {{s}}.push_one(
    knows bigint, sync text, patience text, the_queue bigint, the_revision bigint, now bigint,
    the_id text, the_phase text, created bigint, expiry bigint, remembered bigint, the_keep bigint,
    the_size bigint, the_fence text, the_kind bigint, head bytea, the_body bytea
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    new_position bigint;
    ignored text;
BEGIN
    IF knows <> 1 THEN
        RAISE EXCEPTION 'the schema is of another version' USING ERRCODE = '{STALE}';
    END IF;
    ignored := set_config('synchronous_commit', sync, true);
    ignored := set_config('lock_timeout', patience, true);
    ignored := set_config('enable_seqscan', 'off', true);
    ignored := set_config('enable_bitmapscan', 'off', true);
    PERFORM 1 FROM {{s}}.endpoints AS e
        WHERE e.queue = the_queue AND e.revision = the_revision FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the endpoint was changed' USING ERRCODE = '{STALE}';
    END IF;
    PERFORM 1 FROM {{s}}.callbacks AS c WHERE c.queue + 1 = the_queue + 1 AND c.id = the_id
        AND (c.remembered_until > now OR c.gone IS NULL);
    IF FOUND THEN
        RAISE EXCEPTION 'it is known' USING ERRCODE = '{TWICE}';
    END IF;
    IF the_fence IS NOT NULL THEN
        PERFORM 1 FROM {{s}}.callbacks AS c WHERE c.queue + 0 = the_queue AND c.fence = the_fence
            AND (c.remembered_until > now OR c.gone IS NULL);
        IF FOUND THEN
            RAISE EXCEPTION 'it is known' USING ERRCODE = '{TWICE}';
        END IF;
    END IF;
    new_position := nextval('{{s}}.callback_positions');
    INSERT INTO {{s}}.callbacks (position, queue, id, phase, created_at, expires_at,
        remembered_until, keep, size, fence)
    VALUES (new_position, the_queue, the_id, the_phase, created, expiry, remembered, the_keep,
        the_size, the_fence);
    INSERT INTO {{s}}.requests (queue, position, kind, headers, body)
    VALUES (the_queue, new_position, the_kind, head, the_body);
    IF the_keep > 0 THEN
        INSERT INTO {{s}}.history (queue, callback, kind, to_phase, at, attempt)
        VALUES (the_queue, new_position, 1, the_phase, now, 0);
    END IF;
    UPDATE {{s}}.counts AS t SET queued = t.queued + 1, size = t.size + the_size
        WHERE t.queue = the_queue AND t.phase = the_phase;
    IF NOT FOUND THEN
        INSERT INTO {{s}}.counts AS t (queue, phase, queued, size)
        VALUES (the_queue, the_phase, 1, the_size);
    END IF;
    RETURN true;
END $$"""

_ROW = """"position" bigint, id text, phase text, created_at bigint, parent text,
    root text, origin text, ordering_key text, not_before bigint, attempts integer,
    kind smallint, headers bytea, body bytea, fence text"""
_COLUMNS = """c.position, c.id, c.phase, c.created_at, c.parent, c.root, c.origin, c.ordering_key,
    c.not_before, c.attempts, r.kind, r.headers, r.body, c.fence"""

# The oldest that is available, or the one of that id if it is.
_POP = f"""
CREATE FUNCTION {{s}}.pop(entered boolean, the_queue bigint, key text, now bigint)
RETURNS TABLE ({_ROW}) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    found_position bigint;
BEGIN
    PERFORM {{s}}.turn(the_queue, now);
    IF key IS NULL THEN
        SELECT c.position INTO found_position FROM {{s}}.callbacks AS c
            WHERE c.queue + 0 = the_queue AND c.held = 0 AND c.gone IS NULL
                AND (c.expires_at IS NULL OR c.expires_at > now)
            ORDER BY c.position LIMIT 1;
    ELSE
        SELECT c.position INTO found_position FROM {{s}}.callbacks AS c
            WHERE c.queue + 1 = the_queue + 1 AND c.id = key AND c.held < 3 AND c.held = 0
                AND (c.expires_at IS NULL OR c.expires_at > now);
    END IF;
    IF found_position IS NOT NULL THEN
        RETURN QUERY SELECT {_COLUMNS} FROM {{s}}.callbacks AS c
            JOIN {{s}}.requests AS r ON r.queue = c.queue AND r.position = c.position
            WHERE c.queue = the_queue AND c.position = found_position;
        PERFORM {{s}}.leave(the_queue, ARRAY[found_position], 3, now, NULL);
    END IF;
END $$"""

_TAKE = """SELECT c.position, c.keep FROM {{s}}.callbacks AS c
            WHERE {0} AND c.held = 0 AND c.gone IS NULL
                AND (c.expires_at IS NULL OR c.expires_at > now)
            ORDER BY c.position LIMIT how_many FOR UPDATE SKIP LOCKED"""


def _claim(phase: str) -> str:
    return f"""RETURN QUERY WITH old AS MATERIALIZED ({_TAKE.format(phase)}), claimed AS (
        UPDATE {{s}}.callbacks AS c SET held = 1, due = until, token = c.position || token_end,
            kept_expiry = c.expires_at,
            expires_at = CASE WHEN c.expires_at < until THEN until ELSE c.expires_at END,
            attempts = c.attempts + 1, claimed_by = who
        FROM old WHERE {at("c", "old")} RETURNING c.*
    ), recorded AS (
        INSERT INTO {{s}}.history (queue, callback, kind, from_phase, to_phase, at, by, attempt)
        SELECT the_queue, c.position, 10, c.phase, c.phase, now, who, c.attempts
        FROM claimed AS c WHERE c.keep > 0 ORDER BY c.position
    )
    SELECT {_COLUMNS}, NULL::bigint FROM claimed AS c
        JOIN {{s}}.requests AS r ON {at("r", "c")}
        ORDER BY c.position;"""


# The last row holds only when more may become available by itself. Rows that some other session
# has locked, a person's for one, are passed over.
_CLAIM = f"""
CREATE FUNCTION {{s}}.claim(
    entered boolean, the_queue bigint, the_phase text, how_many bigint, until bigint, now bigint,
    token_end text, who text
) RETURNS TABLE ({_ROW}, next_at bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM {{s}}.turn(the_queue, now);
    IF the_phase IS NULL THEN
        {_claim("c.queue + 0 = the_queue")}
    ELSE
        {_claim("c.queue + 3 = the_queue + 3 AND c.phase = the_phase")}
    END IF;
    RETURN QUERY SELECT NULL::bigint, NULL, NULL, NULL::bigint, NULL, NULL, NULL, NULL,
        NULL::bigint, NULL::integer, NULL::smallint, NULL::bytea, NULL::bytea, NULL, least(
        (SELECT c.due FROM {{s}}.callbacks AS c WHERE c.queue + 0 = the_queue
            AND c.due IS NOT NULL ORDER BY c.due LIMIT 1),
        (SELECT c.expires_at FROM {{s}}.callbacks AS c WHERE c.queue + 0 = the_queue
            AND c.ordering_key IS NOT NULL AND c.expires_at IS NOT NULL
            ORDER BY c.expires_at LIMIT 1));
END $$"""

# That a lease has not ended, in a way that gives nothing to look for in the index of what is due.
_LASTS = "coalesce(c.due > now, false)"
# A claim that still holds.
_HELD = f"""c.queue = the_queue AND c.position = the_position AND c.id = the_id
    AND c.token = the_token AND {_LASTS}"""

# Returns the positions of those whose claims held; each position may be given once.
_ACK = (
    """
CREATE FUNCTION {s}.ack(
    entered boolean, the_queue bigint, positions bigint[], ids text[], tokens text[],
    the_kind bigint, now bigint, reasons text[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    good bigint[];
    whys text[];
BEGIN
    SELECT array_agg(p.position ORDER BY p.n), array_agg(p.why ORDER BY p.n) INTO good, whys
    FROM unnest(positions, ids, tokens, reasons)
            WITH ORDINALITY AS p(position, id, token, why, n)
        JOIN {s}.callbacks AS c ON """
    + at("c", "p")
    + """
    WHERE c.id = p.id AND c.token = p.token AND """
    + _LASTS
    + """;
    IF good IS NOT NULL THEN
        PERFORM {s}.leave(the_queue, good, the_kind, now, whys);
    END IF;
    RETURN good;
END $$"""
)

_ADVANCE = f"""
CREATE FUNCTION {{s}}.advance(
    entered boolean, the_queue bigint, the_position bigint, the_id text, the_token text,
    new_phase text, the_kind bigint, now bigint, why text, new_expiry bigint, consumed boolean
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM {{s}}.callbacks AS c WHERE {_HELD};
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM {{s}}.turn(the_queue, now);
    PERFORM {{s}}.move(
        the_queue, the_position, new_phase, the_kind, now, why, new_expiry, consumed);
    RETURN true;
END $$"""

_BACK = f"""
CREATE FUNCTION {{s}}.give_back(
    entered boolean, the_queue bigint, the_position bigint, the_id text, the_token text,
    new_held bigint, new_due bigint, uncounted bigint, the_kind bigint, now bigint, why text
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    old {{s}}.callbacks;
BEGIN
    SELECT * INTO old FROM {{s}}.callbacks AS c WHERE {_HELD};
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE {{s}}.callbacks AS c SET held = new_held, due = new_due, token = NULL,
        claimed_by = NULL, expires_at = c.kept_expiry, kept_expiry = NULL,
        attempts = c.attempts - uncounted
        WHERE c.queue = the_queue AND c.position = the_position;
    IF old.keep > 0 THEN
        INSERT INTO {{s}}.history
            (queue, callback, kind, from_phase, to_phase, at, by, attempt, reason)
        VALUES (the_queue, the_position, the_kind, old.phase, old.phase, now, old.claimed_by,
            old.attempts, why);
    END IF;
    RETURN true;
END $$"""

_EXTEND = f"""
CREATE FUNCTION {{s}}.extend(
    entered boolean, the_queue bigint, the_position bigint, the_id text, the_token text,
    until bigint, now bigint
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {{s}}.callbacks AS c SET due = until,
        expires_at = CASE WHEN c.kept_expiry < until THEN until ELSE c.kept_expiry END
        WHERE {_HELD};
    RETURN FOUND;
END $$"""

FUNCTIONS: tuple[str, ...] = (
    _ENTER,
    _FOLLOW,
    _LEAVE,
    _TURN,
    _MOVE,
    _PUSH,
    _PUSH_ONE,
    _POP,
    _CLAIM,
    _ACK,
    _ADVANCE,
    _BACK,
    _EXTEND,
)
