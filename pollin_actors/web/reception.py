"""What the receiver does with a request, whichever server it comes from.

It reads nothing and waits for nothing itself: it is a generator that says what it needs next, the
body or the answer of an actor, so that ASGI awaits it and WSGI waits for it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Generator
from enum import Enum
from functools import partial
from time import monotonic
from typing import Any, Literal, TypeAlias

import structlog

from pollin_actors.application import Application, State
from pollin_actors.errors import (
    EndpointNotFound,
    Full,
    InvalidValue,
    PollinError,
    TooLarge,
    UnknownPhase,
    WrongSecret,
)
from pollin_actors.identifiers import uuid7
from pollin_actors.instruments.log_context import within_request
from pollin_actors.intake import Verify
from pollin_actors.otp import OtpError, ReplyFuture
from pollin_actors.resources import MAX_ENDPOINT_ID, Callback, PushResult, Request
from pollin_actors.signatures import Delivery, Refused, Verified
from pollin_actors.signatures.interface import HeaderPairs
from pollin_actors.web.answers import (
    BAD_REQUEST,
    DISABLED,
    FULL,
    HEALTH_METHODS,
    HEALTHY,
    NOT_FOUND,
    POST_ONLY,
    TOO_LARGE,
    UNAUTHORIZED,
    UNAVAILABLE,
    WRONG_TYPE,
    Answer,
    accepted,
    outcome_of,
    replied,
    taken,
    too_many,
    unhealthy,
)
from pollin_actors.web.failures import Failures
from pollin_actors.web.known import Known, KnownEndpoints
from pollin_actors.web.quarantine import Quarantine, hide
from pollin_actors.web.readiness import Readiness

__all__ = ["BODY", "OnReceived", "Reception", "Taking"]

OnReceived: TypeAlias = Callable[[str, PushResult], None]

log = structlog.get_logger("pollin_actors")

HEALTH = ("/healthz", "/readyz")


class _Body(Enum):
    BODY = "body"


BODY = _Body.BODY
"""What is needed next is the body: bytes, as long as it may be."""

Taking: TypeAlias = Generator[ReplyFuture[Any] | Literal[_Body.BODY], Any, Answer | None]
"""Yields futures and is sent their values or thrown their errors, or ``BODY`` and is sent that, or
the answer to one that cannot be read, or None if the sender has gone. Returns the answer; None if
there is nobody to be answered."""


class Reception:
    """Takes requests in for an application.

    Arguments:
        app: the application.
        limit: bytes of the largest body.
        timeout: seconds that the inbox has to take a request.
        wait: whether 200 says that it is stored; else that it is on its way.
        on_received: called with the endpoint's id and the result after each that was taken.
    """

    def __init__(
        self,
        app: Application,
        limit: int,
        timeout: float,
        wait: bool,
        on_received: OnReceived | None,
    ) -> None:
        self._app = app
        self.limit = limit
        self._timeout = timeout
        self._wait = wait
        self._on_received = on_received
        self._known = KnownEndpoints(app, timeout)
        self._readiness = Readiness(app, timeout)
        self._failures = Failures(self._now)
        self._quarantine = Quarantine(app, timeout, self._failures)
        self._instruments = app.instruments
        self._begun = False
        self._warned = False

    def take(self, method: str, path: str, query: bytes, headers: Any) -> Taking:
        """Answer one request.

        Arguments:
            method: in upper case.
            path: decoded, below where we are mounted.
            query: undecoded, without the question mark.
            headers: pairs of bytes, as they came.
        """
        if self._instruments.received_by and path not in HEALTH:
            return self._observed(method, path, query, headers)
        return self._answer(method, path, query, headers)

    def _observed(self, method: str, path: str, query: bytes, headers: Any) -> Taking:
        """Answer a request, and tell those who want to know."""
        instruments, began = self._instruments, self._now()
        if headers.__class__ is not list:
            with contextlib.suppress(TypeError):  # what they are not, is found out below
                headers = list(headers)
        tokens = instruments.receiving(headers)
        answer: Answer | None = None
        try:
            answer = yield from self._answer(method, path, query, headers)
            return answer
        finally:
            # Also when the sender has gone, or the request was cancelled.
            known = self._known.id_of(path[1:])
            status, outcome = (0, "gone") if answer is None else (answer.status, outcome_of(answer))
            took = max(0.0, self._now() - began)
            instruments.received(tokens, known, status, outcome, took)

    def _answer(self, method: str, path: str, query: bytes, headers: Any) -> Taking:
        endpoint_id = path[1:]
        try:
            if path == "/healthz":
                return self._health(method)
            if path == "/readyz":
                if self._app.state is State.RUNNING:
                    self._quarantine.begin(self._app.runtime)
                return (yield from self._readiness.answer(method))
            # An id that no endpoint can have: it never gets as far as the actors.
            if (
                path[:1] != "/"
                or not endpoint_id
                or "/" in endpoint_id
                or len(endpoint_id) > MAX_ENDPOINT_ID
                or not endpoint_id.isprintable()
            ):
                return NOT_FOUND
            if method != "POST":
                return POST_ONLY
            pairs: HeaderPairs = headers if headers.__class__ is list else _pairs(headers)
            return (yield from self._take(endpoint_id, query, pairs))
        except WrongSecret:
            return UNAUTHORIZED
        except EndpointNotFound:
            return NOT_FOUND
        except TooLarge:
            return TOO_LARGE
        except Full:
            return FULL
        except InvalidValue:
            return BAD_REQUEST
        except (PollinError, OtpError):
            return UNAVAILABLE
        except Exception as error:
            self._failures.unexpected("receiver.failed", endpoint_id, error)
            return UNAVAILABLE

    def _health(self, method: str) -> Answer:
        if method not in ("GET", "HEAD"):
            return HEALTH_METHODS
        state = self._app.state
        return HEALTHY if state is State.RUNNING else unhealthy(state)

    def _take(self, endpoint_id: str, query: bytes, headers: HeaderPairs) -> Taking:
        if not self._begun:
            self._begin()
        try:
            declared, content_type = _look(headers)
        except (TypeError, ValueError, AttributeError):
            return BAD_REQUEST
        known = self._known.recent(endpoint_id) or (yield from self._read(endpoint_id))
        self._quarantine.begin(known.runtime)
        refusal = _refusal(known, content_type)
        if refusal is not None:
            return refusal
        # So many digits are too many bytes, whatever they say.
        if declared is not None and (len(declared) > 18 or int(declared) > self.limit):
            return TOO_LARGE
        body = yield BODY
        if body.__class__ is not bytes:
            unread: Answer | None = body
            return unread
        delivery = Delivery(headers, body, query)
        before, known = (
            known,
            self._known.recent(endpoint_id) or (yield from self._read(endpoint_id)),
        )
        if known is not before:
            # The body has taken its time, and much may have changed.
            refusal = _refusal(known, content_type)
            if refusal is not None:
                return refusal
        return (yield from self._verify(known, delivery))

    def _verify(self, known: Known, delivery: Delivery) -> Taking:
        endpoint_id = known.endpoint.id
        verified = self._look_at(known, delivery)
        if known.endpoint.intake.verify is Verify.LATER and not _asks(verified):
            return (yield from self._take_unverified(known, delivery))
        if isinstance(verified, Refused):
            # Another process may have changed the secret since.
            known = yield from self._read(endpoint_id)
            verified = self._look_at(known, delivery)
        if isinstance(verified, Refused):
            return self._unauthorized(known, verified)
        if verified.reply is not None:
            return replied(verified.reply)
        if wait := _count(known):
            return too_many(wait)
        try:
            return (yield from self._push(known, delivery, verified))
        except (WrongSecret, UnknownPhase):
            # The secret that has verified it is valid no longer, and another may be; or the
            # first phase is another now.
            known = yield from self._read(endpoint_id)
            verified = self._look_at(known, delivery)
            if isinstance(verified, Refused):
                return self._unauthorized(known, verified)
            return (yield from self._push(known, delivery, verified))

    def _look_at(self, known: Known, delivery: Delivery) -> Verified | Refused:
        """What the endpoint's scheme says about a request."""
        endpoint, now = known.endpoint, known.runtime.clock.time_ns()
        secrets = endpoint.secrets_at(now) if endpoint.old_secrets else (endpoint.secret,)
        try:
            return endpoint.intake.scheme.verify(delivery, secrets, now / 1e9)
        except Exception as error:
            # A scheme never raises; should one do, it has not verified anything.
            failure = error.with_traceback(None)
            self._failures.unexpected("receiver.scheme_failed", endpoint.id, failure)
            return Refused("the scheme failed")

    def _unauthorized(self, known: Known, refused: Refused) -> Answer:
        self._failures.refused("receiver.refused", known.endpoint.id, refused.reason)
        return UNAUTHORIZED

    def _read(self, endpoint_id: str) -> Generator[ReplyFuture[Any], Any, Known]:
        known = yield from self._known.read(endpoint_id)
        if known is None:
            raise EndpointNotFound(endpoint_id)
        return known

    def _push(self, known: Known, delivery: Delivery, verified: Verified) -> Taking:
        endpoint = known.endpoint
        request = Request(hide(delivery.headers, verified), delivery.body)
        key = uuid7() if verified.key is None else verified.key
        at = known.runtime.clock.time_ns()
        callback = Callback.arrived(key, request, endpoint.phases[0], at, verified.fence)
        # Never None: that would mean trusted code of this process. So the backend finds out
        # whether the endpoint is still the one that was read.
        secret = endpoint.secret if verified.secret is None else verified.secret
        if not self._wait:
            return self._send(endpoint.id, callback, secret)
        result = yield self._app.callbacks.push(
            endpoint.id, callback, secret=secret, timeout=self._timeout
        )
        self._tell(endpoint.id, result)
        return accepted(result)

    def _take_unverified(self, known: Known, delivery: Delivery) -> Taking:
        if wait := _count(known):
            return too_many(wait)
        result = yield from self._quarantine.push(known.endpoint, delivery)
        return taken(result.callback.id)

    def _send(self, endpoint_id: str, callback: Callback, secret: Any) -> Answer:
        # Without a deadline: once it is answered it must not be withdrawn.
        reply = self._app.callbacks.push(endpoint_id, callback, secret=secret, timeout=None)
        if not reply.done():
            reply.add_done_callback(partial(self._sent, endpoint_id))
            return taken(callback.id)
        result = reply.get(timeout=0)
        self._tell(endpoint_id, result)
        return accepted(result)

    def _sent(self, endpoint_id: str, reply: ReplyFuture[PushResult]) -> None:
        """One that was answered before it was stored has been stored, or has not."""
        try:
            result = reply.get(timeout=0)
        except Exception as error:
            self._failures.lost(endpoint_id, error)
        else:
            self._tell(endpoint_id, result)

    def _tell(self, endpoint_id: str, result: PushResult) -> None:
        if self._on_received is not None:
            try:
                callback = result.callback
                within_request(
                    endpoint_id,
                    callback.id,
                    callback.request,
                    self._on_received,
                    endpoint_id,
                    result,
                )
            except Exception as error:
                self._failures.unexpected("receiver.hook_failed", endpoint_id, error)

    def _now(self) -> float:
        """Seconds, on the application's clock if it runs."""
        runtime = self._app._runtime
        return monotonic() if runtime is None else runtime.clock.monotonic()

    def _begin(self) -> None:
        self._begun = True
        if multiprocessing.parent_process() is not None:
            self.warn()

    def warn(self) -> None:
        """We are one of several worker processes: say once if each has an inbox of its own."""
        backend = self._app.backend
        if self._warned or backend.shared:
            return
        self._warned = True
        log.warning(
            "receiver.inbox_of_one_process",
            backend=type(backend).__name__,
            hint="each worker process has an inbox of its own: run one, or use sqlite://",
        )


def _pairs(headers: Any) -> HeaderPairs:
    try:
        return list(headers)
    except TypeError:
        raise InvalidValue("headers", "pairs", f"a {type(headers).__name__}") from None


def _look(headers: HeaderPairs) -> tuple[bytes | None, bytes | None]:
    """Content-Length and Content-Type, if there are any.

    Raises:
        TypeError, ValueError, AttributeError: the headers are malformed.
    """
    declared = content_type = None
    for name, value in headers:
        if name.__class__ is not bytes or value.__class__ is not bytes:
            raise TypeError("header")
        # Two lengths: most headers are passed over without making anything.
        length = len(name)
        if length == 14:
            if name.lower() == b"content-length":
                if not value.isdigit():
                    raise ValueError("content-length")
                declared = value
        elif length == 12 and name.lower() == b"content-type":
            if content_type is not None and content_type != value:
                raise ValueError("content-type")
            content_type = value
    return declared, content_type


def _refusal(known: Known, content_type: bytes | None) -> Answer | None:
    """Why nothing is taken, whatever the body is."""
    intake = known.endpoint.intake
    if not intake.enabled:
        return DISABLED
    if intake.content_types:
        kind = b"" if content_type is None else content_type.partition(b";")[0].strip().lower()
        if kind.decode("latin-1") not in intake.content_types:
            return WRONG_TYPE
    rate = known.rate
    if rate is not None and (wait := rate.wait(known.runtime.clock.monotonic())):
        # It is counted only when it has verified: strangers must not use up what is others'.
        return too_many(wait)
    return None


def _count(known: Known) -> float:
    """Count a request that is about to be taken; seconds to wait if it is beyond the rate."""
    rate = known.rate
    return 0.0 if rate is None else rate.take(known.runtime.clock.monotonic())


def _asks(verified: Verified | Refused) -> bool:
    """Whether the sender only asks whether we are there: that cannot be answered later."""
    return isinstance(verified, Verified) and verified.reply is not None
