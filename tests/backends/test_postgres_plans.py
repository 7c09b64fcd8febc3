"""What the server reads: no more than is asked for, however little it knows of its tables."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from pollin_actors.backends.postgres import operations, transactions
from pollin_actors.backends.postgres.link import Link
from pollin_actors.backends.postgres.lookback import storable
from pollin_actors.backends.postgres.operations import OPERATIONS, Operations
from pollin_actors.backends.postgres.schema import VERSION
from pollin_actors.messages import (
    Ack,
    Children,
    ClaimSlice,
    Count,
    CreateEndpoint,
    DeleteEndpoint,
    DumpPage,
    Extend,
    Fetch,
    FetchReverse,
    FetchSlice,
    History,
    HistoryPage,
    Nack,
    PastPage,
    Pop,
    PopSlice,
    Push,
    Release,
    Stats,
    Sweep,
    UpdatePhase,
)
from pollin_actors.resources import Callback, Endpoint
from tests.backends.postgres_inbox import WAIT_S, PostgresInbox
from tests.backends.postgres_schema import ask

LONG = 1500
FEW = 20
# Of each table the row itself, what was there before, and what comes next.
MOST = 8 * FEW

_READ = b"""SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint
    FROM pg_stat_xact_user_tables WHERE schemaname = %s
    AND relname = ANY ('{callbacks,requests,history}')"""


class Reader:
    """A session that carries out one thing after another, each in a transaction of its own."""

    def __init__(self, inbox: PostgresInbox) -> None:
        self._link = Link(inbox.backend._address)
        self._schema = inbox.backend._address.schema
        self.ahead_ns = 0
        self.operations = Operations(self._schema, lambda: time.time_ns() + self.ahead_ns)

    def close(self) -> None:
        self._link.drop()

    def do(self, message: Any, most: int = MOST) -> Any:
        """Carry out a message; the reply."""
        operation = OPERATIONS[type(message)]
        stored = storable(message.callback) if type(message) is Push else None
        return self.run(lambda: operation(self.operations, message, stored), most)

    def run(self, operation: Any, most: int = MOST) -> Any:
        connection = self._link.open()
        entering = (VERSION, "on", "60s", "{}", "{}")
        connection.execute("BEGIN")
        begin = self.operations.statement(transactions._BEGIN)
        connection.execute(begin, entering)
        self.operations.begun(connection, (), (), True)
        before = connection.execute(_READ, (self._schema,)).fetchone()
        reply = operation()
        after = connection.execute(_READ, (self._schema,)).fetchone()
        connection.execute("COMMIT")
        assert before is not None
        assert after is not None
        assert (after[0] or 0) - (before[0] or 0) <= most
        return reply


@pytest.fixture
def inbox() -> Iterator[PostgresInbox]:
    """The server has counted the rows of one queue. Those of the others it believes to be empty,
    and they are not."""
    with PostgresInbox() as inbox:
        inbox.do(CreateEndpoint(Endpoint.new(["a", "b"], 0, id="long")))
        fill(inbox, "e")
        ask(inbox.url, "ANALYZE callbacks, requests, history, queues, counts, endpoints")
        fill(inbox, "long")
        yield inbox


@pytest.fixture
def reader(inbox: PostgresInbox) -> Iterator[Reader]:
    reader = Reader(inbox)
    yield reader
    reader.close()


def fill(inbox: PostgresInbox, to: str, **more: Any) -> None:
    callbacks = [Callback.new(b"x", id=f"{number:05}", **more) for number in range(LONG)]
    for future in [inbox.send(Push(to, it, trusted=True)) for it in callbacks]:
        future.get(timeout=WAIT_S)


def test_claims_read_what_they_claim(inbox: PostgresInbox, reader: Reader) -> None:
    """And so does what becomes of them, again and again, however much else is due some time."""
    ask(inbox.url, f"UPDATE callbacks SET held = 1, due = {1 << 62} WHERE position <= {LONG}")
    for _ in range(8):
        claims = reader.do(ClaimSlice("long", None, FEW)).claims
        assert len(claims) == FEW
        terms = reader.operations._terms(ClaimSlice("long", None))
        acks = [Ack("long", claim.key, claim.token) for claim in claims[:-4]]
        shot = reader.operations.ack_shot(acks, terms)
        assert shot is not None
        reader.run(lambda it=shot: reader.operations._fire(it))
        keys = [(claim.key, claim.token) for claim in claims[-4:]]
        reader.do(Ack("long", *keys[0], "b"), 20)
        reader.do(Nack("long", *keys[1], 60), 20)
        reader.do(Extend("long", *keys[2], 60), 20)
        reader.do(Release("long", *keys[3]), 20)
    [claim] = reader.do(ClaimSlice("long", "b", 1), 30).claims
    assert claim.key


def test_what_leaves_is_found_by_its_place(reader: Reader) -> None:
    """Popped, moved, expired, one by one or many at once."""
    for turn in range(8):
        assert len(reader.do(PopSlice("long", limit=FEW))) == FEW
        assert reader.do(Pop("long"), 20) is not None
        assert reader.do(UpdatePhase("long", f"{LONG - 1 - turn:05}", "b"), 20).phase == "b"


def test_pages_read_what_they_show(reader: Reader) -> None:
    """From both ends, from the middle, and of what was."""
    for _ in range(8):
        assert len(reader.do(FetchSlice("long", limit=FEW))) == FEW
        assert len(reader.do(FetchSlice("long", "a", limit=FEW))) == FEW
        assert len(reader.do(FetchReverse("long", limit=FEW))) == FEW
        page = reader.do(DumpPage("long", limit=FEW))
        assert len(reader.do(DumpPage("long", after=page.cursor, limit=FEW)).callbacks) == FEW
        assert len(reader.do(PastPage("long", after=page.cursor, limit=FEW)).callbacks) == FEW
        assert len(reader.do(HistoryPage("long", 0, FEW)).records) == FEW
        assert reader.do(Fetch("long"), 20).id == "00000"
        assert reader.do(Fetch("long", "00700"), 20).id == "00700"
        assert len(reader.do(History("long", "00700"), 20)) == 1
        assert reader.do(Children("long", "00700"), 20) == []


def test_counts_read_no_rows(reader: Reader) -> None:
    """Unless something has expired."""
    for _ in range(8):
        assert reader.do(Count("long"), 20) == LONG
        assert reader.do(Count("long", "a"), 20) == LONG
        assert reader.do(Stats("long"), 20).queued == LONG


def test_pushes_look_for_their_ids(inbox: PostgresInbox, reader: Reader) -> None:
    """One by one or many at once, whether they are there or not."""
    terms = reader.operations._terms
    for turn in range(8):
        pairs = []
        for number in range(FEW):
            id = f"{turn}-{number}" if number % 2 else f"{number:05}"
            push = Push("long", Callback.new(b"x", id=id, fence=f"f{id}"), trusted=True)
            pairs.append((push, storable(push.callback)))

        def push_all(pairs: Any = pairs) -> list[Any]:
            shot = reader.operations.push_shot(pairs, lambda message: terms(message), False)
            assert shot is not None
            return reader.operations._fire(shot)

        outcomes = [str(result.outcome) for result in reader.run(push_all)]
        assert outcomes == ["duplicate", "queued"] * (FEW // 2)


def test_of_an_ordering_key_the_next_is_looked_for(inbox: PostgresInbox, reader: Reader) -> None:
    """Not among all that wait."""
    inbox.do(CreateEndpoint(Endpoint.new(["a", "b"], 0, id="ordered")))
    futures = []
    for number in range(LONG):
        callback = Callback.new(b"x", id=f"{number:05}", ordering_key=f"{number % (LONG // 2)}")
        futures.append(inbox.send(Push("ordered", callback, trusted=True)))
    for future in futures:
        future.get(timeout=WAIT_S)
    for _ in range(8):
        [claim] = reader.do(ClaimSlice("ordered", None), 20).claims
        reader.do(Ack("ordered", claim.key, claim.token), 20)
        assert reader.do(Pop("ordered"), 20) is not None


def test_what_is_due_is_forgotten_by_its_place(
    inbox: PostgresInbox, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many at once, and of a queue that was dropped too."""
    monkeypatch.setattr(operations, "_CLEAR_AT_ONCE", FEW)
    inbox.do(CreateEndpoint(Endpoint.new(["a"], 60_000, id="brief", keep_for=1e5, dedup_for=2e5)))
    fill(inbox, "brief")
    reader.ahead_ns = 120 * 10**9
    for _ in range(8):
        assert reader.do(Sweep(FEW)) == FEW
    reader.do(DeleteEndpoint("long"), 20)
    for _ in range(8):
        assert reader.do(Sweep(FEW)) == FEW
    reader.ahead_ns = 150_000 * 10**9
    positions = ask(inbox.url, "SELECT position FROM callbacks WHERE gone IS NOT NULL")
    assert len(positions) == 16 * FEW
    for ahead in (150_000, 250_000):
        reader.ahead_ns = ahead * 10**9
        for _ in range(8):
            reader.run(lambda: reader.operations.forget(FEW))
    left = "SELECT count(*) FROM callbacks WHERE gone IS NOT NULL"
    assert ask(inbox.url, left) == [(8 * FEW,)]
