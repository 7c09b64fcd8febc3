"""The functions that the server runs: Lua, sent as one library."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

__all__ = ["Library", "function", "library"]

_MODULES = (
    "1_rows",
    "2_places",
    "3_time",
    "4_calls",
    "5_pushes",
    "6_claims",
    "7_reads",
    "8_endpoints",
)


class Library(NamedTuple):
    """What is loaded into a server.

    The name ends with a digest of the source: versions of this package do not get in each other's
    way, and what is there already is right.
    """

    name: str
    source: bytes


@cache
def function(name: str) -> bytes:
    """The name by which the server knows a function."""
    return f"{library().name}_{name}".encode()


@cache
def library() -> Library:
    """The library of this version."""
    folder = files("pollin_actors.backends.valkey")
    parts = [folder.joinpath(f"{name}.lua").read_text("utf-8") for name in _MODULES]
    text = "\n".join(parts)
    name = f"pollin_{sha256(text.encode()).hexdigest()[:12]}"
    return Library(name, f"#!lua name={name}\n{text.replace('LIBRARY', name)}".encode())
