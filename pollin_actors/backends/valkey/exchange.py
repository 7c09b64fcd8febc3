"""Messages in flight: sent together, answered in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from secrets import token_hex
from time import monotonic
from typing import Any

from pollin_actors.backends.valkey.commands import Call, refuse
from pollin_actors.backends.valkey.encoding import endpoint_key, time
from pollin_actors.backends.valkey.failures import (
    answer_lost,
    is_missing_function,
    moved_to,
    starts_anew,
    unavailable,
)
from pollin_actors.backends.valkey.library import function as name_of
from pollin_actors.backends.valkey.node import Node, errors, packed
from pollin_actors.backends.valkey.topology import Topology
from pollin_actors.errors import BackendUnavailable, PollinError
from pollin_actors.otp.futures import Outcome, ReplyFuture
from pollin_actors.otp.last_words import log_exception

__all__ = ["Exchange", "Job"]

# What is sent before answers are read.
_BYTES = 4 * 1024 * 1024
# How often a message is sent again of which the server says that it did nothing.
_TRIES = 6


class Job:
    """A message, and the future that holds its answer.

    Arguments:
        message: what is to be done.
        call: the one function that does it; None if it takes several steps.
        sender: the thread that has sent it.
    """

    __slots__ = ("call", "future", "message", "sender", "tries")

    def __init__(self, message: Any, call: Call | None, sender: int) -> None:
        self.message = message
        self.call = call
        self.sender = sender
        self.tries = 0
        self.future: ReplyFuture[Any] = ReplyFuture()


class Exchange:
    """Sends messages and reads their answers. One thread at a time may use it.

    Nothing is ever sent a second time unless the server has said that it did nothing, or the
    message changes nothing.

    Arguments:
        topology: the servers.
        prefix: with which all keys begin.
        label: what errors call the store.
        timeout: seconds for which answers are waited for.
        time_ns: the clock.
    """

    def __init__(
        self,
        topology: Topology,
        prefix: str,
        label: str,
        timeout: float,
        time_ns: Callable[[], int],
    ) -> None:
        self.topology = topology
        self.prefix = prefix
        self.label = label
        self.time_ns = time_ns
        # No generator: an interrupt inside one would be its end.
        self._name, self._numbers = token_hex(6), count()
        self._in_flight: dict[Node, deque[Job]] = {}
        # Until when their answers are waited for.
        self._timeout = timeout
        self._until = 0.0
        # Whether the first ones of all servers are known to be there.
        self._have_come = False
        # Where the last sweep ended in the list of endpoints.
        self.swept = 0

    @property
    def is_waiting(self) -> bool:
        """Whether answers are missing."""
        return bool(self._in_flight)

    def is_ready(self, jobs: list[Job]) -> bool:
        """Whether the servers are connected that these messages are for."""
        topology = self.topology
        if not topology.is_known:
            return False
        if not topology.is_cluster:
            return topology.node_of(b"").is_ready()
        keys = [endpoint_key(self.prefix, job.call.endpoint_id) for job in jobs if job.call]
        return all(topology.node_of(key).is_ready() for key in keys)

    # -- one after another, for operations of several steps ----------------------------------------

    def call(self, function: str, key: bytes, *arguments: bytes) -> Any:
        """Call a function now and return its reply. Nothing may be in flight.

        Raises:
            BackendUnavailable: it could not be carried out, or nobody knows.
        """
        return self.ask(key, self.command(function, key, b"", list(arguments)))

    def ask(self, key: bytes, command: bytes) -> Any:
        """Send one command to the server that holds a key and return its reply."""
        (reply,) = self.ask_all([(key, command)])
        if isinstance(reply, BackendUnavailable):
            raise reply
        return reply

    def ask_all(self, commands: list[tuple[bytes, bytes]]) -> list[Any]:
        """Send commands, each to the server that holds its key. Return their replies, in whose
        place are the errors of those that failed."""
        replies: list[Any] = [None] * len(commands)
        missing = dict(enumerate(commands))
        for _ in range(_TRIES):
            missing = self._ask_some(missing, replies)
            if not missing:
                return replies
        raise BackendUnavailable("valkey", f"{self.label}: the cluster does not come to rest")

    def _ask_some(
        self, wanted: dict[int, tuple[bytes, bytes]], replies: list[Any]
    ) -> dict[int, tuple[bytes, bytes]]:
        """Ask, and return what is to be asked again."""
        self.open()
        asked: dict[Node, list[int]] = {}
        for number, (key, _) in wanted.items():
            asked.setdefault(self.topology.node_of(key), []).append(number)
        again: dict[int, tuple[bytes, bytes]] = {}
        for node, numbers in asked.items():
            left = deque(numbers)
            is_sent = False
            try:
                node.open()
                is_sent = True
                node.send([wanted[number][1] for number in numbers])
                while left:
                    number = left[0]
                    try:
                        replies[number] = node.read()
                    except errors():
                        raise
                    except Exception as error:
                        if self._comes_again(node, error):
                            again[number] = wanted[number]
                        else:
                            replies[number] = unavailable(self.label, error)
                    left.popleft()
            except Exception as error:
                self._give_up(node)
                for number in left:
                    replies[number] = self._told(error, is_sent)
        return again

    # -- many at once ------------------------------------------------------------------------------

    def send(self, jobs: list[Job], is_ready: bool = False) -> None:
        """Send the first of these messages: none of them takes several steps.

        Those that cannot be sent have failed.

        Arguments:
            jobs: the messages.
            is_ready: what :meth:`is_ready` has just said of them.
        """
        try:
            if not is_ready:
                self.open()
        except BackendUnavailable as error:
            self._fail(jobs, error)
            return
        batch = f"{self._name}-{next(self._numbers)}".encode()
        commands: dict[Node, list[bytes]] = {}
        sent: dict[Node, deque[Job]] = {}
        for node, job, command in self._routed(jobs, batch):
            commands.setdefault(node, []).append(command)
            sent.setdefault(node, deque()).append(job)
        for node, some in commands.items():
            try:
                if not is_ready:
                    node.open()
            except Exception as error:
                self._give_up(node)
                self._fail(sent[node], self._told(error, False))
                continue
            # From here on nobody knows what was carried out, until the answers are there.
            self._in_flight[node] = sent[node]
            try:
                node.send(some)
            except errors() as error:
                self._lose(node, error)
        self._until = monotonic() + self._timeout
        self._have_come = False

    def _routed(self, jobs: list[Job], batch: bytes) -> Iterator[tuple[Node, Job, bytes]]:
        where: dict[int, Node] = {}
        held: set[int] = set()
        size = 0
        several = self.topology.is_cluster
        for job in jobs:
            call = job.call
            assert call is not None
            key = endpoint_key(self.prefix, call.endpoint_id)
            node = self.topology.node_of(key)
            if several:
                # What one thread has sent takes effect in that order: on another server not before
                # this one has answered.
                if where.setdefault(job.sender, node) is not node:
                    held.add(job.sender)
                if job.sender in held:
                    continue
            command = self.command(call.function, key, batch, call.arguments)
            yield node, job, command
            size += len(command)
            if size > _BYTES:
                return

    def command(self, function: str, key: bytes, batch: bytes, arguments: list[bytes]) -> bytes:
        now = time(self.time_ns())
        return packed(b"FCALL", name_of(function), b"1", key, now, batch, *arguments)

    def answers(self, timeout: float | None) -> bool:
        """Wait until there are answers, or none can be hoped for; say whether it is so. Nothing is
        read.

        Arguments:
            timeout: seconds to wait at most.
        """
        until, is_last = self._until, True
        if timeout is not None and monotonic() + timeout < until:
            until, is_last = monotonic() + timeout, False
        self._have_come = all(node.wait(until - monotonic()) for node in self._in_flight)
        return self._have_come or is_last

    def read(self) -> None:
        """Read all answers and settle the futures of their messages."""
        nodes = list(self._in_flight)
        if len(nodes) > 1 and not self._have_come:
            # Who is silent keeps nobody from the answers of the others.
            nodes.sort(key=lambda node: not node.wait(0.0))
        for node in nodes:
            jobs = self._in_flight[node]
            try:
                if not (self._have_come or node.wait(self._until - monotonic())):
                    raise TimeoutError(f"no answer within {self._timeout:g} s")
                while jobs:
                    self._read_one(node, jobs[0])
                    jobs.popleft()
            except errors() as error:
                self._lose(node, error)
            else:
                del self._in_flight[node]

    def _read_one(self, node: Node, job: Job) -> None:
        assert job.call is not None
        try:
            reply = node.read()
        except errors():
            raise
        except Exception as error:
            job.tries += 1
            if job.tries >= _TRIES or not self._comes_again(node, error):
                self._settle(job, _raised(unavailable(self.label, error)))
            return
        if reply[0] == b"again":
            # Much has expired at this endpoint, and it has got on with that. So is answered what
            # came after it in this batch for the same endpoint: that keeps its place behind it.
            return
        self._settle(job, self._outcome(job, reply))

    def _outcome(self, job: Job, reply: Any) -> Outcome:
        call = job.call
        assert call is not None
        try:
            if reply[0] not in (b"ok", b"not storable"):
                refuse(job.message, reply)
            return call.read(reply, self.label), None
        except PollinError as error:
            return _raised(error)
        except Exception as error:
            # A defect of ours, or somebody else's reply: it is this message's only.
            log_exception("backend.reply_not_understood", server=self.label)
            return _raised(answer_lost(self.label, error))

    def _comes_again(self, node: Node, error: Exception) -> bool:
        """Whether a message of which this came did nothing, and may succeed next time."""
        if is_missing_function(error):
            node.forget_library()
            return True
        where = moved_to(error)
        if where is not None and self.topology.is_cluster:
            self.topology.moved(*where)
            return True
        if starts_anew(error):
            self.topology.look_again()
        return False

    # -- what goes wrong ---------------------------------------------------------------------------

    def open(self) -> None:
        """Find the servers, if they are not known.

        Raises:
            BackendUnavailable: they cannot be reached, or used.
        """
        try:
            self.topology.open()
        except Exception as error:
            self.drop()
            told = self._told(error, False)
            raise told from told.__cause__

    def drop(self) -> None:
        """Let go of all connections. Nothing may be in flight."""
        self.topology.close()

    def lose(self) -> None:
        """Give up what is in flight, of which nobody knows how far it was read."""
        for node in list(self._in_flight):
            self._lose(node, None)
        self.drop()

    def _give_up(self, node: Node) -> None:
        node.close()
        self.topology.look_again()

    def _told(self, error: Exception, is_sent: bool) -> BackendUnavailable:
        """What is said of a message that has failed so."""
        if isinstance(error, BackendUnavailable):
            return error
        return (answer_lost if is_sent else unavailable)(self.label, error)

    def _lose(self, node: Node, error: Exception | None) -> None:
        self._give_up(node)
        told = answer_lost(self.label, None) if error is None else self._told(error, True)
        for job in self._in_flight[node]:
            assert job.call is not None
            job.tries += 1
            # What changes nothing is simply asked again, twice.
            if job.call.changes or job.tries > 2:
                self._settle(job, _raised(told))
        # Not before: what is neither in flight nor answered is sent, and must never be a second
        # time, wherever an interrupt comes.
        del self._in_flight[node]

    def _fail(self, jobs: Iterable[Job], error: BackendUnavailable) -> None:
        for job in jobs:
            self._settle(job, _raised(error))

    def _settle(self, job: Job, outcome: Outcome) -> None:
        try:
            job.future._settle(outcome)
        except Exception:
            # Some callback's doing, and the others are to be answered.
            log_exception("backend.callback_failed", server=self.label)


def _raised(error: PollinError) -> Outcome:
    return None, (type(error), error, error.__traceback__)
