"""Checks of ids and other names: which are the same, and what is none."""

from __future__ import annotations

from typing import Any

from pollin_actors.backends.conformance.probe import Check, NewStore, Probe, expect, refuses
from pollin_actors.errors import InvalidValue, UnknownPhase
from pollin_actors.messages import (
    CALLBACK_OPERATIONS,
    Ack,
    Children,
    ClaimSlice,
    Consume,
    Count,
    CreateEndpoint,
    DeleteCallback,
    DeleteEndpoint,
    Extend,
    Fetch,
    FetchSlice,
    FindCursor,
    FindEndpoint,
    History,
    IndexEndpoints,
    MoveCursor,
    Nack,
    Pop,
    PopSlice,
    Push,
    Release,
    Reset,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.resources import Callback, Endpoint

__all__ = ["CHECKS"]

# Alike for an engine that ignores case or accents, composes letters, reads numbers or patterns,
# or looks at the first characters only.
_ALIKE = ("a", "A", "1", "01", "1.0", "%", "_", "ss", "\u00df", "\u00e9", "e\u0301", "e")
_LONG = ("x" * 99, "x" * 100)


def ids_are_told_apart(new_store: NewStore) -> None:
    """Callback ids are the same if every character is: queued, removed, and remembered."""
    long = ("x" * 255, "x" * 256, "x" * 499 + "y", "x" * 500)
    ids = [*_ALIKE, *_LONG, *long, "a ", " a", "a\n"]
    with Probe(new_store) as probe:
        expect(probe.push(*ids), ["queued"] * len(ids), "the outcomes")
        stored = [callback.id for callback in probe.do(FetchSlice("orders"))]
        expect(stored, ids, "the queue")
        for id in ids:
            expect(probe.do(Fetch("orders", id)).id, id, "what is fetched")
        expect(probe.do(UpdatePhase("orders", "a", "processed")).id, "a", "what is changed")
        expect(probe.do(Pop("orders", "A")).id, "A", "what is popped")
        expect(probe.do(DeleteCallback("orders", "a ")), True, "whether it was deleted")
        left = [callback.id for callback in probe.do(PopSlice("orders"))]
        expect(left, [id for id in ids if id not in ("A", "a ")], "the queue afterwards")
        expect(probe.push(*ids), ["duplicate"] * len(ids), "the outcomes of the same ids")
        expect(probe.push("B"), ["queued"], "the outcome of an id")
        probe.do(Pop("orders"))
        expect(probe.push("b"), ["queued"], "the outcome of the same in another case")


def endpoint_ids_are_told_apart(new_store: NewStore) -> None:
    """Endpoint ids are the same if every character is."""
    ids = ["orders", "Orders", *_ALIKE, *_LONG, "x" * 199 + "y", "x" * 200]
    with Probe(new_store) as probe:
        for id in ids[1:]:
            probe.do(CreateEndpoint(Endpoint.new(id=id)))
        expect([endpoint.id for endpoint in probe.do(IndexEndpoints())], ids, "the list")
        probe.push("a", "b", to="Orders")
        counts = [probe.do(Count(id)) for id in ids]
        expect(counts, [0, 2, *[0] * (len(ids) - 2)], "the counts")
        expect(probe.do(DeleteEndpoint("Orders")), True, "whether it was deleted")
        found = [probe.do(FindEndpoint(id)) is not None for id in ids]
        expect(found, [id != "Orders" for id in ids], "whether each is found")


def phases_are_told_apart(new_store: NewStore) -> None:
    """Phases are the same if every character is."""
    phases = (*_ALIKE, *_LONG, "a ", " a")
    with Probe(new_store) as probe:
        probe.do(UpdateEndpoint(probe.endpoint.replace(phases=phases)))
        for number, phase in enumerate(phases):
            probe.push(str(number), phase=phase)
        for number, phase in enumerate(phases):
            expect(probe.ids(FetchSlice("orders", phase)), str(number), f"those in {phase!r}")
            expect(probe.do(Count("orders", phase)), 1, f"the count of {phase!r}")
        for phase in ("E", "a  "):
            refuses(UnknownPhase, probe.do, Count("orders", phase))


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


def fields_of_other_types_are_refused(new_store: NewStore) -> None:
    """Ids must be texts, an endpoint an Endpoint: InvalidValue names the field, as in "Pop.key"."""
    odd: tuple[Any, ...] = (5, [], b"a")
    callback = Callback.new(b"x", id="5")
    messages: list[tuple[str, Any]] = [
        (f"{kind.__name__}.key", kind("orders", key)) for kind in (Pop, Fetch) for key in odd
    ]
    messages += [("DeleteCallback.key", DeleteCallback("orders", key)) for key in (*odd, None)]
    messages += [("UpdatePhase.key", UpdatePhase("orders", key, "processed")) for key in odd]
    rest: dict[type, tuple[Any, ...]] = {
        Push: (callback, None, True),
        DeleteCallback: ("a",),
        UpdatePhase: ("a", "processed"),
        ClaimSlice: (None,),
        Ack: ("a", "token"),
        Nack: ("a", "token"),
        Extend: ("a", "token"),
        Release: ("a", "token"),
        History: ("a",),
        Children: ("a",),
        FindCursor: ("name",),
        MoveCursor: ("name", 1),
        Consume: ("received",),
    }
    kinds: list[Any] = [FindEndpoint, DeleteEndpoint, Consume, *CALLBACK_OPERATIONS]
    for kind in sorted(kinds, key=lambda kind: str(kind.__name__)):
        name = f"{kind.__name__}.endpoint_id"
        messages += [(name, kind(id, *rest.get(kind, ()))) for id in (*odd, None)]
    for kind in (CreateEndpoint, UpdateEndpoint):
        name = f"{kind.__name__}.endpoint"
        messages += [(name, kind(value)) for value in ("orders", *odd, None)]
    with Probe(new_store) as probe:
        probe.do(CreateEndpoint(Endpoint.new(id="5")))
        probe.push("a", "5")
        for field, message in messages:
            error = refuses(InvalidValue, probe.do, message)
            expect(error.name, field, f"the name in the error of {message!r}")
        probe.holds("a 5")
        expect(probe.do(Count("orders", "received")), 2, "the count of a phase")
        expect([e.id for e in probe.do(IndexEndpoints())], ["orders", "5"], "the endpoints")


CHECKS: tuple[Check, ...] = (
    ids_are_told_apart,
    endpoint_ids_are_told_apart,
    phases_are_told_apart,
    ids_are_the_endpoints_own,
    fields_of_other_types_are_refused,
)
