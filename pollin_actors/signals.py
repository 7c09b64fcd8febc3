"""Running an application until a signal comes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pollin_actors.otp import ReplyFuture

__all__ = ["until_signalled"]


@contextmanager
def until_signalled() -> Iterator[tuple[ReplyFuture[None], Callable[..., None]]]:
    """Within it SIGTERM and SIGINT settle a future instead; in the main thread.

    A second signal raises ``SystemExit`` at once. Afterwards the handlers are as they were.

    Yields:
        The future, and a function that settles it as a signal does.
    """
    over: ReplyFuture[None] = ReplyFuture()

    def end(*_: object) -> None:
        over._settle((None, None))  # whichever comes first; takes no lock

    def signalled(number: int, _frame: object) -> None:
        if over.done():
            raise SystemExit(128 + number)  # the second one: do not wait for anything
        end()

    before = {n: signal.signal(n, signalled) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield over, end
    finally:
        for number, handler in before.items():
            # None: it was not Python that had set it, and only its setter can again.
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
