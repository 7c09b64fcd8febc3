"""Dead letters: what failed too often, to be tried again or discarded."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from pollin_actors.errors import EndpointNotFound, InvalidValue, UnknownPhase
from pollin_actors.records import Kind
from pollin_actors.resources import Endpoint
from pollin_actors.web.dashboard.access import Role
from pollin_actors.web.dashboard.confirming import confirm, still_in
from pollin_actors.web.dashboard.places import places_of
from pollin_actors.web.dashboard.rows import Row
from pollin_actors.web.dashboard.search import Filter, find
from pollin_actors.web.dashboard.visit import Answer, Operation, Page, Redirect, Visit, Watch

__all__ = ["OPERATIONS"]

MOST_ENDPOINTS = 50


class Letters(NamedTuple):
    """Where there are dead letters."""

    endpoint: Endpoint
    phase: str
    back: str
    """The phase that they are tried again in."""
    held: int


async def index(visit: Visit) -> Page:
    endpoints = [place.endpoint for place in (await places_of(visit))[:MOST_ENDPOINTS]]
    asked = visit.given("endpoint")
    if asked and asked not in [endpoint.id for endpoint in endpoints]:
        # One of those beyond, or none: never the letters of another.
        endpoints.append(await visit.endpoint(asked))
    flows = await visit.shared.flows.read(visit.ask, endpoints)
    known = [
        (endpoint, phase, back)
        for endpoint in endpoints
        for phase, back in _phases(visit, endpoint, flows[endpoint.id].dead_phases).items()
    ]
    counts = await asyncio.gather(*(_count(visit, it[0].id, it[1]) for it in known))
    letters = [Letters(*it, count) for it, count in zip(known, counts, strict=True)]
    chosen = _chosen(visit, endpoints, letters)
    rows: list[Row] = []
    following = None
    if chosen is not None:
        wanted = Filter(phase=chosen.phase)
        cursor = visit.query.get("cursor") or None
        found = await find(visit.ask, chosen.endpoint.id, wanted, cursor)
        reasons = await asyncio.gather(
            *(_reason(visit, chosen.endpoint.id, row.id) for row in found.rows)
        )
        following = found.following
        for row, reason in zip(found.rows, reasons, strict=True):
            rows.append(row._replace(reason=reason))
    context = {
        "letters": letters,
        "chosen": chosen,
        "rows": rows,
        "following": following,
        "endpoints": endpoints,
    }
    ids = (chosen.endpoint.id,) if chosen is not None else ()
    return Page("dead_letters.html", context, watch=Watch(ids, every=5.0))


def _phases(visit: Visit, endpoint: Endpoint, seen: set[str]) -> dict[str, str]:
    """Where dead letters are put, and the phase that they came from."""
    found: dict[str, str] = {}
    for phase, back in visit.app.handlers.dead_letters_of(endpoint.id).items():
        found[phase] = back or endpoint.phases[0]
    for phase in sorted(seen):
        # By handlers of other processes, which do not say where they took them from.
        found.setdefault(phase, (endpoint.consumes or endpoint.phases)[0])
    return {phase: back for phase, back in found.items() if phase in endpoint.phases}


def _chosen(visit: Visit, endpoints: list[Endpoint], letters: list[Letters]) -> Letters | None:
    endpoint_id, phase = visit.given("endpoint"), visit.given("phase")
    if endpoint_id:
        for letter in letters:
            if letter.endpoint.id == endpoint_id and phase in ("", letter.phase):
                return letter
        endpoint = next(endpoint for endpoint in endpoints if endpoint.id == endpoint_id)
        if not phase:
            return None  # it has none
        if phase not in endpoint.phases:
            raise UnknownPhase(endpoint_id, phase, endpoint.phases)
        back = next((p for p in endpoint.phases if p != phase), phase)
        return Letters(endpoint, phase, back, 0)
    held = [letter for letter in letters if letter.held]
    first = held or letters
    return first[0] if first else None


async def _count(visit: Visit, endpoint_id: str, phase: str) -> int:
    count = visit.app.callbacks.count(endpoint_id, phase=phase, timeout=visit.timeout)
    with contextlib.suppress(EndpointNotFound):  # it is deleted at this moment
        return int(await count)
    return 0


async def _reason(visit: Visit, endpoint_id: str, key: str) -> str:
    records = await visit.app.callbacks.history(endpoint_id, key=key, timeout=visit.timeout)
    said = [it.reason for it in records if it.kind in (Kind.DEAD, Kind.FAILED) and it.reason]
    return said[-1] if said else ""


async def retry(visit: Visit) -> Answer:
    """Have one tried again, or all."""
    endpoint = await visit.endpoint(visit.needed("endpoint"))
    phase, back, key = visit.needed("phase"), visit.needed("back"), visit.form.get("key", "")
    if back not in endpoint.phases or back == phase:
        raise InvalidValue("back", "another phase of the endpoint", ascii(back)[:80])
    if not key:
        job = await visit.shared.jobs.begin(endpoint.id, Filter(phase=phase), "move", back)
        return Redirect("/jobs", (job.id,))
    await visit.app.callbacks.update_phase(
        endpoint.id, key=key, phase=back, expect=phase, timeout=visit.timeout
    )
    return Redirect("/dead-letters", (), {**_query(endpoint.id, phase), "done": "retried"})


async def discard(visit: Visit) -> Answer:
    """Discard one, or all."""
    endpoint = await visit.endpoint(visit.needed("endpoint"))
    phase, key = visit.needed("phase"), visit.form.get("key", "")
    if not key:
        job = await visit.shared.jobs.begin(endpoint.id, Filter(phase=phase), "delete", "")
        return Redirect("/jobs", (job.id,))
    query = _query(endpoint.id, phase)
    await still_in(visit, endpoint.id, key, phase)
    if not visit.form.get("confirmed"):
        text = f"{key} leaves the queue, and is not tried again. It is kept for a while."
        return confirm(visit, "Discard it?", text, "Discard", back=("/dead-letters",), query=query)
    await visit.app.callbacks.delete(endpoint.id, key=key, timeout=visit.timeout)
    return Redirect("/dead-letters", (), {**query, "done": "discarded"})


def _query(endpoint_id: str, phase: str) -> dict[str, str]:
    return {"endpoint": endpoint_id, "phase": phase}


OPERATIONS = (
    Operation("GET", "/dead-letters", index),
    Operation("POST", "/dead-letters/retry", retry, Role.WRITE),
    Operation("POST", "/dead-letters/discard", discard, Role.WRITE),
)
