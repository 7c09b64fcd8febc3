"""Threads that wait for their push send it themselves, and may be interrupted at that."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pykka
import pytest

from pollin_actors.backends.postgres import helping, writer
from pollin_actors.backends.postgres.transactions import Transactions
from pollin_actors.backends.postgres.writer import Job, Writer
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import Count, PopSlice, Push
from pollin_actors.otp.errors import CallCycle, DeadlineExceeded
from tests.backends.postgres_inbox import WAIT_S, PostgresInbox
from tests.backends.postgres_schema import (
    Gate,
    ask,
    locked_endpoint,
    terminate,
    wait_for_waiting,
)
from tests.interrupts import interrupt_at

MODULES = [
    "pollin_actors.backends.postgres",
    "pollin_actors.otp.guard",
    "pollin_actors.otp.futures",
]


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresInbox]:
    # The writer's own thread works only if it is woken.
    monkeypatch.setattr(Writer, "_watch", lambda self: None)
    with PostgresInbox() as inbox:
        # From here on the endpoint is known, and the statement prepared.
        inbox.push("first").get(timeout=WAIT_S)
        inbox.push("second").get(timeout=WAIT_S)
        inbox.do(PopSlice("e"))
        yield inbox


def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer's own thread is not woken by who submits, so that it cannot be quicker."""
    ring = Writer._ring

    def ring_for_helpers(self: Writer) -> None:
        if sys._getframe(1).f_code.co_name != "submit":
            ring(self)

    monkeypatch.setattr(Writer, "_ring", ring_for_helpers)


def test_who_waits_sends(inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other thread takes part: the future is settled on the one that waits."""
    asleep(monkeypatch)
    threads: list[threading.Thread] = []
    future = inbox.push("a")
    future.add_done_callback(lambda _: threads.append(threading.current_thread()))
    assert not future.done()
    assert future.get(timeout=WAIT_S).outcome == "queued"
    assert threads == [threading.current_thread()]
    assert inbox.push("a").get(timeout=WAIT_S).outcome == "duplicate"


def test_what_is_due_is_forgotten_meanwhile(
    inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that send hold the token nearly all the time: they let the writer come to that, and
    do not wake it in vain."""
    forgotten: list[int] = []
    forget = Transactions.forget

    def spy(self: Transactions, limit: int) -> None:
        forgotten.append(limit)
        forget(self, limit)

    rings: list[str] = []
    ring = Writer._ring

    def count(self: Writer) -> None:
        caller = sys._getframe(1).f_code.co_name
        rings.append(caller)
        if caller != "submit":
            ring(self)

    monkeypatch.setattr(writer, "FORGET_EVERY", 10)
    monkeypatch.setattr(Transactions, "forget", spy)
    monkeypatch.setattr(Writer, "_ring", count)
    for number in range(100):
        inbox.push(f"{number}").get(timeout=WAIT_S)
    assert 8 <= len(forgotten) <= 12
    # Those that find the writer at work wake it too, but not each.
    assert rings.count("help") < 80


def test_nobody_sends_on_an_event_loop(
    inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There an await leaves it to the writer; so does a get, which blocks the loop anyway."""
    threads: list[threading.Thread] = []
    send = Transactions.send_push

    def spy(self: Transactions, *args: Any) -> None:
        threads.append(threading.current_thread())
        send(self, *args)

    monkeypatch.setattr(Transactions, "send_push", spy)

    async def use() -> None:
        await inbox.push("a")
        inbox.push("b").get(timeout=WAIT_S)

    asyncio.run(use())
    assert threading.current_thread() not in threads
    assert len(threads) == 2


def test_an_endpoint_that_is_held_is_left_to_the_writer(
    inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits is told in time, and the push takes effect once it can."""
    asleep(monkeypatch)
    with locked_endpoint(inbox.url):
        future = inbox.push("a")
        with pytest.raises(pykka.Timeout):
            future.get(timeout=0.15)
        wait_for_waiting(inbox.url)
    assert future.get(timeout=WAIT_S).outcome == "queued"
    assert inbox.ids() == "a"


def test_a_server_that_takes_its_time(
    inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent is not sent again: the writer's own thread waits for the rest of the answer."""
    asleep(monkeypatch)
    with Gate(inbox.url) as gate:
        future = inbox.push("a")
        with pytest.raises(pykka.Timeout):
            future.get(timeout=0.15)
        gate.wait()
        gate.open()
        assert future.get(timeout=WAIT_S).outcome == "queued"
    assert inbox.ids() == "a"
    assert ask(inbox.url, "SELECT count(*) FROM callbacks WHERE id = 'a'") == [(1,)]


def test_an_answer_that_nobody_waits_for_any_more(
    inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read all the same, before anything else is sent, and others are told."""
    monkeypatch.setattr(helping, "PATIENCE_MS", WAIT_S * 1000)
    told: list[str] = []
    at_work = inbox.backend._writer
    assert at_work is not None

    def tell(group: Sequence[Job], outcomes: Sequence[Any]) -> None:
        told.extend([it.message.callback.id for it in group if type(it.message) is Push])

    monkeypatch.setattr(at_work._transactions, "_told", tell)
    with Gate(inbox.url) as gate:
        with monkeypatch.context() as patch:
            patch.setattr(Writer, "_ring", lambda self: None)  # its thread is late
            future = inbox.push("a")
            with pytest.raises(pykka.Timeout):
                future.get(timeout=0.15)
        gate.wait()
        assert future._fail(DeadlineExceeded("a deadline"))
        gate.open()
        at_work._ring()
        assert inbox.push("b").get(timeout=WAIT_S).outcome == "queued"
    assert (inbox.ids(), told) == ("a b", ["a", "b"])


def test_a_server_that_is_slower_than_who_waits(
    inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent is not sent again: the writer's own thread receives the rest of the answer."""
    asleep(monkeypatch)
    monkeypatch.setattr(helping, "PATIENCE_MS", WAIT_S * 1000)
    with Gate(inbox.url) as gate:
        future = inbox.push("a")
        with pytest.raises(pykka.Timeout):
            future.get(timeout=0.15)
        process = gate.wait()
        gate.open()
        assert future.get(timeout=WAIT_S).outcome == "queued"
    assert inbox.backend._writer is not None
    assert inbox.backend._writer._link.open().info.backend_pid == process
    assert ask(inbox.url, "SELECT count(*) FROM callbacks WHERE id = 'a'") == [(1,)]


def test_a_connection_that_is_lost_meanwhile(
    inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is waiting for the server then, the push is in doubt; the next one is not."""
    asleep(monkeypatch)
    for most in (WAIT_S, helping.MOST_HELP_S):
        monkeypatch.setattr(helping, "MOST_HELP_S", most)
        with Gate(inbox.url) as gate:
            future = inbox.push("a")
            waiting = threading.Thread(target=lambda it=future: it._await_outcome(None))
            waiting.start()
            terminate(inbox.url, gate.wait())
            with pytest.raises(BackendUnavailable, match="may have been stored"):
                future.get(timeout=WAIT_S)
            waiting.join(WAIT_S)
        assert inbox.push(f"b{most}").get(timeout=WAIT_S).outcome == "queued"
        inbox.push(f"c{most}").get(timeout=WAIT_S)
        assert len(inbox.do(PopSlice("e"))) == 2


def test_waiting_in_the_middle_of_it_is_refused(
    inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A callback on who sends would wait for itself."""
    asleep(monkeypatch)
    errors: list[BaseException] = []

    def wait(_: object) -> None:
        try:
            inbox.push("b").get(timeout=WAIT_S)
        except CallCycle as error:
            errors.append(error)

    future = inbox.push("a")
    future.add_done_callback(wait)
    future.get(timeout=WAIT_S)
    assert len(errors) == 1
    assert inbox.do(Count("e")) == 2


def lost() -> psycopg.Error:
    """What a signal handler may raise that uses a database of its own."""
    return psycopg.OperationalError("server closed the connection unexpectedly")


# Not before every instruction: that would take minutes.
@pytest.mark.parametrize(("error", "step"), [(KeyboardInterrupt, 17), (lost, 29)])
def test_an_interrupt_leaves_all_or_nothing(
    inbox: PostgresInbox,
    monkeypatch: pytest.MonkeyPatch,
    error: Callable[[], BaseException],
    step: int,
) -> None:
    """The push is answered, once, and is there if that says so; the writer goes on."""
    number, doubts, answers = 0, 0, 0
    reached = True
    while reached:
        futures: list[Any] = []

        def operation(id: str = f"{number}", futures: list[Any] = futures) -> None:
            futures.append(inbox.push(id))
            futures[0].get(timeout=WAIT_S)

        with monkeypatch.context() as patch:
            asleep(patch)
            reached = interrupt_at(number, operation, MODULES, error)
        # Without any help: the writer's own thread must not believe that somebody is at work.
        told = threading.Event()
        inbox.send(Count("e")).add_done_callback(lambda _, it=told: it.set())  # type: ignore[misc]
        assert told.wait(WAIT_S)
        left = [callback.id for callback in inbox.do(PopSlice("e"))]
        assert left in ([], [f"{number}"])
        for future in futures:
            try:
                outcome = future.get(timeout=WAIT_S).outcome
            except BackendUnavailable as doubt:
                outcome = str(doubt)
            if "may have been stored" in outcome:
                doubts += 1
            else:
                assert (outcome, left) == ("queued", [f"{number}"])
                answers += 1
        for id in ("x", "y"):  # prepared again, if the connection was let go of
            inbox.push(f"{number}-{id}").get(timeout=WAIT_S)
        assert len(inbox.do(PopSlice("e"))) == 2
        number += step
    assert number > 500
    assert answers > 2 * doubts
