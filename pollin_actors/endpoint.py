"""Endpoints: the places that receive callbacks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pollin_actors.checking import MAX_TIME_NS, check_int, check_text, describe
from pollin_actors.errors import InvalidValue
from pollin_actors.identifiers import uuid7
from pollin_actors.intake import Intake, Verify
from pollin_actors.secret import OldSecret, Secret

__all__ = [
    "DEFAULT_DEDUP_FOR_S",
    "DEFAULT_KEEP_FOR_S",
    "DEFAULT_PHASES",
    "DEFAULT_TTL_MS",
    "MAX_DEDUP_FOR_S",
    "MAX_ENDPOINT_ID",
    "MAX_OLD_SECRETS",
    "MAX_PHASE",
    "MAX_TTL_MS",
    "RESERVED_IDS",
    "Endpoint",
]

DEFAULT_PHASES = ("received",)
DEFAULT_TTL_MS = 900_000
DEFAULT_DEDUP_FOR_S = 259_200.0
DEFAULT_KEEP_FOR_S = 86_400.0

MAX_ENDPOINT_ID = 200
# The endpoint where they wait has a longer id.
MAX_VERIFIED_LATER = MAX_ENDPOINT_ID - 20
MAX_PHASE = 100
# A hundred years: an expiry in nanoseconds since the epoch still fits 64 bits, in every backend.
MAX_DEDUP_FOR_S = 100 * 365.25 * 86_400.0
MAX_OLD_SECRETS = 8
MAX_TTL_MS = int(MAX_DEDUP_FOR_S) * 1000

RESERVED_IDS = frozenset({".", "..", "healthz", "readyz"})

_INTAKE = Intake()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place that receives callbacks. It is immutable; :meth:`new` fills in what is left out.

    Arguments:
        id: 1 to 200 printable characters, without white space, ``/``, ``?`` and ``#``; it is part
            of a URL path, so ``.``, ``..``, ``healthz`` and ``readyz`` are refused.
        secret: what a sender has to know.
        phases: the states a callback goes through, in order; the first is the one it starts in.
        ttl: milliseconds after the push until a callback expires; 0 is never.
        created_at: nanoseconds since the epoch.
        dedup_for: seconds after the push for which a callback's id is remembered, so that the
            same id adds nothing a second time; 0 remembers only the ids that are still queued.
        keep_for: seconds for which a callback that was popped, acknowledged, deleted or has
            expired is kept with its history, for looking at and for replay; 0 keeps no history.
        consumes: the phases out of which handlers take callbacks. Where there are any, the ttl
            does not run in them: it begins with the entry into another phase.
        capacity: how many callbacks the queue takes, None for any number. Where there are
            phases that are consumed, only what is in those counts.
        capacity_bytes: the same for the sum of their sizes.
        intake: what the receiver asks of requests.
        old_secrets: those that were replaced, and until when each is valid; that may be over.

    Raises:
        InvalidValue: a field is not acceptable; the error names it.
    """

    id: str
    secret: Secret
    phases: tuple[str, ...]
    ttl: int
    created_at: int
    dedup_for: float = DEFAULT_DEDUP_FOR_S
    keep_for: float = DEFAULT_KEEP_FOR_S
    consumes: tuple[str, ...] = ()
    capacity: int | None = None
    capacity_bytes: int | None = None
    intake: Intake = _INTAKE
    old_secrets: tuple[OldSecret, ...] = ()

    def __post_init__(self) -> None:
        _check_endpoint_id(self.id)
        object.__setattr__(self, "secret", _read_secret(self.secret))
        object.__setattr__(self, "phases", _read_phases(self.phases))
        check_int("Endpoint.ttl", self.ttl, "milliseconds", MAX_TTL_MS)
        unit = "nanoseconds since the epoch"
        check_int("Endpoint.created_at", self.created_at, unit, MAX_TIME_NS)
        dedup_for = _read_seconds("Endpoint.dedup_for", self.dedup_for)
        object.__setattr__(self, "dedup_for", dedup_for)
        object.__setattr__(self, "keep_for", _read_seconds("Endpoint.keep_for", self.keep_for))
        object.__setattr__(self, "consumes", _read_consumes(self.consumes, self.phases))
        for name in ("capacity", "capacity_bytes"):
            if (value := getattr(self, name)) is not None:
                unit = "callbacks" if name == "capacity" else "bytes"
                check_int(f"Endpoint.{name}", value, unit, MAX_TIME_NS)
        if not isinstance(self.intake, Intake):
            raise InvalidValue("Endpoint.intake", "an Intake", f"a {type(self.intake).__name__}")
        if self.intake.verify is Verify.LATER and len(self.id) > MAX_VERIFIED_LATER:
            expected = f"at most {MAX_VERIFIED_LATER} characters where requests are verified later"
            raise InvalidValue("Endpoint.id", expected, f"{len(self.id)} characters")
        self.intake.scheme.check_secret(self.secret)
        object.__setattr__(self, "old_secrets", _read_old_secrets(self.old_secrets))

    @classmethod
    def new(
        cls,
        phases: Iterable[str] = DEFAULT_PHASES,
        ttl: int = DEFAULT_TTL_MS,
        *,
        id: str | None = None,
        secret: str | Secret | None = None,
        dedup_for: float = DEFAULT_DEDUP_FOR_S,
        keep_for: float = DEFAULT_KEEP_FOR_S,
        consumes: Iterable[str] = (),
        capacity: int | None = None,
        capacity_bytes: int | None = None,
        intake: Intake | None = None,
    ) -> Endpoint:
        """Make an endpoint, created now, with a generated id and secret unless they are given.

        Arguments and errors are those of the class.
        """
        taken = _INTAKE if intake is None else intake
        if secret is None and isinstance(taken, Intake):
            secret = taken.scheme.generate_secret().as_generated()
        return cls(
            id=uuid7() if id is None else id,
            secret=_read_secret(secret),
            phases=_read_phases(phases),
            ttl=ttl,
            created_at=time.time_ns(),
            dedup_for=dedup_for,
            keep_for=keep_for,
            consumes=tuple(consumes),
            capacity=capacity,
            capacity_bytes=capacity_bytes,
            intake=taken,
        )

    def replace(self, **changes: Any) -> Endpoint:
        """Return a copy with some fields changed, validated like a new one."""
        return dataclasses.replace(self, **changes)

    def secrets_at(self, now: int) -> tuple[Secret, ...]:
        """The secrets that are valid at a time, the newest first.

        Arguments:
            now: nanoseconds since the epoch.
        """
        old = self.old_secrets
        return (self.secret, *[it.secret for it in old if it.until > now])

    def accepts(self, candidate: str | bytes | Secret | None, now: int) -> bool:
        """Whether this is one of the secrets that are valid at a time, in nanoseconds."""
        if self.secret.matches(candidate):
            return True
        return any(it.until > now and it.secret.matches(candidate) for it in self.old_secrets)

    def rotated(self, secret: Secret, now: int, until: int) -> Endpoint:
        """Return a copy with another secret; the present one is valid until a time, in nanoseconds.

        Old ones stay valid for as long as they would have, unless that time has come: without an
        overlap no secret but the new one is valid. Those that are valid no longer are still
        listed, newest first: they were replaced, and nobody takes them for new ones. Of all, at
        most ``MAX_OLD_SECRETS`` are. The present secret again is no old one.
        """
        old = [it for it in self.old_secrets if it.secret != secret]
        if secret != self.secret:
            old.insert(0, OldSecret(self.secret, until))
        if until <= now:
            old = [OldSecret(it.secret, min(it.until, now)) for it in old]
        return self.replace(secret=secret, old_secrets=tuple(old[:MAX_OLD_SECRETS]))

    def has_replaced(self, secret: Secret) -> bool:
        """Whether this was its secret before, valid or not, and is it no longer."""
        return secret != self.secret and any(it.secret == secret for it in self.old_secrets)


def _check_endpoint_id(value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ENDPOINT_ID:
        got = f"{len(value)} characters" if isinstance(value, str) else describe(value)
        raise InvalidValue("Endpoint.id", f"a str of 1 to {MAX_ENDPOINT_ID} characters", got)
    if not value.isprintable() or any(c in "/?#" or c.isspace() for c in value):
        expected = "printable characters without white space, '/', '?' and '#'"
        raise InvalidValue("Endpoint.id", expected, ascii(value)[:80])
    if value in RESERVED_IDS:
        raise InvalidValue("Endpoint.id", "an id that is not reserved", repr(value))


def _read_secret(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        raise InvalidValue("Endpoint.secret", "a Secret or a str", f"a {type(value).__name__}")
    try:
        return Secret(value)
    except InvalidValue as error:
        raise InvalidValue("Endpoint.secret", error.expected, error.got) from None


def _read_old_secrets(value: object) -> tuple[OldSecret, ...]:
    expected = "OldSecret instances"
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InvalidValue("Endpoint.old_secrets", expected, f"a {type(value).__name__}")
    old = tuple(value)
    for item in old:
        if not isinstance(item, OldSecret) or not isinstance(item.secret, Secret):
            raise InvalidValue("Endpoint.old_secrets", expected, f"a {type(item).__name__}")
        unit = "nanoseconds since the epoch"
        check_int("Endpoint.old_secrets", item.until, unit, MAX_TIME_NS)
    return old


def _read_phases(value: object) -> tuple[str, ...]:
    expected = "one or more different names"
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InvalidValue("Endpoint.phases", expected, describe(value), "pass a list of names")
    phases = tuple(check_text("Endpoint.phases", phase, MAX_PHASE) for phase in value)
    if not phases:
        raise InvalidValue("Endpoint.phases", expected, "none")
    seen: set[str] = set()
    for phase in phases:
        if phase in seen:
            raise InvalidValue("Endpoint.phases", expected, f"{phase!r} more than once")
        seen.add(phase)
    return phases


def _read_consumes(value: object, phases: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        return ()
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        expected = "phases of the endpoint"
        raise InvalidValue("Endpoint.consumes", expected, describe(value), "pass a list of names")
    wanted = tuple(value)
    known = frozenset(phases)
    for phase in wanted:
        if not isinstance(phase, str) or phase not in known:
            expected = f"phases of the endpoint: {', '.join(map(repr, phases))}"
            raise InvalidValue("Endpoint.consumes", expected, describe(phase))
    # In the order of the phases, so that two who say the same are equal.
    chosen = frozenset(wanted)
    return tuple(phase for phase in phases if phase in chosen)


def _read_seconds(name: str, value: object) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 <= value <= MAX_DEDUP_FOR_S
    ):
        expected = f"a number of seconds, at least 0 and at most {MAX_DEDUP_FOR_S:.0f}"
        raise InvalidValue(name, expected, describe(value))
    return float(value)
