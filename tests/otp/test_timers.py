"""Timers that are cancelled leave the heap."""

from __future__ import annotations

import threading
from typing import Any

from pollin_actors.otp.simulation import SimulatedTimers, VirtualClock
from pollin_actors.otp.timers import ThreadTimers, Timer, TimerHeap

SECONDS = 10.0


def nothing() -> None:
    pass


def test_cancelled_timers_leave_the_heap_and_the_others_keep_their_order() -> None:
    heap = TimerHeap()
    kept: list[Timer] = []
    for number in range(10_000):
        timer = Timer(float(-number % 997), nothing, heap.cancels)
        heap.push(timer)
        if number % 100 == 0:
            kept.append(timer)
        else:
            timer.cancel()
            timer.cancel()
        assert len(heap) <= 2 * len(kept) + 2 * TimerHeap.FEW + 2
        assert len(heap.cancels) <= len(kept) + TimerHeap.FEW + 1
    order = []
    while heap.next_due() is not None:
        order.append(heap.pop())
    assert sorted(order, key=id) == sorted(kept, key=id)
    assert [timer.due for timer in order] == sorted(timer.due for timer in kept)


def test_cancelling_what_has_been_called_is_not_counted() -> None:
    heap = TimerHeap()
    timer = Timer(0.0, nothing, heap.cancels)
    timer.fire()
    timer.cancel()
    assert heap.cancels == []


def test_simulated_timers_of_the_same_time_are_called_in_the_order_they_were_set() -> None:
    timers = SimulatedTimers(VirtualClock())
    called: list[int] = []
    set_ = [timers.call_later(1.0, lambda n=n: called.append(n)) for n in range(500)]  # type: ignore[misc]
    for number, timer in enumerate(set_):
        if number % 5:
            timer.cancel()
    while timers.next_due() is not None:
        timers.fire_next()
    assert called == list(range(0, 500, 5))


def test_the_timer_thread_forgets_what_was_cancelled() -> None:
    timers = ThreadTimers(VirtualClock())
    timers.start()
    try:
        for timer in [timers.call_later(1e6, nothing) for _ in range(5_000)]:
            timer.cancel()
        called: Any = threading.Event()
        timers.call_later(1e6, nothing)
        timers.call_later(0.0, called.set)
        assert called.wait(SECONDS)
        timers.stop()
        assert len(timers._heap) <= 2 * TimerHeap.FEW + 4
    finally:
        timers.stop()
