"""psycopg, which is there if its extra is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pollin_actors.errors import MissingExtra

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["is_of_driver", "load_driver"]


def load_driver() -> ModuleType:
    """Import psycopg.

    Raises:
        MissingExtra: it is not installed, or finds no libpq.
    """
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtra("psycopg", "postgres") from error
    return psycopg


def is_of_driver(error: BaseException) -> bool:
    """Whether psycopg or the server has raised it."""
    import psycopg

    return isinstance(error, psycopg.Error)
