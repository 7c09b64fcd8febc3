"""Several handles on one schema, as on several machines, all at work at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from pollin_actors.backends.conformance.probe import at_once
from pollin_actors.backends.postgres import PostgresBackend
from pollin_actors.errors import CursorConflict, EndpointExists, EndpointNotFound, Full
from pollin_actors.messages import (
    Ack,
    ClaimSlice,
    Count,
    CreateEndpoint,
    DeleteEndpoint,
    FindCursor,
    HistoryPage,
    MoveCursor,
    Nack,
    Pop,
    Push,
    Stats,
    Sweep,
    UpdatePhase,
)
from pollin_actors.records import Kind, Record
from pollin_actors.resources import Callback, Endpoint
from tests.backends.postgres_inbox import PostgresInbox
from tests.backends.postgres_schema import schema_of
from tests.servers import postgres

HANDLES = 4


@pytest.fixture
def inbox() -> Iterator[PostgresInbox]:
    with PostgresInbox() as inbox:
        for _ in range(HANDLES - 1):
            inbox.open()
        yield inbox


def test_nobody_claims_what_another_has(inbox: PostgresInbox) -> None:
    """Each of 400 callbacks is claimed and acknowledged once, whoever comes first."""
    for future in [inbox.push(f"c{number}") for number in range(400)]:
        future.get(timeout=60)
    taken: list[list[str]] = [[] for _ in range(HANDLES)]

    def work(number: int) -> None:
        backend = inbox.handles[number]
        while claims := inbox.do(ClaimSlice("e", None, 7), backend).claims:
            taken[number] += [claim.key for claim in claims]
            for future in [
                inbox.send(Ack("e", claim.key, claim.token), backend) for claim in claims
            ]:
                assert future.get(timeout=60) is None

    at_once(work, HANDLES)
    assert Counter(id for ids in taken for id in ids) == {f"c{n}": 1 for n in range(400)}


def test_what_a_stranger_has_locked_is_passed_over(inbox: PostgresInbox) -> None:
    """A person who looks at a row in a transaction holds up no claim of the others."""
    for id in ("a", "b", "c"):
        inbox.push(id).get(timeout=60)
    with psycopg.connect(postgres.server()) as connection:
        query = f"SELECT 1 FROM {schema_of(inbox.url)}.callbacks WHERE id = 'a' FOR UPDATE"
        connection.execute(query.encode())
        assert [it.key for it in inbox.do(ClaimSlice("e", None, 9)).claims] == ["b", "c"]
        connection.rollback()
    assert [it.key for it in inbox.do(ClaimSlice("e", None, 9)).claims] == ["a"]


def test_the_same_callback_is_queued_once(inbox: PostgresInbox) -> None:
    """Of several that push one id at the same time, one adds it; so with one fence."""
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()

    def push(number: int) -> None:
        for turn in range(50):
            id, fence = (f"i{turn}", None) if turn % 2 else (f"{number}-{turn}", f"f{turn}")
            callback = Callback.new(b"x", id=id, fence=fence)
            outcome = inbox.do(Push("e", callback, "s"), inbox.handles[number]).outcome
            with lock:
                outcomes[str(outcome)] += 1

    at_once(push, HANDLES)
    assert outcomes == {"queued": 50, "duplicate": 50 * (HANDLES - 1)}


def test_capacity_holds_with_many(inbox: PostgresInbox) -> None:
    """As many as there is room for are taken, and not one more."""
    inbox.do(CreateEndpoint(Endpoint.new(["a"], 0, id="full", capacity=30)))
    refused: list[Full] = []

    def push(number: int) -> None:
        for turn in range(15):
            try:
                inbox.push(f"{number}-{turn}", "full", inbox.handles[number]).get(timeout=60)
            except Full as error:
                refused.append(error)

    at_once(push, HANDLES)
    assert (inbox.do(Count("full")), len(refused)) == (30, 15 * HANDLES - 30)


def test_of_an_ordering_key_one_at_a_time(inbox: PostgresInbox) -> None:
    """While one is claimed nobody gets another, and they come in their order."""
    keys = ("k", "l", "m")
    for number in range(30):
        callback = Callback.new(b"x", id=f"{number:02}", ordering_key=keys[number % 3])
        inbox.do(Push("e", callback, "s"))
    working: Counter[str] = Counter()
    order: dict[str, list[str]] = {key: [] for key in keys}
    lock = threading.Lock()

    def work(number: int) -> None:
        backend = inbox.handles[number]
        while inbox.do(Stats("e"), backend).queued:
            for claim in inbox.do(ClaimSlice("e", None, 2), backend).claims:
                key = claim.callback.ordering_key or ""
                with lock:
                    working[key] += 1
                    assert working[key] == 1
                    order[key].append(claim.key)
                    working[key] -= 1
                inbox.do(Ack("e", claim.key, claim.token), backend)

    at_once(work, HANDLES)
    assert order == {key: [f"{n:02}" for n in range(i, 30, 3)] for i, key in enumerate(keys)}


def test_a_cursor_is_moved_by_one(inbox: PostgresInbox) -> None:
    """Of several who handle the same records, one succeeds each time."""

    def move(number: int) -> None:
        for turn in range(25):
            backend = inbox.handles[number]
            at = inbox.do(FindCursor("e", "x"), backend)
            callback = Callback.new(b"x", id=f"{number}-{turn}")
            try:
                inbox.do(MoveCursor("e", "x", at + 1, at, (callback,)), backend)
            except CursorConflict:
                continue

    at_once(move, HANDLES)
    assert inbox.do(FindCursor("e", "x")) == inbox.do(Count("e")) > 24


def test_history_never_shows_anything_late(inbox: PostgresInbox) -> None:
    """While many write, no record appears at or before a position that a reader has reached."""
    stop = threading.Event()
    seen: list[list[Record]] = [[], []]

    def write(number: int) -> None:
        backend = inbox.handles[number]
        for turn in range(40):
            futures = [inbox.push(f"{number}-{turn}-{n}", "e", backend) for n in range(5)]
            futures.append(inbox.send(ClaimSlice("e", "a", 3), backend))
            for claim in futures.pop().get(timeout=60).claims:
                how = turn % 3
                if how == 0:
                    message: object = Ack("e", claim.key, claim.token)
                elif how == 1:
                    message = Nack("e", claim.key, claim.token, 0, "why")
                else:
                    message = UpdatePhase("e", claim.key, "b")
                futures.append(inbox.send(message, backend))
            if turn % 4 == 0:
                futures += [inbox.send(Pop("e"), backend), inbox.send(Sweep(), backend)]
            for future in futures:
                future.get(timeout=60)

    def read(number: int, backend: PostgresBackend) -> None:
        after = 0
        while True:
            last = stop.is_set()
            page = inbox.do(HistoryPage("e", after, 50), backend)
            seen[number] += page.records
            after = page.cursor
            if last and not page.records:
                return

    readers = [
        threading.Thread(target=read, args=(number, inbox.open())) for number in range(len(seen))
    ]
    for reader in readers:
        reader.start()
    try:
        at_once(write, HANDLES)
    finally:
        stop.set()
        for reader in readers:
            reader.join(120)
    everything = inbox.do(HistoryPage("e", 0, 10**6)).records
    assert len(everything) > HANDLES * 40 * 5
    assert seen == [everything, everything]
    _make_sense(everything)


def _make_sense(records: list[Record]) -> None:
    """Each callback's records are in an order that can have been."""
    phases: dict[str, str | None] = {}
    for record in records:
        assert phases.get(record.callback_id) == record.from_phase
        assert (record.kind == Kind.PUSHED) is (record.callback_id not in phases)
        phases[record.callback_id] = record.to_phase


def test_endpoints_come_and_go(inbox: PostgresInbox) -> None:
    """Created and removed by all at once, with pushes in between: each call has its own answer."""

    def work(number: int) -> None:
        backend = inbox.handles[number]
        for turn in range(30):
            id = f"x{turn % 3}"
            messages = [
                CreateEndpoint(Endpoint.new(["a"], 0, id=id)),
                Push(id, Callback.new(b"x"), trusted=True),
                Pop(id),
                DeleteEndpoint(id),
                Sweep(),
            ]
            for future in [inbox.send(message, backend) for message in messages]:
                with suppress(EndpointExists, EndpointNotFound):
                    future.get(timeout=60)

    at_once(work, HANDLES)
