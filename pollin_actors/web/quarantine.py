"""Requests that are verified only after they were answered, and those that did not verify.

They have an endpoint of their own, beside the one that they are for: nobody who pops or claims
there ever meets one that has not verified.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any, NamedTuple

from pollin_actors.application import Application
from pollin_actors.calls import Steps
from pollin_actors.errors import (
    CallbackNotFound,
    EndpointExists,
    EndpointNotFound,
    InvalidValue,
    PhaseConflict,
)
from pollin_actors.handlers import Discard, Reject
from pollin_actors.identifiers import uuid7
from pollin_actors.intake import Intake, Verify
from pollin_actors.otp import Backoff, ReplyFuture, Runtime
from pollin_actors.resources import Callback, Endpoint, PushResult, Request
from pollin_actors.signatures import Delivery, Refused, Verified
from pollin_actors.signatures.interface import HeaderPairs
from pollin_actors.web.failures import Failures

__all__ = [
    "QUARANTINED",
    "UNVERIFIED",
    "Quarantine",
    "Quarantined",
    "hide",
    "new_place",
    "quarantine_of",
    "quarantined",
    "verify_again",
]

UNVERIFIED = "unverified"
QUARANTINED = "quarantined"

HIDDEN = b"**********"

# As in HTTP/2: no header that a sender can set begins with a colon.
_QUERY = b":query"

KEEP_MS = 7 * 86_400_000
"""Milliseconds for which quarantine lasts."""

MOST_UNVERIFIED = 100_000
"""Requests that may wait to be verified; then 503, as by a full endpoint."""

MOST_UNVERIFIED_BYTES = 1024 * 1024 * 1024
"""The same for their size."""

KEPT_S = 600.0
"""Seconds for which what has left, verified or discarded, can still be looked at. Everybody may
send to such an endpoint, so this bounds what strangers make us keep."""

MOST_QUARANTINED = 10_000
"""Requests in quarantine; what comes beyond is recorded as discarded, with its reason."""

BACKOFF = Backoff(first=0.5, most=60.0, jitter=1.0)
ATTEMPTS = 1_000


def quarantine_of(endpoint_id: str) -> str:
    """The id of the endpoint where requests for this one wait to be verified.

    It has the phases ``unverified`` and ``quarantined``.
    """
    return f"{endpoint_id}.unverified"


def new_place(place: str) -> Endpoint:
    """The endpoint of that id, where requests wait to be verified."""
    return Endpoint.new(
        [UNVERIFIED, QUARANTINED],
        KEEP_MS,
        id=place,
        dedup_for=0,  # the ids are new ones
        keep_for=KEPT_S,
        consumes=[UNVERIFIED],
        capacity=MOST_UNVERIFIED,
        capacity_bytes=MOST_UNVERIFIED_BYTES,
        intake=Intake(enabled=False),
    )


def hide(headers: HeaderPairs, verified: Verified) -> HeaderPairs:
    """The headers without the secret, where one of them has shown it."""
    if not verified.hidden or verified.secret is None:
        return headers
    pairs = list(headers)
    shown = verified.secret.encode()
    for index, (name, value) in enumerate(pairs):
        if name.lower() in verified.hidden and value.strip().endswith(shown):
            pairs[index] = (name, HIDDEN)
    return pairs


class Quarantined(NamedTuple):
    """A request that did not verify."""

    callback: Callback
    """As it came; its id is its own, and not what a sender says."""
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
    place = quarantine_of(endpoint_id)
    page = app.callbacks.fetch(place, phase=QUARANTINED, offset=offset, limit=limit).get()
    found = []
    for callback in page:
        records = app.callbacks.history(place, key=callback.id).get()
        reasons = [record.reason for record in records if record.to_phase == QUARANTINED]
        found.append(Quarantined(callback, reasons[-1] if reasons else ""))
    return found


def verify_again(app: Application, endpoint_id: str, *, key: str | None = None) -> int:
    """Verify again what is in quarantine, as after a mistake with a secret was mended.

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
    place = quarantine_of(endpoint_id)
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


class Quarantine:
    """Takes requests that are to be verified later, and sees to it that they are.

    Arguments:
        app: the application.
        timeout: seconds that the inbox has to take a request.
        failures: where it is logged what does not verify.
    """

    def __init__(self, app: Application, timeout: float, failures: Failures) -> None:
        self._app = app
        self._timeout = timeout
        self._failures = failures
        # Of the runtime before: another one has handlers of its own to be given.
        self._begun: Runtime | None = None
        self._served: set[str] = set()

    def begin(self, runtime: Runtime) -> None:
        """Once after each start of the application: have verified what is left from before.

        It waits for nothing.
        """
        if self._begun is not runtime:
            self._begun = runtime
            self._app.endpoints.index(timeout=None).add_done_callback(self._found)

    def _found(self, reply: ReplyFuture[list[Endpoint]]) -> None:
        try:
            endpoints = reply.get(timeout=0)
        except Exception:
            self._begun = None  # the next request tries again
            return
        for endpoint in endpoints:
            if endpoint.intake.verify is Verify.LATER:
                self._serve(endpoint.id)

    def push(self, endpoint: Endpoint, delivery: Delivery) -> Generator[Any, Any, PushResult]:
        """Take a request for an endpoint that is to be verified later.

        Its id is a new one: the sender's may not be his to use.
        """
        self._serve(endpoint.id)
        request = Request([(_QUERY, delivery.query), *delivery.headers], delivery.body)
        at = self._app.runtime.clock.time_ns()
        callback = Callback(uuid7(), request, UNVERIFIED, at)
        place = quarantine_of(endpoint.id)
        try:
            result: PushResult = yield self._push(place, callback)
        except EndpointNotFound:
            yield from self._make(place)
            result = yield self._push(place, callback)
        return result

    def _push(self, place: str, callback: Callback) -> ReplyFuture[PushResult]:
        return self._app.callbacks.push(place, callback, timeout=self._timeout)

    def _make(self, place: str) -> Steps[None]:
        endpoint = new_place(place)
        with contextlib.suppress(EndpointExists):
            yield self._app.endpoints.create(endpoint, timeout=self._timeout)

    def _serve(self, endpoint_id: str) -> None:
        """Have a handler verify what is taken for an endpoint."""
        if endpoint_id in self._served:
            return
        verifier = Verifier(self._app, endpoint_id, self._failures)
        name = f"verify {endpoint_id}"[:200]
        if not any(info.name == name for info in self._app.handlers):
            # Another receiver of this application may be quicker.
            with contextlib.suppress(InvalidValue):
                self._app.add_handler(
                    verifier.verify,
                    quarantine_of(endpoint_id),
                    phase=UNVERIFIED,
                    dead_letter=QUARANTINED,
                    max_attempts=ATTEMPTS,
                    backoff=BACKOFF,
                    name=name,
                )
        self._served.add(endpoint_id)


class Verifier:
    """Verifies requests for one endpoint that were taken before.

    Arguments:
        app: the application.
        endpoint_id: the endpoint that they are for.
        failures: where it is logged what does not verify.
    """

    def __init__(self, app: Application, endpoint_id: str, failures: Failures) -> None:
        self._app = app
        self._failures = failures
        self._endpoint_id = endpoint_id

    async def verify(self, callback: Callback) -> Reject | Discard | None:
        """Push a request to its endpoint if it verifies; else it goes into quarantine."""
        endpoint = await self._app.endpoints.find(self._endpoint_id)
        if endpoint is None:
            return Reject("the endpoint does not exist any more")
        delivery = _delivery(callback.request)
        # By the clock of its arrival: it did not make itself wait.
        at = callback.created_at
        verified = endpoint.intake.scheme.verify(delivery, endpoint.secrets_at(at), at / 1e9)
        if isinstance(verified, Refused):
            self._failures.refused("receiver.quarantined", self._endpoint_id, verified.reason)
            return await self._reject(verified.reason)
        if verified.reply is not None:
            return None
        await self._push(callback, delivery, verified)
        return None

    async def _reject(self, reason: str) -> Reject | Discard:
        place = quarantine_of(self._endpoint_id)
        held = await self._app.callbacks.count(place, phase=QUARANTINED)
        return Discard(reason) if held >= MOST_QUARANTINED else Reject(reason)

    async def _push(self, callback: Callback, delivery: Delivery, verified: Verified) -> None:
        # The same id at each attempt, so that it is pushed once.
        key = callback.id if verified.key is None else verified.key
        request = Request(hide(delivery.headers, verified), delivery.body)
        origin = f"{quarantine_of(self._endpoint_id)}/{callback.id}"
        taken = Callback(key, request, "", callback.created_at, origin=origin, fence=verified.fence)
        await self._app.callbacks.push(self._endpoint_id, taken)


def _delivery(request: Any) -> Delivery:
    """What came, as it came."""
    if not isinstance(request, Request):
        return Delivery((), b"")
    pairs = [
        (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in request.headers
    ]
    query = b""
    if pairs and pairs[0][0] == _QUERY:
        query = pairs.pop(0)[1]
    return Delivery(pairs, request.body, query)
