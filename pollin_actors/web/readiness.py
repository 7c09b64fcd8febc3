"""Whether webhooks could be taken now, asked of the backend itself."""

from __future__ import annotations

from collections.abc import Callable

from pollin_actors.application import Application
from pollin_actors.calls import Steps
from pollin_actors.errors import NotRunning, PollinError
from pollin_actors.otp import OtpError, ReplyFuture, Runtime
from pollin_actors.web.answers import HEALTH_METHODS, UNREADY, Answer, ready, unhealthy

__all__ = ["Readiness"]

KEPT_S = 1.0


class Readiness:
    """Tries whether the backend can store something, at most once a second whoever asks.

    Anybody may ask, and each trial costs a commit: so an answer is kept, and shared by those who
    come while it is on its way.

    Arguments:
        app: the application.
        timeout: seconds after which a backend that has not answered counts as unavailable.
        tell: is told of errors for which it is.
    """

    __slots__ = ("_app", "_kept_until", "_reply", "_runtime", "_tell", "_timeout")

    def __init__(
        self, app: Application, timeout: float, tell: Callable[[BaseException], None]
    ) -> None:
        self._app = app
        self._tell = tell
        self._timeout = timeout
        self._reply: ReplyFuture[None] | None = None
        self._runtime: Runtime | None = None
        self._kept_until = 0.0

    def answer(self, method: str) -> Steps[Answer]:
        """The answer to a request for ``/readyz``."""
        if method not in ("GET", "HEAD"):
            return HEALTH_METHODS
        try:
            yield self._ask()
        except NotRunning as error:
            return unhealthy(error.state)
        except (PollinError, OtpError) as error:
            self._tell(error)
            return UNREADY
        durability = getattr(self._app.backend, "durability", None)
        return ready(durability if isinstance(durability, str) else None)

    def _ask(self) -> ReplyFuture[None]:
        runtime = self._app.runtime  # raises NotRunning
        now = runtime.clock.monotonic()
        reply = self._reply
        # What was found before a restart of the application says nothing about this run.
        stale = runtime is not self._runtime
        if reply is None or stale or (reply.done() and now >= self._kept_until):
            self._runtime = runtime
            self._kept_until = now + KEPT_S
            reply = self._reply = self._app.ready(timeout=self._timeout)
        return reply
