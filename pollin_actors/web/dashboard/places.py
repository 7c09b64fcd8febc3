"""The endpoints as people think of them: those that wait to be verified belong to another."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import anyio.to_thread

from pollin_actors.otp import Runtime
from pollin_actors.resources import Endpoint
from pollin_actors.unverified import QUARANTINED, UNVERIFIED
from pollin_actors.web.quarantine import quarantine_of

if TYPE_CHECKING:
    from pollin_actors.web.dashboard.visit import Visit

__all__ = ["Directory", "Place", "is_quarantine", "place_of", "places_of"]


FRESH_S = 2.0
"""Seconds for which what was read is taken to be so; and twenty times what reading took."""

_BEHIND = quarantine_of("")


class Place(NamedTuple):
    """An endpoint, and the id of the one where its requests wait to be verified, if there is."""

    endpoint: Endpoint
    quarantine: str | None


class Directory:
    """All endpoints, as they were read last.

    They are read again after every change in this process, and for those of other processes
    every few seconds: there may be a hundred thousand, and somebody looks all the time.
    """

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._known: tuple[object, Runtime] | None = None
        self._until = 0.0

    async def places(self, visit: Visit) -> list[Place]:
        """In the order of their creation, without those of quarantine.

        Raises:
            NotRunning: the application does not run.
        """
        app, begin = visit.app, monotonic()
        # Before they are read: a change in between is then not overlooked.
        known = app._changes.revision, app.runtime
        if known != self._known or begin >= self._until:
            endpoints = await app.endpoints.index(timeout=visit.timeout)
            # A hundred thousand take a while.
            self._places = await anyio.to_thread.run_sync(_sorted_out, endpoints)
            self._known = known
            now = monotonic()
            self._until = now + max(FRESH_S, 20 * (now - begin))
        return self._places


async def places_of(visit: Visit) -> list[Place]:
    """All endpoints, in the order of their creation, without those of quarantine."""
    return await visit.shared.directory.places(visit)


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
        endpoint.id.endswith(_BEHIND)
        and endpoint.phases == (UNVERIFIED, QUARANTINED)
        and not endpoint.intake.enabled
    )


def _sorted_out(endpoints: list[Endpoint]) -> list[Place]:
    waiting = {endpoint.id for endpoint in endpoints if is_quarantine(endpoint)}
    places = []
    for endpoint in endpoints:
        if endpoint.id in waiting:
            continue
        other = endpoint.id + _BEHIND
        places.append(Place(endpoint, other if other in waiting else None))
    return places
