"""Reply futures: settled once, awaited without blocking the loop, told on completion."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import weakref
from typing import Any

import pykka
import pytest

from pollin_actors.otp import (
    ActorDead,
    AlreadySettled,
    DeadlineExceeded,
    Later,
    ReplyFuture,
    Runtime,
    Simulation,
)
from pollin_actors.otp.futures import DerivedFuture
from tests.otp.actors import Answering, Echo, MayBlock, begin, in_thread, manual_runtime


def waiters_of(future: ReplyFuture[Any]) -> list[Any]:
    assert future._box is not None
    waiters: list[Any] = future._box["waiters"]
    return waiters


def test_the_first_outcome_stands() -> None:
    future: ReplyFuture[int] = ReplyFuture()
    future.set(1)
    with pytest.raises(AlreadySettled):
        future.set(2)
    with pytest.raises(AlreadySettled):
        future.set_exception((ValueError, ValueError("late"), None))
    assert future.get() == 1


def test_of_many_threads_that_settle_one_wins() -> None:
    for _ in range(50):
        future: ReplyFuture[int] = ReplyFuture()
        start = threading.Barrier(4)
        won: list[int] = []

        def settle(number: int, future: Any = future, start: Any = start, won: Any = won) -> None:
            start.wait(10)
            if future._settle((number, None)):
                won.append(number)

        threads = [threading.Thread(target=settle, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert won == [future.get()]


def test_a_waiter_that_comes_between_outcome_and_wake_up_is_woken() -> None:
    """The adder looks for the outcome after it stands in the list."""
    future: ReplyFuture[int] = ReplyFuture()
    fired: list[str] = []

    class Waiter:
        def fire(self) -> None:
            fired.append("woken")

    # The settler has stored the outcome and looked for waiters; only then one comes.
    future._outcome = (1, None)
    future._add_waiter(Waiter())
    assert fired == ["woken"]


def test_get_times_out_and_may_be_tried_again() -> None:
    future: ReplyFuture[int] = ReplyFuture()
    with pytest.raises(pykka.Timeout):
        future.get(timeout=0.001)
    assert not waiters_of(future), "the waiter that gave up is forgotten"
    future.set(3)
    assert future.get() == 3


def test_callbacks_are_called_once_and_their_errors_go_nowhere() -> None:
    future: ReplyFuture[int] = ReplyFuture()
    seen: list[int] = []

    def broken(done: ReplyFuture[int]) -> None:
        raise ValueError("a user's mistake")

    future.add_done_callback(broken)
    future.add_done_callback(lambda done: seen.append(done.get()))
    future.set(1)
    future._fire()
    future.add_done_callback(lambda done: seen.append(done.get() + 1))
    assert seen == [1, 2]


def test_await_does_not_block_the_loop() -> None:
    """While one coroutine waits for an actor that is busy, another goes on and sets it free."""
    runtime = Runtime().start()
    busy = begin(MayBlock(), runtime)
    gate: ReplyFuture[str] = ReplyFuture()

    async def scenario() -> tuple[str, str]:
        first = asyncio.ensure_future(wait_for(busy.ask(gate.get, block=False)))
        await asyncio.wait([first], timeout=0)
        assert not first.done()
        gate.set("free")
        return await first, await busy.ask("next", block=False)

    async def wait_for(future: ReplyFuture[str]) -> str:
        return await future

    try:
        assert asyncio.run(scenario()) == ("free", "next")
    finally:
        runtime.stop()


def test_a_deadline_ends_an_await() -> None:
    runtime, _ = manual_runtime()
    ref = begin(MayBlock(), runtime)  # nobody runs it

    async def scenario() -> None:
        await ref._cell.mailbox.ask("never handled", 0.01)

    with pytest.raises(DeadlineExceeded, match=r"did not answer str within 0\.01 s"):
        asyncio.run(scenario())


def test_an_await_that_is_cancelled_leaves_nothing_behind() -> None:
    future: ReplyFuture[int] = ReplyFuture()

    async def scenario() -> None:
        async def wait() -> int:
            return await future

        task = asyncio.ensure_future(wait())
        await asyncio.wait([task], timeout=0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(scenario())
    assert not waiters_of(future)
    future.set(1)


def test_a_loop_that_is_closed_does_not_hurt_who_settles() -> None:
    future: ReplyFuture[int] = ReplyFuture()

    async def scenario() -> None:
        task = asyncio.ensure_future(asyncio.wait_for(_await(future), timeout=None))
        await asyncio.wait([task], timeout=0)
        # Keep the waiter although the task goes: as if the loop had been closed hard.
        kept.extend(waiters_of(future))
        task.cancel()
        await asyncio.wait([task])

    kept: list[Any] = []
    asyncio.run(scenario())
    waiters_of(future).extend(kept)
    future.set(1)
    assert future.get() == 1


async def _await(future: ReplyFuture[Any]) -> Any:
    return await future


@pytest.mark.parametrize("settle_first", [True, False])
def test_derived_futures_can_be_awaited(settle_first: bool) -> None:
    """map, filter, join and reduce, with sources settled before or in another thread."""
    one: ReplyFuture[Any] = ReplyFuture()
    two: ReplyFuture[Any] = ReplyFuture()
    derived: list[ReplyFuture[Any]] = [
        one.map(lambda value: len(value)),
        one.filter(lambda x: x > 1),
        one.join(two),
        one.reduce(lambda a, b: a + b),
        one.join(two).map(lambda both: len(list(both))),
    ]

    def settle() -> None:
        one.set([1, 2, 3])
        two.set("x")

    async def scenario() -> list[Any]:
        if not settle_first:
            asyncio.get_running_loop().call_soon(lambda: in_thread(settle))
        return [await future for future in derived]

    if settle_first:
        settle()
    assert asyncio.run(scenario()) == [3, [2, 3], [[1, 2, 3], "x"], 6, 2]


def test_a_derived_future_calls_its_function_once() -> None:
    calls: list[int] = []
    source: ReplyFuture[int] = ReplyFuture()
    derived = source.map(calls.append)
    source.set(1)
    derived.get()
    derived.get()
    assert calls == [1]


def test_a_derived_future_fails_with_its_source() -> None:
    source: ReplyFuture[int] = ReplyFuture()
    derived = source.map(lambda x: x + 1)
    source._fail(LookupError("gone"))
    with pytest.raises(LookupError, match="gone"):
        derived.get()
    with pytest.raises(LookupError, match="gone"):
        asyncio.run(_await(derived))


def test_a_callback_on_a_derived_future() -> None:
    source: ReplyFuture[int] = ReplyFuture()
    seen: list[int] = []
    source.map(lambda x: x * 2).add_done_callback(lambda done: seen.append(done.get()))
    source.set(4)
    assert seen == [8]


def test_a_derived_future_cannot_be_set() -> None:
    derived = DerivedFuture((), lambda values: values)
    attempts: list[Any] = [
        derived.set,
        derived.set_exception,
        lambda: derived.set_get_hook(lambda timeout: []),
    ]
    for attempt in attempts:
        with pytest.raises(AlreadySettled):
            attempt()


def test_a_hook_is_awaited_in_a_thread_of_its_own() -> None:
    future: ReplyFuture[str] = ReplyFuture()
    future.set_get_hook(lambda timeout: threading.current_thread().name)
    assert asyncio.run(_await(future)) != threading.current_thread().name


def test_an_answer_that_comes_later() -> None:
    runtime = Runtime().start()
    try:
        ref = begin(Answering(), runtime)
        inner: ReplyFuture[str] = ReplyFuture()
        outer = ref.ask(inner, block=False)
        assert not outer.done()
        inner.set("now")
        assert outer.get(timeout=10) == "now"
        theirs: concurrent.futures.Future[str] = concurrent.futures.Future()
        outer = ref.ask(theirs, block=False)
        theirs.set_exception(LookupError("no"))
        with pytest.raises(LookupError):
            outer.get(timeout=10)
    finally:
        runtime.stop()


def test_a_bare_future_is_a_value() -> None:
    """As in Pykka: only Later is an answer that comes later."""
    runtime, scheduler = manual_runtime()
    ref = begin(Echo(), runtime)
    scheduler.run_all()
    inner: ReplyFuture[str] = ReplyFuture()
    assert ref.ask(lambda: inner) is inner


def test_later_answers_fail_when_their_actor_ends() -> None:
    runtime, scheduler = manual_runtime()
    ref = begin(Answering(), runtime)
    scheduler.run_all()
    outer = ref.ask(ReplyFuture(), block=False)
    ref.stop()
    with pytest.raises(ActorDead, match="ended before it answered"):
        outer.get(timeout=0)


def test_a_detached_later_answer_outlives_its_actor() -> None:
    runtime, scheduler = manual_runtime()
    ref = begin(Echo(), runtime)
    scheduler.run_all()
    inner: ReplyFuture[str] = ReplyFuture()
    outer = ref.ask(lambda: Later(inner, detached=True), block=False)
    ref.stop()
    inner.set("stored")
    assert outer.get(timeout=0) == "stored"


def test_futures_wait_in_virtual_time() -> None:
    with Simulation() as simulation:
        ref = begin(Answering(), simulation.runtime)
        asked = ref._cell.mailbox.ask(ReplyFuture(), 5.0)
        with pytest.raises(DeadlineExceeded):
            asked.get()
        assert simulation.clock.monotonic() == 5.0


class Large:
    """An answer."""


@pytest.mark.parametrize("timeout", [None, 60.0])
@pytest.mark.parametrize("early", [True, False], ids=["settled before", "settled after"])
def test_a_later_answer_is_freed_at_once(timeout: float | None, early: bool) -> None:
    """With its futures, and without the garbage collector: pages of a dump are large."""
    runtime, scheduler = manual_runtime()
    ref = begin(Answering(), runtime)
    scheduler.run_all()
    gc.disable()
    try:
        inner: ReplyFuture[Large] = ReplyFuture()
        if early:
            inner.set(Large())
        outer = ref._cell.mailbox.ask(inner, timeout)
        scheduler.run_all()
        seen: list[Any] = []
        outer.add_done_callback(lambda done: seen.append(weakref.ref(done.get(timeout=0))))
        if not early:
            inner.set(Large())
        outer.add_done_callback(lambda done: seen.append(weakref.ref(done.get(timeout=0))))
        del outer, inner
        assert [answer() for answer in seen] == [None, None]
    finally:
        gc.enable()
