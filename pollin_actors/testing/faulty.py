"""A backend that fails, or answers late, when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random
from typing import Any, Literal

from pollin_actors.actors.callback_actor import FUTURES
from pollin_actors.backends.interface import Announces, Backend
from pollin_actors.errors import BackendUnavailable, InvalidValue
from pollin_actors.otp import Later, ReplyFuture

__all__ = ["FaultyBackend", "InjectedFault", "innermost"]

When = Literal["before", "after"]


class InjectedFault(BackendUnavailable):
    """What a message meets that was chosen to fail."""

    def __init__(self, when: When) -> None:
        self.when = when
        what = "nothing was changed" if when == "before" else "it was carried out all the same"
        super().__init__("faulty", f"a fault was injected, and {what}", "this is a test")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.when,)


class FaultyBackend:
    """Passes messages on to another backend, and makes some of them fail, or wait for answers.

    Any backend will do, whether it answers with values or with futures.

    Arguments:
        inner: the backend that does the work.
        seed: of its choices, where a rate is given.

    Example::

        backend = FaultyBackend(MemoryBackend())
        backend.fail(Ack, times=2)                  # the next two acknowledgements
        backend.fail(Ack, skip=4)                   # the fifth
        backend.fail(Push, when="after")            # stored, but nobody is told
        backend.fail(rate=0.1)                      # one message in ten, whatever it is
        backend.delay(ClaimSlice, seconds=3, rate=1)
    """

    def __init__(self, inner: Backend, seed: int = 0) -> None:
        self.inner = inner
        self._random = Random(seed)
        self._lock = threading.Lock()
        self._faults: list[_Rule] = []
        self._delays: list[_Rule] = []
        self.injected = 0
        """How many messages have failed because of it."""
        self.call_later: Callable[[float, Callable[[], object]], object] = _call_later
        """Who waits where answers are late; a ``Tester`` puts its virtual time here."""

    @property
    def shared(self) -> bool:
        """As the inner backend says."""
        return self.inner.shared

    @property
    def durable(self) -> bool:
        """As the inner backend says."""
        return self.inner.durable

    @property
    def durability(self) -> str | None:
        """As the inner backend says, if it does."""
        return getattr(self.inner, "durability", None)

    def fail(
        self,
        *kinds: type,
        when: When = "before",
        times: int | None = None,
        rate: float | None = None,
        skip: int = 0,
    ) -> None:
        """Make messages fail, in addition to what was said before.

        Arguments:
            kinds: of these types; none given: of any.
            when: ``"before"`` they take effect, or ``"after"``: the answer is lost then.
            times: so many of them, from now on; None: one, or with a rate all that it meets.
            rate: each with this probability, from 0 to 1.
            skip: leave the first so many alone.

        Raises:
            InvalidValue: an argument is something else.
        """
        if when not in ("before", "after"):
            raise InvalidValue("when", "'before' or 'after'", repr(when))
        self._faults.append(_Rule(kinds, times, rate, skip, when=when))

    def delay(
        self,
        *kinds: type,
        seconds: float,
        times: int | None = None,
        rate: float | None = None,
        skip: int = 0,
    ) -> None:
        """Make answers late, in addition to what was said before: the messages take effect at once.

        Arguments:
            seconds: how late.
            kinds, times, rate, skip: which, as for ``fail``.

        Raises:
            InvalidValue: an argument is something else.
        """
        if not seconds > 0:
            raise InvalidValue("seconds", "more than 0", repr(seconds))
        self._delays.append(_Rule(kinds, times, rate, skip, seconds=seconds))

    def heal(self) -> None:
        """Let nothing fail any more, and nothing be late. Answers that are late already stay so."""
        with self._lock:
            self._faults.clear()
            self._delays.clear()

    def announce_to(self, announce: Callable[[str | None, bool], None]) -> None:
        """Have the inner backend announce what others do, if it can."""
        if isinstance(self.inner, Announces):
            self.inner.announce_to(announce)

    def open(self, time_ns: Callable[[], int]) -> None:
        """Open the inner backend."""
        self.inner.open(time_ns)

    def close(self) -> None:
        """Close the inner backend."""
        self.inner.close()

    def execute(self, message: Any) -> Any:
        """Pass a message on, unless it is to fail.

        Raises:
            InjectedFault: it was chosen to fail.
            PollinError: what the inner backend raises.
        """
        if not self._faults and not self._delays:
            return self.inner.execute(message)
        with self._lock:
            late = self._choose(message, self._delays)
            fault = self._choose(message, self._faults)
            self.injected += fault is not None
        error = InjectedFault(fault.when) if fault is not None else None
        reply = None
        if fault is None or fault.when == "after":
            reply = self.inner.execute(message)
        if late is not None or (error is not None and isinstance(reply, FUTURES)):
            return self._answer_later(reply, error, late.seconds if late is not None else 0.0)
        if error is not None:
            raise error
        return reply

    def _choose(self, message: Any, rules: list[_Rule]) -> _Rule | None:
        for rule in list(rules):
            if rule.meets(message, self._random):
                if rule.left is not None and rule.left <= 0:
                    rules.remove(rule)
                return rule
        return None

    def _answer_later(
        self, reply: Any, error: InjectedFault | None, seconds: float
    ) -> ReplyFuture[Any]:
        """A future of the answer, or of the error, once the inner backend has answered."""
        answer: ReplyFuture[Any] = ReplyFuture()

        def settle() -> None:
            try:
                value = inner.get(timeout=0)
            except Exception as refusal:
                answer._fail(refusal)
                return
            if error is not None:
                answer._fail(error)
            else:
                answer._settle((value, None))

        def answered(_: object) -> None:
            if seconds:
                self.call_later(seconds, settle)
            else:
                settle()

        inner = _future_of(reply)
        if not seconds:
            answer._via = inner  # whoever waits may help the inner backend
        inner.add_done_callback(answered)
        return answer


class _Rule:
    """Which messages are chosen, how many more, and what for."""

    def __init__(
        self,
        kinds: tuple[type, ...],
        times: int | None,
        rate: float | None,
        skip: int,
        *,
        when: When = "before",
        seconds: float = 0.0,
    ) -> None:
        if rate is not None and not 0 <= rate <= 1:
            raise InvalidValue("rate", "a number from 0 to 1", repr(rate))
        if times is not None and times < 1:
            raise InvalidValue("times", "at least 1", repr(times))
        if skip < 0:
            raise InvalidValue("skip", "at least 0", repr(skip))
        self._kinds = frozenset(kinds)
        self._rate = rate
        self._skip = skip
        self.left = (1 if rate is None else None) if times is None else times
        self.when = when
        self.seconds = seconds

    def meets(self, message: Any, random: Random) -> bool:
        """Whether this message is one of them; it is counted then."""
        if self._kinds and type(message) not in self._kinds:
            return False
        if self._skip > 0:
            self._skip -= 1
            return False
        if self._rate is not None and random.random() >= self._rate:
            return False
        if self.left is not None:
            self.left -= 1
        return True


def innermost(backend: Backend) -> Backend:
    """The backend that does the work, below however many faulty ones."""
    while isinstance(backend, FaultyBackend):
        backend = backend.inner
    return backend


def _future_of(reply: Any) -> ReplyFuture[Any]:
    if isinstance(reply, FUTURES):
        return Later(reply).future
    future: ReplyFuture[Any] = ReplyFuture()
    future.set(reply)
    return future


def _call_later(seconds: float, function: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
    return timer
