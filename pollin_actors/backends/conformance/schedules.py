"""Checks of callbacks that wait for their time."""

from __future__ import annotations

from pollin_actors.backends.conformance.probe import SECOND, Check, NewStore, Probe, expect
from pollin_actors.messages import (
    Ack,
    ClaimSlice,
    Count,
    Nack,
    Pop,
    PopSlice,
    UpdatePhase,
)
from pollin_actors.resources import MAX_TIME_NS

__all__ = ["CHECKS"]


def nothing_comes_before_its_time(new_store: NewStore) -> None:
    """Until just before not_before a callback is neither popped nor claimed; then it is."""
    with Probe(new_store, ttl=0) as probe:
        due = probe.now + SECOND
        probe.push("a", not_before=due)
        probe.push("b")
        for now in (probe.now, due - 1):
            probe.now = now
            expect(probe.do(Pop("orders", "a")), None, "a pop by key")
            expect(probe.ids(PopSlice("orders", "received", 1, 9)), "", "a slice from the second")
            probe.offers("b")
        expect(probe.do(Pop("orders")).id, "b", "what is popped")
        expect(probe.do(Pop("orders")), None, "what is popped then")
        probe.now = due
        probe.offers("a")
        expect(probe.do(Pop("orders")).not_before, due, "the time in what is popped")


def those_who_wait_for_their_time_are_seen(new_store: NewStore) -> None:
    """What waits for its time is read and counted like everything else."""
    with Probe(new_store, ttl=0) as probe:
        due = probe.now + SECOND
        probe.push("a", not_before=due)
        probe.holds("a")
        expect(probe.get().not_before, due, "the time in the oldest")
        expect(probe.do(Count("orders", "received")), 1, "the count of the phase")
        expect(probe.push("a"), ["duplicate"], "the outcome of its id")


def the_queue_keeps_its_order(new_store: NewStore) -> None:
    """What has waited has its place from the push: it is older than what came after it."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", not_before=probe.now + 2 * SECOND)
        probe.push("b", not_before=probe.now + SECOND)
        probe.push("c")
        probe.now += SECOND
        probe.offers("b c")
        probe.now += SECOND
        probe.offers("a b c")
        expect(probe.ids(PopSlice("orders", "received", 0, 2)), "a b", "a slice")


def times_that_are_over_do_not_hold(new_store: NewStore) -> None:
    """not_before in the past, or now, holds nothing up; the last moment there is holds for long."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", not_before=0)
        probe.push("b", not_before=probe.now)
        probe.push("c", not_before=MAX_TIME_NS)
        probe.offers("a b")
        probe.now += 10**18
        probe.offers("a b")
        expect(probe.get("c").not_before, MAX_TIME_NS, "the time that is stored")


def the_time_stays_in_another_phase(new_store: NewStore) -> None:
    """A callback that is moved before its time waits for it there too."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", not_before=probe.now + SECOND)
        probe.do(UpdatePhase("orders", "a", "processed"))
        probe.now += SECOND - 1
        probe.offers("")
        probe.now += 1
        probe.offers("a", "processed")


def the_later_time_counts(new_store: NewStore) -> None:
    """A retry does not bring a callback before its not_before, nor the other way round."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", not_before=probe.now + SECOND)
        probe.now += SECOND
        probe.do(Nack("orders", "a", probe.take("a").token, 2.0))
        probe.now += 2 * SECOND - 1
        probe.offers("")
        probe.now += 1
        probe.do(Ack("orders", "a", probe.take("a").token, "processed"))
        probe.offers("a", "processed")


def retries_are_forgotten_in_another_phase(new_store: NewStore) -> None:
    """The delay after a nack does not go along into another phase, nor come back from there."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a")
        probe.do(Nack("orders", "a", probe.take("a").token, 60.0))
        probe.offers("")
        probe.do(UpdatePhase("orders", "a", "processed"))
        probe.offers("a", "processed")
        probe.do(UpdatePhase("orders", "a", "received"))
        probe.offers("a", "received")


def those_who_wait_expire(new_store: NewStore) -> None:
    """The ttl runs from the push also for what waits for its time, or for another attempt."""
    with Probe(new_store) as probe:
        probe.push("a", not_before=probe.now + 2 * SECOND)
        probe.push("b")
        probe.do(Nack("orders", "b", probe.take("b").token, 60.0))
        probe.now += SECOND - 1
        probe.holds("a b")
        probe.now += 1
        probe.holds("")
        probe.now += SECOND
        expect(probe.claim(9), [], "what can be claimed")


def next_at_knows_the_times(new_store: NewStore) -> None:
    """Who waits until next_at finds each callback at its time, whatever order they came in."""
    with Probe(new_store, ttl=0) as probe:
        for id, seconds in (("a", 5), ("b", 2), ("c", 9)):
            probe.push(id, not_before=probe.now + seconds * SECOND)
        for id, seconds in (("b", 2), ("a", 3), ("c", 4)):
            claim = probe.becomes(id, seconds * SECOND)
            probe.do(Ack("orders", id, claim.token))
        expect(probe.do(ClaimSlice("orders", None)), ([], None), "the reply in the end")


def restarts_keep_the_times(new_store: NewStore) -> None:
    """durable: what waits for its time waits for it after a restart too."""
    with Probe(new_store, ttl=0) as probe:
        if not probe.backend.durable:
            return
        probe.push("a", not_before=probe.now + SECOND)
        probe.reopen()
        probe.offers("")
        probe.becomes("a", SECOND)


CHECKS: tuple[Check, ...] = (
    nothing_comes_before_its_time,
    those_who_wait_for_their_time_are_seen,
    the_queue_keeps_its_order,
    times_that_are_over_do_not_hold,
    the_time_stays_in_another_phase,
    the_later_time_counts,
    retries_are_forgotten_in_another_phase,
    those_who_wait_expire,
    next_at_knows_the_times,
    restarts_keep_the_times,
)
