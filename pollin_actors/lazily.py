"""Names that a package has, and imports only when somebody asks for one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

__all__ = ["lazily"]


def lazily(package: dict[str, Any], modules: Sequence[str]) -> Callable[[str], Any]:
    """Make a package's ``__getattr__``: the first of its names that is asked for imports them all.

    Arguments:
        package: its ``globals()``, with an ``__all__`` that says which names it has.
        modules: of the package, in the order in which they are imported; each says in its own
            ``__all__`` what it has.
    """
    names, here = frozenset(package["__all__"]), package["__name__"]

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {here!r} has no attribute {name!r}")
        for module in [import_module(f"{here}.{module}") for module in modules]:
            for known in names.intersection(module.__all__):
                package.setdefault(known, getattr(module, known))
        return package[name]

    return find
