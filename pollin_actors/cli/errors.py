"""Errors of the command line."""

from __future__ import annotations

__all__ = ["UserError"]


class UserError(Exception):
    """Something that the user of the command has to change; the text says what, in one line."""
