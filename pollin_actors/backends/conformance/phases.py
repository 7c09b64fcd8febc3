"""Checks of phases: counted, refused, changed, removed from the endpoint."""

from __future__ import annotations

from typing import Any

from pollin_actors.backends.conformance.probe import (
    SECOND,
    Check,
    NewStore,
    Probe,
    expect,
    refuses,
)
from pollin_actors.errors import CallbackNotFound, InvalidValue, PhaseConflict, UnknownPhase
from pollin_actors.messages import (
    Count,
    DeleteCallback,
    DumpPage,
    Fetch,
    FetchReverse,
    FetchSlice,
    Pop,
    PopSlice,
    UpdateEndpoint,
    UpdatePhase,
)

__all__ = ["CHECKS"]


def phases_are_counted(new_store: NewStore) -> None:
    """Count says how many are queued, or are in a phase; it follows every change."""
    with Probe(new_store) as probe:
        probe.push("a", "b", "c", "d", "e")
        for key in ("d", "b"):
            probe.do(UpdatePhase("orders", key, "processed"))
        probe.do(Pop("orders", "b"))
        probe.do(DeleteCallback("orders", "a"))
        counts = [probe.do(Count("orders", phase)) for phase in (None, "received", "processed")]
        expect(counts, [3, 2, 1], "the counts")


def unknown_phases_are_refused(new_store: NewStore) -> None:
    """A filter by a phase that the endpoint does not have raises UnknownPhase."""
    with Probe(new_store) as probe:
        for kind in (Count, FetchSlice, FetchReverse, PopSlice):
            for phase in ("gone", "", "\ud800"):
                message = kind("orders", phase)
                refuses(UnknownPhase, probe.do, message)
            expect(probe.do(kind("orders", "processed")) or 0, 0, "a phase that nothing is in")


def phases_are_changed(new_store: NewStore) -> None:
    """UpdatePhase answers the changed callback, which keeps its place."""
    with Probe(new_store) as probe:
        probe.push("a", "b")
        before = probe.do(Fetch("orders"))
        changed = probe.do(UpdatePhase("orders", "a", "processed"))
        expect(changed, before.with_phase("processed"), "the reply")
        expect(probe.do(Fetch("orders")), changed, "what is stored")
        expect(probe.do(UpdatePhase("orders", "a", "processed")), changed, "the same again")
        for key in ("a", "c"):
            refuses(UnknownPhase, probe.do, UpdatePhase("orders", key, "gone"))
        missing = UpdatePhase("orders", "c", "received")
        refuses(CallbackNotFound, probe.do, missing)
        nothing: Any = None
        refuses(CallbackNotFound, probe.do, UpdatePhase("orders", nothing, "received"))
        expect(probe.do(Fetch("orders")), changed, "the oldest, which no key does not mean")
        probe.holds("a b")


def phase_changes_may_expect_a_phase(new_store: NewStore) -> None:
    """UpdatePhase with expect changes a callback that is in that phase; else PhaseConflict says
    which it is in, and nothing is changed. What does not exist is said before."""
    with Probe(new_store) as probe:
        probe.push("a")
        moved = UpdatePhase("orders", "a", "processed", "received")
        expect(probe.do(moved).phase, "processed", "the phase in the reply")
        error = refuses(PhaseConflict, probe.do, moved)
        told = (error.endpoint_id, error.callback_id, error.expected, error.phase)
        expect(told, ("orders", "a", "received", "processed"), "what the error says")
        for expected in ("", "gone", "Processed"):
            back = UpdatePhase("orders", "a", "received", expected)
            refuses(PhaseConflict, probe.do, back)
        expect(probe.do(Fetch("orders")).phase, "processed", "the phase that is stored")
        same = UpdatePhase("orders", "a", "processed", "processed")
        expect(probe.do(same).phase, "processed", "the phase of one that stays")
        refuses(UnknownPhase, probe.do, UpdatePhase("orders", "a", "gone", "received"))
        refuses(CallbackNotFound, probe.do, UpdatePhase("orders", "b", "received", "gone"))
        odd: Any = 5
        refuses(InvalidValue, probe.do, UpdatePhase("orders", "a", "received", odd))


def phase_changes_keep_the_time(new_store: NewStore) -> None:
    """UpdatePhase changes neither the expiry nor how long the id is remembered."""
    for phase in ("processed", "received"):
        with Probe(new_store) as probe:
            probe.push("a")
            probe.now += SECOND - 1
            probe.do(UpdatePhase("orders", "a", phase))
            probe.holds("a")
            probe.now += 1
            probe.holds("")
            probe.now += 9 * SECOND - 1
            expect(probe.push("a"), ["duplicate"], "the outcome at the last moment of dedup_for")
            probe.now += 1
            expect(probe.push("a"), ["queued"], "the outcome after dedup_for")


def phases_that_went_are_seen(new_store: NewStore) -> None:
    """What is in a phase that UpdateEndpoint removed is read and popped like everything else."""
    with Probe(new_store) as probe:
        probe.push("a", "b", "c", phase="processed")
        probe.do(UpdateEndpoint(probe.endpoint.replace(phases=("new",))))
        probe.push("d")
        probe.holds("a b c d")
        expect(probe.ids(FetchReverse("orders")), "d c b a", "what is fetched in reverse")
        first = probe.do(DumpPage("orders", None, 2))
        rest = probe.do(DumpPage("orders", first.cursor))
        pages = [[c.id for c in page.callbacks] for page in (first, rest)]
        expect(pages, [["a", "b"], ["c", "d"]], "the pages of a dump")
        expect(probe.do(Fetch("orders", "b")).phase, "processed", "the phase of one of them")
        expect(probe.do(Pop("orders")).id, "a", "what is popped")
        expect(probe.ids(PopSlice("orders", None, 0, 1)), "b", "the slice that is popped")
        expect(probe.ids(PopSlice("orders", "processed")), "c", "the slice of the phase")
        probe.holds("d")


def phases_that_went_can_be_left(new_store: NewStore) -> None:
    """UpdatePhase takes a callback out of a phase that UpdateEndpoint removed."""
    with Probe(new_store) as probe:
        probe.push("a", "b")
        probe.do(UpdateEndpoint(probe.endpoint.replace(phases=("new",))))
        changed = probe.do(UpdatePhase("orders", "a", "new"))
        expect((changed.id, changed.phase), ("a", "new"), "the reply")
        expect(probe.ids(FetchSlice("orders", "new")), "a", "the slice of the new phase")
        expect(probe.ids(FetchSlice("orders", "received")), "b", "the slice of the one that went")
        probe.holds("a b")


CHECKS: tuple[Check, ...] = (
    phases_are_counted,
    unknown_phases_are_refused,
    phases_are_changed,
    phase_changes_may_expect_a_phase,
    phase_changes_keep_the_time,
    phases_that_went_are_seen,
    phases_that_went_can_be_left,
)
