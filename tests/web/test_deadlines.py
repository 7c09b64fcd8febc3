"""A body that does not come in time, and that one timer serves for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pollin_actors import Application, InvalidValue
from pollin_actors.web import asgi
from pollin_actors.web.deadlines import Deadlines
from tests.web.calls import Exchange, queued


class Loop:
    """As much of an event loop as deadlines need, with a clock that stands still."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, function: Callable[[], None]) -> object:
        self.timers.append((when, function))
        return object()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [function for when, function in self.timers if when <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for function in due:
            function()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    current = asyncio.current_task
    monkeypatch.setattr(asyncio, "current_task", lambda loop=None: current())
    return loop


class Slow:
    """A task that waits inside a deadline, and says how that ended."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.deadlines = deadlines
        self.release = asyncio.Event()
        self.task = asyncio.ensure_future(self.run())

    async def run(self) -> str:
        task = self.deadlines.begin()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            if self.deadlines.has_expired(task):
                return "expired"
            raise
        finally:
            self.deadlines.end(task)
        return "done"


async def begun(*tasks: Slow) -> None:
    """Wait until all of them wait."""
    while not all(slow.task in slow.deadlines._until for slow in tasks):
        await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0)


async def until_ended(*tasks: Slow) -> list[Any]:
    return await asyncio.gather(*[slow.task for slow in tasks], return_exceptions=True)


class TestDeadlines:
    def test_each_has_its_own_time_and_all_share_one_timer(self, loop: Loop) -> None:
        async def main() -> None:
            deadlines = Deadlines(loop, 10.0)  # type: ignore[arg-type]
            first = Slow(deadlines)
            await begun(first)
            loop.advance(4.0)
            second, third = Slow(deadlines), Slow(deadlines)
            await begun(second, third)
            assert len(loop.timers) == 1
            third.release.set()
            assert await third.task == "done"
            loop.advance(6.0)
            assert await first.task == "expired"
            assert not second.task.done()
            assert len(loop.timers) == 1
            loop.advance(4.0)
            assert await second.task == "expired"
            assert (loop.timers, deadlines._until, deadlines._expired) == ([], {}, {})

        asyncio.run(main())

    def test_somebody_elses_cancellation_is_heard(self, loop: Loop) -> None:
        """Before the deadline, and at the same moment."""

        async def main() -> None:
            deadlines = Deadlines(loop, 10.0)  # type: ignore[arg-type]
            early, late, before = Slow(deadlines), Slow(deadlines), Slow(deadlines)
            await begun(early, late, before)
            early.task.cancel()
            before.task.cancel()
            loop.advance(10.0)
            late.task.cancel()
            ended = await until_ended(early, late, before)
            assert [type(each) for each in ended] == [asyncio.CancelledError] * 3

        asyncio.run(main())

    def test_what_comes_at_the_last_moment_is_told_as_expired_inside(self, loop: Loop) -> None:
        """The cancellation never arrives after the end, where nobody would expect it."""

        async def main() -> None:
            deadlines = Deadlines(loop, 10.0)  # type: ignore[arg-type]
            slow = Slow(deadlines)
            await begun(slow)
            slow.release.set()  # it will go on in the next turn of the loop
            loop.advance(10.0)
            assert await slow.task == "expired"

        asyncio.run(main())


class NeverEnding(Exchange):
    """Sends the beginning of a body, and nothing more."""

    async def receive(self) -> Any:
        if self.messages_read < len(self._to_come):
            return await super().receive()
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("chunks", [[], [b"the beginning"]])
def test_a_body_that_does_not_come_is_408(app: Application, chunks: list[bytes]) -> None:
    """The connection is closed, and nothing is stored."""
    request = NeverEnding(chunks=chunks)
    for message in request._to_come:
        message["more_body"] = True
    asyncio.run(request.through(asgi(app, body_timeout=0.01)))
    assert (request.status, request.headers[b"connection"]) == (408, b"close")
    assert queued(app) == []


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), True, "1"])
def test_the_time_for_a_body_is_checked(app: Application, value: Any) -> None:
    with pytest.raises(InvalidValue, match="body_timeout"):
        asgi(app, body_timeout=value)
