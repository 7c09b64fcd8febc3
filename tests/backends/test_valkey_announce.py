"""What other processes do on Valkey is told at once, and not more than somebody wants to know."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from pollin_actors import Application, Callback, Endpoint, Settings
from pollin_actors.backends import Announces
from pollin_actors.backends.valkey import ValkeyBackend, listener
from pollin_actors.messages import (
    Ack,
    ClaimSlice,
    CreateEndpoint,
    DeleteEndpoint,
    HistoryPage,
    Nack,
    Reset,
    UpdateEndpoint,
)
from tests.backends.valkey_inbox import WAIT_S, Inbox
from tests.backends.valkey_store import client_of
from tests.servers.valkey import Server, new_url

# Longer than any test takes: nobody finds anything by looking.
NEVER_S = 100_000.0
ANYWHERE = (None, True)


class Heard:
    """Another handle, and what it was told."""

    def __init__(self, inbox: Inbox) -> None:
        self._told: SimpleQueue[tuple[str | None, bool]] = SimpleQueue()
        self._inbox = inbox
        self.backend = inbox.open(lambda id, revised: self._told.put((id, revised)))
        assert self.next() == ANYWHERE

    def next(self) -> tuple[str | None, bool]:
        return self._told.get(timeout=WAIT_S)

    def do(self, message: Any) -> Any:
        return self.backend.execute(message).get(timeout=WAIT_S)

    def up_to_now(self) -> list[tuple[str | None, bool]]:
        """What it was told before now."""
        marker = Endpoint.new(id="marker")
        self._inbox.do(CreateEndpoint(marker))
        self._inbox.do(DeleteEndpoint("marker"))
        told = [self.next()]
        while told.count(("marker", True)) < 2:
            told.append(self.next())
        return [one for one in told if one[0] != "marker"]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox(new_url()) as inbox:
        yield inbox


@pytest.fixture
def heard(inbox: Inbox) -> Iterator[Heard]:
    heard = Heard(inbox)
    yield heard
    heard.backend.close()


def test_it_is_one_that_announces() -> None:
    """The application finds out by the type."""
    assert isinstance(ValkeyBackend("valkey://h"), Announces)


def test_who_found_nothing_is_told_once(inbox: Inbox, heard: Heard) -> None:
    """Of many pushes one is announced to who has found nothing to claim: then it looks again."""
    inbox.push("before")
    assert heard.up_to_now() == []
    assert len(heard.do(ClaimSlice("orders", "received", 5)).claims) == 1
    inbox.push(*map(str, range(50)))
    assert heard.up_to_now() == [("orders", False)]
    heard.do(ClaimSlice("orders", "received", 100))
    inbox.push("more")
    assert heard.up_to_now() == [("orders", False)]


def test_work_that_comes_back_is_told(inbox: Inbox, heard: Heard) -> None:
    """What is given back is available again; what is done with is no news to who looks for work."""
    inbox.push("a", "b")
    first, second = inbox.do(ClaimSlice("orders", "received", 2)).claims
    assert heard.do(ClaimSlice("orders", "received")).claims == []
    inbox.do(Ack("orders", "a", first.token))
    assert heard.up_to_now() == []
    inbox.do(Nack("orders", "b", second.token))
    assert heard.up_to_now() == [("orders", False)]


def test_who_follows_records_is_told_of_each_kind(inbox: Inbox, heard: Heard) -> None:
    """Every record is news to who has read all that there were, once."""
    after = heard.do(HistoryPage("orders")).cursor
    inbox.push("a", "b")
    assert heard.up_to_now() == [("orders", False)]
    after = heard.do(HistoryPage("orders", after)).cursor
    (claim,) = inbox.do(ClaimSlice("orders", "received")).claims
    assert heard.up_to_now() == [("orders", False)]
    after = heard.do(HistoryPage("orders", after)).cursor
    inbox.do(Ack("orders", "a", claim.token))
    assert heard.up_to_now() == [("orders", False)]
    heard.do(HistoryPage("orders", after))
    inbox.do(Reset("orders"))
    assert heard.up_to_now() == [("orders", False)]


@pytest.mark.parametrize("id", ["other", "{a}%7D", "ö☃"])
def test_endpoints_are_told_as_revised(inbox: Inbox, heard: Heard, id: str) -> None:
    """Their creation, change and deletion, whoever waits for anything; by their ids."""
    endpoint = Endpoint.new(id=id)
    for message in (CreateEndpoint(endpoint), UpdateEndpoint(endpoint), DeleteEndpoint(id)):
        inbox.do(message)
        assert heard.next() == (id, True)


def test_a_lost_connection_is_made_again() -> None:
    """Then anything may have happened anywhere, and that is told; the server may be away for a
    while."""
    server = Server()
    try:
        with Inbox(server.url()) as inbox:
            heard = Heard(inbox)
            server.ask("CLIENT", "KILL", "TYPE", "pubsub")
            assert heard.next() == ANYWHERE
            server.kill()
            server.start()
            assert heard.next() == ANYWHERE
            heard.backend.close()
            heard.backend.close()
    finally:
        server.remove()


def test_news_that_come_together_are_told_together(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None waits in the connection for the next."""
    monkeypatch.setattr(listener, "_SILENCE_S", NEVER_S)
    heard = Heard(inbox)
    channel = f"{inbox.url.rpartition('prefix=')[2]}:changes"
    client = client_of(inbox.url)
    with client.pipeline(transaction=True) as together:
        for number in range(50):
            together.publish(channel, f"0e{number}")
        together.execute()
    client.close()
    assert [heard.next() for _ in range(50)] == [(f"e{number}", False) for number in range(50)]
    heard.backend.close()


@pytest.fixture
def apps() -> Iterator[list[Application]]:
    url = new_url()
    settings = Settings(poll_interval=NEVER_S)
    endpoint = Endpoint.new(["received", "done"], 0, id="orders")
    one, two = (
        Application(ValkeyBackend(url), endpoints=[endpoint], settings=settings) for _ in range(2)
    )
    with one, two:
        yield [one, two]


def test_applications_hear_of_each_other(apps: list[Application]) -> None:
    """A waiting claim in one gets what is pushed in the other; so does a subscription."""
    waiting = apps[1].callbacks.claim("orders", wait=NEVER_S, timeout=None)
    records = apps[1].callbacks.subscribe("orders")
    assert not waiting.done()
    apps[0].callbacks.push("orders", Callback.new(b"one", id="a")).get()
    [claim] = waiting.get(timeout=WAIT_S)
    assert claim.callback.request == b"one"
    assert next(records).callback_id == "a"
    again = apps[0].callbacks.claim("orders", wait=NEVER_S, timeout=None)
    assert not again.done()
    apps[1].callbacks.release(claim).get()
    assert [one.key for one in again.get(timeout=WAIT_S)] == ["a"]
