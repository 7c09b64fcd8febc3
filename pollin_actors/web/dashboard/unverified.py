"""Quarantine: what did not verify, why, and verifying it again."""

from __future__ import annotations

import asyncio
import contextlib

from pollin_actors.errors import EndpointNotFound
from pollin_actors.unverified import QUARANTINED, UNVERIFIED
from pollin_actors.web.dashboard.access import Role
from pollin_actors.web.dashboard.confirming import confirm, still_in
from pollin_actors.web.dashboard.places import Place, place_of, places_of
from pollin_actors.web.dashboard.rows import Row
from pollin_actors.web.dashboard.search import PER_PAGE, Filter, find
from pollin_actors.web.dashboard.visit import Answer, Operation, Page, Redirect, Visit, Watch
from pollin_actors.web.quarantine import quarantine_of

__all__ = ["OPERATIONS"]

MOST_PLACES = 50


async def index(visit: Visit) -> Page:
    places = [place for place in await places_of(visit) if place.quarantine is not None]
    places = places[:MOST_PLACES]
    chosen = visit.given("endpoint")
    if chosen and chosen not in [place.endpoint.id for place in places]:
        # One of those beyond, or none.
        place = await place_of(visit, chosen)
        places += [place] if place.quarantine is not None else []
    counts = await asyncio.gather(*(_counts(visit, place) for place in places))
    if not chosen and places:
        held = [place for place, count in zip(places, counts, strict=True) if count[1]]
        chosen = (held or places)[0].endpoint.id
    rows: list[Row] = []
    following = None
    if chosen and any(place.endpoint.id == chosen for place in places):
        wanted, source = Filter(phase=QUARANTINED), quarantine_of(chosen)
        found = await find(visit.ask, source, wanted, visit.query.get("cursor") or None)
        reasons = await asyncio.gather(*(_reason(visit, source, row.id) for row in found.rows))
        following = found.following
        for row, reason in zip(found.rows, reasons, strict=True):
            rows.append(row._replace(reason=reason))
    context = {
        "places": list(zip(places, counts, strict=True)),
        "chosen": chosen,
        "source": quarantine_of(chosen) if chosen else "",
        "rows": rows,
        "following": following,
        "per_page": PER_PAGE,
    }
    ids = tuple(place.quarantine for place in places if place.quarantine is not None)
    return Page("quarantine.html", context, watch=Watch(ids, every=5.0))


async def _counts(visit: Visit, place: Place) -> tuple[int, int]:
    assert place.quarantine is not None
    callbacks, source = visit.app.callbacks, place.quarantine
    with contextlib.suppress(EndpointNotFound):  # it is deleted at this moment
        waiting = await callbacks.count(source, phase=UNVERIFIED, timeout=visit.timeout)
        held = await callbacks.count(source, phase=QUARANTINED, timeout=visit.timeout)
        return waiting, held
    return 0, 0


async def _reason(visit: Visit, source: str, key: str) -> str:
    records = await visit.app.callbacks.history(source, key=key, timeout=visit.timeout)
    reasons = [record.reason for record in records if record.to_phase == QUARANTINED]
    return reasons[-1] if reasons else ""


async def again(visit: Visit) -> Answer:
    """Verify one again, or all."""
    place = await place_of(visit, visit.needed("endpoint"))
    source, key = quarantine_of(place.endpoint.id), visit.form.get("key", "")
    if not key:
        wanted = Filter(phase=QUARANTINED)
        job = await visit.shared.jobs.begin(source, wanted, "move", UNVERIFIED)
        return Redirect("/jobs", (job.id,))
    await visit.app.callbacks.update_phase(
        source, key=key, phase=UNVERIFIED, expect=QUARANTINED, timeout=visit.timeout
    )
    return Redirect("/quarantine", (), {"endpoint": place.endpoint.id, "done": "again"})


async def discard(visit: Visit) -> Answer:
    """Discard one, or all."""
    place = await place_of(visit, visit.needed("endpoint"))
    source, key = quarantine_of(place.endpoint.id), visit.form.get("key", "")
    if not key:
        job = await visit.shared.jobs.begin(source, Filter(phase=QUARANTINED), "delete", "")
        return Redirect("/jobs", (job.id,))
    await still_in(visit, source, key, QUARANTINED)
    if not visit.form.get("confirmed"):
        text = f"{key} did not verify. It is discarded, and cannot be verified again."
        query = {"endpoint": place.endpoint.id}
        return confirm(visit, "Discard it?", text, "Discard", back=("/quarantine",), query=query)
    await visit.app.callbacks.delete(source, key=key, timeout=visit.timeout)
    return Redirect("/quarantine", (), {"endpoint": place.endpoint.id, "done": "discarded"})


OPERATIONS = (
    Operation("GET", "/quarantine", index),
    Operation("POST", "/quarantine/again", again, Role.WRITE),
    Operation("POST", "/quarantine/discard", discard, Role.WRITE),
)
