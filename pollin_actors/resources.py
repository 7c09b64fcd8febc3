"""What the inbox holds: endpoints, callbacks and the requests they carry."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Any, NamedTuple

from pollin_actors.errors import InvalidValue
from pollin_actors.identifiers import uuid7
from pollin_actors.secret import Secret

__all__ = ["Callback", "Endpoint", "Outcome", "Page", "PushResult", "Request", "Secret"]

DEFAULT_PHASES = ("received",)
DEFAULT_TTL_MS = 900_000
DEFAULT_DEDUP_FOR_S = 259_200.0

MAX_ENDPOINT_ID = 200
MAX_CALLBACK_ID = 500
MAX_PHASE = 100
# A hundred years: an expiry in nanoseconds since the epoch still fits 64 bits, in every backend.
MAX_DEDUP_FOR_S = 100 * 365.25 * 86_400.0
MAX_TTL_MS = int(MAX_DEDUP_FOR_S) * 1000

RESERVED_IDS = frozenset({".", "..", "healthz", "readyz"})

HeaderPairs = Iterable[tuple[str | bytes, str | bytes]]


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


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Request:
    """A request as it came in. It is immutable.

    Arguments:
        headers: pairs of name and value, or a mapping. Order and repeats are kept. Bytes are
            read as Latin-1, which loses nothing.
        body: the raw bytes, or any object that holds bytes.

    Raises:
        InvalidValue: the headers are not pairs of texts, or the body is not bytes.

    Example::

        Request([(b"content-type", b"application/json")], b"{}").header("Content-Type")
    """

    headers: tuple[tuple[str, str], ...]
    body: bytes
    size: int = field(init=False, compare=False)
    """Bytes of the body and of the names and values of the headers."""

    def __init__(
        self,
        headers: HeaderPairs | Mapping[str, str] | Mapping[bytes, bytes] = (),
        body: bytes | bytearray | memoryview = b"",
    ) -> None:
        pairs = _read_headers(headers)
        raw = body if type(body) is bytes else _read_body(body)
        object.__setattr__(self, "headers", pairs)
        object.__setattr__(self, "body", raw)
        size = len(raw) + sum(map(len, chain.from_iterable(pairs)))
        object.__setattr__(self, "size", size)

    def header(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of a header, or ``default``. Case does not matter."""
        wanted = name.lower()
        for key, value in self.headers:
            if key.lower() == wanted:
                return value
        return default

    def header_values(self, name: str) -> list[str]:
        """Return all values of a header in order. Case does not matter."""
        wanted = name.lower()
        return [value for key, value in self.headers if key.lower() == wanted]

    def __repr__(self) -> str:
        # Headers carry credentials and bodies are long: neither belongs in a log.
        return f"<Request: {len(self.headers)} headers, body of {len(self.body)} bytes>"


def _read_headers(headers: object) -> tuple[tuple[str, str], ...]:
    if type(headers) is list:
        # As a server hands them over, pairs of bytes: the quick way, and the usual one.
        with suppress(TypeError, ValueError):  # others are read, or refused with a reason, below
            return tuple([(str(n, "latin-1"), str(v, "latin-1")) for n, v in headers])
    expected = "pairs of name and value, each a str or bytes"
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    if isinstance(pairs, (str, bytes)) or not isinstance(pairs, Iterable):
        raise InvalidValue("Request.headers", expected, f"a {type(headers).__name__}")
    result: list[tuple[str, str]] = []
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InvalidValue("Request.headers", expected, f"an item of {type(pair).__name__}")
        name, value = pair
        if isinstance(name, bytes):
            name = name.decode("latin-1")
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if not isinstance(name, str) or not isinstance(value, str):
            got = f"a pair of {type(name).__name__} and {type(value).__name__}"
            raise InvalidValue("Request.headers", expected, got)
        result.append((name, value))
    return tuple(result)


def _read_body(body: object) -> bytes:
    if isinstance(body, str):
        raise InvalidValue(
            "Request.body", "bytes", "a str", 'encode it first, for example with .encode("utf-8")'
        )
    try:
        return bytes(memoryview(body))  # type: ignore[arg-type]  # anything with the buffer protocol
    except TypeError:
        raise InvalidValue("Request.body", "bytes", f"a {type(body).__name__}") from None


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

    Raises:
        InvalidValue: a field is not acceptable; the error names it.
    """

    id: str
    secret: Secret
    phases: tuple[str, ...]
    ttl: int
    created_at: int
    dedup_for: float = DEFAULT_DEDUP_FOR_S

    def __post_init__(self) -> None:
        _check_endpoint_id(self.id)
        object.__setattr__(self, "secret", _read_secret(self.secret))
        object.__setattr__(self, "phases", _read_phases(self.phases))
        _check_int("Endpoint.ttl", self.ttl, "milliseconds", MAX_TTL_MS)
        _check_int("Endpoint.created_at", self.created_at, "nanoseconds since the epoch")
        object.__setattr__(self, "dedup_for", _read_dedup_for(self.dedup_for))

    @classmethod
    def new(
        cls,
        phases: Iterable[str] = DEFAULT_PHASES,
        ttl: int = DEFAULT_TTL_MS,
        *,
        id: str | None = None,
        secret: str | Secret | None = None,
        dedup_for: float = DEFAULT_DEDUP_FOR_S,
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


def _read_dedup_for(value: object) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or not 0 <= value <= MAX_DEDUP_FOR_S
    ):
        expected = f"a number of seconds, at least 0 and at most {MAX_DEDUP_FOR_S:.0f}"
        raise InvalidValue("Endpoint.dedup_for", expected, _describe(value))
    return float(value)


@dataclass(frozen=True, slots=True, repr=False)
class Callback:
    """One thing that was received. It is immutable; :meth:`new` fills in what is left out.

    Arguments:
        id: 1 to 500 characters, unique within its endpoint.
        request: a :class:`Request`, or any other value.
        phase: the state it is in; empty means not given, and becomes the endpoint's first.
        created_at: nanoseconds since the epoch.

    Raises:
        InvalidValue: a field is not acceptable; the error names it.
    """

    id: str
    request: Any
    phase: str
    created_at: int

    def __post_init__(self) -> None:
        _check_text("Callback.id", self.id, MAX_CALLBACK_ID)
        if self.phase != "":
            _check_text("Callback.phase", self.phase, MAX_PHASE)
        _check_int("Callback.created_at", self.created_at, "nanoseconds since the epoch")

    @classmethod
    def new(cls, request: Any, *, id: str | None = None, phase: str = "") -> Callback:
        """Make a callback, created now, with a generated id unless one is given.

        Arguments and errors are those of the class.
        """
        return cls(uuid7() if id is None else id, request, phase, time.time_ns())

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

    def with_phase(self, phase: str) -> Callback:
        """Return the same callback in another phase. The phase is not checked.

        It is the quick way for backends, which check phases against the endpoint's.
        """
        other = _new(Callback)
        _set_id(other, self.id)
        _set_request(other, self.request)
        _set_phase(other, phase)
        _set_created_at(other, self.created_at)
        return other

    def __repr__(self) -> str:
        # The request may hold credentials and may be long.
        request = self.request
        shown = repr(request) if type(request) is Request else f"<{type(request).__name__}>"
        return (
            f"Callback(id={self.id!r}, request={shown}, phase={self.phase!r}, "
            f"created_at={self.created_at!r})"
        )


# The slots' own setters: a frozen dataclass is made twice as fast as with dataclasses.replace.
_new = object.__new__
_set_id = vars(Callback)["id"].__set__
_set_request = vars(Callback)["request"].__set__
_set_phase = vars(Callback)["phase"].__set__
_set_created_at = vars(Callback)["created_at"].__set__


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
