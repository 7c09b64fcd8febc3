"""The book that is kept of a supervision tree's life, and the actors that keep it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from pollin_actors.otp import (
    Actor,
    AutoShutdown,
    ChildSpec,
    ChildState,
    DynamicSupervisor,
    Event,
    Exited,
    ExitReason,
    ExitRecord,
    GaveUp,
    IntensityExceeded,
    Later,
    NamedSupervisor,
    OtpError,
    Ref,
    ReplyFuture,
    Restarting,
    Shutdown,
    Simulation,
    Started,
    StartFailed,
    Stop,
    Supervisor,
    SupervisorRef,
)
from pollin_actors.otp.cell import Status
from pollin_actors.otp.children import Child
from pollin_actors.otp.supervision import BaseSupervisor
from pollin_actors.otp.waiting import current_cell
from tests.otp.actors import Refused
from tests.otp.tree_plans import (
    CALLS,
    INTERRUPTS,
    MESSAGES,
    Boom,
    Interrupt,
    Plan,
    Scenario,
    TreePlan,
    WorkerPlan,
)


class Slot:
    """A child of one incarnation of a supervisor, through all its restarts."""

    def __init__(self, owner: Life | None, path: str, plan: Plan, index: int | None = None) -> None:
        self.owner = owner
        self.path = path
        self.plan = plan
        self.name = path if plan.named else None
        self.index = index
        self.was_up = False
        # Whether a restart, or its supervisor's start, allows for one more start of it, and
        # whether that start has its place in an order.
        self.allowed = index is not None or owner is None
        self.due = index is not None
        # Whether it need not be started in order, because a call may have ended it.
        self.excused = False

    def terminated(self, call: ReplyFuture[None]) -> None:
        with suppress(OtpError):
            call.get(timeout=0)
            self.due = False


class Life:
    """One incarnation."""

    def __init__(self, world: World, slot: Slot, ordered: bool) -> None:
        self.world = world
        self.slot = slot
        self.ordered = ordered
        self.ref: Ref[Any]
        self.phase = "made"
        self.busy = False
        self.up = False
        self.ended_itself = False
        self.exit: ExitRecord | None = None
        self.told = 0
        # Of a supervisor.
        self.slots: list[Slot] = []
        self.children: list[Life] = []
        self.restarts: list[float] = []
        self.called: list[tuple[str, ReplyFuture[Any]]] = []

    def __repr__(self) -> str:
        return f"{self.slot.path} #{self.world.lives.index(self)}"

    @property
    def attached(self) -> bool:
        """Whether it was brought to life and has not ended."""
        status = self.ref._cell.status
        if self.phase == "made" and status is Status.STOPPING:
            return False  # its name was taken
        return self.exit is None and status is not Status.UNSTARTED

    @property
    def tree(self) -> TreePlan:
        plan = self.slot.plan
        assert isinstance(plan, TreePlan)
        return plan

    def orphaned(self) -> bool:
        """Whether a supervisor above it was abandoned."""
        owner = self.slot.owner
        while owner is not None:
            if owner.exit is not None and owner.exit.reason is ExitReason.UNSTOPPED:
                return True
            owner = owner.slot.owner
        return False

    def wrong(self, text: str) -> None:
        self.world.wrong(f"{self}: {text}")

    def note(self, kind: str) -> None:
        """One of its hooks runs."""
        record, root = self.exit, self.world.lives[0]
        if record is not None:
            if record.reason is not ExitReason.UNSTOPPED:
                self.wrong(f"{kind} after its exit record {record}")
            return
        if root.exit is not None and not self.orphaned():
            self.wrong(f"{kind} after the root has ended")
        if self.busy and kind != "failure":
            self.wrong(f"{kind} in the middle of another hook")
        expected = {"start": ("made",), "receive": ("up",), "stop": ("up",)}
        if self.phase not in expected.get(kind, ("started", "up", "stopped")):
            self.wrong(f"{kind} when it is {self.phase}")
        if kind == "start":
            self.phase = "started"
            name = self.slot.name
            if name is not None:
                bearer = self.world.bearers.get(name)
                if bearer is not None and bearer.exit is None:
                    self.wrong(f"bears the name of {bearer}, which is alive")
                self.world.bearers[name] = self
        elif kind == "stop":
            self.phase = "stopped"
            self.check_stop()

    @contextmanager
    def turn(self, kind: str) -> Iterator[None]:
        self.note(kind)
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    def check_stop(self) -> None:
        """Its supervisor stops it: those after it in the list have ended."""
        owner, slot = self.slot.owner, self.slot
        ending = self.ref._cell.exit
        if owner is None or owner.exit is not None or self.ended_itself:
            return
        if ending is None or ending.reason is not ExitReason.SHUTDOWN:
            return
        if slot.plan.shutdown == "brutal_kill" and not isinstance(slot.plan, TreePlan):
            self.wrong("on_stop although it is to be killed")
        if owner.tree.strategy == "dynamic" or self.world.pending("terminate_child", slot):
            return
        after = owner.slots[owner.slots.index(slot) + 1 :]
        for other in owner.children:
            if other.slot in after and other.attached:
                self.wrong(f"stops before {other}, which stands after it")

    def ended(self, monitor: ReplyFuture[ExitRecord]) -> None:
        record = monitor.get(timeout=0)
        if self.exit is not None:
            self.wrong("a second exit record")
        self.exit = record
        error = record.exception
        if not isinstance(self.slot.plan, TreePlan):
            if error is not None and not isinstance(error, (Boom, Refused, Stop, *INTERRUPTS)):
                self.wrong(f"ended by {error!r}")
            return
        if record.reason is ExitReason.UNSTOPPED:
            return
        if error is not None and not isinstance(error, (IntensityExceeded, StartFailed)):
            self.wrong(f"the supervisor crashed: {error!r}")
        for child in self.children:
            if child.attached:
                self.wrong(f"the supervisor has ended before {child}")


class World:
    """The tree, the operations on it, and everything that is known of them."""

    def __init__(self, simulation: Simulation, scenario: Scenario) -> None:
        self.simulation = simulation
        self.runtime = simulation.runtime
        self.booked: list[Event] = []
        self.told: list[Event] = []
        self.runtime.on_event = self.told.append
        self.scenario = scenario
        self.errors: list[str] = []
        self.lives: list[Life] = []
        self.by_ref: dict[Any, Life] = {}
        self.bearers: dict[str, Life] = {}
        self.starts: Counter[str] = Counter()
        self.futures: list[tuple[str, ReplyFuture[Any]]] = []
        self.calls: dict[tuple[str, str, str], list[ReplyFuture[Any]]] = defaultdict(list)
        self.sending: tuple[str, str, str] | None = None
        self.raised = self.surfaced = 0

    def wrong(self, text: str) -> None:
        self.errors.append(f"at {self.simulation.clock.monotonic():g}: {text}")

    def asked(
        self, what: str, future: ReplyFuture[Any], to: Life | None = None
    ) -> ReplyFuture[Any]:
        self.futures.append((what, future))
        if to is not None:
            to.called.append((what, future))
        return future

    def pending(self, call: str, slot: Slot) -> bool:
        """Whether such a call about a child has been sent and is not answered."""
        owner = slot.owner
        assert owner is not None
        key = (call, owner.slot.path, slot.path)
        return key == self.sending or any(not future.done() for future in self.calls[key])

    def interrupt(self, kind: str) -> BaseException:
        self.raised += 1
        return SystemExit(kind) if kind == "exit" else Interrupt(kind)

    # -- starts ------------------------------------------------------------------------------------

    def spec(self, slot: Slot) -> ChildSpec:
        plan, owner = slot.plan, slot.owner
        significant = plan.significant and plan.restart != "permanent"
        if slot.index is not None and owner is not None and owner.tree.auto_shutdown == "never":
            significant = False  # a call may try it
        return ChildSpec(
            id=slot.path,
            start=lambda: self.make(slot),
            restart=plan.restart,
            shutdown=plan.shutdown,
            type="supervisor" if isinstance(plan, TreePlan) else "worker",
            name=slot.name,
            significant=significant,
        )

    def make(self, slot: Slot) -> Actor:
        starter = current_cell.get()
        if starter is not None:
            slot.owner = self.by_ref[starter.ref]  # a call by name may reach the next incarnation
        life = Life(self, slot, slot.due)
        self.lives.append(life)
        self.check_start(life)
        plan = slot.plan
        self.starts[slot.path] += 1
        actor: Actor
        if isinstance(plan, WorkerPlan):
            failure = plan.failure if self.starts[slot.path] in plan.fails else ""
            if failure == "factory":
                self.lives.pop()
                raise Boom(failure)
            actor = (Waiter if plan.waits else Worker)(life, plan, failure)
        else:
            actor = make_supervisor(life)
        life.ref = actor._cell.ref
        self.by_ref[life.ref] = life
        life.ref.monitor().add_done_callback(life.ended)
        if slot.owner is not None:
            slot.owner.children.append(life)
        return actor

    def check_start(self, life: Life) -> None:
        slot, owner = life.slot, life.slot.owner
        if owner is None:
            return
        if owner.exit is not None:
            life.wrong("is started by a supervisor that has ended")
        if slot not in owner.slots:
            if owner.tree.strategy != "dynamic":
                owner.slots = [each for each in owner.slots if each.path != slot.path]
            # In the list it stands before those that have yet to be started.
            owner.slots.append(slot)
            owner.slots.sort(key=lambda each: each.due)
        elif not slot.allowed and not self.pending("restart_child", slot):
            life.wrong("is started again, and no restart was counted")
        slot.allowed = slot.due = False
        if not life.ordered:
            return
        for other in owner.slots[: owner.slots.index(slot)]:
            if other.due and not other.excused:
                life.wrong(f"is started before {other.path}")
        for sibling in owner.children:
            starting = sibling.ordered and sibling.attached and not sibling.up
            if starting and not self.pending("terminate_child", sibling.slot):
                life.wrong(f"is started while {sibling} is starting")

    # -- events ------------------------------------------------------------------------------------

    def book(self, owner: Life, happened: Event) -> None:
        self.booked.append(happened)
        if isinstance(happened, Started):
            life = self.by_ref[happened.ref]
            life.up = life.slot.was_up = True
        elif isinstance(happened, Exited):
            life = self.by_ref[happened.ref]
            life.told += 1
            if life.exit is not happened.record or life.told > 1:
                life.wrong(f"its supervisor was told otherwise: {happened.record}")
        elif isinstance(happened, Restarting):
            self.restarting(owner, happened)
        elif isinstance(happened, GaveUp):
            owner.ended_itself = True
            if len(self.counting(owner)) < owner.tree.max_restarts:
                owner.wrong(f"gave up too early: {owner.restarts}")
        elif isinstance(happened, AutoShutdown):
            owner.ended_itself = True
            if happened.mode != owner.tree.auto_shutdown or happened.mode == "never":
                owner.wrong(f"auto_shutdown {happened.mode}")

    def counting(self, owner: Life) -> list[float]:
        now = self.simulation.clock.monotonic()
        return [t for t in owner.restarts if now - t <= owner.tree.max_seconds]

    def restarting(self, owner: Life, happened: Restarting) -> None:
        owner.restarts.append(self.simulation.clock.monotonic())
        if len(self.counting(owner)) > owner.tree.max_restarts:
            owner.wrong(f"too many restarts: {owner.restarts}")
        ids = (happened.child, *happened.others)
        rounds = owner.tree.strategy in ("one_for_all", "rest_for_one")
        for slot in owner.slots:
            if slot.path not in ids:
                continue
            temporary = slot.plan.restart == "temporary"
            if slot.path == happened.child and temporary and owner.tree.strategy != "dynamic":
                owner.wrong(f"restarts {slot.path}, which is temporary")
            slot.allowed = True
            starts = not owner.up and slot.index is not None and not slot.was_up
            slot.due = (rounds or starts) and not temporary
            slot.excused = self.pending("terminate_child", slot)

    # -- operations --------------------------------------------------------------------------------

    def drive(self, run: Callable[..., object], *args: object) -> None:
        """Run until it returns; what is interrupted goes on."""
        while True:
            try:
                run(*args)
                return
            except INTERRUPTS:
                self.surfaced += 1

    def perform(self, operation: str, first: int, second: int) -> None:
        """Do what was drawn. Only an interrupt may come out of a message that we run ourselves."""
        try:
            self.perform_one(operation, first, second)
        except INTERRUPTS:
            self.surfaced += 1

    def perform_one(self, operation: str, first: int, second: int) -> None:
        if operation == "settle":
            self.drive(self.simulation.settle)
        elif operation == "advance":
            self.drive(self.simulation.advance, (0.05, 0.3, 1.0, 6.0)[second % 4])
        elif operation == "check":
            self.drive(self.simulation.settle)
            self.check_children()
        elif operation.startswith("call"):
            self.call(first, second, by_name=operation == "call named")
        elif operation == "stop":
            life = self.pick(first)
            self.asked(f"stop {life}", life.ref.stop(block=False))
        else:
            message = "crash" if operation == "crash" else MESSAGES[second % len(MESSAGES)]
            self.send(operation, first, (message, first ^ second))

    def pick(self, number: int, *, supervisors: bool = False) -> Life:
        """One of those alive, or sometimes of all that ever were."""
        lives = [
            life
            for life in self.lives
            if (life.attached or life.exit is not None)
            and (not supervisors or isinstance(life.slot.plan, TreePlan))
        ]
        alive = [life for life in lives if life.attached]
        if alive and number % 8:
            lives = alive
        return lives[-1 - number % len(lives)]

    def send(self, operation: str, number: int, message: tuple[str, int]) -> None:
        life = self.pick(number)
        named = operation.endswith("name")
        what = f"{operation} {life} {message}"
        with suppress(OtpError):  # from tell, and from names that nobody ever bore
            if operation.startswith("tell"):
                if named:
                    self.runtime.registry.tell(life.slot.path, message)
                else:
                    life.ref.tell(message)
            elif named:
                ask = self.runtime.registry.ask
                self.asked(what, ask(life.slot.path, message, timeout=None))
            else:
                self.asked(what, life.ref.ask(message, block=False))

    def call(self, first: int, second: int, *, by_name: bool) -> None:
        life = self.pick(first, supervisors=True)
        handle: Any = life.ref
        assert isinstance(handle, SupervisorRef)
        if by_name:
            handle = NamedSupervisor(self.runtime.registry, life.slot.path)
        call, path = CALLS[second % len(CALLS)], life.slot.path
        number = first // 8 + second // len(CALLS)
        with suppress(OtpError):
            if call == "start_child":
                plan = self.scenario.extras[number % len(self.scenario.extras)]
                slot = Slot(life, f"{path}.+{number % 3}", plan)
                if number % 5 == 4 and plan.named:
                    slot.name = self.lives[number % len(self.lives)].slot.path  # a stranger's
                self.start_child(handle, slot)
            elif call in ("which_children", "count_children", "tree"):
                self.asked(f"{call} {life}", getattr(handle, call)(timeout=None))
            elif call == "unknown":
                if not by_name:
                    self.asked(f"unknown call {life}", handle.ask("unknown", block=False))
            else:
                self.call_about(call, handle, life, number)

    def call_about(self, call: str, handle: Any, life: Life, number: int) -> None:
        """A call that means a child: by its id (and name) or its ref, or one that is not there."""
        if not life.children or number % 6 == 0:
            self.asked(f"{call} nobody", getattr(handle, call)("nobody", timeout=None))
            return
        of = life.children[-1 - number % len(life.children)]
        self.sending = key = (call, life.slot.path, of.slot.path)
        of.slot.excused = of.slot.excused or call == "terminate_child"
        try:
            child = of.ref if number % 5 == 0 else of.slot.path
            future = getattr(handle, call)(child, timeout=None)
            to = life if isinstance(handle, SupervisorRef) else None
            self.calls[key].append(self.asked(f"{call} {of}", future, to))
            if call == "terminate_child":
                future.add_done_callback(of.slot.terminated)
        finally:
            self.sending = None

    def start_child(self, handle: Any, slot: Slot) -> None:
        future = handle.start_child(self.spec(slot), timeout=None)
        called = isinstance(handle, SupervisorRef)
        self.asked(f"start_child {slot.path}", future, slot.owner if called else None)

    # -- what must hold ----------------------------------------------------------------------------

    def check_children(self) -> None:
        """Everything has settled: each supervisor knows its children."""
        for life in [life for life in self.lives if life.attached]:
            if isinstance(life.slot.plan, TreePlan) and isinstance(life.ref, SupervisorRef):
                listed, counted = life.ref.which_children(), life.ref.count_children()
                self.drive(self.simulation.settle)
                if not listed.done() or not counted.done():
                    life.wrong("does not answer")
                    continue
                self.compare(life, listed.get(), counted.get())

    def compare(self, life: Life, listed: list[Any], counts: Any) -> None:
        active = [child.ref for child in listed if child.ref is not None]
        supervisors = sum(child.type == "supervisor" for child in listed)
        if counts != (len(listed), len(active), supervisors, len(listed) - supervisors):
            life.wrong(f"lists {listed} and counts {counts}")
        if life.tree.strategy == "dynamic":
            most = life.tree.max_children
            if most is not None and len(listed) > most:
                life.wrong(f"has too many children: {listed}")
        elif len({child.id for child in listed}) < len(listed):
            life.wrong(f"lists a child twice: {listed}")
        if all(child.state in (ChildState.RUNNING, ChildState.STOPPED) for child in listed):
            for what, future in life.called:
                if not future.done():
                    life.wrong(f"leaves a call unanswered: {what}")
        stopping = sum(child.state is ChildState.STOPPING for child in listed)
        alive = [child for child in life.children if child.attached]
        if len(alive) != len(active) + stopping or not all(self.by_ref[r].attached for r in active):
            life.wrong(f"lists {listed}, and {alive} are alive")
        order = [life.slots.index(self.by_ref[ref].slot) for ref in reversed(active)]
        if life.tree.strategy != "dynamic" and order != sorted(order):
            life.wrong(f"lists its children in another order: {listed}")

    def check_end(self) -> None:
        """The tree has stopped, and time has passed."""
        for life in self.lives:
            if life.attached:
                life.wrong("has not ended")
        for what, future in self.futures:
            if not future.done():
                self.wrong(f"left pending: {what}")
        if self.told != self.booked:
            self.wrong(f"the hook was told {self.told} instead of {self.booked}")
        if self.surfaced > self.raised:
            self.wrong("more interrupts came out than were raised")
        for life in self.lives:
            if life.exit is None:
                continue  # it was never brought to life, as its name was taken
            if not life.ref.ask("late", block=False).done():
                life.wrong("takes messages after its end")
            if life.slot.name is not None:
                with suppress(OtpError):
                    late = self.runtime.registry.ask(life.slot.name, "late", timeout=None)
                    self.drive(self.simulation.settle)
                    if not late.done():
                        life.wrong("its name takes messages after its end")


# -- the actors ------------------------------------------------------------------------------------


class Worker(Actor):
    """Never blocks; does what it is told."""

    never_blocks: ClassVar[bool] = True
    replies: ClassVar[tuple[type[Exception], ...]] = (Refused,)

    def __init__(self, life: Life, plan: WorkerPlan, failure: str) -> None:
        super().__init__()
        self.life = life
        self.world = life.world
        self.plan = plan
        self.failure = failure

    def on_start(self) -> None:
        with self.life.turn("start"):
            self.pause(self.plan.waits)
            if self.failure == "crash":
                raise Boom("on_start")
            if self.failure == "exit":
                raise self.world.interrupt("exit")
            if self.failure == "stop":
                self.stop()
        if self.life.exit is None:
            self.life.phase = "up"

    def on_stop(self) -> None:
        with self.life.turn("stop"):
            self.pause(self.plan.waits)
            if self.plan.on_stop == "crash":
                raise Boom("on_stop")
            if self.plan.on_stop:
                raise self.world.interrupt(self.plan.on_stop)

    def on_failure(self, *_exc_info: Any) -> None:
        self.life.note("failure")

    def on_receive(self, message: Any) -> Any:
        with self.life.turn("receive"):
            return self.obey(*message) if type(message) is tuple else message

    def pause(self, seconds: float) -> None:
        pass

    def obey(self, what: str, number: int) -> Any:
        world = self.world
        if what == "crash":
            raise Boom(what)
        if what in ("interrupt", "exit"):
            raise world.interrupt(what)
        if what == "refuse":
            raise Refused
        if what == "stop":
            self.stop()
        elif what == "Stop":
            raise Stop if number % 2 else Stop(reply=number)
        elif what == "Shutdown":
            self.life.ended_itself = True
            raise Shutdown(number)
        elif what in ("never", "soon", "detached"):
            answer: ReplyFuture[Any] = ReplyFuture()
            if what != "never":
                self.world.runtime.timers.call_later(number % 3, lambda: answer.set(number))
            return Later(answer, detached=what == "detached")
        elif what in ("relay", "ask"):
            other = world.pick(number)
            message = (MESSAGES[number % len(MESSAGES)], number // 2)
            future = world.asked(f"{self.life} {what} {other}", other.ref.ask(message, block=False))
            return Later(future) if what == "relay" else self.wait_for(future)
        elif what == "wait":
            self.pause(0.5 + number % 2)
        return number

    def wait_for(self, future: ReplyFuture[Any]) -> Any:
        return None


class Waiter(Worker):
    """Waits in its hooks, in virtual time."""

    never_blocks: ClassVar[bool] = False

    def pause(self, seconds: float) -> None:
        over: ReplyFuture[None] = ReplyFuture()
        self.world.runtime.timers.call_later(seconds, over.set)
        over.get()

    def wait_for(self, future: ReplyFuture[Any]) -> Any:
        try:
            return future.get(timeout=2.0)
        except Exception as error:
            return repr(error)


class Watched(BaseSupervisor):
    """A supervisor whose events are booked at once, and not when the hook is told."""

    life: Life

    def on_start(self) -> None:
        self.life.note("start")
        super().on_start()
        self.life.phase = "up"

    def on_stop(self) -> None:
        self.life.note("stop")

    def emit(self, kind: type[Event], child: Child, **fields: Any) -> None:
        happened = kind(supervisor=self._cell.label, child=child.spec.id, **fields)
        self.life.world.book(self.life, happened)
        super().emit(kind, child, **fields)


class WatchedSupervisor(Watched, Supervisor):
    pass


class WatchedDynamicSupervisor(Watched, DynamicSupervisor):
    pass


def make_supervisor(life: Life) -> WatchedSupervisor | WatchedDynamicSupervisor:
    plan = life.tree
    made: WatchedSupervisor | WatchedDynamicSupervisor
    options: dict[str, Any] = {
        "max_restarts": plan.max_restarts,
        "max_seconds": plan.max_seconds,
        "backoff": plan.backoff,
    }
    if plan.strategy == "dynamic":
        made = WatchedDynamicSupervisor(max_children=plan.max_children, **options)
    else:
        life.slots = [
            Slot(life, f"{life.slot.path}.{index}", child, index)
            for index, child in enumerate(plan.children)
        ]
        made = WatchedSupervisor(
            [life.world.spec(slot) for slot in life.slots],
            strategy=plan.strategy,
            auto_shutdown=plan.auto_shutdown,
            **options,
        )
    made.life = life
    return made
