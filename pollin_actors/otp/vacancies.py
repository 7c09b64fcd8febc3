"""Names that nobody will bear again: who waits for them is told."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING

from pollin_actors.otp.errors import ActorDead

if TYPE_CHECKING:
    from pollin_actors.otp.mailbox import Mailbox
    from pollin_actors.otp.registry import Registry

__all__ = ["forget_name", "vacate_below", "vacate_left", "vacate_name"]


def vacate_name(registry: Registry, name: Hashable, parent: Mailbox) -> None:
    """Fail who waits for, or asks, a name whose bearer has ended and is not restarted.

    Args:
        registry: where the name is.
        name: None is fine, and does nothing.
        parent: of the supervisor; the name may be a stranger's by now.
    """
    mailbox = registry.find(name) if name is not None else None
    if mailbox is None or mailbox.on_demand is not None or mailbox.parent is not parent:
        return
    if mailbox.cell is None:
        mailbox.vacate(partial(_vacant, mailbox))


def forget_name(registry: Registry, name: Hashable, parent: Mailbox) -> None:
    """Give up a name whose bearer has ended and will not come back. The same holds."""
    mailbox = registry.find(name) if name is not None else None
    if mailbox is None or mailbox.on_demand is not None or mailbox.parent is not parent:
        return
    if mailbox.cell is None:
        error = partial(_vacant, mailbox)
        registry.give_up(name, error, unless_borne=True)


def vacate_below(registry: Registry, supervisor: Mailbox) -> None:
    """The same for every name below a supervisor that does not come back.

    Some may still be borne: by children of a supervisor that did not wait for their ends.
    """
    for name in registry.names():
        mailbox = registry.find(name)
        if mailbox is not None and mailbox.on_demand is None and _is_below(mailbox, supervisor):
            _vacate(mailbox, supervisor)


def _vacate(mailbox: Mailbox, supervisor: Mailbox) -> None:
    cell = mailbox.cell
    if cell is None:
        mailbox.vacate(partial(_vacant, mailbox))
    else:
        cell.monitor().add_done_callback(partial(_orphan_ended, mailbox, supervisor))


def vacate_left(registry: Registry, supervisor: Mailbox, own: set[Hashable]) -> None:
    """After a restart: fail who waits for a name below that the new incarnation will not bear.

    Args:
        registry: where the names are.
        supervisor: a supervisor's mailbox, used by its earlier incarnations too.
        own: the names of its children now.
    """
    for name in registry.names():
        mailbox = registry.find(name)
        if mailbox is None or mailbox.on_demand is not None:
            continue
        if not _is_below(mailbox, supervisor):
            continue
        above = mailbox.parent
        if (above is supervisor and name not in own) or above.closed is not None:
            _vacate(mailbox, supervisor)
            vacate_below(registry, mailbox)


def _is_below(mailbox: Mailbox, supervisor: Mailbox) -> bool:
    """Whether a name's last bearer stood below a supervisor, at whatever depth."""
    seen: set[Mailbox] = set()
    above = mailbox.parent
    while above is not None and above not in seen:
        if above is supervisor:
            return True
        seen.add(above)
        above = above.parent
    return False


def _orphan_ended(mailbox: Mailbox, supervisor: Mailbox, _monitor: object) -> None:
    if mailbox.cell is None and _is_below(mailbox, supervisor):
        mailbox.vacate(partial(_vacant, mailbox))


def _vacant(mailbox: Mailbox) -> ActorDead:
    bearer = mailbox.bearer
    record = bearer.record if bearer is not None else None
    why = f" (it ended: {record.reason})" if record is not None else ""
    return ActorDead(f"actor {mailbox.name!r} has ended and is not restarted{why}", record)
