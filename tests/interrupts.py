"""Interrupts forced at every point at which one could come."""

from __future__ import annotations

import dis
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, FrameType

__all__ = ["interrupt_at", "interrupt_at_every_bytecode"]

T = TypeVar("T")

# They change nothing that anybody could see: where the same handlers stand around the instruction
# after one of them, an interrupt before that leaves just the same behind. (The interpreter itself
# looks for signals at calls and backward jumps only.)
_PURE = frozenset(
    {
        "COPY",
        "KW_NAMES",
        "LOAD_CLOSURE",
        "LOAD_CONST",
        "LOAD_DEREF",
        "LOAD_FAST",
        "LOAD_GLOBAL",
        "NOP",
        "PRECALL",
        "PUSH_NULL",
        "SWAP",
    }
)


@cache
def points_of(code: CodeType) -> frozenset[int]:
    """The offsets of the instructions before which an interrupt makes a difference of its own."""
    bytecode = dis.Bytecode(code)
    # Between two of these offsets the same handlers stand around everything.
    entries = getattr(bytecode, "exception_entries", ())
    edges = {offset for entry in entries for offset in (entry.start, entry.end)}
    points = set()
    instructions = [it for it in bytecode if it.opname != "CACHE"]
    for at, instruction in enumerate(instructions):
        following = instructions[at + 1 : at + 2]
        is_same = following and not any(
            instruction.offset < edge <= following[0].offset for edge in edges
        )
        if instruction.opname not in _PURE or not is_same:
            points.add(instruction.offset)
    return frozenset(points)


def interrupt_at(
    number: int,
    operation: Callable[[], object],
    modules: Sequence[str],
    error: Callable[[], BaseException | None] = KeyboardInterrupt,
    *,
    every: bool = False,
) -> bool:
    """Run the operation and raise the error once, before the given instruction.

    Arguments:
        number: which instruction, counted from 0 over all frames of the modules; of those before
            which an interrupt makes a difference.
        operation: what to run, on a thread of its own.
        modules: prefixes of module names; only their instructions count.
        error: makes what is raised, for example an exception class. Where it returns None the
            operation goes on: so does one after a signal handler that raises nothing.
        every: count also those before which it makes none.

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
        counts = every or frame.f_lasti in points_of(frame.f_code)
        if event == "opcode" and not reached and counts:
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

    Instructions that only load something are left out, see ``points_of``.

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
