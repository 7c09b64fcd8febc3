"""Endpoints and handlers: looking at them, and steering them."""

from __future__ import annotations

import contextlib

from pollin_actors.errors import EndpointConflict, InvalidValue
from pollin_actors.handlers import HandlerInfo
from pollin_actors.secret import Secret
from pollin_actors.web.admin_api.problems import Kind, Problem
from pollin_actors.web.dashboard.access import Role
from pollin_actors.web.dashboard.charts import chart
from pollin_actors.web.dashboard.confirming import confirm
from pollin_actors.web.dashboard.overview import standing_of
from pollin_actors.web.dashboard.places import place_of, places_of
from pollin_actors.web.dashboard.visit import Answer, Operation, Page, Redirect, Visit, Watch

__all__ = ["OPERATIONS"]

PER_PAGE = 100
# A change is tried so often: each time somebody else was quicker.
TRIES = 5
LONGEST_OVERLAP_S = 30 * 86_400.0

_ONE = "/endpoints/{endpoint_id}"
_NO_HANDLER = Kind(404, "handler-not-found", "There is no such handler")


async def index(visit: Visit) -> Page:
    places = await places_of(visit)
    wanted = visit.given("text").lower()
    if wanted:
        places = [place for place in places if wanted in place.endpoint.id.lower()]
    handled: dict[str, int] = {}
    for info in visit.app.handlers:
        handled[info.endpoint_id] = handled.get(info.endpoint_id, 0) + 1
    shown = places[:PER_PAGE]
    context = {
        "places": shown,
        "left": len(places) - len(shown),
        "handled": handled,
        "text": visit.given("text"),
    }
    return Page("endpoints.html", context)


async def one(visit: Visit) -> Page:
    place = await place_of(visit, visit.parts["endpoint_id"])
    endpoint_id = place.endpoint.id
    flow = (await visit.shared.flows.read(visit.ask, [place.endpoint]))[endpoint_id]
    standing = await standing_of(visit, place, flow)
    handlers = [info for info in visit.app.handlers if info.endpoint_id == endpoint_id]
    if place.quarantine is not None:
        handlers += [i for i in visit.app.handlers if i.endpoint_id == place.quarantine]
    now = visit.shared.flows.now()
    context = {
        "standing": standing,
        "place": place,
        "endpoint": place.endpoint,
        "handlers": handlers,
        "chart": chart(flow.buckets(now), 720, 120),
        "old_secrets": [old for old in place.endpoint.old_secrets if old.until > now * 1e9],
    }
    return Page("endpoint.html", context, watch=Watch((endpoint_id,), tree=True))


async def enable(visit: Visit) -> Answer:
    return await _set_enabled(visit, True)


async def disable(visit: Visit) -> Answer:
    endpoint = await visit.endpoint(visit.parts["endpoint_id"])
    if not visit.form.get("confirmed"):
        return confirm(
            visit,
            f"Disable {endpoint.id}?",
            "Requests for it will be answered 410, which tells most senders to stop. What is "
            "queued stays, and is handled.",
            "Disable",
            back=("/endpoints", endpoint.id),
        )
    return await _set_enabled(visit, False)


async def _set_enabled(visit: Visit, enabled: bool) -> Answer:
    for _ in range(TRIES):
        endpoint = await visit.endpoint(visit.parts["endpoint_id"])
        intake = endpoint.intake
        fields = {**intake.as_fields(), "enabled": enabled}
        changed = endpoint.replace(intake=type(intake).from_fields(fields))
        # None writes back a secret that another has replaced meanwhile.
        with contextlib.suppress(EndpointConflict):
            await visit.app.endpoints.update(changed, expect=endpoint, timeout=visit.timeout)
            break
    else:
        raise EndpointConflict(visit.parts["endpoint_id"])
    done = "enabled" if enabled else "disabled"
    return Redirect("/endpoints", (visit.parts["endpoint_id"],), {"done": done})


async def rotate(visit: Visit) -> Answer:
    endpoint = await visit.endpoint(visit.parts["endpoint_id"])
    given = visit.form.get("secret", "")
    overlap = _overlap(visit.form.get("overlap", ""))
    if not visit.form.get("confirmed"):
        # Not asked on another page: what was typed would have to stand in it.
        raise InvalidValue("confirmed", "that the box is ticked", "that it is not")
    secret = Secret(given) if given else None
    changed = await visit.app.endpoints.rotate(
        endpoint.id, secret=secret, overlap=overlap, timeout=visit.timeout
    )
    if secret is not None:
        return Redirect("/endpoints", (endpoint.id,), {"done": "rotated"})
    # Once, to who had it generated: nobody else could ever tell it to the sender.
    context = {"endpoint": changed, "secret": changed.secret.reveal()}
    return Page("rotated.html", context, changed=True)


def _overlap(text: str) -> float:
    try:
        hours = float(text or "24")
    except ValueError:
        hours = -1.0
    if not 0 <= hours * 3600 <= LONGEST_OVERLAP_S:
        expected = f"hours, at least 0 and at most {LONGEST_OVERLAP_S / 3600:.0f}"
        raise InvalidValue("overlap", expected, ascii(text)[:80])
    return hours * 3600


async def pause(visit: Visit) -> Answer:
    info = _handler(visit)
    await visit.app.handlers.pause(info.name, timeout=visit.timeout)
    return _back(visit, info, "paused")


async def resume(visit: Visit) -> Answer:
    info = _handler(visit)
    await visit.app.handlers.resume(info.name, timeout=visit.timeout)
    return _back(visit, info, "resumed")


def _handler(visit: Visit) -> HandlerInfo:
    name = visit.needed("name")
    for info in visit.app.handlers:
        if info.name == name:
            return info
    detail = "it may belong to another process: handlers are steered where they run"
    raise Problem(_NO_HANDLER, detail)


def _back(visit: Visit, info: HandlerInfo, done: str) -> Redirect:
    endpoint_id = visit.form.get("endpoint", "") or info.endpoint_id
    return Redirect("/endpoints", (endpoint_id,), {"done": done})


OPERATIONS = (
    Operation("GET", "/endpoints", index),
    Operation("GET", _ONE, one),
    Operation("POST", f"{_ONE}/enable", enable, Role.WRITE),
    Operation("POST", f"{_ONE}/disable", disable, Role.WRITE),
    Operation("POST", f"{_ONE}/rotate", rotate, Role.WRITE),
    Operation("POST", "/handlers/pause", pause, Role.WRITE),
    Operation("POST", "/handlers/resume", resume, Role.WRITE),
)
