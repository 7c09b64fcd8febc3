"""Backends that are wrong about records, cursors and families: the checks find every one."""

from __future__ import annotations

import pytest

from pollin_actors.backends.conformance import cursors, family, history, retention
from pollin_actors.records import Kind
from tests.backends.mutants import Mutant, changed, finds, mutants

RECORDED = "        if not row.keep_ns:\n            return\n"
KINDS = [kind for kind in Kind if kind is not Kind.RESET]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("twice", [False, True])
def test_finds_a_wrong_number_of_records(kind: Kind, twice: bool) -> None:
    """A change without a record, or with two, is found, whatever changes."""
    none = f"        if not row.keep_ns or kind == {str(kind)!r}:\n            return\n"
    append = "        self.history.append((row, record))\n"
    two = f"        self.history.extend([(row, record)] * (1 + (kind == {str(kind)!r})))\n"
    edits = (append, two) if twice else (RECORDED, none)
    finds(lambda: changed(Mutant(kind, edits)), history.CHECKS)


RECORD = "kind, before, phase, now, by, attempt, reason)"
BEFORE = "before = None if kind == Kind.PUSHED else callback.phase"
OF_CLAIM = "(callback.attempts, row.by) if kind in OF_CLAIMS else"
LAPSED = "self.record(row, now, Kind.LAPSED, row.callback.phase)"
RELEASED = "        queue.enter(row, now, Kind.RELEASED, row.callback.phase)\n"
UNDO = "        row.callback = row.callback.with_attempts(row.callback.attempts - 1)\n"
FOUND = "found = [record for record in records if kinds is None or record.kind in kinds]"
FULL_PAGE = "RecordPage(found[:limit], found[limit - 1].position)"
EXTENDED = "        row.until = until\n        return until"
RESET = "        self.rows, self.kept, self.history = [], [], []\n"
FORGET = "        self.remembered, self.cursors, self.expired = {}, {}, 0\n"
QUEUED = "        queued = like(callback, self.rows)\n"
POSITION = (
    "        position, id = next(self.positions), self.endpoint.id\n"
    '        record = Record(position, id, ""'
)
STATS = "EndpointStats(len(queue.rows), size, claimed, delayed, queue.expired)"


@mutants(
    {
        "records have no time": (RECORD, RECORD.replace("now", "0")),
        "records know no reason": (RECORD, RECORD.replace("reason", '""')),
        "records know no attempt": (RECORD, RECORD.replace("attempt", "0")),
        "records do not know who": (RECORD, RECORD.replace("by", '""')),
        "records of pushes come from the phase": (BEFORE, "before: str | None = callback.phase"),
        "records come from nowhere": (BEFORE, "before = None"),
        "records lead nowhere": (RECORD, RECORD.replace("phase", "None")),
        "records always lead somewhere": (RECORD, RECORD.replace("phase", "phase or before")),
        "all records are of claims": (OF_CLAIM, OF_CLAIM.replace("kind in OF_CLAIMS", "True")),
        "moves are of claims": (
            OF_CLAIM,
            OF_CLAIM.replace("kind in OF_CLAIMS", "kind in OF_CLAIMS or kind == Kind.MOVED"),
        ),
        "lapses have no claimer": (LAPSED, f'row.by = ""\n                {LAPSED}'),
        "releases say the attempt before": (RELEASED + UNDO, UNDO + RELEASED),
        "reasons of acks are lost": (
            "queue.enter(row, now, Kind.ACKNOWLEDGED, message.then, reason)",
            "queue.enter(row, now, Kind.ACKNOWLEDGED, message.then)",
        ),
        "reasons of discards are lost": ("Kind.DISCARDED, reason)", "Kind.DISCARDED)"),
        "reasons of dead letters are lost": (
            "message.dead_letter, reason)",
            "message.dead_letter)",
        ),
        "reasons of nacks are lost": ("row.callback.phase, reason)\n", "row.callback.phase)\n"),
        "discards are acknowledged": ("Kind.DISCARDED, reason)", "Kind.ACKNOWLEDGED, reason)"),
        "extensions have a record": (
            EXTENDED,
            "        queue = self._queue(message, now)\n"
            f"        queue.record(row, now, Kind.CLAIMED, row.callback.phase)\n{EXTENDED}",
        ),
        "updates to the same phase have a record": (
            "        if message.phase != found:\n",
            "        if message.phase == message.phase:\n",
        ),
        "pages begin with the last": ("record.position > after]", "record.position >= after]"),
        "pages are of all kinds": (FOUND, "found = records"),
        "no kinds are all": (FOUND, FOUND.replace("kinds is None", "not kinds")),
        "pages have no limit": ("if len(found) >= limit:", "if False:"),
        "pages end with the last record": (
            FULL_PAGE,
            FULL_PAGE.replace("found[limit - 1]", "records[-1]"),
        ),
        "pages end too late": (FULL_PAGE, FULL_PAGE.replace(".position", ".position + 1")),
        "pages of nothing begin anew": (
            "records[-1].position if records else after",
            "records[-1].position if records else 0",
        ),
        "pages do not go on over other kinds": (
            "return RecordPage(found, records[-1].position if records else after)",
            "return RecordPage(found, found[-1].position if len(found) > 1 else after)",
        ),
        "histories are of all ids": ("if item.callback_id == key]", "]"),
        "histories ignore case": (
            "if item.callback_id == key]",
            "if item.callback_id.lower() == key.lower()]",
        ),
        "histories begin with the newest": (
            "        return [item for _, item in self._queue(message, now).history ",
            "        return [item for _, item in self._queue(message, now).history[::-1] ",
        ),
        "resets keep the history": (RESET, RESET.replace("[], [], []", "[], [], self.history")),
        "resets keep the past": (RESET, RESET.replace("[], [], []", "[], self.kept, []")),
        "resets keep the expired": (FORGET, FORGET.replace("{}, {}, 0", "{}, {}, self.expired")),
        "resets keep the cursors": (FORGET, FORGET.replace("{}, {}, 0", "{}, self.cursors, 0")),
        "resets have no record": ("self.history.append((None, record))", "pass"),
        "resets are records of the past": ("Kind.RESET, None, None", 'Kind.RESET, "", None'),
        "resets begin to count anew": (
            POSITION,
            f"        self.positions = iter(range(1, 10**6))\n{POSITION}",
        ),
        "endpoints begin to count anew": (
            "Queue(endpoint, self._positions)",
            "Queue(endpoint, count(1))",
        ),
        "positions begin with 0": ("self._positions = count(1)", "self._positions = count(-1)"),
        "nothing expired": ("self.expired += len(due)", "pass"),
        "pops are expiries": (
            "        self.rows.remove(row)\n",
            "        self.rows.remove(row)\n        self.expired += 1\n",
        ),
        "stats count the claimed twice": (STATS, STATS.replace("delayed,", "claimed + delayed,")),
        "stats know no size": (STATS, STATS.replace("size", "0")),
        "stats know no claims": (STATS, STATS.replace("claimed", "0")),
        "stats count what is available": (STATS, STATS.replace("len(queue.rows)", "available")),
    }
)
def test_finds_a_wrong_history(mutant: Mutant) -> None:
    """The backend does not pass."""
    finds(lambda: changed(mutant), history.CHECKS)


LEFT = "        row.forget_at = now + row.keep_ns\n"
KEPT = "            self.kept.append(row)\n"
PAST = "        rows = self._queue(message, now).all()\n        if message.since"


@mutants(
    {
        "what left is kept from the push": (
            "        self.rows.append(row)\n",
            '        self.rows.append(row)\n        vars(row)["pushed"] = now\n',
            LEFT,
            '        row.forget_at = vars(row)["pushed"] + row.keep_ns\n',
        ),
        "what left is kept a nanosecond longer": (LEFT, LEFT.replace("ns\n", "ns + 1\n")),
        "what left is kept a nanosecond less": (LEFT, LEFT.replace("ns\n", "ns - 1\n")),
        "what left is kept for as long as now": (
            LEFT,
            "        row.forget_at = now + round(self.endpoint.keep_for * 1e9)\n",
        ),
        "what left is kept for ever": (LEFT, ""),
        "what expired is not kept": (
            "        if row.keep_ns:\n" + KEPT,
            "        if row.keep_ns and kind != Kind.EXPIRED:\n" + KEPT,
        ),
        "what left is forgotten, its records are not": (
            "if row is None or row.forget_at > now\n",
            "if row is None or row\n",
        ),
        "records are forgotten while it is queued": (
            "if row is None or row.forget_at > now\n",
            "if row is None or record.at + row.keep_ns > now\n",
        ),
        "records are written where none are wanted": (RECORDED, ""),
        "what left is kept where nothing is": (
            "        if row.keep_ns:\n" + KEPT,
            KEPT[4:],
            LEFT,
            "        row.forget_at = now + (row.keep_ns or 10**9)\n",
        ),
        "what is kept makes duplicates": (
            QUEUED,
            "        queued = like(callback, self.kept) or like(callback, self.rows)\n",
        ),
        "ids are forgotten with what was kept": (
            "        self.kept = [row for row in self.kept if row.forget_at > now]\n",
            "        for row in self.kept:\n            if row.forget_at <= now:\n"
            "                self.remembered.pop(row.callback.id, None)\n"
            "        self.kept = [row for row in self.kept if row.forget_at > now]\n",
        ),
        "sweeps count what they forget": (
            "            queue.forget(now)\n",
            "            left -= len([row for row in queue.kept if row.forget_at <= now])\n"
            "            queue.forget(now)\n",
        ),
        "the past leaves out the queued": (PAST, PAST.replace(".all()", ".kept")),
        "the past leaves out the kept": (PAST, PAST.replace(".all()", ".rows")),
        "the past has the queued first": (
            "return sorted(chain(self.rows, self.kept), key=lambda row: row.position)",
            "return [*self.rows, *self.kept]",
        ),
        "bounds leave out the first": ("created_at >= since", "created_at > since"),
        "bounds take in the last": ("created_at < until", "created_at <= until"),
        "bounds of nothing are none": (
            "if message.since is not None:",
            "if message.since:",
            "if message.until is not None:",
            "if message.until and message.until != 3:",
        ),
        "what is kept is always fetched": ("message.kept and message.key", "message.key"),
        "what is kept is never fetched": ("rows = named(queue.kept, message)[-1:]", "rows = []"),
        "the oldest kept is fetched": (
            "message.kept and message.key is not None:",
            "message.kept:",
        ),
        "the first of an id is fetched": ("message)[-1:]", "message)[:1]"),
        "another that is kept is fetched": ("named(queue.kept, message)", "queue.kept"),
        "bounds may be anything": ('since = natural(message, "since")', "since = message.since"),
    }
)
def test_finds_a_wrong_past(mutant: Mutant) -> None:
    """The backend does not pass."""
    finds(lambda: changed(mutant), retention.CHECKS)


BEFORE_MOVE = (
    "        before = self.rows[:], self.history[:], dict(self.remembered), dict(self.fences)\n"
)
BACK = "self.rows, self.history, self.remembered, self.fences = before"
MOVED = "        self.cursors[name] = position\n"
CONFLICT = "if expect is not None and expect != at:"
RAISED = "            raise CursorConflict"
RESULTS = "results = tuple([self.push(callback, now) for callback in pushes])"
FIND = 'return self._queue(message, now).cursors.get(note(message, "name", 200, 1), 0)'
NAME = 'name, position = note(message, "name", 200, 1), natural(message, "position")'


@mutants(
    {
        "pushes before an error stay": (BACK, "pass"),
        "ids before an error stay": (BACK, BACK.replace("self.remembered", "_")),
        "records before an error stay": (BACK, BACK.replace("self.history", "_")),
        "rows before an error stay": (BACK, BACK.replace("self.rows", "_")),
        "cursors move before an error": (BEFORE_MOVE, BEFORE_MOVE + MOVED),
        "cursors do not move": (MOVED, ""),
        "cursors move forwards only": (MOVED, MOVED.replace("= position", "= max(at, position)")),
        "cursors are moved from anywhere": (CONFLICT, "if False:"),
        "cursors are moved by a conflict": (RAISED, f"    {MOVED}{RAISED}"),
        "conflicts push": (
            RAISED,
            f"            [self.push(item, now) for item in pushes]\n{RAISED}",
        ),
        "new cursors cannot be expected": (CONFLICT, "if expect and expect != at:"),
        "conflicts say it the other way": ("name, expect, at)", "name, at, expect)"),
        "new cursors are nowhere": (FIND, FIND.replace(", 0)", ")")),
        "there is one cursor": (
            FIND,
            FIND.replace('note(message, "name", 200, 1)', 'note(message, "name", 200, 1)[:0]'),
            MOVED,
            MOVED.replace("name", '""'),
        ),
        "cursors ignore case": (
            FIND,
            FIND.replace("200, 1)", "200, 1).lower()"),
            MOVED,
            MOVED.replace("name", "name.lower()"),
        ),
        "moves push backwards": (RESULTS, RESULTS.replace("in pushes", "in pushes[::-1]")),
        "moves answer a list": (RESULTS, RESULTS.replace("tuple(", "list(")),
        "moves refuse duplicates": (
            RESULTS,
            f"{RESULTS}\n            if Outcome.DUPLICATE in [item.outcome for item in results]:\n"
            '                raise CallbackNotFound(self.endpoint.id, "")',
        ),
        "names may be anything": (
            FIND,
            FIND.replace('note(message, "name", 200, 1)', "message.name"),
        ),
        "names may be empty": (NAME, NAME.replace("200, 1", "200")),
        "positions may be anything": (
            NAME,
            NAME.replace('natural(message, "position")', "message.position"),
        ),
        "pushes may be anything": ("pushes_of(message)", "message.pushes"),
    }
)
def test_finds_a_wrong_cursor(mutant: Mutant) -> None:
    """The backend does not pass."""
    finds(lambda: changed(mutant), cursors.CHECKS)


FOUND_PARENT = "found = [row.callback for row in self.all() if row.callback.id == callback.parent]"
MISSING = "            raise CallbackNotFound(self.endpoint.id, callback.parent)\n"
ROOT = "return found[-1].root or found[-1].id"
ROOTED = ".with_root(self.root_for(callback))"
CHILDREN = "callbacks = [row.callback for row in self._queue(message, now).all()]"
DEEP = "while message.deep and not parents.issuperset(item.id for item in found):"
UNKNOWN = "        if key not in [callback.id for callback in callbacks]:"


@mutants(
    {
        "roots are parents": (ROOT, "return found[-1].id"),
        "roots are where they were said to be": (
            ROOTED,
            ".with_root(callback.root or self.root_for(callback))",
        ),
        "roots are their own": (
            "            return None\n        found",
            "            return callback.id\n        found",
        ),
        "parents need not be": (MISSING, "            return callback.parent\n"),
        "missing parents are forgotten": (MISSING, "            return None\n"),
        "missing parents have another name": (
            MISSING,
            MISSING.replace("callback.parent", "callback.id"),
        ),
        "parents must be queued": (FOUND_PARENT, FOUND_PARENT.replace("all()", "rows")),
        "parents are found without case": (
            FOUND_PARENT,
            FOUND_PARENT.replace(
                "row.callback.id == callback.parent",
                "row.callback.id.lower() == callback.parent.lower()",
            ),
        ),
        "duplicates need a parent": (QUEUED, f"        self.root_for(callback)\n{QUEUED}"),
        "children must be queued": (CHILDREN, CHILDREN.replace("all()", "rows")),
        "children come in any order": (CHILDREN, CHILDREN.replace("all()]", "all()[::-1]]")),
        "all are below": (DEEP, DEEP.replace("message.deep and ", "")),
        "only children are below": (DEEP, DEEP.replace("message.deep", "False")),
        "grandchildren are below, no more": (DEEP, DEEP.replace("while", "if")),
        "children of none are none": (UNKNOWN, "        if False:"),
        "who has no children is unknown": (
            UNKNOWN,
            "        if key not in [callback.parent for callback in callbacks]:",
        ),
        "origins are no reason": ('callback.origin or ""', '""'),
    }
)
def test_finds_a_wrong_family(mutant: Mutant) -> None:
    """The backend does not pass."""
    finds(lambda: changed(mutant), family.CHECKS)
