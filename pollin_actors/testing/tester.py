"""An application in virtual time: pushes, handlers, retries and expiries in no time at all."""

from __future__ import annotations

import json as json_of
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from pollin_actors.application import Application
from pollin_actors.backends import open_backend
from pollin_actors.backends.interface import Backend
from pollin_actors.errors import EndpointNotFound, InvalidValue
from pollin_actors.handlers import HandlerState
from pollin_actors.messages import PastPage
from pollin_actors.otp import Simulation
from pollin_actors.otp.simulation import VirtualClock
from pollin_actors.records import Record
from pollin_actors.resources import Callback, Endpoint, PushResult, Request
from pollin_actors.state import State
from pollin_actors.testing.crashing import crash

__all__ = ["Tester", "webhook"]

SHOWN = 20
"""How many callbacks a failure lists."""


def webhook(
    json: Any = None, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Request:
    """Make a request as a sender would.

    Arguments:
        json: the body, as a value that JSON can tell.
        body: the body in bytes, instead.
        headers: besides the content type.
    """
    if body is not None and json is not None:
        raise InvalidValue("webhook", "json or body", "both", "leave one of them out")
    named = {"content-type": "application/json"} if body is None else {}
    named |= dict(headers or {})
    return Request(list(named.items()), json_of.dumps(json).encode() if body is None else body)


class Tester:
    """Runs an application in a simulation, as a context manager.

    Everything happens on the thread of the test: nothing is awaited, and time passes only when the
    test says so. Sync handlers run there too, and async ones on a simulated event loop.

    Arguments:
        app: the application, not started; its own backend and clock are left alone for as long.
            None: a new one with these endpoints.
        endpoints: of the new one.
        backend: what it runs on, a URL or an object; by default an empty one in memory.
        seed: of every choice in the simulation; the same seed gives the same run.
        inline: whatever a push leads to has happened when the push returns.

    Raises:
        InvalidValue: the application runs already, or both it and endpoints were given.
    """

    __test__ = False  # pytest would take it for a class of tests

    def __init__(
        self,
        app: Application | None = None,
        *,
        endpoints: Iterable[Endpoint] = (),
        backend: str | Backend = "memory://",
        seed: int = 0,
        inline: bool = False,
    ) -> None:
        given = tuple(endpoints)
        if app is not None and given:
            raise InvalidValue("endpoints", "none, where an application is given", "some")
        self.app = app if app is not None else Application(endpoints=given)
        """The application: it can be used as ever, ``.get()`` included."""
        self.simulation = Simulation(seed)
        self._backend = open_backend(backend)
        self._inline = inline
        self._settling = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        app = self.app
        if app.state not in (State.NEW, State.STOPPED):
            hint = "give it to the Tester before it is started"
            raise InvalidValue("app", "an application that does not run", str(app.state), hint)
        before = app.backend, app._given_runtime
        with ExitStack() as stack:
            stack.callback(self._give_back, *before)
            stack.enter_context(self.simulation)
            app.backend, app._given_runtime = self._backend, self.simulation.runtime
            stack.callback(app.stop)
            app.start()
            if self._inline:
                stack.callback(setattr, app.callbacks, "push", app.callbacks.push)
                app.callbacks.push = self._pushed_inline(app.callbacks.push)  # type: ignore[method-assign]
            self._stack = stack.pop_all()
        self.settle()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _give_back(self, *before: Any) -> None:
        self.app.backend, self.app._given_runtime = before

    @property
    def clock(self) -> VirtualClock:
        """The clock: ``time_ns()`` and ``monotonic()``."""
        return self.simulation.clock

    # -- what happens ------------------------------------------------------------------------------

    def push(self, endpoint_id: str, request: Any = b"", **fields: Any) -> PushResult:
        """Push a callback.

        Arguments:
            endpoint_id: where to.
            request: what it carries; see also ``webhook``.
            fields: of the callback: ``id``, ``phase``, ``parent``, ``ordering_key``,
                ``not_before``.

        Raises:
            PollinError: it was refused.
        """
        return self.app.callbacks.push(endpoint_id, Callback.new(request, **fields)).get()

    def settle(self) -> None:
        """Let everything happen that can happen at this moment."""
        if not self._settling:  # a handler that pushes is in the middle of it
            self._settling = True
            try:
                self.simulation.settle()
            finally:
                self._settling = False

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and whatever it brings happen."""
        self.simulation.advance(seconds)

    def drain(self, within: float = 86_400.0) -> None:
        """Let handlers work until there is nothing left for them, retries included.

        Handlers that are paused, or wait for their endpoint, have nothing to do.

        Arguments:
            within: seconds of virtual time after which that has failed.

        Raises:
            AssertionError: something still waits; says what, and what was last said about it.
        """
        clock, timers = self.clock, self.simulation.timers
        until = clock.monotonic() + within
        self.settle()
        while left := self._left():
            due = timers.next_due()
            if due is None or due > until:
                lines = [self._told(*item) for item in left[:SHOWN]]
                more = [f"and {len(left) - SHOWN} more"] if len(left) > SHOWN else []
                head = f"after {within:g} s of virtual time handlers are not done with"
                raise AssertionError("\n  ".join([head, *lines, *more]))
            self.advance(max(due - clock.monotonic(), 0.0))

    def crash(self, actor: str) -> None:
        """Crash an actor, as ``pollin_actors.testing.crash`` does, and let that happen."""
        crash(self.app, actor)
        self.settle()

    def _pushed_inline(self, push: Callable[..., Any]) -> Callable[..., Any]:
        def pushed(*args: Any, **options: Any) -> Any:
            reply = push(*args, **options)
            self.settle()
            return reply

        return pushed

    def _left(self) -> list[tuple[str, Callback]]:
        """What a handler is to take, or has taken."""
        left: dict[tuple[str, str], Callback] = {}
        for info in self.app.handlers:
            if info.state is not HandlerState.RUNNING:
                continue
            try:
                endpoint = self.app.endpoints.find(info.endpoint_id).get()
                if endpoint is None:
                    continue
                for callback in self.app.callbacks.dump(info.endpoint_id):
                    if callback.phase == (info.phase or endpoint.phases[0]):
                        left[info.endpoint_id, callback.id] = callback
            except EndpointNotFound:
                continue
        return [(endpoint_id, callback) for (endpoint_id, _), callback in left.items()]

    # -- what has happened -------------------------------------------------------------------------

    def received(self, endpoint_id: str) -> list[Callback]:
        """All that was pushed, queued or kept since, oldest first, each as it was last."""
        found: list[Callback] = []
        after: int | None = None
        while True:
            page = self.app.callbacks._mailbox(endpoint_id).ask(PastPage(endpoint_id, after)).get()
            found += page.callbacks
            after = page.cursor
            if after is None:
                return found

    def assert_received(
        self,
        endpoint_id: str,
        *,
        count: int | None = None,
        phase: str | None = None,
        where: Callable[[Callback], bool] | None = None,
    ) -> list[Callback]:
        """Assert that something was pushed, queued or kept since; return it, oldest first.

        Arguments:
            endpoint_id: where to.
            count: exactly so many; None: at least one.
            phase: those that are, or were last, in this phase.
            where: those for which this is true.

        Raises:
            AssertionError: there are others, or none; says which there are.
        """
        everything = self.received(endpoint_id)
        found = [
            callback
            for callback in everything
            if phase in (None, callback.phase) and (where is None or where(callback))
        ]
        if len(found) == count or (count is None and found):
            return found
        expected = "at least one callback" if count is None else f"{count} callbacks"
        expected += f" in phase {phase!r}" if phase is not None else ""
        expected += " that `where` accepts" if where is not None else ""
        lines = [self._told(endpoint_id, callback) for callback in everything[:SHOWN]]
        more = [f"and {len(everything) - SHOWN} more"] if len(everything) > SHOWN else []
        head = f"endpoint {endpoint_id!r}: expected {expected}, got {len(found)}; there are:"
        raise AssertionError("\n  ".join([head, *(lines or ["none"]), *more]))

    def history(self, endpoint_id: str, key: str) -> list[Record]:
        """What has happened to the callback of that id, oldest first."""
        return self.app.callbacks.history(endpoint_id, key=key).get()

    def _told(self, endpoint_id: str, callback: Callback) -> str:
        records = self.history(endpoint_id, callback.id)
        last = records[-1] if records else None
        what = "" if last is None else f", last {last.kind}"
        why = f": {last.reason}" if last is not None and last.reason else ""
        attempts = f", attempts {callback.attempts}" if callback.attempts else ""
        return f"{endpoint_id}/{callback.id} in {callback.phase!r}{attempts}{what}{why}"
