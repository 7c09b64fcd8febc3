"""Checks of what is recorded of duplicates."""

from __future__ import annotations

from pollin_actors.backends.conformance.probe import (
    SECOND,
    Check,
    NewStore,
    Probe,
    expect,
    refuses,
)
from pollin_actors.errors import UnknownPhase
from pollin_actors.messages import (
    Ack,
    History,
    HistoryPage,
    MoveCursor,
    Pop,
    Push,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.records import MAX_REPEATS, Kind, Record
from pollin_actors.resources import Callback

__all__ = ["CHECKS"]


def _repeats(probe: Probe, key: str) -> list[Record]:
    """The records that say of an id that the same came again."""
    records: list[Record] = probe.do(History("orders", key))
    return [record for record in records if record.kind is Kind.REPEATED]


def _only_repeat(probe: Probe, key: str) -> Record:
    """The one record that says of an id that the same came again."""
    records = _repeats(probe, key)
    expect(len(records), 1, f"the number of records of repeats of {key!r}")
    return records[0]


def duplicates_are_recorded(new_store: NewStore) -> None:
    """A duplicate has one record, of the callback that is queued: with its phase, the time, and
    nobody's name, whoever has claimed it."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b")
        probe.do(UpdatePhase("orders", "a", "processed"))
        probe.take("a")
        before = probe.records()
        probe.now += 5
        probe.push("a")
        record = probe.records(before[-1].position, 1)[0]
        phase = "processed"
        expected = ("orders", "a", Kind.REPEATED, phase, phase, probe.now, "", 0, "")
        expect(record[1:], expected, "the record")
        expect(type(record.kind), Kind, "the type of its kind")
        expect(probe.get("a").attempts, 1, "the attempts")
        probe.push("b", "b", "c")
        expect(probe.kinds("b"), "pushed repeated repeated", "what happened to another")
        found = probe.do(HistoryPage("orders", kinds=frozenset({Kind.REPEATED}))).records
        expect([item.callback_id for item in found], ["a", "b", "b"], "whose records")
        positions = [item.position for item in probe.records()]
        expect(positions, sorted(set(positions)), "the positions")


def other_ids_are_told(new_store: NewStore) -> None:
    """Of what had the fence, and another id, the record names that id; it is of the callback with
    the fence, unless one with the id is queued."""
    with Probe(new_store) as probe:
        probe.push("a", fence="f")
        probe.push("b", fence="g")
        probe.push("other ä'\n", fence="f")
        record = _only_repeat(probe, "a")
        phase = "received"
        expected = (phase, phase, "another id, same fence: other ä'\n")
        expect((record.from_phase, record.to_phase, record.reason), expected, "the record")
        expect(_repeats(probe, "other ä'\n"), [], "records of the other id")
        probe.push("a", fence="g")
        probe.push("a", fence="f")
        expect([item.reason for item in _repeats(probe, "a")][1:], ["", ""], "the reasons")
        expect(_repeats(probe, "b"), [], "the records of the one with the fence")
        probe.do(Pop("orders"))
        probe.push("a", fence="g")
        record = _only_repeat(probe, "b")
        expect(record.reason, "another id, same fence: a", "the reason once the id is gone")


def what_is_kept_is_recorded(new_store: NewStore) -> None:
    """Of what has left the queue and is kept the record has no phases; it is of the last with that
    id, or else with that fence."""
    with Probe(new_store, keep_for=100.0) as probe:
        probe.push("a", "b", fence=None)
        probe.push("c", fence="f")
        for _ in range(3):
            probe.do(Pop("orders"))
        probe.push("a", "b", "b")
        probe.push("d", fence="f")
        probe.push("c", fence="g")
        for key, reasons in (
            ("a", [""]),
            ("b", ["", ""]),
            ("c", ["another id, same fence: d", ""]),
        ):
            records = _repeats(probe, key)
            expect([item.reason for item in records], reasons, f"the reasons of {key}")
            phases = {(item.from_phase, item.to_phase) for item in records}
            expect(phases, {(None, None)}, "the phases")
        expect(probe.kinds("a"), "pushed popped repeated", "what happened")
        probe.now += 10 * SECOND
        probe.push("a")
        claim = probe.take("a")
        probe.do(Ack("orders", "a", claim.token))
        probe.push("a")
        kinds = "pushed claimed acknowledged repeated"
        expect(probe.kinds("a"), f"pushed popped repeated {kinds}", "what happened")
        probe.now += 90 * SECOND
        probe.sweep()
        expect(probe.kinds("a"), kinds, "what happened to the one that is kept")


def what_has_expired_is_recorded_first(new_store: NewStore) -> None:
    """A duplicate of what has expired comes after its expiry, whether it was swept or not."""
    with Probe(new_store, keep_for=100.0) as probe:
        probe.push("a")
        probe.push("b", fence="f")
        probe.push("c", "d", ordering_key="k")
        probe.now += SECOND
        expect(probe.push("a"), ["duplicate"], "the outcome")
        expect(probe.push("n", fence="f"), ["duplicate"], "the outcome")
        expect(probe.push("c"), ["duplicate"], "the outcome")
        probe.sweep()
        for key in "abc":
            expect(probe.kinds(key), "pushed expired repeated", f"what happened to {key}")
            expect(_only_repeat(probe, key).to_phase, None, "the phase")


def repeats_are_bounded(new_store: NewStore) -> None:
    """At most MAX_REPEATS records of one callback say so; of the next one of its id as many."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b", fence=None)
        probe.push(*(["a"] * (MAX_REPEATS - 1)), "b")
        probe.do(UpdatePhase("orders", "a", "processed"))
        probe.do(Pop("orders", "a"))
        expect(probe.push("a", "a", "a"), ["duplicate"] * 3, "the outcomes")
        expect(len(_repeats(probe, "a")), MAX_REPEATS, "how many records")
        expect([item.to_phase for item in _repeats(probe, "a")][-1:], [None], "the last phase")
        probe.now += 10 * SECOND
        probe.push(*(["a"] * (MAX_REPEATS + 5)))
        expect(len(_repeats(probe, "a")), 2 * MAX_REPEATS, "how many records")
        expect(len(_repeats(probe, "b")), 1, "how many records of another")


def what_is_not_kept_has_no_repeats(new_store: NewStore) -> None:
    """Where there is no history, or none any more, a duplicate has no record."""
    with Probe(new_store, ttl=0, keep_for=2.0) as probe:
        probe.push("a", "b", fence=None)
        probe.do(Pop("orders"))
        probe.do(UpdateEndpoint(probe.endpoint.replace(keep_for=0)))
        probe.push("c", fence="f")
        probe.push("d", fence="g")
        before = probe.records()
        probe.do(Pop("orders", "d"))
        outcomes = probe.push("c", "d") + probe.push("e", fence="f") + probe.push("e", fence="g")
        expect(outcomes, ["duplicate"] * 4, "the outcomes")
        expect(probe.records(), before, "the records")
        probe.push("b")
        expect(probe.kinds("b"), "pushed repeated", "what happened to what has a history")
        probe.now += 2 * SECOND
        probe.sweep()
        expect(probe.push("a"), ["duplicate"], "the outcome")
        expect(probe.kinds("a"), "", "what happened to what is kept no longer")


def only_duplicates_are_repeats(new_store: NewStore) -> None:
    """A push that is refused has no record of that kind, and of a move that is refused none stays;
    in a move each is in its place."""
    with Probe(new_store) as probe:
        probe.push("a")
        before = probe.records()
        again = Callback.new(b"x", id="a")
        wrong = Push("orders", again.replace(phase="gone"), trusted=True)
        refuses(UnknownPhase, probe.do, wrong)
        move = MoveCursor("orders", "c", 1, 0, (again, again.replace(phase="gone")))
        refuses(UnknownPhase, probe.do, move)
        expect(probe.records(), before, "the records")
        new = Callback.new(b"x", id="b")
        probe.do(MoveCursor("orders", "c", 1, 0, (again, new, again, new)))
        found = [(item.callback_id, str(item.kind)) for item in probe.records(before[-1].position)]
        expected = [("a", "repeated"), ("b", "pushed"), ("a", "repeated"), ("b", "repeated")]
        expect(found, expected, "the records")


CHECKS: tuple[Check, ...] = (
    duplicates_are_recorded,
    other_ids_are_told,
    what_is_kept_is_recorded,
    what_has_expired_is_recorded_first,
    repeats_are_bounded,
    what_is_not_kept_has_no_repeats,
    only_duplicates_are_repeats,
)
