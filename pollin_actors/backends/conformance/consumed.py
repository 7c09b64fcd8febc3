"""Checks of the time to live where an endpoint has phases that are consumed."""

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
from pollin_actors.errors import EndpointNotFound, InvalidValue, UnknownPhase
from pollin_actors.messages import (
    Ack,
    Consume,
    CreateEndpoint,
    FindEndpoint,
    Nack,
    Stats,
    UpdateEndpoint,
    UpdatePhase,
)

__all__ = ["CHECKS"]

CONSUMED = ("received",)


def the_consumed_does_not_expire(new_store: NewStore) -> None:
    """What is in a consumed phase does not expire; pushed into another, the ttl runs."""
    with Probe(new_store, consumes=CONSUMED) as probe:
        probe.push("a")
        probe.push("b", phase="processed")
        probe.now += SECOND - 1
        probe.holds("a b")
        probe.now += 1
        probe.holds("a")
        probe.now += 10**17
        probe.sweep()
        probe.holds("a")


def the_ttl_begins_with_the_last_phase(new_store: NewStore) -> None:
    """Entering a phase that is not consumed, in whichever way, begins the ttl."""
    for way in (Ack, Nack, UpdatePhase):
        with Probe(new_store, consumes=CONSUMED) as probe:
            probe.push("a")
            probe.now += 7 * SECOND
            if way is UpdatePhase:
                probe.do(UpdatePhase("orders", "a", "processed"))
            else:
                token = probe.take("a").token
                ack = Ack("orders", "a", token, "processed")
                nack = Nack("orders", "a", token, 0.0, "", "processed")
                probe.do(ack if way is Ack else nack)
            probe.now += SECOND - 1
            probe.holds("a")
            probe.now += 1
            probe.holds("")


def the_ttl_ends_with_a_consumed_phase(new_store: NewStore) -> None:
    """Back in a consumed phase it does not expire; leaving that again begins the ttl anew."""
    with Probe(new_store, consumes=CONSUMED) as probe:
        probe.push("a", phase="processed")
        probe.now += SECOND - 1
        probe.do(UpdatePhase("orders", "a", "received"))
        probe.now += 5 * SECOND
        probe.holds("a")
        probe.do(UpdatePhase("orders", "a", "processed"))
        probe.now += SECOND - 1
        probe.holds("a")
        probe.now += 1
        probe.holds("")


def updates_to_the_same_phase_keep_the_time(new_store: NewStore) -> None:
    """Where phases are consumed too, UpdatePhase to the phase it is in leaves the expiry alone."""
    with Probe(new_store, consumes=CONSUMED) as probe:
        probe.push("a", phase="processed")
        probe.now += SECOND - 1
        probe.do(UpdatePhase("orders", "a", "processed"))
        probe.now += 1
        probe.holds("")


def without_consumers_the_push_counts(new_store: NewStore) -> None:
    """Where no phase is consumed an Ack or Nack into a phase does not change the expiry."""
    for dead in (False, True):
        with Probe(new_store) as probe:
            probe.push("a")
            probe.now += SECOND - 1
            token = probe.take("a").token
            ack = Ack("orders", "a", token, "processed")
            probe.do(Nack("orders", "a", token, 0.0, "", "processed") if dead else ack)
            probe.holds("a")
            probe.now += 1
            probe.holds("")


def the_ttl_of_the_entry_counts(new_store: NewStore) -> None:
    """What enters a phase that is not consumed gets the ttl of that time; 0 is never."""
    with Probe(new_store, consumes=CONSUMED) as probe:
        probe.push("a", "b")
        probe.do(UpdateEndpoint(probe.endpoint.replace(ttl=100)))
        probe.do(UpdatePhase("orders", "a", "processed"))
        probe.do(UpdateEndpoint(probe.endpoint.replace(ttl=0)))
        probe.do(UpdatePhase("orders", "b", "processed"))
        probe.now += 100 * MS - 1
        probe.holds("a b")
        probe.now += 1
        probe.holds("b")
        probe.now += 10**17
        probe.holds("b")


def consuming_is_written_down(new_store: NewStore) -> None:
    """Consume answers the endpoint with the phase added, in the order of phases, and keeps it."""
    with Probe(new_store) as probe:
        both = probe.endpoint.replace(consumes=("received", "processed"))
        one = probe.endpoint.replace(consumes=("processed",))
        for phase, expected in (("processed", one), ("processed", one), ("received", both)):
            expect(probe.do(Consume("orders", phase)), expected, "the reply")
            expect(probe.do(FindEndpoint("orders")), expected, "the endpoint")


def consuming_ends_the_ttl(new_store: NewStore) -> None:
    """Consume removes the expiry of what is in that phase, and leaves that of others alone."""
    with Probe(new_store) as probe:
        probe.push("old")
        probe.now += SECOND // 2
        probe.push("a", "b")
        probe.push("c", phase="processed")
        probe.take("old", 0.5)
        probe.do(Nack("orders", "a", probe.take("a").token, 60.0))
        probe.now += SECOND - 1 - SECOND // 2
        probe.do(Consume("orders", "received"))
        probe.now += SECOND // 2
        probe.holds("old a b c")
        probe.now += 1
        probe.holds("old a b")
        probe.sweep()
        probe.now += 10**17
        probe.holds("old a b")


def consuming_brings_nothing_back(new_store: NewStore) -> None:
    """What has expired stays so when its phase is consumed, also if it was not swept yet."""
    with Probe(new_store) as probe:
        probe.push("a", "b")
        probe.now += SECOND
        probe.do(Consume("orders", "received"))
        probe.holds("")
        probe.sweep()
        expect(probe.do(Stats("orders")).expired, 2, "how many have expired")


def consuming_again_changes_nothing(new_store: NewStore) -> None:
    """Consume of a phase that is consumed already leaves every expiry as it is."""
    with Probe(new_store) as probe:
        probe.push("a")
        probe.do(UpdateEndpoint(probe.endpoint.replace(consumes=CONSUMED)))
        probe.do(Consume("orders", "received"))
        probe.now += SECOND - 1
        probe.holds("a")
        probe.now += 1
        probe.holds("")


def what_is_consumed_must_be_known(new_store: NewStore) -> None:
    """Consume of an unknown phase, or at an unknown endpoint, is refused and changes nothing."""
    odd: tuple[Any, ...] = (None, 5, b"received")
    with Probe(new_store) as probe:
        for phase in ("gone", "", "Received", "\ud800"):
            error = refuses(UnknownPhase, probe.do, Consume("orders", phase))
            expect(error.known_phases, ("received", "processed"), "the phases in the error")
            refuses(EndpointNotFound, probe.do, Consume("none", phase))
        for value in odd:
            invalid = refuses(InvalidValue, probe.do, Consume("orders", value))
            expect(invalid.name, "Consume.phase", "the name in the error")
        expect(probe.do(FindEndpoint("orders")), probe.endpoint, "the endpoint")


def updates_change_no_expiry(new_store: NewStore) -> None:
    """UpdateEndpoint neither ends nor begins the ttl of what is queued, whatever is consumed."""
    with Probe(new_store) as probe:
        probe.push("a")
        consumed = probe.endpoint.replace(consumes=CONSUMED)
        probe.do(UpdateEndpoint(consumed))
        probe.push("b")
        probe.do(UpdateEndpoint(probe.endpoint))
        probe.push("c")
        probe.do(UpdatePhase("orders", "b", "processed"))
        probe.now += SECOND - 1
        probe.holds("a b c")
        probe.now += 1
        probe.holds("b")
        probe.now += 10**17
        probe.holds("b")
        expect(probe.get().phase, "processed", "its phase")


def restarts_keep_what_is_consumed(new_store: NewStore) -> None:
    """durable: every field of an endpoint is there after a restart, and so is each expiry."""
    with Probe(new_store) as probe:
        if not probe.backend.durable:
            return
        full = probe.endpoint.replace(
            id="full", keep_for=1.5, consumes=("processed",), capacity=3, capacity_bytes=4
        )
        probe.do(CreateEndpoint(full))
        probe.push("a", "b")
        consumed = probe.do(Consume("orders", "received"))
        probe.do(UpdatePhase("orders", "b", "processed"))
        probe.reopen()
        expect(probe.do(FindEndpoint("full")), full, "an endpoint")
        expect(probe.do(FindEndpoint("orders")), consumed, "another")
        probe.now += SECOND
        probe.holds("a")


CHECKS: tuple[Check, ...] = (
    the_consumed_does_not_expire,
    the_ttl_begins_with_the_last_phase,
    the_ttl_ends_with_a_consumed_phase,
    updates_to_the_same_phase_keep_the_time,
    without_consumers_the_push_counts,
    the_ttl_of_the_entry_counts,
    consuming_is_written_down,
    consuming_ends_the_ttl,
    consuming_brings_nothing_back,
    consuming_again_changes_nothing,
    what_is_consumed_must_be_known,
    updates_change_no_expiry,
    restarts_keep_what_is_consumed,
)
