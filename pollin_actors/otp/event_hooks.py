"""Several hooks for the events of supervision, one after another."""

from __future__ import annotations

from collections.abc import Callable

from pollin_actors.otp.events import Event, EventHook
from pollin_actors.otp.guard import Guard
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
        self._guard = Guard()

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
        self._guard.run(self._add, hook)
        return lambda: self._guard.run(self._remove, hook)

    def free(self) -> None:
        """After a fork: a thread that was about to add one is not here."""
        self._guard = Guard()

    def _add(self, hook: EventHook) -> None:
        self._hooks = (*self._hooks, hook)

    def _remove(self, hook: EventHook) -> None:
        left = list(self._hooks)
        if hook in left:
            left.remove(hook)
        self._hooks = tuple(left)
