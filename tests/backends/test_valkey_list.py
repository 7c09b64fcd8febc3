"""The list of endpoints on a Valkey server while several create and delete the same one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

from pollin_actors.backends.valkey import ValkeyBackend
from pollin_actors.backends.valkey.exchange import Exchange
from pollin_actors.errors import EndpointExists
from pollin_actors.messages import CreateEndpoint, DeleteEndpoint, IndexEndpoints
from pollin_actors.resources import Endpoint
from tests.backends.valkey_inbox import WAIT_S, Inbox
from tests.backends.valkey_store import client_of
from tests.servers.valkey import new_url

OTHER = Endpoint.new(ttl=0, id="other")


class Halted:
    """A message whose operation is halted before one of its steps.

    Arguments:
        backend: that does it.
        message: of several steps.
        step: how many come before.
    """

    def __init__(self, backend: ValkeyBackend, message: Any, step: int) -> None:
        exchange = backend._exchange
        assert exchange is not None
        reached, self._free = threading.Event(), threading.Event()
        numbers = count()

        def ask(key: bytes, command: bytes) -> Any:
            if next(numbers) == step:
                reached.set()
                assert self._free.wait(WAIT_S)
            return Exchange.ask(exchange, key, command)

        exchange.ask = ask  # type: ignore[method-assign]
        self._future = backend.execute(message)
        assert reached.wait(WAIT_S)

    def go_on(self) -> Any:
        """Let it go on, and return its reply."""
        self._free.set()
        return self._future.get(timeout=WAIT_S)


@contextmanager
def others(inbox: Inbox, number: int) -> Iterator[list[ValkeyBackend]]:
    backends = [inbox.open() for _ in range(number)]
    yield backends
    for backend in backends:
        backend.close()


def listed(inbox: Inbox) -> list[str]:
    return [endpoint.id for endpoint in inbox.do(IndexEndpoints())]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox(new_url()) as inbox:
        inbox.do(CreateEndpoint(OTHER))
        yield inbox


def test_one_that_was_created_again_stays_in_it(inbox: Inbox) -> None:
    """One finds it there and is slow to say so, another deletes it and is slow to take the name
    out, and meanwhile it is created again."""
    with others(inbox, 2) as (one, another):
        late = Halted(one, CreateEndpoint(OTHER), 3)
        deleted = Halted(another, DeleteEndpoint("other"), 1)
        inbox.do(CreateEndpoint(OTHER))
        with pytest.raises(EndpointExists):
            late.go_on()
        assert deleted.go_on() is True
    assert listed(inbox) == ["orders", "other"]


def test_one_that_is_just_created_again_comes_into_it(inbox: Inbox) -> None:
    """The same, and who creates it again has written the name down before the slow one did."""
    with others(inbox, 3) as (one, another, third):
        again = Halted(third, CreateEndpoint(OTHER), 2)
        late = Halted(one, CreateEndpoint(OTHER), 3)
        deleted = Halted(another, DeleteEndpoint("other"), 1)
        with pytest.raises(EndpointExists):
            late.go_on()
        assert deleted.go_on() is True
        assert again.go_on() == OTHER
    assert listed(inbox) == ["orders", "other"]


def test_a_second_creation_leaves_no_name_behind(inbox: Inbox) -> None:
    """Who finds it there gives it its number back, so that its deletion takes the name out."""
    with pytest.raises(EndpointExists):
        inbox.do(CreateEndpoint(OTHER))
    inbox.do(DeleteEndpoint("other"))
    key = f"{inbox.url.rpartition('prefix=')[2]}:{{:}}endpoints"
    assert client_of(inbox.url).zrange(key, 0, -1) == [b"orders"]
