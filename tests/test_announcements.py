"""Backends that tell what other processes do: who waits hears of it without looking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pollin_actors import Application, Callback, Endpoint, Settings
from pollin_actors.backends import Announces
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.testing import FaultyBackend

# Longer than any test takes: nobody finds anything by looking.
NEVER_S = 100_000.0


class Shared:
    """One store, as each of several processes has it; each is told what the others do."""

    shared = True
    durable = False

    def __init__(self, store: MemoryBackend, handles: list[Shared]) -> None:
        self._store = store
        self._handles = handles
        self.announce: Callable[[str | None, bool], None] = lambda endpoint_id, revised: None
        handles.append(self)

    def announce_to(self, announce: Callable[[str | None, bool], None]) -> None:
        self.announce = announce

    def open(self, time_ns: Callable[[], int]) -> None:
        self._store.open(time_ns)

    def close(self) -> None:
        pass

    def execute(self, message: Any) -> Any:
        reply = self._store.execute(message)
        endpoint_id = getattr(message, "endpoint_id", None)
        for handle in self._handles:
            if handle is not self:
                handle.announce(endpoint_id, False)
        return reply


@pytest.fixture
def handles() -> list[Shared]:
    store: MemoryBackend = MemoryBackend()
    handles: list[Shared] = []
    for _ in range(2):
        Shared(store, handles)
    return handles


@pytest.fixture
def apps(handles: list[Shared]) -> Iterator[list[Application]]:
    settings = Settings(poll_interval=NEVER_S)
    endpoint = Endpoint.new(["received", "done"], id="orders", secret="s3cret")
    one, two = (
        Application(handle, endpoints=[endpoint], settings=settings)
        for handle in (handles[0], FaultyBackend(handles[1]))
    )
    with one, two:
        yield [one, two]


def test_a_waiting_claim_hears_of_a_push_elsewhere(apps: list[Application]) -> None:
    """It gets what another process pushes, long before it would have looked."""
    waiting = apps[1].callbacks.claim("orders", wait=NEVER_S, timeout=None)
    assert not waiting.done()
    apps[0].callbacks.push("orders", Callback.new(b"one")).get()
    [claim] = waiting.get(timeout=10)
    assert claim.callback.request == b"one"


def test_a_subscription_hears_of_a_push_elsewhere(apps: list[Application]) -> None:
    """A history that is followed shows what another process does."""
    records = apps[1].callbacks.subscribe("orders")
    apps[0].callbacks.push("orders", Callback.new(b"one", id="one")).get()
    assert next(records).callback_id == "one"
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, records)
        apps[0].callbacks.push("orders", Callback.new(b"two", id="two")).get()
        assert following.result(timeout=10).callback_id == "two"


def test_anywhere_wakes_everybody(apps: list[Application], handles: list[Shared]) -> None:
    """After a lost connection nobody knows what has happened: who waits looks again."""
    waiting = apps[1].callbacks.claim("orders", wait=NEVER_S, timeout=None)
    announce, handles[1].announce = handles[1].announce, lambda endpoint_id, revised: None
    apps[0].callbacks.push("orders", Callback.new(b"one")).get()
    assert not waiting.done()  # that announcement was lost
    announce(None, True)
    assert len(waiting.get(timeout=10)) == 1


def test_a_revised_endpoint_is_read_again(apps: list[Application], handles: list[Shared]) -> None:
    """What is remembered of endpoints is out of date once one is announced as revised."""
    changes = apps[0]._changes
    before = changes.revision
    handles[0].announce("orders", False)
    assert changes.revision is before
    handles[0].announce("orders", True)
    assert changes.revision is not before


def test_only_who_can_announces() -> None:
    """A backend of the plain contract is none that announces."""
    assert isinstance(Shared(MemoryBackend(), []), Announces)
    assert not isinstance(MemoryBackend(), Announces)
