"""The endpoints as people think of them: those that wait to be verified belong to another."""

from __future__ import annotations

from typing import NamedTuple

from pollin_actors.resources import Endpoint
from pollin_actors.web.dashboard.visit import Visit
from pollin_actors.web.quarantine import QUARANTINED, UNVERIFIED, quarantine_of

__all__ = ["Place", "is_quarantine", "place_of", "places_of"]


class Place(NamedTuple):
    """An endpoint, and the id of the one where its requests wait to be verified, if there is."""

    endpoint: Endpoint
    quarantine: str | None


async def places_of(visit: Visit) -> list[Place]:
    """All endpoints, in the order of their creation, without those of quarantine."""
    endpoints = await visit.app.endpoints.index(timeout=visit.timeout)
    return _sorted_out(endpoints)


async def place_of(visit: Visit, endpoint_id: str) -> Place:
    """One of them.

    Raises:
        EndpointNotFound: there is none.
    """
    endpoint = await visit.endpoint(endpoint_id)
    other = quarantine_of(endpoint_id)
    found = await visit.app.endpoints.find(other, timeout=visit.timeout)
    there = found is not None and is_quarantine(found)
    return Place(endpoint, other if there else None)


def is_quarantine(endpoint: Endpoint) -> bool:
    """Whether requests wait there to be verified."""
    return (
        endpoint.id.endswith(quarantine_of(""))
        and endpoint.phases == (UNVERIFIED, QUARANTINED)
        and not endpoint.intake.enabled
    )


def _sorted_out(endpoints: list[Endpoint]) -> list[Place]:
    waiting = {endpoint.id for endpoint in endpoints if is_quarantine(endpoint)}
    places = []
    for endpoint in endpoints:
        if endpoint.id in waiting:
            continue
        other = quarantine_of(endpoint.id)
        places.append(Place(endpoint, other if other in waiting else None))
    return places
