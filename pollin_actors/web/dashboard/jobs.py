"""Jobs: the same done to all callbacks that match, in bounded steps, after it was confirmed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from pollin_actors.application import Application
from pollin_actors.errors import CallbackNotFound, InvalidValue, PhaseConflict
from pollin_actors.identifiers import uuid7
from pollin_actors.replay import new_id
from pollin_actors.resources import Callback, Outcome
from pollin_actors.web.admin_api.problems import Kind, Problem, problem_of
from pollin_actors.web.dashboard.flows import Ask
from pollin_actors.web.dashboard.search import Filter, Scanned, scan_page

__all__ = ["Action", "Job", "JobState", "Jobs", "read_action", "replayed"]

STEP = 200
IN_FLIGHT = 32
"""Changes under way at once."""
MOST_ACTIVE = 4
MOST_KEPT = 50

Action: TypeAlias = Literal["move", "delete", "replay"]

_NO_JOB = Kind(404, "job-not-found", "There is no such job")
_BUSY = Kind(503, "busy", "Others are at work already")
_WRONG_STATE = Kind(409, "job-conflict", "The job is somewhere else")


class JobState(StrEnum):
    """How a job stands."""

    COUNTING = "counting"
    READY = "ready"
    """It is known how many there are; nothing is done before somebody says so."""
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


ACTIVE = frozenset({JobState.COUNTING, JobState.RUNNING})


@dataclass(slots=True, eq=False)
class Job:
    """One job.

    Arguments:
        id: its name.
        endpoint_id: whose callbacks.
        wanted: which.
        action: what is done.
        target: the phase that is moved to, or the endpoint that is replayed into.
        began_at: nanoseconds since the epoch; what was created later is left alone.
    """

    id: str
    endpoint_id: str
    wanted: Filter
    action: Action
    target: str
    began_at: int
    state: JobState = JobState.COUNTING
    matched: int = 0
    looked: int = 0
    total: int = 0
    """How many are in the queue: what counting has to look at."""
    done: int = 0
    skipped: int = 0
    """Those that were gone, or elsewhere, when their turn came; of replays, duplicates."""
    problem: str = ""
    watchers: list[Callable[[], None]] = field(default_factory=list)

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    def stands(self, state: JobState) -> bool:
        """Whether it still stands so: somebody may have stopped it at any ``await``."""
        return self.state is state

    def tell(self) -> None:
        """Wake who watches."""
        for wake in list(self.watchers):
            with contextlib.suppress(Exception):
                wake()


class Jobs:
    """The jobs of a dashboard; they run on the event loop, one step after another.

    Arguments:
        app: the application.
        timeout: seconds that the inbox has for each question.
    """

    def __init__(self, app: Application, timeout: float) -> None:
        self._app = app
        self._timeout = timeout
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, job_id: str) -> Job:
        """The job of that name.

        Raises:
            Problem: there is none.
        """
        job = self._jobs.get(job_id)
        if job is None:
            raise Problem(_NO_JOB, "it was made by another process, or long ago: begin anew")
        return job

    def watch(self, job_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called after each step, until what is returned is called."""
        job = self._jobs.get(job_id)
        if job is None:
            return lambda: None
        job.watchers.append(wake)

        def leave() -> None:
            with contextlib.suppress(ValueError):
                job.watchers.remove(wake)

        return leave

    async def begin(self, endpoint_id: str, wanted: Filter, action: Action, target: str) -> Job:
        """Count what would be done; nothing is changed.

        Raises:
            Problem: too many are at work already.
        """
        self._check_place()
        # From the oldest on, so that what comes meanwhile moves nothing.
        wanted = Filter(
            wanted.phase,
            wanted.since,
            wanted.until,
            wanted.header,
            wanted.text,
            wanted.kept and action == "replay",
            newest=False,
            secrets=wanted.secrets,
        )
        job = Job(uuid7(), endpoint_id, wanted, action, target, time.time_ns())
        callbacks = self._app.callbacks
        job.total = await callbacks.count(endpoint_id, timeout=self._timeout)
        if wanted.looks_inside or wanted.kept:
            self._check_place()  # others may have begun meanwhile
            self._run(job, self._count(job))
        else:
            phase = wanted.phase or None
            job.matched = await callbacks.count(endpoint_id, phase=phase, timeout=self._timeout)
            job.looked, job.state = job.total, JobState.READY
        self._jobs[job.id] = job
        self._forget()
        return job

    def confirm(self, job: Job) -> None:
        """Do it.

        Raises:
            Problem: it is not known yet how many there are, or it was begun already.
        """
        if job.state is not JobState.READY:
            raise Problem(_WRONG_STATE, f"expected it ready, got it {job.state}")
        self._check_place()
        job.state = JobState.RUNNING
        job.looked = 0
        self._run(job, self._do(job))

    def stop(self, job: Job) -> None:
        """Stop it after the step that is under way; what was done stays done."""
        if job.active or job.state is JobState.READY:
            job.state = JobState.STOPPED
            job.tell()

    def _check_place(self) -> None:
        if sum(job.active for job in self._jobs.values()) >= MOST_ACTIVE:
            detail = f"at most {MOST_ACTIVE} jobs run at once: wait for one, or stop it"
            raise Problem(_BUSY, detail)

    # -- at work -----------------------------------------------------------------------------------

    def _run(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._watched(job, work))
        # Held: a loop holds its tasks weakly.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watched(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            problem = problem_of(error)
            job.problem = problem.detail if problem is not None else type(error).__name__
            job.state = JobState.FAILED
        except BaseException:
            job.state = JobState.STOPPED  # the loop ends
            raise
        finally:
            job.tell()

    async def _count(self, job: Job) -> None:
        place: int | None = 0
        while place is not None and job.stands(JobState.COUNTING):
            place, seen, found, _ = await self._scan(job, place, STEP * 5)
            job.looked += seen
            job.matched += sum(callback.created_at <= job.began_at for callback in found)
            job.tell()
        if job.stands(JobState.COUNTING):
            job.state = JobState.READY

    async def _do(self, job: Job) -> None:
        place: int | None = 0
        left = job.matched  # never more than was confirmed
        while place is not None and left > 0 and job.stands(JobState.RUNNING):
            place, seen, found, _ = await self._scan(job, place, STEP)
            found = [callback for callback in found if callback.created_at <= job.began_at][:left]
            left -= len(found)
            job.looked += seen
            for at in range(0, len(found), IN_FLIGHT):
                if not job.stands(JobState.RUNNING):
                    break
                some = found[at : at + IN_FLIGHT]
                await self._change_all(job, some)
            job.tell()
        if job.stands(JobState.RUNNING):
            # Also those that left before their turn came, and were not seen at all.
            job.skipped = max(job.matched - job.done, 0)
            job.state = JobState.DONE

    async def _change_all(self, job: Job, some: list[Callback]) -> None:
        changes = [self._change(job, callback) for callback in some]
        # All of them, whatever becomes of one: what was done is counted.
        results = await asyncio.gather(*changes, return_exceptions=True)
        job.done += sum(result is True for result in results)
        job.skipped += sum(result is False for result in results)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _scan(self, job: Job, place: int, most: int) -> Scanned:
        return await scan_page(self._ask, job.endpoint_id, job.wanted, place, most)

    @property
    def _ask(self) -> Ask:
        async def ask(message: Any) -> Any:
            mailbox = self._app.callbacks._mailbox(message.endpoint_id)
            return await mailbox.ask(message, self._timeout)

        return ask

    async def _change(self, job: Job, callback: Callback) -> bool:
        """Whether something was changed."""
        callbacks, source = self._app.callbacks, job.endpoint_id
        try:
            if job.action == "delete":
                return await callbacks.delete(source, key=callback.id, timeout=self._timeout)
            if job.action == "move":
                if callback.phase == job.target:
                    return False
                await callbacks.update_phase(
                    source,
                    key=callback.id,
                    phase=job.target,
                    expect=callback.phase,
                    timeout=self._timeout,
                )
                return True
            return await self._replay(job, callback)
        except (CallbackNotFound, PhaseConflict):
            return False  # somebody else was quicker

    async def _replay(self, job: Job, callback: Callback) -> bool:
        if callback.origin is not None and callback.id.startswith(f"{job.id}:"):
            return False  # made by this job
        again = replayed(job.endpoint_id, callback, job.id)
        result = await self._app.callbacks.push(job.target, again, timeout=self._timeout)
        return result.outcome is Outcome.QUEUED

    def _forget(self) -> None:
        for job in list(self._jobs.values()):
            if len(self._jobs) <= MOST_KEPT:
                return
            if not job.active:
                del self._jobs[job.id]


def replayed(endpoint_id: str, old: Callback, name: str) -> Callback:
    """A new callback with the same request, which names its origin."""
    return Callback(
        id=new_id(name, old.id),
        request=old.request,
        phase="",
        created_at=time.time_ns(),
        origin=f"{endpoint_id}/{old.id}",
        ordering_key=old.ordering_key,
    )


def read_action(value: str) -> Action:
    """What a form says is to be done.

    Raises:
        InvalidValue: it is nothing of that.
    """
    actions: dict[str, Action] = {"move": "move", "delete": "delete", "replay": "replay"}
    if value in actions:
        return actions[value]
    raise InvalidValue("action", "move, delete or replay", ascii(value)[:80])
