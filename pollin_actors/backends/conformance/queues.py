"""Checks of reading and removing: by head, by id, by slice, as a whole."""

from __future__ import annotations

from typing import Any

from pollin_actors.backends.conformance.probe import (
    Check,
    NewStore,
    Probe,
    answer,
    expect,
    refuses,
)
from pollin_actors.errors import InvalidValue
from pollin_actors.messages import (
    Count,
    DeleteCallback,
    DumpPage,
    Fetch,
    FetchReverse,
    FetchSlice,
    Pop,
    PopSlice,
    Push,
    Reset,
    UpdatePhase,
)
from pollin_actors.resources import Callback

__all__ = ["CHECKS"]


def pops_take_the_oldest(new_store: NewStore) -> None:
    """Pop removes the oldest callback, and answers None once there is none."""
    with Probe(new_store) as probe:
        probe.push("b", "a")
        expect([probe.do(Pop("orders")).id for _ in "ab"], ["b", "a"], "what was popped")
        expect(probe.do(Pop("orders")), None, "a pop of an empty queue")
        probe.holds("")


def pops_take_the_id(new_store: NewStore) -> None:
    """Pop with a key removes that callback, and answers None if it is not queued."""
    with Probe(new_store) as probe:
        probe.push("a", "b", "5")
        expect(probe.do(Pop("orders", "b")).id, "b", "what was popped")
        for key in ("b", "", "B", "\ud800", "a\0"):
            expect(probe.do(Pop("orders", key)), None, f"a pop of {key!r}")
        probe.holds("a 5")


def fetches_leave_everything(new_store: NewStore) -> None:
    """Fetch answers what Pop would, and removes nothing."""
    with Probe(new_store) as probe:
        expect(probe.do(Fetch("orders")), None, "a fetch from an empty queue")
        probe.push("a", "b")
        expect(probe.do(Fetch("orders")).id, "a", "the oldest")
        expect(probe.do(Fetch("orders", "b")).id, "b", "that of the id")
        expect(probe.do(Fetch("orders", "c")), None, "that of an unknown id")
        probe.holds("a b")


def _five(probe: Probe) -> None:
    probe.push("a", "b", "c", "d", "e")
    for key in ("d", "b"):
        probe.do(UpdatePhase("orders", key, "processed"))


def slices_are_read_in_order(new_store: NewStore) -> None:
    """Slices keep the order of the pushes, whatever happened to phases; numbers may be large."""
    with Probe(new_store) as probe:
        _five(probe)
        for message, ids in (
            (FetchSlice("orders"), "a b c d e"),
            (FetchSlice("orders", None, 1, 2), "b c"),
            (FetchSlice("orders", "processed"), "b d"),
            (FetchSlice("orders", "received", 1, 1), "c"),
            (FetchReverse("orders"), "e d c b a"),
            (FetchReverse("orders", None, 1, 2), "d c"),
            (FetchReverse("orders", "processed", 1, 9), "b"),
            (FetchReverse("orders", "received", 0, 2), "e c"),
            (FetchSlice("orders", None, 3, 10**30), "d e"),
            (FetchSlice("orders", None, 10**30, 10**30), ""),
            (FetchSlice("orders", None, 5, 1), ""),
            (FetchSlice("orders", None, 0, 0), ""),
        ):
            expect(probe.ids(message), ids, repr(message))
        probe.holds("a b c d e")


def slices_are_popped(new_store: NewStore) -> None:
    """PopSlice removes just the slice that it answers with."""
    with Probe(new_store) as probe:
        _five(probe)
        for message, ids, left in (
            (PopSlice("orders", "received", 1, 2), "c e", "a b d"),
            (PopSlice("orders", None, 1, 1), "b", "a d"),
            (PopSlice("orders", None, 0, 0), "", "a d"),
            (PopSlice("orders"), "a d", ""),
            (PopSlice("orders"), "", ""),
        ):
            expect(probe.ids(message), ids, repr(message))
            probe.holds(left)


def slices_have_a_hundred(new_store: NewStore) -> None:
    """A slice has at most a hundred callbacks unless told otherwise."""
    with Probe(new_store) as probe:
        probe.push(*map(str, range(250)))
        for kind in (FetchSlice, FetchReverse, PopSlice):
            for phase in ("received", None):
                message = kind("orders", phase)
                expect(len(probe.do(message)), 100, f"the length of {message!r}")
        expect(probe.do(Count("orders")), 50, "the count")


def odd_numbers_are_refused(new_store: NewStore) -> None:
    """offset, limit and cursor must be ints in range: InvalidValue names the field."""
    odd: tuple[Any, ...] = (-1, True, 1.0, "1", None)
    messages: list[tuple[str, Any]] = [
        (f"{kind.__name__}.{field}", kind("orders", **{field: value}))
        for kind in (FetchSlice, FetchReverse, PopSlice)
        for field in ("offset", "limit")
        for value in odd
    ]
    messages += [("DumpPage.limit", DumpPage("orders", None, value)) for value in (0, *odd)]
    messages += [("DumpPage.after", DumpPage("orders", value)) for value in odd[:-1]]
    with Probe(new_store) as probe:
        probe.push("a")
        for field, message in messages:
            error = refuses(InvalidValue, probe.do, message)
            expect(error.name, field, f"the name in the error of {message!r}")
        probe.holds("a")


def callbacks_are_deleted(new_store: NewStore) -> None:
    """DeleteCallback says whether the callback was queued."""
    with Probe(new_store) as probe:
        probe.push("a", "b")
        replies = [probe.do(DeleteCallback("orders", "b")) for _ in range(2)]
        expect(replies, [True, False], "the replies")
        probe.holds("a")


def resets_forget(new_store: NewStore) -> None:
    """Reset answers how many were queued, removes them, and forgets every id."""
    with Probe(new_store) as probe:
        probe.push("a", "b", "c")
        probe.do(Pop("orders"))
        expect([probe.do(Reset("orders")) for _ in range(2)], [2, 0], "the replies")
        probe.holds("")
        expect(probe.push("a", "b"), ["queued", "queued"], "the outcomes after it")
        probe.do(PopSlice("orders"))
        expect(probe.do(Reset("orders")), 0, "the reply of an empty queue")
        expect(probe.push("a", "b"), ["queued", "queued"], "the outcomes after that")


def dumps_go_page_by_page(new_store: NewStore) -> None:
    """What stays queued comes exactly once, oldest first, also if other things are removed."""
    with Probe(new_store) as probe:
        names = [f"c{number}" for number in range(10)]
        probe.push(*names)
        for name in names[::3]:
            probe.do(UpdatePhase("orders", name, "processed"))
        first = probe.do(DumpPage("orders", None, 4))
        expect([c.id for c in first.callbacks], names[:4], "the first page")
        probe.do(Pop("orders", "c3"))
        probe.do(Pop("orders", "c4"))
        second = probe.do(DumpPage("orders", first.cursor, 4))
        expect([c.id for c in second.callbacks], names[5:9], "the second page")
        third = probe.do(DumpPage("orders", second.cursor, 4))
        expect([c.id for c in third.callbacks], names[9:], "the third page")
        expect(third.cursor, None, "its cursor")
        expect(probe.do(DumpPage("orders", None, 8)).cursor, None, "the cursor of a full page")
        expect(probe.do(DumpPage("orders", 10**30)), ([], None), "a page behind the end")


def replies_are_in_the_order_of_the_messages(new_store: NewStore) -> None:
    """Messages sent without waiting in between take effect in the order of their sending."""
    with Probe(new_store) as probe:
        execute = probe.backend.execute
        before = []
        for number in range(50):
            push = Push("orders", Callback.new(b"x", id=str(number)), trusted=True)
            before += [execute(push), execute(Count("orders")), execute(Pop("orders"))]
        replies = [answer(reply) for reply in before]
        expect(replies[1::3], [1] * 50, "the counts")
        expect([c.id for c in replies[2::3]], [str(n) for n in range(50)], "what was popped")


CHECKS: tuple[Check, ...] = (
    pops_take_the_oldest,
    pops_take_the_id,
    fetches_leave_everything,
    slices_are_read_in_order,
    slices_are_popped,
    slices_have_a_hundred,
    odd_numbers_are_refused,
    callbacks_are_deleted,
    resets_forget,
    dumps_go_page_by_page,
    replies_are_in_the_order_of_the_messages,
)
