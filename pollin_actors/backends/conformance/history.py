"""Checks of the records of what has happened: each change has one, and they are read in order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pollin_actors.backends.conformance.probe import (
    SECOND,
    Check,
    NewStore,
    Probe,
    at_once,
    expect,
)
from pollin_actors.backends.interface import Backend
from pollin_actors.errors import PollinError
from pollin_actors.messages import (
    Ack,
    ClaimSlice,
    Consume,
    CreateEndpoint,
    DeleteCallback,
    DeleteEndpoint,
    Extend,
    Fetch,
    History,
    HistoryPage,
    Nack,
    Pop,
    PopSlice,
    Push,
    Release,
    Reset,
    Stats,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.records import EndpointStats, Kind, Record, RecordPage
from pollin_actors.resources import Callback

__all__ = ["CHECKS"]

Act = Callable[[Probe], object]

# What is done to `a`, and the record of it: kind, phases, who, which attempt, why.
CHANGES: dict[str, tuple[Act, tuple[Any, ...]]] = {
    "Pop": (
        lambda probe: probe.do(Pop("orders")),
        (Kind.POPPED, "received", None, "", 0, ""),
    ),
    "PopSlice": (
        lambda probe: probe.do(PopSlice("orders", "received")),
        (Kind.POPPED, "received", None, "", 0, ""),
    ),
    "DeleteCallback": (
        lambda probe: probe.do(DeleteCallback("orders", "a")),
        (Kind.DELETED, "received", None, "", 0, ""),
    ),
    "UpdatePhase": (
        lambda probe: probe.do(UpdatePhase("orders", "a", "processed")),
        (Kind.MOVED, "received", "processed", "", 0, ""),
    ),
}

# The same for what is done with a claim, the second one.
ENDS: dict[str, tuple[Callable[[str], Any], tuple[Any, ...]]] = {
    "Ack": (
        lambda token: Ack("orders", "a", token),
        (Kind.ACKNOWLEDGED, "received", None, "w", 2, ""),
    ),
    "Ack into a phase": (
        lambda token: Ack("orders", "a", token, "processed", False, "done"),
        (Kind.ACKNOWLEDGED, "received", "processed", "w", 2, "done"),
    ),
    "Ack that discards": (
        lambda token: Ack("orders", "a", token, None, True, "unwanted"),
        (Kind.DISCARDED, "received", None, "w", 2, "unwanted"),
    ),
    "Nack": (
        lambda token: Nack("orders", "a", token, 1.0, "why \u2603"),
        (Kind.FAILED, "received", "received", "w", 2, "why \u2603"),
    ),
    "Nack for the last time": (
        lambda token: Nack("orders", "a", token, 1.0, "why", "processed"),
        (Kind.DEAD, "received", "processed", "w", 2, "why"),
    ),
    "Release": (
        lambda token: Release("orders", "a", token),
        (Kind.RELEASED, "received", "received", "w", 2, ""),
    ),
    "UpdatePhase": (
        lambda token: UpdatePhase("orders", "a", "processed"),
        (Kind.MOVED, "received", "processed", "", 0, ""),
    ),
    "DeleteCallback": (
        lambda token: DeleteCallback("orders", "a"),
        (Kind.DELETED, "received", None, "", 0, ""),
    ),
}


def _told(record: Record) -> tuple[Any, ...]:
    return (
        record.kind,
        record.from_phase,
        record.to_phase,
        record.by,
        record.attempt,
        record.reason,
    )


def changes_have_records(new_store: NewStore) -> None:
    """Every change of a callback has one record: what, whose, from where to where, and when."""
    for name, (act, expected) in CHANGES.items():
        with Probe(new_store) as probe:
            probe.push("a")
            probe.now += 5
            act(probe)
            pushed, record = probe.records(count=2)
            expect(type(record), Record, "the type of a record")
            first = (Kind.PUSHED, None, "received", "", 0, "")
            expect(_told(pushed), first, "the record of the push")
            expect(_told(record), expected, f"the record of {name}")
            whose = (record.endpoint_id, record.callback_id, record.at)
            expect(whose, ("orders", "a", probe.now), f"whose it is and when, of {name}")
            expect((pushed.at, pushed.callback_id), (probe.now - 5, "a"), "when, and whose")


def claims_have_records(new_store: NewStore) -> None:
    """So does a claim, and what ends it: with who had it, which attempt it was, and the reason."""
    for name, (end, expected) in ENDS.items():
        with Probe(new_store) as probe:
            probe.push("a")
            probe.do(Nack("orders", "a", probe.take("a").token))
            token = probe.take("a").token
            probe.do(end(token))
            records = probe.records(count=5)
            claimed = (Kind.CLAIMED, "received", "received", "w", 2, "")
            expect(_told(records[-2]), claimed, "the record of the claim")
            expect(_told(records[-1]), expected, f"the record of {name}")


def lapses_have_records(new_store: NewStore) -> None:
    """A lease that ran out has a record once the callback is taken again: who had it."""
    for take, last in ((lambda probe: probe.claim(), "claimed"), (CHANGES["Pop"][0], "popped")):
        with Probe(new_store, ttl=0) as probe:
            probe.push("a")
            probe.do(ClaimSlice("orders", "received", 1, 1.0, "early"))
            probe.now += SECOND
            take(probe)
            records = probe.records(count=4)
            expected = (Kind.LAPSED, "received", "received", "early", 1, "")
            expect(_told(records[2]), expected, "the record of the lapse")
            expect(probe.kinds("a"), f"pushed claimed lapsed {last}", "what happened")


def expiries_have_records(new_store: NewStore) -> None:
    """What has expired has a record of it, at the latest once it was swept."""
    with Probe(new_store) as probe:
        probe.push("a")
        probe.do(UpdatePhase("orders", "a", "processed"))
        probe.push("b")
        probe.now += SECOND
        probe.sweep()
        expect(_told(probe.do(History("orders", "a"))[-1])[:3], ("expired", "processed", None), "a")
        expect(_told(probe.do(History("orders", "b"))[-1])[3:], ("", 0, ""), "the rest of b")
        expect([probe.kinds(id) for id in "ab"], ["pushed moved expired", "pushed expired"], "all")


def expiries_come_before_what_follows(new_store: NewStore) -> None:
    """If the id is pushed again, the record that the one before has expired comes first: who
    follows the records would think that the new one has expired."""
    with Probe(new_store, dedup_for=0) as probe:
        probe.push("a")
        probe.now += SECOND
        probe.push("a")
        probe.sweep()
        expect(probe.kinds("a"), "pushed expired pushed", "what happened")


def resets_leave_one_record(new_store: NewStore) -> None:
    """Reset forgets all records, and leaves one of itself, which has no callback."""
    with Probe(new_store) as probe:
        probe.push("a", "b")
        probe.do(Pop("orders"))
        last = probe.records()[-1].position
        probe.do(Reset("orders"))
        (record,) = probe.records(count=1)
        expect((record.callback_id, *_told(record)), ("", Kind.RESET, None, None, "", 0, ""), "it")
        expect((record.endpoint_id, record.at), ("orders", probe.now), "where and when")
        expect(record.position > last, True, "whether its position is behind those before")
        expect(probe.kinds("a"), "", "what happened to what was there")
        probe.push("a")
        expect(len(probe.records()), 2, "how many records there are after another push")


def nothing_else_has_records(new_store: NewStore) -> None:
    """What changes no callback has no record: reads, refusals, extensions, updates."""
    with Probe(new_store, capacity=2) as probe:
        probe.push("a", "b")
        token = probe.take("a").token
        before = probe.records()
        callback = Callback.new(b"x", id="c", phase="gone")
        for message in (
            Fetch("orders"),
            ClaimSlice("orders", "processed"),
            ClaimSlice("orders", "received", 0),
            Extend("orders", "a", token),
            UpdatePhase("orders", "b", "received"),
            UpdatePhase("orders", "b", "processed", "gone"),
            UpdatePhase("orders", "b", "gone"),
            DeleteCallback("orders", "none"),
            Pop("orders", "a"),
            PopSlice("orders", None, 1),
            Push("orders", callback, trusted=True),
            Push("orders", callback.replace(phase=""), "wrong"),
            Push("orders", callback.replace(phase=""), trusted=True),
            Ack("orders", "b", token),
            Nack("orders", "a", token, 0.0, "", "gone"),
            Release("orders", "a", "wrong"),
            UpdateEndpoint(probe.endpoint.replace(ttl=5)),
            Consume("orders", "received"),
        ):
            with suppress(PollinError):
                probe.do(message)
            expect(probe.records(), before, f"the records after {message!r}")


def histories_are_of_an_id(new_store: NewStore) -> None:
    """History answers the records of the callbacks of that id, oldest first, or none."""
    with Probe(new_store, ttl=0, dedup_for=0) as probe:
        probe.push("a", "A", "b")
        probe.do(Pop("orders"))
        probe.push("a")
        expect(probe.kinds("a"), "pushed popped pushed", "what happened to one")
        expect(probe.kinds("A"), "pushed", "what happened to another")
        expect([probe.kinds(key) for key in ("none", "", "\ud800")], ["", "", ""], "to no others")
        found = probe.do(History("orders", "a"))
        expect([r for r in probe.records() if r.callback_id == "a"], found, "among all records")


def positions_ascend(new_store: NewStore) -> None:
    """Positions ascend from above 0; none is given out twice, not even after a reset or to an
    endpoint that is created again."""
    with Probe(new_store) as probe:
        last = 0
        for act in (None, Reset("orders"), DeleteEndpoint("orders"), None):
            if act is not None:
                probe.do(act)
            if isinstance(act, DeleteEndpoint):
                probe.do(CreateEndpoint(probe.endpoint))
                expect(probe.records(), [], "the records of an endpoint that is created again")
            probe.push(f"x{last}", "y")
            probe.do(Pop("orders"))
            positions = [record.position for record in probe.records(last)]
            expect(len(positions) >= 2, True, f"whether {positions} are all of them")
            ascending = all(x < y for x, y in zip([last, *positions], positions, strict=False))
            expect(ascending, True, f"whether {positions} ascend from {last}")
            last = positions[-1]


def pages_go_on_from_a_position(new_store: NewStore) -> None:
    """HistoryPage answers at most limit records behind a position; the cursor is the last one's,
    or what was asked for where there is nothing."""
    with Probe(new_store) as probe:
        empty = probe.do(HistoryPage("orders"))
        expect((type(empty), empty), (RecordPage, ([], 0)), "the first page of nothing")
        probe.push(*map(str, range(10)))
        records = probe.records()
        after, found = 0, []
        for size in (4, 4, 2, 0):
            page = probe.do(HistoryPage("orders", after, 4))
            expect(len(page.records), size, "the length of a page")
            found += page.records
            after = page.cursor
            expect(after, found[-1].position, "the cursor")
        expect(found, records, "all pages together")
        far = 10**30
        expect(probe.do(HistoryPage("orders", far)), ([], far), "a page behind the end")
        probe.push("new")
        page = probe.do(HistoryPage("orders", after))
        expect([item.callback_id for item in page.records], ["new"], "the page after another push")


def pages_may_be_of_some_kinds(new_store: NewStore) -> None:
    """With kinds only those records come; the cursor may pass over others, and loses nothing."""
    with Probe(new_store) as probe:
        for number in range(6):
            probe.push(str(number))
            key = str(number)
            moved = UpdatePhase("orders", key, "processed")
            probe.do(Pop("orders", key) if number % 2 else moved)
        every = probe.records()
        for kinds in ({Kind.POPPED}, {Kind.PUSHED, Kind.POPPED}, {Kind.DEAD}, set(), None):
            wanted = None if kinds is None else frozenset(kinds)
            expected = [item for item in every if wanted is None or item.kind in wanted]
            after, found = 0, []
            for _ in range(30):
                page = probe.do(HistoryPage("orders", after, 2, wanted))
                expect(len(page.records) <= 2, True, "whether the limit is kept")
                found += page.records
                if page.records:
                    given = page.records[-1].position
                    expect(page.cursor >= given, True, "whether the cursor is behind what it gave")
                if page.cursor == after:
                    break
                expect(after < page.cursor <= every[-1].position, True, "whether it goes on")
                after = page.cursor
            expect(found, expected, f"the records of {kinds}")


def histories_are_the_endpoints_own(new_store: NewStore) -> None:
    """Neither records nor positions of one endpoint are seen at another."""
    with Probe(new_store) as probe:
        probe.do(CreateEndpoint(probe.endpoint.replace(id="other")))
        probe.push("a")
        probe.push("a", to="other")
        probe.do(Reset("orders"))
        found = probe.do(HistoryPage("other")).records
        expect(len(found), 1, "how many records there are")
        record = found[0]
        expect((record.endpoint_id, record.kind), ("other", Kind.PUSHED), "the record")
        expect(probe.do(History("other", "a")), [record], "the history")


def endpoints_say_how_they_stand(new_store: NewStore) -> None:
    """Stats counts what is queued, its size, what is claimed and delayed, and what has expired."""
    with Probe(new_store) as probe:
        zero = EndpointStats(0, 0, 0, 0, 0)
        stats = probe.do(Stats("orders"))
        expect((type(stats), stats), (EndpointStats, zero), "an empty endpoint")
        probe.push("a", "b", "c", request=b"1234")
        probe.do(Nack("orders", "a", probe.take("a").token, 5.0))
        claim = probe.take("b")
        expect(probe.do(Stats("orders")), EndpointStats(3, 12, 1, 1, 0), "how it stands")
        probe.do(Ack("orders", "b", claim.token, "processed"))
        expect(probe.do(Stats("orders")), EndpointStats(3, 12, 0, 1, 0), "how it stands")
        probe.now += SECOND
        probe.sweep()
        expect(probe.do(Stats("orders")), EndpointStats(0, 0, 0, 0, 3), "all have expired")
        probe.push("d")
        probe.do(Pop("orders"))
        expect(probe.do(Stats("orders")).expired, 3, "how many have expired")
        probe.do(Reset("orders"))
        expect(probe.do(Stats("orders")), zero, "after a reset")


def threads_leave_no_gap(new_store: NewStore) -> None:
    """Who follows the records while threads write finds each once: none comes before a cursor."""
    with Probe(new_store, ttl=0) as probe:
        _follow(probe, [probe.backend] * 4)


def handles_leave_no_gap(new_store: NewStore) -> None:
    """shared: nor while several handles write, read through a handle of its own."""
    with Probe(new_store, ttl=0) as probe:
        if not probe.backend.shared:
            return
        handles = [probe.open() for _ in range(3)]
        try:
            _follow(probe, [probe.backend, *handles])
        finally:
            for handle in handles:
                handle.close()


def _follow(probe: Probe, backends: list[Backend], turns: int = 40) -> None:
    """The first reads, the others push and pop; compare what was read with what is there."""
    found: list[Record] = []
    writers = len(backends) - 1

    def work(number: int) -> None:
        backend = backends[number]
        if number == 0:
            after = 0
            while True:
                finished = all(done)  # before reading: what is read then is all there is
                page = probe.do(HistoryPage("orders", after, 7), backend)
                found.extend(page.records)
                after = page.cursor
                if finished and not page.records:
                    return
        try:
            for turn in range(turns):
                callback = Callback.new(b"x", id=f"{number}-{turn}")
                probe.do(Push("orders", callback, trusted=True), backend)
                probe.do(Pop("orders", callback.id), backend)
        finally:
            done[number - 1] = True

    done = [False] * writers
    at_once(work, len(backends))
    expect(len(probe.records()), 2 * turns * writers, "how many records there are")
    expect(found == probe.records(), True, "whether the reader found just these")


def restarts_keep_history(new_store: NewStore) -> None:
    """durable: records and what has expired are there after a restart; positions go on."""
    with Probe(new_store) as probe:
        if not probe.backend.durable:
            return
        probe.push("a", "b")
        probe.do(Nack("orders", "a", probe.take("a").token, 0.0, "why"))
        probe.do(Pop("orders", "a"))
        probe.now += SECOND
        probe.sweep()
        before = probe.records()
        probe.reopen()
        expect(probe.records(), before, "the records")
        expect(probe.do(Stats("orders")).expired, 1, "how many have expired")
        probe.push("c")
        (new,) = probe.records(before[-1].position, 1)
        expect(new.callback_id, "c", "the next record")


CHECKS: tuple[Check, ...] = (
    changes_have_records,
    claims_have_records,
    lapses_have_records,
    expiries_have_records,
    expiries_come_before_what_follows,
    resets_leave_one_record,
    nothing_else_has_records,
    histories_are_of_an_id,
    positions_ascend,
    pages_go_on_from_a_position,
    pages_may_be_of_some_kinds,
    histories_are_the_endpoints_own,
    endpoints_say_how_they_stand,
    threads_leave_no_gap,
    handles_leave_no_gap,
    restarts_keep_history,
)
