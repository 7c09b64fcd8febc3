"""How a supervisor is started that nobody supervises, and what its end means for its names."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, cast

from pollin_actors.otp.actor import attach
from pollin_actors.otp.answering import AnswersCalls
from pollin_actors.otp.cell import ExitRequest
from pollin_actors.otp.exits import ExitReason, ExitRecord
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.runtime import Runtime, default_runtime
from pollin_actors.otp.vacancies import vacate_below, vacate_left

if TYPE_CHECKING:
    from pollin_actors.otp.handle import SupervisorRef
    from pollin_actors.otp.registry import Registry

__all__ = ["Launches"]


class Launches(AnswersCalls):
    """A supervisor whose starter may wait until it is up."""

    def __init__(self, registry: Registry | None) -> None:
        super().__init__(registry)
        self._up: ReplyFuture[None] = ReplyFuture()
        self._cell.monitor().add_done_callback(self._ended)

    def launch(
        self, runtime: Runtime | None, name: Hashable, timeout: float | None
    ) -> SupervisorRef[Any]:
        """Start without a supervisor, wait until it is up, and return its handle."""
        try:
            self.begin(runtime if runtime is not None else default_runtime(), name)
            self.wait_until_up(timeout)
            return self.ref
        except BaseException:
            self.give_up()
            raise

    @property
    def ref(self) -> SupervisorRef[Any]:
        """Its handle, also before it is started."""
        return cast("SupervisorRef[Any]", self.actor_ref)

    def begin(self, runtime: Runtime, name: Hashable = None) -> None:
        """Start without waiting, for who must hold the ref whatever happens meanwhile.

        Raises:
            AlreadyRegistered: the name belongs to somebody alive.
        """
        if name is None:
            attach(self, runtime)
            return
        try:
            attach(self, runtime, runtime.registry.claim(name, self._cell))
        except BaseException:
            runtime.registry.release_claim(name, self._cell)
            raise

    def wait_until_up(self, timeout: float | None = None) -> None:
        """Wait until every child has started, at most ``timeout`` seconds.

        Raises:
            StartFailed: a child did not start.
            pykka.Timeout: it takes longer; the start goes on.
        """
        self._up.get(timeout=timeout)

    def give_up(self) -> None:
        """Stop what has been started, without waiting."""
        cell = self._cell
        cell.mailbox.post_urgent(ExitRequest(cell, ExitReason.SHUTDOWN))

    def report_up(self) -> None:
        """All children that had to be up are."""
        self._up_since = self.runtime.clock.monotonic()
        if self._cell.generation > 1:
            own = {child.spec.name for child in self.children()}
            vacate_left(self.registry, self._cell.mailbox, own)
        self._cell.report_started()
        self._up._settle((None, None))

    def _ended(self, monitor: ReplyFuture[ExitRecord]) -> None:
        """Whoever waits for the start of a supervisor that has ended need not wait longer."""
        reason = monitor.get(timeout=0).exception
        self._up._fail(reason if reason is not None else self._cell.dead("has ended"))
        cell = self._cell
        if cell.supervisor is None and cell.mailbox.runtime is not None:
            # Nobody restarts it: its name is given up, and those below are borne no more.
            if cell.name is not None:
                self.runtime.registry.give_up(cell.name, unless_borne=True)
            vacate_below(self.registry, cell.mailbox)
