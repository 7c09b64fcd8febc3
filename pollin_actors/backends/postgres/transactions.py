"""What is done with a group of messages: one transaction, and only then the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from pollin_actors.backends.postgres import statements as sql
from pollin_actors.backends.postgres.arrays import is_text, numbers, texts
from pollin_actors.backends.postgres.compiling import Job, acks_from, pushes_from, shots_of
from pollin_actors.backends.postgres.exchanges import Call, encoded, receive
from pollin_actors.backends.postgres.failures import (
    NAME,
    is_cancelled,
    is_farewell,
    is_isolated,
    is_lock_timeout,
    is_outdated,
    is_rivalry,
    unavailable,
)
from pollin_actors.backends.postgres.operations import ALONE, READS, Operations
from pollin_actors.backends.postgres.pushes import PUSH_ONE, PUSH_ONE_VALUES
from pollin_actors.backends.postgres.schema import VERSION, check_version
from pollin_actors.backends.postgres.shots import Refused, Shot
from pollin_actors.errors import PollinError
from pollin_actors.otp.last_words import log_exception

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

    from pollin_actors.backends.postgres.link import Link
    from pollin_actors.backends.postgres.rows import Terms
    from pollin_actors.otp.futures import Outcome

__all__ = ["Transactions"]

SILENT_MS = 3_000
"""So long a session that holds an endpoint may say nothing in the middle of a transaction."""

log = structlog.get_logger("pollin_actors")

# So often a group is tried that collides with others, or whose connection turns out to be lost.
_ATTEMPTS = 3

_ENTER = "{s}.enter(%s, %s, %s, %s, %s)"
_BEGIN = f"SELECT {_ENTER}"
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class _Unknown(Exception):
    """The connection was lost while it was committed, which is the cause."""


class Transactions:
    """Commits groups.

    Arguments:
        link: the connection.
        operations: what is done on it.
        told: called after a commit, with the messages that it has carried out, and their outcomes.
    """

    def __init__(
        self,
        link: Link,
        operations: Operations,
        told: Callable[[Sequence[Job], Sequence[Outcome]], None],
    ) -> None:
        self._link = link
        self._operations = operations
        self._told = told
        self._call = Call(operations.statement(PUSH_ONE), PUSH_ONE_VALUES, 2)
        address = link.address
        self._entering = (
            VERSION,
            address.synchronous_commit,
            f"{max(round(address.lock_timeout * 1000), 1)}ms",
        )

    def commit(self, group: Sequence[Job]) -> None:
        """Commit and answer a group; what cannot be committed is answered with its error."""
        parts = _parts(group)
        for part in parts:
            self._commit(part)

    def _commit(self, group: Sequence[Job]) -> None:
        try:
            outcomes = self._attempt(group)
        except Exception as error:
            if len(group) > 1 and not isinstance(error, _Unknown):
                if is_isolated(error):
                    # One of them is to blame, and only that one is to fail.
                    for job in group:
                        self._commit([job])
                    return
                if is_lock_timeout(error) or is_cancelled(error):
                    self._commit_beside(group)
                    return
            self._settle(group, [self._failure(group, error)] * len(group))
            return
        self._told(group, outcomes)
        self._settle(group, outcomes)

    def _commit_beside(self, group: Sequence[Job]) -> None:
        """One by one, where somebody holds an endpoint; who waited for it once waits no more. Or
        twice, if it is not certain that it was waiting that took so long."""
        held: dict[str, Exception] = {}
        slow: set[str] = set()
        for job in group:
            endpoint_id = _endpoint_id(job) or ""
            known = held.get(endpoint_id)
            if known is not None:
                self._settle([job], [self._failure([job], known)])
                continue
            try:
                outcomes = self._attempt([job])
            except Exception as error:
                cancelled = is_cancelled(error)
                if is_lock_timeout(error) or (cancelled and endpoint_id in slow):
                    held[endpoint_id] = error
                elif cancelled:
                    slow.add(endpoint_id)
                self._settle([job], [self._failure([job], error)])
                continue
            self._told([job], outcomes)
            self._settle([job], outcomes)

    def _attempt(self, group: Sequence[Job]) -> list[Outcome]:
        """Commit a group, again if need be, as long as it is certain that it was not committed."""
        attempts = _ATTEMPTS
        while True:
            attempts -= 1
            # Whatever cannot be reached is an error of connecting, not of the group.
            connection = self._link.open()
            try:
                return self._once(connection, group)
            except Exception as error:
                again = is_rivalry(error) or connection.closed
                self._operations.undone()
                self._link.undo(error)
                waited = is_lock_timeout(error) or is_cancelled(error)
                again = again or (waited and self._end_halted())
                if not again or attempts <= 0 or isinstance(error, _Unknown):
                    raise

    def _end_halted(self) -> bool:
        """End sessions of our own user that hold an endpoint and have fallen silent in the middle
        of a transaction; whether there was one. Whoever was behind it finds its connection lost,
        and what it had begun undone."""
        try:
            rows = self._send(self._link.open(), sql.END_HALTED, (SILENT_MS,)).fetchall()
        except Exception as error:
            self._link.undo(error)
            return False
        for process, _ in rows:
            log.warning("backend.halted_session_ended", backend=NAME, pid=process)
        return bool(rows)

    # -- one attempt -------------------------------------------------------------------------------

    def _once(self, connection: Connection[Any], group: Sequence[Job]) -> list[Outcome]:
        try:
            outcomes = self._push_one(connection, group[0]) if len(group) == 1 else None
            if outcomes is None:
                shots = shots_of(self._operations, group)
                outcomes = None if shots is None else self._shoot(connection, shots)
        except Exception as error:
            if not is_outdated(error):
                raise
            # Nothing was changed. With a look at what is there, it will be.
            connection.rollback()
            outcomes = None
        return self._converse(connection, group) if outcomes is None else outcomes

    def _push_one(self, connection: Connection[Any], job: Job) -> list[Outcome] | None:
        """The most frequent case of all, in the shortest way."""
        if job.run is not Operations.push:
            return None
        try:
            found = self._operations.lone_push(job.message, job.stored)
        except TypeError:  # an id that cannot be looked up
            return None
        if found is None:
            return None
        values, reply = found
        self._sure(connection, lambda: self._receive_push(connection, values))
        return [(reply, None)]

    def _receive_push(self, connection: Connection[Any], values: list[bytes | None]) -> None:
        self._link.prepare(self._call)
        self.send_push(connection, values)
        error = receive(connection.pgconn, None)
        if error is not None:
            raise error

    def send_push(
        self, connection: Connection[Any], values: list[bytes | None], patience: int | None = None
    ) -> None:
        """Send a push of one callback: what ``lone_push`` has made of it.

        Arguments:
            connection: to the server.
            values: of the callback.
            patience: milliseconds to wait while another process holds the endpoint, if it is not
                as long as usual.
        """
        entering = [encoded(value) for value in self._entering]
        if patience is not None:
            entering[-1] = encoded(f"{patience}ms")
        prepared = connection.prepare_threshold is not None
        self._call.send(connection.pgconn, [*entering, *values], prepared)

    def _shoot(self, connection: Connection[Any], shots: Sequence[Shot]) -> list[Outcome]:
        """All that is to be done goes to the server at once, and then all answers come."""
        queues = {queue: number for shot in shots for queue, number in shot.queues.items()}
        ordered = sorted(queues)
        entering = (
            *self._entering,
            numbers(ordered),
            numbers([queues[queue] for queue in ordered]),
        )
        if len(shots) == 1:
            # One statement is a transaction by itself.
            (shot,) = shots
            query = f"SELECT f.* FROM {_ENTER} AS e, LATERAL {shot.call.replace('{e}', 'e.e')} AS f"
            cursors = [
                self._sure(
                    connection,
                    lambda: self._send(connection, query, (*entering, *shot.values)),
                )
            ]
        else:
            cursors = self._sure(connection, lambda: self._send_all(connection, entering, shots))
        outcomes: list[Outcome] = []
        for shot, cursor in zip(shots, cursors, strict=True):
            try:
                outcomes += map(_outcome, shot.finish(cursor.fetchall()))
            except Exception as error:  # a row that is damaged, for one
                outcomes += [_outcome(Refused(error))] * shot.size
        return outcomes

    def _send_all(
        self, connection: Connection[Any], entering: tuple[Any, ...], shots: Sequence[Shot]
    ) -> list[Cursor[Any]]:
        with connection.pipeline():
            connection.execute("BEGIN")
            self._send(connection, f"SELECT {_ENTER}", entering)
            cursors = [
                self._send(
                    connection, f"SELECT * FROM {shot.call.replace('{e}', 'true')}", shot.values
                )
                for shot in shots
            ]
            connection.execute("COMMIT")
        return cursors

    def _send(
        self, connection: Connection[Any], query: str, values: Sequence[Any] = ()
    ) -> Cursor[Any]:
        return connection.execute(self._operations.statement(query), values, binary=True)

    def _sure(self, connection: Connection[Any], send: Callable[[], Any]) -> Any:
        """Send what commits; if the connection is lost at that, nobody knows what has become."""
        try:
            return send()
        except Exception as error:
            if connection.closed and not is_farewell(error):
                raise _Unknown from error
            raise

    def _converse(self, connection: Connection[Any], group: Sequence[Job]) -> list[Outcome]:
        """Look at what is there, and do one after another."""
        operations, reads = self._operations, _only_reads(group)
        ids = {id for id in map(_endpoint_id, group) if id is not None and is_text(id)}
        try:
            with connection.pipeline():
                connection.execute(_READ if reads else "BEGIN")
                self._send(connection, _BEGIN, (*self._entering, "{}", "{}"))
                rows = self._send(connection, sql.FIND[not reads], (texts([*ids]),))
        except Exception:
            if not connection.closed:
                connection.rollback()
                # It may be that the functions are gone, or others than ours.
                check_version(connection, self._link.address.schema)
            raise
        operations.begun(connection, ids, rows.fetchall(), not reads)
        outcomes = self._execute(connection, group)
        if reads:
            connection.execute("COMMIT")
        else:
            self._sure(connection, lambda: connection.execute("COMMIT"))
        return outcomes

    def _execute(self, connection: Connection[Any], group: Sequence[Job]) -> list[Outcome]:
        operations = self._operations
        outcomes: list[Outcome] = []
        for number, job in enumerate(group):
            if number < len(outcomes):
                continue  # done with those before it
            try:
                results = self._many(group, number)
                if results is None:
                    outcomes.append((job.run(operations, job.message, job.stored), None))
                else:
                    outcomes += map(_outcome, results)
            except PollinError as error:
                outcomes.append(_outcome(Refused(error)))
        return outcomes

    def _many(self, group: Sequence[Job], number: int) -> list[Any] | None:
        """The replies of those that are carried out by one call from there on, if they are."""
        operations, job = self._operations, group[number]
        if number + 1 == len(group) or group[number + 1].run is not job.run:
            return None
        shot = None
        if job.run is Operations.push:
            shot = operations.push_shot(pushes_from(group, number), self._terms_of, False)
        elif job.run is Operations.ack:
            terms = operations._terms(job.message)
            try:
                acks = acks_from(group, number, terms.endpoint.id)
                shot = operations.ack_shot(acks, terms)
            except PollinError:
                return None  # one of them; each says it for itself
        return None if shot is None else operations._fire(shot)

    def _terms_of(self, message: Any) -> Terms | None:
        try:
            return self._operations._terms(message)
        except (PollinError, TypeError):
            return None

    # -- tidying -----------------------------------------------------------------------------------

    def forget(self, limit: int) -> None:
        """Forget what has been gone for long enough, so many at most; if it cannot be done, it is
        left to another time."""
        connection = self._link.connection
        if connection is None:
            return
        try:
            with connection.pipeline():
                connection.execute("BEGIN")
                self._send(connection, _BEGIN, (*self._entering, "{}", "{}"))
            self._operations.begun(connection, (), (), True)
            self._operations.forget(limit)
            connection.execute("COMMIT")
        except Exception as error:
            self._operations.undone()
            self._link.undo(error)

    # -- answers -----------------------------------------------------------------------------------

    def answer(self, job: Job, reply: Any) -> None:
        """Answer what is committed; whatever a callback of the future raises, or an interrupt of
        this thread, is raised: then it is to be called again."""
        outcomes = [_outcome(reply)]
        self._told([job], outcomes)
        job.future._settle(outcomes[0])

    def doubt(self, job: Job, error: Exception) -> None:
        """Answer what may have been committed or not."""
        told = unavailable(error, self._link.address.password, unknown=True)
        self._settle([job], [_outcome(Refused(told))])

    def _failure(self, group: Sequence[Job], error: Exception) -> Outcome:
        told: Exception = error
        if isinstance(error, _Unknown):
            cause = error.__cause__ or error
            told = unavailable(cause, self._link.address.password, unknown=True)
        elif not isinstance(error, PollinError):
            told = unavailable(error, self._link.address.password)
        return _outcome(Refused(told))

    def _settle(self, group: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
        for job, outcome in zip(group, outcomes, strict=True):
            try:
                job.future._settle(outcome)
            except BaseException:
                # Some callback's doing, and the others are to be answered.
                log_exception("backend.callback_failed", backend="postgresql")


def _outcome(reply: Any) -> Outcome:
    if isinstance(reply, Refused):
        error = reply.error
        return None, (type(error), error, error.__traceback__)
    return reply, None


def _parts(group: Sequence[Job]) -> list[Sequence[Job]]:
    """The group, cut where a message needs a transaction of its own."""
    if not any(job.run in ALONE for job in group):
        return [group]
    parts: list[Sequence[Job]] = []
    begin = 0
    for number, job in enumerate(group):
        if job.run in ALONE:
            parts += [part for part in (group[begin:number], [job]) if part]
            begin = number + 1
    return [*parts, group[begin:]] if begin < len(group) else parts


def _only_reads(group: Sequence[Job]) -> bool:
    return all(job.run in READS for job in group)


def _endpoint_id(job: Job) -> str | None:
    message = job.message
    endpoint_id = getattr(message, "endpoint_id", None)
    if endpoint_id is None:
        endpoint_id = getattr(getattr(message, "endpoint", None), "id", None)
    return endpoint_id if isinstance(endpoint_id, str) else None
