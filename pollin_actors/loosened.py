"""Endpoints that take all that was queued, while a dump is loaded into them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from pollin_actors.errors import EndpointConflict, EndpointExists, EndpointNotFound, PollinError
from pollin_actors.facade import Endpoints
from pollin_actors.otp import OtpError
from pollin_actors.resources import Endpoint

__all__ = ["LOADING", "Loosened"]

# A phase that an endpoint has while what it would not take is loaded into it: that it is not what
# it ought to be is seen also after a load was killed, by the next.
LOADING = "(being loaded)"
# A change is tried so often: each time somebody else was quicker.
TRIES = 20


class Loosened:
    """The endpoints of one dump: those of them that hold more than they take are made to take it,
    without capacity and with phases of old, and are in the end as the dump has them.

    Arguments:
        endpoints: where they are.
        timeout: seconds for each operation.
    """

    def __init__(self, endpoints: Endpoints, timeout: float | None) -> None:
        self._endpoints = endpoints
        self._timeout = timeout
        # As the dump has them; and the phases of those of them that may be another for now.
        self._ours: dict[str, Endpoint] = {}
        self._loose: dict[str, set[str]] = {}

    def create(self, endpoint: Endpoint) -> bool:
        """Create one of the dump; False if somebody else was quicker."""
        tight = (endpoint.capacity, endpoint.capacity_bytes) != (None, None)
        made = _loosened(endpoint) if tight else endpoint
        self._ours[endpoint.id] = endpoint
        if tight:
            # Before it is done: what has no answer may be done all the same.
            self._loose[endpoint.id] = set(made.phases)
        try:
            self._endpoints.create(made, timeout=self._timeout).get()
        except EndpointExists:
            del self._ours[endpoint.id]
            self._loose.pop(endpoint.id, None)
            return False
        return True

    def take_over(self, found: Endpoint, endpoint: Endpoint) -> None:
        """See to one that exists: an earlier load of the same dump may have made it, and not have
        come to its end. If it was changed since, it is left as it is.

        Arguments:
            found: as it is stored.
            endpoint: as the dump has it, created at the same time.
        """
        ours, theirs = ((it.phases, it.capacity, it.capacity_bytes) for it in (endpoint, found))
        if LOADING in found.phases:
            self._loose[found.id] = set(found.phases)
        elif ours != theirs:
            return
        self._ours[found.id] = endpoint
        if ours == theirs and ours[1:] != (None, None):
            self._loosen(found.id)

    def allow(self, endpoint_id: str, phase: str) -> None:
        """Callbacks may be in a phase that their endpoint has no more; nobody can push them."""
        ours = self._ours.get(endpoint_id)
        if ours is None or not phase or phase in ours.phases:
            return
        if phase not in self._loose.get(endpoint_id, ()):
            self._loosen(endpoint_id, phase)

    def restore(self, failed: bool = False) -> None:
        """Give endpoints the phases and the capacity of the dump, whatever is in them.

        Arguments:
            failed: whether what fails here is no matter any more, after what has failed before.
        """
        for endpoint_id in list(self._loose):
            with suppress(EndpointNotFound, *((PollinError, OtpError) if failed else ())):
                self._change(endpoint_id, partial(_tightened, self._ours[endpoint_id]))
                del self._loose[endpoint_id]

    def _loosen(self, endpoint_id: str, *phases: str) -> None:
        # Before it is done: what has no answer may be done all the same.
        self._loose[endpoint_id] = set()
        loose = self._change(endpoint_id, lambda found: _loosened(found, *phases))
        self._loose[endpoint_id] = set(loose.phases)

    def _change(self, endpoint_id: str, change: Callable[[Endpoint], Endpoint]) -> Endpoint:
        """Change one as it is now: its secret may be rotated meanwhile, and stays so."""
        for _ in range(TRIES):
            found = self._endpoints.find(endpoint_id, timeout=self._timeout).get()
            if found is None:
                raise EndpointNotFound(endpoint_id)
            changed = change(found)
            with suppress(EndpointConflict):
                self._endpoints.update(changed, expect=found, timeout=self._timeout).get()
                return changed
        raise EndpointConflict(endpoint_id)


def _tightened(wanted: Endpoint, found: Endpoint) -> Endpoint:
    if LOADING not in found.phases:
        return found  # somebody else has seen to it
    return found.replace(
        phases=wanted.phases, capacity=wanted.capacity, capacity_bytes=wanted.capacity_bytes
    )


def _loosened(endpoint: Endpoint, *phases: str) -> Endpoint:
    """One that takes what was queued, and that says so."""
    more = dict.fromkeys((*endpoint.phases, *phases, LOADING))
    return endpoint.replace(phases=tuple(more), capacity=None, capacity_bytes=None)
