"""The guard is free whenever an exception has left it."""

from __future__ import annotations

import threading

import pytest

from pollin_actors.otp.guard import Guard
from tests.interrupts import interrupt_at_every_bytecode

MODULES = ("pollin_actors.otp.guard", __name__)


def is_free(guard: Guard) -> bool:
    """Say whether another thread can get in."""
    entered = threading.Event()
    thread = threading.Thread(target=guard.run, args=(entered.set,), daemon=True)
    thread.start()
    free = entered.wait(10)
    thread.join(10)
    return free


def work(steps: list[str]) -> str:
    steps.append("one")
    steps.append("two")
    return "done"


def test_returns_what_the_function_returns() -> None:
    steps: list[str] = []
    guard = Guard()

    assert guard.run(work, steps) == "done"
    assert steps == ["one", "two"]
    assert not guard.is_held()


def test_passes_exceptions_and_is_free_afterwards() -> None:
    guard = Guard()

    with pytest.raises(ValueError, match="invalid literal"):
        guard.run(int, "x")

    assert is_free(guard)


def test_is_held_inside_only() -> None:
    guard = Guard()

    assert guard.run(guard.is_held)
    assert not guard.is_held()


def test_is_re_entrant() -> None:
    guard = Guard()

    assert guard.run(guard.run, guard.run, guard.is_held)
    assert is_free(guard)


def test_stays_held_after_a_nested_exception() -> None:
    guard = Guard()

    def outer() -> bool:
        with pytest.raises(ZeroDivisionError):
            guard.run(divmod, 1, 0)
        return guard.is_held()

    assert guard.run(outer)
    assert is_free(guard)


def test_keeps_other_threads_out() -> None:
    guard = Guard()
    inside = threading.Event()
    leave = threading.Event()
    order: list[str] = []

    def first() -> None:
        inside.set()
        leave.wait(10)
        order.append("first")

    holder = threading.Thread(target=guard.run, args=(first,), daemon=True)
    holder.start()
    assert inside.wait(10)
    waiter = threading.Thread(target=guard.run, args=(order.append, "second"), daemon=True)
    waiter.start()
    leave.set()
    holder.join(10)
    waiter.join(10)

    assert order == ["first", "second"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_is_free_after_an_interrupt_anywhere(error: type[BaseException]) -> None:
    def operation(guard: Guard) -> None:
        guard.run(work, [])

    def check(guard: Guard, interrupted: bool) -> None:
        assert not guard.is_held()
        assert is_free(guard)

    number = interrupt_at_every_bytecode(
        operation, check, prepare=Guard, modules=MODULES, error=error
    )
    assert number > 20


def test_is_free_after_an_interrupt_anywhere_in_a_nested_call() -> None:
    def operation(guard: Guard) -> None:
        guard.run(guard.run, work, [])

    def check(guard: Guard, interrupted: bool) -> None:
        assert not guard.is_held()
        assert is_free(guard)

    assert interrupt_at_every_bytecode(operation, check, prepare=Guard, modules=MODULES) > 20


class Held:
    """A guard, and whether it was held after an interrupt in a nested call."""

    def __init__(self) -> None:
        self.guard = Guard()
        self.held_after: list[bool] = []

    def outer(self) -> None:
        try:
            self.guard.run(work, [])
        except KeyboardInterrupt:
            self.held_after.append(self.guard.is_held())
            raise


def test_an_interrupt_in_a_nested_call_leaves_the_outer_hold_alone() -> None:
    outcomes: list[bool] = []

    def operation(held: Held) -> None:
        held.guard.run(held.outer)

    def check(held: Held, interrupted: bool) -> None:
        outcomes.extend(held.held_after)
        assert is_free(held.guard)

    interrupt_at_every_bytecode(operation, check, prepare=Held, modules=MODULES)

    assert len(outcomes) > 10
    assert all(outcomes)
