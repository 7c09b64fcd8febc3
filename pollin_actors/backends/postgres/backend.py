"""The backend: its URL, its life, and what it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pollin_actors.backends.forks import unlocked_after_fork
from pollin_actors.backends.interface import StoredVersion
from pollin_actors.backends.postgres.announcer import Announcer
from pollin_actors.backends.postgres.driver import load_driver
from pollin_actors.backends.postgres.failures import unavailable
from pollin_actors.backends.postgres.link import Address, Link
from pollin_actors.backends.postgres.lookback import storable
from pollin_actors.backends.postgres.operations import OPERATIONS
from pollin_actors.backends.postgres.options import read_options, read_url
from pollin_actors.backends.postgres.schema import VERSION, stored_version
from pollin_actors.backends.postgres.writer import Job, Writer, not_open
from pollin_actors.errors import InvalidValue, PollinError
from pollin_actors.messages import Push
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.guard import Guard
from pollin_actors.otp.waiting import simulated_scheduler

if TYPE_CHECKING:
    from pollin_actors.otp.futures import Outcome

__all__ = ["PostgresBackend"]


class PostgresBackend:
    """Keeps endpoints and callbacks in a schema of a PostgreSQL database, version 14 or later.

    Any number of processes on any number of machines may use one schema. In each of them one
    thread sends whatever waits as one transaction, and only then are the messages answered.
    Whoever changes an endpoint, or its queue, locks it until the commit: everything that happens
    there has one order, which all see. Different endpoints do not wait for each other.

    While the server is away, callers get ``BackendUnavailable``; once it is back, work goes on.
    If the connection is lost in the very moment of a commit, the error says that it may have been
    stored: repeat it, with the same id.

    Arguments:
        url: of libpq, such as ``postgresql://user:password@host/database?sslmode=verify-full``.
            Besides libpq's own parameters it may hold those below.
        schema: where the tables are, or will be made: lower-case letters, digits and ``_``.
        synchronous_commit: as the server's setting of that name; what was answered with ``off``
            may be lost with a crash of the server, but nothing is ever damaged.
        lock_timeout: seconds to wait at most while another process holds an endpoint.
        prepare: whether statements may be prepared on the server. They are not where a pooler
            such as PgBouncer is noticed; there ``default_transaction_isolation`` has to be
            ``read committed``.

    Raises:
        InvalidValue: an argument has a value that it cannot have.
        MissingExtra: psycopg is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "pollin",
        synchronous_commit: str = "on",
        lock_timeout: float = 5.0,
        prepare: bool = True,
    ) -> None:
        load_driver()
        options = read_options(schema, synchronous_commit, lock_timeout, prepare)
        self._address = Address(*read_url(url, options))
        self._announce: Callable[[str | None, bool], None] | None = None
        self._announcer: Announcer | None = None
        self._writer: Writer | None = None
        self._guard = Guard()
        unlocked_after_fork(self)

    @classmethod
    def from_url(cls, url: str, /) -> PostgresBackend:
        """Make a backend from a URL such as ``postgresql://user@host/database?schema=inbox``.

        Raises:
            InvalidValue: it is another kind of URL, or has unknown options.
            MissingExtra: psycopg is not installed.
        """
        return cls(url)

    def __repr__(self) -> str:
        return f"PostgresBackend(schema={self._address.schema!r})"

    @property
    def shared(self) -> bool:
        """True: several processes may use the schema."""
        return True

    @property
    def durable(self) -> bool:
        """True: the database outlives the process."""
        return True

    @property
    def durability(self) -> str:
        """What commits wait for: ``synchronous_commit`` as it is set here."""
        return f"synchronous_commit {self._address.synchronous_commit}"

    def stored_version(self) -> StoredVersion:
        """The version of the schema, by a connection of its own. Nothing is made by looking.

        Raises:
            BackendUnavailable: the server cannot be reached, or the schema is not one of ours, or
                comes from a newer version.
        """
        link = Link(self._address)
        try:
            return StoredVersion(stored_version(link.open(), self._address.schema), VERSION)
        except PollinError:
            raise
        except Exception as error:
            raise unavailable(error, self._address.password) from error
        finally:
            link.drop()

    def announce_to(self, announce: Callable[[str | None, bool], None]) -> None:
        """Have ``announce(endpoint_id, revised)`` called after what other processes change.

        Through a pooler nothing can be heard: then whoever waits finds out by looking.
        """
        self._announce = announce

    def open(self, time_ns: Callable[[], int]) -> None:
        """Connect, make the tables if there are none, bring the schema up to date.

        Within a simulated run no thread is started: what waits is committed as a task of its
        scheduler, and nothing is announced.

        Raises:
            BackendUnavailable: the server cannot be reached or is too old; or the schema holds
                something else, or comes from a newer version, and was left untouched.
        """
        self._guard.run(self._open, time_ns)

    def _open(self, time_ns: Callable[[], int]) -> None:
        if self._writer is not None:
            return
        scheduler = simulated_scheduler.get()
        announcer = None if scheduler is not None else Announcer(self._address, self._announce)
        told = _nobody if announcer is None else announcer.tell
        writer = Writer(Link(self._address), time_ns, told, scheduler)
        try:
            if announcer is not None:
                announcer.start()
        except BaseException:
            writer.close()
            raise
        self._writer, self._announcer = writer, announcer

    def execute(self, message: Any) -> ReplyFuture[Any]:
        """Accept a message; the future holds the reply once it is committed.

        Raises:
            BackendUnavailable: the backend is not open.
            InvalidValue: it is no message.
        """
        kind = type(message)
        operation = OPERATIONS.get(kind)
        if operation is None:
            got = f"a {kind.__module__}.{kind.__qualname__}"
            raise InvalidValue("message", "one of pollin_actors.messages", got)
        writer = self._writer
        if writer is None:
            raise not_open()
        stored = storable(message.callback) if kind is Push else None
        future: ReplyFuture[Any] = ReplyFuture()
        writer.submit(Job(operation, message, stored, future))
        return future

    def close(self) -> None:
        """Commit what was accepted, then let go of the server. Closing twice does nothing."""
        writer, announcer = self._writer, self._announcer
        if writer is not None:
            writer.close()
            if announcer is not None:
                announcer.close()
            if self._writer is writer:  # it may have been closed and opened elsewhere
                self._writer = self._announcer = None


def _nobody(group: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
    """Nobody is told."""
