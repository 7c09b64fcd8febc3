"""The backend: its URL, its life, and what it takes."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any

from pollin_actors.backends.valkey.address import Address, parse
from pollin_actors.backends.valkey.commands import CALLS
from pollin_actors.backends.valkey.exchange import Exchange, Job
from pollin_actors.backends.valkey.listener import Listener
from pollin_actors.backends.valkey.sender import Sender, not_open
from pollin_actors.backends.valkey.steps import STEPS, check
from pollin_actors.backends.valkey.topology import Topology
from pollin_actors.errors import InvalidValue
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.waiting import simulated_scheduler

__all__ = ["ValkeyBackend"]


class ValkeyBackend:
    """Keeps endpoints and callbacks in Valkey, or in Redis from 7.0 on; also in a cluster.

    Arguments:
        url: of the server.

    Raises:
        InvalidValue: it is no such URL.
    """

    def __init__(self, url: str) -> None:
        self._address: Address = parse(url)
        self._announce: Callable[[str | None, bool], None] | None = None
        self._exchange: Exchange | None = None
        self._sender: Sender | None = None
        self._listener: Listener | None = None
        self._guard = Guard()

    def __repr__(self) -> str:
        return f"<ValkeyBackend at {self._address.label}>"

    @classmethod
    def from_url(cls, url: str, /) -> ValkeyBackend:
        """Make a backend from a URL such as ``valkey://host:6379/0?prefix=inbox``."""
        return cls(url)

    @property
    def shared(self) -> bool:
        """True: many processes on many machines may use the server."""
        return True

    @property
    def durable(self) -> bool:
        """True: the server outlives the process."""
        return True

    @property
    def durability(self) -> str:
        """What survives a crash of the server."""
        return "unknown" if self._exchange is None else self._exchange.topology.durability

    def announce_to(self, announce: Callable[[str | None, bool], None]) -> None:
        """Have it called when other processes have changed something; from the next open on."""
        self._announce = announce

    def open(self, time_ns: Callable[[], int]) -> None:
        """Connect."""
        self._guard.run(self._open, time_ns)

    def _open(self, time_ns: Callable[[], int]) -> None:
        if self._sender is not None:
            return
        address = self._address
        named = address.prefix, address.label, address.timeout
        exchange = Exchange(Topology(address), *named, time_ns)
        exchange.open()
        scheduler = simulated_scheduler.get()
        self._exchange = exchange
        self._sender = Sender(exchange, scheduler)
        if self._announce is not None and scheduler is None:
            self._listener = Listener(address, self._announce)

    def execute(self, message: Any) -> ReplyFuture[Any]:
        """Accept a message; the future holds the reply once the server has answered.

        Raises:
            BackendUnavailable: the backend is not open.
            InvalidValue: it is no message.
        """
        kind = type(message)
        make = CALLS.get(kind)
        if make is None and kind not in STEPS:
            got = f"a {kind.__module__}.{kind.__qualname__}"
            raise InvalidValue("message", "one of pollin_actors.messages", got)
        sender = self._sender
        if sender is None:
            raise not_open()
        if make is None:
            check(message)
        job = Job(message, None if make is None else make(message), get_ident())
        sender.submit(job)
        return job.future

    def close(self) -> None:
        """Finish what was accepted, then let go of the server. Closing twice does nothing."""
        listener, sender = self._listener, self._sender
        if listener is not None:
            listener.close()
            self._listener = None
        if sender is not None:
            sender.close()
            if self._sender is sender:  # it may have been closed and opened elsewhere
                self._sender = None
