"""What has expired in the backend in memory is gone at once."""

from __future__ import annotations

from typing import Any

import pytest

from pollin_actors.errors import (
    CallbackNotFound,
)
from pollin_actors.messages import (
    Count,
    CreateEndpoint,
    DeleteCallback,
    DumpPage,
    Fetch,
    FetchReverse,
    FetchSlice,
    Pop,
    PopSlice,
    Push,
    Reset,
    Stats,
    Sweep,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.resources import Callback
from tests.backends.inbox import MS, Inbox


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


class TestExpiry:
    @pytest.mark.parametrize(
        ("message", "reply"),
        [
            (Pop("orders"), None),
            (Pop("orders", "a"), None),
            (PopSlice("orders"), []),
            (Fetch("orders"), None),
            (Fetch("orders", "a"), None),
            (FetchSlice("orders"), []),
            (FetchReverse("orders"), []),
            (Count("orders"), 0),
            (Count("orders", "received"), 0),
            (DumpPage("orders"), ([], None)),
            (Reset("orders"), 0),
            (DeleteCallback("orders", "a"), False),
        ],
    )
    def test_is_seen_at_once(self, inbox: Inbox, message: Any, reply: Any) -> None:
        inbox.push("a")
        inbox.now += 1000 * MS - 1
        assert inbox.do(Fetch("orders")).id == "a"
        inbox.now += 1

        assert inbox.do(message) == reply
        # A reset begins to count anew.
        assert inbox.do(Stats("orders")).expired == (0 if isinstance(message, Reset) else 1)
        inbox.check()

    def test_is_seen_by_update_phase(self, inbox: Inbox) -> None:
        inbox.push("a")
        inbox.now += 1000 * MS

        with pytest.raises(CallbackNotFound):
            inbox.do(UpdatePhase("orders", "a", "processed"))

    def test_counts_from_the_push(self, inbox: Inbox) -> None:
        inbox.push("a")
        inbox.do(UpdateEndpoint(inbox.endpoint.replace(ttl=100)))
        inbox.push("b")
        inbox.do(UpdateEndpoint(inbox.endpoint.replace(ttl=0)))
        inbox.push("c")

        inbox.now += 100 * MS
        assert inbox.ids() == ["a", "c"]
        inbox.now += 900 * MS
        assert inbox.ids() == ["c"]
        inbox.now += 10**18
        assert inbox.ids() == ["c"]

    def test_does_not_read_the_clock_in_vain(self) -> None:
        inbox = Inbox(ttl=0, keep_for=0.0)
        inbox.push("a")
        del inbox.now

        assert inbox.do(Count("orders")) == 1
        assert inbox.do(Fetch("orders")).id == inbox.do(Pop("orders", "a")).id

    def test_sweeps_at_most_the_limit(self, inbox: Inbox) -> None:
        inbox.do(CreateEndpoint(inbox.endpoint.replace(id="other")))
        inbox.push("a", "b", "c")
        inbox.do(Push("other", Callback.new(b"x"), trusted=True))
        assert inbox.do(Sweep()) == 0
        inbox.now += 1000 * MS

        assert [inbox.do(Sweep(2)) for _ in range(4)] == [2, 2, 0, 0]
        inbox.check()

    def test_keeps_no_more_expiries_than_needed(self, inbox: Inbox) -> None:
        for number in range(1000):
            inbox.push(f"c{number}")
            inbox.do(Pop("orders"))

        assert len(inbox.backend._queues["orders"].expiries) <= 65
