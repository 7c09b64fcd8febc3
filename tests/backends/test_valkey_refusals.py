"""A server that refuses: each command has its own answer, what was refused has changed nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pollin_actors.backends.valkey.failures import LOST
from pollin_actors.backends.valkey.node import Node, packed
from pollin_actors.backends.valkey.sender import Sender
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import (
    CheckReady,
    Count,
    DeleteCallback,
    FetchSlice,
    FindEndpoint,
    Pop,
    UpdateEndpoint,
)
from pollin_actors.resources import Endpoint
from tests.backends.valkey_inbox import WAIT_S, Inbox
from tests.servers.valkey import Server, new_url

CODES = ("LOADING", "MISCONF", "OOM", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "BUSY")


@pytest.fixture
def server() -> Iterator[Server]:
    """One that writes snapshots."""
    server = Server(("--save", "3600 1", "--appendonly", "no"))
    yield server
    server.remove()


@pytest.mark.parametrize("code", CODES)
def test_a_refusal_is_the_answer_of_one(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several commands that are sent together the server refuses one: the others are answered
    as they were carried out, and that one is told why, and that it did nothing."""
    send = Node.send
    refusal = packed(b"EVAL", b"return redis.error_reply(ARGV[1])", b"0", f"{code} no".encode())

    def refuse(node: Node, commands: list[bytes]) -> None:
        if len(commands) > 1:
            commands = [commands[0], refusal, *commands[2:]]
        send(node, commands)

    with Inbox(new_url()) as inbox:
        inbox.push("first")
        with monkeypatch.context() as patch:
            # Who waits sends all of them, together.
            patch.setattr(Sender, "_watch", lambda self: None)
            patch.setattr(Sender, "_ring", lambda self: None)
            patch.setattr(Node, "send", refuse)
            futures: list[Any] = inbox.start("a", "b", "c")
            futures.append(inbox.backend.execute(Count("orders")))
            assert futures[3].get(timeout=WAIT_S) == 3
        assert str(futures[0].get(timeout=WAIT_S).outcome) == "queued"
        with pytest.raises(BackendUnavailable, match=code) as caught:
            futures[1].get(timeout=WAIT_S)
        assert LOST not in str(caught.value)
        assert str(futures[2].get(timeout=WAIT_S).outcome) == "queued"
        assert [one.id for one in inbox.do(FetchSlice("orders"))] == ["first", "a", "c"]


def test_a_server_that_loads_refuses(server: Server) -> None:
    """While it reads what was stored it says so; then work goes on, nothing is lost."""
    with Inbox(server.url()) as inbox:
        inbox.push("a")
        # It would take a minute, and looks at its clients after each key.
        server.ask("CONFIG", "SET", "rdbcompression", "no")
        server.ask("DEBUG", "POPULATE", "6000", "filler", "2048")
        server.ask("CONFIG", "SET", "loading-process-events-interval-bytes", "1024")
        server.ask("CONFIG", "SET", "key-load-delay", "10000")
        reload = threading.Thread(target=server.ask, args=("DEBUG", "RELOAD"))
        reload.start()
        while not int(server.ask("INFO", "persistence")["loading"]):
            pass
        for message in (Pop("orders"), Count("orders"), CheckReady(), FindEndpoint("orders")):
            with pytest.raises(BackendUnavailable, match="LOADING") as caught:
                inbox.do(message)
            assert "wait, then try again" in str(caught.value)
            assert LOST not in str(caught.value)
        server.ask("CONFIG", "SET", "key-load-delay", "0")
        reload.join(WAIT_S)
        assert inbox.do(Count("orders")) == 1
        assert inbox.do(Pop("orders")).id == "a"


def test_a_server_that_cannot_write_refuses(server: Server) -> None:
    """One that could not write its last snapshot takes no changes, and says why."""
    with Inbox(server.url()) as inbox:
        inbox.push("a")
        (server.folder / "dump.rdb").mkdir()
        server.ask("BGSAVE")
        server.until("Background saving error")
        for message in (DeleteCallback("orders", "a"), Pop("orders"), CheckReady()):
            with pytest.raises(BackendUnavailable, match="MISCONF") as caught:
                inbox.do(message)
            assert "make room, then try again" in str(caught.value)
            assert LOST not in str(caught.value)
        with pytest.raises(BackendUnavailable, match="MISCONF"):
            inbox.push("b")
        server.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
        assert [one.id for one in inbox.do(FetchSlice("orders"))] == ["a"]
        assert inbox.push("b") == ["queued"]


def test_what_has_expired_keeps_no_update_away() -> None:
    """More has expired than one call takes out: an endpoint is updated all the same."""
    with Inbox(new_url(), ttl=1000) as inbox:
        inbox.push(*map(str, range(1600)))
        inbox.now += 10**10
        endpoint = Endpoint.new(["received", "more"], 0, id="orders")
        inbox.do(UpdateEndpoint(endpoint))
        assert inbox.do(FindEndpoint("orders")) == endpoint
        assert inbox.do(Count("orders")) == 0
