"""Random operations on the backend in memory: the insides agree after each of them."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from pollin_actors.errors import PollinError
from pollin_actors.messages import (
    Ack,
    Children,
    ClaimSlice,
    Consume,
    Count,
    DeleteCallback,
    Extend,
    Fetch,
    FetchReverse,
    FetchSlice,
    History,
    HistoryPage,
    MoveCursor,
    Nack,
    PastPage,
    Pop,
    PopSlice,
    Push,
    Release,
    Reset,
    Stats,
    Sweep,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.records import Claim
from pollin_actors.resources import Callback
from tests.backends.inbox import MS, Inbox
from tests.backends.invariants import check_backend

NAMES = [f"c{number}" for number in range(12)]
PHASES = ["received", "processed"]


class Player:
    """Does things at random to one inbox, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.inbox = Inbox(ttl=50, dedup_for=0.02, kept=6, keep_for=0.2)
        self.claims: list[Claim] = []

    def callback(self) -> Callback:
        random = self.random
        callback = Callback.new(
            b"x" * random.randrange(5),
            id=random.choice(NAMES),
            phase=random.choice(["", *PHASES]),
            parent=random.choice([None, None, *NAMES]),
            ordering_key=random.choice([None, "k", "l"]),
            not_before=random.choice([None, None, self.inbox.now + random.randrange(40) * MS]),
        )
        return callback.replace(created_at=self.inbox.now)

    def message(self) -> Any:
        random = self.random
        key, phase = random.choice(NAMES), random.choice(PHASES)
        claimed = random.choice(self.claims) if self.claims else None
        pair = (
            ("orders", key, "no token")
            if claimed is None
            else ("orders", claimed.key, claimed.token)
        )
        endpoint = self.inbox.endpoint.replace(
            consumes=random.choice([[], ["received"]]),
            keep_for=random.choice([0.0, 0.05, 0.2]),
            ttl=random.choice([0, 30, 50]),
            dedup_for=random.choice([0.0, 0.02]),
            capacity=random.choice([None, 9]),
            capacity_bytes=random.choice([None, None, 20]),
        )
        pushes = tuple(self.callback() for _ in range(random.randrange(3)))
        messages = [
            *[Push("orders", self.callback(), trusted=True) for _ in range(6)],
            *[ClaimSlice("orders", random.choice([None, phase]), 2, random.choice([0.01, 0.03]))]
            * 3,
            Pop("orders"),
            Pop("orders", key),
            PopSlice("orders", random.choice([None, phase]), 1, 2),
            DeleteCallback("orders", key),
            UpdatePhase("orders", key, phase),
            Ack(*pair),
            Ack(*pair, then=phase),
            Ack(*pair, discard=True, reason="no use"),
            Nack(*pair, retry_in=random.choice([0.0, 0.02]), reason="failed"),
            Nack(*pair, dead_letter=phase),
            Extend(*pair, lease=random.choice([0.005, 0.05])),
            Release(*pair),
            MoveCursor("orders", "reader", random.randrange(9), random.choice([None, 3]), pushes),
            Sweep(random.randrange(4)),
            UpdateEndpoint(endpoint),
            Consume("orders", phase),
        ]
        return random.choice(messages) if random.randrange(100) else Reset("orders")

    def play(self) -> None:
        """Do one thing, and let time pass or not."""
        message = self.message()
        try:
            reply = self.inbox.do(message)
        except PollinError:
            return
        if isinstance(message, ClaimSlice):
            self.claims = [*self.claims, *reply.claims][-8:]
        self.inbox.now += self.random.choice([0, 0, 0, 1, 5, 20]) * MS


@pytest.mark.parametrize("seed", range(40))
def test_everything_derived_agrees_with_the_rows(seed: int) -> None:
    """Whatever is done: what was changed step by step is what is derived anew."""
    player = Player(seed)
    for _ in range(300):
        player.play()
        check_backend(player.inbox.backend)


@pytest.mark.parametrize("seed", range(20))
def test_deriving_everything_anew_changes_nothing(seed: int) -> None:
    """Of two that do the same, one derives everything anew before each operation."""
    player, other = Player(seed), Player(seed)
    queue = other.inbox.backend._queues["orders"]
    for _ in range(200):
        player.play()
        queue.pending = queue.pending or "anything"
        other.play()
        assert seen(other.inbox) == seen(player.inbox)


def seen(inbox: Inbox) -> list[Any]:
    found: list[Any] = []
    messages = [
        ClaimSlice("orders", None, 0),
        FetchSlice("orders"),
        FetchReverse("orders", "received"),
        Count("orders", "processed"),
        Fetch("orders"),
        HistoryPage("orders"),
        PastPage("orders"),
        Stats("orders"),
        *[History("orders", key) for key in NAMES],
    ]
    for message in messages:
        reply = inbox.do(message)
        if isinstance(message, FetchSlice):
            found.append([repr(callback) for callback in reply])
        elif isinstance(message, ClaimSlice):
            continue
        elif isinstance(message, HistoryPage):
            found.append(reply.records)
        elif isinstance(message, PastPage):
            found.append([(callback.id, callback.attempts) for callback in reply.callbacks])
        else:
            found.append(reply if isinstance(reply, (int, tuple)) else repr(reply))
    for key in NAMES:
        try:
            found.append([callback.id for callback in inbox.do(Children("orders", key, True))])
        except PollinError as error:
            found.append(type(error))
    return found
