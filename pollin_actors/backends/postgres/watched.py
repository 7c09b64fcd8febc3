"""A connection that notices its own end while it waits.

When a server crashes in the middle of a pipeline, libpq closes its socket, and psycopg goes on
waiting for the number that the socket had. By then that may be another's, such as a connection
that was opened since, and the wait never ends.
"""

from __future__ import annotations

import select
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from pollin_actors.backends.postgres.driver import load_driver

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["connection_class"]

_READ, _WRITE = 1, 2
# psycopg asks for as much: a wait that nothing ends is looked at again.
_LOOK_S = 1.0


@cache
def connection_class() -> type[Connection[Any]]:
    """The class of connections to open.

    Raises:
        MissingExtra: psycopg is not installed.
    """
    load_driver()
    from psycopg import Connection

    class Watched(Connection[Any]):
        """As psycopg's own, but for how it waits."""

        ends = False
        """Whether the server has said, unasked, that it ends the session: it hangs up soon."""

        def __init__(self, pgconn: Any) -> None:
            super().__init__(pgconn)
            self.add_notice_handler(self._note)

        def _note(self, notice: Any) -> None:
            self.ends = self.ends or notice.severity_nonlocalized in ("FATAL", "PANIC")

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            """Carry out a generator of psycopg's: it says what it waits for.

            Raises:
                psycopg.OperationalError: the connection is lost.
            """
            if timeout is not None:
                return super().wait(gen, interval, timeout)
            try:
                wanted = next(gen)
                while True:
                    # Asked for each time: it raises once there is none any more.
                    wanted = gen.send(_ready(self.pgconn.socket, wanted)) or wanted
            except StopIteration as end:
                return end.value
            except BaseException:
                # Now, and not when it is collected: it would say so to nobody.
                with suppress(Exception):
                    gen.close()
                raise

    return Watched


def _ready(source: int, wanted: int) -> int:
    """Which of reading and writing can go on now; neither after a while without either."""
    if not hasattr(select, "poll"):
        reads = [source] if wanted & _READ else []
        writes = [source] if wanted & _WRITE else []
        readable, writable, _ = select.select(reads, writes, [], _LOOK_S)
        return (_READ if readable else 0) | (_WRITE if writable else 0)
    poll = select.poll()
    mask = (select.POLLIN if wanted & _READ else 0) | (select.POLLOUT if wanted & _WRITE else 0)
    poll.register(source, mask)
    ready = 0
    for _, events in poll.poll(_LOOK_S * 1000):
        if events & select.POLLIN:
            ready |= _READ
        if events & select.POLLOUT:
            ready |= _WRITE
        if not ready:
            ready = wanted  # broken: whoever reads or writes is told how
    return ready
