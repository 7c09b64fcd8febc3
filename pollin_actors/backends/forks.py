"""What a forked child needs anew of a backend that another thread was opening."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from pollin_actors.otp.guard import Guard

__all__ = ["unlocked_after_fork"]


class Guarded(Protocol):
    """Something that is opened and closed under a guard."""

    _guard: Guard


_guarded: weakref.WeakSet[Guarded] = weakref.WeakSet()


def unlocked_after_fork(guarded: Guarded) -> None:
    """Give its guard free in every child: the thread that held it at the fork is not there."""
    _guarded.add(guarded)


def _after_fork() -> None:
    for guarded in tuple(_guarded):
        guarded._guard = Guard()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
