"""Callbacks: a list of those that match, and the same done to all of them."""

from __future__ import annotations

from pollin_actors.errors import InvalidValue
from pollin_actors.web.admin_api.secrets_shown import secrets_at
from pollin_actors.web.dashboard.access import Role
from pollin_actors.web.dashboard.jobs import read_action
from pollin_actors.web.dashboard.places import places_of
from pollin_actors.web.dashboard.search import Filter, find, read_filter
from pollin_actors.web.dashboard.visit import Answer, Operation, Page, Redirect, Visit, Watch

__all__ = ["FILTERS", "OPERATIONS"]

FILTERS = ("phase", "since", "until", "header", "text", "kept", "order")
MOST_ENDPOINTS = 500


async def index(visit: Visit) -> Page:
    places = await places_of(visit)
    endpoint_id = visit.given("endpoint")
    if not endpoint_id:
        if not places:
            return Page("callbacks_empty.html")
        endpoint_id = places[0].endpoint.id
    endpoint = await visit.endpoint(endpoint_id)
    secrets = await secrets_at(visit.app, endpoint_id, visit.timeout)
    wanted = read_filter(visit.query, secrets)
    cursor = visit.query.get("cursor") or None
    found = await find(visit.ask, endpoint_id, wanted, cursor, visit.query.get("whole") == "1")
    total = await _total(visit, endpoint_id, wanted)
    first = cursor is None
    ids = [place.endpoint.id for place in places[:MOST_ENDPOINTS]]
    context = {
        "endpoint": endpoint,
        "ids": ids if endpoint_id in ids else [endpoint_id, *ids],
        "filters": {name: visit.query.get(name, "") for name in FILTERS},
        "wanted": wanted,
        "rows": found.rows,
        "found": found,
        "total": total,
        "first": first,
        "live": first and wanted.is_bare,
        "dead_phases": visit.app.handlers.dead_letters_of(endpoint_id),
    }
    watch = Watch((endpoint_id,), every=5.0) if first and wanted.is_bare else None
    return Page("callbacks.html", context, watch=watch)


async def _total(visit: Visit, endpoint_id: str, wanted: Filter) -> int:
    phase = wanted.phase or None
    found: int = await visit.app.callbacks.count(endpoint_id, phase=phase, timeout=visit.timeout)
    return found


async def act(visit: Visit) -> Answer:
    """Prepare what is to be done to all that match."""
    endpoint = await visit.endpoint(visit.needed("endpoint"))
    action = read_action(visit.needed("action"))
    wanted = read_filter(visit.form, await secrets_at(visit.app, endpoint.id, visit.timeout))
    target = ""
    if action == "move":
        target = visit.needed("phase_to")
        if target not in endpoint.phases:
            raise InvalidValue("phase_to", "a phase of the endpoint", ascii(target)[:80])
    elif action == "replay":
        target = visit.form.get("into", "") or endpoint.id
        await visit.endpoint(target)
    job = await visit.shared.jobs.begin(endpoint.id, wanted, action, target)
    return Redirect("/jobs", (job.id,))


async def job(visit: Visit) -> Page:
    found = visit.shared.jobs.find(visit.parts["job_id"])
    watch = Watch(job=found.id, every=1.0) if found.active else None
    return Page("job.html", {"job": found, "wanted": found.wanted}, watch=watch)


async def confirm_job(visit: Visit) -> Answer:
    found = visit.shared.jobs.find(visit.parts["job_id"])
    visit.shared.jobs.confirm(found)
    return Redirect("/jobs", (found.id,))


async def stop_job(visit: Visit) -> Answer:
    found = visit.shared.jobs.find(visit.parts["job_id"])
    visit.shared.jobs.stop(found)
    return Redirect("/jobs", (found.id,))


OPERATIONS = (
    Operation("GET", "/callbacks", index),
    Operation("POST", "/callbacks/act", act, Role.WRITE),
    Operation("GET", "/jobs/{job_id}", job),
    Operation("POST", "/jobs/{job_id}/confirm", confirm_job, Role.WRITE),
    Operation("POST", "/jobs/{job_id}/stop", stop_job, Role.WRITE),
)
