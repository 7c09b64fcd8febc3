"""Who keeps the claims of actors: when one ends, what it had claimed goes back at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any

from pollin_actors.errors import InvalidValue, NotRunning, PollinError
from pollin_actors.messages import Nack
from pollin_actors.otp import ExitRecord, OtpError, Ref, ReplyFuture
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.records import Claim

if TYPE_CHECKING:
    from pollin_actors.otp.cell import Cell

__all__ = ["ClaimKeeper", "exit_text"]

# So many claims of one actor are kept before it is looked whether some have long ended.
MANY = 64


class ClaimKeeper:
    """Gives the claims of an actor back as soon as it ends, however it ends. Any thread may call.

    Each goes back as a failed attempt, with the end as its reason, through the mailbox of its
    endpoint, and so after whatever the actor itself has sent there. Where that takes no more, as
    while the application stops, it goes straight to the backend.

    Args:
        find: the mailbox of an endpoint's id, or None; may raise.
        execute: the backend's.
    """

    def __init__(
        self,
        find: Callable[[Hashable], Mailbox | None] | None = None,
        execute: Callable[[Any], Any] | None = None,
    ) -> None:
        self.find = find
        self.execute = execute
        self._kept: dict[Cell, _Kept] = {}
        self._owners: dict[str, Cell] = {}
        self._guard = Guard()

    def kept(self, ref: Ref[Any], claims: Iterable[Claim], *, lapse: bool = False) -> None:
        """From now on these claims end with the actor; at once if it has ended already.

        Args:
            ref: one incarnation of an actor.
            claims: which it holds.
            lapse: whether they may be forgotten once ``until`` has passed, because nobody extends
                them but through ``extended``.

        Raises:
            InvalidValue: ``ref`` is no ref of an actor of this runtime.
        """
        cell = cell_of(ref)
        kept = self._guard.run(self._add, cell, tuple(claims), lapse)
        if not kept.watched:
            ref.monitor().add_done_callback(lambda end: self._give_back(cell, end.get(timeout=0)))
            # Only now: who is interrupted before is called again, and two monitors are harmless.
            kept.watched = True
        elif cell.ends:
            self._give_back(cell, cell.ends[0])  # its monitor may have been told before

    def done(self, ref: Ref[Any], token: str) -> None:
        """The claim of that token is over, or is nobody's business any more."""
        self._guard.run(self._remove, ref._cell, token)

    def owner_of(self, token: str) -> Ref[Any] | None:
        """For whom a claim is kept; None if it is not."""
        cell = self._owners.get(token)
        return cell.ref if cell is not None else None

    def extended(self, ref: Ref[Any], claim: Claim) -> None:
        """A claim that is kept has a new ``until``."""
        self._guard.run(self._replace, ref._cell, claim)

    # -- with the guard held -----------------------------------------------------------------------

    def _add(self, cell: Cell, claims: tuple[Claim, ...], lapse: bool) -> _Kept:
        kept = self._kept.get(cell)
        if kept is None:
            kept = self._kept[cell] = _Kept()
        if len(kept.claims) >= kept.many:
            self._forget_lapsed(cell, kept)
        for claim in claims:
            kept.claims[claim.token] = (claim, lapse)
            self._owners[claim.token] = cell
        return kept

    def _forget_lapsed(self, cell: Cell, kept: _Kept) -> None:
        runtime = cell.mailbox.runtime
        now = runtime.clock.time_ns() if runtime is not None else 0
        for token, (claim, lapse) in list(kept.claims.items()):
            if lapse and claim.until <= now:
                self._remove(cell, token)
        kept.many = max(MANY, 2 * len(kept.claims))

    def _remove(self, cell: Cell, token: str) -> None:
        self._owners.pop(token, None)
        kept = self._kept.get(cell)
        if kept is not None:
            kept.claims.pop(token, None)

    def _replace(self, cell: Cell, claim: Claim) -> None:
        kept = self._kept.get(cell)
        if kept is not None and claim.token in kept.claims:
            kept.claims[claim.token] = (claim, kept.claims[claim.token][1])

    def _claims_of(self, cell: Cell) -> list[Claim]:
        kept = self._kept.get(cell)
        return [claim for claim, _ in kept.claims.values()] if kept is not None else []

    def _forget(self, cell: Cell) -> None:
        kept = self._kept.get(cell)
        if kept is not None and not kept.claims:
            del self._kept[cell]

    # -- the end -----------------------------------------------------------------------------------

    def _give_back(self, cell: Cell, record: ExitRecord) -> None:
        reason = exit_text(record)
        # One by one: who is interrupted in between is called again, and twice is harmless.
        for claim in self._guard.run(self._claims_of, cell):
            self._nack(Nack(claim.endpoint_id, claim.key, claim.token, 0.0, reason))
            self._guard.run(self._remove, cell, claim.token)
        self._guard.run(self._forget, cell)

    def _nack(self, message: Nack) -> None:
        try:
            mailbox = self.find(message.endpoint_id) if self.find is not None else None
        except Exception:
            mailbox = None
        if mailbox is None:
            self._nack_directly(message)
            return

        def answered(reply: ReplyFuture[Any]) -> None:
            try:
                reply.get(timeout=0)
            except (OtpError, NotRunning):
                self._nack_directly(message)
            except PollinError:
                return  # it is over already, or its lease will end

        mailbox.ask(message).add_done_callback(answered)

    def _nack_directly(self, message: Nack) -> None:
        if self.execute is None:
            return
        try:
            self.execute(message)
        except PollinError:
            return  # as above


class _Kept:
    """The claims of one actor, by their tokens, each with whether it may be forgotten in time."""

    __slots__ = ("claims", "many", "watched")

    def __init__(self) -> None:
        self.claims: dict[str, tuple[Claim, bool]] = {}
        self.many = MANY
        # Whether the end of the actor will be told.
        self.watched = False


def cell_of(ref: Any) -> Cell:
    """What stands behind a ref.

    Raises:
        InvalidValue: it is no ref of an actor of this runtime.
    """
    if not isinstance(ref, Ref):
        raise InvalidValue("owner", "the ref of an actor, as actor_ref", f"a {type(ref).__name__}")
    return ref._cell


def exit_text(record: ExitRecord) -> str:
    """The end of a claimer in few words: never what its exception says, which may be secret."""
    text = f"claimer ended: {record.reason}"
    error = record.exception
    if error is None:
        return text
    kind = type(error).__name__[:200]
    return f"{text}: {kind if kind.isprintable() else 'an exception'}"
