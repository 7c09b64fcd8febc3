"""What waits for a handler does not expire, and is not overlooked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pollin_actors import Application, Callback, Endpoint
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.errors import BackendUnavailable, PollinError
from pollin_actors.handlers import HandlerState
from pollin_actors.messages import Consume, CreateEndpoint, Push
from pollin_actors.otp import ReplyFuture, Simulation
from tests.handling import PHASES, Crash, phases, push

MINUTE = 60_000


@pytest.fixture(params=range(3))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulated:
        yield simulated


def orders(**fields: Any) -> Endpoint:
    return Endpoint.new(PHASES, id="orders", ttl=MINUTE, **fields)


def nothing(callback: Callback) -> None:
    """A handler that is content with everything."""


class Forgetful(MemoryBackend):
    """Does what it is asked, and then says of one kind of message that it could not."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.kind: type | None = kind
        self.at_once = True
        self.error: Exception = BackendUnavailable("memory", "it forgets")

    def execute(self, message: Any) -> Any:
        answer = super().execute(message)
        if type(message) is not self.kind:
            return answer
        self.kind = None
        if self.at_once:
            raise self.error
        reply: ReplyFuture[Any] = ReplyFuture()
        reply._fail(self.error)
        return reply


# -- what waits does not expire --------------------------------------------------------------------


def test_the_first_push_is_to_a_phase_that_is_consumed(simulation: Simulation) -> None:
    """The consumer may take its time to say so: as long as it does, nothing expires."""

    class Slow(MemoryBackend):
        def execute(self, message: Any) -> Any:
            if isinstance(message, Consume):
                return ReplyFuture()  # never
            return super().execute(message)

    app = Application(Slow(), endpoints=[orders()], runtime=simulation.runtime)
    app.add_handler(nothing, "orders", then="processed")
    app.add_handler(nothing, "orders", phase="processed", name="second")
    with app:
        push(app, "a")
        simulation.advance(3600.0)
        assert phases(app) == {"received": 1}
        stored = app.endpoints.find("orders").get()
        assert stored is not None
        assert stored.consumes == ("received", "processed")


def test_what_others_consume_stays_said(simulation: Simulation) -> None:
    """A process without handlers declares the endpoint anew: a backlog does not expire."""
    backend = MemoryBackend()
    with Application(backend, endpoints=[orders()], runtime=simulation.runtime) as app:
        app.add_handler(nothing, "orders", then="processed")
        simulation.advance(1.0)
    with Application(backend, endpoints=[orders()], runtime=simulation.runtime) as app:
        push(app, "a")
        simulation.advance(3600.0)
        assert phases(app) == {"received": 1}


def test_a_phase_that_is_no_more_is_not_consumed(simulation: Simulation) -> None:
    """An endpoint is declared with other phases: what was consumed is forgotten with its phase."""
    backend = MemoryBackend()
    with Application(backend, endpoints=[orders()], runtime=simulation.runtime) as app:
        app.add_handler(nothing, "orders", then="processed")
        simulation.advance(1.0)
    changed = orders().replace(phases=("new", "processed"))
    with Application(backend, endpoints=[changed], runtime=simulation.runtime) as app:
        stored = app.endpoints.find("orders").get()
        assert stored is not None
        assert stored.consumes == ()


def test_a_paused_handler_keeps_its_backlog(simulation: Simulation) -> None:
    """Its endpoint is created while it is paused: what is pushed waits for it, and for no ttl."""
    app = Application(MemoryBackend(), runtime=simulation.runtime)
    app.add_handler(nothing, "orders", then="processed", name="h")
    with app:
        app.handlers.pause("h").get()
        app.endpoints.create(orders()).get()
        push(app, "a")
        simulation.advance(3600.0)
        assert phases(app) == {"received": 1}
        app.handlers.resume("h").get()
        simulation.advance(1.0)
        assert phases(app) == {"processed": 1}


# -- what waits is not overlooked ------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False])
def test_a_push_whose_outcome_is_unknown_is_handled(simulation: Simulation, at_once: bool) -> None:
    """It was stored, and the backend said that it could not: the handler looks all the same."""
    backend = Forgetful(Push)
    backend.at_once = at_once
    app = Application(backend, endpoints=[orders()], runtime=simulation.runtime)
    app.add_handler(nothing, "orders", then="processed")
    with app:
        simulation.advance(1.0)
        with pytest.raises(PollinError):
            push(app, "a")
        simulation.advance(1.0)
        assert phases(app) == {"processed": 1}


def test_a_push_that_crashed_its_actor_is_handled(simulation: Simulation) -> None:
    """It was stored, and then the backend made a mistake: the actor's successor has it told."""
    backend = Forgetful(Push)
    backend.error = Crash()
    app = Application(backend, endpoints=[orders()], runtime=simulation.runtime)
    app.add_handler(nothing, "orders", then="processed")
    with app:
        simulation.advance(1.0)
        with pytest.raises(Crash):
            push(app, "a")
        simulation.advance(1.0)
        assert phases(app) == {"processed": 1}


def test_an_endpoint_that_was_perhaps_created_is_found(simulation: Simulation) -> None:
    """The creation was stored, and the backend said that it could not: its handler begins."""
    app = Application(Forgetful(CreateEndpoint), runtime=simulation.runtime)
    app.add_handler(nothing, "orders", then="processed", name="h")
    with app:
        simulation.advance(1.0)
        with pytest.raises(PollinError):
            app.endpoints.create(orders()).get()
        simulation.advance(1.0)
        assert app.handlers["h"].state is HandlerState.RUNNING


def test_an_update_leaves_what_handlers_consume(simulation: Simulation) -> None:
    """Somebody who updates or makes an endpoint need not know of them."""
    with Application(endpoints=[orders()], runtime=simulation.runtime) as app:
        app.add_handler(nothing, "orders", phase="received", then="processed")
        simulation.settle()
        for act in (app.endpoints.update, app.endpoints.create):
            assert act(orders()).get().consumes == ("received",)
            app.endpoints.delete("orders").get()
