"""An asyncio event loop in virtual time: its callbacks are tasks of a simulated scheduler."""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop as running_loop
from asyncio import _set_running_loop as set_running_loop
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from pollin_actors.otp.runtime import Runtime
    from pollin_actors.otp.timers import Timer

__all__ = ["SimulatedLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs coroutines within a simulation; there is no network and there are no threads.

    Callbacks run in the order in which they became ready, one at a time, while the scheduler
    chooses between the loop and everything else. A callback that waits for a reply future runs
    the simulation on top of itself, but no other callback of this loop.

    Args:
        runtime: a simulated one.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._handles: deque[asyncio.Handle] = deque()
        self._delayed: dict[int, Timer] = {}
        self._submitted = self._busy = False
        super().__init__()  # which asks whether it runs

    def time(self) -> float:
        """Seconds on the simulation's clock."""
        return self._runtime.clock.monotonic()

    def is_running(self) -> bool:
        """Whether a callback is under way."""
        return self._busy

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Have it called in the order of these calls."""
        self._check_closed()  # type: ignore[attr-defined]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready_now(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """The same: there is one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Have it called at a time of ``time()``."""
        self._check_closed()  # type: ignore[attr-defined]
        handle = asyncio.TimerHandle(when, callback, args, self, context)

        def due() -> None:
            self._delayed.pop(id(handle), None)
            self._ready_now(handle)

        self._delayed[id(handle)] = self._runtime.timers.call_later(when - self.time(), due)
        return handle

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call it here, in a callback of its own: there are no other threads."""
        future: asyncio.Future[T] = self.create_future()

        def run() -> None:
            try:
                result = func(*args)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_soon(run)
        return future

    def close(self) -> None:
        """Cancel what is left, let it end, and take nothing more."""
        if self.is_closed() or self._busy:
            return
        for task in asyncio.all_tasks(self):
            task.cancel()
        for _ in range(1000):  # one that cancels nothing could go on for ever
            if not self._handles:
                break
            self._call(self._handles.popleft())
        for timer in self._delayed.values():
            timer.cancel()
        self._delayed.clear()
        self._handles.clear()
        super().close()

    # -- as a task of the scheduler ----------------------------------------------------------------

    @property
    def label(self) -> str:
        """How errors call it."""
        return "the simulated event loop"

    def run(self, turns: int = 1, *, foreign: bool = False, executor: object = None) -> None:
        """Make the next calls, at most ``turns``."""
        self._submitted = False
        if self._busy:
            return  # the call that waits goes on afterwards
        try:
            while turns > 0 and self._handles:
                self._call(self._handles.popleft())
                turns -= 1
        finally:
            if self._handles:
                self._submit()

    def _ready_now(self, handle: asyncio.Handle) -> None:
        if not self.is_closed():
            self._handles.append(handle)
            self._submit()

    def _submit(self) -> None:
        if not self._submitted and not self._busy:
            self._submitted = True
            self._runtime.scheduler.submit(self)

    def _call(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        outer = running_loop()
        self._busy = True
        set_running_loop(self)
        try:
            handle._run()
        finally:
            set_running_loop(outer)
            self._busy = False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        timer = self._delayed.pop(id(handle), None)
        if timer is not None:
            timer.cancel()
