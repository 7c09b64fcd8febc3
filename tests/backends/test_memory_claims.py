"""What only the backend in memory has of claims and history: its bounds and its costs."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.errors import ClaimLost, Full, InvalidValue
from pollin_actors.messages import (
    Ack,
    Children,
    ClaimSlice,
    CreateEndpoint,
    DeleteEndpoint,
    Fetch,
    History,
    HistoryPage,
    Nack,
    PastPage,
    Pop,
    Release,
    Stats,
    Sweep,
    UpdateEndpoint,
    UpdatePhase,
)
from tests.backends.inbox import MS, SECOND, Inbox


def steps(inbox: Inbox, message: Any) -> int:
    """How many calls an operation makes, of Python's functions and of C's."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        inbox.do(message)
    finally:
        sys.setprofile(None)
    return calls


def crowded(others: int) -> Inbox:
    """An inbox in which many are claimed, delayed or blocked, and then one is available."""
    inbox = Inbox(ttl=0)
    inbox.push(*(f"claimed{number}" for number in range(others)))
    inbox.do(ClaimSlice("orders", None, others, 3600.0))
    later = inbox.now + 3600 * SECOND
    inbox.push(*(f"delayed{number}" for number in range(others)), not_before=later)
    inbox.push(*(f"blocked{number}" for number in range(others)), ordering_key="k")
    inbox.do(ClaimSlice("orders", None, 1, 3600.0))
    inbox.push("free")
    return inbox


class TestCosts:
    @pytest.mark.parametrize(
        "message",
        [
            Pop("orders"),
            Pop("orders", "free"),
            Fetch("orders"),
            ClaimSlice("orders", "received", 1),
            UpdatePhase("orders", "free", "processed"),
            Stats("orders"),
        ],
        ids=lambda message: type(message).__name__,
    )
    def test_do_not_grow_with_those_that_are_not_available(self, message: Any) -> None:
        """Nobody walks past what is claimed, delayed or blocked."""
        few, many = crowded(10), crowded(2000)
        few.do(Stats("orders"))
        many.do(Stats("orders"))

        assert steps(many, message) <= steps(few, message) + 10
        many.check()

    def test_leave_no_times_behind(self) -> None:
        """A claim that was acknowledged in time leaves nothing that grows."""
        inbox = Inbox(ttl=0)
        for number in range(1000):
            inbox.push(str(number))
            (claim,) = inbox.do(ClaimSlice("orders", None)).claims
            inbox.do(Ack("orders", claim.key, claim.token))

        assert len(inbox.backend._queues["orders"].places.dues) <= 70

    def test_sizes_are_measured_once_somebody_asks(self) -> None:
        """A queue without a bound in bytes does not measure what is pushed."""
        inbox = Inbox()
        inbox.push("a", "b")
        assert inbox.backend._queues["orders"].sizes is None

        assert inbox.do(Stats("orders")).size == 2
        inbox.push("c")
        inbox.do(Pop("orders"))
        assert inbox.do(Stats("orders")).size == 2
        inbox.do(UpdateEndpoint(inbox.endpoint.replace(capacity_bytes=3)))
        inbox.push("d")
        with pytest.raises(Full, match="got 3 there already"):
            inbox.push("e")
        inbox.check()


class TestKept:
    def test_are_no_more_than_the_bound(self) -> None:
        """The first that left are forgotten first, with their records."""
        inbox = Inbox(kept=2)
        inbox.push("a", "b", "c")
        for key in "cab":
            inbox.do(Pop("orders", key))

        assert [callback.id for callback in inbox.do(PastPage("orders")).callbacks] == ["a", "b"]
        assert inbox.do(History("orders", "c")) == []
        records = inbox.do(HistoryPage("orders")).records
        assert [(record.callback_id, record.kind) for record in records] == [
            ("a", "pushed"),
            ("b", "pushed"),
            ("a", "popped"),
            ("b", "popped"),
        ]
        inbox.check()

    def test_leave_a_log_that_does_not_grow(self) -> None:
        """What is forgotten is in the log no longer than until it is the half of it."""
        inbox = Inbox(kept=10)
        for number in range(1000):
            inbox.push(str(number))
            inbox.do(Pop("orders"))

        assert len(inbox.backend._queues["orders"].past.log) < 200
        inbox.check()

    def test_are_swept_at_their_time_whatever_the_order(self) -> None:
        """A delay that was changed lets a later one be forgotten before an earlier one."""
        inbox = Inbox(ttl=0, keep_for=5.0)
        inbox.push("a")
        inbox.do(UpdateEndpoint(inbox.endpoint.replace(keep_for=1.0)))
        inbox.push("b", "c")
        for _ in range(3):
            inbox.do(Pop("orders"))

        left = []
        for _ in range(6):
            inbox.do(Sweep())
            left.append([callback.id for callback in inbox.do(PastPage("orders")).callbacks])
            inbox.check()
            inbox.now += SECOND
        assert left == [["a", "b", "c"], ["a"], ["a"], ["a"], ["a"], []]

    def test_are_none_where_nothing_is_to_be_kept(self) -> None:
        """Without ``keep_for`` there are no records, and claims work as ever."""
        inbox = Inbox(keep_for=0.0)
        inbox.push("a", "b")
        first, second = inbox.do(ClaimSlice("orders", None, 2)).claims
        inbox.do(Nack("orders", first.key, first.token))
        inbox.do(Ack("orders", second.key, second.token))

        assert inbox.do(HistoryPage("orders")).records == []
        assert inbox.do(Fetch("orders")).attempts == 1
        assert inbox.backend._queues["orders"].past.log == []
        inbox.check()

    def test_bound_must_be_a_number(self) -> None:
        """The bound is checked when the backend is made."""
        with pytest.raises(InvalidValue, match=r"^MemoryBackend\.kept: expected an int"):
            MemoryBackend(kept=-1)

    def test_sub_events_outlive_their_parent(self) -> None:
        """Sub events of a parent that is forgotten still tell their root."""
        inbox = Inbox(kept=1)
        inbox.push("a")
        inbox.push("b", parent="a")
        inbox.push("c", parent="b")
        for key in "ab":
            inbox.do(Pop("orders", key))

        assert [callback.id for callback in inbox.do(Children("orders", "b"))] == ["c"]
        assert inbox.do(Fetch("orders")).root == "a"
        inbox.check()


def test_positions_go_on_after_an_endpoint_was_deleted() -> None:
    """Nobody who remembers a position misses what comes after it."""
    inbox = Inbox()
    inbox.push("a")
    before = inbox.do(HistoryPage("orders")).cursor
    inbox.do(DeleteEndpoint("orders"))
    inbox.do(CreateEndpoint(inbox.endpoint))
    inbox.push("b")

    (record,) = inbox.do(HistoryPage("orders", before)).records
    assert record.callback_id == "b"


def test_a_lease_that_has_ended_is_recorded_before_the_next_claim() -> None:
    """The record of the lapse comes first, and the old token is worth nothing."""
    inbox = Inbox(ttl=0)
    inbox.push("a", not_before=inbox.now + MS)
    assert inbox.do(ClaimSlice("orders", None)) == ([], inbox.now + MS)
    inbox.now += MS
    (old,), next_at = inbox.do(ClaimSlice("orders", None, lease=1.0, by="slow"))
    assert next_at == old.until == inbox.now + SECOND
    inbox.now = old.until
    (new,), _ = inbox.do(ClaimSlice("orders", None, by="quick"))

    with pytest.raises(ClaimLost):
        inbox.do(Ack("orders", "a", old.token))
    inbox.do(Release("orders", "a", new.token))
    records = inbox.do(History("orders", "a"))
    assert [(record.kind, record.by, record.attempt) for record in records] == [
        ("pushed", "", 0),
        ("claimed", "slow", 1),
        ("lapsed", "slow", 1),
        ("claimed", "quick", 2),
        ("released", "quick", 2),
    ]
    inbox.check()
