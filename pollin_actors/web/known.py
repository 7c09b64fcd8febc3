"""Endpoints as the receiver knows them, so that not every request has to ask for its own."""

from __future__ import annotations

from pollin_actors.application import Application
from pollin_actors.calls import Steps
from pollin_actors.otp import Runtime
from pollin_actors.resources import Endpoint
from pollin_actors.web.rates import Rate

__all__ = ["KEPT_S", "Known", "KnownEndpoints"]

KEPT_S = 1.0
"""Seconds after which an endpoint is read again, as another process may have changed it."""

MOST = 10_000
"""Endpoints that are known at a time."""


class Known:
    """An endpoint as it was read."""

    __slots__ = ("endpoint", "rate", "revision", "runtime", "until")

    def __init__(
        self, endpoint: Endpoint, rate: Rate | None, revision: object, runtime: Runtime
    ) -> None:
        self.endpoint = endpoint
        self.rate = rate
        self.revision = revision
        self.runtime = runtime
        self.until = runtime.clock.monotonic() + KEPT_S


class KnownEndpoints:
    """Endpoints as they were read a moment ago.

    What this process changes is known at once, what others change after a second. Whether a
    secret is still valid is not decided here, but by the backend with the push.

    Arguments:
        app: the application.
        timeout: seconds that reading one may take.
    """

    def __init__(self, app: Application, timeout: float) -> None:
        self._app = app
        self._timeout = timeout
        self._known: dict[str, Known] = {}

    def recent(self, endpoint_id: str) -> Known | None:
        """The endpoint, if it was read a moment ago.

        Raises:
            NotRunning: the application does not run.
        """
        runtime = self._app.runtime
        known = self._known.get(endpoint_id)
        if (
            known is None
            or known.revision is not self._app._changes.revision
            or known.runtime is not runtime
            or known.until <= runtime.clock.monotonic()
        ):
            return None
        return known

    def id_of(self, text: str) -> str | None:
        """The id of an endpoint that was read, if that is what the text is: its own, which does not
        grow with what strangers send."""
        known = self._known.get(text)
        return None if known is None else known.endpoint.id

    def read(self, endpoint_id: str) -> Steps[Known | None]:
        """The endpoint as it is now; None if there is none.

        Raises:
            PollinError, OtpError: it cannot be read.
        """
        # Before it is read: a change in between is then not overlooked.
        revision, runtime = self._app._changes.revision, self._app.runtime
        endpoint: Endpoint | None = yield self._app.endpoints.find(
            endpoint_id, timeout=self._timeout
        )
        if endpoint is None:
            self._known.pop(endpoint_id, None)
            return None
        before = self._known.get(endpoint_id)
        known = Known(endpoint, _rate(endpoint, before), revision, runtime)
        if before is None and len(self._known) >= MOST:
            self._known.clear()
        self._known[endpoint_id] = known
        return known


def _rate(endpoint: Endpoint, before: Known | None) -> Rate | None:
    intake = endpoint.intake
    if intake.rate is None:
        return None
    rate = before.rate if before is not None else None
    # What was counted so far counts on.
    return rate if rate is not None and rate.terms == (intake.rate, intake.burst) else Rate(intake)
