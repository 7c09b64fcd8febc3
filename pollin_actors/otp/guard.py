"""A re-entrant lock that no interrupt can leave held."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Guard"]

T = TypeVar("T")


class Guard:
    """Runs functions one at a time, whichever threads call them.

    An exception raised by a signal handler (``KeyboardInterrupt``, for one) can appear between
    any two instructions. ``with lock:`` leaves the lock held for ever when one appears between
    the end of the body and the release. Here the lock is free whenever an exception has left
    :meth:`run`, wherever it came from.

    The same thread may call :meth:`run` again from inside the function, or from a signal handler
    or finaliser that happens to run inside it.
    """

    __slots__ = ("_acquire", "_owned", "_release")

    def __init__(self) -> None:
        lock = threading.RLock()
        self._acquire: Callable[..., bool] = lock.acquire
        self._release: Callable[[], None] = lock.release
        # CPython's own Condition relies on this method; the stubs leave it out.
        self._owned: Callable[[], bool] = lock._is_owned  # type: ignore[attr-defined]

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call ``function(*args)`` with the lock held and return its result.

        What the function raises passes through unchanged.
        """
        if self._owned():
            # No second acquire: an interrupt after it would leave the count raised.
            return self.nested(function, *args)
        try:
            self._acquire()
            result = function(*args)
            self._release()
            return result
        except BaseException:
            # The interrupt may have come before the acquire or after the release.
            if self._owned():
                self._release()
            raise

    def attempt(self, function: Callable[..., object], *args: Any) -> bool:
        """Call ``function(*args)`` with the lock held if it is free; say whether it was called.

        It is not free for a thread that is inside already.
        """
        if self._owned():
            return False
        called = False
        try:
            if self._acquire(False):
                called = True
                function(*args)
                self._release()
        except BaseException:
            if self._owned():
                self._release()
            raise
        return called

    def nested(self, function: Callable[..., T], *args: Any) -> T:
        """What :meth:`run` does when the calling thread is inside it already.

        It calls the function. A subclass whose functions must not interleave can refuse instead.
        """
        return function(*args)

    def is_held(self) -> bool:
        """Say whether the calling thread is inside :meth:`run`."""
        return self._owned()
