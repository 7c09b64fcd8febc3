"""An interrupt at every point of every operation of the backend in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from pollin_actors.backends.callback_queue import CallbackQueue
from pollin_actors.backends.id_memory import fence_key
from pollin_actors.backends.queue_rows import Row
from pollin_actors.errors import BackendUnavailable, CallbackNotFound
from pollin_actors.messages import (
    Ack,
    ClaimSlice,
    Consume,
    Count,
    CreateEndpoint,
    DeleteCallback,
    DeleteEndpoint,
    Extend,
    Fetch,
    FindCursor,
    History,
    HistoryPage,
    IndexEndpoints,
    MoveCursor,
    Nack,
    PastPage,
    Pop,
    PopSlice,
    Push,
    Release,
    Reset,
    RotateSecret,
    Stats,
    Sweep,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.resources import Callback, Endpoint, Secret
from tests.backends.inbox import MS, SECOND, Inbox
from tests.interrupts import interrupt_at, interrupt_at_every_bytecode

MODULES = ("pollin_actors.backends", "pollin_actors.otp.guard", "pollin_actors.resources")


class Held(NamedTuple):
    """An operation on a callback that is claimed: its token is known once it is."""

    kind: Any
    key: str
    more: dict[str, Any]

    @classmethod
    def by(cls, kind: Any, key: str, **more: Any) -> Held:
        return cls(kind, key, more)


def message_for(inbox: Inbox, operation: Any) -> Any:
    """The message, made for this inbox if it needs a token of its."""
    if not isinstance(operation, Held):
        return operation
    queue = inbox.backend._queues["orders"]
    hold = queue.rows[queue.keys[operation.key]].hold
    assert hold is not None
    return operation.kind("orders", operation.key, hold.token, **operation.more)


OPERATIONS: dict[str, Any] = {
    "push": Push("orders", Callback.new(b"x", id="new"), trusted=True),
    "push after dedup_for": Push("orders", Callback.new(b"x", id="old"), trusted=True),
    "push duplicate": Push("orders", Callback.new(b"x", id="c"), trusted=True),
    "push a fence after dedup_for": Push(
        "orders", Callback.new(b"x", id="old", fence="f"), trusted=True
    ),
    "push a known fence": Push("orders", Callback.new(b"x", id="new", fence="g"), trusted=True),
    "push what is kept": Push("orders", Callback.new(b"x", id="popped"), trusted=True),
    "rotate": RotateSecret("orders", Secret("t"), 2 * 10**18),
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
    "push a sub event": Push(
        "orders", Callback.new(b"x", id="new", parent="c", ordering_key="k"), trusted=True
    ),
    "push a sub event after dedup_for": Push(
        "orders", Callback.new(b"x", id="old", parent="c", fence="f"), trusted=True
    ),
    "consume": Consume("orders", "received"),
    "claim": ClaimSlice("orders", "received", 2, by="worker"),
    "acknowledge": Held.by(Ack, "e"),
    "acknowledge into a phase": Held.by(Ack, "e", then="processed"),
    "discard": Held.by(Ack, "e", discard=True, reason="no use"),
    "nack": Held.by(Nack, "e", retry_in=3.0, reason="failed"),
    "give up": Held.by(Nack, "e", dead_letter="processed"),
    "extend": Held.by(Extend, "e", lease=60.0),
    "release": Held.by(Release, "e"),
    "move cursor": MoveCursor(
        "orders",
        "reader",
        7,
        3,
        (
            Callback.new(b"x", id="new"),
            Callback.new(b"x", id="c"),
            Callback.new(b"x", id="newer", parent="new"),
        ),
    ),
    "history": History("orders", "b"),
    "history page": HistoryPage("orders"),
    "stats": Stats("orders"),
}


def prepare(expired: int = 0, spent: int = 0, lapsed: int = 0) -> Inbox:
    """An inbox with a, b, c, d queued (b processed), e claimed, f waiting for e, and g delayed.

    Besides them some have expired, some expiries are left over, and some leases have ended.
    """
    inbox = Inbox(ttl=5000, kept=20, keep_for=5.0)
    inbox.push("old")
    inbox.do(Pop("orders"))
    inbox.now += 10 * SECOND
    inbox.push("popped", *(f"spent{number}" for number in range(spent)))
    inbox.do(PopSlice("orders", limit=10**6))
    inbox.do(UpdateEndpoint(inbox.endpoint.replace(ttl=1)))
    inbox.push(*(f"expired{number}" for number in range(expired)))
    inbox.do(UpdateEndpoint(inbox.endpoint))
    inbox.push("z")
    inbox.push(*(f"lapsed{number}" for number in range(lapsed)))
    inbox.do(ClaimSlice("orders", None, 1 + expired + lapsed, 0.001, "slow"))
    for id in "abcd":
        inbox.push(id, parent="z" if id in "bc" else None)
    inbox.do(DeleteCallback("orders", "z"))
    inbox.push("e", ordering_key="k")
    inbox.do(UpdatePhase("orders", "e", "processed"))
    inbox.do(ClaimSlice("orders", "processed", 1, 30.0, "worker"))
    inbox.push("f", phase="processed", ordering_key="k")
    inbox.push("g", not_before=inbox.now + 60 * SECOND, fence="g")
    inbox.do(MoveCursor("orders", "reader", 3))
    inbox.do(UpdatePhase("orders", "b", "processed"))
    inbox.do(UpdatePhase("orders", "d", "processed"))
    inbox.do(UpdatePhase("orders", "d", "received"))
    inbox.now += MS
    return inbox


def contents(inbox: Inbox) -> list[Any]:
    """What others can see of the endpoints, their callbacks, records and remembered ids."""
    seen: list[Any] = []
    for endpoint in inbox.do(IndexEndpoints()):
        id = endpoint.id
        queue = inbox.backend._queues[id]
        stats = inbox.do(Stats(id))
        names = ("old", "popped", "new", "newer", *"abcdefg")
        known = (*names, fence_key("f"), fence_key("g"))
        seen.append(
            (
                (id, endpoint.phases, endpoint.ttl, endpoint.dedup_for, endpoint.consumes),
                [(n, row[0].phase, row[0].attempts, row[1]) for n, row in queue_rows(queue)],
                [name for name in known if queue.ids.remembers(name, inbox.now)],
                [secret.reveal() for secret in endpoint.secrets_at(inbox.now)],
                [queue.rows[n].callback.id for n in queue.places.available(None, 0, 10**6)],
                # All but the position, which nobody gets twice.
                [record[1:] for record in inbox.do(HistoryPage(id)).records],
                [[record[3] for record in inbox.do(History(id, name))] for name in names],
                [callback.id for callback in inbox.do(PastPage(id)).callbacks],
                [len(queue.past.descendants(name, True)) for name in ("z", "c", "new")],
                (stats, inbox.do(FindCursor(id, "reader"))),
            )
        )
    return seen


def queue_rows(queue: CallbackQueue) -> list[tuple[str, Row]]:
    return [(row.callback.id, row) for row in queue.rows.values()]


SETUPS: dict[str, Callable[[], Inbox]] = {
    "plain": prepare,
    "with expired ones": lambda: prepare(expired=3),
    "with more than are kept": lambda: prepare(spent=30),
    "with leases that have ended": lambda: prepare(expired=1, lapsed=2),
}
# Every operation where nothing is special, and where something is, those that may meet it.
SPECIAL = {
    "with expired ones": ["push", "pop", "pop slice", "fetch", "reset", "sweep", "claim"],
    "with more than are kept": ["pop", "pop slice", "delete callback", "acknowledge", "sweep"],
    "with leases that have ended": ["pop by key", "update phase", "claim", "nack", "sweep"],
}
CASES = [("plain", name) for name in OPERATIONS] + [
    (setup, name) for setup, names in SPECIAL.items() for name in names
]


@pytest.mark.parametrize(("setup", "name"), CASES)
def test_an_interrupt_anywhere_leaves_all_or_nothing(setup: str, name: str) -> None:
    operation, make = OPERATIONS[name], SETUPS[setup]
    before, after = make(), make()
    after.do(message_for(after, operation))
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
        lambda inbox: inbox.do(message_for(inbox, operation)),
        check,
        prepare=make,
        modules=MODULES,
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


@pytest.mark.parametrize(
    "name",
    ["push", "pop", "pop slice", "reset", "update phase", "claim", "acknowledge", "move cursor"],
)
def test_an_interrupt_while_finishing_an_interrupted_change(name: str) -> None:
    operation = OPERATIONS[name]
    before, after = prepare(), prepare()
    after.do(message_for(after, operation))
    allowed = [contents(before), contents(after)]
    counted = interrupt_at_every_bytecode(
        lambda inbox: inbox.do(message_for(inbox, operation)),
        lambda *_: None,
        prepare=prepare,
        modules=MODULES,
    )

    for number in range(0, counted, max(11, counted // 3)):

        def interrupted(number: int = number) -> Inbox:
            inbox = prepare()
            message = message_for(inbox, operation)
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
