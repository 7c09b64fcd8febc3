"""Exchanges with the server that one thread can begin and another end.

They use libpq's own calls, in half the time of a cursor. Whatever a thread is interrupted in, the
state is libpq's, and whoever comes next reads on.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

from pollin_actors.backends.postgres.driver import load_driver

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

__all__ = ["UNHEARD", "Call", "LeftUndone", "encoded", "readable", "receive"]

_READ, _WRITE = 1, 2


UNHEARD = object()
"""A part of an answer that nobody knows: whoever has taken it was interrupted."""


class LeftUndone(Exception):
    """The time is over, and the server has not answered yet: somebody is to receive the rest."""


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


def _await(source: int, wanted: int, until: float | None) -> None:
    """Wait until a file descriptor can be read from, or written to.

    Raises:
        LeftUndone: the time is over.
    """
    left = None if until is None else max(until - monotonic(), 0.0)
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(source, select.POLLOUT | select.POLLIN if wanted & _WRITE else select.POLLIN)
        found: Sequence[object] = poll.poll(None if left is None else ceil(left * 1000))
    else:
        writes = [source] if wanted & _WRITE else []
        reads, written, _ = select.select([source], writes, [], left)
        found = [*reads, *written]
    if not found:
        raise LeftUndone


class Call:
    """A statement that is sent again and again, with other values.

    Arguments:
        query: with ``$1`` and so on for its values.
        binary: how many of the values, the last ones, are bytes; the others are texts.
        count: how many values there are.
    """

    def __init__(self, query: bytes, count: int, binary: int) -> None:
        self._query = query
        self._formats = [0] * (count - binary) + [1] * binary
        self._name = b"pollin_call"

    def prepare(self, connection: PGconn) -> None:
        """Have the server prepare it.

        Raises:
            psycopg.Error: it cannot.
        """
        error = _error_in(connection.prepare(self._name, self._query))
        if error is not None:
            raise error

    def send(self, connection: PGconn, values: Sequence[bytes | None], prepared: bool) -> None:
        """Send it; the answer is to be received.

        Raises:
            psycopg.Error: the connection is lost.
        """
        if prepared:
            connection.send_query_prepared(self._name, values, self._formats)
        else:
            connection.send_query_params(self._query, values, param_formats=self._formats)


def encoded(value: int | str | None) -> bytes | None:
    """A value as libpq takes it."""
    return None if value is None else str(value).encode()


def receive(
    connection: PGconn, until: float | None, heard: list[object] | None = None
) -> Exception | None:
    """Read the answer of what was sent, to its end.

    Returns:
        None, or what the server refuses it with; then nothing was changed. It is not raised, for
        what is raised may come from elsewhere: a signal handler that uses psycopg too.

    Arguments:
        connection: to the server.
        until: how long to wait at most, by the monotonic clock; None waits for ever.
        heard: what was heard of it already, by whoever could not read on; what is heard now is
            added. The end of an answer that was refused looks like that of any other.

    Raises:
        LeftUndone: it has not come until then.
        psycopg.Error: the connection is lost.
    """
    if heard is None:
        heard = []
    while connection.flush():
        _await(connection.socket, _WRITE, until)
        connection.consume_input()
    while True:
        while connection.is_busy():
            _await(connection.socket, _READ, until)
            try:
                connection.consume_input()
            except load_driver().OperationalError as lost:
                # What the server has said before it hung up tells more.
                raise _refusal(heard) or lost from None
        # Before it is taken: an interrupt may lose it.
        heard.append(UNHEARD)
        result = connection.get_result()
        if result is None:
            heard.pop()
            break
        # All of them: the statement may have succeeded, and the commit after it not.
        heard[-1] = _error_in(result)
    error = _refusal(heard)
    if connection.status:
        raise error or load_driver().OperationalError("the connection was lost")
    return error


def _refusal(heard: list[object]) -> Exception | None:
    return next((it for it in heard if isinstance(it, Exception)), None)


def _error_in(result: PGresult) -> Exception | None:
    """What a result says, if it is an error."""
    if not result.error_message:
        return None
    error: Exception = load_driver().errors.error_from_result(result, "utf-8")
    return error
