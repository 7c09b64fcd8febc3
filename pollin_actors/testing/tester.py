"""An application in virtual time: pushes, handlers, retries and expiries in no time at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from pollin_actors.application import Application
from pollin_actors.backends import open_backend
from pollin_actors.backends.interface import Backend
from pollin_actors.calls import nanoseconds
from pollin_actors.errors import InvalidValue
from pollin_actors.handlers import Handlers
from pollin_actors.otp import Ref, Simulation
from pollin_actors.otp.simulation import VirtualClock
from pollin_actors.otp.waiting import running_cell
from pollin_actors.resources import Callback, Endpoint, PushResult
from pollin_actors.state import State
from pollin_actors.testing.crashing import crash
from pollin_actors.testing.faulty import FaultyBackend
from pollin_actors.testing.remaining import Remaining

__all__ = ["Tester"]

MOST_TURNS = 200_000
"""Turns at one moment of virtual time; what takes more will never come to rest."""

INLINE_MOST = 3600.0
"""Seconds of virtual time at most that an inline push gives to calls which take time."""


class Tester(Remaining):
    """Runs an application in a simulation, as a context manager.

    Everything happens on the thread of the test: nothing is awaited, and time passes only when the
    test says so. Sync handlers run there too, and async ones on a simulated event loop.

    Arguments:
        app: the application, not started; its own backend and clock are left alone for as long,
            and handlers that a test adds or pauses are afterwards as they were. None: a new one
            with these endpoints.
        endpoints: of the new one.
        backend: what it runs on, a URL or an object; by default an empty one in memory.
        seed: of every choice in the simulation; the same seed gives the same run.
        inline: whatever a push leads to has happened when the push returns.
        start: what its clock says at first, as nanoseconds since the epoch or as a datetime with
            a time zone; None: the present time.

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
        start: int | datetime | None = None,
    ) -> None:
        given = tuple(endpoints)
        if app is not None and given:
            raise InvalidValue("endpoints", "none, where an application is given", "some")
        self.app = app if app is not None else Application(endpoints=given)
        """The application: it can be used as ever, ``.get()`` included."""
        start_ns = nanoseconds("start", start)
        self.simulation = Simulation(
            seed, start_ns=time.time_ns() if start_ns is None else start_ns
        )
        self._backend = open_backend(backend)
        self._inline = inline
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        app = self.app
        if app.state not in (State.NEW, State.STOPPED):
            hint = "give it to the Tester before it is started"
            raise InvalidValue("app", "an application that does not run", str(app.state), hint)
        with ExitStack() as stack:
            stack.callback(self._give_back, app.backend, app._given_runtime)
            stack.callback(_keep(app.handlers))
            stack.enter_context(self.simulation)
            app.backend, app._given_runtime = self._backend, self.simulation.runtime
            _lend_time(self._backend, self.simulation)
            stack.callback(self.simulation.runtime.events.flush)
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
        """Push a callback, created now as the tester's clock says.

        Arguments:
            endpoint_id: where to.
            request: what it carries; see also ``webhook``.
            fields: of the callback: ``id``, ``phase``, ``parent``, ``ordering_key``,
                ``not_before``.

        Raises:
            PollinError: it was refused.
        """
        callback = Callback.new(request, **fields).replace(created_at=self.clock.time_ns())
        return self.app.callbacks.push(endpoint_id, callback).get()

    def settle(self) -> None:
        """Let everything happen that can happen at this moment.

        Raises:
            AssertionError: it never ends, as where a handler pushes what it handles again.
        """
        scheduler = self.simulation.scheduler
        for _ in range(MOST_TURNS):
            if not scheduler.step():
                return
        moment = f"{self.clock.monotonic():g} s"
        raise AssertionError(
            f"no rest after {MOST_TURNS} turns at {moment} of virtual time: something goes on for "
            f"ever, as where a handler pushes what it handles again"
        )

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and whatever it brings happen.

        Raises:
            AssertionError: as ``settle``.
        """
        until = self.clock.monotonic() + seconds
        self.settle()
        while self._go_on(until):
            pass
        self.clock.advance_to(until)

    def drain(self, within: float = 86_400.0) -> None:
        """Let handlers work until there is nothing left for them, retries included.

        Handlers that are paused, or have no endpoint yet, have nothing to do; what must not be
        taken before ``within`` has passed is left alone.

        Arguments:
            within: seconds of virtual time after which that has failed.

        Raises:
            AssertionError: something still waits; says what, what was last said about it, and why
                it waits. Or the application has ended meanwhile.
        """
        until = self.clock.monotonic() + within
        until_ns = self.clock.time_ns() + round(within * 1e9)
        self.settle()
        while not self._is_done(until_ns):
            if self.app.state is not State.RUNNING:
                raise AssertionError(f"the application does not run any more: {self.app.state}")
            if not self._go_on(until):
                raise AssertionError(self._failure(within, until_ns))

    def crash(self, actor: str | Ref[Any]) -> None:
        """Crash an actor, as ``pollin_actors.testing.crash`` does, and let that happen."""
        crash(self.app, actor)
        self.settle()

    def _go_on(self, until: float) -> bool:
        """Let time pass to the next timer, and let it happen; False if it is due later."""
        due = self.simulation.timers.next_due()
        if due is None or due > until:
            return False
        self.simulation.timers.fire_next()
        self.settle()
        return True

    # -- inline ------------------------------------------------------------------------------------

    def _pushed_inline(self, push: Callable[..., Any]) -> Callable[..., Any]:
        def pushed(*args: Any, **options: Any) -> Any:
            reply = push(*args, **options)
            # One that is made within a handler, or by an actor, is seen to by who runs that.
            if not self.simulation.scheduler.depth and running_cell() is None:
                self._work_off()
            return reply

        return pushed

    def _work_off(self) -> None:
        """Let handlers end what they have begun, also what takes time."""
        until = self.clock.monotonic() + INLINE_MOST
        self.settle()
        while any(info.held for info in self.app.handlers) and self._go_on(until):
            pass


def _keep(handlers: Handlers) -> Callable[[], None]:
    """Remember the handlers of an application; the function that is returned puts them back."""
    before = {name: (control, control.paused) for name, control in handlers._controls.items()}

    def put_back() -> None:
        handlers._controls.clear()
        for name, (control, paused) in before.items():
            handlers._controls[name] = control
            control.paused = paused

    return put_back


def _lend_time(backend: Backend, simulation: Simulation) -> None:
    while isinstance(backend, FaultyBackend):
        backend.call_later = simulation.timers.call_later
        backend = backend.inner
