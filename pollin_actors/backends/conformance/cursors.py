"""Checks of named cursors: each where it was put, and moved together with what is pushed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pollin_actors.backends.conformance.probe import (
    Check,
    NewStore,
    Probe,
    at_once,
    expect,
    refuses,
)
from pollin_actors.errors import (
    CallbackNotFound,
    CursorConflict,
    Full,
    InvalidValue,
    PollinError,
    UnknownPhase,
)
from pollin_actors.messages import (
    CreateEndpoint,
    DeleteEndpoint,
    Fetch,
    FindCursor,
    MoveCursor,
    Pop,
    Reset,
    UpdateEndpoint,
)
from pollin_actors.resources import Callback, PushResult

__all__ = ["CHECKS"]


def _callback(id: str, **fields: Any) -> Callback:
    return Callback.new(b"x", id=id).replace(**fields)


def cursors_stay_where_they_are_put(new_store: NewStore) -> None:
    """A cursor is at 0 until it is moved, and then where it was moved to, forwards or back."""
    with Probe(new_store) as probe:
        expect(probe.do(FindCursor("orders", "c")), 0, "a new cursor")
        for position in (5, 7, 2, 0, 2**62):
            expect(probe.do(MoveCursor("orders", "c", position)), (), "the reply")
            expect(probe.do(FindCursor("orders", "c")), position, "where it is")
        expect(probe.records(), [], "the records of it")


def cursors_are_told_apart(new_store: NewStore) -> None:
    """Names are the same if every character is, and of one endpoint."""
    names = ("a", "A", "1", "01", "%", "_", "\u00e9", "e\u0301", "a ", " a", "x" * 199, "x" * 200)
    with Probe(new_store) as probe:
        probe.do(CreateEndpoint(probe.endpoint.replace(id="other")))
        for number, name in enumerate(names):
            expect(probe.do(FindCursor("orders", name)), 0, f"the new cursor {name!r}")
            probe.do(MoveCursor("orders", name, number + 1))
        found = [probe.do(FindCursor("orders", name)) for name in names]
        expect(found, list(range(1, len(names) + 1)), "where they are")
        expect(probe.do(FindCursor("other", "a")), 0, "the cursor of another endpoint")


def cursors_may_be_expected_somewhere(new_store: NewStore) -> None:
    """With expect a cursor is moved only if it is there: else CursorConflict says where it is."""
    with Probe(new_store) as probe:
        probe.do(MoveCursor("orders", "c", 5, 0))
        for expected in (0, 4, 6):
            move = MoveCursor("orders", "c", 9, expected, (_callback("a"),))
            error = refuses(CursorConflict, probe.do, move)
            told = (error.endpoint_id, error.name, error.expected, error.position)
            expect(told, ("orders", "c", expected, 5), "what the error says")
        probe.holds("")
        expect(probe.records(), [], "the records")
        expect(probe.do(FindCursor("orders", "c")), 5, "where it is")
        probe.do(MoveCursor("orders", "c", 9, 5))
        expect(probe.do(FindCursor("orders", "c")), 9, "where it is, moved as expected")
        refuses(CursorConflict, probe.do, MoveCursor("orders", "new", 1, 1))


def moves_push(new_store: NewStore) -> None:
    """What is pushed with a move is stored as by a trusted push, in order; duplicates add
    nothing, and one may be the parent of the next."""
    with Probe(new_store) as probe:
        probe.push("a")
        pushes = (_callback("b", phase="processed"), _callback("a"), _callback("c", parent="b"))
        reply = probe.do(MoveCursor("orders", "c", 3, 0, (*pushes, _callback("b"))))
        expect([type(reply), type(reply[0])], [tuple, PushResult], "the type of the reply")
        outcomes = [str(item.outcome) for item in reply]
        expect(outcomes, ["queued", "duplicate", "queued", "duplicate"], "the outcomes")
        stored = [item.callback for item in reply]
        phases = ["processed", "received", "received", "processed"]
        expect([item.phase for item in stored], phases, "the phases")
        expect(stored[2].root, "b", "the root of a child")
        probe.holds("a b c")
        expect(probe.do(Fetch("orders", "c")), stored[2], "what is stored")
        expect(stored[3], stored[0], "the callback of a duplicate")
        records = [(record.callback_id, str(record.kind)) for record in probe.records()]
        expected = [(id, "pushed") for id in "abc"]
        expected[2:2], expected[4:] = [("a", "repeated")], [("b", "repeated")]
        expect(records, expected, "the records")
        expect(probe.do(FindCursor("orders", "c")), 3, "where the cursor is")


ERRORS: tuple[tuple[type[PollinError], dict[str, Any]], ...] = (
    (UnknownPhase, {"phase": "gone"}),
    (CallbackNotFound, {"parent": "none"}),
    (Full, {}),
)


def moves_are_whole(new_store: NewStore) -> None:
    """If one push is refused nothing has happened: cursor, queue, records and ids are as before."""
    for error, fields in ERRORS:
        with Probe(new_store, ttl=0) as probe:
            probe.push("a", "gone", ordering_key="k")
            probe.do(Pop("orders"))
            if error is Full:
                full = probe.endpoint.replace(capacity=3)
                probe.do(UpdateEndpoint(full))
            probe.do(MoveCursor("orders", "c", 5))
            before = probe.records()
            pushes = (_callback("b", ordering_key="k"), _callback("c", ordering_key="new"))
            move = MoveCursor("orders", "c", 9, 5, (*pushes, _callback("d", **fields)))
            refuses(error, probe.do, move)
            expect(probe.do(FindCursor("orders", "c")), 5, f"the cursor after {error.__name__}")
            probe.holds("gone")
            expect(probe.records(), before, f"the records after {error.__name__}")
            expect(probe.push("c", "b", ordering_key="new"), ["queued"] * 2, "the outcomes")
            probe.offers("gone c")


def moves_say_the_conflict_first(new_store: NewStore) -> None:
    """A cursor that is elsewhere is said before what is wrong with a push."""
    with Probe(new_store) as probe:
        move = MoveCursor("orders", "c", 9, 5, (_callback("a", phase="gone"),))
        refuses(CursorConflict, probe.do, move)
        refuses(UnknownPhase, probe.do, move._replace(expect=0))


def threads_move_it_once(new_store: NewStore) -> None:
    """Of several threads that move a cursor from one position to another, one succeeds."""
    with Probe(new_store, ttl=0) as probe:
        moved: list[list[int]] = [[] for _ in range(4)]

        def work(number: int) -> None:
            while (at := probe.do(FindCursor("orders", "c"))) < 40:
                push = _callback(f"{at}-{number}")
                try:
                    probe.do(MoveCursor("orders", "c", at + 1, at, (push,)))
                except CursorConflict:
                    continue
                moved[number].append(at)

        at_once(work)
        expect(sorted(at for some in moved for at in some), list(range(40)), "the moves")
        found = [int(record.callback_id.split("-")[0]) for record in probe.records()]
        expect(found, list(range(40)), "what was pushed with them")


Forgetting = Callable[[Probe], object]


def _anew(probe: Probe) -> None:
    probe.do(DeleteEndpoint("orders"))
    probe.do(CreateEndpoint(probe.endpoint))


def cursors_are_forgotten(new_store: NewStore) -> None:
    """Reset, and the deletion of the endpoint, forget its cursors."""
    forgettings: tuple[Forgetting, ...] = (lambda probe: probe.do(Reset("orders")), _anew)
    for forget in forgettings:
        with Probe(new_store) as probe:
            probe.do(MoveCursor("orders", "c", 5))
            forget(probe)
            expect(probe.do(FindCursor("orders", "c")), 0, "where it is")
            probe.do(MoveCursor("orders", "c", 1, 0))


def odd_moves_are_refused(new_store: NewStore) -> None:
    """A name, a position or pushes of another type are InvalidValue that names the field."""
    odd: tuple[Any, ...] = (-1, True, 1.5, "1")
    names: tuple[Any, ...] = (None, 5, b"c", "", "a\0", "\ud800", "x" * 3000)
    callback = _callback("a")
    messages: list[tuple[str, Any]] = [
        ("MoveCursor.position", MoveCursor("orders", "c", value)) for value in (*odd, *names[:1])
    ]
    messages += [("MoveCursor.expect", MoveCursor("orders", "c", 1, value)) for value in odd]
    messages += [("MoveCursor.name", MoveCursor("orders", name, 1)) for name in names]
    messages += [("FindCursor.name", FindCursor("orders", name)) for name in names]
    pushes: tuple[Any, ...] = (None, callback, [callback], (callback, "a"), (None,))
    messages += [("MoveCursor.pushes", MoveCursor("orders", "c", 1, 0, value)) for value in pushes]
    with Probe(new_store) as probe:
        for field, message in messages:
            error = refuses(InvalidValue, probe.do, message)
            expect(error.name, field, f"the name in the error of {message!r}")
        probe.holds("")
        expect(probe.do(FindCursor("orders", "c")), 0, "where the cursor is")


def restarts_keep_cursors(new_store: NewStore) -> None:
    """durable: cursors are there after a restart."""
    with Probe(new_store) as probe:
        if not probe.backend.durable:
            return
        probe.do(MoveCursor("orders", "c", 5, 0, (_callback("a"),)))
        probe.do(MoveCursor("orders", "d", 7))
        probe.reopen()
        found = [probe.do(FindCursor("orders", name)) for name in "cde"]
        expect(found, [5, 7, 0], "where they are")
        probe.holds("a")


CHECKS: tuple[Check, ...] = (
    cursors_stay_where_they_are_put,
    cursors_are_told_apart,
    cursors_may_be_expected_somewhere,
    moves_push,
    moves_are_whole,
    moves_say_the_conflict_first,
    threads_move_it_once,
    cursors_are_forgotten,
    odd_moves_are_refused,
    restarts_keep_cursors,
)
