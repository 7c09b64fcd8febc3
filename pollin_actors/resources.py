"""What the inbox holds: endpoints, callbacks and the requests they carry."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from pollin_actors.checking import MAX_TIME_NS, check_int, check_text
from pollin_actors.endpoint import (
    DEFAULT_DEDUP_FOR_S,
    DEFAULT_KEEP_FOR_S,
    DEFAULT_PHASES,
    DEFAULT_TTL_MS,
    MAX_DEDUP_FOR_S,
    MAX_ENDPOINT_ID,
    MAX_PHASE,
    MAX_TTL_MS,
    RESERVED_IDS,
    Endpoint,
)
from pollin_actors.identifiers import uuid7
from pollin_actors.intake import Intake, Verify
from pollin_actors.request import Request
from pollin_actors.secret import OldSecret, Secret

__all__ = [
    "DEFAULT_DEDUP_FOR_S",
    "DEFAULT_KEEP_FOR_S",
    "DEFAULT_PHASES",
    "DEFAULT_TTL_MS",
    "MAX_DEDUP_FOR_S",
    "MAX_ENDPOINT_ID",
    "MAX_PHASE",
    "MAX_TIME_NS",
    "MAX_TTL_MS",
    "RESERVED_IDS",
    "Callback",
    "Endpoint",
    "Intake",
    "OldSecret",
    "Outcome",
    "Page",
    "PushResult",
    "Request",
    "Secret",
    "Verify",
]

MAX_CALLBACK_ID = 500
MAX_ORDERING_KEY = 500
MAX_FENCE = 200
MAX_ORIGIN = MAX_ENDPOINT_ID + 1 + MAX_CALLBACK_ID


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
        fence: another name by which it is known as long as its id is remembered: what has the
            same fence is a duplicate, whatever its id. 1 to 200 characters.

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
    fence: str | None = None

    def __post_init__(self) -> None:
        check_text("Callback.id", self.id, MAX_CALLBACK_ID)
        if self.phase != "":
            check_text("Callback.phase", self.phase, MAX_PHASE)
        unit = "nanoseconds since the epoch"
        check_int("Callback.created_at", self.created_at, unit, MAX_TIME_NS)
        if self.parent is not None:
            check_text("Callback.parent", self.parent, MAX_CALLBACK_ID)
        if self.root is not None:
            check_text("Callback.root", self.root, MAX_CALLBACK_ID)
        if self.origin is not None:
            check_text("Callback.origin", self.origin, MAX_ORIGIN)
        if self.ordering_key is not None:
            check_text("Callback.ordering_key", self.ordering_key, MAX_ORDERING_KEY)
        if self.not_before is not None:
            check_int("Callback.not_before", self.not_before, unit, MAX_TIME_NS)
        if self.attempts:
            check_int("Callback.attempts", self.attempts, "claims")
        if self.fence is not None:
            check_text("Callback.fence", self.fence, MAX_FENCE)

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
        fence: str | None = None,
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
            0,
            fence,
        )

    @classmethod
    def arrived(
        cls, id: str, request: Request, phase: str, created_at: int, fence: str | None
    ) -> Callback:
        """Make a callback of fields that are known to be good: the quick way, for the receiver."""
        callback = _new(cls)
        _set_id(callback, id)
        _set_request(callback, request)
        _set_phase(callback, phase)
        _set_created_at(callback, created_at)
        _set_parent(callback, None)
        _set_root(callback, None)
        _set_origin(callback, None)
        _set_ordering_key(callback, None)
        _set_not_before(callback, None)
        _set_attempts(callback, 0)
        _set_fence(callback, fence)
        return callback

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
        """Whether it has none of what few have: parent, origin, ordering key, time, fence."""
        return (
            self.parent is None
            and self.ordering_key is None
            and self.not_before is None
            and self.origin is None
            and self.root is None
            and self.fence is None
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


_RARE = ("parent", "root", "origin", "ordering_key", "not_before", "attempts", "fence")

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
_set_fence = vars(Callback)["fence"].__set__


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
    _set_fence(other, old.fence)
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
