"""What came and went: rates of endpoints, read from their history when somebody looks."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Any, NamedTuple

from pollin_actors.application import Application
from pollin_actors.errors import EndpointNotFound
from pollin_actors.messages import HistoryPage
from pollin_actors.records import Kind, Record, RecordPage
from pollin_actors.resources import Endpoint

__all__ = ["Bucket", "Flow", "Flows", "first_place"]

WINDOW_S = 600
"""Seconds that are shown."""
BUCKET_S = 5
PAGE = 1_000
PAGES = 4
"""That are read of one endpoint at once: where more has happened, only the last is counted."""
BUDGET_S = 0.08
"""Seconds of reading for one page of the dashboard."""
MOST = 500
FARTHEST = 1 << 62
"""No position is larger."""

_IN = frozenset({Kind.PUSHED})
_OUT = frozenset({Kind.ACKNOWLEDGED, Kind.POPPED})
_FAILED = frozenset({Kind.FAILED, Kind.DEAD, Kind.LAPSED})

Ask = Callable[[Any], Awaitable[Any]]


class Bucket(NamedTuple):
    """What happened in some seconds; None for what is not known."""

    came: int | None
    went: int | None
    failed: int | None


class Flow:
    """One endpoint's.

    Arguments:
        created_at: when it was created.
    """

    def __init__(self, created_at: int) -> None:
        self.created_at = created_at
        self.position = 0
        self.since: int | None = None
        """Seconds since the epoch from which on everything was read; None: nothing was."""
        self.reading = False
        self.behind = False
        self.dead_phases: set[str] = set()
        """Where dead letters were put."""
        self._buckets: dict[int, list[int]] = {}

    def add(self, records: Iterable[Record]) -> None:
        """Count records."""
        for record in records:
            kind = record.kind
            place = 0 if kind in _IN else 1 if kind in _OUT else 2 if kind in _FAILED else None
            if kind is Kind.DEAD and record.to_phase is not None:
                self.dead_phases.add(record.to_phase)
            if place is not None:
                number = record.at // (BUCKET_S * 1_000_000_000)
                self._buckets.setdefault(number, [0, 0, 0])[place] += 1

    def restart(self, position: int, since: int) -> None:
        """Forget all, and count from a position on."""
        self.position, self.since = position, since
        self._buckets.clear()

    def forget(self, now: float) -> None:
        """Let go of what is not shown any more."""
        oldest = int(now - WINDOW_S) // BUCKET_S - 1
        for number in [number for number in self._buckets if number < oldest]:
            del self._buckets[number]

    def buckets(self, now: float, each_s: int = 10) -> list[Bucket]:
        """The window, oldest first; each bucket is of ``each_s`` seconds."""
        end = (int(now) // each_s + 1) * each_s
        return [self._bucket(at, at + each_s) for at in range(end - WINDOW_S, end, each_s)]

    def rates(self, now: float, over_s: int) -> Bucket:
        """How many there were within the last seconds; None where these were not all read."""
        number = int(now) // BUCKET_S
        return self._bucket((number + 1) * BUCKET_S - over_s, (number + 1) * BUCKET_S)

    def _bucket(self, begin: int, end: int) -> Bucket:
        if self.since is None or begin + BUCKET_S < self.since:
            return Bucket(None, None, None)
        numbers = range(begin // BUCKET_S, end // BUCKET_S)
        found = [self._buckets[number] for number in numbers if number in self._buckets]
        came, went, failed = (sum(bucket[place] for bucket in found) for place in range(3))
        return Bucket(came, went, failed)


class Flows:
    """The flows of the endpoints that were looked at last.

    Arguments:
        app: the application.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._flows: OrderedDict[str, Flow] = OrderedDict()

    async def read(self, ask: Ask, endpoints: Iterable[Endpoint]) -> dict[str, Flow]:
        """The flows of endpoints by their ids, read up to now as far as that is quick."""
        until, now = monotonic() + BUDGET_S, self.now()
        read: dict[str, Flow] = {}
        for endpoint in endpoints:
            flow = read[endpoint.id] = self._of(endpoint)
            # Who reads already is not disturbed: nothing is to be counted twice.
            if flow.reading or monotonic() >= until:
                continue
            flow.reading = True
            try:
                # It was deleted at this moment: then there is nothing more to count.
                with contextlib.suppress(EndpointNotFound):
                    await _catch_up(flow, ask, endpoint.id, now)
            finally:
                flow.reading = False
            flow.forget(now)
        while len(self._flows) > MOST:
            self._flows.popitem(last=False)
        return read

    def _of(self, endpoint: Endpoint) -> Flow:
        flow = self._flows.get(endpoint.id)
        if flow is None or flow.created_at != endpoint.created_at:
            # An endpoint that was made anew counts its positions anew.
            flow = self._flows[endpoint.id] = Flow(endpoint.created_at)
        self._flows.move_to_end(endpoint.id)
        return flow

    def now(self) -> float:
        """Seconds since the epoch, by the clock of the inbox."""
        return self._app.runtime.clock.time_ns() / 1e9


async def _catch_up(flow: Flow, ask: Ask, endpoint_id: str, now: float) -> None:
    if flow.since is not None and await _read_on(flow, ask, endpoint_id):
        return
    for window in (WINDOW_S, 60, BUCKET_S):
        since = int(now - window)
        if flow.since is not None and since <= flow.since and window == WINDOW_S:
            continue  # that is what was just tried
        flow.restart(await _first_record(ask, endpoint_id, since * 1_000_000_000), since)
        if await _read_on(flow, ask, endpoint_id):
            return


async def _read_on(flow: Flow, ask: Ask, endpoint_id: str) -> bool:
    """Read some pages; whether that was all."""
    for _ in range(PAGES):
        page: RecordPage = await ask(HistoryPage(endpoint_id, flow.position, PAGE))
        flow.add(page.records)
        flow.position = page.cursor
        if len(page.records) < PAGE:
            flow.behind = False
            return True
    flow.behind = True
    return False


async def _first_record(ask: Ask, endpoint_id: str, at: int) -> int:
    """The position after which the records of a time begin."""

    async def reached(position: int) -> bool:
        page: RecordPage = await ask(HistoryPage(endpoint_id, position, 1))
        return not page.records or page.records[0].at >= at

    return await first_place(reached)


async def first_place(reached: Callable[[int], Awaitable[bool]]) -> int:
    """The smallest position that has reached something; positions ascend, as what is asked for
    does. It takes some forty questions, however much there is."""
    low, high = -1, 0
    while not await reached(high):
        if high == FARTHEST:
            return high
        low, high = high, min(max(high * 8, 1 << 10), FARTHEST)
    while high - low > 1:
        middle = (low + high) // 2
        if await reached(middle):
            high = middle
        else:
            low = middle
    return high
