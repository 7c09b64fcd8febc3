"""Handlers: functions that callbacks are given to, each run by a supervised consumer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import Context
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple, TypeVar

import pykka
import structlog

from pollin_actors.actors.changes import Changes
from pollin_actors.actors.consumer import ConsumerActor, Control, Drain, Refresh, Surroundings
from pollin_actors.actors.consumer_claims import Keeper
from pollin_actors.actors.handler_loop import HandlerLoop
from pollin_actors.actors.handler_results import Advance, Discard, Reject, Retry
from pollin_actors.actors.handler_spec import DEFAULT_BACKOFF, HandlerSpec, check_endpoint_id
from pollin_actors.errors import InvalidValue, UnknownPhase
from pollin_actors.instruments import NOBODY, Instrumentation
from pollin_actors.otp import Backoff, ChildSpec, NamedSupervisor, Registry, ReplyFuture, Runtime
from pollin_actors.otp.errors import AlreadyStarted
from pollin_actors.otp.last_words import OWN
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.otp.waiting import simulated_scheduler
from pollin_actors.resources import Endpoint
from pollin_actors.settings import DEFAULT_TIMEOUT
from pollin_actors.tree import CONSUMERS

__all__ = [
    "Advance",
    "Discard",
    "HandlerInfo",
    "HandlerState",
    "Handlers",
    "Handling",
    "Reject",
    "Retry",
]

log = structlog.get_logger("pollin_actors")

F = TypeVar("F", bound=Callable[..., Any])


class HandlerState(StrEnum):
    """How a handler stands."""

    STOPPED = "stopped"
    """The application does not run."""
    WAITING = "waiting"
    """Its endpoint does not exist yet, or lacks a phase that it needs; or it is being restarted."""
    RUNNING = "running"
    PAUSED = "paused"


class HandlerInfo(NamedTuple):
    """One handler."""

    name: str
    endpoint_id: str
    phase: str | None
    """None: the first of the endpoint."""
    state: HandlerState
    held: int
    """How many callbacks it has claimed at the moment."""


class Handlers:
    """The handlers of an application: iterate over it for a ``HandlerInfo`` of each."""

    def __init__(self) -> None:
        self._controls: dict[str, Control] = {}
        self._run: _Run | None = None
        self._parents: _Run | None = None

    def __len__(self) -> int:
        return len(self._controls)

    def __iter__(self) -> Iterator[HandlerInfo]:
        return iter([self._info(control) for control in list(self._controls.values())])

    def __getitem__(self, name: str) -> HandlerInfo:
        """The handler of that name.

        Raises:
            InvalidValue: there is none.
        """
        return self._info(self._control(name))

    def __repr__(self) -> str:
        return f"<Handlers: {', '.join(self._controls) or 'none'}>"

    def pause(self, name: str, *, timeout: float | None = DEFAULT_TIMEOUT) -> ReplyFuture[None]:
        """Have a handler take no more callbacks, until ``resume``; also across its restarts.

        What it has begun goes on; what it has claimed and not begun is given back. The reply
        comes once that is on its way. It holds for this application object, not for other
        processes.

        Raises:
            InvalidValue: there is no handler of that name.
        """
        return self._set_paused(name, True, timeout)

    def resume(self, name: str, *, timeout: float | None = DEFAULT_TIMEOUT) -> ReplyFuture[None]:
        """Have a paused handler go on.

        Raises:
            InvalidValue: there is no handler of that name.
        """
        return self._set_paused(name, False, timeout)

    def drain(self, name: str, *, timeout: float | None = None) -> ReplyFuture[None]:
        """Pause a handler; the reply comes once all that it had begun has ended and is stored.

        Raises:
            InvalidValue: there is no handler of that name.
        """
        self._set_paused(name, True, None)
        return self._ask(name, Drain(), timeout)

    # -- for the application -----------------------------------------------------------------------

    def add(self, spec: HandlerSpec) -> None:
        """One more; if the application runs, it begins at once.

        Raises:
            InvalidValue: there is one of that name.
        """
        control = Control(spec)
        if self._controls.setdefault(spec.name, control) is not control:
            raise InvalidValue(
                "handler.name",
                "a name of its own for each handler",
                f"{spec.name!r} a second time",
                "give it one, as name=",
            )
        run = self._run
        if run is not None and run.begun:
            child = run.supervisor.start_child(run.child_spec(control), timeout=None)
            child.add_done_callback(partial(_started, spec))

    def function_of(self, name: str) -> Callable[..., Any] | None:
        """The function of the handler of that name; None if there is none."""
        control = self._controls.get(name)
        return None if control is None else control.spec.function

    def remove(self, name: str) -> ReplyFuture[None]:
        """One less: it claims nothing more, and what it has claimed goes back.

        The reply comes once it has ended; until then there can be no other of that name.
        """
        ended: ReplyFuture[None] = ReplyFuture()
        run = self._run
        if self._controls.pop(name, None) is None or run is None or not run.begun:
            ended.set(None)
            return ended
        supervisor = run.supervisor

        def forget(_: object) -> None:
            supervisor.delete_child(name, timeout=None).add_done_callback(
                lambda _: ended._settle((None, None))
            )

        supervisor.terminate_child(name, timeout=None).add_done_callback(forget)
        return ended

    def prepare(self, run: _Run) -> None:
        """The application starts: from here on a tree can be built."""
        self._run = run

    def child_specs(self) -> list[ChildSpec]:
        """The children of the supervisor of consumers, as it starts."""
        run = self._run
        if run is None or not run.begun:
            return []
        return [run.child_spec(control) for control in list(self._controls.values())]

    def phases_of(self, endpoint: Endpoint) -> set[str]:
        """The phases of an endpoint that handlers consume; without those that it lacks."""
        specs = [control.spec for control in list(self._controls.values())]
        wanted = {s.phase or endpoint.phases[0] for s in specs if s.endpoint_id == endpoint.id}
        return wanted.intersection(endpoint.phases)

    def dead_letters_of(self, endpoint_id: str) -> dict[str, str | None]:
        """The phases of an endpoint where handlers of this process put their dead letters, each
        with the phase that these were taken out of; None: the endpoint's first."""
        specs = [control.spec for control in list(self._controls.values())]
        return {
            spec.dead_letter: spec.phase
            for spec in specs
            if spec.endpoint_id == endpoint_id and spec.dead_letter is not None
        }

    def begin(self, find: Callable[[str], ReplyFuture[Endpoint | None]]) -> None:
        """The application is up: have all handlers begin.

        Raises:
            UnknownPhase: an endpoint exists and lacks a phase that a handler needs.
            StartFailed: a consumer did not start.
        """
        run = self._run
        assert run is not None
        for control in list(self._controls.values()):
            _check(control.spec, find(control.spec.endpoint_id).get())
        run.begun = True
        started = [run.supervisor.start_child(spec, timeout=None) for spec in self.child_specs()]
        for child in started:
            # The supervisor may have been restarted, or a handler added, meanwhile.
            with contextlib.suppress(AlreadyStarted):
                child.get()

    def finish(self, timeout: float) -> bool:
        """The application is about to stop: let what runs come to its end.

        Args:
            timeout: seconds.

        Returns:
            Whether everything has.
        """
        run = self._run
        if run is None or not run.begun:
            return True
        run.around.stopping = True
        clock = run.around.runtime.clock
        until = clock.monotonic() + timeout
        drains = [
            run.registry.ask(name, Drain(), timeout=None)
            for name in list(self._controls)
            if name in run.registry
        ]
        ended = True
        for drain in drains:
            try:
                drain.get(timeout=max(until - clock.monotonic(), 0.0))
            except pykka.Timeout:
                ended = False
            except Exception:
                continue  # it has no consumer any more
        if not ended:
            held = sum(control.held for control in self._controls.values())
            with contextlib.suppress(*OWN):
                log.warning("handlers.undrained", seconds=timeout, callbacks=held)
        return ended

    def close(self, timeout: float) -> bool:
        """The tree has ended; whether the event loop has, too, within ``timeout`` seconds."""
        run, self._run = self._run, None
        for control in self._controls.values():
            control.attached, control.held = False, 0
        return run is None or run.around.loop.close(timeout)

    def forget(self) -> None:
        """In a forked child: nothing of it is here."""
        # Not let go of: an event loop that is thrown away here would still disturb the parent's.
        self._parents, self._run = self._run, None

    # -- inside ------------------------------------------------------------------------------------

    def _control(self, name: str) -> Control:
        control = self._controls.get(name)
        if control is None:
            known = ", ".join(map(repr, self._controls)) or "none so far"
            raise InvalidValue("name", f"a handler's name, of {known}", repr(name))
        return control

    def _info(self, control: Control) -> HandlerInfo:
        run, spec = self._run, control.spec
        if run is None or not run.begun:
            state = HandlerState.STOPPED
        elif control.paused:
            state = HandlerState.PAUSED
        else:
            state = HandlerState.RUNNING if control.attached else HandlerState.WAITING
        return HandlerInfo(spec.name, spec.endpoint_id, spec.phase, state, control.held)

    def _set_paused(self, name: str, paused: bool, timeout: float | None) -> ReplyFuture[None]:
        control = self._control(name)
        if control.paused is not paused:
            control.paused = paused
            with contextlib.suppress(*OWN):
                log.info("handler.paused" if paused else "handler.resumed", handler=name)
        return self._ask(name, Refresh(), timeout)

    def _ask(self, name: str, message: Any, timeout: float | None) -> ReplyFuture[None]:
        run = self._run
        if run is not None and name in run.registry:
            return run.registry.ask(name, message, timeout=timeout)
        reply: ReplyFuture[None] = ReplyFuture()
        reply.set(None)
        return reply


class _Run:
    """What the handlers need of one run of the application.

    Args:
        runtime: the application's.
        registry: the names of the consumers: the handlers'.
        around: what the consumers share.
    """

    def __init__(self, runtime: Runtime, registry: Registry, around: Surroundings) -> None:
        self.registry = registry
        self.around = around
        self.supervisor = NamedSupervisor(runtime.registry, CONSUMERS)
        self.begun = False

    def child_spec(self, control: Control) -> ChildSpec:
        """The consumer of a handler."""
        name = control.spec.name
        return ChildSpec(id=name, name=name, start=partial(ConsumerActor, control, self.around))


def run_of(
    runtime: Runtime,
    endpoints: Mailbox,
    endpoint_registry: Registry,
    changes: Changes,
    keeper: Keeper,
    poll: float | None,
    instruments: Instrumentation = NOBODY,
) -> _Run:
    """What the handlers need of a run that begins.

    Args:
        runtime: the application's.
        endpoints: the mailbox of the endpoint actor.
        endpoint_registry: the names of the callback actors.
        changes: who is told of changes.
        keeper: gives back the claims of consumers that end.
        poll: seconds between two looks at a store that others use too; None where none do.
        instruments: are told of calls and what comes of them.
    """

    def find(endpoint_id: str) -> Mailbox:
        return endpoint_registry.find(endpoint_id) or endpoint_registry.mailbox(endpoint_id)

    # Functions find nothing of whoever has started the application.
    context = Context()
    if runtime.scheduler.simulated:
        context.run(simulated_scheduler.set, runtime.scheduler)
    around = Surroundings(
        runtime, endpoints, find, changes, keeper, poll, HandlerLoop(runtime), context, instruments
    )
    return _Run(runtime, Registry(runtime), around)


def _started(spec: HandlerSpec, child: ReplyFuture[Any]) -> None:
    try:
        child.get(timeout=0)
    except AlreadyStarted:
        return
    except Exception as error:
        with contextlib.suppress(*OWN):
            log.error("handler.not_started", handler=spec.name, reason=type(error).__name__)  # noqa: TRY400


def _check(spec: HandlerSpec, endpoint: Endpoint | None) -> None:
    if endpoint is None:
        return  # it waits for it
    for phase in spec.phases:
        if phase not in endpoint.phases:
            raise UnknownPhase(endpoint.id, phase, endpoint.phases)
    if spec.phase is None and endpoint.phases[0] in (spec.then, spec.dead_letter):
        raise InvalidValue(
            "handler.phase",
            "another phase than then= and dead_letter=",
            f"the first of endpoint {endpoint.id!r}, which is {endpoint.phases[0]!r}",
        )


class Handling:
    """The part of an application that is about handlers."""

    handlers: Handlers

    def handler(
        self,
        endpoint_id: str,
        *,
        phase: str | None = None,
        then: str | None = None,
        dead_letter: str | None = None,
        concurrency: int = 8,
        max_attempts: int | None = None,
        backoff: Backoff = DEFAULT_BACKOFF,
        timeout: float | None = 60.0,
        lease: float = 30.0,
        batch: int | None = None,
        name: str | None = None,
    ) -> Callable[[F], F]:
        """Give the callbacks of an endpoint to a function.

        ```python
        @app.handler("orders", phase="received", then="processed", dead_letter="failed")
        def handle(callback):
            ...
        ```

        Each callback is given to it at least once. An ``async def`` runs on an event loop that the
        application owns, any other function on a thread of a pool of its own. What it returns
        decides: ``Retry``, ``Reject``, ``Discard``, ``Advance`` as they say, anything else is
        success. An exception is a failed attempt: another one follows, later each time, until
        ``max_attempts``.

        While the application runs the handler begins at once, else with its start. If there is no
        such endpoint yet, it waits for it.

        Args:
            endpoint_id: whose callbacks.
            phase: those in this phase; None: in the endpoint's first.
            then: the phase for those that are done; None: they leave the queue.
            dead_letter: the phase for those whose last attempt has failed; None: they are tried
                for ever.
            concurrency: how many calls at a time.
            max_attempts: how many attempts; 20 where there is a ``dead_letter``, and only there.
            backoff: how long to wait for the next attempt: after the n-th as after crash n + 1.
            timeout: seconds that a call may take; None for no limit. A coroutine is cancelled then,
                a thread is left to itself and replaced; the attempt has failed.
            lease: seconds for which a callback stays claimed should this process die. It is
                extended while the process lives.
            batch: give the function a list of at most so many callbacks. It returns one result for
                all, or a list of as many results; an exception fails them all.
            name: of the handler, unique within the application; the function's by default.

        Returns:
            A decorator that leaves the function as it is.

        Raises:
            InvalidValue: an argument has a value that it cannot have.
        """

        # Now, because a decorator without parentheses would never come to anything.
        check_endpoint_id(endpoint_id)

        def decorate(function: F) -> F:
            self.add_handler(
                function,
                endpoint_id,
                phase=phase,
                then=then,
                dead_letter=dead_letter,
                concurrency=concurrency,
                max_attempts=max_attempts,
                backoff=backoff,
                timeout=timeout,
                lease=lease,
                batch=batch,
                name=name,
            )
            return function

        return decorate

    def add_handler(
        self,
        function: Callable[..., Any],
        endpoint_id: str,
        *,
        name: str | None = None,
        **options: Any,
    ) -> str:
        """The same as a call: ``app.add_handler(handle, "orders", then="processed")``.

        Args:
            function: as decorated by ``handler``.
            endpoint_id: whose callbacks.
            name: of the handler; the function's by default.
            options: as for ``handler``.

        Returns:
            The handler's name.

        Raises:
            InvalidValue: an argument has a value that it cannot have, or the name is taken.
        """
        spec = HandlerSpec(function=function, endpoint_id=endpoint_id, name=name or "", **options)
        self.handlers.add(spec)
        return spec.name
