"""The backend of the guide with a few lines changed: it breaks a rule, and is right otherwise."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, cast

import pytest

import examples
from examples.own_backend import ListBackend
from pollin_actors.backends.conformance import CHECKS, Check, NewStore
from pollin_actors.errors import PollinError

__all__ = ["Mutant", "changed", "finds", "mutants"]

FOLDER = Path(examples.__file__).parent
NAMES = ("own_backend_queue", "own_backend")
SOURCES = {name: (FOLDER / f"{name}.py").read_text(encoding="utf-8") for name in NAMES}

_numbers = count()


class Mutant(NamedTuple):
    """What is wrong with it, and the edits that make it so: old text and new text, by turns."""

    name: str
    edits: tuple[str, ...]


def mutants(table: dict[str, tuple[str, ...]]) -> pytest.MarkDecorator:
    """The test's parameter ``mutant``: one for each line of the table."""
    found = [Mutant(name, edits) for name, edits in table.items()]
    return pytest.mark.parametrize("mutant", found, ids=[mutant.name for mutant in found])


def changed(mutant: Mutant) -> type[ListBackend]:
    """The class of the guide, made of its source with these edits.

    Each old text must occur once in one of its two files, so that no edit gets lost.
    """
    sources = dict(SOURCES)
    for old, new in zip(mutant.edits[::2], mutant.edits[1::2], strict=True):
        found = [name for name in NAMES if old in sources[name]]
        assert [sources[name].count(old) for name in found] == [1], f"not there just once: {old}"
        sources[found[0]] = sources[found[0]].replace(old, new)
    number = next(_numbers)
    queue = _module(f"mutant_queue_{number}", sources["own_backend_queue"])
    sys.modules[queue.__name__] = queue
    try:
        text = sources["own_backend"].replace("examples.own_backend_queue", queue.__name__)
        return cast("type[ListBackend]", _module(f"mutant_{number}", text).ListBackend)
    finally:
        del sys.modules[queue.__name__]


def _module(name: str, source: str) -> ModuleType:
    module = ModuleType(name)
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    exec(compile(source, name, "exec"), vars(module))
    return module


def finds(new_store: NewStore, first: Iterable[Check]) -> None:
    """A check fails by a comparison, or by an error of the inbox that was not expected.

    Those that are named first are tried first; it is the same without, but takes longer.
    """
    with pytest.raises((AssertionError, PollinError)):
        _check(new_store, tuple(first))


def _check(new_store: NewStore, first: tuple[Check, ...]) -> None:
    for check in (*first, *(check for check in CHECKS if check not in first)):
        check(new_store)
