"""The registry: names for actors, which outlive any incarnation that bears them.

A name has a mailbox of its own. Messages sent to the name wait there while nobody bears it (it is
being restarted, or was passivated), and are handled in order by the next incarnation.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any

from pollin_actors.otp.cell import Status
from pollin_actors.otp.errors import ActorDead, AlreadyRegistered, NameNotFound
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.mailbox import Mailbox

if TYPE_CHECKING:
    from pollin_actors.otp.actor import Ref
    from pollin_actors.otp.runtime import Runtime

__all__ = ["Registry"]


class Registry:
    """Unique names for the actors of one runtime.

    Args:
        runtime: where the actors live.
        on_demand: called with the mailbox of a name when a message comes and nobody bears it; it
            should have an actor started. May be called more often than needed.
    """

    def __init__(
        self, runtime: Runtime, on_demand: Callable[[Mailbox], None] | None = None
    ) -> None:
        self.runtime = runtime
        self._on_demand = on_demand
        self._mailboxes: dict[Hashable, Mailbox] = {}
        self._closed: Callable[[], BaseException] | None = None
        # The hot path of every call by name.
        self.find: Callable[[Hashable], Mailbox | None] = self._mailboxes.get

    def __contains__(self, name: Hashable) -> bool:
        return name in self._mailboxes

    def __len__(self) -> int:
        return len(self._mailboxes)

    def names(self) -> Iterator[Hashable]:
        """The names known at this moment."""
        return iter(tuple(self._mailboxes))

    def mailbox(
        self, name: Hashable, on_demand: Callable[[Mailbox], None] | None = None
    ) -> Mailbox:
        """The mailbox of a name, made if it is new. Of all who ask at once, each gets the same.

        Args:
            name: anything hashable but None.
            on_demand: for this name, instead of the registry's own.
        """
        found = self._mailboxes.get(name)
        if found is not None:
            return found
        fresh = Mailbox(name)
        fresh.runtime = self.runtime
        fresh.on_demand = on_demand if on_demand is not None else self._on_demand
        if self._closed is not None:
            fresh.close(self._closed)
        found = self._mailboxes.setdefault(name, fresh)
        if self._closed is not None:
            found.close(self._closed)  # close() may have passed us by
        return found

    def claim(self, name: Hashable) -> Mailbox:
        """The mailbox of a name, for an actor that is to bear it.

        Raises:
            AlreadyRegistered: somebody alive bears it; carries their ref.
        """
        mailbox = self.mailbox(name)
        cell = mailbox.cell
        if cell is not None and cell.status < Status.STOPPING:
            raise AlreadyRegistered(name, cell.ref)
        return mailbox

    def whereis(self, name: Hashable) -> Ref[Any] | None:
        """The ref of whoever bears the name now; None if nobody does."""
        mailbox = self._mailboxes.get(name)
        cell = mailbox.cell if mailbox is not None else None
        if cell is None or cell.status >= Status.STOPPING:
            return None
        return cell.ref

    def ask(self, name: Hashable, message: Any, *, timeout: float | None = 5.0) -> ReplyFuture[Any]:
        """Ask whoever bears the name, now or after a restart.

        Args:
            name: of the actor.
            message: what its handler gets.
            timeout: seconds until the call's deadline; None for none.

        Raises:
            NameNotFound: nobody ever bore that name, or it was given up.
        """
        mailbox = self._mailboxes.get(name)
        if mailbox is None:
            raise NameNotFound(name)
        return mailbox.ask(message, timeout)

    def tell(self, name: Hashable, message: Any) -> None:
        """Send to whoever bears the name, without asking for an answer.

        Raises:
            NameNotFound: nobody ever bore that name, or it was given up.
            ActorDead: the name is being given up.
        """
        mailbox = self._mailboxes.get(name)
        if mailbox is None:
            raise NameNotFound(name)
        mailbox.tell(message)

    def give_up(
        self,
        name: Hashable,
        error: Callable[[], BaseException] | None = None,
        *,
        unless_borne: bool = False,
    ) -> None:
        """Forget a name; what waits for its next bearer fails.

        Args:
            name: a name; unknown ones are fine.
            error: makes the error that the senders get.
            unless_borne: leave it alone if somebody bears it, also if they just took it over.
        """
        mailbox = self._mailboxes.get(name)
        if mailbox is None or (unless_borne and mailbox.is_borne()):
            return
        self._mailboxes.pop(name, None)
        mailbox.close(error if error is not None else lambda: ActorDead(f"{name!r} has ended"))
        if unless_borne and mailbox.is_borne():
            self.restore(name, mailbox)

    def restore(self, name: Hashable, mailbox: Mailbox) -> None:
        """A name was given up while somebody took it over: it is theirs."""
        # Unless somebody has made the name anew: then theirs counts, and this one stays closed.
        if self._closed is None and self._mailboxes.setdefault(name, mailbox) is mailbox:
            mailbox.closed = None

    def close(self, error: Callable[[], BaseException]) -> None:
        """Take nothing more for any name: whoever waits, or comes later, gets an error."""
        self._closed = error
        for mailbox in tuple(self._mailboxes.values()):
            mailbox.close(error)

    def refuse(self, error: Callable[[], BaseException]) -> None:
        """Take nothing more for any name; whoever waits is told nothing."""
        self._closed = error
        for mailbox in tuple(self._mailboxes.values()):
            mailbox.refuse(error)
