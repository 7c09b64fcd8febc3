"""Interrupts forced at every point at which one could come."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

__all__ = ["interrupt_at", "interrupt_at_every_bytecode"]

T = TypeVar("T")


def interrupt_at(
    number: int,
    operation: Callable[[], object],
    modules: Sequence[str],
    error: Callable[[], BaseException | None] = KeyboardInterrupt,
) -> bool:
    """Run the operation and raise the error once, before the given instruction.

    Arguments:
        number: which instruction, counted from 0 over all frames of the modules.
        operation: what to run, on a thread of its own.
        modules: prefixes of module names; only their instructions count.
        error: makes what is raised, for example an exception class. Where it returns None the
            operation goes on: so does one after a signal handler that raises nothing.

    Returns:
        Whether the operation got that far. Other exceptions of the operation pass through.
    """
    if sys.version_info >= (3, 12):
        pytest.skip("from Python 3.12 on, not every instruction of a new frame can be traced")
    prefixes = tuple(modules)
    seen = 0
    reached = False
    raised: BaseException | None = None

    def trace_call(frame: FrameType, event: str, arg: Any) -> Any:
        if not str(frame.f_globals.get("__name__", "")).startswith(prefixes):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return trace_opcode

    def trace_opcode(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal seen, reached, raised
        if event == "opcode" and not reached:
            if seen == number:
                reached = True
                # Python does not trace what a trace function calls.
                raised = error()
                if raised is not None:
                    raise raised
            seen += 1
        return trace_opcode

    failures: list[BaseException] = []

    def run() -> None:
        try:
            sys.settrace(trace_call)
            try:
                operation()
            finally:
                sys.settrace(None)
        except BaseException as caught:
            if caught is not raised:
                failures.append(caught)

    # A thread of its own: an exception that a trace function raises inside an except block can
    # stay its thread's current exception for good.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return reached


def interrupt_at_every_bytecode(
    operation: Callable[[T], object],
    check: Callable[[T, bool], object],
    *,
    prepare: Callable[[], T],
    modules: Sequence[str],
    error: Callable[[], BaseException | None] = KeyboardInterrupt,
) -> int:
    """Run the operation again and again, interrupted one instruction later each time.

    Arguments:
        operation: what to run, given what ``prepare`` returned.
        check: called after each run with what ``prepare`` returned and whether the run was
            interrupted; it asserts what has to hold. The last call is for the run that was not.
        prepare: makes a fresh subject for each run.
        modules: prefixes of the names of the modules whose instructions are interrupted.
        error: makes what is raised, for example an exception class. Where it returns None the
            operation goes on: so does one after a signal handler that raises nothing.

    Returns:
        At how many instructions the operation was interrupted.
    """
    number = 0
    while True:
        subject = prepare()
        # Bound here: a lambda in a loop would see a later subject.
        interrupted = interrupt_at(number, lambda it=subject: operation(it), modules, error)  # type: ignore[misc]
        check(subject, interrupted)
        if not interrupted:
            return number
        number += 1
