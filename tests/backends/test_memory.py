"""The backend in memory: every operation, and every point at which one may be interrupted."""

from __future__ import annotations

import threading
from itertools import chain
from typing import Any

import pytest

from pollin_actors.errors import (
    CallbackNotFound,
    EndpointExists,
    EndpointNotFound,
    InvalidValue,
    PollinError,
    UnknownPhase,
    WrongSecret,
)
from pollin_actors.messages import (
    Count,
    CreateEndpoint,
    DeleteCallback,
    DeleteEndpoint,
    DumpPage,
    Fetch,
    FetchReverse,
    FetchSlice,
    FindEndpoint,
    IndexEndpoints,
    Pop,
    PopSlice,
    Push,
    Reset,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.resources import Callback, Endpoint, Outcome
from tests.backends.inbox import MS, SECOND, Inbox


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def ids(callbacks: list[Callback]) -> str:
    return " ".join(callback.id for callback in callbacks)


class TestEndpoints:
    def test_are_listed_in_creation_order(self, inbox: Inbox) -> None:
        for name in ("b", "a"):
            inbox.do(CreateEndpoint(Endpoint.new(id=name)))
        inbox.do(UpdateEndpoint(inbox.endpoint.replace(ttl=5)))

        assert [endpoint.id for endpoint in inbox.do(IndexEndpoints())] == ["orders", "b", "a"]

    def test_are_found(self, inbox: Inbox) -> None:
        assert inbox.do(FindEndpoint("orders")) == inbox.endpoint
        assert inbox.do(FindEndpoint("none")) is None

    def test_are_created_once(self, inbox: Inbox) -> None:
        inbox.push("a")
        with pytest.raises(EndpointExists):
            inbox.do(CreateEndpoint(Endpoint.new(id="orders")))

        assert inbox.do(FindEndpoint("orders")) == inbox.endpoint
        assert inbox.ids() == ["a"]

    def test_keep_their_callbacks_when_updated(self, inbox: Inbox) -> None:
        inbox.push("a")
        changed = inbox.endpoint.replace(phases=("new", "processed"), secret="t")

        assert inbox.do(UpdateEndpoint(changed)) == changed
        assert inbox.do(FindEndpoint("orders")) == changed
        assert inbox.do(Fetch("orders")).phase == "received"
        inbox.push("b")
        assert inbox.do(Fetch("orders", "b")).phase == "new"
        assert inbox.do(Count("orders", "received")) == 1
        inbox.do(Pop("orders"))
        with pytest.raises(UnknownPhase):
            inbox.do(Count("orders", "received"))

    def test_cannot_be_updated_before_they_exist(self, inbox: Inbox) -> None:
        with pytest.raises(EndpointNotFound):
            inbox.do(UpdateEndpoint(Endpoint.new(id="none")))

    def test_are_deleted_with_everything(self, inbox: Inbox) -> None:
        inbox.push("a", "b")
        inbox.do(Pop("orders"))

        assert inbox.do(DeleteEndpoint("orders")) is True
        assert inbox.do(DeleteEndpoint("orders")) is False
        assert inbox.do(IndexEndpoints()) == []
        inbox.do(CreateEndpoint(inbox.endpoint))
        assert inbox.do(Count("orders")) == 0
        assert inbox.push("a", "b") == ["queued", "queued"]

    @pytest.mark.parametrize(
        "message",
        [
            Push("none", Callback.new(b""), trusted=True),
            Pop("none"),
            PopSlice("none"),
            Fetch("none"),
            FetchSlice("none"),
            FetchReverse("none"),
            Count("none"),
            DumpPage("none"),
            Reset("none"),
            DeleteCallback("none", "a"),
            UpdatePhase("none", "a", "received"),
        ],
        ids=lambda message: type(message).__name__,
    )
    def test_must_exist(self, inbox: Inbox, message: Any) -> None:
        with pytest.raises(EndpointNotFound) as caught:
            inbox.do(message)

        assert caught.value.endpoint_id == "none"

    def test_refuse_those_who_waited_while_it_was_deleted(self, inbox: Inbox) -> None:
        queue = inbox.backend._queues["orders"]
        errors: list[PollinError] = []

        def push() -> None:
            try:
                inbox.push("late")
            except PollinError as error:
                errors.append(error)

        thread = threading.Thread(target=push)

        def delete_before_it() -> None:
            thread.start()
            queue.delete_endpoint()

        queue.guard.run(delete_before_it)
        thread.join(10)

        assert [type(error) for error in errors] == [EndpointNotFound]


class TestPush:
    def test_sets_the_first_phase(self, inbox: Inbox) -> None:
        callback = Callback.new(b"x")
        stored, outcome = inbox.do(Push("orders", callback, trusted=True))

        assert stored == callback.with_phase("received")
        assert outcome is Outcome.QUEUED
        assert inbox.do(Fetch("orders")) == stored

    def test_keeps_a_known_phase(self, inbox: Inbox) -> None:
        inbox.push("a", phase="processed")

        assert inbox.do(Fetch("orders")).phase == "processed"

    def test_refuses_an_unknown_phase(self, inbox: Inbox) -> None:
        with pytest.raises(UnknownPhase, match="'received', 'processed'"):
            inbox.push("a", phase="gone")

        assert inbox.ids() == []
        assert inbox.push("a") == ["queued"]

    @pytest.mark.parametrize("secret", ["s", b"s"])
    def test_accepts_the_secret(self, inbox: Inbox, secret: str | bytes) -> None:
        message = Push("orders", Callback.new(b"x"), secret)

        assert inbox.do(message).outcome == "queued"

    @pytest.mark.parametrize("secret", [None, "", "x", b"x"])
    def test_refuses_another_secret_before_it_looks_at_the_rest(
        self, inbox: Inbox, secret: str | bytes | None
    ) -> None:
        with pytest.raises(WrongSecret):
            inbox.do(Push("orders", Callback.new(b"x", id="a", phase="gone"), secret))

        assert inbox.ids() == []

    def test_answers_duplicate_while_queued(self) -> None:
        inbox = Inbox(ttl=0, dedup_for=0)
        inbox.push("a")
        inbox.do(UpdatePhase("orders", "a", "processed"))
        stored, outcome = inbox.do(Push("orders", Callback.new(b"y", id="a"), trusted=True))

        assert (stored.request, stored.phase) == (b"x", "processed")
        assert outcome is Outcome.DUPLICATE
        assert inbox.do(Count("orders")) == 1
        inbox.do(Pop("orders"))
        assert inbox.push("a") == ["queued"]

    @pytest.mark.parametrize(
        "remove",
        [Pop("orders"), Pop("orders", "a"), DeleteCallback("orders", "a"), PopSlice("orders")],
    )
    def test_answers_duplicate_for_as_long_as_dedup_for(self, inbox: Inbox, remove: Any) -> None:
        inbox.push("a")
        inbox.do(remove)
        again = Callback.new(b"y", id="a")

        assert inbox.do(Push("orders", again, trusted=True)) == (again, "duplicate")
        inbox.now += 10 * SECOND - 1
        assert inbox.push("a") == ["duplicate"]
        inbox.now += 1
        assert inbox.push("a") == ["queued"]
        inbox.check()

    def test_answers_duplicate_after_expiry(self, inbox: Inbox) -> None:
        inbox.push("a")
        inbox.now += 1000 * MS

        assert inbox.do(Count("orders")) == 0
        assert inbox.push("a") == ["duplicate"]

    def test_forgets_ids_that_are_due(self, inbox: Inbox) -> None:
        memory = inbox.backend._queues["orders"].ids
        for number in range(50):
            inbox.push(f"c{number}")
            inbox.now += SECOND

        assert len(memory) == 10

    @pytest.mark.parametrize(("before", "after"), [(10.0, 2.0), (2.0, 10.0), (10.0, 0.0)])
    def test_forgets_in_time_after_dedup_for_changed(self, before: float, after: float) -> None:
        inbox = Inbox(ttl=0, dedup_for=before)
        inbox.push("a")
        inbox.do(Pop("orders"))
        inbox.do(UpdateEndpoint(inbox.endpoint.replace(dedup_for=after)))
        inbox.push("b")
        inbox.do(Pop("orders"))
        memory = inbox.backend._queues["orders"].ids
        for _ in range(10):
            inbox.now += SECOND
            elapsed = (inbox.now - 10**18) // SECOND
            inbox.push(f"tick{elapsed}")
            inbox.do(Pop("orders"))
            assert memory.remembers("a", inbox.now) is (elapsed < before)
            assert memory.remembers("b", inbox.now) is (elapsed < after)
            inbox.check()
        assert not memory.older
        assert len(memory) <= after + 1


class TestQueue:
    def test_pops_the_head(self, inbox: Inbox) -> None:
        inbox.push("a", "b")

        assert inbox.do(Pop("orders")).id == "a"
        assert inbox.do(Pop("orders")).id == "b"
        assert inbox.do(Pop("orders")) is None

    def test_pops_by_key(self, inbox: Inbox) -> None:
        inbox.push("a", "b", "c")

        assert inbox.do(Pop("orders", "b")).id == "b"
        assert inbox.do(Pop("orders", "b")) is None
        assert inbox.ids() == ["a", "c"]
        inbox.check()

    def test_fetches_without_removing(self, inbox: Inbox) -> None:
        assert inbox.do(Fetch("orders")) is None
        inbox.push("a", "b")

        assert inbox.do(Fetch("orders")).id == "a"
        assert inbox.do(Fetch("orders", "b")).id == "b"
        assert inbox.do(Fetch("orders", "c")) is None
        assert inbox.do(Count("orders")) == 2

    def test_slices(self, inbox: Inbox) -> None:
        inbox.push("a", "b", "c", "d", "e")
        inbox.do(UpdatePhase("orders", "d", "processed"))
        inbox.do(UpdatePhase("orders", "b", "processed"))

        assert ids(inbox.do(FetchSlice("orders"))) == "a b c d e"
        assert ids(inbox.do(FetchSlice("orders", None, 1, 2))) == "b c"
        assert ids(inbox.do(FetchSlice("orders", "processed"))) == "b d"
        assert ids(inbox.do(FetchSlice("orders", "received", 1, 1))) == "c"
        assert ids(inbox.do(FetchReverse("orders"))) == "e d c b a"
        assert ids(inbox.do(FetchReverse("orders", None, 1, 2))) == "d c"
        assert ids(inbox.do(FetchReverse("orders", "processed", 1, 9))) == "b"
        assert inbox.do(FetchSlice("orders", None, 5, 10**30)) == []
        assert inbox.do(FetchSlice("orders", None, 10**30, 1)) == []
        assert inbox.do(FetchSlice("orders", None, 0, 0)) == []

    def test_pops_slices(self, inbox: Inbox) -> None:
        inbox.push("a", "b", "c", "d", "e")
        inbox.do(UpdatePhase("orders", "d", "processed"))

        assert ids(inbox.do(PopSlice("orders", "received", 1, 2))) == "b c"
        assert ids(inbox.do(PopSlice("orders", None, 1, 1))) == "d"
        assert ids(inbox.do(PopSlice("orders"))) == "a e"
        assert inbox.do(PopSlice("orders")) == []
        inbox.check()

    def test_slices_a_hundred_unless_told(self, inbox: Inbox) -> None:
        inbox.push(*map(str, range(150)))

        assert len(inbox.do(FetchSlice("orders"))) == 100
        assert len(inbox.do(FetchReverse("orders"))) == 100
        assert len(inbox.do(PopSlice("orders"))) == 100

    def test_counts(self, inbox: Inbox) -> None:
        inbox.push("a", "b", "c")
        inbox.do(UpdatePhase("orders", "a", "processed"))

        assert inbox.do(Count("orders")) == 3
        assert inbox.do(Count("orders", "received")) == 2
        assert inbox.do(Count("orders", "processed")) == 1

    @pytest.mark.parametrize("kind", [Count, FetchSlice, FetchReverse, PopSlice])
    def test_refuses_a_filter_for_an_unknown_phase(self, inbox: Inbox, kind: Any) -> None:
        with pytest.raises(UnknownPhase, match="'gone'"):
            inbox.do(kind("orders", "gone"))

    @pytest.mark.parametrize("kind", [FetchSlice, FetchReverse, PopSlice])
    @pytest.mark.parametrize("value", [-1, True, 1.0, "1", None])
    @pytest.mark.parametrize("field", ["offset", "limit"])
    def test_refuses_other_numbers(self, inbox: Inbox, kind: Any, field: str, value: Any) -> None:
        with pytest.raises(InvalidValue, match=rf"^{kind.__name__}\.{field}: expected an int"):
            inbox.do(kind("orders", **{field: value}))

    def test_updates_phases(self, inbox: Inbox) -> None:
        inbox.push("a", "b")
        changed = inbox.do(UpdatePhase("orders", "a", "processed"))

        assert (changed.id, changed.phase) == ("a", "processed")
        assert inbox.do(Fetch("orders")) == changed
        assert inbox.do(UpdatePhase("orders", "a", "processed")) == changed
        with pytest.raises(UnknownPhase):
            inbox.do(UpdatePhase("orders", "a", "gone"))
        with pytest.raises(CallbackNotFound):
            inbox.do(UpdatePhase("orders", "c", "received"))
        inbox.check()

    def test_deletes(self, inbox: Inbox) -> None:
        inbox.push("a", "b")

        assert inbox.do(DeleteCallback("orders", "b")) is True
        assert inbox.do(DeleteCallback("orders", "b")) is False
        assert inbox.ids() == ["a"]
        with pytest.raises(InvalidValue):
            inbox.do(DeleteCallback("orders", None))  # type: ignore[arg-type]
        assert inbox.ids() == ["a"]

    def test_resets(self, inbox: Inbox) -> None:
        inbox.push("a", "b", "c")
        inbox.do(Pop("orders"))

        assert inbox.do(Reset("orders")) == 2
        assert inbox.do(Reset("orders")) == 0
        assert inbox.push("a", "b") == ["queued", "queued"]
        inbox.check()

    def test_dumps_pages(self, inbox: Inbox) -> None:
        names = [f"c{number}" for number in range(10)]
        inbox.push(*names)
        for name in names[::3]:
            inbox.do(UpdatePhase("orders", name, "processed"))
        first = inbox.do(DumpPage("orders", None, 4))
        inbox.do(Pop("orders", "c3"))
        inbox.do(Pop("orders", "c4"))
        second = inbox.do(DumpPage("orders", first.cursor, 4))
        third = inbox.do(DumpPage("orders", second.cursor, 4))

        assert ids(first.callbacks) == "c0 c1 c2 c3"
        assert ids(second.callbacks) == "c5 c6 c7 c8"
        assert ids(third.callbacks) == "c9"
        assert third.cursor is None
        assert inbox.do(DumpPage("orders", None, 8)).cursor is None
        assert inbox.do(DumpPage("orders", 10**30)) == ([], None)

    @pytest.mark.parametrize(("after", "limit"), [(None, 0), (None, True), (-1, 1), ("1", 1)])
    def test_refuses_other_pages(self, inbox: Inbox, after: Any, limit: Any) -> None:
        with pytest.raises(InvalidValue, match=r"^DumpPage\."):
            inbox.do(DumpPage("orders", after, limit))


def test_threads_share_an_endpoint(inbox: Inbox) -> None:
    taken: list[list[str]] = [[] for _ in range(4)]

    def work(number: int) -> None:
        for turn in range(500):
            inbox.push(f"{number}-{turn}")
            callback = inbox.do(Pop("orders"))
            if callback is not None:
                taken[number].append(callback.id)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    everything = [*chain.from_iterable(taken), *inbox.ids()]
    assert sorted(everything) == sorted(f"{n}-{turn}" for n in range(4) for turn in range(500))
    inbox.check()
