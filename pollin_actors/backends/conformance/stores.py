"""Checks of the life of a backend, of threads, of restarts, and of several handles on one store."""

from __future__ import annotations

from pollin_actors.backends.conformance.probe import (
    SECOND,
    Check,
    NewStore,
    Probe,
    answer,
    at_once,
    expect,
    refuses,
)
from pollin_actors.backends.interface import Backend
from pollin_actors.errors import BackendUnavailable, EndpointExists, UnknownPhase, WrongSecret
from pollin_actors.messages import (
    CheckReady,
    Count,
    CreateEndpoint,
    DeleteEndpoint,
    Fetch,
    FindEndpoint,
    IndexEndpoints,
    Pop,
    PopSlice,
    Push,
    Sweep,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.resources import Callback, Endpoint, Request

__all__ = ["CHECKS"]


def backends_have_the_interface(new_store: NewStore) -> None:
    """A backend has the methods of Backend; shared and durable are bools."""
    backend = new_store()()
    expect(isinstance(backend, Backend), True, "isinstance(backend, Backend)")
    expect(type(backend.shared), bool, "the type of shared")
    expect(type(backend.durable), bool, "the type of durable")


def closed_backends_refuse(new_store: NewStore) -> None:
    """While it is not open, BackendUnavailable; closing twice does nothing; it can be reopened.

    If it is durable, everything is there again then; others may have forgotten it.
    """
    with Probe(new_store) as probe:
        backend = probe.backend
        probe.push("a")
        backend.close()
        backend.close()
        for message in (IndexEndpoints(), Pop("orders"), Sweep()):
            refuses(BackendUnavailable, probe.do, message)
        backend.open(lambda: probe.now)
        found = probe.do(IndexEndpoints())
        if backend.durable:
            expect(found, [probe.endpoint], "the endpoints after it was opened again")
            probe.holds("a")
        new = probe.new_backend()
        refuses(BackendUnavailable, probe.do, IndexEndpoints(), new)


def ready_backends_say_so(new_store: NewStore) -> None:
    """CheckReady answers None and changes nothing; while it is closed, BackendUnavailable."""
    with Probe(new_store) as probe:
        probe.push("a")
        expect(probe.do(CheckReady()), None, "the reply")
        probe.holds("a")
        expect(probe.do(IndexEndpoints()), [probe.endpoint], "the endpoints")
        probe.backend.close()
        refuses(BackendUnavailable, probe.do, CheckReady())


def closing_finishes_what_was_accepted(new_store: NewStore) -> None:
    """What was sent before close() is answered; if durable, it is there after reopening."""
    with Probe(new_store) as probe:
        callbacks = [Callback.new(b"x", id=f"c{number}") for number in range(100)]
        execute = probe.backend.execute
        replies = [execute(Push("orders", item, trusted=True)) for item in callbacks]
        count = execute(Count("orders"))
        probe.backend.close()
        outcomes = [str(answer(reply).outcome) for reply in replies]
        expect(outcomes, ["queued"] * 100, "the outcomes")
        expect(answer(count), 100, "the count")
        if probe.backend.durable:
            probe.backend.open(lambda: probe.now)
            probe.holds(" ".join(callback.id for callback in callbacks))


def threads_share_a_backend(new_store: NewStore) -> None:
    """From several threads at once, nothing is lost and nothing comes twice."""
    with Probe(new_store, ttl=0) as probe:
        _push_and_pop(probe, [probe.backend] * 4, 60)


def restarts_find_everything(new_store: NewStore) -> None:
    """durable: a new handle on the store finds endpoints, callbacks and the memory of ids."""
    with Probe(new_store) as probe:
        if not probe.backend.durable:
            return
        callback = Callback.new(Request([("a", "b")], b"\0\xff"), id="b")
        probe.push("a")
        probe.do(Push("orders", callback, trusted=True))
        probe.push("c", "d")
        probe.do(UpdatePhase("orders", "c", "processed"))
        probe.do(Pop("orders"))
        probe.do(CreateEndpoint(Endpoint.new(id="other")))
        probe.backend.close()
        probe.backend = probe.open()
        expect([e.id for e in probe.do(IndexEndpoints())], ["orders", "other"], "the endpoints")
        expect(probe.do(FindEndpoint("orders")), probe.endpoint, "the endpoint")
        probe.holds("b c d")
        expect(probe.do(Fetch("orders")), callback.with_phase("received"), "the oldest")
        expect(probe.do(Count("orders", "processed")), 1, "the count of a phase")
        expect(probe.push("a", "c"), ["duplicate", "duplicate"], "the outcomes")
        probe.now += SECOND
        probe.holds("")
        probe.now += 9 * SECOND
        expect(probe.push("a"), ["queued"], "the outcome once the id is forgotten")


def handles_see_each_other(new_store: NewStore) -> None:
    """shared: what one handle was answered, another sees at once, changes of endpoints included."""
    with Probe(new_store) as probe:
        if not probe.backend.shared:
            return
        other = probe.open()
        try:
            probe.push("a", "b")
            expect(probe.do(Count("orders"), other), 2, "the other's count")
            expect(probe.do(Pop("orders"), other).id, "a", "what the other popped")
            probe.holds("b")
            again = Push("orders", Callback.new(b"", id="a"), trusted=True)
            expect(probe.do(again).outcome, "duplicate", "the outcome")
            changed = probe.endpoint.replace(phases=("new",), secret="t")
            probe.do(UpdateEndpoint(changed), other)
            old = Push("orders", Callback.new(b"", id="c"), "s")
            refuses(WrongSecret, probe.do, old)
            refuses(
                UnknownPhase, probe.do, Push("orders", Callback.new(b"", phase="processed"), "t")
            )
            new = Push("orders", Callback.new(b"", id="c"), "t")
            expect(probe.do(new).callback.phase, "new", "the phase of a push")
            twice = CreateEndpoint(probe.endpoint)
            refuses(EndpointExists, probe.do, twice, other)
            probe.do(DeleteEndpoint("orders"), other)
            probe.do(CreateEndpoint(probe.endpoint), other)
            probe.holds("")
        finally:
            other.close()


def handles_share_the_work(new_store: NewStore) -> None:
    """shared: pushed and popped through several handles at once, nothing is lost or comes twice."""
    with Probe(new_store, ttl=0) as probe:
        if not probe.backend.shared:
            return
        handles = [probe.open() for _ in range(3)]
        try:
            _push_and_pop(probe, [probe.backend, *handles], 60)
        finally:
            for handle in handles:
                handle.close()


def _push_and_pop(probe: Probe, backends: list[Backend], turns: int) -> None:
    """One thread for each of the backends pushes and pops; compare what went in and came out."""
    taken: list[list[str]] = [[] for _ in backends]

    def work(number: int) -> None:
        backend = backends[number]
        for turn in range(turns):
            callback = Callback.new(b"x", id=f"{number}-{turn}")
            probe.do(Push("orders", callback, trusted=True), backend)
            found = probe.do(Pop("orders"), backend)
            if found is not None:
                taken[number].append(found.id)

    at_once(work, len(backends))
    left = [callback.id for callback in probe.do(PopSlice("orders", limit=10**6))]
    found = sorted([*left, *(id for ids in taken for id in ids)])
    pushed = sorted(f"{n}-{turn}" for n in range(len(backends)) for turn in range(turns))
    expect(found, pushed, "what was popped and what was left")


CHECKS: tuple[Check, ...] = (
    backends_have_the_interface,
    closed_backends_refuse,
    ready_backends_say_so,
    closing_finishes_what_was_accepted,
    threads_share_a_backend,
    restarts_find_everything,
    handles_see_each_other,
    handles_share_the_work,
)
