"""Checks of fences: other names of callbacks, by which they are known again."""

from __future__ import annotations

from pollin_actors.backends.conformance.probe import (
    SECOND,
    Check,
    NewStore,
    Probe,
    expect,
    refuses,
)
from pollin_actors.errors import Full, PollinError, UnknownPhase, WrongSecret
from pollin_actors.messages import (
    Ack,
    CreateEndpoint,
    DeleteCallback,
    DeleteEndpoint,
    DumpPage,
    Fetch,
    FetchSlice,
    MoveCursor,
    PastPage,
    Pop,
    PopSlice,
    Push,
    Reset,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.resources import Callback, Endpoint, PushResult

__all__ = ["CHECKS"]


def _push(probe: Probe, id: str, fence: str | None, **fields: object) -> PushResult:
    callback = Callback.new(b"y", id=id, fence=fence).replace(**fields)
    result: PushResult = probe.do(Push("orders", callback, trusted=True))
    return result


def _outcomes(probe: Probe, *names: str) -> list[str]:
    """The outcomes of pushes, each named by its id and its fence: ``"a f"``."""
    found = []
    for name in names:
        id, _, fence = name.partition(" ")
        found.append(str(_push(probe, id, fence or None).outcome))
    return found


def queued_fences_are_duplicates(new_store: NewStore) -> None:
    """A fence that is queued adds nothing, whatever the id, also without dedup_for and when the
    endpoint is full; the reply has the queued one."""
    with Probe(new_store, ttl=0, dedup_for=0, capacity=1) as probe:
        stored = _push(probe, "a", "f").callback
        for _ in range(2):
            expect(_push(probe, "b", "f"), (stored, "duplicate"), "the reply")
        moved = probe.do(UpdatePhase("orders", "a", "processed"))
        probe.take("a")
        expect(_push(probe, "c", "f", parent="none", phase="received").callback, moved, "the reply")
        probe.holds("a")
        probe.now += 100 * SECOND
        if probe.backend.durable:
            probe.reopen()
        expect(_outcomes(probe, "b f", "a g", "a"), ["duplicate"] * 3, "the outcomes")
        probe.do(Pop("orders", "a"))
        probe.now += 100 * SECOND
        probe.do(Pop("orders"))
        expect(_outcomes(probe, "b f"), ["queued"], "the outcome once it is gone")


def gone_fences_are_remembered(new_store: NewStore) -> None:
    """For dedup_for after its push the fence of what was popped, acknowledged, deleted or has
    expired adds nothing; the reply has the callback that was pushed."""
    with Probe(new_store) as probe:
        names = ["a f", "b g", "c h", "d i", "e j"]
        expect(_outcomes(probe, *names), ["queued"] * 5, "the outcomes")
        probe.do(Pop("orders"))
        probe.do(PopSlice("orders", limit=1))
        probe.do(DeleteCallback("orders", "c"))
        claim = probe.take("d")
        probe.do(Ack("orders", "d", claim.token))
        probe.now += SECOND
        again = ["n f", "o g", "p h", "q i", "r j"]
        expect(_outcomes(probe, *again), ["duplicate"] * 5, "the outcomes")
        other = Callback.new(b"z", id="s", fence="f")
        pushed = probe.do(Push("orders", other, trusted=True))
        expect(pushed, (other, "duplicate"), "the reply")
        if probe.backend.durable:
            probe.reopen()
        probe.now += 9 * SECOND - 1
        probe.sweep()
        expect(_outcomes(probe, *again), ["duplicate"] * 5, "the outcomes a nanosecond before")
        probe.now += 1
        expect(_outcomes(probe, *again), ["queued"] * 5, "the outcomes after dedup_for")


def fences_are_remembered_as_ids_are(new_store: NewStore) -> None:
    """A changed dedup_for counts for later pushes; the fence of what has expired is free without
    dedup_for, whether it was swept or not."""
    with Probe(new_store) as probe:
        _push(probe, "a", "f")
        probe.do(UpdateEndpoint(probe.endpoint.replace(dedup_for=0)))
        _push(probe, "b", "g")
        probe.now += SECOND
        expect(_outcomes(probe, "c f", "d g"), ["duplicate", "queued"], "the outcomes")
        probe.do(UpdateEndpoint(probe.endpoint.replace(dedup_for=100)))
        probe.now += 9 * SECOND
        expect(_outcomes(probe, "e f", "f g", "d"), ["queued"] * 3, "the outcomes")
        probe.now += 99 * SECOND
        expect(_outcomes(probe, "g f", "h g"), ["duplicate"] * 2, "the outcomes")


def fences_are_no_ids(new_store: NewStore) -> None:
    """An id is compared with ids, a fence with fences; what has none is like nothing, and case
    counts."""
    with Probe(new_store) as probe:
        names = ["a b", "b a", "c", "d", "e A", "f f", "g ä", "h '%_", "i %"]
        expect(_outcomes(probe, *names), ["queued"] * 9, "the outcomes")
        probe.do(PopSlice("orders", limit=3))
        names = ["j c", "k d", "l j", "m aa", "A z", "n ", "o "]
        expect(_outcomes(probe, *names), ["queued"] * 7, "the outcomes")
        expect(_outcomes(probe, "p c", "q a", "j r"), ["duplicate"] * 3, "the outcomes")
        for key in ("a", "f", "\0f", "\0a"):
            expect(probe.do(Fetch("orders", key)) is None, key != "f", f"that {key!r} is no id")


def ids_come_before_fences(new_store: NewStore) -> None:
    """Where one callback is queued with the id and another with the fence, the reply has that with
    the id; if the id is only remembered, that with the fence."""
    with Probe(new_store) as probe:
        for name in ("a f", "b g", "c h"):
            _outcomes(probe, name)
        expect(_push(probe, "a", "g").callback.id, "a", "the id in the reply")
        probe.do(Pop("orders"))
        expect(_push(probe, "a", "g").callback.id, "b", "the id in the reply")
        expect(_push(probe, "b", "f").callback.id, "b", "the id in the reply")
        expect(_push(probe, "a", "f").callback.fence, "f", "the fence in the reply")
        probe.holds("b c")


def what_adds_nothing_leaves_no_fence(new_store: NewStore) -> None:
    """The fence of a duplicate, or of what was refused, is not remembered."""
    with Probe(new_store, capacity=2) as probe:
        _push(probe, "a", "f")
        expect(_outcomes(probe, "a g", "z f"), ["duplicate"] * 2, "the outcomes")
        expect(_outcomes(probe, "b g"), ["queued"], "the outcome")
        for fence, phase, secret, error in (
            ("h", "gone", "s", UnknownPhase),
            ("i", "", "wrong", WrongSecret),
            ("j", "", "s", Full),
        ):
            callback = Callback.new(b"x", id="c", fence=fence, phase=phase)
            push = Push("orders", callback, secret)
            refuses(error, probe.do, push)
        probe.do(UpdateEndpoint(probe.endpoint.replace(capacity=None)))
        names = ["c h", "d i", "e j", "z k"]
        expect(_outcomes(probe, *names), ["queued"] * 4, "the outcomes")


def fences_belong_to_their_endpoint(new_store: NewStore) -> None:
    """The same fence in two endpoints is two; reset and deletion forget all of an endpoint."""
    with Probe(new_store) as probe:
        probe.do(CreateEndpoint(Endpoint.new(id="other")))
        probe.push("a", to="other", fence="f")
        expect(_outcomes(probe, "b f", "c g"), ["queued"] * 2, "the outcomes")
        probe.do(Pop("orders"))
        probe.do(Reset("orders"))
        expect(_outcomes(probe, "d f", "e g"), ["queued"] * 2, "the outcomes after a reset")
        probe.do(Pop("orders"))
        probe.do(DeleteEndpoint("orders"))
        probe.do(CreateEndpoint(probe.endpoint))
        expect(_outcomes(probe, "b f", "c g"), ["queued"] * 2, "the outcomes after a deletion")
        expect(probe.push("b", to="other", fence="f"), ["duplicate"], "the outcome of the other")


def fences_are_kept_exactly(new_store: NewStore) -> None:
    """Whatever reads a callback answers its fence, with all else that it has."""
    fence = ("ä ☃ '\"\\\n%_" * 20)[:200]
    with Probe(new_store, ttl=0) as probe:
        _push(probe, "z", None)
        fields = {"parent": "z", "ordering_key": "k", "not_before": 5, "origin": "x/y"}
        plain, rich = _push(probe, "a", fence), _push(probe, "b", fence[1:], **fields)
        expect([plain.callback.fence, rich.callback.fence], [fence, fence[1:]], "the fences")
        stored = [plain.callback, rich.callback]
        expect(probe.do(FetchSlice("orders", None, 1)), stored, "the slice")
        expect([probe.get("a"), probe.get("b")], stored, "what is fetched")
        expect(probe.do(DumpPage("orders")).callbacks[1:], stored, "the dump")
        expect(probe.do(PastPage("orders")).callbacks[1:], stored, "the past")
        expect([claim.callback for claim in probe.claim(9)][1:], stored, "what is claimed")
        moved = probe.do(UpdatePhase("orders", "b", "processed"))
        expect(moved, rich.callback.with_phase("processed"), "what was moved")
        expect(probe.do(Pop("orders", "b")), moved, "what is popped")
        expect(probe.do(Fetch("orders", "b", True)), moved, "what is kept")


def moves_know_fences(new_store: NewStore) -> None:
    """Pushes of MoveCursor know the fences of those before them; a move that is refused leaves
    none."""

    def made(name: str) -> Callback:
        return Callback.new(b"x", id=name[0], fence=name[2:] or None)

    with Probe(new_store) as probe:
        _push(probe, "a", "f")
        pushes = tuple(map(made, ("b f", "c g", "d g", "c", "e h")))
        reply = probe.do(MoveCursor("orders", "c", 1, 0, pushes))
        expect([item.callback.id for item in reply], ["a", "c", "c", "c", "e"], "the reply")
        probe.holds("a c e")
        wrong = (made("i i"), made("j h"), made("k k").replace(phase="gone"))
        move = MoveCursor("orders", "c", 2, 1, wrong)
        refuses(PollinError, probe.do, move)
        expect(_outcomes(probe, "j i", "i k", "k g"), ["queued"] * 2 + ["duplicate"], "the rest")


CHECKS: tuple[Check, ...] = (
    queued_fences_are_duplicates,
    gone_fences_are_remembered,
    fences_are_remembered_as_ids_are,
    fences_are_no_ids,
    ids_come_before_fences,
    what_adds_nothing_leaves_no_fence,
    fences_belong_to_their_endpoint,
    fences_are_kept_exactly,
    moves_know_fences,
)
