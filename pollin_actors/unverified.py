"""Where requests wait that are verified only after they were answered.

That is an endpoint of its own, beside the one that they are for: nobody who pops or claims there
ever meets one that has not verified.
"""

from __future__ import annotations

from pollin_actors.intake import Intake
from pollin_actors.resources import Endpoint

__all__ = [
    "MOST_QUARANTINED",
    "MOST_QUARANTINED_BYTES",
    "QUARANTINED",
    "UNVERIFIED",
    "new_place",
    "parent_of",
    "place_of",
]

UNVERIFIED = "unverified"
QUARANTINED = "quarantined"

SUFFIX = ".unverified"

KEEP_MS = 7 * 86_400_000
"""Milliseconds for which quarantine lasts."""

MOST_UNVERIFIED = 100_000
"""Requests that may wait to be verified; then 503, as by a full endpoint."""

MOST_UNVERIFIED_BYTES = 1024 * 1024 * 1024
"""The same for their size."""

MOST_QUARANTINED = 10_000
"""Requests that are held beside what is genuine: then one that does not verify as it comes is
answered 503. What was answered 200 is not thrown away."""

MOST_QUARANTINED_BYTES = 256 * 1024 * 1024
"""The same for their size."""

KEPT_S = 1e-9
"""Seconds for which what has left is kept: until the next sweep. Not none at all, or there would be
no records of what is there, which say why it did not verify."""


def place_of(endpoint_id: str) -> str:
    """The id of the endpoint where requests for this one wait to be verified."""
    return endpoint_id + SUFFIX


def parent_of(endpoint: Endpoint) -> str | None:
    """The id of the endpoint whose requests wait here; None if this is no such place."""
    if not endpoint.id.endswith(SUFFIX) or not {UNVERIFIED, QUARANTINED} <= {*endpoint.phases}:
        return None
    return endpoint.id.removesuffix(SUFFIX) or None


def new_place(endpoint_id: str) -> Endpoint:
    """The endpoint where requests for this one are to wait."""
    return Endpoint.new(
        [UNVERIFIED, QUARANTINED],
        KEEP_MS,
        id=place_of(endpoint_id),
        dedup_for=0,  # the ids are new ones
        keep_for=KEPT_S,
        consumes=[UNVERIFIED],
        capacity=MOST_UNVERIFIED,
        capacity_bytes=MOST_UNVERIFIED_BYTES,
        intake=Intake(enabled=False),
    )
