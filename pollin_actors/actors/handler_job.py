"""One call of a handler's function: for one callback, or for a batch of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import Context
from typing import Any, NamedTuple, Protocol

from pollin_actors.actors.handler_spec import HandlerSpec
from pollin_actors.errors import InvalidValue
from pollin_actors.instruments import Call, Instrumentation
from pollin_actors.instruments.hub import Tokens
from pollin_actors.instruments.log_context import bind_call
from pollin_actors.otp.clock import Clock
from pollin_actors.records import Claim

__all__ = ["Held", "Job", "Outcome", "Report", "Runner"]


class Held:
    """A claim of a consumer, until its end is known."""

    __slots__ = ("answers", "claim", "lost", "renew_at", "tries", "until", "verdict")

    def __init__(self, claim: Claim, renew_at: float) -> None:
        self.claim = claim
        self.until = claim.until
        # When its lease is to be extended, in seconds on the runtime's clock.
        self.renew_at = renew_at
        # The lease is not ours any more: nothing that its function says counts.
        self.lost = False
        # What was sent about its end, once that is decided, and the answer that is waited for.
        self.verdict: Any = None
        self.answers: Any = None
        self.tries = 0


class Outcome(NamedTuple):
    """How a call has ended: with a result, or with an error."""

    ran: list[Held]
    """What the function was given: not what had been lost before."""
    result: Any
    error: BaseException | None


class Job:
    """A call of a function that is to be made, is being made, or has been."""

    __slots__ = ("_end", "held", "ran", "started_at", "task", "took")

    def __init__(self, held: list[Held]) -> None:
        self.held = held
        self.ran: list[Held] = []
        self.started_at: float | None = None
        # Seconds that the function has taken.
        self.took = 0.0
        self.task: Any = None
        self._end: dict[str, str] = {}

    def begin(self, clock: Clock) -> bool:
        """It is about to be run, by who took it out of the queue; False if nothing is left."""
        now = clock.time_ns()
        # A lease may have ended in the queue, as when this process was suspended.
        self.ran = [held for held in self.held if not held.lost and held.until > now]
        self.started_at = clock.monotonic()
        return bool(self.ran)

    def argument(self, spec: HandlerSpec) -> Any:
        """What the function is given."""
        if spec.batch is None:
            return self.ran[0].claim.callback
        return [held.claim.callback for held in self.ran]

    def finish(self) -> bool:
        """Its function has returned; False if it was given up before."""
        return self._end.setdefault("end", "finished") == "finished"

    def give_up(self) -> bool:
        """It takes too long; False if its function has returned just now."""
        return self._end.setdefault("end", "given up") == "given up"


Report = Callable[[Job, Outcome], object]
"""Told of each call that has ended and was not given up; on the thread that made it."""


class Runner(Protocol):
    """Runs the jobs of one incarnation of a consumer. Only ``close`` may come from elsewhere."""

    def submit(self, jobs: list[Job], outstanding: int) -> None:
        """Run these, as soon as there is room.

        Args:
            jobs: in their order.
            outstanding: how many were submitted and are not known to have ended, these included.
        """
        ...

    def give_back(self) -> list[Job]:
        """Take out what has not begun."""
        ...

    def abandon(self, job: Job) -> None:
        """It was given up: others get its place."""
        ...

    def close(self) -> None:
        """Begin nothing more. What runs goes on, and nobody hears of it."""
        ...


def _begin(spec: HandlerSpec, job: Job, instruments: Instrumentation) -> tuple[Call, Tokens] | None:
    """What is done before a call, in the context that its function finds."""
    claims = [held.claim for held in job.ran]
    bind_call(spec.name, claims)
    if not instruments.called_by:
        return None
    begun = Call(spec.name, spec.endpoint_id, claims)
    return begun, instruments.calling(begun)


def _end(begun: tuple[Call, Tokens], outcome: Outcome, instruments: Instrumentation) -> None:
    """What is done after it, in the same context."""
    instruments.called(begun[1], begun[0], outcome.result, outcome.error)


def call(
    spec: HandlerSpec, job: Job, context: Context, clock: Clock, instruments: Instrumentation
) -> Outcome:
    """Call a function that is no coroutine, in a context of its own; nothing is raised."""
    if not job.begin(clock):
        return Outcome(job.ran, None, None)
    begun = None
    try:
        begun = context.run(_begin, spec, job, instruments)
        result = context.run(spec.function, job.argument(spec))
        if inspect.iscoroutine(result):
            result.close()
            raise InvalidValue(
                "handler", "a result", "a coroutine", "make it an async def, which is awaited"
            )
    except BaseException as error:
        outcome = Outcome(job.ran, None, error)
    else:
        outcome = Outcome(job.ran, result, None)
    assert job.started_at is not None
    job.took = clock.monotonic() - job.started_at
    if begun is not None:
        context.run(_end, begun, outcome, instruments)
    return outcome


async def acall(spec: HandlerSpec, job: Job, clock: Clock, instruments: Instrumentation) -> Outcome:
    """Await a function's coroutine, in the task's own context; nothing is raised, whatever it
    raises."""
    if not job.begin(clock):
        return Outcome(job.ran, None, None)
    begun = None
    try:
        begun = _begin(spec, job, instruments)
        outcome = Outcome(job.ran, await spec.function(job.argument(spec)), None)
    except BaseException as error:
        outcome = Outcome(job.ran, None, error)
    assert job.started_at is not None
    job.took = clock.monotonic() - job.started_at
    if begun is not None:
        _end(begun, outcome, instruments)
    return outcome
