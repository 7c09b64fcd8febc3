"""What a handler is: a function, where its callbacks come from, and how it is run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any

from pollin_actors.errors import InvalidValue
from pollin_actors.otp import Backoff
from pollin_actors.resources import MAX_DEDUP_FOR_S

__all__ = [
    "DEFAULT_BACKOFF",
    "DEFAULT_MAX_ATTEMPTS",
    "HandlerSpec",
    "check_endpoint_id",
    "check_seconds",
]

DEFAULT_MAX_ATTEMPTS = 20
"""Where there are dead letters and nothing else is said."""

DEFAULT_BACKOFF = Backoff(first=1.0, most=3600.0, jitter=1.0)
"""At most 1 s after the first attempt, twice as long after each further one, an hour at most; each
time anything up to that is drawn."""

MAX_NAME = 200
MAX_BATCH = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerSpec:
    """One handler, validated.

    Arguments are those of :meth:`pollin_actors.handlers.Handling.handler`.

    Raises:
        InvalidValue: a field has a value that it cannot have.
    """

    function: Callable[..., Any]
    endpoint_id: str
    phase: str | None = None
    then: str | None = None
    dead_letter: str | None = None
    concurrency: int = 8
    max_attempts: int | None = None
    backoff: Backoff = DEFAULT_BACKOFF
    timeout: float | None = 60.0
    lease: float = 30.0
    batch: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InvalidValue("handler", "a function", _kind(self.function))
        check_endpoint_id(self.endpoint_id)
        for field in ("phase", "then", "dead_letter"):
            value = getattr(self, field)
            if value is not None and (not isinstance(value, str) or not value):
                raise InvalidValue(f"handler.{field}", "a phase's name, or None", repr(value)[:80])
        if self.then is not None and self.then == self.phase:
            hint = "the callback would be handled for ever; return Retry() for another attempt"
            raise InvalidValue("handler.then", "another phase", repr(self.then), hint)
        if self.dead_letter is not None and self.dead_letter == self.phase:
            raise InvalidValue("handler.dead_letter", "another phase", repr(self.dead_letter))
        self._check_attempts()
        _check_int("handler.concurrency", self.concurrency, 1)
        if self.batch is not None:
            _check_int("handler.batch", self.batch, 1, MAX_BATCH)
        if not isinstance(self.backoff, Backoff):
            raise InvalidValue("handler.backoff", "a Backoff", _kind(self.backoff))
        if self.timeout is not None:
            check_seconds("handler.timeout", self.timeout)
        check_seconds("handler.lease", self.lease)
        if not self.name:
            object.__setattr__(self, "name", _name_of(self.function))
        _check_name("handler.name", self.name)

    def _check_attempts(self) -> None:
        if self.max_attempts is None:
            if self.dead_letter is not None:
                object.__setattr__(self, "max_attempts", DEFAULT_MAX_ATTEMPTS)
            return
        _check_int("handler.max_attempts", self.max_attempts, 1)
        if self.dead_letter is None:
            raise InvalidValue(
                "handler.max_attempts",
                "None where there is no dead_letter=",
                repr(self.max_attempts),
                "name the phase for what has failed so often, as dead_letter=",
            )

    @property
    def is_async(self) -> bool:
        """Whether the function is an ``async def``, and runs on an event loop."""
        function = self.function
        while isinstance(function, partial):
            function = function.func
        called = getattr(type(function), "__call__", None)  # noqa: B004 (of an object, its method)
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases that the endpoint must have."""
        return tuple(p for p in (self.phase, self.then, self.dead_letter) if p is not None)

    def is_last(self, attempt: int) -> bool:
        """Whether a callback is not tried again after this attempt, counted from 1."""
        return self.max_attempts is not None and attempt >= self.max_attempts


def _name_of(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


def _check_name(field: str, value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        got = ascii(value)[:80] if isinstance(value, str) else _kind(value)
        raise InvalidValue(field, f"a str of 1 to {MAX_NAME} printable characters", got)


def _check_int(field: str, value: object, least: int, most: int | None = None) -> None:
    number = isinstance(value, int) and not isinstance(value, bool)
    if not number or value < least or (most is not None and value > most):  # type: ignore[operator]
        bound = "" if most is None else f" and at most {most}"
        raise InvalidValue(field, f"an int, at least {least}{bound}", repr(value)[:80])


def check_endpoint_id(value: object) -> None:
    """Check what is said to be the id of an endpoint.

    Raises:
        InvalidValue: it cannot be one, as where the function itself stands in its place.
    """
    if callable(value):
        hint = 'name the endpoint first, as in @app.handler("orders")'
        raise InvalidValue("handler.endpoint_id", "the id of an endpoint", _kind(value), hint)
    _check_name("handler.endpoint_id", value)


def check_seconds(field: str, value: object, *, zero: bool = False) -> None:
    """Check a number of seconds.

    Raises:
        InvalidValue: it is no number above 0, or from 0 on with ``zero``, or is far too large.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    valid = number and isfinite(value) and 0 <= value <= MAX_DEDUP_FOR_S  # type: ignore[arg-type, operator]
    if not valid or (value == 0 and not zero):
        least = "at least" if zero else "more than"
        got = repr(value)[:80] if number else _kind(value)
        raise InvalidValue(field, f"seconds, {least} 0", got)


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
