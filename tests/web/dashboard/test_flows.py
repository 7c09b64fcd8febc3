"""Rates: read from the history when somebody looks, in bounded pieces."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pollin_actors import Application, Endpoint
from pollin_actors.web.dashboard import flows
from pollin_actors.web.dashboard.flows import Flow, Flows, first_place
from tests.web.dashboard.visitor import push, push_all


def read(app: Application, kept: Flows, endpoint_id: str = "orders") -> tuple[Flow, int]:
    """The flow of an endpoint, and how many questions that took."""
    asked = 0

    async def ask(message: Any) -> Any:
        nonlocal asked
        asked += 1
        return await app.callbacks._mailbox(endpoint_id).ask(message, 5)

    async def run() -> Flow:
        endpoint = await app.endpoints.find(endpoint_id)
        assert endpoint is not None
        return (await kept.read(ask, [endpoint]))[endpoint_id]

    return asyncio.run(run()), asked


def test_what_happened_is_counted_once(inbox: Application) -> None:
    """However often one looks; also what happened before the first look."""
    kept = Flows(inbox)
    for number in range(30):
        push(inbox, id=f"c{number}")
    read(inbox, kept)
    inbox.callbacks.pop("orders", limit=10).get()
    read(inbox, kept)
    flow, asked = read(inbox, kept)
    minute = flow.rates(kept.now(), 60)
    assert (minute.came, minute.went, minute.failed) == (30, 10, 0)
    assert asked == 1
    assert sum(bucket.came or 0 for bucket in flow.buckets(kept.now())) == 30


def test_so_much_that_not_all_is_read(inbox: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then only the last of it is counted, what is before is not known, and it takes few
    questions."""
    monkeypatch.setattr(flows, "PAGE", 10)
    kept = Flows(inbox)
    push_all(inbox, {f"c{n}": b"" for n in range(1_000)})
    flow, asked = read(inbox, kept)
    assert flow.behind
    assert asked < 200
    assert flow.buckets(kept.now())[0].came is None
    assert flow.rates(kept.now(), 600).came is None


def test_two_who_look_at_once_count_nothing_twice(memory: Application) -> None:
    """The second takes what is there."""
    kept = Flows(memory)
    for number in range(50):
        push(memory, id=f"c{number}")

    async def ask(message: Any) -> Any:
        await asyncio.to_thread(int)  # others get their turn
        return await memory.callbacks._mailbox("orders").ask(message, 5)

    async def run() -> Flow:
        endpoint = await memory.endpoints.find("orders")
        assert endpoint is not None
        some = await asyncio.gather(*(kept.read(ask, [endpoint]) for _ in range(5)))
        return some[0]["orders"]

    assert asyncio.run(run()).rates(kept.now(), 60).came == 50


def test_without_history_nothing_is_known_to_come() -> None:
    """And nothing fails."""
    with Application(endpoints=[Endpoint.new(id="orders", keep_for=0)]) as app:
        kept = Flows(app)
        push(app)
        flow, _ = read(app, kept)
        assert flow.rates(kept.now(), 60).came == 0


@pytest.mark.parametrize("place", [0, 1, 2, 1023, 1024, 1025, 9_999_999, (1 << 62) - 1])
def test_the_first_place_is_found_in_few_questions(place: int) -> None:
    """Wherever it is."""
    asked = 0

    async def reached(position: int) -> bool:
        nonlocal asked
        asked += 1
        return position >= place

    assert asyncio.run(first_place(reached)) == place
    assert asked < 140


def test_flows_are_bounded(memory: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were not looked at for longest are forgotten."""
    monkeypatch.setattr(flows, "MOST", 2)
    kept = Flows(memory)
    for name in ("a", "b", "c"):
        memory.endpoints.create(Endpoint.new(id=name)).get()
        read(memory, kept, name)
    assert list(kept._flows) == ["b", "c"]


def test_an_endpoint_that_is_made_anew_is_counted_anew(inbox: Application) -> None:
    """Its positions may begin anew, too."""
    kept = Flows(inbox)
    push_all(inbox, {f"c{n}": b"" for n in range(20)})
    assert read(inbox, kept)[0].rates(kept.now(), 60).came == 20
    inbox.endpoints.delete("orders").get()
    inbox.endpoints.create(Endpoint.new(id="orders", ttl=0)).get()
    assert read(inbox, kept)[0].rates(kept.now(), 60).came == 0
    push(inbox)
    assert read(inbox, kept)[0].rates(kept.now(), 60).came == 1


def test_one_that_is_gone_is_no_reason_to_count_none(memory: Application) -> None:
    """It was deleted a moment ago, perhaps by another process."""
    kept = Flows(memory)
    gone = Endpoint.new(id="gone")
    push(memory)

    async def ask(message: Any) -> Any:
        return await memory.callbacks._mailbox(message.endpoint_id).ask(message, 5)

    async def run() -> Flow:
        orders = await memory.endpoints.find("orders")
        assert orders is not None
        return (await kept.read(ask, [gone, orders]))["orders"]

    assert asyncio.run(run()).rates(kept.now(), 60).came == 1
