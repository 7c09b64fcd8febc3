"""What a seed stands for: endpoints, handlers and how much goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from pollin_actors import Endpoint
from pollin_actors.otp import Backoff

__all__ = ["PHASES", "HandlerPlan", "Plan"]

PHASES = ("received", "checked", "processed", "failed")
FOREVER = 10 * 365 * 86_400.0


@dataclass(frozen=True)
class HandlerPlan:
    """One handler."""

    name: str
    endpoint: str
    phase: str
    kind: str
    """``sync`` or ``async``."""
    options: dict[str, Any]

    @property
    def then(self) -> str | None:
        then: str | None = self.options["then"]
        return then

    @property
    def timeout(self) -> float | None:
        timeout: float | None = self.options["timeout"]
        return timeout

    @property
    def max_attempts(self) -> int | None:
        attempts: int | None = self.options.get("max_attempts")
        return attempts


class Plan:
    """Everything that is decided beforehand.

    Args:
        seed: the same seed gives the same plan.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = random = Random(f"plan {seed}")
        self.backend = random.choice(["memory", "memory", "list", "sqlite"])
        self.nodes = random.choice([1, 2]) if self.backend == "sqlite" else 1
        self.rate = random.choice([0.0, 0.03, 0.1, 0.25])
        self.mistakes = random.choice([0.0, 0.1, 0.4])
        self.late = random.choice([0.0, 0.1, 0.3])
        self.steps = random.randint(8, 25)
        # How long the trouble lasts, and how often what happens.
        self.pace = random.choice([0.05, 0.5, 3.0])
        self.trouble = {
            what: random.choice([0.0, 0.0, 0.05, 0.2])
            for what in ("crash", "pause", "drain", "restart", "kill", "supervisor", "meddle")
        }
        self.mood = {
            what: random.choice([0.0, 0.03, 0.15])
            for what in ("raise", "retry", "discard", "advance", "exit", "hang", "slow", "child")
        }
        self.poll = random.choice([1.0, 5.0, 20.0])
        self.idle_after = random.choice([None, 2.0, 300.0])
        self.endpoints = [self._endpoint(f"e{n}") for n in range(random.choice([1, 1, 2]))]
        self.handlers = [plan for endpoint in self.endpoints for plan in self._handlers(endpoint)]

    @property
    def leases_hold(self) -> bool:
        """Whether no lease may run out: no process is killed, and the backend has no moods."""
        return not (self.rate or self.late or self.trouble["kill"])

    def consumed(self, endpoint: str) -> set[str]:
        """The phases in which nothing stays."""
        return {plan.phase for plan in self.handlers if plan.endpoint == endpoint}

    def most(self, endpoint: str, phase: str) -> int | None:
        """The fewest attempts after which one may be dead, whichever handler it had."""
        found = [
            plan.max_attempts
            for plan in self.handlers
            if (plan.endpoint, plan.phase) == (endpoint, phase) and plan.max_attempts is not None
        ]
        return min(found, default=None)

    def _endpoint(self, id: str) -> Endpoint:
        ttl = self._random.choice([0, 0, 20_000, 600_000])
        return Endpoint.new(PHASES, id=id, ttl=ttl, keep_for=FOREVER, dedup_for=FOREVER)

    def _handlers(self, endpoint: Endpoint) -> list[HandlerPlan]:
        draw, choice = self._random.random, self._random.choice
        chained = draw() < 0.5
        last = choice(["processed", None])
        dead = choice(["failed", "failed", None])
        plans = [self._handler(endpoint.id, "received", "checked" if chained else last, dead)]
        if chained:
            plans.append(self._handler(endpoint.id, "checked", last, dead))
        if draw() < 0.2:  # another one on the same phase
            plans.append(self._handler(endpoint.id, "received", plans[0].then, dead, "-too"))
        if dead is not None and draw() < 0.2:
            plans.append(self._handler(endpoint.id, "failed", choice(["processed", None]), None))
        return plans

    def _handler(
        self, endpoint: str, phase: str, then: str | None, dead: str | None, more: str = ""
    ) -> HandlerPlan:
        choice = self._random.choice
        kind = choice(["sync", "async"])
        options: dict[str, Any] = {
            "phase": None if phase == "received" and choice([True, False]) else phase,
            "then": then,
            "dead_letter": dead,
            "concurrency": choice([1, 2, 8]),
            "backoff": Backoff(first=choice([0.1, 1.0]), most=20.0, jitter=1.0),
            "timeout": choice([2.0, 20.0, 20.0, None]),
            "lease": choice([1.0, 5.0, 30.0]),
            "batch": choice([None, None, 1, 4]),
        }
        if dead is not None:
            options["max_attempts"] = choice([1, 3, 6])
        return HandlerPlan(f"{endpoint}-{phase}{more}", endpoint, phase, kind, options)
