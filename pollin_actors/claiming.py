"""The calls of the facade that claim callbacks, and say what becomes of claims."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable, Generator
from typing import Any

from pollin_actors.actors import CallbackActor, EndpointActor
from pollin_actors.actors.claim_keeper import cell_of
from pollin_actors.calls import Calls, failed, start_deadline
from pollin_actors.errors import ClaimLost, EndpointNotFound, InvalidValue
from pollin_actors.messages import Ack, ClaimSlice, Extend, Nack, Release
from pollin_actors.otp import Ref, ReplyFuture
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.otp.timers import Timer
from pollin_actors.otp.waiting import running_cell
from pollin_actors.records import Claim, Claims
from pollin_actors.resources import MAX_DEDUP_FOR_S
from pollin_actors.settings import DEFAULT_TIMEOUT

__all__ = ["ClaimCalls"]

DEFAULT_LEASE = 30.0
# A clock may be a little behind the timers: who waits for a time does not look too often.
SHORTEST_S = 0.001


class ClaimCalls(Calls):
    """``claim ack nack extend release discard``."""

    def claim(
        self,
        endpoint_id: str,
        *,
        phase: str | None = None,
        limit: int = 1,
        lease: float = DEFAULT_LEASE,
        wait: float | None = None,
        by: str = "",
        owner: Ref[Any] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> ReplyFuture[list[Claim]]:
        """Take callbacks to work on, oldest first, at least once: nobody else gets them meanwhile.

        Acknowledge each with ``ack`` before its lease ends, or ``extend`` it, or say with ``nack``
        that the work has failed: a callback whose lease ends is available again.

        What is claimed in a handler of an actor is kept for that actor: it goes back as a failed
        attempt as soon as the actor ends. If nobody waits for the reply any more when claims come,
        because the deadline has passed or the ``await`` was cancelled, they are released.

        Args:
            endpoint_id: whose.
            phase: only callbacks in this phase.
            limit: how many at most.
            lease: seconds for which the claims hold.
            wait: seconds to wait until there is something; None does not wait. The reply is an
                empty list after that time.
            by: who claims, for the history.
            owner: the ref of the actor that they are kept for.
            timeout: seconds until the deadline; those to ``wait`` come on top.

        Errors: ``UnknownPhase``.
        """
        if wait is not None and not _is_wait(wait):
            got = repr(wait)[:80]
            return failed(InvalidValue("wait", "seconds from 0 on, math.inf or None", got))
        mailbox = self._mailbox(endpoint_id)
        message = ClaimSlice(endpoint_id, phase, limit, lease, by)
        try:
            claiming = _Claiming(self, message, wait, timeout, _owner(owner))
        except InvalidValue as error:
            return failed(error)
        try:
            claiming.begin(mailbox)
            return claiming.reply
        except BaseException:
            claiming.abandon()
            raise

    def ack(
        self, claim: Claim, *, then: str | None = None, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[None]:
        """The work is done: the callback goes into the phase ``then``, or out of the queue.

        Errors: ``ClaimLost`` if the lease has ended, or the callback was moved or deleted;
        ``UnknownPhase``.
        """
        return self._end(Ack, claim, timeout, then=then)

    def nack(
        self,
        claim: Claim,
        *,
        retry_in: float = 0.0,
        reason: str = "",
        dead_letter: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> ReplyFuture[None]:
        """The work has failed: the callback is available again in ``retry_in`` seconds.

        With ``dead_letter`` this was the last attempt, and it goes into that phase instead. The
        reason is for the history. Errors: as those of ``ack``.
        """
        more = {"retry_in": retry_in, "reason": reason, "dead_letter": dead_letter}
        return self._end(Nack, claim, timeout, **more)

    def release(
        self, claim: Claim, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[None]:
        """Give a callback back as if it had not been claimed: no attempt is counted.

        Errors: ``ClaimLost``.
        """
        return self._end(Release, claim, timeout)

    def discard(
        self, claim: Claim, reason: str = "", *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[None]:
        """There is nothing to be done: the callback goes out of the queue, recorded as discarded.

        Errors: ``ClaimLost``.
        """
        return self._end(Ack, claim, timeout, discard=True, reason=reason)

    def extend(
        self,
        claim: Claim,
        *,
        lease: float = DEFAULT_LEASE,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> ReplyFuture[Claim]:
        """Let a claim hold until ``lease`` seconds from now; the reply is the claim with its new
        ``until``. Errors: ``ClaimLost``.
        """
        if error := _no_claim(claim):
            return error
        mailbox = self._mailbox(claim.endpoint_id)
        reply = mailbox.ask(Extend(claim.endpoint_id, claim.key, claim.token, lease), timeout)
        owner, keeper = self._keeper.owner_of(claim.token), self._keeper
        if owner is not None:
            ref = owner

            def keep(answer: ReplyFuture[int]) -> None:
                keeper.extended(ref, dataclasses.replace(claim, until=answer.get(timeout=0)))

            reply.add_done_callback(_unless_failed(keep))
        return reply.map(lambda until: dataclasses.replace(claim, until=until))

    def _end(
        self, kind: Callable[..., Any], claim: Claim, timeout: float | None, **more: Any
    ) -> ReplyFuture[None]:
        if error := _no_claim(claim):
            return error
        mailbox = self._mailbox(claim.endpoint_id)
        message = kind(claim.endpoint_id, claim.key, claim.token, **more)
        reply: ReplyFuture[None] = mailbox.ask(message, timeout)
        owner = self._keeper.owner_of(claim.token)
        if owner is not None:
            self._let_go(owner, claim.token, reply)
        return reply

    def _let_go(self, owner: Ref[Any], token: str, reply: ReplyFuture[None]) -> None:
        """Once the claim has ended; one that was not ended is still the actor's."""
        keeper = self._keeper

        def answered(answer: ReplyFuture[None]) -> None:
            try:
                answer.get(timeout=0)
            except (ClaimLost, EndpointNotFound):
                keeper.done(owner, token)
            except Exception:
                return
            else:
                keeper.done(owner, token)

        reply.add_done_callback(answered)

    def _release(self, claims: list[Claim]) -> None:
        """Give back what came too late; if that fails, their leases end."""
        for claim in claims:
            try:
                mailbox = self._mailbox(claim.endpoint_id)
            except Exception:
                return
            mailbox.ask(Release(claim.endpoint_id, claim.key, claim.token))


class _ClaimReply(ReplyFuture[list[Claim]]):
    """The reply to a claim: who is cancelled while awaiting it wants no claims any more."""

    def __init__(self, give_back: Callable[[list[Claim]], None]) -> None:
        super().__init__()
        self._give_back = give_back

    def _await_on_loop(self) -> Generator[Any, None, None]:
        try:
            yield from super()._await_on_loop()
        except (asyncio.CancelledError, GeneratorExit):
            if not self._fail(asyncio.CancelledError()) and self._outcome is not None:
                # They had come, and the event loop had not told yet.
                self._give_back(self._outcome[0] or [])
            raise


class _Claiming:
    """One claim on its way. Whoever brings news takes the next step: there is no thread.

    It watches first, then looks, then waits. A look that is under way when something changes is
    followed by another.
    """

    def __init__(
        self,
        calls: ClaimCalls,
        message: ClaimSlice,
        wait: float | None,
        timeout: float | None,
        owner: Ref[Any] | None,
    ) -> None:
        self.reply = _ClaimReply(self._give_back)
        self._calls = calls
        self._message = message
        self._wait = wait or None
        self._timeout = timeout
        self._owner = owner
        self._guard = Guard()
        self._looking = True
        # Whether something has changed since the look began; whether the time to wait is over.
        self._again = self._over = False
        self._unwatch: Callable[[], None] | None = None
        self._due: Timer | None = None
        self._end: Timer | None = None

    def begin(self, mailbox: Mailbox) -> None:
        timeout, wait = self._timeout, self._wait
        if wait is not None:
            timeout = None if timeout is None or math.isinf(wait) else timeout + wait
            self._unwatch = self._calls._changes.watch(self._message.endpoint_id, self._wake)
            assert mailbox.runtime is not None
            if not math.isinf(wait):
                self._end = mailbox.runtime.timers.call_later(wait, self._time_over)
            self.reply.add_done_callback(self._clear)
        start_deadline(self.reply, mailbox, "ClaimSlice", timeout)
        self._look()

    def abandon(self) -> None:
        """An interrupt: nobody was given the reply, so nothing may be claimed for it."""
        if not self.reply._fail(asyncio.CancelledError()) and self.reply._outcome is not None:
            self._give_back(self.reply._outcome[0] or [])
        self._clear(self.reply)

    # -- looking -----------------------------------------------------------------------------------

    def _look(self) -> None:
        while not self.reply.done():
            try:
                if self._owner is not None and not self._owner.is_alive():
                    raise self._owner._cell.dead("ended while it waited for a claim")
                mailbox = self._calls._mailbox(self._message.endpoint_id)
            except Exception as error:
                self.reply._fail(error)
                return
            answer = mailbox.ask(self._message, self._timeout)
            self.reply._via = answer
            if not answer.done():
                answer.add_done_callback(self._answered)
                return
            if not self._take(answer, mailbox):
                return

    def _answered(self, answer: ReplyFuture[Claims]) -> None:
        mailbox = self.reply._target
        assert mailbox is not None
        if self._take(answer, mailbox):
            self._look()

    def _take(self, answer: ReplyFuture[Claims], mailbox: Mailbox) -> bool:
        """Take an answer; whether to look again."""
        try:
            claims, next_at = answer.get(timeout=0)
        except Exception as error:
            self.reply._fail(self._calls._explain(self._message.endpoint_id, error))
            return False
        if claims:
            self._deliver(claims)
            return False
        if self._wait is not None:
            again = self._guard.run(self._rest, next_at, mailbox)
            if again is not None:
                return again
        self.reply._settle(([], None))
        return False

    def _deliver(self, claims: list[Claim]) -> None:
        if self._owner is not None:
            self._calls._keeper.kept(self._owner, claims, lapse=True)
        self.reply._settle((claims, None))
        outcome = self.reply._outcome
        # Not whether that was ours: an interrupt may have us called a second time.
        if outcome is None or outcome[0] is not claims:
            self._give_back(claims)

    def _give_back(self, claims: list[Claim]) -> None:
        if self._owner is not None:
            for claim in claims:
                self._calls._keeper.done(self._owner, claim.token)
        self._calls._release(claims)

    # -- waiting ------------------------------------------------

    def _rest(self, next_at: int | None, mailbox: Mailbox) -> bool | None:
        """Nothing is there: whether to look again, or None if the time is over. Guarded."""
        if self._over or self.reply.done():
            return None
        again, self._again = self._again, False
        if again:
            return True
        self._looking = False
        self.reply._via = None
        self._stop_timer()
        delay = self._delay(next_at, mailbox)
        if delay is not None:
            assert mailbox.runtime is not None
            self._due = mailbox.runtime.timers.call_later(delay, self._wake)
        return False

    def _begin_look(self) -> bool:
        if self._looking:
            self._again = True
            return False
        self._looking = True
        return True

    def _delay(self, next_at: int | None, mailbox: Mailbox) -> float | None:
        poll = self._calls._poll_interval
        if next_at is None or mailbox.runtime is None:
            return poll
        delay = max((next_at - mailbox.runtime.clock.time_ns()) / 1e9, SHORTEST_S)
        return delay if poll is None else min(delay, poll)

    def _wake(self) -> None:
        try:
            if not self.reply.done() and self._guard.run(self._begin_look):
                self._look()
        except BaseException:
            # An interrupt of whoever made the change: it must not cost us ours.
            self._guard.run(self._look_later)
            raise

    def _look_later(self) -> None:
        self._looking = False
        mailbox = self.reply._target
        if mailbox is not None and mailbox.runtime is not None:
            self._due = mailbox.runtime.timers.call_later(SHORTEST_S, self._wake)

    def _time_over(self) -> None:
        if self._guard.run(self._note_end):
            self.reply._settle(([], None))

    def _note_end(self) -> bool:
        """Whether nothing is under way that will find out."""
        self._over = True
        return not self._looking

    def _stop_timer(self) -> None:
        due, self._due = self._due, None
        if due is not None:
            due.cancel()

    def _clear(self, _: ReplyFuture[Any]) -> None:
        if self._unwatch is not None:
            self._unwatch()
        if self._end is not None:
            self._end.cancel()
        self._guard.run(self._stop_timer)


def _owner(given: Ref[Any] | None) -> Ref[Any] | None:
    """The actor that claims are kept for: the one that was given, or whose handler calls."""
    if given is not None:
        return cell_of(given).ref
    cell = running_cell()
    if cell is None or cell.supervises:
        return None
    # Callbacks of futures may run in a turn of ours: that is nobody's claim.
    inner = issubclass(cell.actor_class, CallbackActor | EndpointActor)
    return None if inner else cell.ref


def _is_wait(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= MAX_DEDUP_FOR_S or value == math.inf


def _no_claim(value: object) -> ReplyFuture[Any] | None:
    if isinstance(value, Claim):
        return None
    got = f"a {type(value).__name__}"
    return failed(InvalidValue("claim", "a Claim, as claim() gives it", got))


def _unless_failed(
    callback: Callable[[ReplyFuture[Any]], None],
) -> Callable[[ReplyFuture[Any]], None]:
    def settled(future: ReplyFuture[Any]) -> None:
        try:
            future.get(timeout=0)
        except Exception:
            return
        callback(future)

    return settled
