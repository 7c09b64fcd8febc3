"""A backend with moods: it fails before or after it has done its work, or answers late."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

from pollin_actors import BackendUnavailable, PollinError
from pollin_actors.messages import CALLBACK_OPERATIONS, ClaimSlice
from pollin_actors.otp import ReplyFuture, Runtime
from pollin_actors.records import Claim, Claims

__all__ = ["Crash", "Moody"]


class Crash(Exception):
    """A mistake in an actor, a supervisor or a backend."""


class Moody:
    """Hands messages to another backend, and has moods.

    Args:
        inner: does the work.
        random: chooses.
        runtime: its timers are used.
        may_crash: asked before the actor of all endpoints is crashed; it must not happen often.
        claimed: told of each claim that was stored.
    """

    def __init__(
        self,
        inner: Any,
        random: Random,
        runtime: Runtime,
        may_crash: Callable[[], bool],
        claimed: Callable[[Claim], None],
    ) -> None:
        self.inner = inner
        self.shared = inner.shared
        self.durable = inner.durable
        self._random = random
        self._runtime = runtime
        self._may_crash = may_crash
        self._claimed = claimed
        # How often it fails, how often of these by a mistake, and how often it answers late.
        self.rate = self.mistakes = self.late = 0.0
        # Its process was killed: nothing reaches the store any more.
        self.dead = False

    def open(self, time_ns: Callable[[], int]) -> None:
        self.inner.open(time_ns)

    def close(self) -> None:
        self.inner.close()

    def execute(self, message: Any) -> Any:
        if self.dead:
            raise self._unavailable("its process was killed")
        if self._random.random() < self.late:
            return self._later(message)
        return self._fail_perhaps(message)

    def _unavailable(self, reason: str) -> BackendUnavailable:
        return BackendUnavailable("moody", reason)

    def _fail_perhaps(self, message: Any) -> Any:
        draw = self._random.random
        if draw() >= self.rate:
            return self._execute(message)
        error: Exception = self._unavailable("it is in that mood")
        if draw() < self.mistakes and (type(message) in CALLBACK_OPERATIONS or self._may_crash()):
            error = Crash("in the backend")
        if draw() < 0.5:
            raise error
        reply = self._execute(message)  # it is stored, and nobody is told
        if not isinstance(reply, ReplyFuture):
            raise error
        failing: ReplyFuture[Any] = ReplyFuture()
        reply.add_done_callback(lambda _: failing._fail(error))
        return failing

    def _execute(self, message: Any) -> Any:
        reply = self.inner.execute(message)
        if isinstance(message, ClaimSlice):
            if isinstance(reply, ReplyFuture):
                reply.add_done_callback(self._told)
            else:
                self._note(reply)
        return reply

    def _told(self, reply: ReplyFuture[Claims]) -> None:
        with suppress(PollinError):
            self._note(reply.get(timeout=0))

    def _note(self, reply: Claims) -> None:
        for claim in reply.claims:
            self._claimed(claim)

    def _later(self, message: Any) -> ReplyFuture[Any]:
        draw = self._random.random
        delay = draw() * self._random.choice([0.1, 1.0, 1.0, 8.0])
        reply: ReplyFuture[Any] = ReplyFuture()
        if draw() < 0.5:  # late in its work, or only with its answer
            self._after(delay, lambda: self._pass_on(self._answer(message), reply))
        else:
            answer = self._answer(message)
            self._after(delay, lambda: self._pass_on(answer, reply))
        return reply

    def _after(self, delay: float, action: Callable[[], None]) -> None:
        self._runtime.timers.call_later(delay, action)

    def _answer(self, message: Any) -> ReplyFuture[Any]:
        answer: ReplyFuture[Any] = ReplyFuture()
        try:
            if self.dead:
                raise self._unavailable("its process was killed")
            value = self._fail_perhaps(message)
        except Exception as error:
            answer._fail(error)
            return answer
        if isinstance(value, ReplyFuture):
            return value
        answer._settle((value, None))
        return answer

    def _pass_on(self, answer: ReplyFuture[Any], reply: ReplyFuture[Any]) -> None:
        def settled(answer: ReplyFuture[Any]) -> None:
            try:
                reply._settle((answer.get(timeout=0), None))
            except Exception as error:
                reply._fail(error)

        answer.add_done_callback(settled)
