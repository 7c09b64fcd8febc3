"""Names that a package has, and imports only when somebody asks for one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

__all__ = ["lazily"]


def lazily(
    package: dict[str, Any], modules: Sequence[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make a package's ``__getattr__``: the first of its names that is asked for imports them all.

    And its ``__dir__``, so that the names are shown before one was used.

    Arguments:
        package: its ``globals()``, with an ``__all__`` that says which names it has.
        modules: of the package, in the order in which they are imported; each says in its own
            ``__all__`` what it has.
    """
    names, here = frozenset(package["__all__"]), package["__name__"]

    def find(name: str) -> Any:
        if name in modules:
            return import_module(f"{here}.{name}")
        if name not in names:
            raise AttributeError(f"module {here!r} has no attribute {name!r}")
        for module in [import_module(f"{here}.{module}") for module in modules]:
            for found in names.intersection(module.__all__):
                package.setdefault(found, getattr(module, found))
        return package[name]

    def known() -> list[str]:
        return sorted({*package, *names, *(module for module in modules if "." not in module)})

    return find, known
