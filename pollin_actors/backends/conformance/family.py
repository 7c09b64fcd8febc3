"""Checks of sub events and replays: parents, roots, children, origins."""

from __future__ import annotations

from typing import Any

from pollin_actors.backends.conformance.probe import SECOND, Check, NewStore, Probe, expect, refuses
from pollin_actors.errors import CallbackNotFound, UnknownPhase
from pollin_actors.messages import (
    Ack,
    Children,
    CreateEndpoint,
    DeleteCallback,
    DumpPage,
    Fetch,
    FetchSlice,
    Pop,
    Push,
    UpdatePhase,
)
from pollin_actors.resources import Callback

__all__ = ["CHECKS"]


def _child(id: str, parent: str | None, **fields: Any) -> Push:
    callback = Callback.new(b"x", id=id, parent=parent).replace(**fields)
    return Push("orders", callback, trusted=True)


def _tree(probe: Probe) -> None:
    """a with b, c; b with d, d with e; f with g."""
    for id, parent in (("a", None), ("b", "a"), ("f", None), ("c", "a"), ("d", "b"), ("g", "f")):
        probe.do(_child(id, parent))
    probe.do(_child("e", "d"))


def _children(probe: Probe, key: str, deep: bool = False) -> str:
    return probe.ids(Children("orders", key, deep))


def roots_are_found(new_store: NewStore) -> None:
    """The root is the first of the line, whatever the push says; without a parent there is none."""
    with Probe(new_store) as probe:
        for id, parent, root in (("a", None, None), ("b", "a", "a"), ("c", "b", "a")):
            reply = probe.do(_child(id, parent, root="odd")).callback
            expect((reply.parent, reply.root), (parent, root), "parent and root in the reply")
            stored = probe.do(Fetch("orders", id))
            expect(stored, reply, "what is stored")
        for message in (FetchSlice("orders"), DumpPage("orders")):
            reply = probe.do(message)
            found = reply if isinstance(reply, list) else reply.callbacks
            expect([item.root for item in found], [None, "a", "a"], f"roots in {message!r}")
        probe.do(UpdatePhase("orders", "c", "processed"))
        popped = probe.do(Pop("orders", "c"))
        expect((popped.parent, popped.root), ("b", "a"), "parent and root of what is popped")


def parents_must_be_there(new_store: NewStore) -> None:
    """A parent that is neither queued nor kept is CallbackNotFound, which names it; nothing is
    stored, and the id is not remembered."""
    with Probe(new_store) as probe:
        probe.do(CreateEndpoint(probe.endpoint.replace(id="other")))
        probe.push("elsewhere", to="other")
        for parent in ("none", "elsewhere", "b", "A"):
            error = refuses(CallbackNotFound, probe.do, _child("b", parent))
            told = (error.endpoint_id, error.callback_id)
            expect(told, ("orders", parent), "what the error names")
        refuses(UnknownPhase, probe.do, _child("b", "none", phase="gone"))
        probe.holds("")
        expect(probe.records(), [], "the records")
        probe.push("a")
        refuses(CallbackNotFound, probe.do, _child("b", "A"))
        expect(probe.do(_child("b", "a")).outcome, "queued", "the outcome once it is right")


def parents_may_be_kept(new_store: NewStore) -> None:
    """A parent may have left the queue, in whichever way, as long as it is kept."""
    for way in (Pop, DeleteCallback, Ack, None):
        with Probe(new_store) as probe:
            probe.push("a")
            probe.do(_child("b", "a"))
            if way is Ack:
                probe.claim()
                probe.now += 30 * SECOND
            elif way is None:
                probe.now += SECOND
            else:
                probe.do(Pop("orders", "b") if way is Pop else DeleteCallback("orders", "b"))
            stored = probe.do(_child("c", "b")).callback
            expect((stored.parent, stored.root), ("b", "a"), "parent and root")


def parents_that_are_gone_are_missing(new_store: NewStore) -> None:
    """Where nothing is kept, what has left the queue cannot be a parent, swept or not."""
    for expired in (False, True):
        with Probe(new_store, keep_for=0) as probe:
            probe.push("a")
            expect(probe.do(_child("b", "a")).outcome, "queued", "the outcome while it is queued")
            if expired:
                probe.now += SECOND
            else:
                probe.do(Pop("orders"))
            refuses(CallbackNotFound, probe.do, _child("c", "a"))


def duplicates_need_no_parent(new_store: NewStore) -> None:
    """What comes again is a duplicate also where its parent is missing."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("a", "b")
        probe.do(Pop("orders"))
        outcomes = [probe.do(_child(id, "none")).outcome for id in ("a", "b")]
        expect(outcomes, ["duplicate", "duplicate"], "the outcomes")
        expect(probe.get("b").parent, None, "the parent of what is queued")


def children_are_listed(new_store: NewStore) -> None:
    """Children answers the sub events in the order of the pushes; with deep also theirs."""
    with Probe(new_store) as probe:
        _tree(probe)
        for key, near, deep in (
            ("a", "b c", "b c d e"),
            ("b", "d", "d e"),
            ("d", "e", "e"),
            ("e", "", ""),
            ("f", "g", "g"),
        ):
            expect(_children(probe, key), near, f"the children of {key}")
            expect(_children(probe, key, True), deep, f"all below {key}")
        probe.do(UpdatePhase("orders", "b", "processed"))
        expect(probe.do(Children("orders", "a"))[0].phase, "processed", "the phase of a child")
        for key in ("none", "", "A", "\ud800"):
            error = refuses(CallbackNotFound, probe.do, Children("orders", key))
            expect(error.callback_id, key, "the id in the error")


def children_may_be_kept(new_store: NewStore) -> None:
    """Children that have left the queue are listed as long as they are kept; so are those of one
    that has left it itself."""
    with Probe(new_store) as probe:
        _tree(probe)
        for key in ("b", "a", "c"):
            probe.do(Pop("orders", key))
        probe.do(DeleteCallback("orders", "d"))
        expect(_children(probe, "a"), "b c", "the children")
        expect(_children(probe, "a", True), "b c d e", "all below")
        probe.now += SECOND
        probe.sweep()
        expect(_children(probe, "a", True), "b c d e", "all below, once they have expired")


def lines_may_be_long(new_store: NewStore) -> None:
    """A line of a thousand is followed from end to end."""
    with Probe(new_store, ttl=0) as probe:
        probe.push("0")
        for number in range(1, 1001):
            probe.do(_child(str(number), str(number - 1)))
        expect(probe.get("1000").root, "0", "the root of the last")
        expect(len(probe.do(Children("orders", "0", True))), 1000, "how many there are below")


def origins_are_kept(new_store: NewStore) -> None:
    """What a callback repeats is kept with it, and is the reason of its first record."""
    with Probe(new_store) as probe:
        push = _child("a", None, origin="other/b c")
        expect(probe.do(push).callback.origin, "other/b c", "the origin in the reply")
        expect(probe.get().origin, "other/b c", "the origin that is stored")
        (record,) = probe.records(count=1)
        expect(record.reason, "other/b c", "the reason")
        expect(probe.do(Pop("orders")).origin, "other/b c", "the origin of what is popped")


def restarts_keep_families(new_store: NewStore) -> None:
    """durable: parents, roots, origins and children are there after a restart, queued or kept."""
    with Probe(new_store) as probe:
        if not probe.backend.durable:
            return
        _tree(probe)
        probe.push("r", origin="orders/a", attempts=2)
        probe.do(Pop("orders", "b"))
        probe.reopen()
        expect(_children(probe, "a", True), "b c d e", "all below")
        expect(probe.get("e").root, "a", "a root")
        expect(probe.get("r").origin, "orders/a", "an origin")
        stored = probe.do(_child("h", "b")).callback
        expect(stored.root, "a", "the root of a new child")


CHECKS: tuple[Check, ...] = (
    roots_are_found,
    parents_must_be_there,
    parents_may_be_kept,
    parents_that_are_gone_are_missing,
    duplicates_need_no_parent,
    children_are_listed,
    children_may_be_kept,
    lines_may_be_long,
    origins_are_kept,
    restarts_keep_families,
)
