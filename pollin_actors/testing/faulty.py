"""A backend that fails when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Literal

from pollin_actors.backends.interface import Backend
from pollin_actors.errors import BackendUnavailable, InvalidValue

__all__ = ["FaultyBackend", "InjectedFault"]

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
    """Passes messages on to another backend, and makes some of them fail.

    Arguments:
        inner: the backend that does the work.
        seed: of its choices, where a rate is given.

    Example::

        backend = FaultyBackend(MemoryBackend())
        backend.fail(Ack, times=2)                  # the next two acknowledgements
        backend.fail(Push, when="after")            # stored, but nobody is told
        backend.fail(rate=0.1)                      # one message in ten, whatever it is
    """

    def __init__(self, inner: Backend, seed: int = 0) -> None:
        self.inner = inner
        self._random = Random(seed)
        self._faults: list[_Fault] = []
        self.injected = 0
        """How many messages have failed because of it."""

    @property
    def shared(self) -> bool:
        """As the inner backend says."""
        return self.inner.shared

    @property
    def durable(self) -> bool:
        """As the inner backend says."""
        return self.inner.durable

    def fail(
        self,
        *kinds: type,
        when: When = "before",
        times: int | None = None,
        rate: float | None = None,
    ) -> None:
        """Make messages fail, in addition to what was said before.

        Arguments:
            kinds: of these types; none given: of any.
            when: ``"before"`` they take effect, or ``"after"``: the answer is lost then.
            times: so many of them, from now on; None: one, or with a rate all that it meets.
            rate: each with this probability, from 0 to 1.

        Raises:
            InvalidValue: ``when`` or ``rate`` is something else.
        """
        if when not in ("before", "after"):
            raise InvalidValue("when", "'before' or 'after'", repr(when))
        if rate is not None and not 0 <= rate <= 1:
            raise InvalidValue("rate", "a number from 0 to 1", repr(rate))
        left = (1 if rate is None else None) if times is None else times
        self._faults.append(_Fault(frozenset(kinds), when, left, rate))

    def heal(self) -> None:
        """Let nothing fail any more."""
        self._faults.clear()

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
        fault = self._fault_for(message, self._faults)
        if fault is None:
            return self.inner.execute(message)
        self.injected += 1
        if fault.when == "after":
            self.inner.execute(message)
        raise InjectedFault(fault.when)

    def _fault_for(self, message: Any, faults: Iterable[_Fault]) -> _Fault | None:
        for fault in list(faults):
            if fault.kinds and type(message) not in fault.kinds:
                continue
            if fault.rate is not None and self._random.random() >= fault.rate:
                continue
            if fault.left is not None:
                fault.left -= 1
                if fault.left <= 0:
                    self._faults.remove(fault)
            return fault
        return None


class _Fault:
    """Which messages fail, how, and how many more."""

    def __init__(
        self, kinds: frozenset[type], when: When, left: int | None, rate: float | None
    ) -> None:
        self.kinds = kinds
        self.when = when
        self.left = left
        self.rate = rate
