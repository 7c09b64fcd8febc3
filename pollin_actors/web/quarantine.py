"""Requests that are verified only after they were answered, and those that did not verify."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from pollin_actors.application import Application
from pollin_actors.calls import Steps
from pollin_actors.errors import (
    CallbackNotFound,
    EndpointExists,
    EndpointNotFound,
    Full,
    PhaseConflict,
    PollinError,
    UnknownPhase,
)
from pollin_actors.identifiers import uuid7
from pollin_actors.resources import Callback, Endpoint, PushResult
from pollin_actors.signatures import Delivery
from pollin_actors.unverified import (
    MOST_QUARANTINED,
    MOST_QUARANTINED_BYTES,
    QUARANTINED,
    UNVERIFIED,
    new_place,
    parent_of,
    place_of,
)
from pollin_actors.web.verifying import Verification
from pollin_actors.web.waiting import packed

__all__ = ["Quarantine", "Quarantined", "quarantine_of", "quarantined", "verify_again"]

COUNTED_S = 1.0
"""Seconds after which what a place holds is asked for again; until then it is counted here."""

MOST_COUNTED = 10_000
"""Places that are counted at a time."""


def quarantine_of(endpoint_id: str) -> str:
    """The id of the endpoint where requests for this one wait to be verified.

    It has the phases ``unverified`` and ``quarantined``.
    """
    return place_of(endpoint_id)


class Quarantined(NamedTuple):
    """A request that did not verify."""

    callback: Callback
    """As it came, but that a secret which a header shows is hidden; its id is its own, and not what
    a sender says."""
    reason: str


def quarantined(
    app: Application, endpoint_id: str, *, offset: int = 0, limit: int = 100
) -> list[Quarantined]:
    """What did not verify, oldest first, and why.

    Arguments:
        app: a running application.
        endpoint_id: the endpoint that the requests are for.
        offset: how many to pass over.
        limit: how many at most.

    Raises:
        EndpointNotFound: nothing was ever taken unverified for such an endpoint.
    """
    place = place_of(endpoint_id)
    page = app.callbacks.fetch(place, phase=QUARANTINED, offset=offset, limit=limit).get()
    found = []
    for callback in page:
        records = app.callbacks.history(place, key=callback.id).get()
        reasons = [record.reason for record in records if record.to_phase == QUARANTINED]
        found.append(Quarantined(callback, reasons[-1] if reasons else ""))
    return found


def verify_again(app: Application, endpoint_id: str, *, key: str | None = None) -> int:
    """Verify again what is in quarantine, as after a mistake with a secret was mended.

    It is done by this application, whether or not it has a receiver, for as long as it runs; or by
    another on the same store that does.

    Arguments:
        app: a running application.
        endpoint_id: the endpoint that the requests are for.
        key: the id of one of them; None: all that are there now.

    Returns:
        How many are to be verified. What does not verify comes back.

    Raises:
        EndpointNotFound: nothing was ever taken unverified for such an endpoint.
        CallbackNotFound, PhaseConflict: the one is not in quarantine.
    """
    place = place_of(endpoint_id)
    found = app.endpoints.find(place).get()
    if found is None or parent_of(found) is None:
        raise EndpointNotFound(place)
    app.companion(Verification).serve(endpoint_id)
    if key is not None:
        app.callbacks.update_phase(place, key=key, phase=UNVERIFIED, expect=QUARANTINED).get()
        return 1
    # First all, then the moves: what comes back is not taken a second time.
    keys = [it.id for it in app.callbacks.dump(place) if it.phase == QUARANTINED]
    moved = 0
    for each in keys:
        moved += _move(app, place, each)
    return moved


def _move(app: Application, place: str, key: str) -> bool:
    try:
        app.callbacks.update_phase(place, key=key, phase=UNVERIFIED, expect=QUARANTINED).get()
    except (CallbackNotFound, PhaseConflict):
        return False  # somebody else was quicker, or it has expired
    return True


class PlaceTaken(PollinError):
    """There is an endpoint where requests were to wait, and it is somebody's own."""

    def __init__(self, endpoint_id: str) -> None:
        super().__init__(
            f"requests for endpoint {endpoint_id!r} are verified later and wait in "
            f"{place_of(endpoint_id)!r}: expected none of that id, or one with the phases "
            f"{UNVERIFIED!r} and {QUARANTINED!r}, got another; delete that one, or verify first"
        )


class _Held:
    """How much a place holds, as it was a moment ago, and what was added since."""

    __slots__ = ("bytes", "callbacks", "until")

    def __init__(self, callbacks: int, size: int, until: float) -> None:
        self.callbacks = callbacks
        self.bytes = size
        self.until = until


class Quarantine:
    """Takes requests that are to be verified later.

    Arguments:
        app: the application.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        # From here on whatever waits is verified, as soon as the application runs.
        self._verification = app.companion(Verification)
        self._held: dict[str, _Held] = {}
        # Endpoints whose place is there, as it should be; and the state of endpoints then.
        self._places: dict[str, object] = {}

    def push(
        self, endpoint: Endpoint, delivery: Delivery, genuine: bool, left: Callable[[], float]
    ) -> Generator[Any, Any, PushResult]:
        """Take a request for an endpoint that is to be verified later.

        Its id is a new one: the sender's may not be his to use.

        Arguments:
            endpoint: whom it is for.
            delivery: what came.
            genuine: whether it verifies as it comes. What does not is taken only as long as there
                is room in quarantine, for it will most likely end there.
            left: seconds that there are yet.

        Raises:
            Full: there is no room.
            PlaceTaken: somebody's own endpoint is where they should wait.
        """
        request = packed(delivery, endpoint.intake.scheme)
        callback = Callback(uuid7(), request, UNVERIFIED, self._app.runtime.clock.time_ns())
        if self._places.get(endpoint.id) is not self._app._changes.revision:
            yield from self._look(endpoint.id, left)
        self._verification.serve(endpoint.id)
        if not genuine:
            yield from self._find_room(endpoint.id, callback.size, left)
        place, push = place_of(endpoint.id), self._app.callbacks.push
        result: PushResult | None = None
        try:
            result = yield push(place, callback, timeout=left())
        except EndpointNotFound:
            pass  # another process has deleted it, or a moment ago this one
        except UnknownPhase:
            self._places.pop(endpoint.id, None)
            raise PlaceTaken(endpoint.id) from None
        if result is None:
            yield from self._make(endpoint.id, left)
            again: PushResult = yield push(place, callback, timeout=left())
            result = again
        # Once more: what had been served may have come to its end in between.
        self._verification.serve(endpoint.id)
        return result

    def _look(self, endpoint_id: str, left: Callable[[], float]) -> Steps[None]:
        revision = self._app._changes.revision
        place: Endpoint | None = yield self._app.endpoints.find(
            place_of(endpoint_id), timeout=left()
        )
        if place is None:
            yield from self._make(endpoint_id, left)
        elif parent_of(place) is None:
            raise PlaceTaken(endpoint_id)
        if len(self._places) >= MOST_COUNTED:
            self._places.clear()
        self._places[endpoint_id] = revision

    def _make(self, endpoint_id: str, left: Callable[[], float]) -> Steps[None]:
        endpoints = self._app.endpoints
        with contextlib.suppress(EndpointExists):
            yield endpoints.create(new_place(endpoint_id), timeout=left())
        # Afterwards: who deletes the endpoint looks for its place after that.
        if (yield endpoints.find(endpoint_id, timeout=left())) is None:
            yield endpoints.delete(place_of(endpoint_id), timeout=left())
            raise EndpointNotFound(endpoint_id)

    def _find_room(self, endpoint_id: str, size: int, left: Callable[[], float]) -> Steps[None]:
        place = place_of(endpoint_id)
        now = self._app.runtime.clock.monotonic()
        held = self._held.get(place)
        if held is None or held.until <= now:
            try:
                stats = yield self._app.callbacks.stats(place, timeout=left())
            except EndpointNotFound:
                return  # it is made again
            if len(self._held) >= MOST_COUNTED:
                self._held.clear()
            held = self._held[place] = _Held(stats.queued, stats.size, now + COUNTED_S)
        if held.callbacks >= MOST_QUARANTINED:
            raise Full(place, "callbacks", held.callbacks, MOST_QUARANTINED)
        if held.bytes + size > MOST_QUARANTINED_BYTES:
            raise Full(place, "bytes", held.bytes, MOST_QUARANTINED_BYTES)
        held.callbacks += 1
        held.bytes += size
