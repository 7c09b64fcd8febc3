"""What lies in a mailbox, and which mailboxes a thread runs next."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pollin_actors.otp.futures import ReplyFuture

if TYPE_CHECKING:
    from pollin_actors.otp.cell import Cell
    from pollin_actors.otp.turns import Runnable

__all__ = ["TURNS", "InfoItem", "Item", "StopItem", "StopRequest", "pending"]

TURNS = 64
"""How many turns a thread gives to one mailbox before others get theirs."""


class StopRequest:
    """The message behind ``ref.stop()``: it waits its turn in the queue, as in Pykka."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "StopRequest()"


class Item:
    """A queued message."""

    __slots__ = ("cell", "done", "future", "message")

    # Between the runtime and one incarnation: as long as that lives, nothing that becomes of its
    # name takes it away.
    personal = False

    def __init__(
        self,
        message: Any,
        future: ReplyFuture[Any] | None,
        cell: Cell | None,
    ) -> None:
        self.message = message
        self.future = future
        # Sent to this incarnation only; None: sent to the name, for whoever bears it.
        self.cell = cell
        self.done = False

    def is_void(self) -> bool:
        """Whether it is known already that it will not be handled."""
        return self.done

    def lasts(self) -> bool:
        """Whether it stays when the messages for a name are failed."""
        return self.personal and self.cell is not None and not self.cell.stopped.is_set()

    def fail(self, error: BaseException) -> None:
        """It will not be handled."""
        self.done = True
        if self.future is not None:
            self.future._fail(error)


class StopItem(Item):
    """A queued request to stop."""

    __slots__ = ()

    personal = True

    def __init__(self, future: ReplyFuture[None] | None, cell: Cell) -> None:
        super().__init__(StopRequest(), future, cell)

    def fail(self, error: BaseException) -> None:
        """Its actor has ended already: whoever asked for a stop has got what they wanted."""
        self.done = True
        if self.future is not None:
            self.future._settle((None, None))


class InfoItem(Item):
    """A queued message for the ``on_info`` of one incarnation.

    Args:
        message: what ``on_info`` gets.
        cell: the incarnation.
        gate: asked in the turn itself whether the message is wanted still.
        over: whether the gate is going to say no, as far as is known; may be asked at any time.
    """

    __slots__ = ("gate", "over")

    personal = True

    def __init__(
        self,
        message: Any,
        cell: Cell,
        gate: Callable[[], bool],
        over: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__(message, None, cell)
        self.gate = gate
        self.over = over

    def is_void(self) -> bool:
        return self.done or (self.over is not None and self.over())


class _Pending(threading.local):
    """Mailboxes that the turn on this thread has sent to; this thread runs them next."""

    def __init__(self) -> None:
        self.mailboxes: deque[Runnable] = deque()

    def hand_over(self) -> None:
        """This thread cannot run them: the pool does."""
        while self.mailboxes:
            mailbox = self.mailboxes[0]
            if mailbox.executor is not None:
                mailbox.executor.submit(mailbox)
            self.mailboxes.popleft()


pending = _Pending()
