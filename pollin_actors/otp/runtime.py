"""The runtime that actors share: a clock, timers and a scheduler, each of them injectable."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from pollin_actors.otp.clock import Clock, SystemClock
from pollin_actors.otp.event_queue import EventQueue
from pollin_actors.otp.events import Event, EventHook
from pollin_actors.otp.pool import ThreadPool
from pollin_actors.otp.registry import Registry
from pollin_actors.otp.timers import ThreadTimers, Timers

if TYPE_CHECKING:
    from pollin_actors.otp.cell import Cell
    from pollin_actors.otp.futures import ReplyFuture

__all__ = ["Executor", "Runtime", "Scheduler", "Task", "default_runtime"]


class Task(Protocol):
    """What an executor runs: a mailbox, or the event queue."""

    @property
    def label(self) -> str:
        """How errors call it."""
        ...

    def run(
        self, turns: int = ..., *, foreign: bool = ..., executor: Executor | None = ...
    ) -> None:
        """Take at most so many turns; of this executor's, if one is given."""
        ...


class Executor(Protocol):
    """Runs mailboxes."""

    def submit(self, mailbox: Task) -> None:
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
        random: where chance comes from, such as the jitter of back-offs; give a seeded one for
            runs that can be repeated.
        on_event: called with every event of every supervisor, one after another, after the
            supervisor's turn; what it raises is logged (``event_hook.failed``).
    """

    def __init__(
        self,
        clock: Clock | None = None,
        scheduler: Scheduler | None = None,
        timers: Timers | None = None,
        *,
        random: Random | None = None,
        on_event: EventHook | None = None,
    ) -> None:
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.scheduler: Scheduler = scheduler if scheduler is not None else ThreadPool()
        self.timers: Timers = timers if timers is not None else ThreadTimers(self.clock)
        self.random: Random = random if random is not None else Random()
        self.on_event: EventHook | None = on_event
        self.events = EventQueue(self.scheduler, self.timers, lambda: self.on_event)
        self.registry = Registry(self)

    def emit(self, kind: type[Event], make: Callable[[], Event]) -> None:
        """Have an event logged, and the hook told, soon; nothing is waited for.

        Args:
            kind: its class. Debug events are left out while nobody would see them.
            make: makes it, if it is wanted at all.
        """
        if kind.level != "debug" or self.on_event is not None or structlog.is_configured():
            self.events.put(make)

    def start(self) -> Runtime:
        """Start the first threads. Starting twice is harmless."""
        self.scheduler.start()
        self.timers.start()
        return self

    def stop(self, timeout: float = 5.0) -> bool:
        """Stop timers and threads; whether all threads ended within ``timeout`` seconds.

        Events that wait are logged and told, for a second at most.

        Actors that are still alive are not run any more: stop them first.
        """
        self.timers.stop()
        ended = self.scheduler.stop(timeout)
        self.events.flush(min(timeout, 1.0))
        return ended


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
