"""What has happened: records, cursors, families, and what is kept of the past."""

from __future__ import annotations

from typing import Any

from pollin_actors import messages
from pollin_actors.backends.checks import kinds_of, natural, note, pushes_of, text
from pollin_actors.backends.sqlite import statements as sql
from pollin_actors.backends.sqlite.pushes import Pushes
from pollin_actors.backends.sqlite.rows import is_text
from pollin_actors.backends.values import Stored, encode
from pollin_actors.errors import CursorConflict, InvalidValue
from pollin_actors.records import EndpointStats, Record, RecordPage
from pollin_actors.resources import Callback, Page, PushResult

__all__ = ["Lookback", "storable"]

# Records that a page looks at, beyond those that it gives: of other kinds than asked for.
_LOOKED_AT = 5_000
# Bodies in a page, in bytes: a few large callbacks are a page too.
PAGE_BYTES = 4 * 1024 * 1024


class Lookback(Pushes):
    """Reads what was, and moves cursors over it."""

    def history(self, message: messages.History, stored: None) -> list[Record]:
        terms, key = self._terms(message), text(message, "key")
        rows = self._execute(sql.HISTORY, (terms.queue, key)) if is_text(key) else ()
        return [_record(message.endpoint_id, row) for row in rows]

    def history_page(self, message: messages.HistoryPage, stored: None) -> RecordPage:
        terms = self._terms(message)
        after = natural("HistoryPage.after", message.after)
        limit = natural("HistoryPage.limit", message.limit, least=1)
        kinds = kinds_of(message)
        wanted = limit if kinds is None else max(limit, _LOOKED_AT)
        values = (terms.queue, min(after, sql.LARGEST), min(wanted, sql.LARGEST))
        records: list[Record] = []
        cursor = after
        for row in self._execute(sql.HISTORY_PAGE, values).fetchall():
            if len(records) == limit:
                break
            cursor = row[0]
            if kinds is None or sql.KINDS[row[2]] in kinds:
                records.append(_record(message.endpoint_id, row))
        return RecordPage(records, cursor)

    def find_cursor(self, message: messages.FindCursor, stored: None) -> int:
        queue = self._terms(message).queue
        return self._cursor(queue, note(message, "name", 200, 1))

    def _cursor(self, queue: int, name: str) -> int:
        row = self._execute(sql.FIND_CURSOR, (queue, name)).fetchone()
        return 0 if row is None else int(row[0])

    def move_cursor(self, message: messages.MoveCursor, stored: None) -> tuple[PushResult, ...]:
        terms, name = self._terms(message), note(message, "name", 200, 1)
        position = natural("MoveCursor.position", message.position)
        if position > sql.LARGEST:
            raise InvalidValue("MoveCursor.position", f"at most {sql.LARGEST}", "more")
        pushes = [(callback, storable(callback)) for callback in pushes_of(message)]
        expect = message.expect
        if expect is not None:
            natural("MoveCursor.expect", expect)
            found = self._cursor(terms.queue, name)
            if found != expect:
                raise CursorConflict(message.endpoint_id, name, expect, found)
        now = self._time_ns()
        entering = [self._entering(terms, callback) for callback, _ in pushes]
        # If one is refused after others were added, the transaction is undone: it is HalfDone.
        results = [
            self._push(terms, callback, given, stored, now)
            for callback, (given, stored) in zip(entering, pushes, strict=True)
        ]
        self._execute(sql.MOVE_CURSOR, (terms.queue, name, position))
        return tuple(results)

    def children(self, message: messages.Children, stored: None) -> list[Callback]:
        terms, now = self._terms(message), self._time_ns()
        key = text(message, "key")
        self._relative(terms, key, now)
        found: dict[int, Callback] = {}
        parents, seen = [key], {key}
        while parents:
            parent = parents.pop()
            for row in self._execute(sql.CHILDREN, (terms.queue, parent, now)).fetchall():
                # A request that was forgotten in the meantime is not there any more.
                if row[14]:
                    continue
                callback = found[row[0]] = self._callback(row)
                if message.deep and callback.id not in seen:
                    seen.add(callback.id)
                    parents.append(callback.id)
        return [found[position] for position in sorted(found)]

    def past_page(self, message: messages.PastPage, stored: None) -> Page:
        terms = self._terms(message)
        limit = natural("PastPage.limit", message.limit, least=1)
        after = 0 if message.after is None else natural("PastPage.after", message.after)
        since = 0 if message.since is None else natural("PastPage.since", message.since)
        until = None if message.until is None else natural("PastPage.until", message.until)
        limit = min(limit, sql.LARGEST - 1)
        # One more than asked for tells whether this page is the last.
        values = (terms.queue, min(after, sql.LARGEST), limit + 1)
        rows: list[tuple[Any, ...]] = []
        cursor: int | None = None
        size = 0
        for row in self._execute(sql.PAST, values).fetchall():
            if len(rows) == limit or size >= PAGE_BYTES:
                cursor = rows[-1][0]
                break
            rows.append(row)
            size += len(row[12])
        callbacks = [
            self._callback(row)
            for row in rows
            if row[3] >= since and (until is None or row[3] < until)
        ]
        return Page(callbacks, cursor)

    def stats(self, message: messages.Stats, stored: None) -> EndpointStats:
        queue, now = self._terms(message).queue, self._time_ns()
        counted, size = self._execute(
            "SELECT ifnull(sum(queued), 0), ifnull(sum(size), 0) FROM counts WHERE queue = ?",
            (queue,),
        ).fetchone()
        gone, gone_size = self._execute(
            "SELECT count(*), ifnull(sum(size), 0) FROM callbacks INDEXED BY callbacks_by_expiry "
            "WHERE expires_at <= ? AND queue = ?",
            (now, queue),
        ).fetchone()
        claimed, waiting, behind, expired = self._execute(sql.STATS, (queue, now)).fetchone()
        return EndpointStats(counted - gone, size - gone_size, claimed, waiting + behind, expired)


def storable(callback: Callback) -> Stored | InvalidValue:
    """What is stored, or why it cannot be: that is said once it is known that he may push."""
    if callback.created_at > sql.LARGEST:
        return InvalidValue("Callback.created_at", f"at most {sql.LARGEST}", "more")
    try:
        return encode(callback.request)
    except InvalidValue as error:
        return error


def _record(endpoint_id: str, row: tuple[Any, ...]) -> Record:
    position, callback_id, kind, from_phase, to_phase, at, by, attempt, reason = row
    return Record(
        position,
        endpoint_id,
        callback_id or "",
        sql.KINDS[kind],
        from_phase,
        to_phase,
        at,
        by or "",
        attempt,
        reason or "",
    )
