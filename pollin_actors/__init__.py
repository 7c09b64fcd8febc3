"""A durable inbox for webhooks that lives inside your service, on supervised actors."""

from typing import TYPE_CHECKING

from pollin_actors.lazily import lazily

# Imported when first used: pytest loads our plugin, and so this package, also for those whose
# tests need nothing of it.
if TYPE_CHECKING:
    from pollin_actors.application import Application, State
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
        PollinError,
        TooLarge,
        UnknownBackend,
        UnknownPhase,
        WrongSecret,
    )
    from pollin_actors.handlers import (
        Advance,
        Discard,
        HandlerInfo,
        HandlerState,
        Reject,
        Retry,
    )
    from pollin_actors.otp import Backoff
    from pollin_actors.otp.errors import DeadlineExceeded
    from pollin_actors.past import CallbackTree
    from pollin_actors.records import Claim, EndpointStats, Kind, Record
    from pollin_actors.replay import Replay, ReplayResult
    from pollin_actors.resources import (
        Callback,
        Endpoint,
        Intake,
        Outcome,
        PushResult,
        Request,
        Secret,
    )
    from pollin_actors.settings import Settings
    from pollin_actors.subscription import Subscription

__all__ = [
    "Advance",
    "Application",
    "BackendUnavailable",
    "Backoff",
    "Callback",
    "CallbackNotFound",
    "CallbackTree",
    "Claim",
    "ClaimLost",
    "CursorConflict",
    "DeadlineExceeded",
    "Discard",
    "Endpoint",
    "EndpointConflict",
    "EndpointExists",
    "EndpointNotFound",
    "EndpointStats",
    "ForkedProcess",
    "Full",
    "HandlerInfo",
    "HandlerState",
    "Intake",
    "InvalidValue",
    "Kind",
    "MissingExtra",
    "NotRunning",
    "Outcome",
    "PhaseConflict",
    "PollinError",
    "PushResult",
    "Record",
    "Reject",
    "Replay",
    "ReplayResult",
    "Request",
    "Retry",
    "Secret",
    "Settings",
    "State",
    "Subscription",
    "TooLarge",
    "UnknownBackend",
    "UnknownPhase",
    "WrongSecret",
]

__getattr__, __dir__ = lazily(
    globals(),
    (
        "application",
        "errors",
        "handlers",
        "otp",
        "otp.errors",
        "past",
        "records",
        "replay",
        "resources",
        "settings",
        "subscription",
    ),
)
