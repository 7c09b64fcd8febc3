"""What has happened in an application under test: read past its actors and past all faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pollin_actors.actors.callback_actor import FUTURES
from pollin_actors.application import Application
from pollin_actors.messages import History, HistoryPage, PastPage
from pollin_actors.otp import Later
from pollin_actors.records import Kind, Record
from pollin_actors.resources import Callback
from pollin_actors.testing.faulty import innermost

__all__ = ["Looking", "listed"]

SHOWN = 20
"""How many callbacks a failure lists."""

Where = Callable[[Callback], bool]


class Looking:
    """Reads and assertions; ``Tester`` says of what."""

    app: Application

    def received(self, endpoint_id: str) -> list[Callback]:
        """All that was pushed, queued or kept since, oldest first, each as it was last."""
        found: list[Callback] = []
        after: int | None = None
        while True:
            page = self._look(PastPage(endpoint_id, after))
            found += page.callbacks
            after = page.cursor
            if after is None:
                return found

    def history(self, endpoint_id: str, key: str) -> list[Record]:
        """What has happened to the callback of that id, oldest first."""
        records: list[Record] = self._look(History(endpoint_id, key))
        return records

    def assert_received(
        self,
        endpoint_id: str,
        *,
        count: int | None = None,
        phase: str | None = None,
        where: Where | None = None,
    ) -> list[Callback]:
        """Assert that something was pushed, queued or kept since; return it, oldest first.

        Arguments:
            endpoint_id: where to.
            count: exactly so many; None: at least one.
            phase: those that are, or were last, in this phase.
            where: those for which this is true.

        Raises:
            AssertionError: there are others, or none; says which there are.
        """
        what = "" if phase is None else f" in phase {phase!r}"
        return self._assert(endpoint_id, what, count, lambda it: phase in (None, it.phase), where)

    def assert_handled(
        self,
        endpoint_id: str,
        *,
        count: int | None = None,
        by: str | None = None,
        where: Where | None = None,
    ) -> list[Callback]:
        """Assert that callbacks were acknowledged; return them, in the order of their pushes.

        Arguments:
            endpoint_id: where they were pushed to.
            count: exactly so many; None: at least one.
            by: those that this handler has done.
            where: those for which this is true.

        Raises:
            AssertionError: there are others, or none; says which there are.
        """
        return self._assert_ended(endpoint_id, "handled", Kind.ACKNOWLEDGED, count, by, where)

    def assert_dead(
        self,
        endpoint_id: str,
        *,
        count: int | None = None,
        by: str | None = None,
        where: Where | None = None,
    ) -> list[Callback]:
        """Assert that callbacks were given up after their last attempt; otherwise as
        ``assert_handled``."""
        return self._assert_ended(endpoint_id, "dead", Kind.DEAD, count, by, where)

    # -- inside ------------------------------------------------------------------------------------

    def _look(self, message: Any) -> Any:
        reply = innermost(self.app.backend).execute(message)
        return Later(reply).future.get() if isinstance(reply, FUTURES) else reply

    def _assert_ended(
        self,
        endpoint_id: str,
        word: str,
        kind: Kind,
        count: int | None,
        by: str | None,
        where: Where | None,
    ) -> list[Callback]:
        ended = {
            record.callback_id
            for record in self._records(endpoint_id)
            if record.kind is kind and by in (None, record.by)
        }
        what = f" {word}" if by is None else f" {word} by {by!r}"
        return self._assert(endpoint_id, what, count, lambda it: it.id in ended, where)

    def _assert(
        self,
        endpoint_id: str,
        what: str,
        count: int | None,
        chosen: Where,
        where: Where | None,
    ) -> list[Callback]:
        everything = self.received(endpoint_id)
        found = [it for it in everything if chosen(it) and (where is None or where(it))]
        if len(found) == count or (count is None and found):
            return found
        number = "at least one callback" if count is None else f"{count} callbacks"
        number = "1 callback" if count == 1 else number
        accepted = " that `where` accepts" if where is not None else ""
        head = f"expected {number}{what}{accepted}, got {len(found)}; there are:"
        lines = [self._told(endpoint_id, callback) for callback in everything[:SHOWN]]
        raise AssertionError(listed(f"endpoint {endpoint_id!r}: {head}", lines, len(everything)))

    def _records(self, endpoint_id: str) -> list[Record]:
        found: list[Record] = []
        after = 0
        while True:
            page = self._look(HistoryPage(endpoint_id, after))
            found += page.records
            if page.cursor == after:
                return found
            after = page.cursor

    def _told(self, endpoint_id: str, callback: Callback) -> str:
        records = self.history(endpoint_id, callback.id)
        last = records[-1] if records else None
        what = "" if last is None else f", last {last.kind}"
        why = f": {last.reason}" if last is not None and last.reason else ""
        attempts = f", attempts {callback.attempts}" if callback.attempts else ""
        return f"{endpoint_id}/{callback.id} in {callback.phase!r}{attempts}{what}{why}"


def listed(head: str, lines: list[str], total: int) -> str:
    """A failure's text: the head, and below it the first lines of so many in total."""
    more = [f"and {total - SHOWN} more"] if total > SHOWN else []
    return "\n  ".join([head, *(lines or ["none"]), *more])
