"""Checks of pushing: what is refused, what is a duplicate, what is kept."""

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
from pollin_actors.errors import UnknownPhase, WrongSecret
from pollin_actors.messages import (
    Count,
    CreateEndpoint,
    DeleteCallback,
    Fetch,
    Pop,
    PopSlice,
    Push,
    Reset,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.resources import Callback, Endpoint, Outcome, PushResult, Request, Secret

__all__ = ["CHECKS"]


def pushes_are_appended(new_store: NewStore) -> None:
    """A push answers PushResult with the callback as it is stored; it goes to the end."""
    with Probe(new_store) as probe:
        callback = Callback.new(b"x", id="a")
        result = probe.do(Push("orders", callback, trusted=True))
        stored = callback.with_phase("received")
        expect(result, PushResult(stored, Outcome.QUEUED), "the reply")
        expect(type(result), PushResult, "its type")
        expect(probe.do(Fetch("orders", "a")), stored, "what is stored")
        probe.push("c", "b")
        probe.holds("a c b")


def phases_are_checked_at_the_push(new_store: NewStore) -> None:
    """A known phase is kept; an unknown one raises UnknownPhase, and nothing is stored."""
    with Probe(new_store) as probe:
        probe.push("a", phase="processed")
        expect(probe.do(Fetch("orders")).phase, "processed", "the phase")
        error = refuses(
            UnknownPhase, probe.do, Push("orders", Callback.new(b"", phase="gone"), trusted=True)
        )
        expect(error.known_phases, ("received", "processed"), "the phases that the error names")
        probe.holds("a")
        expect(probe.push("b"), ["queued"], "the outcome once the phase is right")


def secrets_are_checked_first(new_store: NewStore) -> None:
    """Unless trusted, a secret that is not the endpoint's raises WrongSecret, before all else."""
    with Probe(new_store) as probe:
        rights: tuple[Any, ...] = ("s", b"s", Secret("s"))
        for number, secret in enumerate(rights):
            push = Push("orders", Callback.new(b"x", id=str(number)), secret)
            expect(probe.do(push).outcome, Outcome.QUEUED, f"the outcome with {secret!r}")
        wrongs: tuple[Any, ...] = (None, "", "x", b"x", "ß", "\ud800", Secret("x"), 5)
        for wrong in wrongs:
            push = Push("orders", Callback.new(b"x", id="a", phase="gone"), wrong)
            refuses(WrongSecret, probe.do, push)
        probe.holds("0 1 2")


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


def ids_are_the_endpoints_own(new_store: NewStore) -> None:
    """The same id can be queued in two endpoints."""
    with Probe(new_store) as probe:
        probe.do(CreateEndpoint(Endpoint.new(id="other")))
        outcomes = [*probe.push("a"), *probe.push("a", to="other")]
        expect(outcomes, ["queued", "queued"], "the outcomes")
        probe.do(Pop("orders", "a"))
        expect(probe.do(Count("other")), 1, "the other endpoint's count")
        probe.do(Reset("orders"))
        expect(probe.push("a", to="other"), ["duplicate"], "the outcome in the other endpoint")


def requests_are_kept_exactly(new_store: NewStore) -> None:
    """Every byte of a body, and order, repeats and case of headers, come back as they went in."""
    headers = [("X-B", "2"), ("x-a", "1"), ("X-B", ""), ("", "ÿ\0\n☃\ud800"), ("x-a", "1")]
    with Probe(new_store) as probe:
        requests = [
            Request(headers, bytes(range(256)) * 5),
            Request(),
            Request([], b"\0" * 100_000),
        ]
        for number, request in enumerate(requests):
            callback = Callback("é'\"☃ " + str(number), request, "received", number)
            probe.do(Push("orders", callback, trusted=True))
            expect(probe.do(Fetch("orders", callback.id)), callback, "what is fetched")
            expect(probe.do(Pop("orders")), callback, "what is popped")


def other_values_are_kept(new_store: NewStore) -> None:
    """A request may be None, bytes, text, a number, or lists and dicts of them, and comes back."""
    values = (None, True, 7, -1.5, b"\0\xff", "", "ä\ud800\0", [1, [None, "x"]], {"a": [{}], "": 1})
    with Probe(new_store) as probe:
        for value in values:
            probe.do(Push("orders", Callback.new(value), trusted=True))
            got = probe.do(Pop("orders")).request
            expect(got, value, "the request")
            expect(type(got), type(value), "its type")


CHECKS: tuple[Check, ...] = (
    pushes_are_appended,
    phases_are_checked_at_the_push,
    secrets_are_checked_first,
    queued_ids_are_duplicates,
    removed_ids_are_remembered,
    expired_ids_are_remembered,
    expired_ids_return_without_dedup,
    a_changed_dedup_counts_for_later_pushes,
    ids_are_the_endpoints_own,
    requests_are_kept_exactly,
    other_values_are_kept,
)
