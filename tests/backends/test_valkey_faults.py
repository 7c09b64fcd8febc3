"""A Valkey server that goes away, comes back, or refuses: what callers are told, what is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pollin_actors import Application
from pollin_actors.backends.valkey import ValkeyBackend
from pollin_actors.backends.valkey.failures import LOST
from pollin_actors.backends.valkey.node import Node
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import (
    CheckReady,
    Count,
    CreateEndpoint,
    FetchSlice,
    IndexEndpoints,
    Pop,
    Stats,
)
from pollin_actors.resources import Callback, Endpoint
from tests.backends.valkey_inbox import WAIT_S, Inbox
from tests.servers.valkey import ALWAYS, Server


@pytest.fixture
def server() -> Iterator[Server]:
    """One that writes everything to its disk before it answers."""
    server = Server(ALWAYS)
    yield server
    server.remove()


@pytest.fixture
def inbox(server: Server) -> Iterator[Inbox]:
    with Inbox(server.url()) as inbox:
        yield inbox


def refused(inbox: Inbox, message: Any) -> BackendUnavailable:
    with pytest.raises(BackendUnavailable) as caught:
        inbox.do(message)
    return caught.value


def test_everything_is_there_after_a_restart(server: Server, inbox: Inbox) -> None:
    """While it is away callers are told why; then work goes on by itself, nothing is lost."""
    inbox.push("a", "b")
    inbox.do(Pop("orders"))
    server.kill()
    for message in (Count("orders"), Pop("orders"), CheckReady(), IndexEndpoints()):
        error = refused(inbox, message)
        assert error.__cause__ is not None
        assert str(server.socket) in str(error)
    server.start()
    assert inbox.do(CheckReady()) is None
    assert [one.id for one in inbox.do(FetchSlice("orders"))] == ["b"]
    assert inbox.push("a", "c") == ["duplicate", "queued"]


def test_nothing_that_was_acknowledged_is_lost(server: Server) -> None:
    """It is killed while threads push; what they were told is queued is there, and what they were
    told nothing of is there once at most."""
    acknowledged: list[str] = []
    lost: list[str] = []
    some = threading.Event()

    with Inbox(server.url()) as inbox:

        def push(name: int) -> None:
            for number in range(10_000):
                id = f"{name}-{number}"
                try:
                    inbox.start(id)[0].get(timeout=WAIT_S)
                except BackendUnavailable as error:
                    if LOST in str(error):
                        lost.append(id)
                    return
                acknowledged.append(id)
                if number == 20:
                    some.set()

        threads = [threading.Thread(target=push, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        assert some.wait(WAIT_S)
        server.kill()
        for thread in threads:
            thread.join(WAIT_S)
        server.start()
        found = [one.id for one in inbox.do(FetchSlice("orders", limit=10**6))]
    assert len(set(found)) == len(found)
    assert set(acknowledged) <= set(found) <= {*acknowledged, *lost}


def test_functions_are_loaded_again(server: Server, inbox: Inbox) -> None:
    """Whoever flushes them, messages that were on their way keep their order."""
    inbox.push("a")
    server.ask("FUNCTION", "FLUSH")
    futures = inbox.start("b", "c", "d")
    assert {str(future.get(timeout=WAIT_S).outcome) for future in futures} == {"queued"}
    assert [one.id for one in inbox.do(FetchSlice("orders"))] == ["a", "b", "c", "d"]
    server.ask("FUNCTION", "FLUSH")
    inbox.do(CreateEndpoint(Endpoint.new(id="other")))
    server.ask("FLUSHALL")
    server.ask("FUNCTION", "FLUSH")
    assert inbox.do(IndexEndpoints()) == []


def test_a_lost_answer_is_told(
    server: Server, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is lost after the sending: a change may have been made, and is not made a
    second time; what reads is asked again, and answered."""
    inbox.push("a")
    read = Node.read

    def lose(self: Node) -> Any:
        if waits.pop(0):
            server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            return read(self), read(self)  # what was answered before, then the end
        return read(self)

    for message, expected in ((Count("orders"), 1), (FetchSlice("orders"), None)):
        waits = [True, *[False] * 100]
        with monkeypatch.context() as patch:
            patch.setattr(Node, "read", lose)
            found = inbox.do(message)
        assert expected in (None, found)
    waits = [True, *[False] * 100]
    with monkeypatch.context() as patch:
        patch.setattr(Node, "read", lose)
        error = refused(inbox, Pop("orders"))
    assert LOST in str(error)
    assert inbox.do(Count("orders")) == 0
    assert inbox.do(Pop("orders")) is None


def test_a_replica_refuses(server: Server, inbox: Inbox) -> None:
    """After a failover the old primary takes no changes; once it does again work goes on."""
    inbox.push("a")
    server.ask("REPLICAOF", "127.0.0.1", "1")
    for message in (Pop("orders"), CheckReady()):
        assert "use the address of the primary" in str(refused(inbox, message))
    server.ask("REPLICAOF", "NO", "ONE")
    inbox.do(CheckReady())
    assert inbox.do(Pop("orders")).id == "a"


def test_a_full_memory_refuses_what_adds(server: Server, inbox: Inbox) -> None:
    """Without memory nothing is pushed, and nothing half; what takes out goes on."""
    inbox.push("a", "b")
    server.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(BackendUnavailable, match="maxmemory"):
        inbox.push("c")
    assert "maxmemory" in str(refused(inbox, CheckReady()))
    assert inbox.do(Stats("orders")).queued == 2
    assert inbox.do(Pop("orders")).id == "a"
    server.ask("CONFIG", "SET", "maxmemory", "0")
    assert inbox.push("c") == ["queued"]
    assert [one.id for one in inbox.do(FetchSlice("orders"))] == ["b", "c"]


def test_too_few_replicas_refuse(server: Server, inbox: Inbox) -> None:
    """A server that is to write only with replicas says so."""
    server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    with pytest.raises(BackendUnavailable, match="replicas"):
        inbox.push("a")
    server.ask("CONFIG", "SET", "min-replicas-to-write", "0")
    assert inbox.push("a") == ["queued"]


def test_one_damaged_callback_harms_no_other(server: Server, inbox: Inbox) -> None:
    """What cannot be read is named; it can be deleted by its key, and others are answered."""
    inbox.push("a", "b")
    prefix = inbox.url.rpartition("prefix=")[2]
    (rows,) = server.ask("KEYS", f"{prefix}:{{orders}}:*:r")
    number = server.ask("HGET", rows, "ia").decode()
    server.ask("HSET", rows, f"b{number}", "rubbish")
    futures = [
        inbox.backend.execute(message) for message in (FetchSlice("orders"), Count("orders"))
    ]
    with pytest.raises(BackendUnavailable, match="callback 'a' is damaged"):
        futures[0].get(timeout=WAIT_S)
    assert futures[1].get(timeout=WAIT_S) == 2


def test_an_application_lives_through_it(server: Server) -> None:
    """Through the application: errors within the deadline, then work goes on; ready says so."""
    with Application(ValkeyBackend(server.url())) as app:
        app.endpoints.create(Endpoint.new(["received"], 0, id="orders")).get()
        app.callbacks.push("orders", Callback.new(b"one")).get()
        server.kill()
        begin = time.monotonic()
        with pytest.raises(BackendUnavailable):
            app.callbacks.push("orders", Callback.new(b"two")).get()
        assert time.monotonic() - begin < 5.0
        with pytest.raises(BackendUnavailable):
            app.ready().get()
        server.start()
        app.ready().get()
        assert app.callbacks.count("orders").get() == 1
