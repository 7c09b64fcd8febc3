"""The application: starts and stops the tree, and is the facade that users hold."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

import pykka
import structlog

from pollin_actors.actors import Locate
from pollin_actors.actors.changes import Changes
from pollin_actors.actors.claim_keeper import ClaimKeeper
from pollin_actors.backends import open_backend
from pollin_actors.backends.interface import Announces, Backend
from pollin_actors.declared import check_declared, declared_over
from pollin_actors.errors import (
    EndpointConflict,
    EndpointExists,
    EndpointNotFound,
    ForkedProcess,
    InvalidValue,
    NotRunning,
)
from pollin_actors.facade import Callbacks, Endpoints
from pollin_actors.handlers import Handlers, Handling, run_of
from pollin_actors.instruments import Instrumentation
from pollin_actors.messages import CheckReady
from pollin_actors.otp import (
    ChildSpec,
    Event,
    EventHook,
    ExitRecord,
    Registry,
    ReplyFuture,
    Runtime,
    Supervisor,
    SupervisorRef,
    ThreadPool,
)
from pollin_actors.otp.cell import ExitRequest, Status
from pollin_actors.otp.event_hooks import EventHooks
from pollin_actors.otp.exits import ExitReason
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.last_words import OWN, log_exception
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.own_actors import OwnActors
from pollin_actors.resources import Endpoint
from pollin_actors.settings import DEFAULT_TIMEOUT, Settings
from pollin_actors.signals import until_signalled
from pollin_actors.state import State, refusal_of
from pollin_actors.tree import ACTORS, CALLBACKS, CONSUMERS, ENDPOINTS, tree_specs

__all__ = ["Application", "State"]

DECLARE_TRIES = 20

log = structlog.get_logger("pollin_actors")


class Companion(Protocol):
    """What belongs to an application and works while that runs."""

    def begin(self, runtime: Runtime) -> None:
        """The application has started. Must neither wait nor raise; may be called twice."""
        ...


C = TypeVar("C", bound=Companion)


class Application(OwnActors, Handling):
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
        children: actors of your own, supervised beside the inbox: specs, or classes.
        on_event: called with every event of supervision, after it was logged; it must be quick
            and never wait.
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
        children: Iterable[ChildSpec | type[pykka.Actor]] = (),
        on_event: EventHook | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self.settings = settings if settings is not None else Settings()
        self._declared = (*self.settings.endpoints, *endpoints)
        check_declared(self._declared)
        self._children = tuple(children)
        Supervisor(self._children)  # a wrong one is refused here, before anything starts
        self._event_hooks = EventHooks(on_event)
        self._has_hook = on_event is not None
        # That of a runtime which was given, where we were given none.
        self._given_hook: EventHook | None = None
        self._given_runtime = runtime
        self.backend: Backend = open_backend(
            backend if backend is not None else self.settings.backend
        )
        self._guard = Guard()
        self._state = State.NEW
        self._started = False
        self._preparing = False
        self._runtime: Runtime | None = None
        self._root: SupervisorRef[Any] | None = None
        self._registry: Registry | None = None
        self._endpoints_mailbox: Mailbox | None = None
        self.handlers = Handlers()
        self.instruments = Instrumentation()
        """Who watches: ``app.instruments.add(…)``. They stay from one start to the next."""
        self.instruments._hear = self._hear
        self.endpoints = Endpoints(self._endpoints)
        self._changes = Changes()
        self._companions: dict[Callable[..., Any], Companion] = {}
        # Whichever backend it is then: a test may put another in its place.
        self._keeper = ClaimKeeper(execute=lambda message: self.backend.execute(message))
        find, new = self._refuse_lookup, self._new_mailbox
        self.callbacks = Callbacks(find, new, self._changes, self._keeper, None, self.instruments)
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

    def ensure_started(self) -> Self:
        """The same as ``start``, by the name that OTP has for it."""
        return self.start()

    def stop(self) -> bool:
        """Stop the tree in reverse order; what is queued for an actor and not handled fails.

        Callbacks stay in the backend. Stopping twice is harmless.

        Returns:
            Whether everything ended within ``settings.shutdown`` seconds. What did not was
            abandoned and logged as ``actor.unstopped``.
        """
        return bool(self._guard.run(self._stop))

    def ready(self, *, timeout: float | None = DEFAULT_TIMEOUT) -> ReplyFuture[None]:
        """Whether the inbox can take something now. A trial, which leaves nothing behind.

        Settles once the backend could store a change; errors: ``BackendUnavailable``.
        """
        return self._endpoints().ask(CheckReady(), timeout)

    def add_event_hook(self, hook: EventHook) -> Callable[[], None]:
        """Have one more function called with every event of supervision, as ``on_event`` is; also
        of an application that is running, or is started later.

        Returns:
            A function that takes the hook away again.
        """
        remove = self._event_hooks.add(hook)
        self._hear()
        return remove

    def run(self) -> bool:
        """Start, wait for SIGTERM or SIGINT (or for a failure), and stop; in the main thread.

        For services whose main thread has nothing else to do. A signal that comes during the
        start counts once that is done; a second signal raises ``SystemExit`` at once. The handlers
        of both signals are put back afterwards.

        Returns:
            As ``stop``.

        Raises:
            As ``start``.
        """
        with until_signalled() as (over, end), self:
            if self._root is not None:
                self._root.monitor().add_done_callback(end)
            over.get()
            return self.stop()

    def companion(self, kind: Callable[[Application], C]) -> C:
        """What belongs to this application, one of each kind, made when it is first asked for.

        Its ``begin`` is called with the runtime after each start, and now if the application runs.

        Args:
            kind: its class, or whatever makes one.
        """
        if kind not in self._companions:
            self._companions.setdefault(kind, kind(self))
        one = cast("C", self._companions[kind])
        # Looked at afterwards: a start that is under way finds it, or is found here.
        runtime = self._runtime
        if self._state is State.RUNNING and runtime is not None:
            one.begin(runtime)
        return one

    # -- for subclasses ----------------------------------------------------------------------------

    start_phases: ClassVar[Sequence[str]] = ()
    """``start_phase`` is called with each of them, in order, once the tree is up; handlers begin
    afterwards."""

    def start_phase(self, phase: str) -> None:
        """A step of the start, in ``start_phases``; everything can be used already.

        What it raises makes the start fail: the tree is stopped, and nothing is left running.
        """

    def prep_stop(self) -> None:
        """Called before the tree stops, while everything works; again if that is interrupted."""

    def stopped(self) -> None:
        """Called once the tree has stopped, also after a failure."""

    # -- life, on the inside -----------------------------------------------------------------------

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
        if not self._has_hook and runtime.on_event != self._tell_event:
            self._given_hook = runtime.on_event
        try:
            self._runtime = runtime
            self._hear()  # only now: who is added at this moment looks for the runtime afterwards
            runtime.start()
            if isinstance(self.backend, Announces):
                self.backend.announce_to(self._changes.announced)
            self.backend.open(runtime.clock.time_ns)
            self._build(runtime)
            self._declare()
            for phase in self.start_phases:
                self.start_phase(phase)
                self._check()  # the tree may have given up meanwhile
            self.handlers.begin(self.endpoints.find)
            for companion in list(self._companions.values()):
                companion.begin(runtime)
            self._started = True
        except BaseException:
            self._tear_down(State.NEW if self._state is not State.FAILED else State.FAILED)
            raise

    def _hear(self) -> None:
        """Have events of supervision told to those who want to know."""
        runtime = self._runtime
        while runtime is not None:
            told = self._is_heard()
            runtime.on_event = self._tell_event if told else self._given_hook
            # Somebody may have come or gone meanwhile, and been here before us: of several threads
            # the last one to say it has seen all that there are.
            if told is self._is_heard():
                return

    def _is_heard(self) -> bool:
        return bool(self.instruments.supervised_by or self._event_hooks)

    def _tell_event(self, event: Event) -> None:
        self.instruments.supervised(event)
        self._event_hooks(event)
        hook = self._given_hook
        if hook is not None:
            try:
                hook(event)
            except OWN:
                log_exception("event_hook.failed", failed=event.event, hook=repr(hook))

    def _build(self, runtime: Runtime) -> None:
        settings, backend = self.settings, self.backend
        endpoints_mailbox = self._endpoints_mailbox = runtime.registry.mailbox(ENDPOINTS)

        def on_demand(mailbox: Mailbox) -> None:
            # An ask, although nobody waits: the sender may run the whole start itself.
            endpoints_mailbox.ask(Locate(str(mailbox.name)))

        registry = self._registry = Registry(runtime, on_demand)

        poll = settings.poll_interval if backend.shared else None
        self.callbacks._poll_interval = poll
        run = run_of(
            runtime,
            endpoints_mailbox,
            registry,
            self._changes,
            self._keeper,
            poll,
            self.instruments,
        )
        handlers = self.handlers
        handlers.prepare(run)
        root = Supervisor(
            tree_specs(
                settings,
                backend,
                registry,
                self._children,
                self._changes,
                handlers.child_specs,
                run.registry,
                handlers.phases_of,
                self.instruments,
            )
        )
        # Held before anything runs: whatever interrupts the start, there is something to stop.
        self._root = root.ref
        root.begin(runtime)
        root.wait_until_up()
        self._state = State.RUNNING
        self.callbacks._find = self._keeper.find = registry.find
        self._root.monitor().add_done_callback(self._root_ended)

    def _declare(self) -> None:
        """Bring the endpoints to what was declared; what is queued in them stays.

        What handlers consume is said from the first push on, and stays said: those of other
        processes do not say it again. Else a backlog could expire before they begin.
        """
        for declared in self._declared:
            consumes = {*declared.consumes, *self.handlers.phases_of(declared)}
            endpoint = declared.replace(consumes=consumes)
            # Each time that it is not, somebody else was quicker.
            if not any(self._brought(endpoint) for _ in range(DECLARE_TRIES)):
                raise EndpointConflict(endpoint.id)

    def _brought(self, declared: Endpoint) -> bool:
        try:
            self.endpoints.create(declared).get()
        except EndpointExists:
            pass
        else:
            return True
        stored = self.endpoints.find(declared.id).get()
        if stored is None:
            return False
        endpoint = declared_over(stored, declared, self.runtime.clock.time_ns())
        try:
            self.endpoints.update(endpoint, expect=stored).get()
        except (EndpointConflict, EndpointNotFound):
            return False
        if endpoint.secret != declared.secret and not declared.secret.is_generated:
            hint = "it was replaced, and the one that did so is valid: rotate to go back to it"
            log.warning("endpoint.declared_secret_ignored", endpoint=endpoint.id, hint=hint)
        return True

    def _stop(self) -> bool:
        if self._preparing or self._state in (State.NEW, State.STOPPED, State.FORKED):
            return True
        return self._tear_down(State.STOPPED)

    def _tear_down(self, then: State) -> bool:
        ended = True
        if self._state is State.RUNNING:
            self._preparing = True
            try:
                if self._started:
                    self._call_hook(self.prep_stop)
                # They may use the application until they have finished.
                ended = self.handlers.finish(self.settings.shutdown / 2)
            finally:
                self._preparing = False
            self._state = State.STOPPING
        self.callbacks._find = self._refuse_lookup
        self._changes.anywhere()  # who waits is refused
        # Bound to the state as it is now: these errors may be made after another start.
        refuse = partial(refusal_of, self._state)
        if self._endpoints_mailbox is not None:
            self._endpoints_mailbox.close(refuse)
        root, runtime = self._root, self._runtime
        if root is not None and root._cell.status is not Status.UNSTARTED:
            cell = root._cell
            cell.mailbox.post_urgent(ExitRequest(cell, ExitReason.SHUTDOWN))
            ended = self._await_end(root) and ended
        ended = self.handlers.close(1.0) and ended
        if self._registry is not None:
            self._registry.close(refuse)
        if runtime is not None:
            if self._given_runtime is None:
                runtime.registry.close(refuse)
                ended = runtime.stop(timeout=1.0 if ended else 0.1) and ended
            else:
                for name in (ENDPOINTS, CALLBACKS, CONSUMERS, ACTORS):
                    runtime.registry.give_up(name, refuse)
        self.backend.close()
        self._root = self._runtime = self._registry = self._endpoints_mailbox = None
        self._state = then
        was_started, self._started = self._started, False
        if was_started:
            self._call_hook(self.stopped)
        return ended

    def _call_hook(self, hook: Callable[[], None]) -> None:
        try:
            hook()
        except (Exception, SystemExit, GeneratorExit):
            # Whatever a hook does, the tree is stopped.
            log.exception("application.hook_failed", hook=hook.__name__)

    def _await_end(self, root: SupervisorRef[Any]) -> bool:
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
        refuse = partial(refusal_of, State.FAILED)
        self.callbacks._find = self._refuse_lookup
        record = monitor.get(timeout=0)
        log.critical("application.failed", error=str(record.exception))
        if self._registry is not None:
            self._registry.close(refuse)
        if self._endpoints_mailbox is not None:
            self._endpoints_mailbox.close(refuse)
        if self._runtime is not None and self._given_runtime is None:
            self._runtime.registry.close(refuse)
        self._changes.anywhere()  # who waits is refused

    # -- look-ups ----------------------------------------------------------------------------------

    def _supervisor(self) -> SupervisorRef[Any]:
        root = self._root
        if root is None:
            raise self._refusal()
        return root

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
        return refusal_of(self._state)

    def _forked(self) -> None:
        """In a forked child: none of our threads is there, nothing here can ever answer."""
        self._guard = Guard()  # a thread that held it is not here
        self.instruments._guard = Guard()
        self._event_hooks.free()
        self._changes.free()
        if self._runtime is None:
            return
        self._state = State.FORKED
        self.handlers.forget()
        self.callbacks._find = self._refuse_lookup
        registry, runtime = self._registry, self._runtime
        self._registry = self._endpoints_mailbox = None
        # Who waits is told nothing: they wait in the parent, and their callbacks belong there.
        if registry is not None:
            registry.refuse(ForkedProcess)
        if runtime is not None:
            runtime.registry.refuse(ForkedProcess)


_applications: weakref.WeakSet[Application] = weakref.WeakSet()


def _after_fork() -> None:
    for application in tuple(_applications):
        with contextlib.suppress(ReferenceError):
            application._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
