"""One server: its connection, made anew when it was lost."""

from __future__ import annotations

import select
from typing import Any, cast

from pollin_actors.backends.valkey.address import Address
from pollin_actors.backends.valkey.library import library
from pollin_actors.errors import MissingExtra

__all__ = ["Node", "connector", "packed"]


def connector(address: Address) -> Any:
    """What makes connections to an address; other hosts and ports can be given.

    Raises:
        MissingExtra: the client is not installed.
    """
    try:
        import valkey.connection as client
    except ImportError as error:
        raise MissingExtra("valkey", "valkey") from error
    kinds = {
        "tcp": client.Connection,
        "tls": client.SSLConnection,
        "unix": client.UnixDomainSocketConnection,
    }
    make = kinds[address.kind]
    fixed: dict[str, Any] = {"socket_timeout": address.timeout, **address.connection}
    if address.kind != "unix":
        fixed["socket_keepalive"] = True

    def connect(**other: Any) -> Any:
        return make(**{**fixed, **other})

    return connect


def errors() -> tuple[type[Exception], ...]:
    """What a lost connection raises."""
    import valkey.exceptions as client

    # In the client's names, a server that loads its data is a lost connection; it is not.
    return (client.ConnectionError, client.TimeoutError, client.InvalidResponse, OSError)


def packed(*parts: bytes) -> bytes:
    """A command as it is sent."""
    pieces = [b"*%d\r\n" % len(parts)]
    pieces += [b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]
    return b"".join(pieces)


class Node:
    """A server. One thread at a time may use it.

    Arguments:
        label: what errors call it.
        connect: makes a connection that is not open yet.
    """

    def __init__(self, label: str, connect: Any) -> None:
        self.label = label
        self._connection = connect()
        self._is_open = False
        self._has_library = False

    def open(self) -> None:
        """Connect if need be; the functions are there then.

        Raises:
            Exception: the client's error, or one of :func:`errors`.
        """
        if self._is_open and self._is_stale():
            self.close()
        if not self._is_open:
            self._connection.connect()
            self._is_open = True
            self._has_library = False
        if not self._has_library:
            self._load()

    def _is_stale(self) -> bool:
        """Whether the other end has hung up while nothing was asked: then nothing is lost."""
        return self.wait(0.0)

    def wait(self, timeout: float | None) -> bool:
        """Wait until there is something to read, and say whether there is. It reads nothing."""
        # The client has no way to look that does not read.
        sock = self._connection._sock
        if sock is None:
            return True
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))

    def _load(self) -> None:
        import valkey.exceptions as client

        try:
            self.ask(b"FUNCTION", b"LOAD", library().source)
        except client.ResponseError as error:
            if "already exists" not in str(error):
                raise
        self._has_library = True

    def forget_library(self) -> None:
        """The functions are to be loaded again."""
        self._has_library = False

    def send(self, commands: list[bytes]) -> None:
        """Send packed commands."""
        self._connection.send_packed_command([b"".join(commands)])

    def read(self) -> Any:
        """The next reply; an error that the server has answered is raised."""
        return self._connection.read_response(disable_decoding=True)

    def ask(self, *parts: bytes) -> Any:
        """Send one command and return its reply."""
        self.send([packed(*parts)])
        return self.read()

    def close(self) -> None:
        """Let go of the connection."""
        self._is_open = False
        self._connection.disconnect()

    @property
    def connection(self) -> Any:
        """The client's connection."""
        return cast("Any", self._connection)
