"""The application: builds, starts and stops the tree, and is the facade that users hold.

```
Supervisor (root)
├── CallbackActor supervisor   one CallbackActor per endpoint, started by the first message to it
├── EndpointActor              the registry of endpoints
└── user supervisor            actors of your own
```
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Hashable, Iterable
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import Any, Self

import pykka
import structlog

from pollin_actors.actors import CallbackActor, EndpointActor, Locate
from pollin_actors.backends import open_backend
from pollin_actors.backends.interface import Backend
from pollin_actors.errors import EndpointExists, ForkedProcess, InvalidValue, NotRunning
from pollin_actors.facade import Callbacks, Endpoints
from pollin_actors.otp import (
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    ExitRecord,
    Ref,
    Registry,
    ReplyFuture,
    Runtime,
    StartChild,
    Supervisor,
    TerminateChild,
    ThreadPool,
)
from pollin_actors.otp.cell import ExitRequest, Status
from pollin_actors.otp.exits import ExitReason
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.resources import Endpoint
from pollin_actors.settings import DEFAULT_TIMEOUT, Settings

__all__ = ["Application", "State"]

log = structlog.get_logger("pollin_actors")

# Names in the runtime's registry.
ENDPOINTS = "pollin.endpoints"
CALLBACKS = "pollin.callbacks"
ACTORS = "pollin.actors"


class State(StrEnum):
    """Where an application stands."""

    NEW = "not started"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    FORKED = "forked"


class Application:
    """A durable inbox for webhooks, inside your process.

    ```python
    with Application(endpoints=[Endpoint.new(id="orders")]) as app:
        app.callbacks.push("orders", Callback.new(Request([], b"{}"))).get()
        callback = app.callbacks.pop("orders").get()
    ```

    Args:
        backend: where the state lives: a URL or a backend object; wins over the settings'.
        endpoints: endpoints that exist from the start; added to the settings'.
        settings: everything else that can be set.
        children: specs of actors of your own, supervised beside the inbox.
        runtime: for tests: a simulated runtime. The application does not stop it.

    Raises:
        InvalidValue, UnknownBackend: an argument has a value that it cannot have.
    """

    def __init__(
        self,
        backend: str | Backend | None = None,
        *,
        endpoints: Iterable[Endpoint] = (),
        settings: Settings | None = None,
        children: Iterable[ChildSpec] = (),
        runtime: Runtime | None = None,
    ) -> None:
        self.settings = settings if settings is not None else Settings()
        self._declared = (*self.settings.endpoints, *endpoints)
        _check_declared(self._declared)
        self._children = tuple(children)
        self._given_runtime = runtime
        self.backend: Backend = open_backend(
            backend if backend is not None else self.settings.backend
        )
        self._guard = Guard()
        self._state = State.NEW
        self._runtime: Runtime | None = None
        self._root: Ref[Supervisor] | None = None
        self._registry: Registry | None = None
        self._endpoints_mailbox: Mailbox | None = None
        self.endpoints = Endpoints(self._endpoints)
        self.callbacks = Callbacks(self._refuse_lookup, self._new_mailbox)
        _applications.add(self)

    def __repr__(self) -> str:
        return f"<Application {self._state}, {type(self.backend).__name__}>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # -- life --------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the application stands."""
        return self._state

    @property
    def runtime(self) -> Runtime:
        """Clock, timers and scheduler of the running application.

        Raises:
            NotRunning: it is not running.
        """
        self._check()
        assert self._runtime is not None
        return self._runtime

    def start(self) -> Self:
        """Start the tree; returns once it is up. Starting a running application does nothing.

        Raises:
            BackendUnavailable: the backend cannot be opened. Nothing is left running.
            StartFailed: an actor did not start; names it. Nothing is left running.
            ForkedProcess: the application was made before a fork, and started there.
        """
        self._guard.run(self._start)
        return self

    def stop(self) -> bool:
        """Stop the tree in reverse order; what is queued for an actor and not handled fails.

        Callbacks stay in the backend. Stopping twice is harmless.

        Returns:
            Whether everything ended within ``settings.shutdown`` seconds. What did not was
            abandoned and logged as ``actor.unstopped``.
        """
        return bool(self._guard.run(self._stop))

    def _start(self) -> None:
        if self._state is State.RUNNING:
            return
        if self._state is State.FORKED:
            raise ForkedProcess
        if self._state is State.STOPPING:
            raise NotRunning(self._state, "stop() was interrupted: call it again, then start()")
        if self._state is State.FAILED:
            self._tear_down(State.STOPPED)
        settings = self.settings
        runtime = self._given_runtime
        if runtime is None:
            pool = ThreadPool(settings.pool_size, settings.pool_ceiling, "pollin")
            runtime = Runtime(scheduler=pool)
        try:
            self._runtime = runtime.start()
            self.backend.open(runtime.clock.time_ns)
            self._build(runtime)
            self._declare()
        except BaseException:
            self._tear_down(State.NEW if self._state is not State.FAILED else State.FAILED)
            raise

    def _build(self, runtime: Runtime) -> None:
        settings, backend = self.settings, self.backend
        endpoints_mailbox = self._endpoints_mailbox = runtime.registry.mailbox(ENDPOINTS)

        def on_demand(mailbox: Mailbox) -> None:
            # An ask, although nobody waits: the sender may run the whole start itself.
            endpoints_mailbox.ask(Locate(str(mailbox.name)))

        registry = self._registry = Registry(runtime, on_demand)

        def callback_spec(endpoint_id: Hashable) -> ChildSpec:
            return ChildSpec(
                id=endpoint_id,
                name=endpoint_id,
                start=partial(CallbackActor, str(endpoint_id), backend, settings.max_bytes),
                restart="transient",
            )

        tree = [
            ChildSpec(
                id="callbacks",
                name=CALLBACKS,
                type="supervisor",
                start=lambda: DynamicSupervisor(
                    spec_for=callback_spec,
                    max_restarts=100,
                    max_seconds=5.0,
                    backoff=Backoff(first=0.1),
                    idle_after=settings.idle_after,
                    registry=registry,
                ),
            ),
            ChildSpec(
                id="endpoints",
                name=ENDPOINTS,
                start=lambda: EndpointActor(backend, registry, CALLBACKS, settings.sweep_interval),
            ),
            ChildSpec(
                id="actors",
                name=ACTORS,
                type="supervisor",
                start=lambda: Supervisor(self._children),
            ),
        ]
        root = Supervisor(tree)
        # Held before anything runs: whatever interrupts the start, there is something to stop.
        self._root = root.ref
        root.begin(runtime)
        root.wait_until_up()
        self._state = State.RUNNING
        self.callbacks._find = registry.find
        self._root.monitor().add_done_callback(self._root_ended)

    def _declare(self) -> None:
        """Bring the endpoints to what was declared; what is queued in them stays."""
        for endpoint in self._declared:
            try:
                self.endpoints.create(endpoint).get()
            except EndpointExists:
                stored = self.endpoints.find(endpoint.id).get()
                if stored is not None:
                    endpoint = endpoint.replace(created_at=stored.created_at)
                self.endpoints.update(endpoint).get()

    def _stop(self) -> bool:
        if self._state in (State.NEW, State.STOPPED, State.FORKED):
            return True
        return self._tear_down(State.STOPPED)

    def _tear_down(self, then: State) -> bool:
        if self._state is State.RUNNING:
            self._state = State.STOPPING
        self.callbacks._find = self._refuse_lookup
        # Bound to the state as it is now: these errors may be made after another start.
        refuse = partial(_refusal_of, self._state)
        if self._endpoints_mailbox is not None:
            self._endpoints_mailbox.close(refuse)
        ended = True
        root, runtime = self._root, self._runtime
        if root is not None and root._cell.status is not Status.UNSTARTED:
            cell = root._cell
            cell.mailbox.post_urgent(ExitRequest(cell, ExitReason.SHUTDOWN))
            ended = self._await_end(root)
        if self._registry is not None:
            self._registry.close(refuse)
        if runtime is not None:
            if self._given_runtime is None:
                runtime.registry.close(refuse)
                ended = runtime.stop(timeout=1.0 if ended else 0.1) and ended
            else:
                for name in (ENDPOINTS, CALLBACKS, ACTORS):
                    runtime.registry.give_up(name, refuse)
        self.backend.close()
        self._root = self._runtime = self._registry = self._endpoints_mailbox = None
        self._state = then
        return ended

    def _await_end(self, root: Ref[Supervisor]) -> bool:
        try:
            root.monitor().get(timeout=self.settings.shutdown)
        except pykka.Timeout:
            ended = False
        else:
            ended = True
        if not ended:
            log.error("application.unstopped", shutdown=self.settings.shutdown)
        return ended

    def _root_ended(self, monitor: ReplyFuture[ExitRecord]) -> None:
        """The root supervisor ended: because of ``stop()``, or because it gave up."""
        if self._state is not State.RUNNING:
            return
        self._state = State.FAILED
        refuse = partial(_refusal_of, State.FAILED)
        self.callbacks._find = self._refuse_lookup
        record = monitor.get(timeout=0)
        log.critical("application.failed", error=str(record.exception))
        if self._registry is not None:
            self._registry.close(refuse)
        if self._endpoints_mailbox is not None:
            self._endpoints_mailbox.close(refuse)
        if self._runtime is not None and self._given_runtime is None:
            self._runtime.registry.close(refuse)

    # -- actors of the user's own ------------------------------------------------------------------

    def start_child(
        self, spec: ChildSpec, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[Ref[Any]]:
        """Start an actor of yours, supervised; the reply is its ref, once it has started.

        Give the spec a ``name`` to reach the actor across restarts, by ``ask`` and ``tell``.

        Errors: ``AlreadyStarted``, ``StartFailed``.
        """
        return self.runtime.registry.ask(ACTORS, StartChild(spec), timeout=timeout)

    def terminate_child(
        self, child_id: Hashable, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[None]:
        """Stop an actor of yours. Errors: ``ChildNotFound``."""
        return self.runtime.registry.ask(ACTORS, TerminateChild(child_id), timeout=timeout)

    def ask(
        self, name: Hashable, message: Any, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ReplyFuture[Any]:
        """Ask the actor of that name, now or after its restart.

        Raises:
            NameNotFound: no actor of yours ever had that name.
        """
        return self.runtime.registry.ask(name, message, timeout=timeout)

    def tell(self, name: Hashable, message: Any) -> None:
        """Send to the actor of that name without asking for an answer.

        Raises:
            NameNotFound: no actor of yours ever had that name.
        """
        self.runtime.registry.tell(name, message)

    def whereis(self, name: Hashable) -> Ref[Any] | None:
        """The ref of the actor that has that name now, or None."""
        return self.runtime.registry.whereis(name)

    # -- look-ups ----------------------------------------------------------------------------------

    def _endpoints(self) -> Mailbox:
        mailbox = self._endpoints_mailbox
        if mailbox is None:
            raise self._refusal()
        return mailbox

    def _new_mailbox(self, endpoint_id: str) -> Mailbox:
        """The mailbox of an endpoint that nobody has sent to yet."""
        registry = self._registry
        if registry is None:
            raise self._refusal()
        if not isinstance(endpoint_id, str) or not endpoint_id:
            raise InvalidValue("endpoint_id", "the id of an endpoint, a str", repr(endpoint_id))
        return registry.mailbox(endpoint_id)

    def _refuse_lookup(self, endpoint_id: Hashable) -> Mailbox | None:
        self._check()
        return None

    def _check(self) -> None:
        if self._state is not State.RUNNING:
            raise self._refusal()

    def _refusal(self) -> Exception:
        return _refusal_of(self._state)

    def _forked(self) -> None:
        """In a forked child: none of our threads is there, nothing here can ever answer."""
        self._guard = Guard()  # a thread that held it is not here
        if self._runtime is None:
            return
        self._state = State.FORKED
        self.callbacks._find = self._refuse_lookup
        registry, runtime = self._registry, self._runtime
        self._registry = self._endpoints_mailbox = None
        # Who waits is told nothing: they wait in the parent, and their callbacks belong there.
        if registry is not None:
            registry.refuse(ForkedProcess)
        if runtime is not None:
            runtime.registry.refuse(ForkedProcess)


def _refusal_of(state: State) -> Exception:
    """Why an application in this state takes no calls."""
    if state is State.FORKED:
        return ForkedProcess()
    if state is State.FAILED:
        hint = "its actors crashed too often: see the log, then stop() and start() it"
        return NotRunning(state, hint)
    return NotRunning(state)


def _check_declared(endpoints: tuple[Endpoint, ...]) -> None:
    seen: set[str] = set()
    for endpoint in endpoints:
        if not isinstance(endpoint, Endpoint):
            raise InvalidValue("endpoints", "Endpoint instances", repr(endpoint))
        if endpoint.id in seen:
            raise InvalidValue("endpoints", "ids that differ", repr(endpoint.id))
        seen.add(endpoint.id)


_applications: weakref.WeakSet[Application] = weakref.WeakSet()


def _after_fork() -> None:
    for application in tuple(_applications):
        with contextlib.suppress(ReferenceError):
            application._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
