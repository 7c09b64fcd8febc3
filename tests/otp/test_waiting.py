"""No silent deadlock: every wait that could not end well is an error of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from pollin_actors.otp import (
    BlockingActor,
    CallCycle,
    Later,
    PoolExhausted,
    Ref,
    ReplyFuture,
    Runtime,
    ThreadPool,
    WouldBlock,
)
from tests.otp.actors import Answering, Echo, MayBlock, begin


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    runtime = Runtime(scheduler=ThreadPool(size=2, ceiling=6)).start()
    yield runtime
    assert runtime.stop(timeout=10), "a thread of the pool hangs"


def test_waiting_in_a_class_that_never_blocks(runtime: Runtime) -> None:
    """WouldBlock, and the actor crashes: such a handler is a mistake."""
    ref = begin(Echo(), runtime)
    pending: ReplyFuture[None] = ReplyFuture()
    with pytest.raises(WouldBlock, match="never block"):
        ref.ask(pending.get)
    assert not ref.is_alive()


def test_reading_a_settled_future_is_no_waiting(runtime: Runtime) -> None:
    ref = begin(Echo(), runtime)
    settled: ReplyFuture[int] = ReplyFuture()
    settled.set(7)
    assert ref.ask(settled.get) == 7


def test_an_ask_inside_a_class_that_never_blocks_is_always_refused(runtime: Runtime) -> None:
    """Not only when the other actor happens to be busy."""
    asking, asked = begin(Echo(), runtime), begin(Echo(), runtime)
    with pytest.raises(WouldBlock):
        asking.ask(lambda: asked.ask("hello"))


def test_a_handler_that_waits_for_itself(runtime: Runtime) -> None:
    ref = begin(MayBlock(), runtime)
    with pytest.raises(CallCycle, match="MayBlock"):
        ref.ask(lambda: ref.ask("me"), timeout=10)


def test_a_handler_that_never_blocks_and_waits_for_itself(runtime: Runtime) -> None:
    ref = begin(Echo(), runtime)
    with pytest.raises(WouldBlock):
        ref.ask(lambda: ref.ask("me"), timeout=10)


def test_two_that_ask_each_other(runtime: Runtime) -> None:
    """A asks B, and B's handler asks A: B gets CallCycle, and so does whoever asked A."""
    first, second = begin(MayBlock(), runtime), begin(MayBlock(), runtime)
    with pytest.raises(CallCycle):
        first.ask(lambda: second.ask(lambda: first.ask("hello")), timeout=10)


def test_two_that_begin_to_wait_for_each_other_at_the_same_moment(runtime: Runtime) -> None:
    """Both are in a turn before either asks: at least one sees the circle, nobody hangs."""
    first, second = begin(MayBlock(), runtime), begin(MayBlock(), runtime)
    both = threading.Barrier(2)

    def ask(other: Ref[MayBlock]) -> str:
        both.wait(10)
        return str(other.ask("hello"))

    one = first.ask(lambda: ask(second), block=False)
    two = second.ask(lambda: ask(first), block=False)
    errors = []
    for future in (one, two):
        try:
            future.get(timeout=10)
        except Exception as error:
            errors.append(error)
    assert any(isinstance(error, CallCycle) for error in errors)


@pytest.mark.parametrize("length", [3, 4])
def test_a_ring(runtime: Runtime, length: int) -> None:
    ring = [begin(MayBlock(), runtime) for _ in range(length)]

    def ask(number: int) -> object:
        return ring[number % length].ask(lambda: ask(number + 1))

    with pytest.raises(CallCycle):
        ring[0].ask(lambda: ask(1), timeout=10)


def test_blocking_actors_that_ask_each_other(runtime: Runtime) -> None:
    """Threads of their own change nothing."""

    class Own(BlockingActor):
        use_daemon_thread = True

        def on_receive(self, message: object) -> object:
            return message() if callable(message) else message

    first, second = begin(Own(), runtime), begin(Own(), runtime)
    with pytest.raises(CallCycle):
        first.ask(lambda: second.ask(lambda: first.ask("hello")), timeout=10)


def test_a_circle_through_an_answer_that_comes_later(runtime: Runtime) -> None:
    """B leaves its answer to A, which waits for B's."""
    waiting, leaving = begin(MayBlock(), runtime), begin(Answering(), runtime)
    with pytest.raises(CallCycle):
        waiting.ask(lambda: leaving.ask(waiting.ask("hello", block=False)), timeout=10)


def test_many_handlers_that_ask_a_third(runtime: Runtime) -> None:
    """Each waiting handler gets the pool one more thread, so the third is run."""
    third = begin(MayBlock(), runtime)
    asking = [begin(MayBlock(), runtime) for _ in range(3)]
    gate: ReplyFuture[str] = ReplyFuture()
    third_is_busy = third.ask(gate.get, block=False)
    futures = [ref.ask(lambda: third.ask("hello"), block=False) for ref in asking]
    # Four handlers wait in a pool of two threads, and a fifth actor is run nevertheless.
    assert begin(MayBlock(), runtime).ask("fifth", timeout=10) == "fifth"
    gate.set("go on")
    assert [future.get(timeout=10) for future in futures] == ["hello"] * 3
    assert third_is_busy.get(timeout=10) == "go on"


def test_the_pool_has_a_ceiling(runtime: Runtime) -> None:
    """More waiting handlers than the ceiling allows: PoolExhausted for one too many, no hang."""
    never: ReplyFuture[str] = ReplyFuture()
    waiting = [begin(MayBlock(), runtime).ask(never.get, block=False) for _ in range(5)]
    # Who is refused is answered at once; the others wait for as long as we like.
    refused = next(_done_first(waiting))
    with pytest.raises(PoolExhausted, match="6 threads"):
        refused.get()
    never.set("go on")
    errors = []
    for future in waiting:
        try:
            assert future.get(timeout=10) == "go on"
        except PoolExhausted as error:
            errors.append(error)
    assert len(errors) == 1


def _done_first(futures: list[ReplyFuture[str]]) -> Iterator[ReplyFuture[str]]:
    """The futures in the order in which they are settled."""
    import queue

    done: queue.Queue[ReplyFuture[str]] = queue.Queue()
    for future in futures:
        future.add_done_callback(done.put)
    while True:
        yield done.get(timeout=10)


def test_threads_that_were_added_for_waiting_handlers_end(runtime: Runtime) -> None:
    pool = runtime.scheduler
    assert isinstance(pool, ThreadPool)
    never: ReplyFuture[str] = ReplyFuture()
    waiting = [begin(MayBlock(), runtime).ask(never.get, block=False) for _ in range(4)]
    # A fifth actor is run although the size is 2 and four handlers wait.
    assert begin(MayBlock(), runtime).ask("hello", timeout=10) == "hello"
    assert pool.thread_count() > 2
    never.set("go on")
    for future in waiting:
        future.get(timeout=10)
    for _ in range(20):
        assert begin(MayBlock(), runtime).ask("hello", timeout=10) == "hello"
    assert pool.thread_count() <= 6


def test_a_copied_context_in_another_thread_may_wait(runtime: Runtime) -> None:
    """asyncio.to_thread carries the actor's Context along; only the turn's own thread is in it."""
    ref, other = begin(MayBlock(), runtime), begin(MayBlock(), runtime)

    def handler() -> object:
        return asyncio.run(asyncio.to_thread(other.ask, "hello"))

    assert ref.ask(handler, timeout=10) == "hello"


def test_later_instead_of_waiting(runtime: Runtime) -> None:
    """What WouldBlock advises: the asker gets the other's answer, and nobody waited."""
    first, second = begin(Answering(), runtime), begin(Echo(), runtime)
    assert first.ask(second.ask("hello", block=False), timeout=10) == "hello"


def test_later_takes_futures_only() -> None:
    with pytest.raises(TypeError, match="ReplyFuture"):
        Later("no future")  # type: ignore[arg-type]
