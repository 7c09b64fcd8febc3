"""Backends: where endpoints and callbacks are kept."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from pollin_actors.backends.interface import Announces, Backend, BackendClass, StoredVersion
from pollin_actors.errors import BackendUnavailable, InvalidValue, UnknownBackend

__all__ = ["Announces", "Backend", "BackendClass", "StoredVersion", "open_backend"]

_GROUP = "pollin_actors.backends"
_OURS = {
    "memory": ("memory", "MemoryBackend"),
    "postgres": ("postgres", "PostgresBackend"),
    "postgresql": ("postgres", "PostgresBackend"),
    "sqlite": ("sqlite", "SqliteBackend"),
    **dict.fromkeys(
        ("valkey", "valkeys", "redis", "rediss", "valkey+unix", "redis+unix"),
        ("valkey", "ValkeyBackend"),
    ),
}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)


def open_backend(spec: str | Backend) -> Backend:
    """Return the backend that a URL names, or the given backend itself. It is not opened yet.

    Arguments:
        spec: a URL such as ``memory://``, whose scheme is the name of an entry point in the group
            ``pollin_actors.backends``; or a backend.

    Raises:
        InvalidValue: it is neither.
        UnknownBackend: no installed package provides the scheme.
        BackendUnavailable: the package that provides the scheme cannot be imported.
    """
    if not isinstance(spec, str):
        # A class has the methods too, but is no backend.
        given: object = spec
        if isinstance(given, Backend) and not isinstance(given, type):
            return given
        got = repr(given) if isinstance(given, type) else f"a {type(given).__name__}"
        raise InvalidValue("backend", "a URL or an object with the methods of Backend", got)
    match = _URL.match(spec)
    if match is None:
        # The text itself stays out of the error: it may be a URL with a password, misspelt.
        got = f"a str of {len(spec)} characters that does not start with a scheme and ://"
        raise InvalidValue("backend", "a URL such as memory://", got)
    scheme = match[1].lower()
    backend = _load(scheme).from_url(spec)
    if not isinstance(backend, Backend):
        expected = "an object with the methods of Backend"
        raise InvalidValue(f"backend {scheme}://", expected, f"a {type(backend).__name__}")
    return backend


def _load(scheme: str) -> Any:
    # Ours are known also where the package's metadata is not installed.
    ours = _OURS.get(scheme)
    if ours is not None:
        module, name = ours
        return getattr(import_module(f"pollin_actors.backends.{module}"), name)
    found = entry_points(group=_GROUP)
    for entry_point in found:
        if entry_point.name.lower() == scheme:
            break
    else:
        raise UnknownBackend(scheme, sorted({*_OURS, *(entry.name for entry in found)}))
    try:
        loaded = entry_point.load()
    except (ImportError, AttributeError) as error:
        hint = "install what it needs, or repair its entry point"
        raise BackendUnavailable(scheme, f"{entry_point.value} cannot be loaded", hint) from error
    if not hasattr(loaded, "from_url"):
        got = f"{entry_point.value}, which has none"
        raise InvalidValue(f"backend {scheme}://", "a class with from_url(url)", got)
    return loaded
