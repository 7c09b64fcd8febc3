"""Checks of ordering keys: one at a time, and who is next."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pollin_actors.backends.conformance.probe import (
    SECOND,
    Check,
    NewStore,
    Probe,
    at_once,
    expect,
)
from pollin_actors.messages import (
    Ack,
    ClaimSlice,
    Count,
    CreateEndpoint,
    DeleteCallback,
    Fetch,
    Nack,
    Pop,
    PopSlice,
    Release,
    Stats,
    UpdatePhase,
)

__all__ = ["CHECKS"]


def one_of_a_key_is_available(new_store: NewStore) -> None:
    """Of one ordering key one is available at a time; what has another key, or none, is not held
    up; a slice has one of each."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b", ordering_key="k")
        probe.push("c", "d")
        probe.push("e", "f", ordering_key="other")
        probe.offers("a c d e")
        expect(probe.do(Pop("orders", "b")), None, "a pop by key of one that has to wait")
        expect(probe.ids(PopSlice("orders", "received", 3, 9)), "e", "a slice from the third on")
        expect(probe.ids(PopSlice("orders")), "a c d f", "a slice")
        expect(probe.ids(PopSlice("orders")), "b", "the next slice")
        probe.holds("")


def those_who_wait_are_seen(new_store: NewStore) -> None:
    """What waits for others is read and counted; its ordering key comes back."""
    with Probe(new_store) as probe:
        probe.push("a", "b", ordering_key="k")
        probe.holds("a b")
        expect(probe.get("b").ordering_key, "k", "the key of what is fetched")
        expect(probe.do(Pop("orders")).ordering_key, "k", "the key of what is popped")
        expect(probe.take("b").callback.ordering_key, "k", "the key of what is claimed")


Removal = Callable[[Probe], object]


def _claimed(make: Callable[[str], object]) -> Removal:
    return lambda probe: probe.do(make(probe.take("a").token))


LEAVING: dict[str, Removal] = {
    "Pop": lambda probe: probe.do(Pop("orders")),
    "Pop by key": lambda probe: probe.do(Pop("orders", "a")),
    "PopSlice": lambda probe: probe.do(PopSlice("orders", "received", 0, 1)),
    "DeleteCallback": lambda probe: probe.do(DeleteCallback("orders", "a")),
    "UpdatePhase": lambda probe: probe.do(UpdatePhase("orders", "a", "processed")),
    "Ack": _claimed(lambda token: Ack("orders", "a", token)),
    "Ack into a phase": _claimed(lambda token: Ack("orders", "a", token, "processed")),
    "Ack that discards": _claimed(lambda token: Ack("orders", "a", token, None, True)),
    "Nack for the last time": _claimed(
        lambda token: Nack("orders", "a", token, 9.0, "", "processed")
    ),
}


def the_next_follows(new_store: NewStore) -> None:
    """When the first of a key leaves the phase or the queue, the next is available at once."""
    for name, leave in LEAVING.items():
        with Probe(new_store) as probe:
            probe.push("a", "b", "c", ordering_key="k")
            leave(probe)
            claims = probe.claim(9, "received")
            expect([claim.key for claim in claims], ["b"], f"what is next after {name}")


def the_next_follows_the_expired(new_store: NewStore) -> None:
    """When the first of a key expires, the next is available at once, swept or not."""
    for sweep in (False, True):
        with Probe(new_store) as probe:
            probe.push("a", ordering_key="k")
            probe.now += SECOND // 2
            probe.push("b", "c", ordering_key="k")
            probe.now += SECOND // 2 - 1
            probe.offers("a")
            probe.now += 1
            if sweep:
                probe.sweep()
            probe.offers("b")
            probe.push("d", ordering_key="k")
            expect(probe.do(Pop("orders")).id, "b", "what is popped")
            probe.offers("c")


def who_is_busy_holds_the_others(new_store: NewStore) -> None:
    """The others wait while the first is claimed, waits for its time, or for its next attempt."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", not_before=probe.now + SECOND, ordering_key="k")
        probe.push("b", ordering_key="k")
        probe.offers("")
        probe.now += SECOND
        claim = probe.take("a", 1.0)
        probe.push("c", ordering_key="k")
        probe.offers("")
        probe.do(Nack("orders", "a", claim.token, 5.0))
        probe.do(DeleteCallback("orders", "c"))
        probe.push("d", ordering_key="k")
        probe.offers("")
        probe.now += 5 * SECOND
        claim = probe.take("a", 1.0)
        probe.now += SECOND
        probe.offers("a")
        claim = probe.take("a", 1.0)
        probe.do(Release("orders", "a", claim.token))
        probe.offers("a")
        probe.do(UpdatePhase("orders", "a", "received"))
        probe.do(DeleteCallback("orders", "b"))
        probe.push("e", ordering_key="k")
        probe.offers("a")


def the_next_may_have_to_wait(new_store: NewStore) -> None:
    """The next is the first in the queue, also where it waits for its time and others do not."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", ordering_key="k")
        probe.push("b", ordering_key="k", not_before=probe.now + SECOND)
        probe.push("c", ordering_key="k")
        probe.do(Pop("orders"))
        probe.offers("")
        probe.becomes("b", SECOND)


def keys_are_of_a_phase(new_store: NewStore) -> None:
    """In each phase one of a key is available, and in each endpoint."""
    with Probe(new_store, ttl=0) as probe:
        probe.do(CreateEndpoint(probe.endpoint.replace(id="other")))
        probe.push("a", "b", ordering_key="k")
        probe.push("c", "d", phase="processed", ordering_key="k")
        probe.push("e", to="other", ordering_key="k")
        probe.offers("a c")
        expect(probe.do(Pop("other")).id, "e", "what is popped of another endpoint")
        probe.do(UpdatePhase("orders", "a", "processed"))
        probe.offers("b c")
        probe.do(Pop("orders", "c"))
        probe.offers("a b")


def who_has_the_turn_keeps_it(new_store: NewStore) -> None:
    """An older one that enters the phase waits; then it comes before the younger that wait."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b", "c", ordering_key="k")
        probe.do(UpdatePhase("orders", "a", "processed"))
        probe.offers("b", "received")
        probe.do(UpdatePhase("orders", "a", "received"))
        probe.offers("b")
        probe.do(UpdatePhase("orders", "b", "received"))
        expect(probe.do(Pop("orders", "a")), None, "a pop of the older one")
        claim = probe.take("b")
        probe.push("d", ordering_key="k")
        probe.offers("")
        probe.do(Release("orders", "b", claim.token))
        probe.do(Pop("orders"))
        probe.offers("a")
        probe.do(Pop("orders"))
        probe.offers("c")


def the_turn_comes_back_to_nobody(new_store: NewStore) -> None:
    """Who leaves the phase and returns has lost the turn, also if it was the oldest."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b", ordering_key="k")
        claim = probe.take("a")
        probe.do(Ack("orders", "a", claim.token, "processed"))
        probe.do(UpdatePhase("orders", "a", "received"))
        probe.offers("b")
        probe.do(DeleteCallback("orders", "a"))
        probe.offers("b")


def ordering_keys_are_told_apart(new_store: NewStore) -> None:
    """Ordering keys are the same if every character is."""
    keys = ("a", "A", "1", "01", "%", "_", "\u00e9", "e\u0301", "a ", " a", "x" * 499, "x" * 500)
    with Probe(new_store, ttl=0) as probe:
        for number, key in enumerate(keys):
            probe.push(f"c{number}", ordering_key=key)
        probe.offers(" ".join(f"c{number}" for number in range(len(keys))))
        for number, key in enumerate(keys):
            expect(probe.do(Fetch("orders", f"c{number}")).ordering_key, key, "a key")


def duplicates_take_no_turn(new_store: NewStore) -> None:
    """A push that is a duplicate changes neither key nor turn."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b", ordering_key="k")
        probe.push("b", "a", ordering_key="other")
        probe.offers("a")
        probe.do(Pop("orders"))
        probe.push("a", ordering_key="k")
        probe.offers("b")


def next_at_knows_the_turn(new_store: NewStore) -> None:
    """Who waits until next_at misses neither the expiry of the one that the others wait for, nor
    the end of its lease, nor the time of the next."""
    with Probe(new_store) as probe:
        probe.push("a", ordering_key="k", not_before=probe.now + 60 * SECOND)
        probe.now += SECOND // 2
        probe.push("b", ordering_key="k", not_before=probe.now + 3 * SECOND // 4)
        probe.becomes("b", 3 * SECOND // 4)
    with Probe(new_store) as probe:
        probe.push("a", ordering_key="k", not_before=probe.now + 60 * SECOND)
        probe.now += SECOND // 2
        probe.push("b", ordering_key="k")
        probe.becomes("b", SECOND // 2)
    with Probe(new_store) as probe:
        probe.push("a", ordering_key="k")
        probe.now += SECOND // 2
        probe.push("b", ordering_key="k")
        probe.take("a", 0.75)
        probe.becomes("b", 3 * SECOND // 4)
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b", ordering_key="k")
        probe.take("a", 2.0)
        probe.becomes("a", 2 * SECOND)


def those_who_wait_are_counted(new_store: NewStore) -> None:
    """Stats counts as delayed who waits for others, and who waits for its time."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b", "c", ordering_key="k")
        probe.push("d", not_before=probe.now + SECOND)
        stats = probe.do(Stats("orders"))
        expect((stats.queued, stats.claimed, stats.delayed), (4, 0, 3), "queued, claimed, delayed")
        claim = probe.take("a")
        probe.now += SECOND
        stats = probe.do(Stats("orders"))
        expect((stats.queued, stats.claimed, stats.delayed), (4, 1, 2), "queued, claimed, delayed")
        probe.do(Nack("orders", "a", claim.token, 1.0))
        stats = probe.do(Stats("orders"))
        expect((stats.queued, stats.claimed, stats.delayed), (4, 0, 3), "queued, claimed, delayed")


def threads_take_turns(new_store: NewStore) -> None:
    """However many threads claim at once, those of one key are worked on one by one, in order."""
    with Probe(new_store, ttl=0) as probe:
        for number in range(60):
            probe.push(f"{number}", ordering_key=f"k{number % 3}")
        busy: set[str] = set()
        order: list[int] = []
        guard = threading.Lock()

        def work(number: int) -> None:
            while True:
                claims = probe.do(ClaimSlice("orders", "received", 1)).claims
                if not claims and not probe.do(Fetch("orders")):
                    return
                for claim in claims:
                    key = str(claim.callback.ordering_key)
                    with guard:
                        expect(key in busy, False, f"whether {key} was busy")
                        busy.add(key)
                        order.append(int(claim.key))
                    probe.do(Count("orders"))  # time for the others to go wrong
                    with guard:
                        busy.remove(key)
                    probe.do(Ack("orders", claim.key, claim.token))

        at_once(work)
        for rest in range(3):
            done = [number for number in order if number % 3 == rest]
            expect(done, list(range(rest, 60, 3)), "the order in which those of one key came")


def restarts_keep_the_turn(new_store: NewStore) -> None:
    """durable: after a restart the same ones have the turn, also where they are not the oldest."""
    with Probe(new_store, ttl=0) as probe:
        if not probe.backend.durable:
            return
        probe.push("a", "b", "c", ordering_key="k")
        probe.do(UpdatePhase("orders", "a", "processed"))
        probe.do(UpdatePhase("orders", "a", "received"))
        probe.push("d", "e", ordering_key="other")
        probe.take("b")
        probe.do(Nack("orders", "d", probe.take("d").token, 1.0))
        probe.reopen()
        probe.offers("")
        probe.now += SECOND
        probe.offers("d")
        probe.now += 30 * SECOND
        probe.offers("b d")
        probe.do(Pop("orders"))
        probe.offers("a d")


CHECKS: tuple[Check, ...] = (
    one_of_a_key_is_available,
    those_who_wait_are_seen,
    the_next_follows,
    the_next_follows_the_expired,
    who_is_busy_holds_the_others,
    the_next_may_have_to_wait,
    keys_are_of_a_phase,
    who_has_the_turn_keeps_it,
    the_turn_comes_back_to_nobody,
    ordering_keys_are_told_apart,
    duplicates_take_no_turn,
    next_at_knows_the_turn,
    those_who_wait_are_counted,
    threads_take_turns,
    restarts_keep_the_turn,
)
