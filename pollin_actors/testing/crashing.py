"""Crashing an actor, as a defect in it would."""

from __future__ import annotations

from typing import Any

from pollin_actors.application import Application
from pollin_actors.errors import EndpointNotFound, InvalidValue
from pollin_actors.otp import Ref
from pollin_actors.tree import CALLBACKS, CONSUMERS, ENDPOINTS

__all__ = ["Crash", "crash"]

_OWN = {"endpoints": ENDPOINTS, "callbacks": CALLBACKS, "consumers": CONSUMERS}


class Crash(Exception):
    """What an actor that was crashed has ended with."""


def crash(app: Application, actor: str | Ref[Any]) -> None:
    """Crash an actor of a running application in its next turn; its supervisor restarts it.

    Arguments:
        app: the application.
        actor: a handler's name, an endpoint's id, the name of an actor of your own or its id
            among ``app.actors``, a ref, or ``"endpoints"``, ``"callbacks"`` and ``"consumers"``
            for those of the application itself; looked for in this order.

    Raises:
        InvalidValue: there is no such actor, or it does not run at the moment.
        NotRunning: the application does not run.
    """
    ref = actor if isinstance(actor, Ref) else _find(app, actor)
    running = ref._cell.actor if ref is not None and ref.is_alive() else None
    if ref is None or running is None:
        expected = "a handler, an endpoint, or a name of an actor that runs"
        hint = "one that is being restarted is there again after a while"
        raise InvalidValue("actor", expected, repr(actor), hint)

    def fall(_: Any) -> None:
        raise Crash("crashed by a test")

    running.on_info = fall  # of this one only
    ref._cell.mailbox.post_urgent(Crash)


def _find(app: Application, name: str) -> Ref[Any] | None:
    runtime = app.runtime  # raises unless it runs
    run = app.handlers._run
    if run is not None and name in run.registry:
        return run.registry.whereis(name)
    try:
        return app.callbacks.ref(name).get()  # started, if nothing was sent to it yet
    except (EndpointNotFound, InvalidValue):
        pass
    if name in runtime.registry:
        return runtime.registry.whereis(name)
    for child in app.actors.which_children().get():
        if child.id == name:
            return child.ref
    return runtime.registry.whereis(_OWN.get(name, name))
