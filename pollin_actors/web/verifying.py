"""Verifies what was taken unverified: with a handler for each place where something waits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from pollin_actors.application import Application, State
from pollin_actors.errors import InvalidValue, PollinError
from pollin_actors.handlers import Discard, Reject
from pollin_actors.intake import Intake
from pollin_actors.otp import Backoff, OtpError, ReplyFuture, Runtime
from pollin_actors.otp.guard import Guard
from pollin_actors.resources import Callback, Endpoint, Request
from pollin_actors.signatures import Delivery, Refused, Verified
from pollin_actors.unverified import QUARANTINED, UNVERIFIED, parent_of, place_of
from pollin_actors.web.deadlines import now_of
from pollin_actors.web.failures import Failures
from pollin_actors.web.ordering import ordering_key
from pollin_actors.web.waiting import hide, unpacked

__all__ = ["Verification", "Verifier"]

BACKOFF = Backoff(first=0.5, most=60.0, jitter=1.0)
ATTEMPTS = 1_000

LOOK_AGAIN = Backoff(first=1.0, most=60.0)

LOOK_EVERY_S = 60.0
"""Seconds after which it is looked for places that another process has made, and may have left."""

AT_ONCE = 50
PAUSE_S = 0.1
"""So many handlers begin in so many seconds: who sends meanwhile must not wait for all of them."""

NAMES = 100
"""How many names are tried for a handler, where the host has handlers that are called so."""


class Verification:
    """Sees to it that everything that waits is verified: one for each application.

    Whatever the endpoint says now: it may have been switched to verify first since.

    Arguments:
        app: the application.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._guard = Guard()
        self._failures = Failures(partial(now_of, app))
        # Of the runtime before: it was looked for places in its store.
        self._runtime: Runtime | None = None
        # By the endpoint's id: the handler's name, and the state of endpoints that it was told of.
        self._served: dict[str, list[Any]] = {}
        self._unwatch: dict[str, Callable[[], None]] = {}
        self._ending: set[str] = set()
        self._failed = 0

    def begin(self, runtime: Runtime) -> None:
        """The application has started: have what is left from before verified."""
        if self._guard.run(self._is_new, runtime):
            self._look(runtime)

    def _is_new(self, runtime: Runtime) -> bool:
        if self._runtime is runtime:
            return False
        self._runtime = runtime
        # A test may have taken the handlers away with the runtime.
        for endpoint_id in list(self._served):
            self._forget(endpoint_id)
        self._ending.clear()
        return True

    # -- looking for places ------------------------------------------------------------------------

    def _look(self, runtime: Runtime) -> None:
        if self._runtime is runtime and self._app.state is State.RUNNING:
            with contextlib.suppress(PollinError, OtpError):  # it does not run any more
                reply = self._app.endpoints.index(timeout=None)
                reply.add_done_callback(partial(self._looked, runtime))

    def _looked(self, runtime: Runtime, reply: ReplyFuture[list[Endpoint]]) -> None:
        # Elsewhere: this thread may be the one that settles everything.
        runtime.scheduler.submit(Job(partial(self._found, runtime, reply)))

    def _found(self, runtime: Runtime, reply: ReplyFuture[list[Endpoint]]) -> None:
        try:
            endpoints = reply.get(timeout=0)
        except Exception as error:
            if self._runtime is runtime and self._app.state is State.RUNNING:
                self._failures.unavailable("receiver.cannot_verify", "", error)
                self._failed += 1
                delay = LOOK_AGAIN.delay(self._failed + 1, runtime.random.random())
                runtime.timers.call_later(delay, partial(self._look, runtime))
            return
        self._failed = 0
        known = {endpoint.id for endpoint in endpoints}
        parents = [parent for endpoint in endpoints if (parent := parent_of(endpoint)) is not None]
        gone = [it for it in list(self._served) if place_of(it) not in known]
        for endpoint_id in gone:
            self._look_for(endpoint_id)
        for endpoint_id in parents:
            if endpoint_id not in known:
                self.clear(endpoint_id)
        self._serve_all(runtime, [it for it in parents if it in known and it not in self._served])
        if self._app.backend.shared:
            runtime.timers.call_later(LOOK_EVERY_S, partial(self._look, runtime))

    def _serve_all(self, runtime: Runtime, endpoint_ids: list[str]) -> None:
        """Have them served, a few at a time: each handler begins with questions of its own."""
        if self._runtime is runtime and self._app.state is State.RUNNING:
            for endpoint_id in endpoint_ids[:AT_ONCE]:
                self.serve(endpoint_id)
            if rest := endpoint_ids[AT_ONCE:]:
                job = Job(partial(self._serve_all, runtime, rest))
                runtime.timers.call_later(PAUSE_S, partial(runtime.scheduler.submit, job))

    def clear(self, endpoint_id: str) -> None:
        """Take a place away if its endpoint does not exist any more. Waits for nothing."""
        with contextlib.suppress(PollinError, OtpError):
            reply = self._app.endpoints.find(endpoint_id, timeout=None)
            reply.add_done_callback(partial(self._clear, endpoint_id))

    def _clear(self, endpoint_id: str, reply: ReplyFuture[Endpoint | None]) -> None:
        with contextlib.suppress(Exception):
            if reply.get(timeout=0) is None:
                self._app.endpoints.delete(place_of(endpoint_id), timeout=None)

    # -- handlers ----------------------------------------------------------------------------------

    def serve(self, endpoint_id: str) -> None:
        """Have a handler verify what is taken for an endpoint. Waits for nothing."""
        if endpoint_id not in self._served:
            self._guard.run(self._serve, endpoint_id)

    def _serve(self, endpoint_id: str) -> None:
        # Where one is about to end, its end looks whether there is to be another.
        if endpoint_id in self._served or endpoint_id in self._ending:
            return
        name = self._handler(endpoint_id)
        if name is not None:
            self._served[endpoint_id] = [name, None]
            wake = partial(self._changed, endpoint_id)
            self._unwatch[endpoint_id] = self._app._changes.watch(place_of(endpoint_id), wake)

    def _handler(self, endpoint_id: str) -> str | None:
        handlers, place = self._app.handlers, place_of(endpoint_id)
        verifier = Verifier(self._app, endpoint_id, self._failures, self.clear)
        name = f"verify {endpoint_id}"
        for number in range(1, NAMES):
            # From the run before, or the host's own, which has nothing to do with this.
            function: Any = handlers.function_of(name)
            before = getattr(function, "__self__", None)
            if isinstance(before, Verifier) and before.place == place:
                return name
            with contextlib.suppress(InvalidValue):
                return self._app.add_handler(
                    verifier.verify,
                    place,
                    phase=UNVERIFIED,
                    dead_letter=QUARANTINED,
                    max_attempts=ATTEMPTS,
                    backoff=BACKOFF,
                    name=name,
                )
            name = f"verify {endpoint_id} ({number + 1})"
        return None

    def _changed(self, endpoint_id: str) -> None:
        """Something has changed at a place; at each push, on any thread."""
        served, revision = self._served.get(endpoint_id), self._app._changes.revision
        if served is not None and served[1] is not revision:
            served[1] = revision
            self._look_for(endpoint_id)

    def _look_for(self, endpoint_id: str) -> None:
        with contextlib.suppress(PollinError, OtpError):
            reply = self._app.endpoints.find(place_of(endpoint_id), timeout=None)
            reply.add_done_callback(partial(self._looked_for, endpoint_id))

    def _looked_for(self, endpoint_id: str, reply: ReplyFuture[Endpoint | None]) -> None:
        with contextlib.suppress(Exception):
            if reply.get(timeout=0) is None:
                self._guard.run(self._end, endpoint_id)
            else:
                self.serve(endpoint_id)

    def _end(self, endpoint_id: str) -> None:
        name = self._forget(endpoint_id)
        if name is not None:
            self._ending.add(endpoint_id)
            self._app.handlers.remove(name).add_done_callback(partial(self._ended, endpoint_id))

    def _ended(self, endpoint_id: str, _: object) -> None:
        # First that, then the look: whoever makes the place again finds one or is found.
        self._ending.discard(endpoint_id)
        self._look_for(endpoint_id)

    def _forget(self, endpoint_id: str) -> str | None:
        unwatch = self._unwatch.pop(endpoint_id, None)
        if unwatch is not None:
            unwatch()
        served = self._served.pop(endpoint_id, None)
        return None if served is None else str(served[0])


class Verifier:
    """Verifies requests for one endpoint that were taken before.

    Arguments:
        app: the application.
        endpoint_id: the endpoint that they are for.
        failures: where it is logged what does not verify.
        clear: takes the place away if there is no such endpoint.
    """

    def __init__(
        self,
        app: Application,
        endpoint_id: str,
        failures: Failures,
        clear: Callable[[str], None],
    ) -> None:
        self._app = app
        self._endpoint_id = endpoint_id
        self._failures = failures
        self._clear = clear
        self.place = place_of(endpoint_id)

    async def verify(self, callback: Callback) -> Reject | Discard | None:
        """Push a request to its endpoint if it verifies; else it goes into quarantine."""
        endpoint = await self._app.endpoints.find(self._endpoint_id)
        if endpoint is None:
            self._clear(self._endpoint_id)
            return Discard("the endpoint does not exist any more")
        waiting = unpacked(callback.request)
        # By the clock of its arrival: it did not make itself wait.
        at = callback.created_at
        secrets = endpoint.secrets_at(at)
        delivery = waiting.delivery(secrets)
        verified = endpoint.intake.scheme.verify(delivery, secrets, at / 1e9)
        if isinstance(verified, Refused):
            self._failures.refused("receiver.quarantined", self._endpoint_id, verified.reason)
            return Reject(verified.reason)
        if verified.reply is not None:
            return None
        request = Request(hide(waiting.headers, verified), delivery.body)
        await self._push(endpoint.intake, callback, delivery, request, verified)
        return None

    async def _push(
        self,
        intake: Intake,
        callback: Callback,
        delivery: Delivery,
        request: Request,
        verified: Verified,
    ) -> None:
        # The same id at each attempt, so that it is pushed once.
        taken = Callback(
            callback.id if verified.key is None else verified.key,
            request,
            "",
            callback.created_at,
            origin=f"{self.place}/{callback.id}",
            fence=verified.fence,
            ordering_key=ordering_key(intake, delivery),
        )
        await self._app.callbacks.push(self._endpoint_id, taken)


class Job:
    """A piece of work for a scheduler.

    Arguments:
        work: is called once, on some thread of the scheduler's.
    """

    label = "the verification of requests"

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def run(self, turns: int = 1, *, foreign: bool = False, executor: object = None) -> None:
        """Do it."""
        self._work()
