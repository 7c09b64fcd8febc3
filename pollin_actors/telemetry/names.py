"""Which endpoints have a label of their own: so many, and no more, whatever comes."""

from __future__ import annotations

from collections.abc import Iterable

from pollin_actors.otp.guard import Guard

__all__ = ["OTHER", "UNKNOWN", "Names"]

OTHER = "other"
"""The label of all that have none of their own."""

UNKNOWN = "unknown"
"""The label of what is for no endpoint that exists."""


class Names:
    """The endpoints that are called by their names.

    Those that are seen first are, until there are enough; a place becomes free when its endpoint is
    deleted. Only ids of endpoints that exist, or have existed, may be asked for.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._named: dict[str, None] = {}
        # What was in the list of endpoints neither this time nor the time before has been deleted;
        # what only this time was not may have been created since that was read.
        self._missing: set[str] = set()
        self._guard = Guard()

    def free(self) -> None:
        """After a fork: a thread that was about to name one is not here."""
        self._guard = Guard()

    def label(self, endpoint_id: str) -> str:
        """What to call an endpoint."""
        if endpoint_id in self._named:
            return endpoint_id
        if len(self._named) >= self.most or endpoint_id in (OTHER, UNKNOWN):
            return OTHER
        return self._guard.run(self._name, endpoint_id)

    def _name(self, endpoint_id: str) -> str:
        if len(self._named) >= self.most and endpoint_id not in self._named:
            return OTHER
        self._named[endpoint_id] = None
        return endpoint_id

    def has(self, endpoint_id: str) -> bool:
        """Whether an endpoint is called by its name."""
        return endpoint_id in self._named

    def exist(self, ids: Iterable[str]) -> set[str]:
        """These are the endpoints there are, in the order of their creation.

        Returns:
            Those that have lost their names.
        """
        there = set(ids)
        missing = {name for name in self._named.copy() if name not in there}
        gone = missing & self._missing
        for name in gone:
            self._named.pop(name, None)
        self._missing = missing - gone
        for endpoint_id in ids:
            if len(self._named) >= self.most:
                break
            self.label(endpoint_id)
        return gone
