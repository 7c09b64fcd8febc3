"""Several hooks for the events of supervision, one after another."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pollin_actors.otp.events import Event, EventHook
from pollin_actors.otp.last_words import OWN, log_exception

__all__ = ["EventHooks"]


class EventHooks:
    """Calls each hook with every event; what one raises is logged and keeps no other from it.

    Args:
        first: the hook that is there from the start, if there is one.
    """

    def __init__(self, first: EventHook | None = None) -> None:
        # Replaced and never changed: who calls needs no lock.
        self._hooks: tuple[EventHook, ...] = () if first is None else (first,)
        self._guard = threading.Lock()

    def __repr__(self) -> str:
        return f"<{len(self._hooks)} hooks>"

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def __call__(self, event: Event) -> None:
        for hook in self._hooks:
            try:
                hook(event)
            except OWN:
                log_exception("event_hook.failed", failed=event.event, hook=repr(hook))

    def add(self, hook: EventHook) -> Callable[[], None]:
        """One more, the last; until what is returned is called."""
        with self._guard:
            self._hooks = (*self._hooks, hook)
        return lambda: self._remove(hook)

    def _remove(self, hook: EventHook) -> None:
        with self._guard:
            left = list(self._hooks)
            if hook in left:
                left.remove(hook)
            self._hooks = tuple(left)
