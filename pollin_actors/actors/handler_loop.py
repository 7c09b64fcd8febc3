"""Where coroutines of handlers run: an event loop that the application owns."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from contextvars import Context
from functools import partial

from pollin_actors.actors.handler_job import Job, Outcome, Report, Runner, acall
from pollin_actors.actors.handler_spec import HandlerSpec
from pollin_actors.instruments import Instrumentation
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.last_words import log_exception
from pollin_actors.otp.runtime import Runtime
from pollin_actors.otp.simulated_loop import SimulatedLoop

__all__ = ["HandlerLoop", "LoopRunner"]


class HandlerLoop:
    """The event loop of all handlers of one application that are coroutines.

    It has a thread of its own, which starts when the loop is first asked for; in a simulation the
    loop is a simulated one.

    Args:
        runtime: the application's.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._guard = Guard()
        self._closing = False

    def get(self) -> asyncio.AbstractEventLoop:
        """The loop.

        Raises:
            RuntimeError: the system gives no thread for it; the next call tries again.
        """
        return self._guard.run(self._get)

    def _get(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            if self._runtime.scheduler.simulated:
                self._loop = SimulatedLoop(self._runtime)
            else:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=self._work, args=(loop,), name="pollin-handlers", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:
                    loop.close()
                    raise
                # Only now: a loop that nobody runs would take coroutines and never begin them.
                self._thread, self._loop = thread, loop
        return self._loop

    def close(self, timeout: float) -> bool:
        """Cancel what is left and end; whether that was done within ``timeout`` seconds."""
        self._closing = True
        loop, thread = self._loop, self._thread
        if thread is None:
            if loop is not None:
                loop.close()
            return True
        assert loop is not None
        if thread is threading.current_thread():
            loop.call_soon(loop.stop)  # a coroutine stops the application that runs it
            return True
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout)
        return not thread.is_alive()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while not self._closing:
            try:
                loop.run_forever()
            except BaseException:
                # A task that a handler had started has raised SystemExit, or the like: the
                # others must not lose their loop.
                log_exception("handler.loop_interrupted")
        try:
            _end(loop)
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _end(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(BaseException):
        if tasks:
            # Those that do not care for being cancelled are left behind.
            loop.run_until_complete(asyncio.wait(tasks, timeout=0.5))
        loop.run_until_complete(loop.shutdown_asyncgens())


class LoopRunner(Runner):
    """Runs jobs as tasks of an event loop.

    Args:
        spec: the handler.
        runtime: its clock is read.
        context: what the functions find; each gets a copy.
        report: told of each end, on the loop.
        instruments: told of each call.
        loop: where they run.
    """

    def __init__(
        self,
        spec: HandlerSpec,
        runtime: Runtime,
        context: Context,
        report: Report,
        instruments: Instrumentation,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._spec = spec
        self._clock = runtime.clock
        self._context = context
        self._report = report
        self._instruments = instruments
        self._loop = loop
        self._jobs: deque[Job] = deque()
        # From here on only the loop's thread looks. A loop refers to its tasks only weakly.
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0

    def submit(self, jobs: list[Job], outstanding: int) -> None:
        self._jobs.extend(jobs)
        self._soon(self._begin)

    def give_back(self) -> list[Job]:
        jobs = []
        with contextlib.suppress(IndexError):
            while True:
                jobs.append(self._jobs.popleft())
        return jobs

    def abandon(self, job: Job) -> None:
        self._soon(self._cancel, job)

    def close(self) -> None:
        self._jobs.clear()
        self._soon(self._cancel_all)  # nobody hears of them any more

    def _cancel_all(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def _soon(self, function: object, *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # a closed loop: the application has stopped
            self._loop.call_soon_threadsafe(function, *args, context=self._context)  # type: ignore[arg-type]

    def _begin(self) -> None:
        while self._jobs and self._running < self._spec.concurrency:
            try:
                job = self._jobs.popleft()
            except IndexError:
                return  # given back just now
            self._running += 1
            task = self._loop.create_task(self._run(job), context=self._context.copy())
            job.task = task
            self._tasks.add(task)
            task.add_done_callback(partial(self._over, job), context=self._context)

    def _cancel(self, job: Job) -> None:
        self._running -= 1
        if job.task is not None:
            job.task.cancel()
        self._begin()

    async def _run(self, job: Job) -> None:
        self._ended(job, await acall(self._spec, job, self._clock, self._instruments))

    def _over(self, job: Job, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            # By somebody else on the loop, before its first step: nothing of it has run.
            self._ended(job, Outcome(job.held, None, asyncio.CancelledError()))

    def _ended(self, job: Job, outcome: Outcome) -> None:
        if job.finish():
            job.task = None
            self._running -= 1
            self._report(job, outcome)
            self._begin()
