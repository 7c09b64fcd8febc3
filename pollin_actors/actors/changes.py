"""Who waits for something to change at an endpoint, and is told when it has."""

from __future__ import annotations

from collections.abc import Callable

from pollin_actors.otp.guard import Guard
from pollin_actors.otp.last_words import log_exception

__all__ = ["Changes"]


class Changes:
    """Tells those who watch an endpoint that it has changed. Any thread may call.

    Watch first, then look, then wait: what changes after the look is told. A watcher may be told
    although there is nothing new, and is told on whatever thread made the change: it must be
    quick and never wait.
    """

    def __init__(self) -> None:
        # Each tuple is replaced and never changed: who tells needs no lock.
        self._watchers: dict[str, tuple[Callable[[], None], ...]] = {}
        self._listed_by: tuple[Callable[[], None], ...] = ()
        self._guard = Guard()
        self.revision: object = object()
        """Another one after each change of an endpoint itself. What was read of endpoints since it
        was taken is as they are, but for what other processes do."""

    def free(self) -> None:
        """After a fork: a thread that was about to watch is not here."""
        self._guard = Guard()

    def watch(self, endpoint_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called after changes, until the function that is returned is called."""
        self._guard.run(self._add, endpoint_id, wake)
        return lambda: self._guard.run(self._remove, endpoint_id, wake)

    def watch_list(self, wake: Callable[[], None]) -> Callable[[], None]:
        """The same for changes of endpoints themselves: also of those that are yet to come."""
        self._guard.run(self._add_to_list, wake)
        return lambda: self._guard.run(self._remove_from_list, wake)

    def happened(self, endpoint_id: str) -> None:
        """Say that something has changed at an endpoint."""
        for wake in self._watchers.get(endpoint_id, ()):
            try:
                wake()
            except Exception:
                log_exception("watcher.failed", endpoint_id=endpoint_id)

    def revised(self, endpoint_id: str) -> None:
        """Say that an endpoint itself has changed, or may have."""
        self.revision = object()
        self.happened(endpoint_id)
        self._revised(endpoint_id)

    def anywhere(self) -> None:
        """Say that something may have changed at any endpoint."""
        for endpoint_id in list(self._watchers):
            self.happened(endpoint_id)
        self._revised("")

    def announced(self, endpoint_id: str | None, revised: bool) -> None:
        """Say that another process has changed something at an endpoint, or anywhere."""
        if revised:
            self.revision = object()
        if endpoint_id is None:
            self.anywhere()
        else:
            self.happened(endpoint_id)
            if revised:
                self._revised(endpoint_id)

    def _revised(self, endpoint_id: str) -> None:
        for wake in self._listed_by:
            try:
                wake()
            except Exception:
                log_exception("watcher.failed", endpoint_id=endpoint_id)

    def _add(self, endpoint_id: str, wake: Callable[[], None]) -> None:
        self._watchers[endpoint_id] = (*self._watchers.get(endpoint_id, ()), wake)

    def _remove(self, endpoint_id: str, wake: Callable[[], None]) -> None:
        left = tuple(w for w in self._watchers.get(endpoint_id, ()) if w is not wake)
        if left:
            self._watchers[endpoint_id] = left
        else:
            self._watchers.pop(endpoint_id, None)

    def _add_to_list(self, wake: Callable[[], None]) -> None:
        self._listed_by = (*self._listed_by, wake)

    def _remove_from_list(self, wake: Callable[[], None]) -> None:
        self._listed_by = tuple(w for w in self._listed_by if w is not wake)
