"""Checks of what happens as time goes by."""

from __future__ import annotations

from typing import Any

from pollin_actors.backends.conformance.probe import (
    MS,
    SECOND,
    Check,
    NewStore,
    Probe,
    expect,
    refuses,
)
from pollin_actors.errors import CallbackNotFound, InvalidValue, UnknownPhase
from pollin_actors.messages import (
    Count,
    CreateEndpoint,
    DeleteCallback,
    DumpPage,
    Fetch,
    FetchReverse,
    FetchSlice,
    Pop,
    PopSlice,
    Reset,
    Sweep,
    UpdateEndpoint,
    UpdatePhase,
)

__all__ = ["CHECKS"]


def expired_is_invisible_at_once(new_store: NewStore) -> None:
    """From the nanosecond of its expiry on, no operation sees a callback, swept or not."""
    for message, reply in (
        (Pop("orders"), None),
        (Pop("orders", "a"), None),
        (PopSlice("orders"), []),
        (Fetch("orders"), None),
        (Fetch("orders", "a"), None),
        (FetchSlice("orders"), []),
        (FetchReverse("orders"), []),
        (Count("orders"), 0),
        (Count("orders", "received"), 0),
        (DumpPage("orders"), ([], None)),
        (Reset("orders"), 0),
        (DeleteCallback("orders", "a"), False),
    ):
        with Probe(new_store) as probe:
            probe.push("a")
            probe.now += 1000 * MS - 1
            expect(probe.do(Fetch("orders")).id, "a", "the last moment")
            probe.now += 1
            expect(probe.do(message), reply, repr(message))
            probe.push("b")
            probe.holds("b")


def expired_has_no_phase(new_store: NewStore) -> None:
    """UpdatePhase of what has expired raises CallbackNotFound; its phase is not seen either."""
    with Probe(new_store) as probe:
        probe.push("a", phase="processed")
        probe.do(UpdateEndpoint(probe.endpoint.replace(phases=("received",))))
        expect(probe.do(Count("orders", "processed")), 1, "the count of the phase that went")
        probe.now += SECOND
        late = UpdatePhase("orders", "a", "received")
        refuses(CallbackNotFound, probe.do, late)
        for message in (Count("orders", "processed"), FetchSlice("orders", "processed")):
            refuses(UnknownPhase, probe.do, message)


def the_ttl_counts_from_the_push(new_store: NewStore) -> None:
    """A changed ttl counts for later pushes; 0 is never."""
    with Probe(new_store) as probe:
        probe.push("a")
        probe.do(UpdateEndpoint(probe.endpoint.replace(ttl=100)))
        probe.push("b")
        probe.do(UpdateEndpoint(probe.endpoint.replace(ttl=0)))
        probe.push("c")
        probe.now += 100 * MS
        probe.holds("a c")
        probe.now += 900 * MS
        probe.holds("c")
        probe.now += 10**18
        probe.holds("c")


def sweeps_remove_what_has_expired(new_store: NewStore) -> None:
    """Sweep removes what has expired in all endpoints, at most its limit, and says how many."""
    with Probe(new_store) as probe:
        probe.do(CreateEndpoint(probe.endpoint.replace(id="other")))
        probe.push("a", "b", "c")
        probe.push("a", "b", to="other")
        probe.do(UpdateEndpoint(probe.endpoint.replace(ttl=0)))
        probe.push("d")
        expect(probe.do(Sweep()), 0, "a sweep before anything has expired")
        probe.now += SECOND
        # Nothing but sweeps from here on: other operations may remove what has expired as well.
        swept = 0
        for limit in (0, 2, 2, 2, 10**30):
            number = probe.do(Sweep(limit))
            if not 0 <= number <= limit:
                raise AssertionError(f"Sweep({limit}) answered {number}")
            swept += number
        expect(swept, 5, "how many were swept")
        expect(probe.do(Sweep()), 0, "a sweep with nothing left to do")
        probe.holds("d")
        expect(probe.push("a"), ["duplicate"], "the outcome of an id whose callback was swept")


def odd_sweeps_are_refused(new_store: NewStore) -> None:
    """The limit of a sweep must be an int, at least 0: InvalidValue names the field."""
    odd: tuple[Any, ...] = (-1, True, 1.5, "1", None)
    with Probe(new_store) as probe:
        for value in odd:
            error = refuses(InvalidValue, probe.do, Sweep(value))
            expect(error.name, "Sweep.limit", f"the name in the error of {value!r}")


CHECKS: tuple[Check, ...] = (
    expired_is_invisible_at_once,
    expired_has_no_phase,
    the_ttl_counts_from_the_push,
    sweeps_remove_what_has_expired,
    odd_sweeps_are_refused,
)
