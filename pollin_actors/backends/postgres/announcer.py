"""Telling other processes what this one has changed, and hearing what they have; and telling the
server that its tables have grown."""

from __future__ import annotations

import os
import socket
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog

from pollin_actors.backends.postgres.arrays import texts
from pollin_actors.backends.postgres.compiling import Job
from pollin_actors.backends.postgres.exchanges import readable
from pollin_actors.backends.postgres.failures import NAME
from pollin_actors.backends.postgres.link import connect, is_pooled
from pollin_actors.backends.postgres.operations import READS, Operations
from pollin_actors.backends.postgres.schema import quoted
from pollin_actors.messages import CreateEndpoint, UpdateEndpoint
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.last_words import log_exception
from pollin_actors.records import Claims

if TYPE_CHECKING:
    from psycopg import Connection

    from pollin_actors.backends.postgres.link import Address
    from pollin_actors.otp.futures import Outcome

__all__ = ["Announcer"]

log = structlog.get_logger("pollin_actors.backends")

# What changes within such a time is told at once, in one transaction: a commit that notifies
# locks out all others of the server that do, so there are to be few of them, and short ones.
TOGETHER_S = 0.025
# So many endpoints are named at most; of more it is said that something has changed anywhere.
MOST_NAMED = 100
# Between attempts to connect, in seconds: twice as long each time.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 5.0

# After so many messages the server is asked to count again, and then after eight times as many: it
# does so by itself, but only every minute, and plans that were made for an empty table are kept.
FIRST_COUNT = 256
_TABLES = ("endpoints", "callbacks", "requests", "history", "counts")

_QUIET: frozenset[Callable[..., Any]] = READS | {Operations.check_ready, Operations.extend}
_REVISE: frozenset[Callable[..., Any]] = frozenset(
    {
        Operations.create,
        Operations.update,
        Operations.delete_endpoint,
        Operations.consume,
        Operations.rotate,
    }
)
_MAY_BE_NOTHING: frozenset[Callable[..., Any]] = frozenset(
    {
        Operations.pop,
        Operations.pop_slice,
        Operations.delete_callback,
        Operations.delete_endpoint,
        Operations.sweep,
    }
)

_NOTIFY = b"SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload"
# It is of no use after a crash: nobody is to wait for the disk.
_NO_WAIT = b"SELECT set_config('synchronous_commit', 'off', true)"


class Announcer:
    """Has a connection of its own and a thread that waits for it.

    Notifications are sent after the commit, not with it: a commit with one would hold up all
    others that notify, also those of other endpoints. A process that ends in between announces
    nothing, and whoever waits finds out by looking.

    Through a pooler that shares out connections nothing can be heard: then it only tells.

    Arguments:
        address: of the server.
        announce: called with what others have changed; None if nobody wants to know.
    """

    def __init__(
        self, address: Address, announce: Callable[[str | None, bool], None] | None
    ) -> None:
        self._address = address
        self._announce = announce
        self._channel = f"pollin_{address.schema}"
        self._connection: Connection[Any] | None = None
        # Endpoints that were changed here, and whether they themselves were.
        self._changed: dict[str | None, bool] = {}
        # No plain lock: a thread that tells may be interrupted while it holds it.
        self._guard = Guard()
        self._listens = self._closing = self._grown = False
        self._messages, self._count_at = 0, FIRST_COUNT
        self._pause = 0.0
        self._wake: socket.socket | None = None
        self._woken: socket.socket
        self._thread = threading.Thread(
            target=self._serve, name=f"pollin-postgres-announcer-{address.schema}", daemon=True
        )
        _announcers.add(self)

    def start(self) -> None:
        """Begin to tell, and to listen."""
        wake, self._woken = socket.socketpair()
        wake.setblocking(False)
        self._woken.setblocking(False)
        self._wake = wake
        try:
            self._thread.start()
        except BaseException:
            wake.close()
            self._woken.close()
            raise

    def tell(self, group: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
        """Have others told what these messages have changed.

        Arguments:
            group: messages that are committed.
            outcomes: theirs. What has changed nothing is not told: processes that look for work
                in vain would wake each other for ever.
        """
        self._messages += len(group)
        if self._messages >= self._count_at:
            self._count_at *= 8
            self._grown = True
            self._ring()
        changed: dict[str | None, bool] = {}
        for job, (reply, failure) in zip(group, outcomes, strict=True):
            if failure is not None or job.run in _QUIET or _is_nothing(job, reply):
                continue
            kind, revised = type(job.message), job.run in _REVISE
            if kind is CreateEndpoint or kind is UpdateEndpoint:
                endpoint_id = job.message.endpoint.id
            else:
                # A sweep has none: what it ends may be anywhere.
                endpoint_id = getattr(job.message, "endpoint_id", None)
            changed[endpoint_id] = changed.get(endpoint_id, False) or revised
        self._add(changed)

    def _add(self, changed: dict[str | None, bool]) -> None:
        if changed:
            self._guard.run(self._add_guarded, changed)

    def _add_guarded(self, changed: dict[str | None, bool]) -> None:
        if not self._changed:
            # Before they are there, so that an interrupt leaves nothing that nobody looks for.
            self._ring()
        for endpoint_id, revised in changed.items():
            self._changed[endpoint_id] = self._changed.get(endpoint_id, False) or revised

    def _is_changed(self) -> bool:
        return bool(self._changed)

    def _take(self) -> dict[str | None, bool]:
        changed, self._changed = self._changed, {}
        return changed

    def close(self) -> None:
        """Tell what is left, then let go of the server."""
        self._closing = True
        self._ring()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _ring(self) -> None:
        if self._wake is not None:
            with suppress(OSError):  # it rings already, or is closed
                self._wake.send(b"x")

    # -- the thread --------------------------------------------------------------------------------

    def _serve(self) -> None:
        told_at = 0.0
        while not self._closing:
            try:
                # Whoever has rung is waited for.
                changed = self._guard.run(self._is_changed)
                if self._announce is not None or changed or self._grown:
                    self._connect()
                if self._grown:
                    self._grown = False
                    self._count()
                left = told_at + TOGETHER_S - monotonic()
                if changed and left <= 0.0:
                    self._tell()
                    told_at = monotonic()
                else:
                    self._wait(left if changed else None)
                self._pause = 0.0
            except Exception as error:
                self._lost(error)
        # Whoever has closed may have been quicker than this thread. But if the server was away the
        # last time, nobody is to wait for it here.
        self._announce = None
        with suppress(Exception):
            if self._changed and not self._pause:
                self._connect()
                self._tell()
        self._drop()
        for end in (self._wake, self._woken):
            if end is not None:
                end.close()

    def _connect(self) -> None:
        if self._connection is not None:
            return
        connection = self._connection = connect(self._address)
        connection.prepare_threshold = None
        if self._announce is None:
            return
        if is_pooled(connection):
            log.info("backend.news_not_heard", backend=NAME, reason="a pooler is in between")
            self._announce = None
            return
        connection.add_notify_handler(lambda notice: self._heard(notice.pid, notice.payload))
        connection.execute(f'LISTEN "{self._channel}"'.encode())
        # Whatever has happened before, somebody else has.
        self._say(None, True)
        self._listens = True

    def _wait(self, timeout: float | None) -> None:
        connection = self._connection
        sources = [self._woken.fileno()]
        if connection is not None:
            sources.append(connection.fileno())
        ready = readable(sources, timeout)
        if self._woken.fileno() in ready:
            with suppress(BlockingIOError):
                while self._woken.recv(4096):
                    pass
        if connection is not None and connection.fileno() in ready:
            connection.pgconn.consume_input()
            while (notice := connection.pgconn.notifies()) is not None:
                self._heard(notice.be_pid, notice.extra.decode())

    def _tell(self) -> None:
        connection = self._connection
        assert connection is not None
        changed = self._guard.run(self._take)
        if len(changed) > MOST_NAMED:
            changed = {None: any(changed.values())}
        payloads = [f"{'r' if revised else 'c'}{id or ''}" for id, revised in changed.items()]
        try:
            with connection.pipeline():
                connection.execute("BEGIN")
                connection.execute(_NO_WAIT)
                connection.execute(_NOTIFY, (self._channel, texts(payloads)))
                connection.execute("COMMIT")
        except BaseException:
            self._add(changed)  # told again rather than not at all
            raise

    def _count(self) -> None:
        connection = self._connection
        assert connection is not None
        tables = ", ".join([f"{quoted(self._address.schema)}.{table}" for table in _TABLES])
        connection.execute(f"ANALYZE {tables}".encode())

    def _heard(self, process: int, payload: str) -> None:
        connection = self._connection
        if connection is not None and process != connection.info.backend_pid and payload:
            self._say(payload[1:] or None, payload[0] == "r")

    def _say(self, endpoint_id: str | None, revised: bool) -> None:
        if self._announce is None:
            return
        try:
            self._announce(endpoint_id, revised)
        except BaseException:
            # Somebody's SystemExit, for one: what comes next is to be heard all the same.
            log_exception("backend.announcement_failed", backend=NAME)

    def _lost(self, error: Exception) -> None:
        self._drop()
        self._pause = min(max(2 * self._pause, FIRST_PAUSE_S), LAST_PAUSE_S)
        if self._closing:
            return
        until = monotonic() + self._pause
        while not self._closing and (left := until - monotonic()) > 0.0:
            with suppress(OSError):
                self._wait(left)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._listens = False
        if connection is not None:
            with suppress(Exception):
                connection.close()


def _is_nothing(job: Job, reply: Any) -> bool:
    """Whether a message that changes something has found nothing to change."""
    if job.run is Operations.claim_slice:
        return isinstance(reply, Claims) and not reply.claims
    return job.run in _MAY_BE_NOTHING and not reply


# -- forks -----------------------------------------------------------------------------------------

_announcers: weakref.WeakSet[Announcer] = weakref.WeakSet()
# Closing a connection in a forked child would end the parent's: they are kept from being closed.
_inherited: list[Connection[Any]] = []


def _after_fork() -> None:
    for announcer in tuple(_announcers):
        announcer._closing = True
        if announcer._connection is not None:
            _inherited.append(announcer._connection)
            announcer._connection = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
