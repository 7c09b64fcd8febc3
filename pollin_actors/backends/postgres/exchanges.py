"""A connection whose exchange with the server can be begun by one thread and ended by another."""

from __future__ import annotations

import select
from collections.abc import Generator, Sequence
from functools import cache
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from pollin_actors.backends.postgres.driver import load_driver

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["LeftUndone", "connection_class", "readable"]

# psycopg's own: what an exchange waits for, and what has come. The bits are the same.
_READ, _WRITE = 1, 2
_Exchange: TypeAlias = Generator[int, int, Any]


class LeftUndone(Exception):
    """The time is over, and the server has not answered yet: somebody is to call ``finish``."""


def readable(sources: Sequence[int], timeout: float | None) -> list[int]:
    """Those of the file descriptors from which something can be read, or that are broken.

    Arguments:
        sources: the file descriptors.
        timeout: seconds to wait for one at most; None waits for ever.
    """
    if not hasattr(select, "poll"):
        return select.select(sources, [], [], timeout)[0]
    # select cannot have numbers as large as those of a server with a thousand connections.
    poll = select.poll()
    for source in sources:
        poll.register(source, select.POLLIN)
    return [source for source, _ in poll.poll(None if timeout is None else ceil(timeout * 1000))]


def _ready(source: int, wanted: int, until: float) -> int:
    """What has come of what is wanted; 0 once the time is over."""
    left = max(until - monotonic(), 0.0)
    if not hasattr(select, "poll"):
        reads, writes = ([source] if wanted & bit else [] for bit in (_READ, _WRITE))
        found_reads, found_writes, _ = select.select(reads, writes, [], left)
        return (_READ if found_reads else 0) | (_WRITE if found_writes else 0)
    poll = select.poll()
    events = (select.POLLIN if wanted & _READ else 0) | (select.POLLOUT if wanted & _WRITE else 0)
    poll.register(source, events)
    for _, found in poll.poll(ceil(left * 1000)):
        read = _READ if found & ~select.POLLOUT else 0
        write = _WRITE if found & ~select.POLLIN else 0
        return (read | write) & wanted
    return 0


@cache
def connection_class() -> Any:
    """psycopg's connection, which waits as long as ``until`` says and no longer.

    Raises:
        MissingExtra: psycopg is not installed.
    """
    base: type[Connection[Any]] = load_driver().Connection

    class Leavable(base):  # type: ignore[valid-type, misc]  # it is known once it is there
        """With ``until``, a time of the monotonic clock, an exchange that takes longer, or is
        interrupted while it waits, is ``left`` as it is."""

        until: float | None = None
        left: tuple[_Exchange, int] | None = None

        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            until = self.until
            if until is None:
                return super().wait(gen, *args, **kwargs)
            try:
                wanted = int(next(gen))
                while True:
                    try:
                        ready = _ready(self.pgconn.socket, wanted, until)
                        if not ready:
                            raise LeftUndone
                    except BaseException:
                        self.left = gen, wanted
                        raise
                    wanted = int(gen.send(ready))
            except StopIteration as end:
                return end.value

        def finish(self) -> None:
            """Wait for the end of what was left, for as long as it takes.

            Raises:
                psycopg.Error: what the exchange came to.
            """
            self.until = None
            left, self.left = self.left, None
            if left is not None:
                with self.lock:
                    super().wait(_rest(*left))

    return Leavable


def _rest(exchange: _Exchange, wanted: int) -> _Exchange:
    while True:
        ready = yield wanted
        try:
            wanted = int(exchange.send(ready))
        except StopIteration as end:
            return end.value
