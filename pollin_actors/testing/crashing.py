"""Crashing an actor, as a defect in it would."""

from __future__ import annotations

from typing import Any

from pollin_actors.application import Application
from pollin_actors.errors import InvalidValue
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
        actor: a handler's name, an endpoint's id, the name of an actor of your own, a ref, or
            ``"endpoints"``, ``"callbacks"`` and ``"consumers"`` for those of the application
            itself; looked for in this order.

    Raises:
        InvalidValue: there is no such actor, or it does not run at the moment.
    """
    ref = actor if isinstance(actor, Ref) else _find(app, actor)
    if ref is None or not ref.is_alive():
        expected = "a handler, an endpoint whose actor runs, or a name of an actor that runs"
        hint = "an endpoint's actor runs once something was sent to it"
        raise InvalidValue("actor", expected, repr(actor), hint)
    cell = ref._cell

    def fall(_: Any) -> None:
        raise Crash("crashed by a test")

    cell.actor.on_info = fall  # of this one only
    cell.mailbox.post_urgent(Crash)


def _find(app: Application, name: str) -> Ref[Any] | None:
    runtime = app.runtime  # raises unless it runs
    run, registry = app.handlers._run, app._registry
    for names in (None if run is None else run.registry, registry, runtime.registry):
        ref = None if names is None else names.whereis(name)
        if ref is not None:
            return ref
    return runtime.registry.whereis(_OWN.get(name, name))
