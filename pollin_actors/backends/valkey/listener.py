"""Hears what other processes have done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import structlog

from pollin_actors.backends.valkey.address import Address
from pollin_actors.backends.valkey.encoding import endpoint_name
from pollin_actors.backends.valkey.node import connector, errors, packed, wait

__all__ = ["Listener"]

log = structlog.get_logger("pollin_actors.backends")

# Seconds before it tries to connect again: twice as many each time.
_FIRST_S = 0.05
_LAST_S = 2.0
_REFUSED_S = 60.0
# Seconds without news after which the server is asked whether it is there.
_SILENCE_S = 15.0


class Listener:
    """A thread with a connection of its own that is told of changes.

    In a cluster any node will do: they tell each other.

    Arguments:
        address: of the server.
        announce: as in :class:`~pollin_actors.backends.interface.Announces`.
        places: hosts and ports of the servers of a cluster, as far as they are known.
    """

    def __init__(
        self,
        address: Address,
        announce: Callable[[str | None, bool], None],
        places: Callable[[], list[tuple[str, int]]],
    ) -> None:
        self._address = address
        self._announce = announce
        self._places = places
        self._connection: Any = None
        self._closing = threading.Event()
        name = f"pollin-valkey-listener-{address.label}"
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End; announcements that are under way are told first."""
        self._closing.set()
        connection = self._connection
        if connection is not None:
            connection.disconnect()  # wakes who reads
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _serve(self) -> None:
        connect, pause = connector(self._address), _FIRST_S
        for turn in count():
            # Of a cluster one after another: that of the address may be away.
            places = [{}, *({"host": host, "port": port} for host, port in self._places())]
            connection = self._connection = connect(**places[turn % len(places)])
            if self._closing.is_set():
                return
            try:
                connection.connect()
                connection.send_packed_command([packed(b"SUBSCRIBE", self._channel())])
                while self._wait(connection):
                    # All that was read at once: the next wait sees only what is not.
                    while connection.can_read(timeout=0):
                        self._hear(connection.read_response(disable_decoding=True))
                    pause = _FIRST_S
            except errors() as error:
                if not self._closing.is_set():
                    log.debug("backend.listener_lost", server=self._address.label, why=str(error))
            except Exception as error:
                if not self._closing.is_set():
                    # Not allowed to listen, most likely: then others are heard of by looking.
                    log.warning("backend.deaf", server=self._address.label, why=str(error))
                pause = _REFUSED_S
            connection.disconnect()
            self._closing.wait(pause)
            pause = min(2 * pause, max(pause, _LAST_S))

    def _wait(self, connection: Any) -> bool:
        """Wait for news, and say whether there may be any: else it is closed, or was lost."""
        if self._closing.is_set():
            return False
        if wait(connection, _SILENCE_S):
            return not self._closing.is_set()
        # A server that is gone without a word does not answer.
        connection.send_packed_command([packed(b"PING")])
        return wait(connection, self._address.timeout) and not self._closing.is_set()

    def _channel(self) -> bytes:
        return f"{self._address.prefix}:changes".encode()

    def _hear(self, reply: Any) -> None:
        kind, *_, payload = reply
        if kind == b"subscribe":
            # What was told before is not known.
            self._announce(None, True)
        elif kind == b"message":
            self._announce(endpoint_name(payload[1:]), payload[:1] == b"1")
