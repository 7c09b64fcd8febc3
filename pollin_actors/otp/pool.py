"""The small pool of threads that all actors without a thread of their own share.

Only the pool's own threads count and start threads (they receive no signals, so their locks are
safe); senders do nothing but put a mailbox into a queue.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import structlog

from pollin_actors.otp.errors import PoolExhausted
from pollin_actors.otp.last_words import OWN, log_exception

if TYPE_CHECKING:
    from pollin_actors.otp.cell import Cell
    from pollin_actors.otp.futures import ReplyFuture
    from pollin_actors.otp.runtime import Task
    from pollin_actors.otp.turns import Runnable

__all__ = ["OwnThread", "ThreadPool"]

log = structlog.get_logger("pollin_actors.otp")

_numbers = itertools.count(1)


class ThreadPool:
    """The scheduler of real runs.

    Args:
        size: how many threads may run turns at once; by default the number of cores, at least 2
            and at most 8.
        ceiling: how many threads there may be at most, those included whose handlers wait.
    """

    simulated = False

    def __init__(self, size: int | None = None, ceiling: int = 64, name: str = "pollin") -> None:
        self._size = size if size is not None else max(2, min(8, os.cpu_count() or 2))
        self._ceiling = max(ceiling, self._size)
        self._name = name
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._limit = self._size
        self._idle = 0
        self._threads: set[threading.Thread] = set()
        self._stopping = False

    def start(self) -> None:
        """Start the first thread; the others come when they are needed."""
        with self._lock:
            if not self._threads and not self._stopping:
                self._spawn()

    def submit(self, mailbox: Task) -> None:
        """Have a mailbox run soon. Never blocks; safe in signal handlers."""
        self._tasks.put(mailbox)

    def caller_may_run(self) -> bool:
        """In real runs a caller always may."""
        return True

    def block(self, future: ReplyFuture[Any], timeout: float | None) -> bool:
        raise AssertionError("real threads wait on a lock of their own")

    def thread_count(self) -> int:
        """How many threads there are now."""
        with self._lock:
            return len(self._threads)

    def waiting_count(self) -> int:
        """How many handlers wait for an answer, each on a thread of its own."""
        return max(0, self._limit - self._size)

    def task_count(self) -> int:
        """How many actors wait for a thread."""
        return self._tasks.qsize()

    def enter_wait(self, cell: Cell) -> bool:
        """A handler on this thread is about to wait: let another thread do its work meanwhile.

        Raises:
            PoolExhausted: there are as many threads as there may be.
        """
        if threading.current_thread() not in self._threads:
            return False
        with self._lock:
            if self._limit >= self._ceiling:
                raise PoolExhausted(
                    f"{cell.label} cannot wait: {self._limit - self._size} handlers wait already "
                    f"and the pool may have {self._ceiling} threads; answer with Later instead "
                    f"of waiting, or raise the pool's ceiling"
                )
            self._limit += 1
            try:
                self._ensure_spare()
            except RuntimeError as error:
                self._limit -= 1
                raise PoolExhausted(
                    f"{cell.label} cannot wait: the system gives no more threads ({error})"
                ) from error
        return True

    def exit_wait(self) -> None:
        """The handler goes on; a thread too many ends when it is done with its turn."""
        with self._lock:
            self._limit -= 1

    def stop(self, timeout: float = 5.0) -> bool:
        """End the threads; return whether all have ended within ``timeout`` seconds."""
        with self._lock:
            self._stopping = True
            threads = set(self._threads)
        self._tasks.put(None)
        until = time.monotonic() + timeout
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(until - time.monotonic(), 0.0))
        return not any(t.is_alive() for t in threads if t is not threading.current_thread())

    def _ensure_spare(self) -> None:
        """Keep one idle thread, up to the limit. The lock is held."""
        if self._idle == 0 and len(self._threads) < self._limit and not self._stopping:
            self._spawn()

    def _spawn(self) -> None:
        thread = threading.Thread(
            target=self._work, name=f"{self._name}-{next(_numbers)}", daemon=True
        )
        self._threads.add(thread)
        self._idle += 1
        try:
            thread.start()
        except RuntimeError:
            self._threads.discard(thread)
            self._idle -= 1
            raise

    def _work(self) -> None:
        me = threading.current_thread()
        while True:
            mailbox = self._tasks.get()
            with self._lock:
                self._idle -= 1
                if mailbox is None:
                    self._threads.discard(me)
                    break
                refused = None
                try:
                    self._ensure_spare()
                except RuntimeError as error:
                    refused = error
            if refused is not None:
                _warn(refused)
                refused = None
            try:
                mailbox.run(executor=self)  # another executor's by now? It is told
            except BaseException:
                # The mailbox has put itself right; other actors must not lose their thread.
                log_exception("pool.turn_interrupted", mailbox=mailbox.label)
            mailbox = None
            with self._lock:
                if len(self._threads) > self._limit:
                    self._threads.discard(me)
                    return
                self._idle += 1
        self._tasks.put(None)  # the next thread ends as well


def _warn(refused: RuntimeError) -> None:
    with contextlib.suppress(*OWN):  # the host's structlog may fail
        log.warning("pool.no_more_threads", error=str(refused))


class OwnThread:
    """The executor of one ``BlockingActor``: a thread that runs nothing else."""

    def __init__(self, name: str, daemon: bool) -> None:
        self._wake: queue.SimpleQueue[Runnable | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=daemon)

    def start(self) -> None:
        """Start the thread. If this raises, ``discard`` it: it may run all the same."""
        self._thread.start()

    def discard(self) -> None:
        """Its actor will not live: the thread ends."""
        self._wake.put(None)

    def submit(self, mailbox: Task) -> None:
        self._wake.put(cast("Runnable", mailbox))  # given by a mailbox only, and only its own

    def _work(self) -> None:
        while True:
            mailbox = self._wake.get()
            if mailbox is None:
                return
            try:
                mailbox.run(executor=self)
            except BaseException:
                log_exception("actor.turn_interrupted", mailbox=mailbox.label)
            cell = mailbox.cell
            if cell is None or cell.mailbox.executor is not self:
                return  # the actor has ended, or another incarnation has a thread of its own
            mailbox = None
            cell = None
