"""Starting an actor that nobody supervises, on a given runtime and under a unique name."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pykka

from pollin_actors.otp.actor import Actor, Ref, attach
from pollin_actors.otp.cell import Cell, ChildExited, ChildStarted, Status
from pollin_actors.otp.errors import ActorDead, InvalidSpec
from pollin_actors.otp.futures import ReplyFuture

if TYPE_CHECKING:
    from pollin_actors.otp.exits import ExitRecord
    from pollin_actors.otp.registry import Registry
    from pollin_actors.otp.runtime import Runtime

__all__ = ["start_actor"]

A = TypeVar("A", bound=pykka.Actor)


def start_actor(
    actor: A,
    runtime: Runtime,
    *,
    name: Hashable = None,
    value: Any = None,
    registry: Registry | None = None,
) -> ReplyFuture[Ref[A]]:
    """Start an actor without a supervisor.

    Nobody restarts it: when it ends its name is given up, and who waits for it is told. It is not
    in Pykka's ``ActorRegistry``, which belongs to the whole process; ``actor_class.start()`` is
    for that.

    Args:
        actor: one of ours, or of an adopted class; fresh from its constructor.
        runtime: where it lives.
        name: registered under this name; None for none.
        value: kept beside the name while the actor lives, see ``Registry.lookup``.
        registry: where the name is; by default that of the runtime.

    Returns:
        A future of its ref, once its ``on_start`` has returned. It fails with what ``on_start``
        raised (``ActorCrashed`` for what is no ``Exception``), with ``ActorDead`` if the actor
        was stopped before, with ``AlreadyRegistered`` if somebody alive has the name.

    Raises:
        InvalidSpec: it is no actor of ours, or no fresh one; a value without a name.
    """
    if not isinstance(actor, Actor):
        raise InvalidSpec("start_actor", "an instance of Actor, or of an adopted class", actor)
    cell: Cell = actor._cell
    if cell.status is not Status.UNSTARTED or cell.mailbox.executor is not None:
        raise InvalidSpec("start_actor", "an actor that was not started before", actor)
    if value is not None and name is None:
        raise InvalidSpec("start_actor", "a name beside the value", value)
    starter = _Starter()
    where = registry if registry is not None else runtime.registry
    try:
        mailbox = None
        if name is not None:
            mailbox = where.claim(name, cell, value=value)
            if where.closed is not None:
                raise where.closed()  # nobody could reach it, or stop it
            cell.monitor().add_done_callback(lambda monitor: _give_up(where, name, monitor))
        attach(actor, runtime, mailbox, cast("Any", starter))
        if mailbox is not None and mailbox.closed is not None:
            where.restore(name, mailbox)
    except BaseException as error:
        starter.future._fail(error)  # before the end that giving the name back brings
        if name is not None:
            where.release_claim(name, cell)
        if not isinstance(error, Exception):
            raise
        return starter.future
    return starter.future


class _Starter:
    """Stands in for a supervisor until the actor has started."""

    closed = None

    def __init__(self) -> None:
        self.future: ReplyFuture[Any] = ReplyFuture()

    def post_urgent(self, message: ChildStarted | ChildExited) -> None:
        cell = message.cell
        if isinstance(message, ChildStarted):
            cell.supervisor = None  # from here on its crashes are nobody's but the log's
            self.future._settle((cell.ref, None))
            return
        cause = message.record.exception
        if isinstance(cause, Exception):
            self.future._fail(cause)
        else:
            self.future._fail(cell.crash_error("ended before it had started"))


def _give_up(registry: Registry, name: Hashable, monitor: ReplyFuture[ExitRecord]) -> None:
    """Nobody will bear the name again, unless somebody does already."""
    record = monitor.get(timeout=0)
    mailbox = registry.find(name)
    if mailbox is None or mailbox.on_demand is not None:
        return
    text = f"actor {name!r} has ended ({record.reason}) and nobody restarts it"
    registry.give_up(name, lambda: ActorDead(text, record), unless_borne=True)
