"""The actor behind a handler: it claims callbacks, has them worked on, and answers for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import structlog

from pollin_actors.actors.changes import Changes
from pollin_actors.actors.consumer_calls import Calls
from pollin_actors.actors.consumer_claims import (
    ANSWER_WITHIN,
    HeldClaims,
    Keeper,
    again_in,
    is_passing,
)
from pollin_actors.actors.handler_loop import HandlerLoop
from pollin_actors.actors.handler_spec import HandlerSpec
from pollin_actors.actors.inbox import Bunch, Inbox
from pollin_actors.errors import EndpointNotFound, InvalidValue, PollinError, UnknownPhase
from pollin_actors.instruments import Instrumentation
from pollin_actors.messages import ClaimSlice, Consume, FindEndpoint
from pollin_actors.otp import Actor, Later, ReplyFuture, Runtime
from pollin_actors.otp.last_words import OWN
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.otp.timers import Timer
from pollin_actors.records import Claims
from pollin_actors.resources import Endpoint

__all__ = ["ConsumerActor", "Control", "Drain", "Refresh", "Surroundings"]

log = structlog.get_logger("pollin_actors")

LEAST_DELAY = 0.001
"""Seconds until the next look, where a backend names a time that has come."""


class Refresh(NamedTuple):
    """Ask a consumer to look at its control again."""


class Drain(NamedTuple):
    """Ask a consumer to claim nothing more; the reply, None, comes once nothing is under way."""


class Control:
    """What outlives the incarnations of a consumer: what is wanted of it, and how it stands."""

    def __init__(self, spec: HandlerSpec) -> None:
        self.spec = spec
        self.paused = False
        self.attached = False
        """Whether its endpoint is there and has the phases that it needs."""
        self.held = 0
        """How many callbacks it has claimed."""


@dataclass(slots=True)
class Surroundings:
    """What the consumers of one run of an application share."""

    runtime: Runtime
    endpoints: Mailbox
    """The endpoint actor's."""
    find: Callable[[str], Mailbox]
    """The mailbox of an endpoint's own actor."""
    changes: Changes
    keeper: Keeper
    poll: float | None
    """Seconds between two looks, where other processes use the same store; else None."""
    loop: HandlerLoop
    context: Context
    """What functions find as their context variables; each gets a copy."""
    instruments: Instrumentation
    """Are told of calls and what comes of them."""
    stopping: bool = False
    """The application is about to stop: nothing more is claimed."""


class ConsumerActor(Actor):
    """Consumes one phase of one endpoint.

    It never waits: what takes time comes back as a call in its inbox. There is at most one claim
    under way; everything else is as many as there is room for.

    Args:
        control: the handler, and whether it is paused.
        around: what it shares with the other consumers.
    """

    never_blocks: ClassVar[bool] = True
    takes_proxies: ClassVar[bool] = False
    replies: ClassVar[tuple[type[Exception], ...]] = (PollinError,)
    ignored_in_tell: ClassVar[tuple[type[Exception], ...]] = (PollinError,)

    def __init__(self, control: Control, around: Surroundings) -> None:
        super().__init__()
        self._control = control
        self._spec = control.spec
        self._around = around
        self._runtime = around.runtime
        self._phase = self._spec.phase
        self._attached = False
        # The answer that is waited for before anything else is claimed.
        self._asked: ReplyFuture[Any] | None = None
        self._failures = 0
        # Whether there may be something that was not there at the last look.
        self._stale = True
        self._wake_at: float | None = None
        self._wake: Timer | None = None
        self._missed: list[str] = []
        self._drains: list[ReplyFuture[None]] = []
        self._inbox: Inbox
        self._claims: HeldClaims
        self._calls: Calls

    # -- beginning and end -------------------------------------------------------------------------

    def on_start(self) -> None:
        cell, around, spec = self._cell, self._around, self._spec
        self._inbox = inbox = Inbox(cell, self._runtime)
        self._claims = HeldClaims(
            spec,
            self._cell.ref,
            self._ask,
            around.keeper,
            self._runtime,
            inbox,
            around.instruments,
        )
        self._calls = Calls(spec, around, self._claims, inbox)
        runner = self._calls.runner
        unwatch = around.changes.watch(spec.endpoint_id, self._changed)
        control = self._control
        control.attached, control.held = False, 0

        def ended(_: object) -> None:
            unwatch()
            inbox.close()
            runner.close()

        cell.monitor().add_done_callback(ended)
        inbox.poke()
        if around.poll is not None:
            self._poll_later()

    def on_stop(self, *_: object) -> None:
        # What runs goes back by the end itself, as failed; what has not begun is as it was.
        self._calls.give_back()

    # -- messages ----------------------------------------------------------------------------------

    def on_receive(self, message: Any) -> Any:
        """Take a ``Refresh`` or a ``Drain``.

        Raises:
            InvalidValue: it is something else.
        """
        if isinstance(message, Refresh):
            self._after_bunch()
            return None
        if isinstance(message, Drain):
            drained: ReplyFuture[None] = ReplyFuture()
            self._drains.append(drained)
            self._after_bunch()
            return Later(drained)
        raise InvalidValue("message", "a Refresh or a Drain", type(message).__name__)

    def on_info(self, message: Any) -> None:
        if isinstance(message, Bunch) and message.cell is self._cell:
            for function, args in self._inbox.take():
                function(*args)
            self._after_bunch()

    def _after_bunch(self) -> None:
        if self._is_resting():
            self._calls.give_back()
            self._tell_drained()
        if not (self._around.stopping or self._drains):
            self._look()
        self._control.held = len(self._claims)

    def _is_resting(self) -> bool:
        return self._control.paused or self._around.stopping or bool(self._drains)

    def _tell_drained(self) -> None:
        if self._drains and not self._claims and self._asked is None:
            drains, self._drains = self._drains, []
            for drained in drains:
                drained.set(None)
            if not self._is_resting():
                self._stale = True
                self._inbox.poke()

    # -- finding work ------------------------------------------------------------------------------

    def _changed(self) -> None:
        """Something has changed at the endpoint; on any thread."""
        self._stale = True
        self._inbox.poke()

    def _look(self) -> None:
        """Claim what there is room for, unless it is known that there is nothing."""
        if not self._stale or self._asked is not None or self._failures_wait():
            return
        if not self._attached:
            self._stale = False
            self._then(self._ask_endpoints(FindEndpoint(self._spec.endpoint_id)), self._found)
            return
        if self._control.paused:
            return  # but its phase is said to be consumed: what waits in it does not expire
        limit = self._calls.room()
        if limit <= 0:
            return  # what ends looks again
        self._stale = False
        spec = self._spec
        message = ClaimSlice(spec.endpoint_id, self._phase, limit, spec.lease, spec.name)
        # Without a deadline: what was claimed must come here.
        reply = self._around.find(spec.endpoint_id).ask(message)
        reply.add_done_callback(self._keep)
        self._then(reply, partial(self._claimed, limit))

    def _keep(self, reply: ReplyFuture[Claims]) -> None:
        # On whichever thread: should this incarnation be dead by now, they go back at once.
        with contextlib.suppress(Exception):
            self._around.keeper.kept(self._cell.ref, reply.get(timeout=0).claims)

    def _claimed(self, limit: int, answer: Claims) -> None:
        claims, next_at = answer
        self._failures = 0
        taken = self._claims.take(claims)
        if len(claims) >= limit:
            self._stale = True
        elif next_at is not None:
            delay = (next_at - self._runtime.clock.time_ns()) / 1e9
            self._look_later(max(delay, LEAST_DELAY))
        if self._is_resting():
            for held in taken:
                self._claims.release(held)
            return
        self._calls.begin(taken)

    # -- the endpoint ------------------------------------------------------------------------------

    def _found(self, endpoint: Endpoint | None) -> None:
        self._failures = 0
        if endpoint is None:
            return  # its creation is told
        spec = self._spec
        self._phase = spec.phase if spec.phase is not None else endpoint.phases[0]
        missing = [phase for phase in spec.phases if phase not in endpoint.phases]
        if self._phase in (spec.then, spec.dead_letter):
            missing.append(self._phase)
        if missing:
            if missing != self._missed:
                self._say("error", "handler.unknown_phase", phases=missing)
            self._missed = missing
            return  # an update is told
        consume = Consume(endpoint.id, self._phase)
        self._then(self._ask_endpoints(consume), self._consumes)

    def _consumes(self, _: Endpoint) -> None:
        self._attached = self._control.attached = self._stale = True
        self._failures = 0

    def _detach(self) -> None:
        self._attached = self._control.attached = False

    # -- asking ------------------------------------------------------------------------------------

    def _ask(self, message: Any) -> ReplyFuture[Any]:
        return self._around.find(self._spec.endpoint_id).ask(message, ANSWER_WITHIN)

    def _ask_endpoints(self, message: Any) -> ReplyFuture[Any]:
        return self._around.endpoints.ask(message, ANSWER_WITHIN)

    def _then(self, reply: ReplyFuture[Any], action: Callable[[Any], None]) -> None:
        self._asked = reply
        reply.add_done_callback(partial(self._inbox.put, self._answered, action))

    def _answered(self, action: Callable[[Any], None], reply: ReplyFuture[Any]) -> None:
        if self._asked is not reply:
            return  # it may be told twice, if the first time was interrupted
        self._asked = None
        try:
            value = reply.get(timeout=0)
        except (EndpointNotFound, UnknownPhase):
            if self._attached:
                self._stale = True  # look once more: what has changed was told before
            self._detach()
        except Exception as error:
            self._failures += 1
            if self._failures == 1 or not is_passing(error):
                self._say("warning", "handler.cannot_claim", reason=type(error).__name__)
            self._stale = True
            self._look_later(again_in(self._failures))
        else:
            action(value)

    def _failures_wait(self) -> bool:
        """Whether a failing backend is left alone for a moment."""
        return self._failures > 0 and self._wake_at is not None

    def _look_later(self, delay: float) -> None:
        """Look after a while, or earlier if that was planned."""
        at = self._runtime.clock.monotonic() + delay
        if self._wake_at is not None and self._wake_at <= at:
            return
        if self._wake is not None:
            self._inbox.cancel(self._wake)
        self._wake_at = at
        self._wake = self._inbox.later(delay, self._woken)

    def _woken(self) -> None:
        now = self._runtime.clock.monotonic()
        if self._wake_at is not None and self._wake_at <= now:
            self._wake_at = self._wake = None
            self._stale = True

    def _poll_later(self) -> None:
        assert self._around.poll is not None
        self._inbox.later(self._around.poll, self._poll)

    def _poll(self) -> None:
        self._stale = True
        self._poll_later()

    def _say(self, level: str, event: str, **more: Any) -> None:
        spec = self._spec
        with contextlib.suppress(*OWN):  # the host's structlog may fail
            getattr(log, level)(event, handler=spec.name, endpoint_id=spec.endpoint_id, **more)
