"""Which functions a server has, without loading any."""

from __future__ import annotations

from typing import Any

from pollin_actors.backends.valkey.address import Address
from pollin_actors.backends.valkey.failures import unavailable
from pollin_actors.backends.valkey.library import library
from pollin_actors.backends.valkey.node import connector, packed

__all__ = ["described", "loaded"]


def described(name: str) -> str:
    """A library as a version is shown."""
    return f"functions {name}"


def loaded(address: Address) -> str | None:
    """The library of this version if the server has it, else one of another version, else None.

    Raises:
        BackendUnavailable: the server cannot be reached, or does not say.
    """
    connection = connector(address)()
    try:
        connection.connect()
        connection.send_packed_command([packed(b"FUNCTION", b"LIST", b"LIBRARYNAME", b"pollin_*")])
        found = connection.read_response(disable_decoding=True)
    except Exception as error:
        raise unavailable(address.label, error) from error
    finally:
        connection.disconnect()
    names = sorted(filter(None, map(_name_of, found)))
    own = library().name
    if own in names:
        return described(own)
    return described(names[-1]) if names else None


def _name_of(fields: Any) -> str:
    """Names and values, as a list or as a map, whichever protocol is spoken."""
    if not isinstance(fields, dict):
        fields = dict(zip(fields[::2], fields[1::2], strict=False))
    name = fields.get(b"library_name", b"")
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else ""
