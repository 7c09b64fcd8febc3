"""What a mailbox consists of."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from pollin_actors.otp.items import Item

if TYPE_CHECKING:
    from pollin_actors.otp.cell import Cell
    from pollin_actors.otp.runtime import Executor, Runtime

__all__ = ["MailboxState"]


class MailboxState:
    """The fields of a mailbox: see ``turns`` for who may change which, and when."""

    __slots__ = (
        "__weakref__",
        "bearer",
        "bound",
        "cell",
        "closed",
        "current",
        "ending",
        "executor",
        "followed",
        "generation",
        "name",
        "on_demand",
        "parent",
        "persistent",
        "queue",
        "runtime",
        "scheduled",
        "token",
        "urgent",
        "used",
        "vacant",
    )

    def __init__(self, name: Hashable = None, *, bound: int | None = None) -> None:
        self.name = name
        self.bound = bound
        self.queue: deque[Item] = deque()
        # Short, and mostly empty: a list takes a tenth of a deque's memory. Supervisors, who may
        # have many, get a deque.
        self.urgent: list[Any] | deque[Any] = []
        self.token = threading.RLock()
        self.cell: Cell | None = None
        # Who took the name over last: says so before it stands in ``cell``.
        self.bearer: Cell | None = None
        self.generation = 0
        # A named mailbox keeps its messages while nobody bears the name.
        self.persistent = name is not None
        self.runtime: Runtime | None = None
        self.executor: Executor | None = None
        self.current: Any = None
        # The incarnation whose end is being told, until all have been.
        self.ending: Cell | None = None
        self.scheduled = False
        self.followed = False
        self.used = False
        self.closed: Callable[[], BaseException] | None = None
        self.on_demand: Callable[[Any], None] | None = None
        # The mailbox of the supervisor of whoever bore it last.
        self.parent: Any = None
        # Set while nobody bears the name and nobody is about to: senders get this error.
        self.vacant: Callable[[], BaseException] | None = None

    @property
    def label(self) -> str:
        """How errors call whoever should answer."""
        cell = self.cell
        if cell is not None:
            return cell.label
        return f"actor {self.name!r}"
