"""Claims of actors: they go back as soon as the actor ends, however it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from pollin_actors import Application, Callback, Claim, Endpoint, Kind, Record
from pollin_actors.actors.claim_keeper import MANY, ClaimKeeper
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.errors import BackendUnavailable, InvalidValue
from pollin_actors.messages import Ack, Extend, Nack
from pollin_actors.otp import Actor, ActorDead, ChildSpec, Later, Ref, ReplyFuture, Simulation


class Take(NamedTuple):
    limit: int = 1
    wait: float | None = None


class Boom(Exception):
    pass


class Worker(Actor):
    """Claims when told to, and then does what the message says."""

    app: Application

    def on_receive(self, message: Any) -> Any:
        calls = self.app.callbacks
        if isinstance(message, Take):
            return Later(calls.claim("orders", limit=message.limit, wait=message.wait))
        if message == "boom":
            raise Boom("a secret")
        kind, claim = message
        return Later(getattr(calls, kind)(claim))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logger = logging.getLogger("pykka")
    before, logger.disabled = logger.disabled, True
    yield
    logger.disabled = before


@pytest.fixture(params=[0, 1, 2, 3])
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulation:
        yield simulation


@pytest.fixture
def app(simulation: Simulation) -> Iterator[Application]:
    endpoint = Endpoint.new(["received", "done"], 0, id="orders")
    runtime = simulation.runtime
    with Application(MemoryBackend(), endpoints=[endpoint], runtime=runtime) as app:
        for id in "abc":
            app.callbacks.push("orders", Callback.new(b"x", id=id)).get()
        yield app


@pytest.fixture
def worker(app: Application) -> Ref[Worker]:
    class Mine(Worker):
        pass

    Mine.app = app
    spec = ChildSpec(id="worker", name="worker", start=Mine, restart="temporary")
    return app.start_child(spec).get()


def history(app: Application, key: str) -> list[Record]:
    return app.callbacks.history("orders", key=key).get()


def claims(worker: Ref[Worker], limit: int = 1) -> list[Claim]:
    found: list[Claim] = worker.ask(Take(limit))
    return found


def kept(app: Application) -> int:
    return len(app._keeper._owners)


def test_what_a_crashed_actor_had_claimed_is_available_at_once(
    app: Application, simulation: Simulation, worker: Ref[Worker]
) -> None:
    """A failed attempt, whose reason says of the crash what it was and nothing that it said."""
    assert [claim.key for claim in claims(worker, 2)] == ["a", "b"]
    with pytest.raises(Boom):
        worker.ask("boom")
    simulation.settle()
    last = history(app, "a")[-1]
    assert (last.kind, last.reason) == (Kind.FAILED, "claimer ended: crash: Boom")
    again = app.callbacks.claim("orders", limit=9).get()
    assert [(claim.key, claim.attempt) for claim in again] == [("a", 2), ("b", 2), ("c", 1)]
    assert kept(app) == 0


@pytest.mark.parametrize("end", ["ack", "nack", "release", "discard"])
def test_what_has_ended_is_not_the_actors_any_more(
    app: Application, simulation: Simulation, worker: Ref[Worker], end: str
) -> None:
    [claim] = claims(worker)
    worker.ask((end, claim))
    simulation.settle()
    assert kept(app) == 0
    before = history(app, "a")
    worker.stop()
    simulation.settle()
    assert history(app, "a") == before


def test_an_actor_that_stops_in_order_gives_back_what_it_holds(
    app: Application, simulation: Simulation, worker: Ref[Worker]
) -> None:
    [claim] = claims(worker)
    longer = worker.ask(("extend", claim))
    assert longer.token == claim.token
    worker.stop()
    simulation.settle()
    assert history(app, "a")[-1].reason == "claimer ended: normal"


def test_the_stop_of_the_application_gives_back_what_its_actors_hold(
    simulation: Simulation,
) -> None:
    """What is claimed is not left to the lease: the next process finds it at once."""
    backend = MemoryBackend()
    endpoint = Endpoint.new(["received"], 0, id="orders")

    class Mine(Worker):
        pass

    app = Application(backend, endpoints=[endpoint], runtime=simulation.runtime)
    Mine.app = app
    with app:
        app.callbacks.push("orders", Callback.new(b"x", id="a")).get()
        worker = app.start_child(ChildSpec(id="worker", start=Mine)).get()
        assert len(claims(worker)) == 1
    with app:
        [again] = app.callbacks.claim("orders").get()
        assert again.attempt == 2
        assert history(app, "a")[-2].reason == "claimer ended: shutdown"


def test_an_actor_is_named_as_the_owner_from_outside(
    app: Application, simulation: Simulation, worker: Ref[Worker]
) -> None:
    [claim] = app.callbacks.claim("orders", owner=worker).get()
    worker.stop()
    simulation.settle()
    assert history(app, claim.key)[-1].kind is Kind.FAILED
    with pytest.raises(ActorDead):
        app.callbacks.claim("orders", owner=worker).get()


def test_what_is_claimed_outside_of_actors_is_nobodys(app: Application) -> None:
    app.callbacks.claim("orders").get()
    assert kept(app) == 0


def test_an_actor_that_ends_while_it_waits_takes_nothing(
    app: Application, simulation: Simulation, worker: Ref[Worker]
) -> None:
    """Nothing is claimed for the dead: no attempt is lost to it."""
    app.callbacks.reset("orders").get()
    reply = worker.ask(Take(wait=60.0), block=False)
    simulation.settle()
    worker.stop()
    simulation.settle()
    app.callbacks.push("orders", Callback.new(b"x", id="new")).get()
    simulation.settle()
    with pytest.raises(ActorDead):
        reply.get()
    assert [record.kind for record in history(app, "new")] == [Kind.PUSHED]


def test_a_dead_actors_claims_go_back_at_once(
    app: Application, simulation: Simulation, worker: Ref[Worker]
) -> None:
    """They were on their way when it ended."""
    found = app.callbacks.claim("orders", limit=2).get()
    worker.stop()
    simulation.settle()
    app._keeper.kept(worker, found)
    simulation.settle()
    assert history(app, "a")[-1].reason == "claimer ended: normal"
    assert kept(app) == 0
    with pytest.raises(InvalidValue, match="owner"):
        app._keeper.kept("worker", found)  # type: ignore[arg-type]


def test_an_acknowledgement_that_failed_leaves_the_claim_with_its_actor(
    simulation: Simulation,
) -> None:
    class Failing(MemoryBackend):
        failing = False

        def execute(self, message: Any) -> Any:
            if isinstance(message, Ack | Extend) and self.failing:
                raise BackendUnavailable("list", "on purpose")
            return super().execute(message)

    class Mine(Worker):
        pass

    backend = Failing()
    endpoint = Endpoint.new(["received"], 0, id="orders")
    with Application(backend, endpoints=[endpoint], runtime=simulation.runtime) as app:
        Mine.app = app
        app.callbacks.push("orders", Callback.new(b"x", id="a")).get()
        worker = app.start_child(ChildSpec(id="w", start=Mine, restart="temporary")).get()
        [claim] = claims(worker)
        backend.failing = True
        for kind in ("ack", "extend"):
            with pytest.raises(BackendUnavailable):
                worker.ask((kind, claim))
        assert kept(app) == 1
        worker.stop()
        simulation.settle()
        assert history(app, "a")[-1].kind is Kind.FAILED


def test_a_backend_that_fails_meanwhile_harms_nobody(
    simulation: Simulation, app: Application, worker: Ref[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the claim ends with its lease."""
    execute = app.backend.execute

    def failing(message: Any) -> Any:
        if isinstance(message, Nack):
            raise BackendUnavailable("list", "on purpose")
        return execute(message)

    claims(worker)
    mailbox = app._keeper.find("orders")  # type: ignore[misc]
    assert mailbox is not None
    assert mailbox.cell is not None
    monkeypatch.setattr(mailbox.cell.actor, "_execute", failing)
    worker.stop()
    simulation.settle()
    assert [record.kind for record in history(app, "a")] == [Kind.PUSHED, Kind.CLAIMED]
    simulation.advance(30.0)
    assert app.callbacks.claim("orders").get()[0].attempt == 2


def test_claims_that_nobody_ends_do_not_pile_up(
    app: Application, simulation: Simulation, worker: Ref[Worker]
) -> None:
    """An actor that lets its leases run out: what has ended long ago is forgotten."""
    app.callbacks.reset("orders").get()
    for number in range(4 * MANY):
        app.callbacks.push("orders", Callback.new(b"x", id=str(number), phase="done")).get()
        assert len(claims(worker)) == 1
        simulation.advance(31.0)
        app.callbacks.pop("orders").get()
    assert kept(app) <= MANY + 1


def test_a_keeper_without_application_does_nothing(app: Application, worker: Ref[Worker]) -> None:
    keeper = ClaimKeeper()
    keeper.kept(worker, app.callbacks.claim("orders").get())
    worker.stop()
    assert keeper._owners == {}


def test_a_callback_of_a_future_is_in_no_handler_of_the_claimer(app: Application) -> None:
    """It may run in a turn of the endpoint's own actor, which claims nothing."""
    found: list[ReplyFuture[list[Claim]]] = []
    reply = app.callbacks.push("orders", Callback.new(b"x"))
    reply.add_done_callback(lambda _: found.append(app.callbacks.claim("orders")))
    reply.get()
    assert len(found[0].get()) == 1
    assert kept(app) == 0


def test_an_interrupt_before_its_end_is_watched_loses_nothing(
    app: Application, simulation: Simulation, worker: Ref[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The callback of a future is called again after an interrupt, and makes up for it."""
    found = app.callbacks.claim("orders").get()

    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Ref, "monitor", interrupted)
        with pytest.raises(KeyboardInterrupt):
            app._keeper.kept(worker, found)
    app._keeper.kept(worker, found)
    worker.stop()
    simulation.settle()
    assert history(app, "a")[-1].reason == "claimer ended: normal"
    assert kept(app) == 0
