"""What has happened: records, cursors, families, and what is kept of the past."""

from __future__ import annotations

from typing import Any

from pollin_actors import messages
from pollin_actors.backends.checks import kinds_of, natural, note, pushes_of, text
from pollin_actors.backends.postgres import statements as sql
from pollin_actors.backends.postgres.arrays import is_text
from pollin_actors.backends.postgres.pushes import Pushes
from pollin_actors.backends.values import Stored, encode
from pollin_actors.errors import CursorConflict, InvalidValue
from pollin_actors.records import EndpointStats, Record, RecordPage
from pollin_actors.resources import Callback, Page, PushResult

__all__ = ["PAGE_BYTES", "Lookback", "storable"]

# Records that a page looks at, beyond those that it gives: of other kinds than asked for.
_LOOKED_AT = 5_000
PAGE_BYTES = 4 * 1024 * 1024
"""Bodies in a page, in bytes: a few large callbacks are a page too."""


class Lookback(Pushes):
    """Reads what was, and moves cursors over it."""

    def history(self, message: messages.History, stored: None) -> list[Record]:
        terms, key = self._terms(message), text(message, "key")
        if not is_text(key):
            return []
        rows = self._execute(sql.HISTORY, {"queue": terms.queue, "key": key})
        return [_record(message.endpoint_id, row) for row in rows.fetchall()]

    def history_page(self, message: messages.HistoryPage, stored: None) -> RecordPage:
        terms = self._terms(message)
        after = natural("HistoryPage.after", message.after)
        limit = natural("HistoryPage.limit", message.limit, least=1)
        kinds = kinds_of(message)
        wanted = limit if kinds is None else max(limit, _LOOKED_AT)
        values = {
            "queue": terms.queue,
            "after": min(after, sql.LARGEST),
            "limit": min(wanted, sql.LARGEST),
        }
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
        # One may be refused after others were added: all are undone then, up to here.
        connection = self._connection
        assert connection is not None
        with connection.transaction():
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
            values = {"queue": terms.queue, "parent": parents.pop(), "now": now}
            for row in self._execute(sql.CHILDREN, values).fetchall():
                # One that has expired and is not swept yet.
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
        rows, cursor = self._page(sql.PAST, terms.queue, after, limit)
        callbacks = [
            self._callback(row)
            for row in rows
            if row[3] >= since and (until is None or row[3] < until)
        ]
        return Page(callbacks, cursor)

    def dump_page(self, message: messages.DumpPage, stored: None) -> Page:
        terms = self._terms(message)
        limit = natural("DumpPage.limit", message.limit, least=1)
        after = 0 if message.after is None else natural("DumpPage.after", message.after)
        rows, cursor = self._page(sql.PAGE, terms.queue, after, limit)
        return Page([self._callback(row) for row in rows], cursor)

    def _page(
        self, query: str, queue: int, after: int, limit: int
    ) -> tuple[list[tuple[Any, ...]], int | None]:
        """Rows after a position, and where the next page starts if there is one."""
        limit = min(limit, sql.LARGEST - 1)
        values = {
            "queue": queue,
            "after": min(after, sql.LARGEST),
            "now": self._time_ns(),
            # One more than asked for tells whether this page is the last.
            "most": limit + 1,
        }
        rows: list[tuple[Any, ...]] = []
        size = 0
        for row in self._execute(query, values).fetchall():
            if len(rows) == limit or size >= PAGE_BYTES:
                return rows, rows[-1][0]
            rows.append(row)
            size += len(row[12])
        return rows, None

    def stats(self, message: messages.Stats, stored: None) -> EndpointStats:
        queue, now = self._terms(message).queue, self._time_ns()
        values = {"queue": queue, "now": now}
        counted, size = self._one(sql.ROOM[True], values)
        gone, gone_size = self._one(sql.EXPIRED[True], values)
        claimed, waiting, behind, expired = self._one(sql.STATS, values)
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
