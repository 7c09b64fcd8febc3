"""Names that nobody will bear again: who waits for them is told."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING

from pollin_actors.otp.errors import ActorDead

if TYPE_CHECKING:
    from pollin_actors.otp.mailbox import Mailbox
    from pollin_actors.otp.registry import Registry

__all__ = ["forget_name", "vacate_below", "vacate_name"]


def vacate_name(registry: Registry, name: Hashable, parent: Mailbox) -> None:
    """Fail who waits for, or asks, a name whose bearer has ended and is not restarted.

    Args:
        registry: where the name is.
        name: None is fine, and does nothing.
        parent: of the supervisor; the name may be a stranger's by now.
    """
    mailbox = registry.find(name) if name is not None else None
    if mailbox is not None and mailbox.cell is None and mailbox.parent is parent:
        mailbox.vacate(partial(_vacant, mailbox))


def forget_name(registry: Registry, name: Hashable, parent: Mailbox) -> None:
    """Give up a name whose bearer has ended and will not come back. The same holds."""
    mailbox = registry.find(name) if name is not None else None
    if mailbox is not None and mailbox.cell is None and mailbox.parent is parent:
        registry.give_up(name, unless_borne=True)


def vacate_below(registry: Registry, supervisor: Mailbox) -> None:
    """The same for every name below a supervisor that does not come back."""
    gone: set[Mailbox | None] = {supervisor}
    found = True
    while found:
        found = False
        for name in registry.names():
            mailbox = registry.find(name)
            if mailbox is None or mailbox.vacant is not None or mailbox.cell is not None:
                continue
            if mailbox.parent in gone and mailbox.on_demand is None:
                mailbox.vacate(partial(_vacant, mailbox))
                gone.add(mailbox)
                found = True


def _vacant(mailbox: Mailbox) -> ActorDead:
    bearer = mailbox.bearer
    record = bearer.record if bearer is not None else None
    why = f" (it ended: {record.reason})" if record is not None else ""
    return ActorDead(f"actor {mailbox.name!r} has ended and is not restarted{why}", record)
