"""The event loop in virtual time: asyncio as it is, and every run the same from its seed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pollin_actors.otp import Actor, ReplyFuture, Simulation
from pollin_actors.otp.simulated_loop import SimulatedLoop
from pollin_actors.otp.starting import start_actor
from tests.handling import pass_time


@pytest.fixture(params=range(3))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulated:
        yield simulated


@pytest.fixture
def loop(simulation: Simulation) -> Iterator[SimulatedLoop]:
    made = SimulatedLoop(simulation.runtime)
    yield made
    made.close()


def test_time_is_the_simulations(simulation: Simulation, loop: SimulatedLoop) -> None:
    """An hour passes at once; callbacks come in the order of their times."""
    seen: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().call_later(1800.0, seen.append, "half")
        cancelled = asyncio.get_running_loop().call_later(900.0, seen.append, "never")
        cancelled.cancel()
        await pass_time(3600.0)
        seen.append(loop.time())

    task = loop.create_task(main())
    simulation.advance(3599.0)
    assert not task.done()
    simulation.advance(1.0)
    assert task.done()
    assert seen == ["half", 3600.0]


def test_a_cancelled_timer_does_not_move_the_clock(
    simulation: Simulation, loop: SimulatedLoop
) -> None:
    async def main() -> None:
        async with asyncio.timeout(1000.0):
            await pass_time(1.0)

    loop.create_task(main())
    simulation.advance(2.0)
    assert simulation.timers.next_due() is None


def test_callbacks_come_in_order(simulation: Simulation, loop: SimulatedLoop) -> None:
    """First in, first out, whatever else the scheduler runs in between."""
    seen: list[int] = []
    for n in range(20):
        loop.call_soon(seen.append, n)
    simulation.settle()
    assert seen == list(range(20))


def test_the_tools_of_asyncio_work(simulation: Simulation, loop: SimulatedLoop) -> None:
    """Groups, queues, locks, time-outs, executors, generators."""

    async def numbers() -> Any:
        for n in range(3):
            await pass_time(0.1)
            yield n

    async def main() -> list[Any]:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        lock = asyncio.Lock()

        async def put() -> None:
            async for n in numbers():
                async with lock:
                    await queue.put(n)

        async with asyncio.TaskGroup() as group:
            group.create_task(put())
            got = [await queue.get() for _ in range(3)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.get(), 5.0)
        assert await asyncio.to_thread(sum, [1, 2]) == 3
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(divmod, 1, 0)
        return got

    task = loop.create_task(main())
    simulation.advance(10.0)
    assert task.result() == [0, 1, 2]


class Answer(Actor):
    """Answers after a while."""

    def on_receive(self, message: Any) -> Any:
        return message


def test_awaiting_a_reply_runs_the_others(simulation: Simulation, loop: SimulatedLoop) -> None:
    """But no other callback of the loop: one task is entered at a time, as asyncio demands."""
    ref = start_actor(Answer(), runtime=simulation.runtime).get()
    seen: list[Any] = []

    async def main(n: int) -> None:
        for _ in range(3):
            seen.append(await ref.ask(n, block=False))
            await pass_time(0)

    tasks = [loop.create_task(main(n)) for n in range(4)]
    simulation.advance(1.0)
    assert all(task.done() and task.exception() is None for task in tasks)
    assert sorted(seen) == sorted([0, 1, 2, 3] * 3)


def test_a_future_of_nobodys_is_awaited_too(simulation: Simulation, loop: SimulatedLoop) -> None:
    reply: ReplyFuture[int] = ReplyFuture()

    async def main() -> int:
        return await reply

    task = loop.create_task(main())
    simulation.settle()
    reply.set(3)
    simulation.settle()
    assert task.result() == 3


def test_closing_cancels_what_is_left(simulation: Simulation, loop: SimulatedLoop) -> None:
    """And takes nothing more; closing twice does nothing."""
    cancelled: list[str] = []

    async def main() -> None:
        try:
            await pass_time(1000.0)
        finally:
            cancelled.append("yes")

    loop.create_task(main())
    simulation.settle()
    loop.close()
    loop.close()
    assert cancelled == ["yes"]
    assert simulation.timers.next_due() is None
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon(print)


def test_nothing_is_left_of_the_running_loop(simulation: Simulation, loop: SimulatedLoop) -> None:
    """Outside of its callbacks no loop runs."""
    seen: list[Any] = []
    loop.call_soon(lambda: seen.append(asyncio.get_running_loop()))
    simulation.settle()
    assert seen == [loop]
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
