"""Backends that say they are durable or shared, and lose something: the checks find every one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, TypeAlias

import pytest

from examples.own_backend import ListBackend
from examples.own_backend_queue import NEVER, Queue, Row
from pollin_actors.backends.conformance import (
    CHECKS,
    NewBackend,
    claims,
    consumed,
    cursors,
    family,
    fences,
    history,
    ordering,
    retention,
    rotation,
    schedules,
)
from pollin_actors.messages import Ack, ClaimSlice
from tests.backends.mutants import finds

Loss: TypeAlias = Callable[[Queue], None]


class Durable(ListBackend):
    """A handle on lists that outlive it; several may be open at once."""

    durable = True
    shared = True

    def __init__(self, first: ListBackend, lose: Loss | None = None) -> None:
        super().__init__()
        self._queues, self._lock, self._positions = first._queues, first._lock, first._positions
        self._lose = lose

    def open(self, time_ns: Callable[[], int]) -> None:
        super().open(time_ns)
        for queue in self._queues.values():
            if self._lose is not None:
                self._lose(queue)


def stores(lose: Loss | None) -> NewBackend:
    first = ListBackend()
    return lambda: Durable(first, lose)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_passes_where_nothing_is_lost(check: Callable[[Any], None]) -> None:
    """What the others are compared with keeps every rule."""
    check(lambda: stores(None))


def of_rows(change: Callable[[Row], object]) -> Loss:
    """What is done to each row, queued or kept."""

    def lose(queue: Queue) -> None:
        for row in queue.all():
            change(row)

    return lose


def set_to(field: str, value: object) -> Loss:
    return of_rows(lambda row: setattr(row, field, value))


def in_queue(field: str, value: Any) -> Loss:
    return lambda queue: setattr(queue, field, type(value)(value))


def without(field: str) -> Loss:
    """Every callback is read again without this field."""
    return of_rows(lambda row: setattr(row, "callback", row.callback.replace(**{field: None})))


def find_turns_anew(queue: Queue) -> None:
    set_to("front", False)(queue)
    queue.next_fronts()


def forget_who_consumes(queue: Queue) -> None:
    queue.endpoint = queue.endpoint.replace(consumes=())


def forget_capacities(queue: Queue) -> None:
    queue.endpoint = queue.endpoint.replace(capacity=None)


def forget_old_secrets(queue: Queue) -> None:
    queue.endpoint = queue.endpoint.replace(old_secrets=())


def lose_the_newest_record(queue: Queue) -> None:
    del queue.history[-1:]


LOSSES: dict[str, Loss] = {
    "claims": set_to("token", ""),
    "leases": set_to("until", 1 << 62),
    "attempts": of_rows(lambda row: setattr(row, "callback", row.callback.with_attempts(0))),
    "retries": set_to("retry_at", 0),
    "times": without("not_before"),
    "ordering keys": without("ordering_key"),
    "parents": without("parent"),
    "roots": without("root"),
    "fences": without("fence"),
    "what is remembered of fences": in_queue("fences", {}),
    "old secrets": forget_old_secrets,
    "origins": without("origin"),
    "turns": find_turns_anew,
    "expiries": set_to("expires_at", NEVER),
    "what is kept": in_queue("kept", []),
    "how long it is kept": set_to("forget_at", NEVER),
    "records": in_queue("history", []),
    "the newest record": lose_the_newest_record,
    "cursors": in_queue("cursors", {}),
    "how many have expired": in_queue("expired", 0),
    "what is consumed": forget_who_consumes,
    "capacities": forget_capacities,
}
FIRST = (
    *claims.CHECKS,
    *schedules.CHECKS,
    *ordering.CHECKS,
    *consumed.CHECKS,
    *family.CHECKS,
    *history.CHECKS,
    *retention.CHECKS,
    *cursors.CHECKS,
    *fences.CHECKS,
    *rotation.CHECKS,
)


@pytest.mark.parametrize("what", LOSSES)
def test_finds_what_is_lost(what: str) -> None:
    """A handle that is opened, and forgets something that was there, is found."""
    finds(lambda: stores(LOSSES[what]), FIRST)


def test_finds_positions_that_begin_anew() -> None:
    """Positions that are given out again after a restart are found."""

    class Restarted(Durable):
        def open(self, time_ns: Callable[[], int]) -> None:
            super().open(time_ns)
            self._positions: Iterator[int] = count(1)  # type: ignore[assignment]
            for queue in self._queues.values():
                queue.positions = self._positions

    def new_store() -> NewBackend:
        first = ListBackend()
        return lambda: Restarted(first)

    finds(new_store, history.CHECKS)


class OwnTokens(Durable):
    """Knows only the tokens that this handle gave."""

    def execute(self, message: Any) -> Any:
        given = vars(self).setdefault("given", set())
        if type(message) is Ack and message.token not in given:
            message = message._replace(token="")
        reply = super().execute(message)
        if type(message) is ClaimSlice:
            given.update(claim.token for claim in reply.claims)
        return reply


def test_finds_tokens_of_one_handle() -> None:
    """A token that only the handle which gave it knows is found."""

    def new_store() -> NewBackend:
        first = ListBackend()
        return lambda: OwnTokens(first)

    finds(new_store, claims.CHECKS)
