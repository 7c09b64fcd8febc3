"""The backend: its URL, its life, and what it takes."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any

from pollin_actors.backends.forks import unlocked_after_fork
from pollin_actors.backends.interface import StoredVersion
from pollin_actors.backends.valkey.address import Address, parse
from pollin_actors.backends.valkey.commands import CALLS
from pollin_actors.backends.valkey.exchange import Exchange, Job
from pollin_actors.backends.valkey.library import library
from pollin_actors.backends.valkey.listener import Listener
from pollin_actors.backends.valkey.loaded import described, loaded
from pollin_actors.backends.valkey.sender import Sender, not_open
from pollin_actors.backends.valkey.steps import STEPS, check
from pollin_actors.backends.valkey.topology import Topology
from pollin_actors.errors import InvalidValue
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.waiting import simulated_scheduler

__all__ = ["ValkeyBackend"]


class ValkeyBackend:
    """Keeps endpoints and callbacks in Valkey, or in Redis from 7.0 on: one server, or a cluster.

    Many processes on many machines may use one store. Each operation is a function that the server
    runs as a whole; the functions are loaded when they are missing. One thread sends whatever waits
    together and reads the answers; it never repeats a change of which it does not know whether it
    was made.

    **URLs** are ``valkey://name:password@host:6379/0``, ``valkeys://`` with TLS, and
    ``valkey+unix:///path/of/its/socket?db=0``; ``redis``, ``rediss`` and ``redis+unix`` mean the
    same. Options:

    * ``prefix``: with which all keys begin, ``pollin`` by default; each prefix is a store.
    * ``timeout``: seconds for which an answer is waited for, 5 by default.
    * ``cluster``: ``true`` or ``false``; without it the server is asked.
    * ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``, ``ssl_check_hostname``: of TLS.

    **What a crash can lose** is the server's matter, and :attr:`durability` says it. With
    ``appendonly yes`` and ``appendfsync always`` nothing that was acknowledged is lost when the
    server or its machine stops. With ``everysec`` up to a second or two may be; without an
    append-only file everything since the last snapshot, or everything. Replication is asynchronous:
    a failover to a replica can lose what the primary had acknowledged and not yet passed on,
    whatever the settings. Then a claim may be made twice, and positions of records that were lost
    are given out again. ``maxmemory-policy`` has to be ``noeviction`` or one of the ``volatile``
    ones; a server that would drop other keys is refused.

    **In a cluster** all keys of an endpoint are in one hash slot, so endpoints are spread over the
    servers and each is whole on one. Functions are given one key, and make the others of it, in its
    slot. So a slot must not move to another server key by key while there is something in it:
    stop the processes, or use the atomic migration of slots of Valkey 9. While a server is away,
    the endpoints of the others work. A replica that takes over is found by itself.

    **A user** with limited rights needs ``+fcall +function|load +get +set +incr +zadd +zrange
    +publish +subscribe`` and what the functions call (``@hash @sortedset @stream unlink exists``),
    on ``~prefix:*`` and ``&prefix:changes``; with ``+info`` and ``+config|get`` it can tell how
    durable the server is, with ``+cluster|slots`` it finds the servers of a cluster.

    Functions have names of their own in each version of this package, so that processes of two
    versions get on; those of old ones stay until ``FUNCTION DELETE``. Of an endpoint that was
    deleted a counter of a few bytes is left: positions are never given out twice.

    Arguments:
        url: of the server.

    Raises:
        InvalidValue: it is no such URL; no part of it is in the text.
    """

    def __init__(self, url: str) -> None:
        self._address: Address = parse(url)
        self._announce: Callable[[str | None, bool], None] | None = None
        self._exchange: Exchange | None = None
        self._sender: Sender | None = None
        self._listener: Listener | None = None
        self._guard = Guard()
        unlocked_after_fork(self)

    def __repr__(self) -> str:
        return f"<ValkeyBackend at {self._address.label}>"

    @classmethod
    def from_url(cls, url: str, /) -> ValkeyBackend:
        """Make a backend from a URL such as ``valkey://host:6379/0?prefix=inbox``.

        Raises:
            InvalidValue: it is none of ours, or has unknown options.
        """
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
        """What survives a crash of the server, as it was when it was last connected.

        ``always``: all that was acknowledged. ``everysec``: all but the last second or two.
        ``system``: what the operating system has written. ``snapshots``: what there was at the last
        one. ``none``: nothing. ``unknown``: the server does not say, or is not connected.
        """
        return "unknown" if self._exchange is None else self._exchange.topology.durability

    def stored_version(self) -> StoredVersion:
        """Which functions the server has, by a connection of its own: those of this version, if
        they are among them. Nothing is loaded by looking.

        Raises:
            BackendUnavailable: the server cannot be reached, or does not say.
        """
        return StoredVersion(loaded(self._address), described(library().name))

    def announce_to(self, announce: Callable[[str | None, bool], None]) -> None:
        """Have ``announce(endpoint_id, revised)`` called after changes; from the next open on.

        Endpoints that were created, changed or deleted are always told. Of what is queued only
        those are told who have found nothing to claim, or no more records, and only once until
        they have looked again: many pushes are one announcement.
        """
        self._announce = announce

    def open(self, time_ns: Callable[[], int]) -> None:
        """Connect, load the functions, look whether the store is one of ours.

        Within a simulated run no thread is started: what waits is sent as a task of its scheduler,
        and nothing is announced.

        Raises:
            BackendUnavailable: the server cannot be reached or used, would drop keys for want of
                memory, or the store comes from a newer version; that is left untouched.
            MissingExtra: the client is not installed.
        """
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
            self._listener = Listener(address, self._announce, exchange.topology.places)

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
