"""Waiting for a future: who may, what it costs the pool, and what could never end.

Nothing here is on the fast path: it runs only when a future is asked for before it is settled.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from pollin_actors.otp.errors import CallCycle, WouldBlock
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.last_words import log_exception

if TYPE_CHECKING:
    from pollin_actors.otp.cell import Cell
    from pollin_actors.otp.futures import ReplyFuture
    from pollin_actors.otp.runtime import Scheduler

__all__ = [
    "CallbackWaiter",
    "Waiter",
    "block_on",
    "current_cell",
    "running_cell",
    "simulated_scheduler",
]

# Set once in each actor's own Context, so a turn announces itself at no cost per turn.
current_cell: ContextVar[Cell | None] = ContextVar("pollin_actors.otp.current_cell", default=None)

# The scheduler that a simulation drives on this thread: futures of nobody's wait through it.
simulated_scheduler: ContextVar[Scheduler | None] = ContextVar(
    "pollin_actors.otp.simulated_scheduler", default=None
)


class Waiter(Protocol):
    """Somebody to tell once a future is settled."""

    def fire(self) -> object:
        """Wake up. May be called more than once, from any thread; must not raise.

        False: not told yet, because another thread is at it and may be interrupted.
        """
        ...


class CallbackWaiter:
    """Calls a function of the future."""

    __slots__ = ("_callback", "_done", "_future", "_guard", "_interrupted")

    def __init__(self, future: ReplyFuture[Any], callback: Callable[[Any], object]) -> None:
        self._future = future
        self._callback = callback
        self._guard = Guard()
        self._done = self._interrupted = False

    def fire(self) -> bool:
        """Call it once; say whether that is over."""
        if not self._done:
            self._guard.attempt(self._run)
        return self._done

    def _run(self) -> None:
        if self._done:
            return
        try:
            self._callback(self._future)
        except Exception:
            log_exception("future.callback_failed", callback=repr(self._callback))
        except BaseException:
            # Only the main thread is interrupted; whoever finishes the work calls it again.
            if threading.current_thread() is threading.main_thread() and not self._interrupted:
                self._interrupted = True
                raise
            log_exception("future.callback_failed", callback=repr(self._callback))
        self._done = True


class ThreadWaiter:
    """Wakes one thread."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def fire(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            return  # released before: firing twice is harmless

    def wait(self, timeout: float | None) -> bool:
        if timeout is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))


def running_cell() -> Cell | None:
    """The actor whose turn this very thread is in, if any.

    A copied Context (``asyncio.to_thread`` makes one) carries the variable into other threads;
    only the thread that holds the actor's token is in its turn.
    """
    cell = current_cell.get()
    if cell is not None and cell.mailbox.token._is_owned():  # type: ignore[attr-defined]
        return cell
    return None


def block_on(future: ReplyFuture[Any], timeout: float | None) -> bool:
    """Wait until ``future`` is settled, at most ``timeout`` seconds; return whether it is.

    Raises:
        WouldBlock: in a handler of a class that declares ``never_blocks``.
        CallCycle: the wait could never end, because who should answer waits for us.
        PoolExhausted: too many handlers wait already.
    """
    cell = running_cell()
    target = future._target
    if cell is None:
        if target is not None and target.token._is_owned():  # type: ignore[attr-defined]
            # A signal handler, or code called by the runtime, inside this thread's own turn.
            raise CallCycle(
                f"this thread is running {target.label} at the moment and cannot wait for its "
                f"answer; send with tell, or leave the future"
            )
        scheduler = target.runtime.scheduler if target is not None and target.runtime else None
        scheduler = simulated_scheduler.get() or scheduler
        return _wait(future, timeout, scheduler)
    if cell.never_blocks:
        raise WouldBlock(
            f"{cell.label} declares that its handlers never block, and waits for "
            f"{_describe(future)}; return Later(future) instead, or use a class that may block"
        )
    scheduler = cell.mailbox.runtime.scheduler if cell.mailbox.runtime else None
    counted = False
    try:
        cell.waiting_for = future
        cycle = find_cycle(cell, future)
        if cycle is not None:
            raise CallCycle(
                "actors wait for each other in a circle: "
                + " -> ".join(c.label for c in cycle)
                + f" -> {cell.label}; send one of these messages with tell, or answer with Later"
            )
        if scheduler is not None:
            counted = scheduler.enter_wait(cell)
        return _wait(future, timeout, scheduler)
    finally:
        cell.waiting_for = None
        if counted and scheduler is not None:
            scheduler.exit_wait()


def find_cycle(waiter: Cell, future: ReplyFuture[Any] | None) -> list[Cell] | None:
    """The actors of the circle that ``waiter`` would close by waiting for ``future``, or None.

    Each waiting actor says what it waits for *before* it looks, so of two that close a circle
    at the same time at least one sees it.
    """
    chain = [waiter]
    while future is not None:
        while future._via is not None:
            future = future._via
        target = future._target
        cell = target.cell if target is not None else None
        if cell is None or future._outcome is not None:
            return None
        if cell is waiter:
            return chain
        if cell in chain:
            return None  # somebody else's circle: they will be told
        chain.append(cell)
        future = cell.waiting_for
    return None


def _describe(future: ReplyFuture[Any]) -> str:
    target = future._target
    return f"an answer of {target.label}" if target is not None else "a future"


def _wait(future: ReplyFuture[Any], timeout: float | None, scheduler: Scheduler | None) -> bool:
    if scheduler is not None and scheduler.simulated:
        return scheduler.block(future, timeout)
    if timeout is not None:
        begin = monotonic()
        _help(future, timeout)
        timeout -= monotonic() - begin
    else:
        _help(future, timeout)
    if future._outcome is not None:
        return True
    waiter = ThreadWaiter()
    future._add_waiter(waiter)
    try:
        waiter.wait(timeout)
    finally:
        future._remove_waiter(waiter)
    return future._outcome is not None


def _help(future: ReplyFuture[Any], timeout: float | None) -> None:
    """Do the work that the answer waits for, if this thread may; never on an event loop."""
    while future._via is not None:
        future = future._via
    if future._help is not None and asyncio._get_running_loop() is None:
        future._help(timeout)
