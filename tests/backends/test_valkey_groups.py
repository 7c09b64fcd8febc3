"""How messages go to the Valkey server: together, in their order, by whoever waits for them."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from pollin_actors.backends.valkey.exchange import Exchange
from pollin_actors.backends.valkey.failures import LOST
from pollin_actors.backends.valkey.node import Node
from pollin_actors.backends.valkey.sender import Sender
from pollin_actors.errors import BackendUnavailable
from pollin_actors.messages import Count, CreateEndpoint, FetchSlice, FindEndpoint, Pop
from pollin_actors.otp.errors import CallCycle
from pollin_actors.resources import Endpoint
from tests.backends.valkey_inbox import WAIT_S, Inbox, Sent
from tests.backends.valkey_store import check_contents, client_of, read_contents
from tests.interrupts import interrupt_at
from tests.servers.valkey import Server, new_url

MODULES = ["pollin_actors.backends.valkey", "pollin_actors.otp.guard", "pollin_actors.otp.futures"]


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    # The sender's own thread works only if it is woken.
    monkeypatch.setattr(Sender, "_watch", lambda self: None)
    with Inbox(new_url()) as inbox:
        yield inbox


def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender's own thread is not woken."""
    monkeypatch.setattr(Sender, "_ring", lambda self: None)


def test_what_waits_is_sent_together(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that came while another was under way are one group, in the order of sending."""
    ids = [f"c{number}" for number in range(40)]
    held, free = threading.Event(), threading.Event()
    read = Exchange.read

    def slow(self: Exchange) -> None:
        held.set()
        assert free.wait(WAIT_S)
        read(self)

    with monkeypatch.context() as patch:
        patch.setattr(Exchange, "read", slow)
        (first,) = inbox.start("first")
        assert held.wait(WAIT_S)
        sent = Sent(patch)
        futures = inbox.start(*ids)
        free.set()
        assert {future.get(timeout=WAIT_S).outcome for future in (first, *futures)} == {"queued"}
    assert sent.groups == [40]
    assert [one.id for one in inbox.do(FetchSlice("orders"))] == ["first", *ids]


def test_what_takes_several_steps_keeps_its_place(inbox: Inbox) -> None:
    """Messages about endpoints are done between those before and those after them."""
    execute = inbox.backend.execute
    before = execute(FindEndpoint("other"))
    made = execute(CreateEndpoint(Endpoint.new(ttl=0, id="other")))
    pushed = inbox.start("a", "b", to="other")
    count = execute(Count("other"))
    assert before.get(timeout=WAIT_S) is None
    assert made.get(timeout=WAIT_S).id == "other"
    assert [future.get(timeout=WAIT_S).outcome for future in pushed] == ["queued", "queued"]
    assert count.get(timeout=WAIT_S) == 2


def test_who_waits_sends(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting thread sends itself what waits, also for others, and reads the answers."""
    inbox.push("zero")
    with monkeypatch.context() as patch:
        asleep(patch)
        first, second = inbox.start("a", "b")
        assert not first.done()
        assert second.get(timeout=WAIT_S).outcome == "queued"
        assert first.done()


def test_connecting_is_left_to_the_sender(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting thread begins nothing that may take longer than it would wait."""
    inbox.push("zero")
    threads = []
    connect = Node._connect

    def spy(self: Node) -> None:
        threads.append(threading.current_thread())
        connect(self)

    monkeypatch.setattr(Node, "_connect", spy)
    client = client_of(inbox.url)
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    client.close()
    assert inbox.push("a") == ["queued"]
    assert [thread.name.startswith("pollin-valkey") for thread in threads] == [True]


def test_waiting_in_the_middle_of_it_is_refused(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A callback on who reads, or a signal handler there, would wait for itself."""
    errors: list[BaseException] = []

    def wait(_: object) -> None:
        try:
            inbox.start("b")[0].get(timeout=WAIT_S)
        except CallCycle as error:
            errors.append(error)

    with monkeypatch.context() as patch:
        asleep(patch)
        (future,) = inbox.start("a")
        future.add_done_callback(wait)
        future.get(timeout=WAIT_S)
    assert len(errors) == 1
    assert inbox.do(Count("orders")) == 2


class TestASilentServer:
    @pytest.fixture
    def server(self) -> Iterator[Server]:
        server = Server()
        yield server
        server.signal(signal.SIGCONT)
        server.remove()

    def test_is_waited_for_no_longer_than_told(self, server: Server) -> None:
        """A caller is told in time; nothing is lost by that, and the answer comes later."""
        with Inbox(server.url()) as inbox:
            inbox.push("zero")
            server.signal(signal.SIGSTOP)
            (future,) = inbox.start("a")
            with pytest.raises(pykka.Timeout):
                future.get(timeout=0.15)
            server.signal(signal.SIGCONT)
            assert future.get(timeout=WAIT_S).outcome == "queued"
            assert inbox.do(Count("orders")) == 2

    def test_may_be_interrupted(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """An interrupt while only waiting for it loses nothing."""
        with Inbox(server.url()) as inbox:
            inbox.push("zero")
            wait = Node.wait
            main = threading.current_thread()

            def interrupted(self: Node, timeout: float | None) -> bool:
                if timeout != 0.0 and threading.current_thread() is main:
                    raise KeyboardInterrupt
                return wait(self, timeout)

            with monkeypatch.context() as patch:
                patch.setattr(Node, "wait", interrupted)
                (future,) = inbox.start("a")
                with contextlib.suppress(KeyboardInterrupt):
                    future.get(timeout=WAIT_S)
            assert future.get(timeout=WAIT_S).outcome == "queued"

    def test_may_have_done_it(self, server: Server) -> None:
        """When the time-out of the connection has passed, a change is told as perhaps carried out,
        and not sent a second time; what reads is asked again."""
        with Inbox(server.url(timeout="0.3")) as inbox:
            inbox.push("zero")
            server.signal(signal.SIGSTOP)
            futures = [*inbox.start("a"), inbox.backend.execute(Pop("orders", "zero"))]
            for future in futures:
                with pytest.raises(BackendUnavailable, match=LOST) as caught:
                    future.get(timeout=WAIT_S)
                assert caught.value.__cause__ is not None
            count = inbox.backend.execute(Count("orders"))
            server.signal(signal.SIGCONT)
            found = _patiently(count, lambda: inbox.backend.execute(Count("orders")))
            assert found == 1  # the one was pushed, the other popped
            assert [one.id for one in inbox.do(FetchSlice("orders"))] == ["a"]


def _patiently(future: Any, again: Any) -> Any:
    """The reply, asked for again while the server is away."""
    while True:
        try:
            return future.get(timeout=WAIT_S)
        except BackendUnavailable:
            future = again()


def test_interrupts_at_any_point_leave_everything_in_order(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiting thread is interrupted at every other instruction of a push: it has then been
    carried out once, or not at all, or both may be and it says so; what follows works."""
    prefix = inbox.url.rpartition("prefix=")[2]
    client = client_of(inbox.url)
    number, seen = 0, set()
    while True:
        inbox.push(f"before-{number}")
        futures: list[Any] = []

        def push(id: str = f"it-{number}", futures: list[Any] = futures) -> None:
            futures.extend(inbox.start(id))
            futures[0].get(timeout=WAIT_S)

        reached = interrupt_at(number, push, MODULES)
        if futures:
            try:
                seen.add(str(futures[0].get(timeout=WAIT_S).outcome))
            except BackendUnavailable as error:
                seen.add("lost" if LOST in str(error) else str(error))
        assert inbox.push(f"after-{number}") == ["queued"]
        if not reached:
            break
        number += 2
    assert seen == {"queued", "lost"}
    stored = read_contents(client, prefix, "orders")
    check_contents(stored, prefix, "orders")
    ids = [row.id for row in stored.rows.values()]
    assert len(set(ids)) == len(ids)
    client.close()


def test_closing_answers_everybody() -> None:
    """What was sent before is done, what comes later is refused."""
    inbox = Inbox(new_url())
    futures = inbox.start(*map(str, range(600)))
    inbox.backend.close()
    assert {str(future.get(timeout=0).outcome) for future in futures} == {"queued"}
    with pytest.raises(BackendUnavailable, match="not open"):
        inbox.start("late")
    inbox.backend.open(time.time_ns)
    assert inbox.do(Count("orders")) == 600
    inbox.backend.close()
