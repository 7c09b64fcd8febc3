"""What the tests of handlers share: short words and a backend that fails now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from pollin_actors import Application, BackendUnavailable, Callback, Endpoint, Request
from pollin_actors.backends.interface import Backend
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import Ack, ClaimSlice, Extend, Nack, Release
from pollin_actors.otp import ReplyFuture, Runtime
from pollin_actors.otp.simulated_loop import SimulatedLoop
from pollin_actors.records import Record

CLAIMING = (ClaimSlice, Ack, Nack, Extend, Release)

PHASES = ["received", "processed", "failed"]


def orders(**fields: Any) -> Endpoint:
    """The endpoint that most tests use."""
    return Endpoint.new(PHASES, id="orders", ttl=0, **fields)


async def pass_time(seconds: float, result: Any = None) -> Any:
    """Wait in virtual time; tests wait in no other."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    over = loop.create_future()
    timer = loop.call_later(seconds, over.set_result, result)
    try:
        return await over
    finally:
        timer.cancel()


def push(app: Application, *ids: str, **fields: Any) -> None:
    """Push callbacks of these ids."""
    for key in ids:
        app.callbacks.push("orders", Callback.new(Request([], b"{}"), id=key, **fields)).get()


def phases(app: Application) -> dict[str, int]:
    """How many callbacks are in which phase."""
    counts = {phase: app.callbacks.count("orders", phase=phase).get() for phase in PHASES}
    return {phase: count for phase, count in counts.items() if count}


def history(app: Application, key: str) -> list[Record]:
    """All that has happened to a callback."""
    return app.callbacks.history("orders", key=key).get()


def story(app: Application, key: str) -> list[tuple[str, int]]:
    """The same in short."""
    return [(record.kind.value, record.attempt) for record in history(app, key)]


def consumer(app: Application, name: str) -> Any:
    """The actor behind a handler, as it is now; None while it is being restarted."""
    run = app.handlers._run
    assert run is not None
    ref = run.registry.whereis(name)
    return ref._cell.actor if ref is not None else None


class Crash(Exception):
    """A mistake inside a consumer."""


def crash(app: Application, name: str) -> None:
    """Have the actor behind a handler crash in its next turn."""
    actor = consumer(app, name)

    def fall() -> None:
        raise Crash

    if actor is not None:
        actor._inbox.put(fall)


class Flaky:
    """Fails now and then, before or after it has done what it was asked; and answers late.

    Args:
        seed: of its moods.
        rate: how often it fails, between 0 and 1.
        late: how often it answers by a future, settled after up to a second.
        inner: what does the work.
    """

    shared = durable = False

    def __init__(
        self, seed: int, rate: float = 0.0, late: float = 0.0, inner: Backend | None = None
    ) -> None:
        self._inner = inner if inner is not None else MemoryBackend()
        self.open = self._inner.open
        self.close = self._inner.close
        self._random = Random(seed)
        self.rate = rate
        self.late = late
        self.runtime: Runtime | None = None
        self.refuse: Callable[[Any], Exception | None] = lambda message: None

    def execute(self, message: Any) -> Any:
        if not isinstance(message, CLAIMING):
            return self._inner.execute(message)
        refused = self.refuse(message)
        if refused is not None:
            raise refused
        draw = self._random.random
        if draw() < self.late and self.runtime is not None:
            return self._later(message, draw())
        return self._fails(message)

    def _fails(self, message: Any) -> Any:
        draw = self._random.random
        if draw() >= self.rate:
            return self._inner.execute(message)
        if draw() < 0.5:
            self._inner.execute(message)  # it was stored, and nobody is told
        raise BackendUnavailable("flaky", "it is in that mood")

    def _later(self, message: Any, delay: float) -> ReplyFuture[Any]:
        assert self.runtime is not None
        reply: ReplyFuture[Any] = ReplyFuture()

        def settle() -> None:
            try:
                reply._settle((self._fails(message), None))
            except Exception as error:
                reply._fail(error)

        self.runtime.timers.call_later(delay, settle)
        return reply
