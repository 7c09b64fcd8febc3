"""What was answered before it was stored, and is not stored yet."""

from __future__ import annotations

from pollin_actors.errors import Full
from pollin_actors.otp.guard import Guard

__all__ = ["InFlight"]

MOST = 10_000
MOST_BYTES = 64 * 1024 * 1024


class InFlight:
    """Counts it, so that a backend that stands still is not waited for with all the memory."""

    __slots__ = ("_bytes", "_callbacks", "_guard")

    def __init__(self) -> None:
        self._callbacks = 0
        self._bytes = 0
        self._guard = Guard()

    def begin(self, endpoint_id: str, size: int) -> None:
        """One more, of so many bytes.

        Raises:
            Full: there is as much as there may be. One alone may be of any size.
        """
        self._guard.run(self._begin, endpoint_id, size)

    def end(self, size: int) -> None:
        """One less."""
        self._guard.run(self._end, size)

    def _begin(self, endpoint_id: str, size: int) -> None:
        if self._callbacks >= MOST:
            raise Full(endpoint_id, "callbacks on their way", self._callbacks, MOST)
        if self._callbacks and self._bytes + size > MOST_BYTES:
            raise Full(endpoint_id, "bytes on their way", self._bytes, MOST_BYTES)
        self._callbacks += 1
        self._bytes += size

    def _end(self, size: int) -> None:
        self._callbacks -= 1
        self._bytes -= size
