"""The connection to the server: opened, lost and opened again, and never used across a fork."""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from pollin_actors.backends.postgres.exchanges import Call, readable
from pollin_actors.backends.postgres.failures import NAME, survives
from pollin_actors.backends.postgres.watched import connection_class
from pollin_actors.errors import BackendUnavailable

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["Address", "Link", "connect", "is_pooled"]

# libpq's number for a connection without a transaction that waits for no answer.
_IDLE = 0
OLDEST = 14
"""The oldest version of the server that is used."""
PREPARE_AFTER = 2
"""So often a statement is sent before the server is asked to prepare it."""

HALTED_MS = 3_000
"""A process that halts in the middle of a transaction holds an endpoint for no longer than this:
less than others wait for it. Servers do not count what comes after a pipeline, so who waits looks
too. A pooler has a setting of its own."""

ISOLATION = "read committed"
"""Of all that changes something: whoever has waited for an endpoint is to see what was committed
meanwhile, which no other level shows. It may be another by default."""
_SETTINGS = """SELECT current_setting('server_encoding'),
    current_setting('default_transaction_isolation')"""

# Unless the URL says otherwise: a server that is silently gone is noticed within a quarter of a
# minute, and not after the hours that TCP takes.
DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "pollin_actors",
}


class Address(NamedTuple):
    """Where the server is, as parameters of libpq, and how it is to be used."""

    parameters: dict[str, str]
    schema: str
    synchronous_commit: str
    lock_timeout: float
    prepare: bool

    @property
    def password(self) -> str | None:
        """What is not to be shown."""
        return self.parameters.get("password")

    def __repr__(self) -> str:
        return f"Address(schema={self.schema!r})"


def connect(address: Address) -> Connection[Any]:
    """Open a connection, in autocommit mode.

    Raises:
        MissingExtra: psycopg is not installed.
        BackendUnavailable: the server is too old, or its database cannot hold every text.
        psycopg.Error: it cannot be opened.
    """
    connection = _connected(address)
    from psycopg.types.numeric import Int8Dumper

    try:
        version = connection.info.server_version
        if version < OLDEST * 10_000:
            reason = f"the server is PostgreSQL {version // 10_000}, and {OLDEST} is the oldest"
            raise BackendUnavailable(NAME, reason + " that is supported", "upgrade the server")
        # One type for all ints: a statement is prepared once, whatever their values are.
        connection.adapters.register_dumper(int, Int8Dumper)
        (encoding, isolation) = connection.execute(_SETTINGS).fetchone() or ("", "")
        if encoding != "UTF8":
            reason = f"the database is encoded in {encoding}, which cannot hold every text"
            raise BackendUnavailable(NAME, reason, "use a database with the encoding UTF8")
        # A pooler gives out numbers of its own. It may use another connection for each
        # transaction, so nothing is kept there beyond one.
        pooled = is_pooled(connection)
        prepares = address.prepare and not pooled
        connection.prepare_threshold = PREPARE_AFTER if prepares else None
        if not pooled:
            connection.execute(f"SET idle_in_transaction_session_timeout = {HALTED_MS}".encode())
            connection.execute(f"SET default_transaction_isolation = '{ISOLATION}'".encode())
        elif isolation != ISOLATION:
            reason = f"default_transaction_isolation is {isolation}, expected {ISOLATION}"
            hint = "ALTER ROLE ... SET default_transaction_isolation = 'read committed'"
            raise BackendUnavailable(NAME, f"{reason}; a pooler keeps no other", hint)
    except BaseException:
        connection.close()
        raise
    return connection


def _connected(address: Address) -> Connection[Any]:
    connections = connection_class()
    try:
        return connections.connect(**_parameters(address), autocommit=True)
    except Exception as error:
        # Without the frames it came through: some loggers show their variables, and in psycopg's
        # the password is one.
        raise error.with_traceback(None) from None


def _parameters(address: Address) -> dict[str, Any]:
    return {**DEFAULTS, **address.parameters, "client_encoding": "UTF8"}


def is_pooled(connection: Connection[Any]) -> bool:
    """Whether something between us and the server shares out connections."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is None or row[0] != connection.info.backend_pid


class Link:
    """One connection at a time to one server. Used by one thread at a time.

    Arguments:
        address: of the server.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.connection: Connection[Any] | None = None
        self._prepared: Connection[Any] | None = None
        _links.add(self)

    def open(self) -> Connection[Any]:
        """The connection: the one that there is, unless it was lost meanwhile, or a new one.

        Raises:
            MissingExtra, BackendUnavailable, psycopg.Error: it cannot be opened.
        """
        connection = self.connection
        if connection is not None and not self.is_quiet():
            # The server has said something unasked: most likely good-bye. Nothing was sent yet,
            # so nothing is in doubt. Or somebody was interrupted in the middle of a transaction:
            # what follows would not be committed.
            with suppress(Exception):
                connection.pgconn.consume_input()
                connection.pgconn.is_busy()  # has it read
            ends = getattr(connection, "ends", False)
            if connection.closed or connection.broken or ends or not self.is_quiet():
                self.drop()
                connection = None
        if connection is None:
            connection = self.connection = connect(self.address)
        return connection

    def is_quiet(self) -> bool:
        """Whether there is a connection, nothing is open on it, and the server has said nothing
        unasked."""
        connection = self.connection
        if connection is None or connection.pgconn.transaction_status != _IDLE:
            return False
        return not readable([connection.fileno()], 0.0)

    def prepare(self, call: Call) -> bool:
        """Prepare the one call of this link, if that is wanted and was not done on this
        connection; say whether it is prepared.

        Raises:
            psycopg.Error: it cannot be.
        """
        connection = self.connection
        if connection is None or connection.prepare_threshold is None:
            return False
        if self._prepared is not connection:
            call.prepare(connection.pgconn)
            self._prepared = connection
        return True

    def is_prepared(self) -> bool:
        """Whether the call is as it will be sent: prepared, unless nothing is."""
        connection = self.connection
        return connection is not None and (
            self._prepared is connection or connection.prepare_threshold is None
        )

    def undo(self, error: BaseException | None) -> None:
        """Roll back what is open; let go of the connection if the error has made it useless."""
        connection = self.connection
        if connection is None:
            return
        usable = error is None or survives(error)
        if usable:
            try:
                connection.rollback()
            except Exception:
                usable = False
        if not usable:
            self.drop()

    def drop(self) -> None:
        """Let go of the connection; the next use opens another."""
        connection, self.connection = self.connection, None
        self._prepared = None
        if connection is not None:
            with suppress(Exception):
                connection.close()


# -- forks -----------------------------------------------------------------------------------------

_links: weakref.WeakSet[Link] = weakref.WeakSet()
# Closing a connection in a forked child would end the parent's: they are kept from being closed.
_inherited: list[Connection[Any]] = []


def _after_fork() -> None:
    for link in tuple(_links):
        if link.connection is not None:
            _inherited.append(link.connection)
            link.connection = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
