"""The calls of a consumer: those that wait, those that run, and what becomes of each."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

import structlog

from pollin_actors.actors.consumer_claims import HeldClaims
from pollin_actors.actors.handler_job import Held, Job, Outcome, Runner
from pollin_actors.actors.handler_loop import LoopRunner
from pollin_actors.actors.handler_results import Verdict, failed, judge, reason_of, where_of
from pollin_actors.actors.handler_spec import HandlerSpec
from pollin_actors.actors.handler_threads import TaskRunner, ThreadRunner
from pollin_actors.actors.inbox import Inbox
from pollin_actors.errors import InvalidValue
from pollin_actors.instruments import Call
from pollin_actors.otp.last_words import OWN

if TYPE_CHECKING:
    from pollin_actors.actors.consumer import Surroundings

__all__ = ["Calls"]

log = structlog.get_logger("pollin_actors")

AHEAD = 0.05
"""Seconds of work that may be claimed before a worker is free: what is claimed and has not begun
is kept from other processes."""

MOST_AHEAD = 32
"""Calls at most that wait for each worker, however quick they are."""

MOST_CLAIMED = 1_000
"""Callbacks at most in one claim."""

LEAST_DELAY = 0.001
"""Seconds between two looks at what takes too long."""


class Calls:
    """The calls that one incarnation of a consumer has made of its function, or is about to.

    All of it is used in the consumer's turns only.

    Args:
        spec: the handler.
        around: what consumers share.
        claims: the consumer's.
        inbox: the consumer's.
    """

    def __init__(
        self, spec: HandlerSpec, around: Surroundings, claims: HeldClaims, inbox: Inbox
    ) -> None:
        self._spec = spec
        self._runtime = around.runtime
        self._instruments = around.instruments
        self._claims = claims
        self._inbox = inbox
        self._jobs: dict[Job, None] = {}
        # Seconds that a call takes, of late; None: not known yet.
        self._usual: float | None = None
        self._deadline_set = False
        self.runner = self._make_runner(around)

    def _make_runner(self, around: Surroundings) -> Runner:
        report = partial(self._inbox.put, self.ended)
        args = (self._spec, self._runtime, around.context, report, around.instruments)
        if self._spec.is_async:
            return LoopRunner(*args, around.loop.get())
        if self._runtime.scheduler.simulated:
            return TaskRunner(*args)
        return ThreadRunner(*args)

    def room(self) -> int:
        """How many callbacks to claim now."""
        spec, under_way = self._spec, len(self._jobs)
        ahead = 0
        if self._usual is not None and self._usual < AHEAD:
            each = min(MOST_AHEAD, round(AHEAD / max(self._usual, 1e-6)))
            ahead = each * spec.concurrency
        free = spec.concurrency + ahead - under_way
        # Few at a time would cost a claim for each: not before half of what may wait is gone.
        if free < max(1, ahead // 2):
            return 0
        return min(MOST_CLAIMED, free * (spec.batch or 1))

    def begin(self, taken: list[Held]) -> None:
        """Have these worked on."""
        taken = [held for held in taken if not self._is_over(held)]
        size = self._spec.batch or 1
        jobs = [Job(taken[i : i + size]) for i in range(0, len(taken), size)]
        if jobs:
            self._jobs.update(dict.fromkeys(jobs))
            self.runner.submit(jobs, len(self._jobs))
            if self._spec.timeout is not None and not self._deadline_set:
                self._set_deadline(self._spec.timeout)

    def _is_over(self, held: Held) -> bool:
        """Whether its attempts were used up before, by some that never came to an end."""
        spec = self._spec
        if spec.max_attempts is None or held.claim.attempt <= spec.max_attempts:
            return False
        reason = f"no attempt left after {spec.max_attempts}"
        self._claims.settle(held, failed(spec, held.claim, reason, "no attempt left", 0.0))
        return True

    def ended(self, job: Job, outcome: Outcome) -> None:
        if job not in self._jobs:
            return
        del self._jobs[job]
        if len(outcome.ran) < len(job.held):
            for held in job.held:
                if held not in outcome.ran:
                    self._claims.lose(held)
        if outcome.ran:
            took = min(job.took, 1.0)
            usual = self._usual
            self._usual = took if usual is None else usual + (took - usual) * 0.1
            self._tell(outcome.ran, job.took, "returned" if outcome.error is None else "raised")
            for held, verdict in self._verdicts(outcome):
                self._claims.settle(held, verdict)

    def _tell(self, ran: list[Held], seconds: float, outcome: str) -> None:
        if self._instruments.handled_by:
            spec = self._spec
            call = Call(spec.name, spec.endpoint_id, [held.claim for held in ran])
            self._instruments.handled(call, seconds, outcome)

    def _verdicts(self, outcome: Outcome) -> list[tuple[Held, Verdict]]:
        spec, ran, result, error = self._spec, outcome.ran, outcome.result, outcome.error
        draw = self._runtime.random.random
        if error is None and spec.batch is None:
            # What most calls come to.
            return [(ran[0], judge(spec, ran[0].claim, result, draw()))]
        results = [result] * len(ran)
        if error is None and isinstance(result, list):
            if len(result) == len(ran):
                results = result
            else:
                expected = f"one result for all, or a list of {len(ran)}"
                error = InvalidValue("handler's result", expected, f"a list of {len(result)}")
        if error is None:
            return [
                (held, judge(spec, held.claim, result, draw()))
                for held, result in zip(ran, results, strict=True)
            ]
        reason, kind, where = reason_of(error), type(error).__name__, where_of(error)
        verdicts = [failed(spec, held.claim, reason, kind, draw()) for held in ran]
        return [(h, v._replace(where=where)) for h, v in zip(ran, verdicts, strict=True)]

    # -- what takes too long -----------------------------------------------------------------------

    def _set_deadline(self, delay: float) -> None:
        self._deadline_set = True
        self._inbox.later(delay, self._check_deadlines)

    def _check_deadlines(self) -> None:
        timeout = self._spec.timeout
        assert timeout is not None
        now = self._runtime.clock.monotonic()
        first = now
        late = []
        for job in self._jobs:
            began = job.started_at
            if began is None:
                continue
            if began + timeout <= now:
                late.append(job)
            else:
                first = min(first, began)
        for job in late:
            self._time_out(job, timeout)
        self._deadline_set = False
        if self._jobs:
            self._set_deadline(max(first + timeout - now, LEAST_DELAY))

    def _time_out(self, job: Job, timeout: float) -> None:
        if not job.give_up():
            return  # it has ended just now, and is reported
        del self._jobs[job]
        self.runner.abandon(job)
        self._tell(job.ran, timeout, "timed_out")
        reason = f"timed out after {timeout:g} s"
        for held in job.ran:
            self._claims.say("warning", "handler.timed_out", held.claim, timeout=timeout)
            draw = self._runtime.random.random()
            self._claims.settle(held, failed(self._spec, held.claim, reason, "timed out", draw))
        if not self._spec.is_async:
            with contextlib.suppress(*OWN):  # the host's structlog may fail
                log.error(
                    "handler.abandoned",
                    handler=self._spec.name,
                    endpoint_id=self._spec.endpoint_id,
                    callbacks=len(job.ran),
                )

    def give_back(self) -> None:
        """What has not begun is not ours any more."""
        for job in self.runner.give_back():
            if self._jobs.pop(job, self) is None:
                for held in job.held:
                    self._claims.release(held)
