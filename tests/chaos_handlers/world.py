"""One run: applications in virtual time, traffic, misfortune, and the end."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from examples.own_backend import ListBackend
from pollin_actors import Application, Callback, Request, Settings, State
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.messages import DumpPage, HistoryPage, Stats
from pollin_actors.otp import ReplyFuture, Runtime, Simulation
from pollin_actors.records import Kind, Record
from pollin_actors.tree import CALLBACKS, CONSUMERS, ENDPOINTS
from tests.chaos_handlers.book import Book, Pushed, check_endpoint
from tests.chaos_handlers.functions import Functions
from tests.chaos_handlers.moody import Crash, Moody
from tests.chaos_handlers.plan import PHASES, Plan

__all__ = ["World", "run"]

# What must not crash too often, or the application gives up: more than twice in so many seconds.
CRASHES, WITHIN = 2, 6.0

KEYS = [None, None, "even", "odd"]


class Node:
    """One process: an application with its backend."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        simulation = world.simulation
        self.runtime = Runtime(
            simulation.clock,
            simulation.scheduler,
            simulation.timers,
            random=Random(f"{world.plan.seed} {number}"),
        )
        self._crashes: list[float] = []
        self.backend = self._new_backend()
        self.app = self._new_app()

    def _new_backend(self) -> Moody:
        world = self._world
        return Moody(
            world.new_inner(), world.random, self.runtime, self.may_crash, world.book.note_claim
        )

    def _new_app(self) -> Application:
        plan = self._world.plan
        app = Application(
            self.backend,
            endpoints=plan.endpoints,
            settings=Settings(
                sweep_interval=5.0, poll_interval=plan.poll, idle_after=plan.idle_after
            ),
            runtime=self.runtime,
        )
        for handler in plan.handlers:
            function = Functions(self._world, self, handler).function
            app.add_handler(function, handler.endpoint, name=handler.name, **handler.options)
        return app

    def may_crash(self) -> bool:
        """Whether something at the root may crash now; if so, it is counted."""
        now = self._world.simulation.clock.monotonic()
        self._crashes = [at for at in self._crashes if at > now - WITHIN]
        if len(self._crashes) >= CRASHES or self.app.state is not State.RUNNING:
            return False
        self._crashes.append(now)
        return True

    def start(self) -> None:
        """Start the application, again until it succeeds."""
        world = self._world
        for tries in range(30):
            self.calm(world.calm or tries > 5)
            try:
                self.app.start()
            except Exception:
                world.simulation.advance(world.random.random())
            else:
                break
        assert self.app.state is State.RUNNING
        self.calm(world.calm)

    def restart(self) -> None:
        """Stop in order, and start the same application or a new one."""
        self.app.stop()
        if self._world.random.random() < 0.5:
            self.app = self._new_app()
        self.start()

    def kill(self) -> None:
        """Nothing it says reaches the store any more; then another takes its place."""
        self.backend.dead = True
        self.app.stop()
        self.backend = self._new_backend()
        self.app = self._new_app()
        self.start()

    def calm(self, calm: bool) -> None:
        """Whether the backend has no moods."""
        plan, backend = self._world.plan, self.backend
        backend.rate = 0.0 if calm else plan.rate
        backend.mistakes = 0.0 if calm else plan.mistakes
        backend.late = 0.0 if calm else plan.late


class World:
    """What a seed stands for, alive.

    Args:
        seed: the same seed gives the same run.
        simulation: entered.
        folder: for files.
    """

    def __init__(self, seed: int, simulation: Simulation, folder: Path) -> None:
        self.plan = Plan(seed)
        self.random = Random(f"run {seed}")
        self.simulation = simulation
        self.calm = False
        self.hanging = 0
        self.book = Book()
        self.wrong: list[str] = []
        self.happened: Counter[str] = Counter()
        # The whole history of each endpoint, at the end.
        self.history: dict[str, list[Record]] = {}
        self._drains: list[ReplyFuture[None]] = []
        self._folder = folder
        self._memory: Any = ListBackend() if self.plan.backend == "list" else MemoryBackend()
        self.nodes = [Node(self, number) for number in range(self.plan.nodes)]

    def new_inner(self) -> Any:
        """A backend on the one store."""
        if self.plan.backend == "sqlite":
            return SqliteBackend(self._folder / "inbox.db", durability="normal")
        return self._memory

    def is_bad(self, id: str) -> bool:
        """Whether no handler ever succeeds with a callback."""
        return id.startswith("bad")

    def let_go_later(self, future: ReplyFuture[None], delay: float) -> None:
        """Settle a future after so many seconds."""
        self.simulation.timers.call_later(delay, lambda: future._settle((None, None)))

    # -- its life ----------------------------------------------------------------------------------

    def live(self) -> None:
        """Start, push and have trouble, then let all come to rest and look."""
        for node in self.nodes:
            node.start()
        for step in range(self.plan.steps):
            for n in range(self.random.randint(1, 4)):
                self._push(step, n)
            self.simulation.advance(self.random.random() * self.plan.pace)
            self._trouble()
        self._rest()
        self._check()
        for node in self.nodes:
            if not node.app.stop():
                self.wrong.append("it did not stop in time")

    def _push(self, step: int, n: int) -> None:
        choice, book = self.random.choice, self.book
        node, endpoint = choice(self.nodes), choice(self.plan.endpoints).id
        id = f"{'bad' if self.random.random() < 0.1 else 'good'}-{step}-{n}"
        known = [key for of, key in book.pushes if of == endpoint]
        parent = choice(known) if known and self.random.random() < 0.2 else None
        key, before = choice(KEYS), None
        if self.random.random() < 0.1:
            now = self.simulation.clock.time_ns()
            before = now + round(self.random.random() * 20e9)
        pushed = book.pushes[endpoint, id] = Pushed(key, before)
        callback = Callback.new(
            Request([], b"{}"), id=id, parent=parent, ordering_key=key, not_before=before
        )
        with contextlib.suppress(Exception):
            node.app.callbacks.push(endpoint, callback).get()
            pushed.accepted = True

    def _trouble(self) -> None:
        for what, rate in self.plan.trouble.items():
            if self.random.random() < rate:
                self.happened[f"trouble: {what}"] += 1
                getattr(self, f"_{what}")(self.random.choice(self.nodes))
        for node in self.nodes:
            if node.app.state is not State.RUNNING:
                node.start()

    def _wait(self) -> None:
        self.simulation.advance(self.random.random() * self.random.choice([0.1, 2.0, 15.0]))

    def _name(self) -> str:
        return self.random.choice(self.plan.handlers).name

    # -- misfortune --------------------------------------------------------------------------------

    def _crash(self, node: Node) -> None:
        run = node.app.handlers._run
        ref = run.registry.whereis(self._name()) if run is not None else None
        if ref is not None:
            ref._cell.actor._inbox.put(_fall)

    def _pause(self, node: Node) -> None:
        name = self._name()
        node.app.handlers.pause(name)
        self._wait()
        if self.random.random() < 0.5:
            self._restart(node)
            self._wait()
        node.app.handlers.resume(name)

    def _drain(self, node: Node) -> None:
        name = self._name()
        self._drains.append(node.app.handlers.drain(name))
        self._wait()
        node.app.handlers.resume(name)

    def _restart(self, node: Node) -> None:
        node.restart()

    def _kill(self, node: Node) -> None:
        node.kill()

    def _supervisor(self, node: Node) -> None:
        """Crash a supervisor, or the actor of all endpoints."""
        name = self.random.choice([CALLBACKS, CONSUMERS, ENDPOINTS])
        ref = node.runtime.registry.whereis(name)
        if ref is None or not node.may_crash():
            return
        cell: Any = ref._cell
        cell.actor.on_info = _fall
        cell.mailbox.post_urgent("crash")

    def _meddle(self, node: Node) -> None:
        """Somebody moves, deletes or pops callbacks that handlers may have."""
        callbacks = node.app.callbacks
        endpoint, key = self.random.choice(list(self.book.pushes) or [("e0", "none")])
        with contextlib.suppress(Exception):
            match self.random.randrange(3):
                case 0:
                    phase = self.random.choice(PHASES)
                    callbacks.update_phase(endpoint, key=key, phase=phase).get()
                case 1:
                    callbacks.delete(endpoint, key=key).get()
                case 2:
                    callbacks.pop(endpoint, key=key).get()

    # -- the end -----------------------------------------------------------------------------------

    def _rest(self) -> None:
        self.calm = True
        for node in self.nodes:
            node.calm(True)
            for handler in self.plan.handlers:
                node.app.handlers.resume(handler.name)
        for _ in range(40):
            self.simulation.advance(30.0)
            if self._is_at_rest():
                break
        self.simulation.advance(120.0)

    def ask(self, message: Any) -> Any:
        """Have the store itself execute a message."""
        reply = self.nodes[0].backend.inner.execute(message)
        return reply.get() if isinstance(reply, ReplyFuture) else reply

    def _is_at_rest(self) -> bool:
        for endpoint in self.plan.endpoints:
            page = self.ask(DumpPage(endpoint.id, None, 10_000))
            consumed = self.plan.consumed(endpoint.id)
            if any(callback.phase in consumed for callback in page.callbacks):
                return False
        return True

    def records(self, endpoint: str) -> list[Record]:
        """The whole history of an endpoint."""
        page = self.ask(HistoryPage(endpoint, 0, 1_000_000))
        records: list[Record] = page.records
        return records

    def _check(self) -> None:
        if not all(drain.done() for drain in self._drains):
            self.wrong.append("a drain was not answered")
        for endpoint in self.plan.endpoints:
            id, plan = endpoint.id, self.plan
            most = {phase: plan.most(id, phase) for phase in PHASES}
            records = self.history[id] = self.records(id)
            self.happened.update(record.kind.value for record in records)
            self.wrong += check_endpoint(id, records, self.book, plan.consumed(id), most)
            if plan.leases_hold:
                lapsed = [record for record in records if record.kind is Kind.LAPSED]
                self.wrong += [f"{record.callback_id}: its lease ran out" for record in lapsed]
            claimed = self.ask(Stats(id)).claimed
            if claimed:
                self.wrong.append(f"{id}: {claimed} are claimed")
        for node in self.nodes:
            held = {info.name: info.held for info in node.app.handlers if info.held}
            if held:
                self.wrong.append(f"handlers hold callbacks still: {held}")
            if node.app._keeper._owners:
                self.wrong.append(f"{len(node.app._keeper._owners)} claims are kept still")


def _fall(*_: object) -> None:
    raise Crash


def run(seed: int, folder: Path) -> World:
    """Live through a seed.

    Args:
        seed: which.
        folder: an empty one.
    """
    with Simulation(seed) as simulation:
        world = World(seed, simulation, folder)
        world.live()
    return world
