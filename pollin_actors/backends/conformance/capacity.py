"""Checks of endpoints that take no more than so much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pollin_actors.backends.conformance.probe import (
    SECOND,
    Check,
    NewStore,
    Probe,
    at_once,
    expect,
    refuses,
)
from pollin_actors.errors import CallbackNotFound, Full, UnknownPhase
from pollin_actors.messages import (
    Ack,
    Count,
    DeleteCallback,
    FindEndpoint,
    Pop,
    PopSlice,
    Push,
    Reset,
    Stats,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.resources import Callback, Request

__all__ = ["CHECKS"]


def _push(id: str, request: Any = b"x", **fields: Any) -> Push:
    callback = Callback.new(request, id=id).replace(**fields)
    return Push("orders", callback, trusted=True)


def full_endpoints_refuse(new_store: NewStore) -> None:
    """At its capacity an endpoint refuses a push with Full, which says what it holds and takes;
    nothing is stored, and the id is not remembered."""
    with Probe(new_store, ttl=0, capacity=2) as probe:
        expect(probe.push("a", "b"), ["queued", "queued"], "the outcomes")
        error = refuses(Full, probe.do, _push("c"))
        told = (error.endpoint_id, error.what, error.held, error.limit)
        expect(told, ("orders", "callbacks", 2, 2), "what the error says")
        probe.holds("a b")
        expect([record.callback_id for record in probe.records()], ["a", "b"], "the records")
        probe.do(Pop("orders"))
        expect(probe.push("c"), ["queued"], "the outcome once there is room")
        refuses(Full, probe.do, _push("d"))


def bytes_are_counted(new_store: NewStore) -> None:
    """A push that would bring the sum of sizes over capacity_bytes is refused with Full."""
    with Probe(new_store, ttl=0, capacity_bytes=10) as probe:
        probe.do(_push("a", Request([("ab", "c")], b"d")))
        probe.do(_push("b", "\u00e9"))
        error = refuses(Full, probe.do, _push("c", b"12345"))
        told = (error.endpoint_id, error.what, error.held, error.limit)
        expect(told, ("orders", "bytes", 6, 10), "what the error says")
        probe.holds("a b")
        probe.do(_push("c", b"1234"))
        probe.do(_push("none", None))
        refuses(Full, probe.do, _push("d", b"1"))
        expect(probe.do(Stats("orders")).size, 10, "the sum of sizes")
        probe.do(DeleteCallback("orders", "b"))
        probe.do(_push("d", b"12"))
        refuses(Full, probe.do, _push("e", b"1"))


Removal = Callable[[Probe], object]


def _expire(probe: Probe) -> None:
    probe.now += SECOND


ROOM: dict[str, Removal] = {
    "Pop": lambda probe: probe.do(Pop("orders")),
    "PopSlice": lambda probe: probe.do(PopSlice("orders", None, 0, 1)),
    "DeleteCallback": lambda probe: probe.do(DeleteCallback("orders", "a")),
    "Ack": lambda probe: probe.do(Ack("orders", "a", probe.take("a").token)),
    "Reset": lambda probe: probe.do(Reset("orders")),
    "an expiry": _expire,
    "another capacity": lambda probe: probe.do(
        UpdateEndpoint(probe.endpoint.replace(capacity=3, capacity_bytes=3))
    ),
    "none": lambda probe: probe.do(
        UpdateEndpoint(probe.endpoint.replace(capacity=None, capacity_bytes=None))
    ),
}


def there_is_room_again(new_store: NewStore) -> None:
    """What leaves the queue, in whichever way, makes room at once, swept or not."""
    for name, act in ROOM.items():
        for limits in ({"capacity": 2}, {"capacity_bytes": 2}):
            with Probe(new_store, **limits) as probe:
                probe.push("a", "b")
                refuses(Full, probe.do, _push("c"))
                act(probe)
                expect(probe.push("c"), ["queued"], f"the outcome after {name}, {limits}")


def all_that_is_queued_counts(new_store: NewStore) -> None:
    """What is claimed, waits, or is in another phase counts as well."""
    with Probe(new_store, ttl=0, capacity=4) as probe:
        probe.push("a", "b", ordering_key="k")
        probe.push("c", phase="processed")
        probe.push("d", not_before=probe.now + SECOND)
        probe.take("a")
        refuses(Full, probe.do, _push("e"))
        refuses(Full, probe.do, _push("e", phase="processed"))
        probe.do(UpdatePhase("orders", "a", "processed"))
        refuses(Full, probe.do, _push("e"))


def a_smaller_capacity_removes_nothing(new_store: NewStore) -> None:
    """UpdateEndpoint may say less than there is: it all stays, and nothing is added."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b", "c")
        smaller = probe.endpoint.replace(capacity=1, capacity_bytes=10)
        expect(probe.do(UpdateEndpoint(smaller)), smaller, "the reply")
        expect(probe.do(FindEndpoint("orders")), smaller, "the endpoint")
        probe.holds("a b c")
        error = refuses(Full, probe.do, _push("d"))
        expect((error.held, error.limit), (3, 1), "what the error says")
        probe.do(Pop("orders"))
        refuses(Full, probe.do, _push("d"))
        probe.do(UpdatePhase("orders", "b", "processed"))
        probe.do(UpdateEndpoint(probe.endpoint.replace(capacity_bytes=2)))
        error = refuses(Full, probe.do, _push("d"))
        expect((error.what, error.held), ("bytes", 2), "what the error says")
        probe.do(UpdateEndpoint(probe.endpoint.replace(capacity=0)))
        probe.do(PopSlice("orders"))
        refuses(Full, probe.do, _push("d"))


def duplicates_need_no_room(new_store: NewStore) -> None:
    """A duplicate is one also where there is no room: queued, or gone and remembered."""
    with Probe(new_store, ttl=0, capacity=1) as probe:
        probe.push("a")
        probe.do(Pop("orders"))
        probe.push("b")
        expect(probe.push("a", "b"), ["duplicate", "duplicate"], "the outcomes")
        refuses(Full, probe.do, _push("c"))


def other_errors_come_first(new_store: NewStore) -> None:
    """A full endpoint says that a phase is unknown, or a parent missing, before it says Full."""
    with Probe(new_store, ttl=0, capacity=1) as probe:
        probe.push("a")
        refuses(UnknownPhase, probe.do, _push("b", phase="gone"))
        refuses(CallbackNotFound, probe.do, _push("b", parent="none"))
        refuses(Full, probe.do, _push("b", parent="a"))


def only_the_consumed_counts(new_store: NewStore) -> None:
    """Where phases are consumed only what is in them counts, and only pushes there are refused."""
    for limits in ({"capacity": 2}, {"capacity_bytes": 2}):
        with Probe(new_store, 0, consumes=("received",), **limits) as probe:
            probe.push("x", "y", "z", phase="processed")
            expect(probe.push("a", "b"), ["queued", "queued"], "the outcomes")
            refuses(Full, probe.do, _push("c"))
            expect(probe.push("v", phase="processed"), ["queued"], "the outcome elsewhere")
            claim = probe.take("a", phase="received")
            refuses(Full, probe.do, _push("c"))
            probe.do(Ack("orders", "a", claim.token, "processed"))
            expect(probe.push("c"), ["queued"], "the outcome once there is room")
            refuses(Full, probe.do, _push("d"))
            probe.do(UpdatePhase("orders", "x", "received"))
            error = refuses(Full, probe.do, _push("d"))
            expect((error.held, error.limit), (3, 2), "what the error says")
            probe.do(UpdateEndpoint(probe.endpoint.replace(consumes=())))
            error = refuses(Full, probe.do, _push("d", phase="processed"))
            expect(error.held, 7, "what is held where nothing is consumed")


def threads_do_not_exceed_it(new_store: NewStore) -> None:
    """However many threads push at once, no more than the capacity is queued."""
    with Probe(new_store, ttl=0, capacity=25) as probe:
        taken: list[int] = [0] * 4

        def work(number: int) -> None:
            for turn in range(20):
                try:
                    probe.do(_push(f"{number}-{turn}"))
                except Full:
                    continue
                taken[number] += 1

        at_once(work)
        expect(sum(taken), 25, "how many were taken")
        expect(probe.do(Count("orders")), 25, "the count")


CHECKS: tuple[Check, ...] = (
    full_endpoints_refuse,
    bytes_are_counted,
    there_is_room_again,
    all_that_is_queued_counts,
    a_smaller_capacity_removes_nothing,
    duplicates_need_no_room,
    other_errors_come_first,
    only_the_consumed_counts,
    threads_do_not_exceed_it,
)
