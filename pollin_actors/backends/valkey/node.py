"""One server: its connection, made anew when it was lost."""

from __future__ import annotations

import select
from collections.abc import Callable
from functools import cache
from time import monotonic
from typing import Any

from pollin_actors.backends.valkey.address import Address
from pollin_actors.backends.valkey.library import library
from pollin_actors.errors import MissingExtra

__all__ = ["Loading", "Node", "connector", "errors", "packed", "wait"]

# After so long in vain it is not tried again for so long: others wait meanwhile.
_SLOW_S = 0.5
_SPARED_S = 1.0

# Not every system has it; where there is one, it bears any number of open files.
_POLL: Any = getattr(select, "poll", None)


def connector(address: Address) -> Any:
    """What makes connections to an address, not open yet; other hosts and ports can be given.

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


class Loading(Exception):
    """A server has answered that it still reads what was stored."""


@cache
def errors() -> tuple[type[Exception], ...]:
    """What a lost connection raises. A server that loads its data counts as one, too."""
    import valkey.exceptions as client

    return (client.ConnectionError, client.TimeoutError, client.InvalidResponse, OSError)


def packed(*parts: bytes) -> bytes:
    """A command as it is sent."""
    pieces = [b"*%d\r\n" % len(parts)]
    pieces += [b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]
    return b"".join(pieces)


def wait(connection: Any, timeout: float | None) -> bool:
    """Wait until there is something to read, and say whether there is. It reads nothing.

    Arguments:
        connection: the client's; nothing that it has read waits in it.
        timeout: seconds; None waits for ever.
    """
    # The client has no way to look that does not read.
    sock = connection._sock
    if sock is None or sock.fileno() < 0:
        return True
    seconds = None if timeout is None else max(0.0, timeout)
    if _POLL is None:
        return bool(select.select([sock], [], [], seconds)[0])
    poll = _POLL()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


class Node:
    """A server. One thread at a time may use it.

    Arguments:
        label: what errors call it.
        connection: the client's, not open yet.
        look: called with the node once it is connected; what it raises, :meth:`open` raises.
    """

    def __init__(self, label: str, connection: Any, look: Callable[[Node], object]) -> None:
        self.label = label
        self._connection = connection
        self._look = look
        self._is_open = False
        self._has_library = False
        self._spared: tuple[float, Exception] | None = None

    def is_ready(self) -> bool:
        """Whether it is open, and the other end has not hung up."""
        return self._is_open and self._has_library and not self._is_hung_up()

    def _is_hung_up(self) -> bool:
        """Whether something came while nothing was asked: that can only be the end."""
        if not self.wait(0.0):
            return False
        try:
            # With TLS it may be something that is for nobody.
            return bool(self._connection.can_read(timeout=0))
        except errors():
            return True

    def open(self) -> None:
        """Connect if need be; the functions are there then.

        Raises:
            Exception: the client's error, or what the look at it raises.
        """
        if self.is_ready():
            return
        if self._is_open and self._is_hung_up():
            self.close()  # nothing is lost by that
        if not self._is_open:
            self._connect()
            self._is_open = True
            self._has_library = False
            self._look(self)
        if not self._has_library:
            self._load()

    def _connect(self) -> None:
        begin = monotonic()
        if self._spared is not None and begin < self._spared[0]:
            raise self._spared[1]
        self._spared = None
        try:
            self._connection.connect()
        except Exception as error:
            end = monotonic()
            if end - begin > _SLOW_S:
                self._spared = end + _SPARED_S, error
            raise

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

    def wait(self, timeout: float | None) -> bool:
        """Wait until there is something to read, and say whether there is; nothing is read."""
        return wait(self._connection, timeout)

    def send(self, commands: list[bytes]) -> None:
        """Send packed commands."""
        self._connection.send_packed_command([b"".join(commands)])

    def read(self) -> Any:
        """The next reply; an error that the server has answered is raised.

        Raises:
            Loading: the server loads its data. The client takes that for the end of the connection,
                but it answers one command, and the next may be carried out.
        """
        import valkey.exceptions as client

        try:
            return self._connection.read_response(disable_decoding=True, disconnect_on_error=False)
        except client.ResponseError:
            raise
        except client.BusyLoadingError as error:
            raise Loading(f"LOADING {error}") from None
        except BaseException:
            self._connection.disconnect()
            raise

    def ask(self, *parts: bytes) -> Any:
        """Send one command and return its reply."""
        self.send([packed(*parts)])
        return self._connection.read_response(disable_decoding=True)

    def close(self) -> None:
        """Let go of the connection."""
        self._is_open = False
        self._connection.disconnect()
