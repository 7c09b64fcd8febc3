"""The overview, and what endpoints look like there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pollin_actors.errors import EndpointNotFound
from pollin_actors.records import EndpointStats
from pollin_actors.resources import Endpoint
from pollin_actors.web.dashboard.charts import Chart, chart
from pollin_actors.web.dashboard.flows import Bucket, Flow
from pollin_actors.web.dashboard.places import Place, places_of
from pollin_actors.web.dashboard.visit import Operation, Page, Visit, Watch

__all__ = ["OPERATIONS", "Standing", "standing_of"]

ENDPOINTS = 20
"""That stand on one page."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How an endpoint stands.

    Arguments:
        endpoint: the endpoint.
        stats: its counts.
        phases: how many are in each phase.
        waiting: seconds since the oldest that waits was created; None: none waits.
        second: what happened in the last ten seconds.
        minute: and in the last minute.
        chart: what came and went.
        dead: how many dead letters there are.
        dead_phases: where they are put.
        quarantined: how many did not verify; None: nothing is ever taken unverified.
        behind: so much happens that not all of it is read.
    """

    endpoint: Endpoint
    stats: EndpointStats
    phases: tuple[tuple[str, int], ...]
    waiting: float | None
    second: Bucket
    minute: Bucket
    chart: Chart
    dead: int
    dead_phases: tuple[str, ...]
    quarantined: int | None
    behind: bool


async def overview(visit: Visit) -> Page:
    places = await places_of(visit)
    number = _page_number(visit, len(places))
    shown = places[number * ENDPOINTS : (number + 1) * ENDPOINTS]
    flows = await visit.shared.flows.read(visit.ask, [place.endpoint for place in shown])
    found = await asyncio.gather(
        *(standing_of(visit, place, flows[place.endpoint.id]) for place in shown),
        return_exceptions=True,
    )
    standings: list[Standing] = []
    for standing in found:
        if isinstance(standing, Standing):
            standings.append(standing)
        elif not isinstance(standing, EndpointNotFound):  # one that is deleted at this moment
            raise standing
    context = {
        "standings": standings,
        "totals": _totals(standings),
        "handlers": list(visit.app.handlers),
        "number": number,
        "more": len(places) > (number + 1) * ENDPOINTS,
        "count": len(places),
        "crashes": visit.shared.crashes.newest_first()[:3],
    }
    ids = tuple(standing.endpoint.id for standing in standings)
    return Page("overview.html", context, watch=Watch(ids, tree=True))


def _page_number(visit: Visit, count: int) -> int:
    given = visit.query.get("page", "")
    number = int(given) if given.isascii() and given.isdigit() and len(given) < 7 else 0
    return min(number, max((count - 1) // ENDPOINTS, 0))


def _totals(standings: list[Standing]) -> dict[str, float | None]:
    def total(values: list[int | None]) -> int | None:
        known = [value for value in values if value is not None]
        return sum(known) if known else None

    waits = [s.waiting for s in standings if s.waiting is not None]
    return {
        "queued": sum(s.stats.queued for s in standings),
        "came": total([s.minute.came for s in standings]),
        "went": total([s.minute.went for s in standings]),
        "failed": total([s.minute.failed for s in standings]),
        "dead": sum(s.dead for s in standings),
        "quarantined": sum(s.quarantined or 0 for s in standings),
        "waiting": max(waits) if waits else None,
    }


async def standing_of(visit: Visit, place: Place, flow: Flow) -> Standing:
    """How an endpoint stands at the moment.

    Raises:
        EndpointNotFound: it was deleted meanwhile.
    """
    endpoint, callbacks = place.endpoint, visit.app.callbacks
    waiting_in = endpoint.consumes or endpoint.phases[:1]
    stats, counts, oldest, quarantined = await asyncio.gather(
        callbacks.stats(endpoint.id, timeout=visit.timeout),
        asyncio.gather(
            *(
                callbacks.count(endpoint.id, phase=phase, timeout=visit.timeout)
                for phase in endpoint.phases
            )
        ),
        asyncio.gather(
            *(
                callbacks.fetch(endpoint.id, phase=phase, limit=1, timeout=visit.timeout)
                for phase in waiting_in
            )
        ),
        count_quarantined(visit, place),
    )
    now = visit.shared.flows.now()
    times = [found[0].created_at for found in oldest if found]
    dead = set(visit.app.handlers.dead_letters_of(endpoint.id)) | flow.dead_phases
    phases = tuple(zip(endpoint.phases, counts, strict=True))
    dead_phases = tuple(phase for phase in endpoint.phases if phase in dead)
    ten, minute = flow.rates(now, 10), flow.rates(now, 60)
    return Standing(
        endpoint,
        stats,
        phases,
        max(now - min(times) / 1e9, 0.0) if times else None,
        ten,
        minute,
        chart(flow.buckets(now)),
        sum(count for phase, count in phases if phase in dead_phases),
        dead_phases,
        quarantined,
        flow.behind,
    )


async def count_quarantined(visit: Visit, place: Place) -> int | None:
    """How many requests for an endpoint did not verify; None: it has no such place."""
    if place.quarantine is None:
        return None
    try:
        found: int = await visit.app.callbacks.count(
            place.quarantine, phase="quarantined", timeout=visit.timeout
        )
    except EndpointNotFound:
        return None
    return found


OPERATIONS = (Operation("GET", "/", overview),)
