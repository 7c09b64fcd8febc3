"""A durable inbox for webhooks that lives inside your service, on supervised actors."""

from pollin_actors.application import Application, State
from pollin_actors.errors import (
    BackendUnavailable,
    CallbackNotFound,
    EndpointExists,
    EndpointNotFound,
    ForkedProcess,
    InvalidValue,
    MissingExtra,
    NotRunning,
    PhaseConflict,
    PollinError,
    TooLarge,
    UnknownBackend,
    UnknownPhase,
    WrongSecret,
)
from pollin_actors.otp.errors import DeadlineExceeded
from pollin_actors.resources import Callback, Endpoint, Outcome, PushResult, Request, Secret
from pollin_actors.settings import Settings

__all__ = [
    "Application",
    "BackendUnavailable",
    "Callback",
    "CallbackNotFound",
    "DeadlineExceeded",
    "Endpoint",
    "EndpointExists",
    "EndpointNotFound",
    "ForkedProcess",
    "InvalidValue",
    "MissingExtra",
    "NotRunning",
    "Outcome",
    "PhaseConflict",
    "PollinError",
    "PushResult",
    "Request",
    "Secret",
    "Settings",
    "State",
    "TooLarge",
    "UnknownBackend",
    "UnknownPhase",
    "WrongSecret",
]
