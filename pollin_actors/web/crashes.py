"""The last crashes of actors, as much of them as may be shown."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from pollin_actors.application import Application
from pollin_actors.otp import Runtime
from pollin_actors.otp.events import Crashed, Event, GaveUp, Restarting, Started, Unstopped

__all__ = ["Crash", "Crashes", "redact"]

KEPT = 50
FRAMES = 12
TEXT = 300

_NAMES = r"authorization|cookie|secret|token|passw(?:or)?d|credential|api[-_]?key|signature|session"
_REDACT = re.compile(
    rf"""(?ix)
    (?P<name> [\w-]* (?:{_NAMES}) [\w-]* ["']? \s* [:=] \s*)
        (?:bearer\s+|basic\s+)? (?: "[^"]*" | '[^']*' | [^\s,;&)}}\]]+ )
    | (?P<url> \b[a-z][\w+.-]*://) [^\s/?\#]+ (?=@)
    | (?P<scheme> \b(?:bearer|basic)\s+) [\w.~+/=-]+
    | \b (?:whsec_|sk_|ghp_|xox[a-z]-) [\w+/=-]+
    | \b [\w+/=-]{{32,}}
    """
)


def redact(text: str) -> str:
    """A text of an exception without what looks like a secret, on one line and not too long."""
    line = " ".join(text[: 4 * TEXT].split())
    hidden = _REDACT.sub(_hidden, line)
    return hidden if len(hidden) <= TEXT else hidden[: TEXT - 1] + "…"


def _hidden(match: re.Match[str]) -> str:
    return f"{match['name'] or match['url'] or match['scheme'] or ''}**********"


class Crash(NamedTuple):
    """One crash. The exception itself is let go of: it holds all that its frames held."""

    number: int
    at: int
    """Nanoseconds since the epoch."""
    supervisor: str
    child: str
    generation: int
    error: str
    """The class of the exception."""
    text: str
    """What it said, redacted."""
    message: str
    """The class of the message that was handled; empty if none was."""
    frames: tuple[str, ...]
    """Where it came from, the innermost last: file, line and function, and no values."""


class Crashes:
    """Listens to the events of supervision of an application; each has one of these, as
    ``app.companion(Crashes)``.

    Arguments:
        app: the application; it may be started later.
    """

    def __init__(self, app: Application) -> None:
        self._kept: deque[Crash] = deque(maxlen=KEPT)
        self._numbers = count(1)
        self._guard = threading.Lock()
        # Replaced and never changed: who tells needs no lock.
        self._watchers: tuple[Callable[[], None], ...] = ()
        app.add_event_hook(self._happened)

    def begin(self, runtime: Runtime) -> None:
        """A start is none of its business: the hook is there already."""

    def newest_first(self) -> list[Crash]:
        """Those that are kept."""
        return list(self._kept)[::-1]

    def watch(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called after events, on any thread, until what is returned is called."""
        with self._guard:
            self._watchers = (*self._watchers, wake)

        def leave() -> None:
            with self._guard:
                self._watchers = tuple(w for w in self._watchers if w is not wake)

        return leave

    def _happened(self, event: Event) -> None:
        if isinstance(event, Crashed):
            self._kept.append(_crash(next(self._numbers), event))
        elif not isinstance(event, Started | Restarting | GaveUp | Unstopped):
            return
        for wake in self._watchers:
            with contextlib.suppress(Exception):
                wake()


def _crash(number: int, event: Crashed) -> Crash:
    error, message = event.record.exception, event.record.last_message
    return Crash(
        number,
        time.time_ns(),
        event.supervisor,
        str(event.child),
        event.generation,
        type(error).__name__,
        _said(error),
        "" if message is None else type(message).__name__,
        _frames(None if error is None else error.__traceback__),
    )


def _said(error: BaseException | None) -> str:
    try:
        return redact(str(error))
    except Exception:
        return "its text could not be made"


def _frames(traceback: TracebackType | None) -> tuple[str, ...]:
    frames: deque[str] = deque(maxlen=FRAMES)
    while traceback is not None:
        code = traceback.tb_frame.f_code
        where = "/".join(Path(code.co_filename).parts[-2:])
        frames.append(f"{where}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    return tuple(frames)
