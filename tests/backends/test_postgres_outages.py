"""The server goes away and comes back: nothing is half done, and work goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pykka
import pytest

from pollin_actors.backends.postgres import PostgresBackend
from pollin_actors.errors import BackendUnavailable, CallbackNotFound
from pollin_actors.messages import CheckReady, Count, DeleteCallback, Pop, UpdatePhase
from tests.backends.postgres_inbox import WAIT_S, PostgresInbox
from tests.backends.postgres_schema import (
    Gate,
    locked_endpoint,
    processes_of,
    schema_of,
    terminate,
    wait_for_waiting,
)
from tests.servers import postgres
from tests.servers.postgres import Server
from tests.servers.relay import Relay


@pytest.fixture
def inbox() -> Iterator[PostgresInbox]:
    with PostgresInbox() as inbox:
        yield inbox


def test_a_server_that_is_restarted() -> None:
    """While it is away everybody is told so, with the cause; then everything is there again."""
    server = Server()
    try:
        server.start()
        inbox = PostgresInbox(server.url)
        announced: list[tuple[str | None, bool]] = []
        other = PostgresBackend(server.url)
        other.announce_to(lambda endpoint_id, revised: announced.append((endpoint_id, revised)))
        other.open(time.time_ns)
        try:
            inbox.push("before").get(timeout=WAIT_S)
            server.stop()
            futures = [inbox.push("away"), inbox.send(CheckReady()), inbox.send(Count("e"))]
            futures += [inbox.send(message, other) for message in (CheckReady(), Pop("e"))]
            for future in futures:
                with pytest.raises(BackendUnavailable) as caught:
                    future.get(timeout=WAIT_S)
                assert isinstance(caught.value.__cause__, psycopg.OperationalError)
                assert "may have been stored" not in str(caught.value)
            late = PostgresBackend(server.url)
            with pytest.raises(BackendUnavailable):
                late.open(time.time_ns)
            server.start()
            assert inbox.do(CheckReady()) is None
            assert inbox.push("after").get(timeout=WAIT_S).outcome == "queued"
            assert inbox.do(Pop("e"), other).id == "before"
            assert inbox.ids() == "after"
        finally:
            other.close()
            for handle in inbox.handles:
                handle.close()
    finally:
        server.remove()


def test_closing_while_the_server_is_away() -> None:
    """Everything is answered, and close() returns."""
    server = Server()
    try:
        server.start()
        inbox = PostgresInbox(server.url)
        server.stop()
        futures = [inbox.push(f"c{number}") for number in range(20)]
        inbox.backend.close()
        for future in futures:
            with pytest.raises(BackendUnavailable):
                future.get(timeout=0)
    finally:
        server.remove()


def test_a_connection_that_was_lost_in_between(inbox: PostgresInbox) -> None:
    """Nobody notices: it is opened again before anything is sent."""
    inbox.push("a").get(timeout=WAIT_S)
    for process in processes_of(inbox.url):
        terminate(inbox.url, process)
    while processes_of(inbox.url):
        pass  # the server has said good-bye once they are gone
    assert inbox.push("b").get(timeout=WAIT_S).outcome == "queued"
    assert inbox.ids() == "a b"


def test_a_connection_that_is_lost_in_the_middle(inbox: PostgresInbox) -> None:
    """Before the commit was sent it is certain that nothing was stored: it is done again."""
    inbox.push("a").get(timeout=WAIT_S)
    with locked_endpoint(inbox.url):
        deleted = inbox.send(DeleteCallback("e", "a"))
        pushed = inbox.push("b")
        [process] = wait_for_waiting(inbox.url)
        terminate(inbox.url, process)
        wait_for_waiting(inbox.url)
    assert deleted.get(timeout=WAIT_S) is True
    assert pushed.get(timeout=WAIT_S).outcome == "queued"
    assert inbox.ids() == "b"


@pytest.mark.parametrize("held", ["questions", "end"])
@pytest.mark.parametrize("helped", [True, False])
def test_a_session_that_ends_for_its_silence(held: str, helped: bool) -> None:
    """What was sent at just that moment was not read, and is done again: nothing is in doubt."""
    relay = Relay()
    name = schema_of(postgres.new_schema())
    option = "options=-c%20idle_session_timeout%3D300"
    with closing(relay), PostgresInbox(f"{relay.url}&schema={name}&{option}") as inbox:
        # Known and prepared.
        for id in ("a", "b"):
            inbox.push(id).get(timeout=WAIT_S)
        relay.hold(held)
        if held == "end":
            # The server has said so, and has not hung up yet.
            relay.wait(held)
        future = inbox.push("c")
        waiting = threading.Thread(target=lambda: future._await_outcome(WAIT_S))
        if helped:
            waiting.start()
        if held == "questions":
            relay.wait(held)
            while processes_of(inbox.url):
                pass
        relay.hold()
        assert future.get(timeout=WAIT_S).outcome == "queued"
        if helped:
            waiting.join()
        assert inbox.ids() == "a b c"


def test_an_answer_that_comes_in_pieces() -> None:
    """Who waits has heard that it is refused, and has no more time for the rest. Whoever reads on
    knows that."""
    relay = Relay()
    name = schema_of(postgres.new_schema())
    with closing(relay), PostgresInbox(f"{relay.url}&schema={name}") as inbox:
        for id in ("a", "b", "c"):
            inbox.push(id).get(timeout=WAIT_S)
        relay.hold("rest")
        future = inbox.push("a")
        with pytest.raises(pykka.Timeout):
            future.get(timeout=0.2)
        relay.wait("rest")
        relay.hold()
        assert future.get(timeout=WAIT_S).outcome == "duplicate"
        assert inbox.ids() == "a b c"


@pytest.mark.parametrize("how", ["at once", "in conversation", "together"])
def test_a_commit_whose_end_is_not_known(inbox: PostgresInbox, how: str) -> None:
    """The connection is lost during the commit: the error says that it may have been stored."""
    inbox.push("a").get(timeout=WAIT_S)
    inbox.push("b").get(timeout=WAIT_S)
    with Gate(inbox.url) as gate:
        if how == "at once":
            futures = [inbox.push("c")]
        elif how == "in conversation":
            futures = [inbox.send(DeleteCallback("e", "a"))]
        else:
            with locked_endpoint(inbox.url):
                occupied = inbox.send(UpdatePhase("e", "nobody", "a"))
                wait_for_waiting(inbox.url)
                futures = [inbox.push("c"), inbox.send(Pop("e")), inbox.push("d")]
            with pytest.raises(CallbackNotFound):
                occupied.get(timeout=WAIT_S)
        terminate(inbox.url, gate.wait())
        for future in futures:
            with pytest.raises(BackendUnavailable, match="may have been stored") as caught:
                future.get(timeout=WAIT_S)
            assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    # Here it was not: the server was stopped before it had written anything.
    assert inbox.ids() == "a b"
    assert inbox.push("c").get(timeout=WAIT_S).outcome == "queued"
