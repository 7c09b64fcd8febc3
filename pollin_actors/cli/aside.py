"""Threads beside the main one, where an inbox is asked.

Interrupts are the main thread's. There they could come in the middle of an actor's turn, which the
asking thread may run, and would be that actor's crash. So the main thread only waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

__all__ = ["Aside", "GivenUp"]

T = TypeVar("T")
Item = TypeVar("Item")

PATIENCE_S = 2.0
"""So long an interrupt waits for what is under way to be given up."""

TURN_S = 0.2
PIECE = 50


class GivenUp(BaseException):
    """Raised where items are taken, once there was an interrupt."""


class Aside:
    """Has things done on other threads, and waits for them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="pollin-aside", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End. What is awaited still is not waited for."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        if not self._thread.is_alive():
            self._loop.close()

    def await_(
        self, ask: Callable[[], Awaitable[T]], unwanted: Callable[[T], object] | None = None
    ) -> T:
        """Ask, and wait for the answer.

        Args:
            ask: called on an event loop; what it returns is awaited there.
            unwanted: called with an answer that came after all, when nobody waits any more.

        An interrupt cancels what is awaited, waits for that, and is raised.
        """
        answers: list[T] = []
        tasks: list[asyncio.Task[None] | None] = []
        abandoned, ended = threading.Event(), threading.Event()

        async def wait() -> None:
            tasks.append(asyncio.current_task())
            try:
                if not abandoned.is_set():
                    answers.append(await ask())
            finally:
                ended.set()

        def cancel() -> None:
            for task in tasks:
                if task is not None:
                    task.cancel()

        try:
            asyncio.run_coroutine_threadsafe(wait(), self._loop).result()
        except BaseException:
            # Its own error, or an interrupt, which may have come before there was a future.
            abandoned.set()
            self._loop.call_soon_threadsafe(cancel)
            ended.wait(PATIENCE_S)
            for answer in answers:
                if unwanted is not None:
                    unwanted(answer)
            raise
        return answers[0]

    def run(self, work: Callable[[], T]) -> T:
        """Have something done that blocks, and wait for its end; an interrupt waits a little."""
        return self.feed((), lambda _: work())

    def feed(self, items: Iterable[Item], work: Callable[[Iterator[Item]], T]) -> T:
        """Have something done with items, and wait for its end.

        Args:
            items: read here, where an interrupt can end the reading.
            work: is called on a thread of its own; what it is given raises if we are interrupted.
        """
        pieces: queue.Queue[list[Item] | None] = queue.Queue(maxsize=2)
        given_up, ended = threading.Event(), threading.Event()
        outcome: list[tuple[T | None, BaseException | None]] = []

        def taken() -> Iterator[Item]:
            while (piece := pieces.get()) is not None:
                yield from piece
            if given_up.is_set():
                raise GivenUp

        def run() -> None:
            try:
                outcome.append((work(taken()), None))
            except BaseException as error:
                outcome.append((None, error))
            finally:
                ended.set()

        def put(piece: list[Item] | None) -> None:
            while not ended.is_set():
                with contextlib.suppress(queue.Full):
                    pieces.put(piece, timeout=TURN_S)
                    return

        thread = threading.Thread(target=run, name="pollin-aside-work", daemon=True)
        thread.start()
        try:
            rest = iter(items)
            while not ended.is_set() and (piece := list(itertools.islice(rest, PIECE))):
                put(piece)
            put(None)
            thread.join()
        except BaseException:
            given_up.set()
            put(None)
            thread.join(PATIENCE_S)
            raise
        value, error = outcome[0]
        if error is not None:
            raise error
        result: Any = value
        return result  # type: ignore[no-any-return]
