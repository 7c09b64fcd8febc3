"""The runtime that actors share: a clock, timers and a scheduler, each of them injectable."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Protocol

from pollin_actors.otp.clock import Clock, SystemClock
from pollin_actors.otp.pool import ThreadPool
from pollin_actors.otp.registry import Registry
from pollin_actors.otp.timers import ThreadTimers, Timers

if TYPE_CHECKING:
    from pollin_actors.otp.cell import Cell
    from pollin_actors.otp.futures import ReplyFuture
    from pollin_actors.otp.turns import Runnable

__all__ = ["Executor", "Runtime", "Scheduler", "default_runtime"]


class Executor(Protocol):
    """Runs mailboxes."""

    def submit(self, mailbox: Runnable) -> None:
        """Call ``mailbox.run()`` soon. Must neither block nor raise."""
        ...


class Scheduler(Executor, Protocol):
    """Decides where and when turns are taken."""

    simulated: bool

    def start(self) -> None:
        """Begin to run what is submitted."""
        ...

    def stop(self, timeout: float = 5.0) -> bool:
        """Run nothing more; whether everything under way ended within ``timeout`` seconds."""
        ...

    def caller_may_run(self) -> bool:
        """Whether an asking thread may run the mailbox itself at this send."""
        ...

    def block(self, future: ReplyFuture[Any], timeout: float | None) -> bool:
        """Simulated runs only: make progress until ``future`` is settled."""
        ...

    def enter_wait(self, cell: Cell) -> bool:
        """A handler waits: whether ``exit_wait`` must be called afterwards."""
        ...

    def exit_wait(self) -> None:
        """The handler's wait is over."""
        ...


class Runtime:
    """A clock, timers and a scheduler.

    Args:
        clock: where the time is read; the system's by default.
        scheduler: where turns are taken; a ``ThreadPool`` by default.
        timers: who calls later; a thread of their own by default.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        scheduler: Scheduler | None = None,
        timers: Timers | None = None,
    ) -> None:
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.scheduler: Scheduler = scheduler if scheduler is not None else ThreadPool()
        self.timers: Timers = timers if timers is not None else ThreadTimers(self.clock)
        self.registry = Registry(self)

    def start(self) -> Runtime:
        """Start the first threads. Starting twice is harmless."""
        self.scheduler.start()
        self.timers.start()
        return self

    def stop(self, timeout: float = 5.0) -> bool:
        """Stop timers and threads; whether all threads ended within ``timeout`` seconds.

        Actors that are still alive are not run any more: stop them first.
        """
        self.timers.stop()
        return self.scheduler.stop(timeout)


_default: Runtime | None = None
_default_lock = threading.Lock()


def default_runtime() -> Runtime:
    """The runtime of actors that are started without a supervisor; made when first needed."""
    global _default
    if _default is None:
        with _default_lock:
            if _default is None:
                _default = Runtime().start()
    return _default


def _forget_threads() -> None:
    """In a forked child no thread of ours has survived."""
    global _default, _default_lock
    _default = None
    _default_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
