"""Checks of what is kept after it has left the queue: for how long, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pollin_actors.backends.conformance.probe import SECOND, Check, NewStore, Probe, expect, refuses
from pollin_actors.errors import CallbackNotFound, InvalidValue
from pollin_actors.messages import (
    Ack,
    Children,
    DeleteCallback,
    Fetch,
    History,
    HistoryPage,
    Nack,
    PastPage,
    Pop,
    PopSlice,
    Push,
    Reset,
    Sweep,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.resources import Callback, Page, Request

__all__ = ["CHECKS"]

Removal = Callable[[Probe], object]


def _expire(probe: Probe) -> None:
    probe.now = 10**18 + SECOND  # just then, so that it is swept at the time of its expiry
    probe.sweep()


REMOVALS: dict[str, Removal] = {
    "Pop": lambda probe: probe.do(Pop("orders")),
    "PopSlice": lambda probe: probe.do(PopSlice("orders")),
    "DeleteCallback": lambda probe: probe.do(DeleteCallback("orders", "a")),
    "Ack": lambda probe: probe.do(Ack("orders", "a", probe.take("a").token)),
    "Ack that discards": lambda probe: probe.do(
        Ack("orders", "a", probe.take("a").token, None, True)
    ),
    "its expiry": _expire,
}


def _past(probe: Probe, **bounds: Any) -> str:
    found: list[Callback] = []
    page = probe.do(PastPage("orders", **bounds))
    while page.cursor is not None:
        found += page.callbacks
        page = probe.do(PastPage("orders", page.cursor, **bounds))
    return " ".join(callback.id for callback in [*found, *page.callbacks])


def what_left_is_kept(new_store: NewStore) -> None:
    """A callback that has left the queue, in whichever way, is kept with its records for keep_for
    from then on; then a sweep forgets them."""
    for name, remove in REMOVALS.items():
        with Probe(new_store, keep_for=5) as probe:
            probe.push("a")
            probe.now += SECOND - 1
            remove(probe)
            before = probe.do(History("orders", "a"))
            probe.now += 5 * SECOND - 1
            probe.sweep()
            expect(probe.do(History("orders", "a")), before, f"its history after {name}")
            expect(_past(probe), "a", f"what is kept after {name}")
            expect(probe.ids(Children("orders", "a")), "", f"its children after {name}")
            probe.now += 1
            probe.sweep()
            expect(probe.do(History("orders", "a")), [], f"its history, long after {name}")
            expect(probe.records(), [], f"the records, long after {name}")
            expect(_past(probe), "", f"what is kept, long after {name}")
            refuses(CallbackNotFound, probe.do, Children("orders", "a"))
            child = Push("orders", Callback.new(b"x", id="b", parent="a"), trusted=True)
            refuses(CallbackNotFound, probe.do, child)


def what_is_kept_is_fetched(new_store: NewStore) -> None:
    """Fetch with kept finds by its id the last one that has left the queue, as it was then, unless
    one is queued; it finds no other, and none that was forgotten."""
    with Probe(new_store, ttl=0, keep_for=5, dedup_for=0) as probe:
        find = Fetch("orders", "a", True)
        expect(probe.do(find), None, "what was never pushed")
        for phase in ("received", "processed"):
            probe.push("a", phase=phase)
            probe.push("b")
            stored = probe.get("a")
            expect(stored.phase, phase, "the phase of one that is queued")
            expect(probe.do(find), stored, "the one that is queued")
            probe.do(PopSlice("orders"))
            expect(probe.do(find), stored, "the last that was popped")
        expect(probe.do(Fetch("orders", "a")), None, "one that is kept, where none is asked for")
        expect(probe.do(Fetch("orders", None, True)), None, "the oldest, which is always queued")
        expect(probe.do(Fetch("orders", "c", True)), None, "another")
        probe.now += 5 * SECOND
        probe.sweep()
        expect(probe.do(find), None, "what was forgotten")


def what_is_queued_is_not_forgotten(new_store: NewStore) -> None:
    """As long as it is queued, all its records are there, however old they are."""
    with Probe(new_store, ttl=0, keep_for=1) as probe:
        probe.push("a", "b")
        probe.do(UpdatePhase("orders", "a", "processed"))
        probe.do(Nack("orders", "b", probe.take("b", phase="received").token))
        probe.now += 10**17
        probe.sweep()
        expect(probe.kinds("a"), "pushed moved", "what happened to one")
        expect(probe.kinds("b"), "pushed claimed failed", "what happened to another")
        expect(_past(probe), "a b", "what there is")


def the_time_of_the_push_counts(new_store: NewStore) -> None:
    """A changed keep_for counts for later pushes."""
    for before, after in ((5, 1), (1, 5), (0, 5), (5, 0)):
        with Probe(new_store, ttl=0, keep_for=before) as probe:
            probe.push("a")
            probe.do(UpdateEndpoint(probe.endpoint.replace(keep_for=after)))
            probe.push("b")
            probe.do(PopSlice("orders"))
            for wait in (0, 1, 4):
                probe.now += wait * SECOND
                probe.sweep()
                passed = 5 if wait == 4 else wait
                kept = [id for id, keep in (("a", before), ("b", after)) if passed < keep]
                what = f"what is kept, {before} to {after}, after {passed} s"
                expect(_past(probe), " ".join(kept), what)
                known = [id for id in "ab" if probe.kinds(id)]
                expect(known, kept, f"what has a history, {before} to {after}, after {passed} s")


def nothing_is_kept_where_none_is_wanted(new_store: NewStore) -> None:
    """With keep_for 0 a callback has no records at all, and is gone with its removal."""
    for name, remove in REMOVALS.items():
        with Probe(new_store, keep_for=0) as probe:
            probe.push("a")
            expect(probe.records(), [], "the records while it is queued")
            expect(_past(probe), "a", "what there is while it is queued")
            expect(probe.ids(Children("orders", "a")), "", "its children")
            remove(probe)
            expect(probe.records(), [], f"the records after {name}")
            expect(_past(probe), "", f"what there is after {name}")
            refuses(CallbackNotFound, probe.do, Children("orders", "a"))
            expect(probe.push("a"), ["duplicate"], f"the outcome of its id after {name}")


def ids_and_callbacks_are_kept_apart(new_store: NewStore) -> None:
    """What is kept does not make a duplicate, and what is remembered is not kept for that."""
    with Probe(new_store, 0, 1.0, keep_for=60) as probe:
        probe.push("a")
        probe.do(Pop("orders"))
        probe.now += SECOND
        expect(probe.push("a"), ["queued"], "the outcome while one is kept")
        expect(probe.kinds("a"), "pushed popped pushed", "what happened")
        expect(_past(probe), "a a", "what there is")
        probe.now += 59 * SECOND
        probe.sweep()
        expect(probe.kinds("a"), "pushed", "what happened, once the first is forgotten")
    with Probe(new_store, 0, 60.0, keep_for=1) as probe:
        probe.push("a")
        probe.do(Pop("orders"))
        probe.now += SECOND
        probe.sweep()
        expect(probe.push("a"), ["duplicate"], "the outcome once it is forgotten")


def sweeps_forget_as_many_as_it_takes(new_store: NewStore) -> None:
    """Sweeps with a small limit forget all in the end, and answer only how many expired."""
    with Probe(new_store, ttl=0, keep_for=1) as probe:
        probe.push(*map(str, range(20)))
        probe.do(PopSlice("orders", limit=19))
        probe.now += SECOND
        swept = [probe.do(Sweep(2)) for _ in range(60)]
        expect(swept, [0] * 60, "how many have expired")
        expect([record.callback_id for record in probe.records()], ["19"], "whose records are left")
        expect(_past(probe), "19", "what there is")


def cursors_outlive_what_is_forgotten(new_store: NewStore) -> None:
    """Who has read to the end finds later records from there on, whatever was forgotten."""
    with Probe(new_store, ttl=0, keep_for=1) as probe:
        probe.push("a", "b")
        probe.do(PopSlice("orders"))
        end = probe.do(HistoryPage("orders")).cursor
        probe.now += SECOND
        probe.sweep()
        expect(probe.do(HistoryPage("orders", end)), ([], end), "the page at the end")
        probe.push("c")
        expect([item.callback_id for item in probe.records(end)], ["c"], "what follows")
        expect([item.callback_id for item in probe.records()], ["c"], "all there is")


def requests_are_kept(new_store: NewStore) -> None:
    """What is kept has its request, and the phase that it was in at last."""
    request = Request([("a", "1")], b"\0\xff")
    with Probe(new_store) as probe:
        callback = Callback("a", request, "", 5, ordering_key="k")
        probe.do(Push("orders", callback, trusted=True))
        probe.do(UpdatePhase("orders", "a", "processed"))
        probe.do(Pop("orders"))
        page = probe.do(PastPage("orders"))
        expect(type(page), Page, "the type of a page")
        expect(page, ([callback.with_phase("processed")], None), "the page")


def the_past_goes_page_by_page(new_store: NewStore) -> None:
    """PastPage answers what is queued and kept, each once, in the order of the pushes."""
    with Probe(new_store, ttl=0) as probe:
        names = [f"c{number}" for number in range(10)]
        probe.push(*names)
        for name in names[::3]:
            probe.do(Pop("orders", name))
        probe.do(UpdatePhase("orders", "c1", "processed"))
        expect(_past(probe), " ".join(names), "all there is")
        expect(_past(probe, limit=3), " ".join(names), "all there is, by threes")
        first = probe.do(PastPage("orders", None, 4))
        probe.do(Pop("orders", "c1"))
        probe.do(Pop("orders", "c5"))
        rest = probe.do(PastPage("orders", first.cursor))
        found = [*first.callbacks, *rest.callbacks]
        expect([item.id for item in found], names, "all there is, while more leave the queue")
        expect(probe.do(PastPage("orders", 10**30)), ([], None), "a page behind the end")
        probe.do(Reset("orders"))
        expect(_past(probe), "", "what there is after a reset")


def the_past_has_bounds(new_store: NewStore) -> None:
    """since and until bound created_at: from the one, to just before the other."""
    with Probe(new_store, ttl=0) as probe:
        for number in (5, 3, 9, 7, 1):
            probe.push(str(number), created_at=number)
        probe.do(Pop("orders", "9"))
        for bounds, ids in (
            ({"since": 3}, "5 3 9 7"),
            ({"until": 7}, "5 3 1"),
            ({"since": 3, "until": 9}, "5 3 7"),
            ({"since": 3, "until": 3}, ""),
            ({"since": 0, "until": 10**30}, "5 3 9 7 1"),
            ({"since": 10**30}, ""),
        ):
            for limit in (1, 500):
                expect(_past(probe, limit=limit, **bounds), ids, f"within {bounds}, by {limit}")


def odd_bounds_are_refused(new_store: NewStore) -> None:
    """after, limit, since and until must be ints in range: InvalidValue names the field."""
    odd: tuple[Any, ...] = (-1, True, 1.5, "1")
    with Probe(new_store) as probe:
        for field in ("after", "limit", "since", "until"):
            for value in (*odd, *((0, None) if field == "limit" else ())):
                error = refuses(InvalidValue, probe.do, PastPage("orders", **{field: value}))
                expect(error.name, f"PastPage.{field}", "the name in the error")


def restarts_keep_the_past(new_store: NewStore) -> None:
    """durable: what is kept is there after a restart, and is forgotten at its time."""
    with Probe(new_store, keep_for=5) as probe:
        if not probe.backend.durable:
            return
        probe.push("a", "b", "c")
        probe.do(PopSlice("orders", limit=2))
        probe.reopen()
        expect(_past(probe), "a b c", "what there is")
        probe.now += 5 * SECOND - 1
        probe.sweep()
        expect(_past(probe), "a b c", "what there is at the last moment")
        probe.now += 1
        probe.sweep()
        expect(_past(probe), "c", "what there is then")


CHECKS: tuple[Check, ...] = (
    what_left_is_kept,
    what_is_kept_is_fetched,
    what_is_queued_is_not_forgotten,
    the_time_of_the_push_counts,
    nothing_is_kept_where_none_is_wanted,
    ids_and_callbacks_are_kept_apart,
    sweeps_forget_as_many_as_it_takes,
    cursors_outlive_what_is_forgotten,
    requests_are_kept,
    the_past_goes_page_by_page,
    the_past_has_bounds,
    odd_bounds_are_refused,
    restarts_keep_the_past,
)
