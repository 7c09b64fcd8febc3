"""Errors as answers: ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pollin_actors.errors import (
    BackendUnavailable,
    CallbackNotFound,
    ClaimLost,
    CursorConflict,
    EndpointConflict,
    EndpointExists,
    EndpointNotFound,
    ForkedProcess,
    Full,
    InvalidValue,
    MissingExtra,
    NotRunning,
    PhaseConflict,
    TooLarge,
    UnknownBackend,
    UnknownPhase,
    WrongSecret,
)
from pollin_actors.otp import OtpError
from pollin_actors.otp.errors import DeadlineExceeded

__all__ = ["KINDS", "Kind", "Problem", "malformed", "problem_of"]


class Kind(NamedTuple):
    """How an error is answered."""

    status: int
    name: str
    """The end of the URI that is the problem's type."""
    title: str


KINDS: dict[type[Exception], Kind] = {
    EndpointNotFound: Kind(404, "endpoint-not-found", "There is no such endpoint"),
    CallbackNotFound: Kind(404, "callback-not-found", "There is no such callback"),
    EndpointConflict: Kind(409, "endpoint-conflict", "Somebody else has changed the endpoint"),
    EndpointExists: Kind(409, "endpoint-exists", "There is such an endpoint already"),
    PhaseConflict: Kind(409, "phase-conflict", "The callback is in another phase"),
    ClaimLost: Kind(409, "claim-lost", "The claim has ended"),
    CursorConflict: Kind(409, "cursor-conflict", "The cursor is somewhere else"),
    UnknownPhase: Kind(422, "unknown-phase", "The endpoint has no such phase"),
    InvalidValue: Kind(422, "invalid-value", "A value is not acceptable"),
    MissingExtra: Kind(422, "missing-extra", "Something is not installed on the server"),
    WrongSecret: Kind(403, "wrong-secret", "The secret is not the endpoint's"),
    TooLarge: Kind(413, "too-large", "The callback is too large"),
    Full: Kind(503, "full", "The endpoint is full"),
    BackendUnavailable: Kind(503, "backend-unavailable", "The backend is not available"),
    UnknownBackend: Kind(503, "backend-unavailable", "The backend is not available"),
    NotRunning: Kind(503, "not-running", "The application does not run"),
    ForkedProcess: Kind(503, "not-running", "The application does not run"),
    DeadlineExceeded: Kind(503, "no-answer-in-time", "There was no answer in time"),
    OtpError: Kind(503, "unavailable", "The inbox is not available"),
}
"""Every error that may come out of an operation. The base of several stands for all of them."""

RETRY_AFTER = {"Retry-After": "1"}

# What the runtime says of itself is for its log.
_DETAILS: dict[type[Exception], str] = {
    DeadlineExceeded: (
        "the inbox did not answer in time: the operation may or may not have taken effect; look "
        "before you try again"
    ),
    OtpError: "the inbox could not answer: try again",
}

# Attributes of errors that are told as fields of their own.
_FIELDS = (
    "endpoint_id",
    "callback_id",
    "phase",
    "known_phases",
    "expected",
    "got",
    "position",
    "what",
    "held",
    "limit",
    "size",
    "state",
    "package",
    "extra",
)


class Problem(Exception):
    """An error that is an answer already.

    Arguments:
        kind: status, name and title.
        detail: what was wrong with this request, and what to do.
        fields: more to be told, as values of JSON.
        headers: of the answer.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        fields: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})
        if kind.status == 503:
            self.headers = {**RETRY_AFTER, **self.headers}

    def as_fields(self) -> dict[str, Any]:
        """The members of the JSON object that is answered."""
        return {
            "type": f"urn:pollin:problem:{self.kind.name}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            **self.fields,
        }


def malformed(detail: str) -> Problem:
    """The request could not be read."""
    return Problem(Kind(400, "malformed", "The request is malformed"), detail)


def problem_of(error: Exception) -> Problem | None:
    """How an error is answered; None for one that nobody has foreseen."""
    if isinstance(error, Problem):
        return error
    for kind in type(error).__mro__:
        if kind in KINDS:
            return _problem(error, kind)
    return None


def _problem(error: Exception, kind: type[Exception]) -> Problem:
    detail = _DETAILS.get(kind)
    if detail is None:
        notes = getattr(error, "__notes__", ())
        detail = "; ".join([str(error), *notes])
    present = {name: getattr(error, name, None) for name in _FIELDS}
    fields = {name: value for name, value in present.items() if value is not None}
    if isinstance(error, InvalidValue):
        fields["field"] = error.name
    if isinstance(error, CursorConflict):
        fields["name"] = error.name
    if isinstance(error, OtpError):
        fields = {}
    return Problem(KINDS[kind], detail, fields)
