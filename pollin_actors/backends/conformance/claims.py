"""Checks of claims: who gets what, for how long, and what becomes of it."""

from __future__ import annotations

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
from pollin_actors.backends.interface import Backend
from pollin_actors.errors import UnknownPhase
from pollin_actors.messages import (
    Ack,
    ClaimSlice,
    Count,
    DumpPage,
    Extend,
    Fetch,
    FetchReverse,
    FetchSlice,
    Nack,
    Pop,
    PopSlice,
    Push,
    Release,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.records import Claim, Claims
from pollin_actors.resources import Callback

__all__ = ["CHECKS"]


def claims_take_the_oldest(new_store: NewStore) -> None:
    """ClaimSlice takes at most limit of a phase, or of all, oldest first; numbers may be large."""
    with Probe(new_store) as probe:
        probe.push("a", "b", "c", "d")
        probe.do(UpdatePhase("orders", "b", "processed"))
        for phase, limit, ids in (
            ("received", 0, ""),
            ("received", 2, "a c"),
            (None, 1, "b"),
            ("processed", 5, ""),
            (None, 10**30, "d"),
            (None, 10, ""),
        ):
            claims = probe.claim(limit, phase)
            what = f"what was claimed of {phase}, at most {limit}"
            expect(" ".join(claim.key for claim in claims), ids, what)


def claims_say_what_they_are(new_store: NewStore) -> None:
    """A Claim has the endpoint, the callback with its attempts, a token of its own, and its end."""
    with Probe(new_store) as probe:
        probe.push("a", "b", "c")
        stored = probe.do(Fetch("orders", "a"))
        reply = probe.do(ClaimSlice("orders", "received", 2, 1.5))
        expect(type(reply), Claims, "the type of the reply")
        first, second = reply.claims
        expect(type(first), Claim, "the type of a claim")
        expect(first.endpoint_id, "orders", "the endpoint")
        expect((first.callback, first.attempt), (stored, 1), "the callback, and its attempts")
        expect(first.until, probe.now + 3 * SECOND // 2, "its end")
        third = probe.take("c")
        expect(third.until, probe.now + 30 * SECOND, "the end of one of thirty seconds")
        tokens = {first.token, second.token, third.token}
        expect((len(tokens), "" in tokens), (3, False), "how many tokens there are, and an empty")
        one = probe.do(ClaimSlice("orders", None))
        expect(one.claims, [], "what is left to be claimed")


def the_claimed_is_not_available(new_store: NewStore) -> None:
    """What is claimed is neither popped nor claimed, whether by its key, in a slice or as head."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b")
        probe.take("a")
        expect(probe.do(Pop("orders", "a")), None, "a pop by key")
        expect(probe.take("b", phase="received").key, "b", "what is claimed next")
        expect(probe.claim(9), [], "what is claimed then")
        for message in (PopSlice("orders"), PopSlice("orders", "received")):
            expect(probe.ids(message), "", repr(message))
        expect(probe.do(Pop("orders")), None, "a pop")
        probe.push("c")
        expect(probe.do(Pop("orders")).id, "c", "a pop that passes over what is claimed")
        probe.push("d", "e")
        expect(probe.ids(PopSlice("orders", "received", 1, 1)), "e", "a slice behind it")
        probe.holds("a b d")


def the_claimed_is_seen(new_store: NewStore) -> None:
    """What is claimed is read, counted and dumped like everything else, with its attempts."""
    with Probe(new_store) as probe:
        probe.push("a", "b")
        probe.take("a")
        probe.holds("a b")
        expect(probe.get().attempts, 1, "the attempts of the oldest")
        expect(probe.get("a").attempts, 1, "the attempts of that of the key")
        expect(probe.ids(FetchSlice("orders", "received")), "a b", "the slice of the phase")
        expect(probe.ids(FetchReverse("orders", "received", 1, 1)), "a", "the reverse slice")
        expect(probe.do(Count("orders", "received")), 2, "the count of the phase")
        page = probe.do(DumpPage("orders"))
        expect([item.attempts for item in page.callbacks], [1, 0], "the attempts in a dump")
        expect(probe.push("a"), ["duplicate"], "the outcome of its id")


def phases_to_claim_must_be_known(new_store: NewStore) -> None:
    """A claim of a phase that is unknown is refused; one that went is known while it is not
    empty, also if all of it is claimed."""
    with Probe(new_store) as probe:
        for phase in ("gone", "", "\ud800"):
            refuses(UnknownPhase, probe.do, ClaimSlice("orders", phase))
        probe.push("a", phase="processed")
        probe.do(UpdateEndpoint(probe.endpoint.replace(phases=("received",))))
        (claim,) = probe.claim(5, "processed")
        expect(probe.claim(5, "processed"), [], "the claims of a phase of which all is claimed")
        probe.do(Ack("orders", "a", claim.token))
        refuses(UnknownPhase, probe.do, ClaimSlice("orders", "processed"))


def attempts_are_counted(new_store: NewStore) -> None:
    """Each claim counts one attempt, also after a nack and a lapse; another phase begins anew."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", attempts=7)
        expect(probe.get("a").attempts, 0, "the attempts of what was pushed")
        claim = probe.take("a")
        probe.do(Nack("orders", "a", claim.token))
        expect(probe.take("a", 1.0).attempt, 2, "the attempt after a nack")
        probe.now += SECOND
        claim = probe.take("a")
        expect(claim.attempt, 3, "the attempt after a lapse")
        probe.do(Ack("orders", "a", claim.token, "processed"))
        expect(probe.get("a").attempts, 0, "the attempts in the next phase")
        claim = probe.take("a")
        expect(claim.attempt, 1, "the first attempt there")
        probe.do(Nack("orders", "a", claim.token, 0.0, "", "received"))
        expect(probe.take("a").attempt, 1, "the first attempt after a dead letter")
        expect(probe.do(UpdatePhase("orders", "a", "processed")).attempts, 0, "after an update")
        expect(probe.take("a").attempt, 1, "the first attempt after an update")


def acks_finish(new_store: NewStore) -> None:
    """Ack takes the callback out of the queue, also with discard; the reply is None."""
    for discard in (False, True):
        with Probe(new_store) as probe:
            probe.push("a", "b")
            claim = probe.take("a")
            done = Ack("orders", "a", claim.token, None, discard, "why")
            expect(probe.do(done), None, "the reply")
            probe.holds("b")
            expect(probe.push("a"), ["duplicate"], "the outcome of its id")


def acks_may_lead_to_a_phase(new_store: NewStore) -> None:
    """Ack with then puts the callback into that phase, where it is available; its place stays."""
    with Probe(new_store) as probe:
        probe.push("a", "b")
        claim = probe.take("a")
        expect(probe.do(Ack("orders", "a", claim.token, "processed")), None, "the reply")
        expect(probe.get().phase, "processed", "the phase")
        probe.holds("a b")
        expect(probe.do(Count("orders", "processed")), 1, "the count of the phase")
        probe.offers("a", "processed")
        claim = probe.take("a", phase="processed")
        probe.do(Ack("orders", "a", claim.token, "received", True))
        probe.holds("b")


def nacks_give_back(new_store: NewStore) -> None:
    """Nack makes the callback available again after just retry_in seconds; its place stays."""
    for retry_in, wait in ((0.0, 0), (0, 0), (2, 2 * SECOND), (0.25, SECOND // 4)):
        with Probe(new_store, ttl=0) as probe:
            probe.push("a", "b")
            claim = probe.take("a")
            expect(probe.do(Nack("orders", "a", claim.token, retry_in)), None, "the reply")
            if wait:
                probe.now += wait - 1
                expect(probe.do(Pop("orders", "a")), None, "a pop one nanosecond early")
                probe.offers("b")
                probe.now += 1
            probe.offers("a b")
            expect(probe.do(Pop("orders")).attempts, 1, "the attempts of what is popped")


def nacks_may_be_the_last(new_store: NewStore) -> None:
    """Nack with dead_letter puts the callback into that phase at once, whatever retry_in says."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b")
        claim = probe.take("a")
        dead = Nack("orders", "a", claim.token, 60.0, "why", "processed")
        expect(probe.do(dead), None, "the reply")
        expect(probe.get().phase, "processed", "the phase")
        probe.offers("a", "processed")
        probe.holds("a b")


def releases_undo(new_store: NewStore) -> None:
    """Release makes the callback available at once, and takes its attempt back."""
    with Probe(new_store) as probe:
        probe.push("a", "b")
        for _ in range(2):
            claim = probe.take("a")
            expect(claim.attempt, 1, "the attempt")
            expect(probe.do(Release("orders", "a", claim.token)), None, "the reply")
            expect(probe.get().attempts, 0, "the attempts")
        probe.do(Nack("orders", "a", probe.take("a").token))
        claim = probe.take("a")
        expect(claim.attempt, 2, "the attempt after a nack")
        probe.do(Release("orders", "a", claim.token))
        expect(probe.do(Pop("orders")).attempts, 1, "the attempts of what is popped")


def leases_end(new_store: NewStore) -> None:
    """Until the last nanosecond of its lease a callback is claimed; then others may have it."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b")
        probe.take("a", 1.5)
        probe.now += 3 * SECOND // 2 - 1
        expect(probe.do(Pop("orders", "a")), None, "a pop one nanosecond early")
        probe.offers("b")
        probe.now += 1
        expect(probe.take("a", 1.0).attempt, 2, "the attempt")
        probe.now += SECOND
        expect(probe.do(Pop("orders")).id, "a", "what is popped")
        probe.holds("b")


def extensions_count_from_now(new_store: NewStore) -> None:
    """Extend answers when the lease ends: that many seconds from now, later or earlier."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a")
        claim = probe.take("a", 2.0)
        probe.now += SECOND
        longer = Extend("orders", "a", claim.token, 5.0)
        expect(probe.do(longer), probe.now + 5 * SECOND, "the reply")
        probe.now += 5 * SECOND - 1
        probe.offers("")
        shorter = Extend("orders", "a", claim.token, 0.5)
        expect(probe.do(shorter), probe.now + SECOND // 2, "the reply")
        probe.now += SECOND // 2 - 1
        probe.offers("")
        default = Extend("orders", "a", claim.token)
        expect(probe.do(default), probe.now + 30 * SECOND, "the reply")
        probe.do(shorter)
        probe.now += SECOND // 2
        expect(probe.take("a").attempt, 2, "the attempt")


def updates_to_the_same_phase_leave_claims(new_store: NewStore) -> None:
    """UpdatePhase to the phase it is in changes neither claim nor attempts nor a retry's delay."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a")
        claim = probe.take("a")
        same = UpdatePhase("orders", "a", "received")
        expect(probe.do(same).attempts, 1, "the attempts in the reply")
        probe.offers("")
        probe.do(Nack("orders", "a", claim.token, 1.0))
        probe.do(same)
        probe.now += SECOND - 1
        probe.offers("")
        probe.now += 1
        expect(probe.take("a").attempt, 2, "the attempt")


def updates_end_claims(new_store: NewStore) -> None:
    """UpdatePhase to another phase makes a claimed or delayed callback available there."""
    for delayed in (False, True):
        with Probe(new_store, ttl=0) as probe:
            probe.push("a")
            claim = probe.take("a")
            if delayed:
                probe.do(Nack("orders", "a", claim.token, 60.0))
            probe.do(UpdatePhase("orders", "a", "processed"))
            probe.offers("a", "processed")
            probe.do(UpdatePhase("orders", "a", "received"))
            probe.offers("a", "received")


def the_claimed_does_not_expire(new_store: NewStore) -> None:
    """What is claimed expires when its lease ends, if its time is over then."""
    with Probe(new_store) as probe:
        probe.push("a", "b")
        claim = probe.take("a", 2.0)
        probe.now += SECOND
        probe.sweep()
        probe.holds("a")
        expect(probe.get("a").id, "a", "what is fetched")
        probe.do(Extend("orders", "a", claim.token, 2.0))
        probe.now += 2 * SECOND - 1
        probe.sweep()
        probe.holds("a")
        probe.now += 1
        probe.holds("")
        expect(probe.claim(), [], "what can be claimed")


def the_time_of_the_claimed_counts_afterwards(new_store: NewStore) -> None:
    """A callback that is given back, or moved, after its time was over has expired at once."""
    for message in (Nack, Release, Ack, UpdatePhase):
        with Probe(new_store) as probe:
            probe.push("a")
            token = probe.take("a", 2.0).token
            probe.now += SECOND
            ends: dict[type, Any] = {
                Nack: Nack("orders", "a", token),
                Release: Release("orders", "a", token),
                Ack: Ack("orders", "a", token, "processed"),
                UpdatePhase: UpdatePhase("orders", "a", "processed"),
            }
            probe.do(ends[message])
            probe.holds("")
            expect(probe.claim(), [], f"what can be claimed after {message.__name__}")


def next_at_is_not_too_late(new_store: NewStore) -> None:
    """Who waits until next_at, and then again, misses nothing: delays, leases, extensions."""
    with Probe(new_store, ttl=0) as probe:
        expect(probe.do(ClaimSlice("orders", None)), ([], None), "the reply of an empty queue")
        probe.push("a", "b")
        probe.take("a", 3.0)
        second = probe.take("b", 5.0)
        probe.do(Extend("orders", "b", second.token, 2.0))
        second = probe.becomes("b", 2 * SECOND)
        probe.do(Nack("orders", "b", second.token, 0.5))
        second = probe.becomes("b", SECOND // 2)
        first = probe.becomes("a", SECOND // 2)
        probe.do(Nack("orders", "a", first.token, 2.0))
        probe.do(Nack("orders", "b", second.token, 2.5))
        probe.do(Ack("orders", "a", probe.becomes("a", 2 * SECOND).token))
        probe.do(Ack("orders", "b", probe.becomes("b", SECOND // 2).token))
        expect(probe.do(ClaimSlice("orders", None)), ([], None), "the reply in the end")


def next_at_comes_with_claims(new_store: NewStore) -> None:
    """A reply that has claims says next_at too: the lease of what it claimed may be the next."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a")
        claims, next_at = probe.do(ClaimSlice("orders", "received", 1, 2.0))
        expect(len(claims), 1, "how many were claimed")
        if next_at is None or not probe.now < next_at <= probe.now + 2 * SECOND:
            raise AssertionError(f"next_at: expected the end of the lease, got {next_at}")


def threads_claim_each_once(new_store: NewStore) -> None:
    """Of several threads that claim at once, each callback goes to one."""
    with Probe(new_store, ttl=0) as probe:
        _claim_all(probe, [probe.backend] * 4)


def handles_claim_each_once(new_store: NewStore) -> None:
    """shared: of several handles that claim at once, each callback goes to one; each can ack."""
    with Probe(new_store, ttl=0) as probe:
        if not probe.backend.shared:
            return
        handles = [probe.open() for _ in range(3)]
        try:
            _claim_all(probe, [probe.backend, *handles])
            probe.push("x")
            claim = probe.take("x")
            expect(probe.do(Pop("orders"), handles[0]), None, "a pop at another handle")
            probe.do(Ack("orders", "x", claim.token), handles[0])
            probe.holds("")
        finally:
            for handle in handles:
                handle.close()


def _claim_all(probe: Probe, backends: list[Backend]) -> None:
    ids = [f"c{number}" for number in range(120)]
    for id in ids:
        probe.do(Push("orders", Callback.new(b"x", id=id), trusted=True))
    taken: list[list[str]] = [[] for _ in backends]

    def work(number: int) -> None:
        backend = backends[number]
        while claims := probe.do(ClaimSlice("orders", "received", 3), backend).claims:
            for claim in claims:
                taken[number].append(claim.key)
                probe.do(Ack("orders", claim.key, claim.token), backend)

    at_once(work, len(backends))
    expect(sorted(id for some in taken for id in some), sorted(ids), "what was claimed")
    expect(probe.do(Count("orders")), 0, "the count")


def restarts_keep_claims(new_store: NewStore) -> None:
    """durable: a claim holds after a restart, its token too; attempts and delays are there."""
    with Probe(new_store, ttl=0) as probe:
        if not probe.backend.durable:
            return
        probe.push("a", "b", "c")
        first, second, third = probe.claim(3, None, 5.0)
        probe.do(Nack("orders", "b", second.token, 2.0))
        probe.do(Extend("orders", "c", third.token, 4.0))
        probe.reopen()
        probe.offers("")
        probe.do(Ack("orders", "a", first.token))
        expect(probe.becomes("b", 2 * SECOND).attempt, 2, "the attempt of one that was nacked")
        expect(probe.becomes("c", 2 * SECOND).attempt, 2, "the attempt of one that lapsed")
        probe.holds("b c")


CHECKS: tuple[Check, ...] = (
    claims_take_the_oldest,
    claims_say_what_they_are,
    the_claimed_is_not_available,
    the_claimed_is_seen,
    phases_to_claim_must_be_known,
    attempts_are_counted,
    acks_finish,
    acks_may_lead_to_a_phase,
    nacks_give_back,
    nacks_may_be_the_last,
    releases_undo,
    leases_end,
    extensions_count_from_now,
    updates_to_the_same_phase_leave_claims,
    updates_end_claims,
    the_claimed_does_not_expire,
    the_time_of_the_claimed_counts_afterwards,
    next_at_is_not_too_late,
    next_at_comes_with_claims,
    threads_claim_each_once,
    handles_claim_each_once,
    restarts_keep_claims,
)
