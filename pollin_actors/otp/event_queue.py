"""Events on their way to the log and to the hook: after the supervisor's turn, never in it.

A supervisor that logs restarts its child later by the time that writing takes, and hangs when the
log does. As in OTP, it only hands the report over: it is written a moment later, in order.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from pollin_actors.otp.events import Event, EventHook, log_event
from pollin_actors.otp.last_words import OWN, log_exception

if TYPE_CHECKING:
    from pollin_actors.otp.runtime import Scheduler
    from pollin_actors.otp.timers import Timers

__all__ = ["EventQueue"]

BATCH = 64
"""How many events a thread writes before others get their turn on it."""

PAUSE = 0.005
"""Seconds. Who waits for an actor that is being restarted should not wait for the log as well:
a thread that formats tracebacks keeps the interpreter to itself."""


class EventQueue:
    """Events that wait to be logged and told to the hook, oldest first.

    Like a mailbox it is run by a scheduler, by one thread at a time, and takes no lock: who puts
    an event in looks at the flag afterwards, who runs it clears the flag first.

    Args:
        scheduler: runs it.
        timers: have it run a moment later.
        hook: tells whom to tell, at that moment.
    """

    label = "the event queue"

    def __init__(
        self, scheduler: Scheduler, timers: Timers, hook: Callable[[], EventHook | None]
    ) -> None:
        self._scheduler = scheduler
        self._timers = timers
        self._hook = hook
        # What makes the events: that takes time as well.
        self._events: deque[Callable[[], Event]] = deque()
        self._scheduled = False
        self._token = threading.RLock()
        _queues.add(self)

    def put(self, make: Callable[[], Event]) -> None:
        """Hand over an event, or rather what makes it."""
        try:
            self._events.append(make)
            if not self._scheduled:
                self._scheduled = True
                if self._scheduler.simulated:
                    self._submit()  # virtual time may stand still
                else:
                    self._timers.call_later(PAUSE, self._submit)
        except BaseException:
            self._submit()  # an interrupt: somebody looks, whatever was done
            raise

    def _submit(self) -> None:
        self._scheduler.submit(self)

    def run(self, turns: int = BATCH, *, foreign: bool = False, executor: object = None) -> None:
        """Log what waits, at most ``turns`` events; whoever else does it already goes on."""
        self._scheduled = False
        try:
            if self._token.acquire(False):
                self._write(turns)
                self._token.release()
                if self._events:
                    self._scheduled = True
                    self._submit()
        except BaseException:
            self._leave()
            raise

    def flush(self, timeout: float = 1.0) -> None:
        """Log what waits now, in this thread, within ``timeout`` seconds; the rest waits on."""
        until = time.monotonic() + timeout
        try:
            if self._token.acquire(timeout=timeout):
                self._write(len(self._events), until)
                self._token.release()
        except BaseException:
            self._leave()
            raise

    def forget(self) -> None:
        """In a forked child: what waits is the parent's to log."""
        self._events.clear()
        self._token = threading.RLock()

    def _leave(self) -> None:
        if self._token._is_owned():  # type: ignore[attr-defined]
            self._token.release()
        self._submit()

    def _write(self, count: int, until: float | None = None) -> None:
        while count > 0 and self._events:
            if until is not None and time.monotonic() >= until:
                break
            event = self._events[0]()
            _log(event)
            hook = self._hook()
            if hook is not None:
                _tell(hook, event)
            # Only now: after an interrupt it is rather told twice than not at all.
            self._events.popleft()
            count -= 1


def _log(event: Event) -> None:
    try:
        log_event(event)
    except OWN:
        # The host's structlog is what fails: the standard library's never raises.
        logging.getLogger("pollin_actors.otp").exception("%s could not be logged", event.event)


def _tell(hook: EventHook, event: Event) -> None:
    try:
        hook(event)
    except OWN:
        log_exception("event_hook.failed", failed=event.event, hook=repr(hook))


_queues: weakref.WeakSet[EventQueue] = weakref.WeakSet()


def _flush_all() -> None:
    """At the end of the process: the pool's threads will not get to it."""
    for waiting in tuple(_queues):
        waiting.flush()


def _forget_all() -> None:
    for waiting in tuple(_queues):
        waiting.forget()


atexit.register(_flush_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
