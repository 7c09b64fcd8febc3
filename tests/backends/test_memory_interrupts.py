"""An interrupt at every point of every operation of the backend in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from pollin_actors.errors import BackendUnavailable, CallbackNotFound
from pollin_actors.messages import (
    Count,
    CreateEndpoint,
    DeleteCallback,
    DeleteEndpoint,
    Fetch,
    FetchSlice,
    IndexEndpoints,
    Pop,
    PopSlice,
    Push,
    Reset,
    Sweep,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.resources import Callback, Endpoint
from tests.backends.inbox import MS, SECOND, Inbox
from tests.interrupts import interrupt_at, interrupt_at_every_bytecode

MODULES = ("pollin_actors.backends", "pollin_actors.otp.guard", "pollin_actors.resources")

OPERATIONS: dict[str, Any] = {
    "push": Push("orders", Callback.new(b"x", id="new"), trusted=True),
    "push after dedup_for": Push("orders", Callback.new(b"x", id="old"), trusted=True),
    "push duplicate": Push("orders", Callback.new(b"x", id="c"), trusted=True),
    "pop": Pop("orders"),
    "pop by key": Pop("orders", "c"),
    "pop slice": PopSlice("orders", None, 1, 2),
    "pop slice of a phase": PopSlice("orders", "received", 0, 2),
    "fetch": Fetch("orders"),
    "count": Count("orders"),
    "update phase": UpdatePhase("orders", "b", "processed"),
    "delete callback": DeleteCallback("orders", "c"),
    "reset": Reset("orders"),
    "sweep": Sweep(),
    "update endpoint": UpdateEndpoint(
        Endpoint.new(["received", "processed"], 5, id="orders", dedup_for=3.0)
    ),
    "delete endpoint": DeleteEndpoint("orders"),
    "create endpoint": CreateEndpoint(Endpoint.new(id="another")),
}


def prepare(expired: int = 0, spent: int = 0) -> Inbox:
    """An inbox with a, b, c, d queued (b processed), some expired, some expiries left over."""
    inbox = Inbox(ttl=5000)
    inbox.push("old")
    inbox.do(Pop("orders"))
    inbox.now += 10 * SECOND
    inbox.push("popped", *(f"spent{number}" for number in range(spent)))
    inbox.do(PopSlice("orders", limit=10**6))
    inbox.do(UpdateEndpoint(inbox.endpoint.replace(ttl=1)))
    inbox.push(*(f"expired{number}" for number in range(expired)))
    inbox.do(UpdateEndpoint(inbox.endpoint))
    inbox.push("z")
    for id in "abcd":
        inbox.push(id)
    inbox.do(Pop("orders", "z"))
    inbox.do(UpdatePhase("orders", "b", "processed"))
    inbox.do(UpdatePhase("orders", "d", "processed"))
    inbox.do(UpdatePhase("orders", "d", "received"))
    inbox.now += MS
    return inbox


def contents(inbox: Inbox) -> list[Any]:
    """What others can see: the endpoints and, per endpoint, the callbacks and remembered ids."""
    seen: list[Any] = []
    for endpoint in inbox.do(IndexEndpoints()):
        queue = inbox.backend._queues[endpoint.id]
        callbacks = inbox.do(FetchSlice(endpoint.id, limit=10**6))
        names = ("old", "popped", "new", *"abcd")
        seen.append(
            (
                (endpoint.id, endpoint.phases, endpoint.ttl, endpoint.dedup_for),
                [(callback.id, callback.phase) for callback in callbacks],
                [name for name in names if queue.ids.remembers(name, inbox.now)],
            )
        )
    return seen


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    "setup",
    [prepare, lambda: prepare(expired=3), lambda: prepare(spent=70)],
    ids=["plain", "with expired ones", "with expiries to compact"],
)
def test_an_interrupt_anywhere_leaves_all_or_nothing(name: str, setup: Callable[[], Inbox]) -> None:
    message = OPERATIONS[name]
    before, after = setup(), setup()
    after.do(message)
    allowed = [contents(before), contents(after)]
    seen: list[int] = []

    def check(inbox: Inbox, interrupted: bool) -> None:
        inbox.check()
        found = contents(inbox)
        assert found in allowed
        if not interrupted:
            assert found == allowed[1]
        seen.append(allowed.index(found))
        inbox.check()

    interrupt_at_every_bytecode(
        lambda inbox: inbox.do(message), check, prepare=setup, modules=MODULES
    )

    # Once it has taken effect it never goes back.
    assert seen == sorted(seen)


def test_a_push_that_was_interrupted_can_be_sent_again() -> None:
    message = OPERATIONS["push"]

    def check(inbox: Inbox, interrupted: bool) -> None:
        there = inbox.do(Fetch("orders", "new")) is not None
        outcome = inbox.do(message).outcome
        assert outcome == ("duplicate" if there else "queued")
        assert inbox.do(Fetch("orders", "new")) is not None
        inbox.check()

    interrupt_at_every_bytecode(
        lambda inbox: inbox.do(message), check, prepare=prepare, modules=MODULES
    )


@pytest.mark.parametrize("name", ["push", "pop", "pop slice", "reset", "update phase"])
def test_an_interrupt_while_finishing_an_interrupted_change(name: str) -> None:
    message = OPERATIONS[name]
    before, after = prepare(), prepare()
    after.do(message)
    allowed = [contents(before), contents(after)]
    counted = interrupt_at_every_bytecode(
        lambda inbox: inbox.do(message), lambda *_: None, prepare=prepare, modules=MODULES
    )

    for number in range(0, counted, 11):

        def interrupted(number: int = number) -> Inbox:
            inbox = prepare()
            assert interrupt_at(number, lambda: inbox.do(message), MODULES)
            return inbox

        def check(inbox: Inbox, interrupted: bool) -> None:
            inbox.check()
            assert contents(inbox) in allowed

        interrupt_at_every_bytecode(
            lambda inbox: inbox.do(Count("orders")), check, prepare=interrupted, modules=MODULES
        )


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("inner", ["push", "pop", "pop by key", "reset", "update phase", "sweep"])
@pytest.mark.parametrize(
    "outer", ["push", "pop", "pop by key", "pop slice", "reset", "update phase", "fetch", "sweep"]
)
def test_a_signal_handler_inside_an_operation_is_served_or_refused(
    outer: str, inner: str, raises: bool
) -> None:
    inboxes: list[Inbox] = []
    refused: list[bool] = []

    def setup() -> Inbox:
        inboxes.append(prepare(expired=1))
        return inboxes[-1]

    def handler() -> BaseException | None:
        inbox = inboxes[-1]
        before = list(inbox.backend._queues["orders"].rows)
        try:
            inbox.do(OPERATIONS[inner])
        except BackendUnavailable:
            assert list(inbox.backend._queues["orders"].rows) == before
            refused.append(True)
        except CallbackNotFound:
            assert inner == "update phase"
        return KeyboardInterrupt() if raises else None

    def operation(inbox: Inbox) -> None:
        # The handler may have been served first, and have taken what is looked for.
        with contextlib.suppress(CallbackNotFound):
            inbox.do(OPERATIONS[outer])

    interrupt_at_every_bytecode(
        operation, lambda inbox, _: inbox.check(), prepare=setup, modules=MODULES, error=handler
    )

    assert bool(refused) is (inner != "sweep")
