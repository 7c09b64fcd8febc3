"""Whether the server that serves us has been told to stop."""

from __future__ import annotations

import signal

__all__ = ["server_ends"]


def server_ends() -> bool:
    """Whether it has: uvicorn waits for what it serves to end first, and tells nobody. Any other
    can say so, too, if what it handles SIGTERM with is a method of something with ``should_exit``.
    """
    handler = signal.getsignal(signal.SIGTERM)
    return getattr(getattr(handler, "__self__", None), "should_exit", False) is True
