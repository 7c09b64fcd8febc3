"""What the inbox holds: endpoints, callbacks and the requests they carry."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from pollin_actors.errors import InvalidValue
from pollin_actors.identifiers import uuid7
from pollin_actors.request import Request
from pollin_actors.secret import Secret

__all__ = ["Callback", "Endpoint", "Outcome", "Page", "PushResult", "Request", "Secret"]

DEFAULT_PHASES = ("received",)
DEFAULT_TTL_MS = 900_000
DEFAULT_DEDUP_FOR_S = 259_200.0
DEFAULT_KEEP_FOR_S = 86_400.0

MAX_ENDPOINT_ID = 200
MAX_CALLBACK_ID = 500
MAX_PHASE = 100
MAX_ORDERING_KEY = 500
MAX_ORIGIN = MAX_ENDPOINT_ID + 1 + MAX_CALLBACK_ID
# A hundred years: an expiry in nanoseconds since the epoch still fits 64 bits, in every backend.
MAX_DEDUP_FOR_S = 100 * 365.25 * 86_400.0
MAX_TTL_MS = int(MAX_DEDUP_FOR_S) * 1000

# The last moment that 64 bits can tell.
MAX_TIME_NS = (1 << 63) - 1

RESERVED_IDS = frozenset({".", "..", "healthz", "readyz"})


def _describe(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 1000:
        return "an int of very many digits"  # Python writes none of thousands
    text = repr(value) if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


def _check_text(name: str, value: object, limit: int) -> str:
    """Return the value if every backend can store it as a text: no NUL, no lone surrogate."""
    if not isinstance(value, str) or not 0 < len(value) <= limit:
        got = f"{len(value)} characters" if isinstance(value, str) else _describe(value)
        raise InvalidValue(name, f"a str of 1 to {limit} characters", got)
    # Printable text is the common case, and holds neither.
    if not value.isprintable() and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
        raise InvalidValue(name, "text without NUL and without lone surrogates", ascii(value)[:80])
    return value


def _check_int(name: str, value: object, unit: str, limit: int | None = None) -> int:
    bound = "" if limit is None else f" and at most {limit}"
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < 0
        or (limit is not None and value > limit)
    ):
        raise InvalidValue(name, f"an int of {unit}, at least 0{bound}", _describe(value))
    return value


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

    def __post_init__(self) -> None:
        _check_endpoint_id(self.id)
        object.__setattr__(self, "secret", _read_secret(self.secret))
        object.__setattr__(self, "phases", _read_phases(self.phases))
        _check_int("Endpoint.ttl", self.ttl, "milliseconds", MAX_TTL_MS)
        _check_int("Endpoint.created_at", self.created_at, "nanoseconds since the epoch")
        dedup_for = _read_seconds("Endpoint.dedup_for", self.dedup_for)
        object.__setattr__(self, "dedup_for", dedup_for)
        object.__setattr__(self, "keep_for", _read_seconds("Endpoint.keep_for", self.keep_for))
        object.__setattr__(self, "consumes", _read_consumes(self.consumes, self.phases))
        for name in ("capacity", "capacity_bytes"):
            if (value := getattr(self, name)) is not None:
                _check_int(
                    f"Endpoint.{name}", value, "callbacks" if name == "capacity" else "bytes"
                )

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
    ) -> Endpoint:
        """Make an endpoint, created now, with a generated id and secret unless they are given.

        Arguments and errors are those of the class.
        """
        return cls(
            id=uuid7() if id is None else id,
            secret=Secret.generate() if secret is None else _read_secret(secret),
            phases=_read_phases(phases),
            ttl=ttl,
            created_at=time.time_ns(),
            dedup_for=dedup_for,
            keep_for=keep_for,
            consumes=tuple(consumes),
            capacity=capacity,
            capacity_bytes=capacity_bytes,
        )

    def replace(self, **changes: Any) -> Endpoint:
        """Return a copy with some fields changed, validated like a new one."""
        return dataclasses.replace(self, **changes)


def _check_endpoint_id(value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ENDPOINT_ID:
        got = f"{len(value)} characters" if isinstance(value, str) else _describe(value)
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


def _read_phases(value: object) -> tuple[str, ...]:
    expected = "one or more different names"
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InvalidValue("Endpoint.phases", expected, _describe(value), "pass a list of names")
    phases = tuple(_check_text("Endpoint.phases", phase, MAX_PHASE) for phase in value)
    if not phases:
        raise InvalidValue("Endpoint.phases", expected, "none")
    if len(set(phases)) != len(phases):
        twice = next(phase for phase in phases if phases.count(phase) > 1)
        raise InvalidValue("Endpoint.phases", expected, f"{twice!r} more than once")
    return phases


def _read_consumes(value: object, phases: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        return ()
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        expected = "phases of the endpoint"
        raise InvalidValue("Endpoint.consumes", expected, _describe(value), "pass a list of names")
    wanted = tuple(value)
    for phase in wanted:
        if phase not in phases:
            expected = f"phases of the endpoint: {', '.join(map(repr, phases))}"
            raise InvalidValue("Endpoint.consumes", expected, _describe(phase))
    # In the order of the phases, so that two who say the same are equal.
    return tuple(phase for phase in phases if phase in wanted)


def _read_seconds(name: str, value: object) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or not 0 <= value <= MAX_DEDUP_FOR_S
    ):
        expected = f"a number of seconds, at least 0 and at most {MAX_DEDUP_FOR_S:.0f}"
        raise InvalidValue(name, expected, _describe(value))
    return float(value)


@dataclass(frozen=True, slots=True, repr=False)
class Callback:
    """One thing that was received. It is immutable; :meth:`new` fills in what is left out.

    Arguments:
        id: 1 to 500 characters, unique within its endpoint.
        request: a :class:`Request`, or any other value.
        phase: the state it is in; empty means not given, and becomes the endpoint's first.
        created_at: nanoseconds since the epoch.
        parent: the id of the callback of the same endpoint that it is a sub event of.
        root: the id of the first of its line: that of its parent's line, found when it is pushed.
        origin: of a replay: what it repeats, as ``"endpoint/id"``.
        ordering_key: callbacks of one endpoint, phase and key are taken one at a time, in order.
        not_before: nanoseconds since the epoch before which it is neither popped nor claimed.
        attempts: how often it was claimed since it entered its phase; the backend counts.

    Raises:
        InvalidValue: a field is not acceptable; the error names it.
    """

    id: str
    request: Any
    phase: str
    created_at: int
    parent: str | None = None
    root: str | None = None
    origin: str | None = None
    ordering_key: str | None = None
    not_before: int | None = None
    attempts: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        _check_text("Callback.id", self.id, MAX_CALLBACK_ID)
        if self.phase != "":
            _check_text("Callback.phase", self.phase, MAX_PHASE)
        _check_int("Callback.created_at", self.created_at, "nanoseconds since the epoch")
        if self.parent is not None:
            _check_text("Callback.parent", self.parent, MAX_CALLBACK_ID)
        if self.root is not None:
            _check_text("Callback.root", self.root, MAX_CALLBACK_ID)
        if self.origin is not None:
            _check_text("Callback.origin", self.origin, MAX_ORIGIN)
        if self.ordering_key is not None:
            _check_text("Callback.ordering_key", self.ordering_key, MAX_ORDERING_KEY)
        if self.not_before is not None:
            unit = "nanoseconds since the epoch"
            _check_int("Callback.not_before", self.not_before, unit, MAX_TIME_NS)
        if self.attempts:
            _check_int("Callback.attempts", self.attempts, "claims")

    @classmethod
    def new(
        cls,
        request: Any,
        *,
        id: str | None = None,
        phase: str = "",
        parent: str | None = None,
        ordering_key: str | None = None,
        not_before: int | None = None,
    ) -> Callback:
        """Make a callback, created now, with a generated id unless one is given.

        Arguments and errors are those of the class.
        """
        return cls(
            uuid7() if id is None else id,
            request,
            phase,
            time.time_ns(),
            parent,
            None,
            None,
            ordering_key,
            not_before,
        )

    @property
    def size(self) -> int:
        """Bytes of the request: a ``Request``'s size, or that of bytes or text, else 0."""
        request = self.request
        if isinstance(request, Request):
            return request.size
        if isinstance(request, (bytes, bytearray)):
            return len(request)
        if isinstance(request, str):
            return len(request) if request.isascii() else len(request.encode("utf-8", "replace"))
        return 0

    @property
    def is_plain(self) -> bool:
        """Whether it has none of what few have: parent, origin, ordering key, time to wait for."""
        return (
            self.parent is None
            and self.ordering_key is None
            and self.not_before is None
            and self.origin is None
            and self.root is None
        )

    def replace(self, **changes: Any) -> Callback:
        """Return a copy with some fields changed, validated like a new one."""
        return dataclasses.replace(self, **changes)

    def with_phase(self, phase: str) -> Callback:
        """Return the same callback in another phase, with no attempts. The phase is not checked.

        It is the quick way for backends, which check phases against the endpoint's.
        """
        return _copy(self, phase, self.root, 0)

    def with_attempts(self, attempts: int) -> Callback:
        """Return the same callback with another number of attempts: for backends."""
        return _copy(self, self.phase, self.root, attempts)

    def with_root(self, root: str | None) -> Callback:
        """Return the same callback with the root that was found for it: for backends."""
        return _copy(self, self.phase, root, self.attempts)

    def __repr__(self) -> str:
        # The request may hold credentials and may be long.
        request = self.request
        shown = repr(request) if type(request) is Request else f"<{type(request).__name__}>"
        more = "".join(
            f", {name}={value!r}"
            for name in _RARE
            if (value := getattr(self, name)) is not None and value != 0
        )
        return (
            f"Callback(id={self.id!r}, request={shown}, phase={self.phase!r}, "
            f"created_at={self.created_at!r}{more})"
        )


_RARE = ("parent", "root", "origin", "ordering_key", "not_before", "attempts")

# The slots' own setters: a frozen dataclass is made twice as fast as with dataclasses.replace.
_new = object.__new__
_set_id = vars(Callback)["id"].__set__
_set_request = vars(Callback)["request"].__set__
_set_phase = vars(Callback)["phase"].__set__
_set_created_at = vars(Callback)["created_at"].__set__
_set_parent = vars(Callback)["parent"].__set__
_set_root = vars(Callback)["root"].__set__
_set_origin = vars(Callback)["origin"].__set__
_set_ordering_key = vars(Callback)["ordering_key"].__set__
_set_not_before = vars(Callback)["not_before"].__set__
_set_attempts = vars(Callback)["attempts"].__set__


def _copy(old: Callback, phase: str, root: str | None, attempts: int) -> Callback:
    other = _new(Callback)
    _set_id(other, old.id)
    _set_request(other, old.request)
    _set_phase(other, phase)
    _set_created_at(other, old.created_at)
    _set_parent(other, old.parent)
    _set_root(other, root)
    _set_origin(other, old.origin)
    _set_ordering_key(other, old.ordering_key)
    _set_not_before(other, old.not_before)
    _set_attempts(other, attempts)
    return other


class Outcome(StrEnum):
    """What became of a push."""

    QUEUED = "queued"
    DUPLICATE = "duplicate"


class PushResult(NamedTuple):
    """The reply to a push: the callback as it is stored, and what became of it."""

    callback: Callback
    outcome: Outcome


class Page(NamedTuple):
    """One page of a dump: callbacks, oldest first, and where the next page starts.

    ``cursor`` is None when there is no next page.
    """

    callbacks: list[Callback]
    cursor: int | None
