"""What the receiver does with a request, whichever server it comes from.

It reads nothing and waits for nothing itself: it is a generator that says what it needs next, the
body or the answer of an actor, so that ASGI awaits it and WSGI waits for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from enum import Enum
from functools import partial
from typing import Any, Literal, TypeAlias

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
from pollin_actors.resources import MAX_ENDPOINT_ID, Callback, Outcome, PushResult, Request
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
from pollin_actors.web.deadlines import Until, now_of
from pollin_actors.web.failures import Failures
from pollin_actors.web.heads import length_and_type, pairs_of
from pollin_actors.web.in_flight import InFlight
from pollin_actors.web.known import Known, KnownEndpoints
from pollin_actors.web.ordering import ordering_key
from pollin_actors.web.quarantine import Quarantine
from pollin_actors.web.rates import Rate
from pollin_actors.web.readiness import Readiness
from pollin_actors.web.waiting import hide
from pollin_actors.web.workers import Workers

__all__ = ["BODY", "OnReceived", "Reception", "Taking"]

OnReceived: TypeAlias = Callable[[str, PushResult], None]

HEALTH = ("/healthz", "/readyz")


class _Body(Enum):
    BODY = "body"


BODY = _Body.BODY
"""What is needed next is the body: bytes, as long as it may be."""

ATTEMPTS = 3
"""How often a request is looked at, where its endpoint changes all the while."""

Taking: TypeAlias = Generator[ReplyFuture[Any] | Literal[_Body.BODY], Any, Answer | None]
"""Yields futures and is sent their values or thrown their errors, or ``BODY`` and is sent that, or
the answer to one that cannot be read, or None if the sender has gone. Returns the answer; None if
there is nobody to be answered."""


class Unsettled(PollinError):
    """An endpoint was changed each time that a request was about to be taken."""

    def __init__(self, endpoint_id: str) -> None:
        super().__init__(
            f"endpoint {endpoint_id!r} was changed each time that a request was about to be taken: "
            f"expected it to stay as it was read, got {ATTEMPTS} changes; see who updates it"
        )


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
        self._now = partial(now_of, app)
        self._known = KnownEndpoints(app)
        self._failures = Failures(self._now)
        self._readiness = Readiness(app, timeout, partial(self._unavailable, ""))
        self._quarantine = Quarantine(app)
        self._in_flight = InFlight()
        self._workers = app.companion(Workers)
        self._instruments = app.instruments

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
            pairs: HeaderPairs = headers if headers.__class__ is list else pairs_of(headers)
            return (yield from self._take(endpoint_id, query, pairs))
        except WrongSecret:
            return UNAUTHORIZED
        except EndpointNotFound:
            return NOT_FOUND
        except TooLarge:
            return TOO_LARGE
        except Full as error:
            self._unavailable(endpoint_id, error)
            return FULL
        except InvalidValue:
            return BAD_REQUEST
        except (PollinError, OtpError) as error:
            self._unavailable(endpoint_id, error)
            return UNAVAILABLE
        except Exception as error:
            self._failures.unexpected("receiver.failed", self._named(endpoint_id), error)
            return UNAVAILABLE

    def _health(self, method: str) -> Answer:
        if method not in ("GET", "HEAD"):
            return HEALTH_METHODS
        state = self._app.state
        return HEALTHY if state is State.RUNNING else unhealthy(state)

    def _take(self, endpoint_id: str, query: bytes, headers: HeaderPairs) -> Taking:
        try:
            declared, content_type = length_and_type(headers)
        except (TypeError, ValueError, AttributeError):
            return BAD_REQUEST
        known = self._known.recent(endpoint_id)
        if known is None:
            known = yield from self._read(endpoint_id, self._timeout)
        refusal = None if known.plain else _refusal(known, content_type)
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
        # The body has taken its time, and much may have changed. From here on it is ours to hurry.
        until = Until(known.runtime.clock, self._timeout)
        before, known = known, self._known.recent(endpoint_id)
        if known is None:
            known = yield from self._read(endpoint_id, until.left())
        if known is not before:
            refusal = _refusal(known, content_type)
            if refusal is not None:
                return refusal
        return (yield from self._verify(known, delivery, content_type, until))

    def _verify(
        self, known: Known, delivery: Delivery, content_type: bytes | None, until: Until
    ) -> Taking:
        endpoint_id = known.endpoint.id
        verified = self._look_at(known, delivery)
        for attempt in range(ATTEMPTS):
            later = known.endpoint.intake.verify is Verify.LATER
            if later and not _asks(verified):
                genuine = isinstance(verified, Verified)
                return (yield from self._take_unverified(known, delivery, genuine, until))
            if isinstance(verified, Verified):
                if verified.reply is not None:
                    return replied(verified.reply)
                rate = known.rate
                if rate is not None and (wait := _count(known, rate)):
                    return too_many(wait)
                try:
                    reply = self._push(known, delivery, verified, until)
                    if isinstance(reply, Answer):
                        return reply
                    # Most backends answer at once, or never before they are waited for.
                    result = reply.get(timeout=0) if reply.done() else (yield reply)
                except (WrongSecret, UnknownPhase):
                    # The secret that has verified it is valid no longer, and another may be; or
                    # the first phase is another now.
                    _uncount(rate)
                except Exception:
                    _uncount(rate)
                    raise
                else:
                    self._taken(endpoint_id, rate, result)
                    return accepted(result)
            if attempt == ATTEMPTS - 1:
                break
            # Another process may have changed the secret since, or anything else.
            before, known = known, (yield from self._read(endpoint_id, until.left()))
            refusal = _refusal(known, content_type)
            if refusal is not None:
                return refusal
            if isinstance(verified, Refused) and _same_terms(before, known):
                break  # it would be refused again: strangers must not make us work twice
            verified = self._look_at(known, delivery)
        if isinstance(verified, Refused):
            self._failures.refused("receiver.refused", endpoint_id, verified.reason)
            return UNAUTHORIZED
        raise Unsettled(endpoint_id)

    def _look_at(self, known: Known, delivery: Delivery) -> Verified | Refused:
        """What the endpoint's scheme says about a request."""
        endpoint, now = known.endpoint, known.runtime.clock.time_ns()
        secrets = endpoint.secrets_at(now) if endpoint.old_secrets else (endpoint.secret,)
        try:
            return endpoint.intake.scheme.verify(delivery, secrets, now / 1e9)
        except Exception as error:
            # A scheme never raises; should one do, it has not verified anything.
            self._failures.unexpected("receiver.scheme_failed", endpoint.id, error, bare=True)
            return Refused("the scheme failed")

    def _read(self, endpoint_id: str, timeout: float) -> Generator[ReplyFuture[Any], Any, Known]:
        known = yield from self._known.read(endpoint_id, timeout)
        if known is None:
            raise EndpointNotFound(endpoint_id)
        return known

    def _push(
        self, known: Known, delivery: Delivery, verified: Verified, until: Until
    ) -> ReplyFuture[PushResult] | Answer:
        """Push what is genuine; an answer at once where nobody waits for it to be stored."""
        endpoint = known.endpoint
        headers = hide(delivery.headers, verified) if verified.hidden else delivery.headers
        request = Request.arrived(headers, delivery.body)
        key = uuid7() if verified.key is None else verified.key
        at = known.runtime.clock.time_ns()
        callback = Callback.arrived(key, request, endpoint.phases[0], at, verified.fence)
        if endpoint.intake.order_by is not None:
            callback = callback.replace(ordering_key=ordering_key(endpoint.intake, delivery))
        # Never None: that would mean trusted code of this process. So the backend finds out
        # whether the endpoint is still the one that was read.
        secret = endpoint.secret if verified.secret is None else verified.secret
        if not self._wait:
            return self._send(known, callback, secret)
        return self._app.callbacks.push(endpoint.id, callback, secret=secret, timeout=until.left())

    def _take_unverified(
        self, known: Known, delivery: Delivery, genuine: bool, until: Until
    ) -> Taking:
        # Strangers have a rate of their own to use up.
        rate = known.rate if genuine else known.strangers
        if wait := _count(known, rate):
            return too_many(wait)
        try:
            result = yield from self._quarantine.push(known.endpoint, delivery, genuine, until.left)
        except Exception:
            _uncount(rate)
            raise
        return taken(result.callback.id)

    def _send(self, known: Known, callback: Callback, secret: Any) -> Answer:
        endpoint_id, size = known.endpoint.id, callback.size
        self._in_flight.begin(endpoint_id, size)
        # Without a deadline: once it is answered it must not be withdrawn.
        try:
            reply = self._app.callbacks.push(endpoint_id, callback, secret=secret, timeout=None)
        except BaseException:
            self._in_flight.end(size)
            raise
        if not reply.done():
            reply.add_done_callback(partial(self._sent, endpoint_id, known.rate, size))
            return taken(callback.id)
        self._in_flight.end(size)
        result = reply.get(timeout=0)
        self._taken(endpoint_id, known.rate, result)
        return accepted(result)

    def _sent(
        self, endpoint_id: str, rate: Rate | None, size: int, reply: ReplyFuture[PushResult]
    ) -> None:
        """One that was answered before it was stored has been stored, or has not."""
        self._in_flight.end(size)
        try:
            result = reply.get(timeout=0)
        except Exception as error:
            self._failures.lost(endpoint_id, error)
        else:
            self._taken(endpoint_id, rate, result)

    def _taken(self, endpoint_id: str, rate: Rate | None, result: PushResult) -> None:
        if rate is not None and result.outcome is Outcome.DUPLICATE:
            # Whoever has one genuine request may send it again: others' must not be used up by it.
            _uncount(rate)
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

    def _unavailable(self, endpoint_id: str, error: BaseException) -> None:
        """Log why a request was answered 503, or count it."""
        self._failures.unavailable("receiver.unavailable", self._named(endpoint_id), error)

    def _named(self, endpoint_id: str) -> str:
        """As the log names an endpoint: what a stranger has made up does not come there."""
        return self._known.id_of(endpoint_id) or ""

    def warn(self) -> None:
        """We are one of several worker processes: say once if each has an inbox of its own."""
        self._workers.warn()


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


def _count(known: Known, rate: Rate | None) -> float:
    """Count a request that is about to be taken; seconds to wait if it is beyond the rate."""
    return 0.0 if rate is None else rate.take(known.runtime.clock.monotonic())


def _uncount(rate: Rate | None) -> None:
    """What was counted was not taken after all, or was there already."""
    if rate is not None:
        rate.give_back()


def _same_terms(before: Known, now: Known) -> bool:
    """Whether what is genuine is found out in the same way with the same secrets."""
    one, other = before.endpoint, now.endpoint
    return one is other or (
        one.secret == other.secret
        and one.old_secrets == other.old_secrets
        and one.intake == other.intake
    )


def _asks(verified: Verified | Refused) -> bool:
    """Whether the sender only asks whether we are there: that cannot be answered later."""
    return isinstance(verified, Verified) and verified.reply is not None
