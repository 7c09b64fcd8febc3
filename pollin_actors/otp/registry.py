"""The registry: names for actors, which outlive any incarnation that bears them.

A name has a mailbox of its own. Messages sent to the name wait there while nobody bears it (it is
being restarted, or was passivated), and are handled in order by the next incarnation.

Who is to bear a name is decided under a guard, before the actor comes to life; sending to a name
takes no lock.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pykka

from pollin_actors.otp.cell import Cell, Status
from pollin_actors.otp.errors import ActorDead, AlreadyRegistered, NameNotFound, NotOwner
from pollin_actors.otp.exits import ExitReason, ExitRecord
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.otp.waiting import running_cell

if TYPE_CHECKING:
    from pollin_actors.otp.actor import Ref
    from pollin_actors.otp.runtime import Runtime

__all__ = ["Entry", "Registry"]


class Entry(NamedTuple):
    """Who bears a name, and the value that they keep beside it."""

    ref: Ref[Any]
    value: Any = None


class Registry:
    """Unique names for the actors of one runtime.

    Where a call takes a ``target``, it is a name, or the ref of one of our actors: then that very
    incarnation is meant. A ref is never a name.

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
        # Set once nothing more is taken for any name: senders get this error.
        self.closed: Callable[[], BaseException] | None = None
        self._guard = Guard()
        # Only for those who keep one: (who, what). It counts as long as they bear the name.
        self._values: dict[Hashable, tuple[Cell, Any]] = {}
        # The hot path of every call by name.
        self.find: Callable[[Hashable], Mailbox | None] = self._mailboxes.get

    def __contains__(self, name: Hashable) -> bool:
        return name in self._mailboxes

    def __len__(self) -> int:
        return len(self._mailboxes)

    def names(self) -> Iterator[Hashable]:
        """The names known at this moment."""
        return iter(list(self._mailboxes))

    def mailbox(
        self, name: Hashable, on_demand: Callable[[Mailbox], None] | None = None
    ) -> Mailbox:
        """The mailbox of a name, made if it is new. Of all who ask at once, each gets the same.

        Args:
            name: anything hashable but None and refs.
            on_demand: for this name, instead of the registry's own.

        Raises:
            TypeError: it cannot be a name.
        """
        found = self._mailboxes.get(name)
        if found is not None:
            return found
        if name is None or isinstance(name, pykka.ActorRef):
            raise TypeError(f"expected a name, anything hashable but None and refs, got {name!r}")
        fresh = Mailbox(name)
        fresh.runtime = self.runtime
        fresh.on_demand = on_demand if on_demand is not None else self._on_demand
        if self.closed is not None:
            fresh.close(self.closed)
        found = self._mailboxes.setdefault(name, fresh)
        if self.closed is not None:
            found.close(self.closed)  # close() may have passed us by
        return found

    # -- who bears a name --------------------------------------------------------------------------

    def claim(self, name: Hashable, cell: Cell | None = None, *, value: Any = None) -> Mailbox:
        """The mailbox of a name, for an actor that is to bear it.

        The name is the actor's from here on, before it is attached: of several who claim it at
        once, one gets it. A bearer whose exit has begun keeps nobody off. Whatever comes between
        the call and the attachment, an interrupt included: answer it with ``release_claim``.

        Args:
            name: anything hashable but None and refs.
            cell: whose name it is to be; None only looks whether the name could be had.
            value: kept beside the name for this incarnation, see ``lookup``; None: nothing.

        Raises:
            AlreadyRegistered: somebody alive bears it, or has claimed it; carries their ref.
            TypeError: it cannot be a name.
        """
        if cell is None:
            mailbox = self.mailbox(name)
            owner = mailbox.bearer
            if owner is not None and _lives(owner):
                raise AlreadyRegistered(name, owner.ref)
            return mailbox
        mailbox = self.mailbox(name)
        while not self._guard.run(self._take, name, mailbox, cell, value):
            mailbox = self.mailbox(name)
        if value is not None:
            self._forget_at_the_end(name, cell)
        return mailbox

    def _take(self, name: Hashable, mailbox: Mailbox, cell: Cell, value: Any) -> bool:
        if self._mailboxes.get(name) is not mailbox:
            return False  # given up meanwhile: the name has, or gets, another mailbox
        owner = mailbox.bearer
        if owner is not None and owner is not cell and _lives(owner):
            raise AlreadyRegistered(name, owner.ref)
        mailbox.bearer = cell
        if value is not None:
            self._values[name] = (cell, value)
        else:
            self._values.pop(name, None)
        return True

    def release_claim(self, name: Hashable, cell: Cell) -> None:
        """Give a name back: the actor that claimed it, or was to, will not be attached.

        Harmless if the name is another's, or the actor is attached already.

        Args:
            name: as claimed.
            cell: who claimed it; it cannot be started any more.
        """
        mailbox = self._guard.run(self._give_back, name, cell)
        if mailbox is None:
            return
        # Its ref may be known already: who waits for its end, or an answer, is told.
        if cell.mailbox is mailbox:
            cell.mailbox = Mailbox()  # the name's has nothing to do with its end
        cell.begin_exit(cell.exit_record(ExitReason.SHUTDOWN))
        cell.finish()
        if mailbox.vacant is not None and not mailbox.is_borne():
            mailbox.fail_queued(mailbox.vacant)  # what came while the name was claimed

    def _give_back(self, name: Hashable, cell: Cell) -> Mailbox | None:
        mailbox = self._mailboxes.get(name)
        if mailbox is None or mailbox.bearer is not cell or cell.status is not Status.UNSTARTED:
            return None
        # The end of an earlier bearer may be about to install this one: it finds it ended.
        cell.status = Status.STOPPING
        mailbox.bearer = None
        if mailbox.cell is cell:
            mailbox.cell = None
        self._drop_value(name, cell)
        return mailbox

    def whereis(self, target: Hashable) -> Ref[Any] | None:
        """The ref of whoever bears the name now; None if nobody does. A ref while it is alive.

        Raises:
            TypeError: it is the ref of an actor that is not ours.
        """
        mailbox = self._mailboxes.get(target)
        cell = mailbox.cell if mailbox is not None else _cell_of(target)
        if cell is None or cell.status >= Status.STOPPING:
            return None
        return cell.ref

    # -- values ------------------------------------------------------------------------------------

    def lookup(self, target: Hashable) -> Entry | None:
        """Who bears the name now, and the value beside it; None if nobody does.

        The value belongs to the incarnation: it dies with it. For a ref it is that of its name.

        Raises:
            TypeError: it is the ref of an actor that is not ours.
        """
        ref = self.whereis(target)
        if ref is None:
            return None
        cell = ref._cell
        row = self._values.get(cell.name)
        return Entry(ref, row[1] if row is not None and row[0] is cell else None)

    def update_value(self, name: Hashable, function: Callable[[Any], Any]) -> Any:
        """Change the value beside a name; only who bears it may, inside its own turn.

        Args:
            name: the caller's.
            function: makes the new value of the old one (None if there is none yet).

        Returns:
            The new value.

        Raises:
            NameNotFound: nobody ever bore that name, or it was given up.
            NotOwner: the caller is not in a turn of who bears the name.
        """
        mailbox = self._mailboxes.get(name)
        if mailbox is None:
            raise NameNotFound(name)
        cell = running_cell()
        if cell is None or mailbox.bearer is not cell:
            raise _not_owner(name, cell)
        row = self._values.get(name)
        known = row is not None and row[0] is cell
        value = function(row[1] if row is not None and known else None)
        if not self._guard.run(self._store_value, name, mailbox, cell, value):
            raise _not_owner(name, cell)
        if not known:
            self._forget_at_the_end(name, cell)
        return value

    def _store_value(self, name: Hashable, mailbox: Mailbox, cell: Cell, value: Any) -> bool:
        if mailbox.bearer is not cell or cell.ends:
            return False  # it was abandoned, and another has the name
        self._values[name] = (cell, value)
        return True

    def _forget_at_the_end(self, name: Hashable, cell: Cell) -> None:
        forget = partial(self._guard.run, self._drop_value, name, cell)
        cell.monitor().add_done_callback(lambda _: forget())

    def _drop_value(self, name: Hashable, cell: Cell) -> None:
        row = self._values.get(name)
        if row is not None and row[0] is cell:
            del self._values[name]

    # -- calls -------------------------------------------------------------------------------------

    def ask(
        self, target: Hashable, message: Any, *, timeout: float | None = 5.0
    ) -> ReplyFuture[Any]:
        """Ask whoever bears the name, now or after a restart; or one incarnation, by its ref.

        Args:
            target: the actor's name, or its ref.
            message: what its handler gets.
            timeout: seconds until the call's deadline; None for no deadline.

        Returns:
            The reply future; a mailbox that is full or closed fails it.

        Raises:
            NameNotFound: nobody ever bore that name, or it was given up.
            TypeError: it is the ref of an actor that is not ours.
        """
        mailbox = self._mailboxes.get(target)
        if mailbox is None:
            cell = _cell_of(target)
            if cell is None:
                raise NameNotFound(target)
            return cell.mailbox.ask(message, timeout, cell)
        return mailbox.ask(message, timeout)

    def tell(self, target: Hashable, message: Any) -> None:
        """Send to whoever bears the name, or to one incarnation, without asking for an answer.

        Raises:
            NameNotFound: nobody ever bore that name, or it was given up.
            ActorDead: the name is being given up, or the incarnation has ended.
            MailboxFull: the mailbox is bounded and full.
            TypeError: it is the ref of an actor that is not ours.
        """
        mailbox = self._mailboxes.get(target)
        if mailbox is None:
            cell = _cell_of(target)
            if cell is None:
                raise NameNotFound(target)
            cell.mailbox.tell(message, cell)
        else:
            mailbox.tell(message)

    def monitor(self, target: Hashable) -> ReplyFuture[ExitRecord]:
        """A future of the exit record of who bears the name, or of who bore it last.

        Raises:
            NameNotFound: nobody ever bore that name, or it was given up.
            TypeError: it is the ref of an actor that is not ours.
        """
        return self._bearer(target).monitor()

    def stop(self, target: Hashable) -> ReplyFuture[bool]:
        """Have who bears the name stop, after the messages that are queued now.

        Its supervisor starts it anew if it is permanent: ``TerminateChild`` ends it for good.

        Returns:
            A future: True once it has stopped, False if it was dead already.

        Raises:
            NameNotFound: nobody ever bore that name, or it was given up.
            TypeError: it is the ref of an actor that is not ours.
        """
        return self._bearer(target).ref.stop(block=False)

    def _bearer(self, target: Hashable) -> Cell:
        mailbox = self._mailboxes.get(target)
        cell = mailbox.bearer if mailbox is not None else _cell_of(target)
        if cell is None:
            raise NameNotFound(target)
        return cell

    # -- giving up ---------------------------------------------------------------------------------

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
            unless_borne: leave it alone if somebody bears it, or has claimed it.
        """
        mailbox = self._guard.run(self._remove, name, unless_borne)
        if mailbox is None:
            return
        mailbox.close(error if error is not None else lambda: ActorDead(f"{name!r} has ended"))
        if unless_borne and mailbox.is_borne():
            self.restore(name, mailbox)  # attached without a claim

    def _remove(self, name: Hashable, unless_borne: bool) -> Mailbox | None:
        mailbox = self._mailboxes.get(name)
        if mailbox is None or (unless_borne and mailbox.is_borne()):
            return None
        return self._mailboxes.pop(name)

    def restore(self, name: Hashable, mailbox: Mailbox) -> None:
        """A name was given up while somebody took it over: it is theirs."""
        # Unless somebody has made the name anew: then theirs counts, and this one stays closed.
        if self.closed is None and self._mailboxes.setdefault(name, mailbox) is mailbox:
            mailbox.closed = None

    def close(self, error: Callable[[], BaseException]) -> None:
        """Take nothing more for any name: whoever waits, or comes later, gets an error."""
        self.closed = error
        for mailbox in list(self._mailboxes.values()):
            mailbox.close(error)

    def refuse(self, error: Callable[[], BaseException]) -> None:
        """Take nothing more for any name; whoever waits is told nothing."""
        self.closed = error
        for mailbox in list(self._mailboxes.values()):
            mailbox.refuse(error)


def _lives(cell: Cell) -> bool:
    # A thread that was shut out may have set the status once more: the end counts.
    return cell.status < Status.STOPPING and not cell.ends


def _cell_of(target: object) -> Cell | None:
    """The incarnation that a ref of ours means; None for anything that is no ref, so a name."""
    if not isinstance(target, pykka.ActorRef):
        return None
    cell = getattr(target, "_cell", None)  # actor.py imports us, so its Ref cannot be asked for
    if not isinstance(cell, Cell):
        raise TypeError(
            f"expected a name, or the ref of an actor of pollin_actors, got {target!r}; start it "
            f"under a supervisor, which adopts Pykka's actor classes"
        )
    return cell


def _not_owner(name: Hashable, cell: Cell | None) -> NotOwner:
    return NotOwner(name, cell.label if cell is not None else "a caller that is no actor")
