"""Endpoints as the receiver knows them, so that not every request has to ask for its own."""

from __future__ import annotations

import contextlib
from typing import Any, TypeAlias

import structlog

from pollin_actors.application import Application
from pollin_actors.calls import Steps
from pollin_actors.otp import Runtime
from pollin_actors.resources import Endpoint
from pollin_actors.state import State
from pollin_actors.web.rates import Rate

__all__ = ["KEPT_S", "Known", "KnownEndpoints"]

log = structlog.get_logger("pollin_actors")

Rates: TypeAlias = "tuple[Rate, Rate]"
"""Of what is genuine, and of what is taken although it does not verify."""

RUNNING = State.RUNNING

KEPT_S = 1.0
"""Seconds after which an endpoint is read again, as another process may have changed it."""

MOST = 10_000
"""Endpoints that are known at a time."""

MOST_REMEMBERED_S = 2 * 30 * 86_400.0
"""Seconds for which an id is remembered, after which no scheme takes what was signed then."""


class Known:
    """An endpoint as it was read."""

    __slots__ = ("endpoint", "plain", "rate", "revision", "runtime", "strangers", "until")

    def __init__(
        self, endpoint: Endpoint, rates: Rates | None, revision: object, runtime: Runtime
    ) -> None:
        self.endpoint = endpoint
        intake = endpoint.intake
        # Nothing is refused before the body is read, as at most endpoints.
        self.plain = intake.enabled and not intake.content_types and rates is None
        self.rate: Rate | None
        self.strangers: Rate | None
        self.rate, self.strangers = (None, None) if rates is None else rates
        self.revision = revision
        self.runtime = runtime
        self.until = runtime.clock.monotonic() + KEPT_S


class KnownEndpoints:
    """Endpoints as they were read a moment ago.

    What this process changes is known at once, what others change after a second. Whether a
    secret is still valid is not decided here, but by the backend with the push.

    Arguments:
        app: the application.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        # The first is the one that was read least lately.
        self._known: dict[str, Known] = {}
        # Not with what is known: what was counted counts on when an endpoint is read again.
        self._rates: dict[str, Rates] = {}
        self._warned: set[tuple[str, float, float]] = set()

    def recent(self, endpoint_id: str) -> Known | None:
        """The endpoint, if it was read a moment ago.

        Raises:
            NotRunning: the application does not run.
        """
        # Twice for every request: what it asks of the application it does not call.
        app = self._app
        known = self._known.get(endpoint_id)
        if app._state is not RUNNING:
            app._check()
        if known is None:
            return None
        runtime = known.runtime
        if (
            known.revision is not app._changes.revision
            or runtime is not app._runtime
            or known.until <= runtime.clock.monotonic()
        ):
            return None
        return known

    def id_of(self, text: str) -> str | None:
        """The id of an endpoint that there is, or was a moment ago, if that is what the text is:
        its own, which does not grow with what strangers send."""
        known = self._known.get(text)
        return None if known is None else known.endpoint.id

    def read(self, endpoint_id: str, timeout: float) -> Steps[Known | None]:
        """The endpoint as it is now; None if there is none.

        Arguments:
            endpoint_id: whose.
            timeout: seconds that it may take.

        Raises:
            PollinError, OtpError: it cannot be read.
        """
        # Before it is read: a change in between is then not overlooked.
        revision, runtime = self._app._changes.revision, self._app.runtime
        endpoint: Endpoint | None = yield self._app.endpoints.find(endpoint_id, timeout=timeout)
        self._known.pop(endpoint_id, None)
        if endpoint is None:
            self._rates.pop(endpoint_id, None)
            return None
        if endpoint.dedup_for < MOST_REMEMBERED_S:
            self._warn(endpoint)
        known = Known(endpoint, self._rates_of(endpoint, runtime), revision, runtime)
        if len(self._known) >= MOST:
            # Another thread may change it meanwhile: then the next one makes room.
            with contextlib.suppress(RuntimeError, StopIteration):
                self._known.pop(next(iter(self._known)), None)
        self._known[endpoint_id] = known
        return known

    def _rates_of(self, endpoint: Endpoint, runtime: Runtime) -> Rates | None:
        intake = endpoint.intake
        if intake.rate is None:
            self._rates.pop(endpoint.id, None)
            return None
        rates = self._rates.get(endpoint.id)
        if rates is None or rates[0].terms != (intake.rate, intake.burst):
            if len(self._rates) >= MOST:
                self._drop_idle(runtime.clock.monotonic())
            rates = self._rates[endpoint.id] = (Rate(intake), Rate(intake))
        return rates

    def _drop_idle(self, now: float) -> None:
        for endpoint_id, rates in list(self._rates.items()):
            if all(rate.is_idle(now) for rate in rates):
                self._rates.pop(endpoint_id, None)

    def _warn(self, endpoint: Endpoint) -> None:
        """Say it where a signed request can be sent again once its id is forgotten."""
        scheme: Any = endpoint.intake.scheme
        tolerance = getattr(scheme, "tolerance", None)
        # One that is signed without a time has an option for it all the same.
        if tolerance is None or not getattr(scheme, "timestamp_header", "always"):
            return
        said = (endpoint.id, endpoint.dedup_for, tolerance)
        if endpoint.dedup_for >= 2 * tolerance or said in self._warned:
            return
        if len(self._warned) >= MOST:
            self._warned.clear()
        self._warned.add(said)
        with contextlib.suppress(Exception):
            log.warning(
                "receiver.replays_possible",
                endpoint=endpoint.id,
                dedup_for=endpoint.dedup_for,
                tolerance=tolerance,
                hint="a signed request can be sent again for longer than its id is remembered: "
                "let dedup_for be at least twice the tolerance",
            )
