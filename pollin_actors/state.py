"""Where an application stands, and how it refuses calls there."""

from __future__ import annotations

from enum import StrEnum

from pollin_actors.errors import ForkedProcess, NotRunning

__all__ = ["State", "refusal_of"]


class State(StrEnum):
    """Where an application stands."""

    NEW = "not started"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    FORKED = "forked"


def refusal_of(state: State) -> Exception:
    """Why an application in this state takes no calls."""
    if state is State.FORKED:
        return ForkedProcess()
    if state is State.FAILED:
        hint = "its actors crashed too often: see the log, then stop() and start() it"
        return NotRunning(state, hint)
    return NotRunning(state)
