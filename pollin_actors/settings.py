"""Settings of an application: validated once, when they are made."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any

from pollin_actors.backends.interface import Backend
from pollin_actors.errors import InvalidValue
from pollin_actors.resources import Endpoint

__all__ = ["DEFAULT_TIMEOUT", "Settings"]

DEFAULT_TIMEOUT = 5.0
"""Seconds until the deadline of a call through the facade, unless it gives ``timeout=``."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set.

    Raises:
        InvalidValue: a setting has a value that it cannot have; says what was expected.
    """

    backend: str | Backend = "memory://"
    """Where the state lives: a URL, or a backend object."""

    endpoints: tuple[Endpoint, ...] = ()
    """Endpoints that exist from the start. One that the backend has already is brought to what
    is said here."""

    max_bytes: int = 4 * 1024 * 1024
    """The largest callback that is taken, headers and body together, in bytes."""

    idle_after: float | None = 300.0
    """Seconds without a message after which an endpoint's actor is passivated; None: never."""

    sweep_interval: float = 5.0
    """Seconds between two sweeps of what has expired."""

    poll_interval: float = 1.0
    """Seconds between two looks for what other processes have pushed, where several use one store.
    What this process changes is noticed at once."""

    shutdown: float = 10.0
    """Seconds that ``stop()`` waits for the tree to end, after half as many at most in which
    handlers may finish what they have begun."""

    pool_size: int | None = None
    """Threads that run actors; None: by the number of cores."""

    pool_ceiling: int = 64
    """Threads at most, those included whose handlers wait."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoints", tuple(self.endpoints))
        seen: set[str] = set()
        for endpoint in self.endpoints:
            if not isinstance(endpoint, Endpoint):
                raise InvalidValue("Settings.endpoints", "Endpoint instances", repr(endpoint))
            if endpoint.id in seen:
                raise InvalidValue("Settings.endpoints", "ids that differ", repr(endpoint.id))
            seen.add(endpoint.id)
        _check_int("max_bytes", self.max_bytes, 1)
        _check_int("pool_ceiling", self.pool_ceiling, 1)
        if self.pool_size is not None:
            _check_int("pool_size", self.pool_size, 1)
        if self.idle_after is not None:
            _check_seconds("idle_after", self.idle_after)
        _check_seconds("sweep_interval", self.sweep_interval)
        _check_seconds("poll_interval", self.poll_interval)
        _check_seconds("shutdown", self.shutdown)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **settings: Any) -> Settings:
        """Settings from variables ``POLLIN_BACKEND``, ``POLLIN_MAX_BYTES`` and so on.

        Nothing is read from the environment unless this is called.

        Args:
            environ: by default ``os.environ``.
            settings: these win over the environment.
        """
        source = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for field in fields(cls):
            variable = f"POLLIN_{field.name.upper()}"
            if field.name in _READERS and variable in source:
                values[field.name] = _READERS[field.name](variable, source[variable])
        values.update(settings)
        return cls(**values)


def _check_int(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidValue(f"Settings.{name}", f"an int >= {least}", repr(value))


def _check_seconds(name: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not isfinite(value) or value <= 0:  # type: ignore[arg-type, operator]
        raise InvalidValue(f"Settings.{name}", "a number of seconds > 0", repr(value))


def _text(variable: str, text: str) -> str:
    return text


def _int(variable: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidValue(variable, "a whole number", repr(text)) from None


def _seconds(variable: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidValue(variable, "a number of seconds", repr(text)) from None


def _seconds_or_never(variable: str, text: str) -> float | None:
    return None if text.lower() in ("never", "none") else _seconds(variable, text)


_READERS: dict[str, Callable[[str, str], Any]] = {
    "backend": _text,
    "max_bytes": _int,
    "idle_after": _seconds_or_never,
    "sweep_interval": _seconds,
    "poll_interval": _seconds,
    "shutdown": _seconds,
    "pool_size": _int,
    "pool_ceiling": _int,
}
