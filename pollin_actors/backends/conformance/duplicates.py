"""Checks of ids that come again: what is a duplicate, and for how long."""

from __future__ import annotations

from pollin_actors.backends.conformance.probe import (
    SECOND,
    Check,
    NewStore,
    Probe,
    expect,
    refuses,
)
from pollin_actors.errors import EndpointNotFound, UnknownPhase, WrongSecret
from pollin_actors.messages import (
    CreateEndpoint,
    DeleteCallback,
    Fetch,
    Pop,
    PopSlice,
    Push,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.resources import Callback, Endpoint, Outcome

__all__ = ["CHECKS"]


def queued_ids_are_duplicates(new_store: NewStore) -> None:
    """An id that is queued adds nothing, also without dedup_for; the reply has the queued one."""
    with Probe(new_store, ttl=0, dedup_for=0) as probe:
        probe.push("a")
        probe.do(UpdatePhase("orders", "a", "processed"))
        stored, outcome = probe.do(Push("orders", Callback.new(b"y", id="a"), trusted=True))
        expect(outcome, Outcome.DUPLICATE, "the outcome")
        expect((stored.request, stored.phase), (b"x", "processed"), "the callback in the reply")
        probe.holds("a")
        probe.do(Pop("orders"))
        expect(probe.push("a"), ["queued"], "the outcome once it was popped")


def removed_ids_are_remembered(new_store: NewStore) -> None:
    """An id stays known for dedup_for after its push, however it was removed, and no longer."""
    removals = (Pop("orders"), Pop("orders", "a"), DeleteCallback("orders", "a"))
    for removal in (*removals, PopSlice("orders")):
        with Probe(new_store) as probe:
            name = type(removal).__name__
            probe.push("a")
            probe.do(removal)
            again = Callback.new(b"y", id="a")
            reply = probe.do(Push("orders", again, trusted=True))
            expect(reply, (again, Outcome.DUPLICATE), f"the reply after {name}")
            probe.now += 10 * SECOND - 1
            expect(probe.push("a"), ["duplicate"], f"the outcome after {name}, at the last moment")
            probe.now += 1
            expect(probe.push("a"), ["queued"], f"the outcome after {name}, once it is forgotten")


def expired_ids_are_remembered(new_store: NewStore) -> None:
    """An id stays known after its callback has expired, until dedup_for is over."""
    with Probe(new_store) as probe:
        probe.push("a")
        probe.now += SECOND
        expect(probe.push("a"), ["duplicate"], "the outcome after its expiry")
        probe.now += 9 * SECOND
        expect(probe.push("a"), ["queued"], "the outcome after dedup_for")
        probe.holds("a")


def expired_ids_return_without_dedup(new_store: NewStore) -> None:
    """Where dedup_for is 0 an id can be pushed again as soon as its callback has expired."""
    with Probe(new_store, dedup_for=0) as probe:
        probe.push("a", "b")
        probe.now += SECOND
        expect(probe.push("a"), ["queued"], "the outcome")
        probe.holds("a")


def a_changed_dedup_counts_for_later_pushes(new_store: NewStore) -> None:
    """What was pushed before dedup_for changed is remembered for as long as it was then."""
    for before, after in ((10.0, 2.0), (2.0, 10.0), (10.0, 0.0)):
        with Probe(new_store, 0, before) as probe:
            probe.push("a")
            probe.do(UpdateEndpoint(probe.endpoint.replace(dedup_for=after)))
            probe.push("b")
            probe.do(PopSlice("orders"))
            for second in range(1, 11):
                probe.now += SECOND
                for id, kept in (("a", before), ("b", after)):
                    if second < kept:
                        outcome = probe.push(id)
                        expect(outcome, ["duplicate"], f"{id}, {before} to {after}, at {second} s")
            expect(probe.push("a", "b"), ["queued", "queued"], "the outcomes in the end")


def duplicates_change_nothing(new_store: NewStore) -> None:
    """A duplicate leaves what is queued as it is: request, phase, place, and all times."""
    with Probe(new_store) as probe:
        probe.push("a", "b")
        before = probe.do(Fetch("orders", "a"))
        probe.now += SECOND - 1
        again = Callback.new(b"y", id="a", phase="processed")
        reply = probe.do(Push("orders", again, trusted=True))
        expect(reply, (before, Outcome.DUPLICATE), "the reply")
        expect(probe.do(Fetch("orders", "a")), before, "what is stored")
        probe.holds("a b")
        probe.now += 1
        probe.holds("")
        probe.now += 9 * SECOND
        expect(probe.push("a"), ["queued"], "the outcome dedup_for after the first push")


def refused_pushes_are_not_remembered(new_store: NewStore) -> None:
    """A push that was refused leaves no id behind: once it is right, it is queued."""
    with Probe(new_store) as probe:
        for id, phase, secret, error in (
            ("a", "gone", "s", UnknownPhase),
            ("b", "", "wrong", WrongSecret),
            ("c", "", None, WrongSecret),
        ):
            push = Push("orders", Callback.new(b"x", id=id, phase=phase), secret)
            refuses(error, probe.do, push)
        early = Push("later", Callback.new(b"x", id="a"), trusted=True)
        refuses(EndpointNotFound, probe.do, early)
        probe.holds("")
        expect(probe.push("a", "b", "c"), ["queued"] * 3, "the outcomes")
        probe.do(CreateEndpoint(Endpoint.new(id="later")))
        expect(probe.do(early).outcome, "queued", "the outcome once the endpoint is there")


CHECKS: tuple[Check, ...] = (
    queued_ids_are_duplicates,
    duplicates_change_nothing,
    removed_ids_are_remembered,
    expired_ids_are_remembered,
    expired_ids_return_without_dedup,
    a_changed_dedup_counts_for_later_pushes,
    refused_pushes_are_not_remembered,
)
