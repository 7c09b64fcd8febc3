"""The errors of the inbox: one family, each says what happened and what to do.

All of them can be pickled and copied. None of them ever holds a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BackendUnavailable",
    "CallbackNotFound",
    "ClaimLost",
    "CursorConflict",
    "EndpointConflict",
    "EndpointExists",
    "EndpointNotFound",
    "ForkedProcess",
    "Full",
    "InvalidValue",
    "MissingExtra",
    "NotRunning",
    "PhaseConflict",
    "PollinError",
    "TooLarge",
    "UnknownBackend",
    "UnknownPhase",
    "WrongSecret",
]


def _restore(cls: type[PollinError], args: tuple[Any, ...], state: dict[str, Any]) -> PollinError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class PollinError(Exception):
    """Base of every error that the inbox raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructors take facts and not the message, so the default would call them wrongly.
        return _restore, (type(self), self.args, dict(self.__dict__))


class EndpointNotFound(PollinError):
    """No endpoint has this id. Attribute: ``endpoint_id``."""

    def __init__(self, endpoint_id: str) -> None:
        self.endpoint_id = endpoint_id
        super().__init__(
            f"endpoint {endpoint_id!r} does not exist: create it first, or check the id"
        )


class EndpointExists(PollinError):
    """An endpoint with this id exists; nothing was changed. Attribute: ``endpoint_id``."""

    def __init__(self, endpoint_id: str) -> None:
        self.endpoint_id = endpoint_id
        super().__init__(
            f"endpoint {endpoint_id!r} exists already and was left as it is: "
            "update it, delete it first, or choose another id"
        )


class EndpointConflict(PollinError):
    """The endpoint is not as it was expected to be; nothing was changed. Attribute:
    ``endpoint_id``."""

    def __init__(self, endpoint_id: str) -> None:
        self.endpoint_id = endpoint_id
        super().__init__(
            f"endpoint {endpoint_id!r} was changed by somebody else and was left as it is: "
            "find it again and update what that is"
        )


class WrongSecret(PollinError):
    """The secret is not the endpoint's; nothing was stored. Attribute: ``endpoint_id``."""

    def __init__(self, endpoint_id: str) -> None:
        self.endpoint_id = endpoint_id
        super().__init__(
            f"wrong secret for endpoint {endpoint_id!r}: nothing was stored; "
            "send the secret that belongs to the endpoint"
        )


class UnknownPhase(PollinError):
    """The endpoint has no such phase.

    Attributes: ``endpoint_id``, ``phase``, ``known_phases`` (a tuple).
    """

    def __init__(self, endpoint_id: str, phase: str, known_phases: Iterable[str]) -> None:
        self.endpoint_id = endpoint_id
        self.phase = phase
        self.known_phases = tuple(known_phases)
        known = ", ".join(map(repr, self.known_phases))
        super().__init__(
            f"endpoint {endpoint_id!r} has no phase {phase!r}: expected one of {known}; "
            "use one of these, or update the endpoint's phases"
        )


class CallbackNotFound(PollinError):
    """No callback with this id is queued. Attributes: ``endpoint_id``, ``callback_id``."""

    def __init__(self, endpoint_id: str, callback_id: str) -> None:
        self.endpoint_id = endpoint_id
        self.callback_id = callback_id
        super().__init__(
            f"endpoint {endpoint_id!r} holds no callback {callback_id!r}: it was never pushed, "
            "or it was popped, deleted or has expired; check the id"
        )


class PhaseConflict(PollinError):
    """The callback is in another phase than expected, and was left there.

    Attributes: ``endpoint_id``, ``callback_id``, ``expected`` and ``phase``, the one it is in.
    """

    def __init__(self, endpoint_id: str, callback_id: str, expected: str, phase: str) -> None:
        self.endpoint_id = endpoint_id
        self.callback_id = callback_id
        self.expected = expected
        self.phase = phase
        super().__init__(
            f"callback {callback_id!r} of endpoint {endpoint_id!r} was left as it is: expected it "
            f"in phase {expected!r}, got {phase!r}; somebody has moved it, so fetch it and look"
        )


class ClaimLost(PollinError):
    """The claim has ended, and nothing was changed. Attributes: ``endpoint_id``, ``callback_id``.

    Its lease ran out, or the callback was acknowledged, given back, moved or deleted meanwhile.
    """

    def __init__(self, endpoint_id: str, callback_id: str) -> None:
        self.endpoint_id = endpoint_id
        self.callback_id = callback_id
        super().__init__(
            f"the claim on callback {callback_id!r} of endpoint {endpoint_id!r} has ended and "
            "nothing was changed: its lease ran out, or the callback was acknowledged, given back, "
            "moved or deleted; claim with a longer lease, or extend it in time"
        )


class CursorConflict(PollinError):
    """The cursor is at another position than expected, and was left there.

    Attributes: ``endpoint_id``, ``name``, ``expected`` and ``position``, the one it is at.
    """

    def __init__(self, endpoint_id: str, name: str, expected: int, position: int) -> None:
        self.endpoint_id = endpoint_id
        self.name = name
        self.expected = expected
        self.position = position
        super().__init__(
            f"cursor {name!r} of endpoint {endpoint_id!r} was left as it is, and so was everything "
            f"else: expected it at {expected}, got {position}; somebody else has moved it, so go "
            "on from there, or use a name of your own"
        )


class Full(PollinError):
    """The endpoint has reached its capacity; nothing was stored.

    Attributes: ``endpoint_id``, ``what`` (``"callbacks"`` or ``"bytes"``), ``held`` (how many
    there are) and ``limit``.
    """

    def __init__(self, endpoint_id: str, what: str, held: int, limit: int) -> None:
        self.endpoint_id = endpoint_id
        self.what = what
        self.held = held
        self.limit = limit
        super().__init__(
            f"endpoint {endpoint_id!r} is full, and nothing was stored: expected at most {limit} "
            f"{what}, got {held} there already; try again later, or raise its capacity"
        )


class TooLarge(PollinError):
    """The callback is larger than allowed; nothing was stored.

    Attributes: ``endpoint_id``, ``size`` and ``limit`` (bytes).
    """

    def __init__(self, endpoint_id: str, size: int, limit: int) -> None:
        self.endpoint_id = endpoint_id
        self.size = size
        self.limit = limit
        super().__init__(
            f"callback for endpoint {endpoint_id!r} is too large: expected at most {limit} bytes, "
            f"got {size}; send less, or raise the limit in the settings"
        )


class InvalidValue(PollinError, ValueError):
    """A value is not acceptable. Attributes: ``name``, ``expected`` and ``got``, as texts.

    Arguments:
        name: what the value is, for example ``"Endpoint.ttl"``.
        expected: what would have been accepted.
        got: what came, described; never a secret.
        hint: what to do, if ``expected`` does not say it already.
    """

    def __init__(self, name: str, expected: str, got: str, hint: str = "") -> None:
        self.name = name
        self.expected = expected
        self.got = got
        self.hint = hint
        super().__init__(f"{name}: expected {expected}, got {got}" + (f"; {hint}" if hint else ""))


class BackendUnavailable(PollinError):
    """The backend could not carry out the operation. Attributes: ``backend``, ``reason``.

    Arguments:
        backend: the backend's name, without credentials.
        reason: what its engine said, without credentials.
        hint: what to do.
    """

    def __init__(
        self, backend: str, reason: str, hint: str = "check that it is running, then try again"
    ) -> None:
        self.backend = backend
        self.reason = reason
        self.hint = hint
        super().__init__(f"backend {backend!r} is not available: {reason}; {hint}")


class UnknownBackend(PollinError):
    """No installed backend has this URL scheme. Attributes: ``scheme``, ``known`` (a tuple)."""

    def __init__(self, scheme: str, known: Iterable[str]) -> None:
        self.scheme = scheme
        self.known = tuple(known)
        listed = ", ".join(f"{name}://" for name in self.known)
        super().__init__(
            f"no backend is known for {scheme}://: expected one of {listed}; check the URL, or "
            "install what provides it: an extra of this package, or another package"
        )


class NotRunning(PollinError):
    """The application does not run. Attributes: ``state``, ``hint``.

    Arguments:
        state: what it does instead, for example ``"stopped"``.
        hint: what to do.
    """

    def __init__(self, state: str, hint: str = "start it, for example using `with app:`") -> None:
        self.state = state
        self.hint = hint
        super().__init__(f"the application is not running, it is {state}: {hint}")


class ForkedProcess(PollinError):
    """The application was started in another process, before a fork."""

    def __init__(self) -> None:
        super().__init__(
            "the application was started before this process was forked, and threads do not "
            "survive a fork: start it in the worker process instead. gunicorn: in the `post_fork` "
            "hook; uWSGI: in a function marked `@postfork`; uvicorn and granian workers: in the "
            "ASGI lifespan; Celery: in the `worker_process_init` signal"
        )


class MissingExtra(PollinError):
    """An optional dependency is not installed. Attributes: ``package``, ``extra``.

    Arguments:
        package: the package that is missing.
        extra: the extra of pollin-actors that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(
            f'the package {package!r} is not installed: run `pip install "pollin-actors[{extra}]"`'
        )
