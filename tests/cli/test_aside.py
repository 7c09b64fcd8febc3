"""What is asked beside the main thread: an interrupt ends the waiting, and what it was for."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator

import pytest

from pollin_actors import Application, Callback, Endpoint
from pollin_actors.cli.aside import Aside, GivenUp
from pollin_actors.cli.local import Local


@pytest.fixture
def aside() -> Iterator[Aside]:
    opened = Aside()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, also where the tests run in the background of a shell that ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    """As Ctrl-C does, whichever thread calls."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


class TestAwait:
    def test_it_answers_and_raises(self, aside: Aside) -> None:
        """What was awaited is the answer; its error is raised here."""

        async def answer() -> str:
            return "answer"

        async def fail() -> None:
            raise LookupError("x")

        assert aside.await_(answer) == "answer"
        with pytest.raises(LookupError, match="x"):
            aside.await_(fail)

    def test_it_runs_on_another_thread(self, aside: Aside) -> None:
        """No interrupt can come there."""

        async def thread() -> threading.Thread:
            return threading.current_thread()

        assert aside.await_(thread) is not threading.main_thread()

    def test_an_interrupt_cancels(self, aside: Aside) -> None:
        """What was awaited has ended by then."""
        ends: list[str] = []

        async def wait() -> None:
            interrupt()
            try:
                await asyncio.Event().wait()
            finally:
                ends.append("cancelled")

        with pytest.raises(KeyboardInterrupt):
            aside.await_(wait)
        assert ends == ["cancelled"]

    def test_an_answer_that_came_after_all(self, aside: Aside) -> None:
        """It is handed back, as nobody else will ever know of it."""

        async def wait() -> str:
            interrupt()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "late"
            raise AssertionError

        late: list[str] = []
        with pytest.raises(KeyboardInterrupt):
            aside.await_(wait, late.append)
        assert late == ["late"]

    def test_a_claim_that_came_after_all_is_given_back(self) -> None:
        """With no attempt counted; whoever comes next gets the callback at once."""
        with Application(endpoints=[Endpoint.new(id="orders")]) as app:
            inbox = Local(app, "memory://", 5.0)
            app.callbacks.push("orders", Callback.new(None, id="a")).get()
            claim, calls = app.callbacks.claim, app.callbacks

            def claimed_and_interrupted(*args: object, **options: object) -> object:
                reply = claim(*args, **options)  # type: ignore[arg-type]
                reply.get()
                interrupt()
                return reply

            calls.claim = claimed_and_interrupted  # type: ignore[method-assign, assignment]
            with pytest.raises(KeyboardInterrupt):
                inbox.claim("orders", None, 60.0, 20.0, "me")
            (again,) = claim("orders").get()
            assert (again.key, again.attempt) == ("a", 1)
            inbox.close()


class TestFeed:
    def test_all_items_come_in_order(self, aside: Aside) -> None:
        """More than one piece of them, and none."""
        assert aside.feed(range(1_000), list) == list(range(1_000))
        assert aside.feed((), list) == []

    def test_work_that_fails_ends_the_reading(self, aside: Aside) -> None:
        """However much there would be to read."""

        def endless() -> Iterator[int]:
            while True:
                yield 1

        def fail(items: Iterator[int]) -> None:
            next(items)
            raise LookupError("x")

        with pytest.raises(LookupError, match="x"):
            aside.feed(endless(), fail)

    def test_items_that_fail_end_the_work(self, aside: Aside) -> None:
        """The work is told to give up, and what is raised is the error of the reading."""
        ends: list[BaseException] = []

        def items() -> Iterator[int]:
            yield from range(60)
            raise OSError("unreadable")

        def work(taken: Iterator[int]) -> None:
            try:
                list(taken)
            except BaseException as error:
                ends.append(error)
                raise

        with pytest.raises(OSError, match="unreadable"):
            aside.feed(items(), work)
        assert [type(end) for end in ends] == [GivenUp]

    def test_an_interrupt_ends_a_reading_that_blocks(self, aside: Aside) -> None:
        """As of a terminal where nobody types: the work is told, and has ended by then."""
        ended = threading.Event()

        def blocking() -> Iterator[int]:
            interrupt()
            threading.Event().wait(60)
            yield 1

        def work(taken: Iterator[int]) -> None:
            try:
                list(taken)
            finally:
                ended.set()

        with pytest.raises(KeyboardInterrupt):
            aside.feed(blocking(), work)
        assert ended.is_set()

    def test_an_interrupt_while_it_works(
        self, aside: Aside, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It waits a little, and no longer, for what cannot be told."""
        monkeypatch.setattr("pollin_actors.cli.aside.PATIENCE_S", 0.01)
        begun, go_on = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            interrupt()
            go_on.wait(60)

        with pytest.raises(KeyboardInterrupt):
            aside.run(work)
        assert begun.is_set()
        go_on.set()
