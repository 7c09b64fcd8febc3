"""The claims of a consumer: kept while they are worked on, and answered for, each once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import structlog

from pollin_actors.actors.handler_job import Held
from pollin_actors.actors.handler_results import Verdict, failed, reason_of
from pollin_actors.actors.handler_spec import HandlerSpec
from pollin_actors.actors.inbox import Inbox
from pollin_actors.errors import (
    BackendUnavailable,
    ClaimLost,
    EndpointNotFound,
    NotRunning,
    PollinError,
    UnknownPhase,
)
from pollin_actors.instruments import Instrumentation
from pollin_actors.instruments.seldom import Seldom
from pollin_actors.messages import Ack, Extend, Nack, Release
from pollin_actors.otp import Ref, ReplyFuture, Runtime
from pollin_actors.otp.errors import OtpError
from pollin_actors.otp.last_words import OWN
from pollin_actors.otp.timers import Timer
from pollin_actors.records import Claim

__all__ = ["ANSWER_WITHIN", "HeldClaims", "Keeper", "again_in", "is_passing"]

log = structlog.get_logger("pollin_actors")

ANSWER_WITHIN = 5.0
"""Seconds that a message may wait in an endpoint's mailbox; then it is sent again."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds between two tries, where a backend fails."""

MOST_LINES = 20
"""Lines of one kind that the log gets in a second."""

PASSING = (BackendUnavailable, NotRunning, OtpError)
"""What may be over a moment later: besides a backend's failures, actors that crash, mailboxes
that are full, deadlines."""


class Keeper(Protocol):
    """Gives back what an actor has claimed, when that actor ends."""

    def kept(self, ref: Ref[Any], claims: Iterable[Claim]) -> None:
        """An actor has these claims; if it is dead already, they go back at once."""
        ...

    def done(self, ref: Ref[Any], token: str) -> None:
        """It has this one no more."""
        ...


class HeldClaims:
    """What one incarnation of a consumer has claimed.

    All of it is used in the actor's turns only.

    Args:
        spec: the handler.
        ref: the incarnation.
        ask: sends to the endpoint's actor.
        keeper: gives back what is left at the incarnation's end.
        runtime: clock, timers and chance.
        inbox: where answers are waited for.
        instruments: are told what has become of each.
    """

    def __init__(
        self,
        spec: HandlerSpec,
        ref: Ref[Any],
        ask: Callable[[Any], ReplyFuture[Any]],
        keeper: Keeper,
        runtime: Runtime,
        inbox: Inbox,
        instruments: Instrumentation,
    ) -> None:
        self._spec = spec
        self._instruments = instruments
        self._ref = ref
        self._ask = ask
        self._keeper = keeper
        self._runtime = runtime
        self._inbox = inbox
        # In the order in which their leases are to be extended.
        self._held: dict[str, Held] = {}
        self._timer: Timer | None = None
        # Which timer it is: one that was cancelled may lie in the inbox already.
        self._timer_number = 0
        self._timer_at = 0.0
        self._seldom = Seldom(MOST_LINES)

    def __len__(self) -> int:
        return len(self._held)

    def take(self, claims: list[Claim]) -> list[Held]:
        """These were claimed just now."""
        renew_at = self._runtime.clock.monotonic() + self._spec.lease / 2
        taken = []
        for claim in claims:
            held = self._held[claim.token] = Held(claim, renew_at)
            taken.append(held)
        self._set_timer()
        return taken

    def say(self, level: str, event: str, claim: Claim, **more: Any) -> None:
        """Log something about a callback, but never what is in it; not too much of one kind.

        A handler that fails with everything must not fill the log: so many lines a second and
        handler, and how many were left out (``more``); the history has them all.
        """
        left_out = self._seldom.admit(event, self._runtime.clock.monotonic())
        if left_out is None:
            return
        with contextlib.suppress(*OWN):  # the host's structlog may fail
            getattr(log, level)(
                event,
                handler=self._spec.name,
                endpoint_id=claim.endpoint_id,
                callback_id=claim.callback.id,
                attempt=claim.attempt,
                more=left_out,
                **more,
            )

    # -- their ends --------------------------------------------------------------------------------

    def settle(self, held: Held, verdict: Verdict) -> None:
        """Say what has become of one, again while the backend fails and the lease runs."""
        if held.lost or held.verdict is not None:
            return
        if verdict.event is not None:
            self.say(
                "warning" if verdict.event == "handler.failed" else "error",
                verdict.event,
                held.claim,
                reason=verdict.kind,
                **({"at": verdict.where} if verdict.where else {}),
            )
        held.verdict = verdict
        self._send(held, verdict.message)

    def release(self, held: Held) -> None:
        """Work on it has not begun: give it back."""
        if held.lost or held.verdict is not None:
            return
        claim = held.claim
        held.verdict = message = Release(claim.endpoint_id, claim.callback.id, claim.token)
        self._send(held, message)

    def forget(self, held: Held) -> None:
        """It is ours no more, whatever becomes of it."""
        token = held.claim.token
        if self._held.pop(token, None) is not None:
            self._keeper.done(self._ref, token)

    def lose(self, held: Held) -> None:
        """Its lease has ended before we were done."""
        if held.lost:
            return
        held.lost = True
        self.say("warning", "handler.claim_lost", held.claim)
        self._tell(held, "lost")
        self.forget(held)

    def _send(self, held: Held, message: Any) -> None:
        held.answers = reply = self._ask(message)
        reply.add_done_callback(partial(self._inbox.put, self._answered, held, message))

    def _answered(self, held: Held, message: Any, reply: ReplyFuture[Any]) -> None:
        if held.answers is not reply:
            return  # it may be told twice, if the first time was interrupted
        held.answers = None
        try:
            reply.get(timeout=0)
        except ClaimLost:
            # After a try whose outcome nobody knows, it may have been our own.
            if held.tries:
                self._tell(held, _outcome(message))
                self.forget(held)
            else:
                self.lose(held)
        except EndpointNotFound:
            self.forget(held)
        except Exception as error:
            if is_passing(error):
                self._try_again(held, message)
            else:
                self._refused(held, message, error)
        else:
            self._tell(held, _outcome(message))
            self.forget(held)

    def _tell(self, held: Held, outcome: str) -> None:
        if self._instruments.settled_by:
            self._instruments.settled(self._spec.name, held.claim, outcome)

    def _try_again(self, held: Held, message: Any) -> None:
        held.tries += 1
        pause = again_in(held.tries)
        if self._runtime.clock.time_ns() + round(pause * 1e9) >= held.until:
            self.lose(held)
        else:
            self._inbox.later(pause, self._send, held, message)

    def _refused(self, held: Held, message: Any, error: Exception) -> None:
        """The backend does not take it: the attempt has failed, unless that is what we said."""
        self.say(
            "error",
            "handler.refused",
            held.claim,
            message=type(message).__name__,
            reason=type(error).__name__,
        )
        plain = isinstance(message, Nack) and message.dead_letter is None
        if plain or isinstance(message, Release):
            self.forget(held)  # its lease runs out
            return
        bury = isinstance(message, Ack) and not _names(error, self._spec.dead_letter)
        verdict = failed(
            self._spec,
            held.claim,
            reason_of(error),
            type(error).__name__,
            self._runtime.random.random(),
            bury=bury,
        )
        held.verdict = None
        self.settle(held, verdict)

    # -- their leases ------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        if not self._held:
            return
        at = next(iter(self._held.values())).renew_at
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._inbox.cancel(self._timer)
        self._timer_number += 1
        self._timer_at = at
        delay = at - self._runtime.clock.monotonic()
        self._timer = self._inbox.later(delay, self._renew, self._timer_number)

    def _renew(self, number: int) -> None:
        """Extend the leases that are half over."""
        if number != self._timer_number:
            return
        self._timer = None
        now = self._runtime.clock.monotonic()
        # A little early rather than a timer for each.
        until = now + self._spec.lease / 20
        while self._held:
            held = next(iter(self._held.values()))
            if held.renew_at > until:
                break
            self._renew_one(held, now)
        self._set_timer()

    def _renew_one(self, held: Held, now: float) -> None:
        left = (held.until - self._runtime.clock.time_ns()) / 1e9
        if held.verdict is not None and left <= 0:
            self.lose(held)  # no answer came in time
            return
        self._held[held.claim.token] = self._held.pop(held.claim.token)
        if held.verdict is not None:
            held.renew_at = now + max(left, self._spec.lease / 10)
            self._in_order(held)
            return
        held.renew_at = now + self._spec.lease / 2
        claim = held.claim
        message = Extend(claim.endpoint_id, claim.callback.id, claim.token, self._spec.lease)
        reply = self._ask(message)
        reply.add_done_callback(partial(self._inbox.put, self._extended, held))

    def _extended(self, held: Held, reply: ReplyFuture[Any]) -> None:
        if held.claim.token not in self._held:
            return
        try:
            held.until = reply.get(timeout=0)
        except ClaimLost:
            if held.verdict is None:
                self.lose(held)  # else the answer to that will tell
        except Exception:
            # Once more soon: the lease may hold, and if not, that is found out.
            held.renew_at = self._runtime.clock.monotonic() + self._spec.lease / 10
            self._in_order(held)
            self._set_timer()

    def _in_order(self, held: Held) -> None:
        """Its time is not the last: sort. This happens only where something fails."""
        order = sorted(self._held.items(), key=lambda item: item[1].renew_at)
        self._held = dict(order)


def is_passing(error: BaseException) -> bool:
    """Whether the same message may succeed a little later."""
    # What is not of our families is a mistake in a backend, which has crashed its actor.
    return isinstance(error, PASSING) or not isinstance(error, PollinError)


def again_in(tries: int) -> float:
    """Seconds until the next try, after so many."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(tries - 1, 16))


def _outcome(message: Any) -> str:
    """What a message that was carried out has made of a claim, as instruments call it."""
    if isinstance(message, Ack):
        return "discarded" if message.discard else "acknowledged"
    if isinstance(message, Nack):
        return "failed" if message.dead_letter is None else "dead"
    return "released"


def _names(error: Exception, phase: str | None) -> bool:
    return isinstance(error, UnknownPhase) and error.phase == phase
