"""Where functions run that are no coroutines: threads, or tasks of a simulated scheduler."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections import deque
from contextvars import Context

import structlog

from pollin_actors.actors.handler_job import Job, Report, Runner, call
from pollin_actors.actors.handler_spec import HandlerSpec
from pollin_actors.instruments import Instrumentation
from pollin_actors.otp.last_words import OWN, log_exception
from pollin_actors.otp.runtime import Runtime

__all__ = ["TaskRunner", "ThreadRunner"]

log = structlog.get_logger("pollin_actors")

_numbers = itertools.count(1)


class ThreadRunner(Runner):
    """Runs jobs on threads of its own, made when they are needed.

    A thread that is done takes the next job by itself: nobody hands it over.

    Args:
        spec: the handler.
        runtime: its clock is read.
        context: what the functions find; each gets a copy.
        report: told of each end, on the thread.
        instruments: told of each call.
    """

    def __init__(
        self,
        spec: HandlerSpec,
        runtime: Runtime,
        context: Context,
        report: Report,
        instruments: Instrumentation,
    ) -> None:
        self._spec = spec
        self._clock = runtime.clock
        self._context = context
        self._report = report
        self._instruments = instruments
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = 0
        self._closed = False

    def submit(self, jobs: list[Job], outstanding: int) -> None:
        for job in jobs:
            self._jobs.put(job)
        while self._threads < min(self._spec.concurrency, outstanding):
            self._threads += 1
            try:
                self._spawn()
            except RuntimeError as error:
                self._threads -= 1
                if not self._threads:
                    raise  # nobody would ever run them
                with contextlib.suppress(*OWN):
                    log.warning("handler.no_more_threads", error=str(error))
                break
        if self._closed:
            self.close()

    def give_back(self) -> list[Job]:
        jobs = []
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    jobs.append(job)
        return jobs

    def abandon(self, job: Job) -> None:
        self._threads -= 1
        if not self._jobs.empty():
            self._threads += 1
            self._spawn()

    def close(self) -> None:
        self._closed = True
        self.give_back()
        for _ in range(self._threads + 1):
            self._jobs.put(None)

    def _spawn(self) -> None:
        name = f"pollin-handler-{self._spec.name}-{next(_numbers)}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            context = self._context.copy()
            outcome = call(self._spec, job, context, self._clock, self._instruments)
            del context
            if not job.finish():
                return  # another thread has its place
            try:
                self._report(job, outcome)
            except BaseException:
                # An interpreter that ends, or memory that is short: the claim's lease will tell.
                log_exception("handler.report_failed", handler=self._spec.name)
            del job, outcome  # nothing is held while it waits


class TaskRunner(Runner):
    """Runs jobs as tasks of a simulated scheduler: on one thread, in an order from the seed.

    Arguments are those of ``ThreadRunner``.
    """

    def __init__(
        self,
        spec: HandlerSpec,
        runtime: Runtime,
        context: Context,
        report: Report,
        instruments: Instrumentation,
    ) -> None:
        self._spec = spec
        self._clock = runtime.clock
        self._scheduler = runtime.scheduler
        self._context = context
        self._report = report
        self._instruments = instruments
        self._jobs: deque[Job] = deque()
        self._running = 0

    def submit(self, jobs: list[Job], outstanding: int) -> None:
        self._jobs.extend(jobs)
        self._begin()

    def give_back(self) -> list[Job]:
        jobs = list(self._jobs)
        self._jobs.clear()
        return jobs

    def abandon(self, job: Job) -> None:
        self._running -= 1
        self._begin()

    def close(self) -> None:
        self._jobs.clear()

    def _begin(self) -> None:
        while self._jobs and self._running < self._spec.concurrency:
            self._running += 1
            self._scheduler.submit(_Place(self, self._jobs.popleft()))

    def run_job(self, job: Job) -> None:
        """Make the call."""
        context = self._context.copy()
        outcome = call(self._spec, job, context, self._clock, self._instruments)
        if job.finish():
            self._running -= 1
            self._report(job, outcome)
            self._begin()


class _Place:
    """A task for the scheduler."""

    def __init__(self, runner: TaskRunner, job: Job) -> None:
        self._runner = runner
        self._job = job

    @property
    def label(self) -> str:
        return "a handler's function"

    def run(self, turns: int = 1, *, foreign: bool = False, executor: object = None) -> None:
        self._runner.run_job(self._job)
