"""What is left for the handlers of an application under test, and why it is not done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count

from pollin_actors.handlers import HandlerInfo, HandlerState
from pollin_actors.messages import FetchSlice, FindEndpoint
from pollin_actors.records import Kind
from pollin_actors.resources import Callback, Endpoint
from pollin_actors.testing.looking import SHOWN, Looking, listed

__all__ = ["Remaining"]

PAGE = 100
"""Callbacks that are read at a time."""


class Remaining(Looking):
    """What ``Tester.drain`` waits for."""

    def _is_done(self, until: int) -> bool:
        """Whether handlers have nothing left to do before a time, in nanoseconds."""
        infos = list(self.app.handlers)
        return not any(info.held for info in infos) and not any(
            True for info in infos for _ in self._left_for(info, until)
        )

    def _left_for(self, info: HandlerInfo, until: int) -> Iterator[Callback]:
        """What is in its phase and not put off until later than that."""
        endpoint: Endpoint | None = self._look(FindEndpoint(info.endpoint_id))
        if endpoint is None or (info.state is HandlerState.PAUSED and not info.held):
            return
        phase = info.phase or endpoint.phases[0]
        if phase in endpoint.phases:
            yield from _due(self._queued(endpoint.id, phase), until)

    def _queued(self, endpoint_id: str, phase: str) -> Iterator[Callback]:
        """All in one phase. In pages: mostly the first callback says enough."""
        for offset in count(0, PAGE):
            page: list[Callback] = self._look(FetchSlice(endpoint_id, phase, offset, PAGE))
            yield from page
            if len(page) < PAGE:
                return

    def _failure(self, within: float, until: int) -> str:
        found = {
            (info.endpoint_id, callback.id): (info, callback)
            for info in self.app.handlers
            for callback in self._left_for(info, until)
        }
        shown = list(found.values())[:SHOWN]
        lines = [f"{self._told(info.endpoint_id, it)}{self._why(info, it)}" for info, it in shown]
        head = f"after {within:g} s of virtual time handlers are not done with"
        return listed(head, lines, len(found))

    def _why(self, info: HandlerInfo, callback: Callback) -> str:
        name = f"handler {info.name!r}"
        if info.state is HandlerState.WAITING:
            return f"; {name} does not run: it is being restarted, or its endpoint lacks a phase"
        records = self.history(info.endpoint_id, callback.id)
        # That the same came again says nothing of what it waits for.
        records = [record for record in records if record.kind is not Kind.REPEATED]
        if records and records[-1].kind is Kind.CLAIMED:
            last = records[-1]
            ago = (self.app.runtime.clock.time_ns() - last.at) / 1e9
            return f" {ago:g} s ago by {last.by or 'somebody'!r}"
        return "; it waits for its next attempt" if callback.attempts else ""


def _due(queued: Iterable[Callback], until: int) -> Iterator[Callback]:
    """Those that are not put off, nor wait for one of their ordering key that is."""
    put_off: set[str] = set()
    for callback in queued:
        key = callback.ordering_key
        if key is not None and key in put_off:
            continue
        if callback.not_before is not None and callback.not_before > until:
            if key is not None:
                put_off.add(key)
            continue
        yield callback
