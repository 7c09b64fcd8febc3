"""Answering later: what a handler returns instead of an answer."""

from __future__ import annotations

import concurrent.futures
import sys
from typing import Any

from pollin_actors.otp.futures import Outcome, ReplyFuture

__all__ = ["Later"]


class Later:
    """What a handler returns to answer later: the asker gets the outcome of ``future``.

    Args:
        future: a ``ReplyFuture`` or a ``concurrent.futures.Future``.
        detached: by default the asker is answered with ``ActorDead`` if the actor ends before the
            future is settled. A detached answer outlives its actor: for work that was handed to
            somebody who always settles the future, such as a storage backend.
    """

    __slots__ = ("detached", "future")

    def __init__(
        self,
        future: ReplyFuture[Any] | concurrent.futures.Future[Any],
        *,
        detached: bool = False,
    ) -> None:
        if isinstance(future, concurrent.futures.Future):
            future = _adopt(future)
        if not isinstance(future, ReplyFuture):
            raise TypeError(
                f"Later: expected a ReplyFuture or a concurrent.futures.Future, got {future!r}"
            )
        self.future = future
        self.detached = detached


def _adopt(source: concurrent.futures.Future[Any]) -> ReplyFuture[Any]:
    reply: ReplyFuture[Any] = ReplyFuture()

    def settle(done: concurrent.futures.Future[Any]) -> None:
        try:
            outcome: Outcome = (done.result(), None)
        except BaseException:
            outcome = (None, sys.exc_info())
        reply._settle(outcome)

    source.add_done_callback(settle)
    return reply
