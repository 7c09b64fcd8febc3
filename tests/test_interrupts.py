"""Forcing interrupts: what is left out, because it would show nothing new."""

from __future__ import annotations

import dis
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.interrupts import interrupt_at, points_of

MODULES = (__name__,)


def straight(log: list[object]) -> None:
    first, second = 1, 2
    log.append(first)
    log.append(second if first else first)


def handled(log: list[object]) -> None:
    done = False
    try:
        log.append("begun")
        done = True
    except BaseException:
        log.append(done)
        raise
    finally:
        log.append("finally")
    log.append(done)


def bare_try(log: list[object]) -> None:
    value = 1
    try:
        value += 1
    finally:
        log.append("ended")


def nested(log: list[object]) -> None:
    lock = threading.Lock()
    try:
        with lock:
            for number in range(2):
                try:
                    log.append(number)
                except KeyboardInterrupt:
                    log.append("passed over")
    finally:
        log.append(lock.locked())


def generated(log: list[object]) -> None:
    def numbers() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            log.append("closed")

    log += [number for number in numbers() if number]


@pytest.mark.parametrize("operation", [straight, handled, bare_try, nested, generated])
def test_nothing_is_left_out_that_leaves_something_else(
    operation: Callable[[list[object]], None],
) -> None:
    def outcomes(every: bool) -> list[list[object]]:
        seen: list[list[object]] = []
        while True:
            log: list[object] = []
            number = len(seen)
            if not interrupt_at(number, lambda log=log: operation(log), MODULES, every=every):  # type: ignore[misc]
                return seen
            seen.append(log)

    everywhere, thinned = outcomes(True), outcomes(False)
    assert len(thinned) < len(everywhere)
    assert {str(log) for log in thinned} == {str(log) for log in everywhere}


def test_the_last_of_a_guarded_stretch_is_kept() -> None:
    """It only loads something, but what comes after it is guarded otherwise."""
    code = bare_try.__code__
    starts = [entry.start for entry in dis.Bytecode(code).exception_entries]  # type: ignore[attr-defined]
    before = max(it.offset for it in dis.Bytecode(code) if it.offset < starts[0])
    assert before in points_of(code)
