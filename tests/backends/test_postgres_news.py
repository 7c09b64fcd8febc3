"""What one process changes, others hear of, without looking."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

import pytest

from pollin_actors import Application, Callback, Endpoint, Settings
from pollin_actors.backends import Announces
from pollin_actors.backends.postgres import PostgresBackend, announcer
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import (
    Ack,
    CheckReady,
    ClaimSlice,
    Count,
    CreateEndpoint,
    DeleteCallback,
    DeleteEndpoint,
    Extend,
    Pop,
    Push,
    RotateSecret,
    Sweep,
    UpdateEndpoint,
)
from pollin_actors.resources import Secret
from tests.backends.postgres_inbox import WAIT_S, PostgresInbox
from tests.backends.postgres_schema import ask, terminate

# Longer than any test takes: nobody finds anything by looking.
NEVER_S = 100_000.0


class Ear:
    """Another handle on the schema of an inbox, and what it hears."""

    def __init__(self, inbox: PostgresInbox) -> None:
        self.heard: queue.SimpleQueue[tuple[str | None, bool]] = queue.SimpleQueue()
        self.backend = PostgresBackend(inbox.url)
        self.backend.announce_to(lambda *news: self.heard.put(news))
        self.backend.open(time.time_ns)
        # Once it listens it says so: before that, anything may have happened.
        assert self.next() == (None, True)

    def next(self) -> tuple[str | None, bool]:
        return self.heard.get(timeout=WAIT_S)


@pytest.fixture
def inbox() -> Iterator[PostgresInbox]:
    with PostgresInbox() as inbox:
        yield inbox


@pytest.fixture
def ear(inbox: PostgresInbox) -> Iterator[Ear]:
    settle(inbox)
    ear = Ear(inbox)
    yield ear
    ear.backend.close()


def settle(inbox: PostgresInbox) -> None:
    """Have everything told that there is to tell."""
    inbox.backend.close()
    inbox.backend.open(time.time_ns)


def test_changes_are_heard(inbox: PostgresInbox, ear: Ear) -> None:
    """Of callbacks, and of endpoints: then it is said that they are revised."""
    inbox.push("a").get(timeout=WAIT_S)
    assert ear.next() == ("e", False)
    endpoint = Endpoint.new(["a"], 0, id="e", secret="s")
    for message in (
        UpdateEndpoint(endpoint),
        RotateSecret("e", Secret("t"), 0),
        DeleteEndpoint("e"),
        CreateEndpoint(endpoint),
    ):
        inbox.do(message)
        assert ear.next() == ("e", True)


def test_what_changes_nothing_is_not_told(inbox: PostgresInbox, ear: Ear) -> None:
    """Or else processes that look for work in vain would wake each other for ever."""
    for message in (
        Pop("e"),
        ClaimSlice("e", None),
        DeleteCallback("e", "none"),
        DeleteEndpoint("none"),
        Count("e"),
        CheckReady(),
        Sweep(),
    ):
        inbox.do(message)
    inbox.push("a").get(timeout=WAIT_S)
    assert ear.next() == ("e", False)
    [claim] = inbox.do(ClaimSlice("e", None)).claims
    assert ear.next() == ("e", False)
    inbox.do(Extend("e", claim.key, claim.token))
    inbox.do(Ack("e", claim.key, claim.token))
    settle(inbox)
    assert ear.next() == ("e", False)
    assert ear.heard.empty()


def test_own_changes_are_not_heard(inbox: PostgresInbox, ear: Ear) -> None:
    """Who has made them knows of them."""
    ear.backend.execute(Push("e", Callback.new(b"x"), trusted=True)).get(timeout=WAIT_S)
    other = Ear(inbox)
    ear.backend.execute(Pop("e")).get(timeout=WAIT_S)
    while other.next() != ("e", False):
        pass
    assert ear.heard.empty()
    other.backend.close()


@pytest.mark.parametrize("id", ["x" * 200, "中" * 200, "'\"\\,{}%s", "r", "é" * 180])
def test_every_id_can_be_told(inbox: PostgresInbox, ear: Ear, id: str) -> None:
    """The longest, and those with characters that mean something elsewhere."""
    inbox.do(CreateEndpoint(Endpoint.new(["a"], 0, id=id)))
    assert ear.next() == (id, True)


def test_very_many_endpoints_are_told_as_one(
    inbox: PostgresInbox, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of all their names: something has changed anywhere."""
    monkeypatch.setattr(announcer, "MOST_NAMED", 3)
    inbox.backend.close()  # so that all are told together, at its end
    told = announcer.Announcer(inbox.backend._address, None)
    told._add({f"e{number}": number == 2 for number in range(4)})
    told.start()
    told.close()
    assert ear.next() == (None, True)
    inbox.backend.open(time.time_ns)


def test_who_closes_at_once_has_told(inbox: PostgresInbox, ear: Ear) -> None:
    """Also if the thread that tells comes too late for anything else."""
    told = announcer.Announcer(inbox.backend._address, None)
    told._add({"e": False})
    told._closing = True
    told.start()
    told.close()
    assert ear.next() == ("e", False)


def test_a_lost_connection_is_made_good(inbox: PostgresInbox, ear: Ear) -> None:
    """It is opened again by itself, and then anything may have happened meanwhile."""
    query = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' AND strpos(query, %s) > 0"
    [(process,)] = ask(inbox.url, query, inbox.backend._address.schema)
    terminate(inbox.url, process)
    assert ear.next() == (None, True)
    inbox.push("a").get(timeout=WAIT_S)
    assert ear.next() == ("e", False)


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_who_raises_is_logged_and_told_again(
    inbox: PostgresInbox, error: type[BaseException]
) -> None:
    """An announcement that fails does not end the thread."""
    heard: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def announce(endpoint_id: str | None, revised: bool) -> None:
        heard.put(endpoint_id)
        raise error("not today")

    backend = PostgresBackend(inbox.url)
    backend.announce_to(announce)
    backend.open(time.time_ns)
    try:
        assert heard.get(timeout=WAIT_S) is None
        inbox.push("a").get(timeout=WAIT_S)
        while heard.get(timeout=WAIT_S) != "e":
            pass
    finally:
        backend.close()


@pytest.mark.parametrize("which", ["announcer", "writer"])
def test_a_thread_that_cannot_be_started(
    inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """Then the handle is not open, holds no connection, and can be opened later."""
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if which in self.name or (which == "writer" and "announcer" not in self.name):
            raise RuntimeError("can't start new thread")
        start(self)

    heard: queue.SimpleQueue[tuple[str | None, bool]] = queue.SimpleQueue()
    backend = PostgresBackend(inbox.url)
    backend.announce_to(lambda *news: heard.put(news))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            backend.open(time.time_ns)
    with pytest.raises(BackendUnavailable, match="not open"):
        backend.execute(Count("e"))
    backend.open(time.time_ns)
    assert heard.get(timeout=WAIT_S) == (None, True)
    backend.close()


def test_applications_wake_each_other(inbox: PostgresInbox) -> None:
    """A waiting claim and a subscription of one process hear what another pushes."""
    assert isinstance(inbox.backend, Announces)
    settings = Settings(poll_interval=NEVER_S)
    with (
        Application(PostgresBackend(inbox.url), settings=settings) as here,
        Application(PostgresBackend(inbox.url), settings=settings) as there,
    ):
        records = there.callbacks.subscribe("e")
        waiting = there.callbacks.claim("e", wait=NEVER_S, timeout=None)
        here.callbacks.push("e", Callback.new(b"one", id="one")).get()
        [claim] = waiting.get(timeout=WAIT_S)
        assert claim.key == "one"
        assert next(records).callback_id == "one"
