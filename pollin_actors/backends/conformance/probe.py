"""What the checks are written with: a store, a clock that is set by hand, and comparisons."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import pykka

from pollin_actors.backends.interface import Backend
from pollin_actors.messages import Count, CreateEndpoint, FetchSlice, Push
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.resources import Callback, Endpoint

__all__ = [
    "MS",
    "SECOND",
    "Check",
    "NewBackend",
    "NewStore",
    "Probe",
    "answer",
    "expect",
    "refuses",
]

E = TypeVar("E", bound=BaseException)

NewBackend: TypeAlias = Callable[[], Backend]
NewStore: TypeAlias = Callable[[], NewBackend]
Check: TypeAlias = Callable[[NewStore], None]

MS = 1_000_000
SECOND = 1000 * MS
WAIT_S = 60.0


def expect(got: object, expected: object, what: str) -> None:
    """Raise unless both are equal and of the same kind."""
    if got != expected or isinstance(got, bool) is not isinstance(expected, bool):
        raise AssertionError(f"{what}: expected {expected!r}, got {got!r}")


def refuses(error: type[E], act: Callable[..., object], *args: Any) -> E:
    """Raise unless ``act(*args)`` raises such an error, which is returned."""
    what = repr(args[0])
    try:
        got = act(*args)
    except error as caught:
        return caught
    except Exception as other:
        raise AssertionError(f"{what}: expected {error.__name__}, got {other!r}") from other
    raise AssertionError(f"{what}: expected {error.__name__}, got the reply {got!r}")


def answer(reply: Any) -> Any:
    """What ``execute`` returned, or what it holds once it is there if that is a future.

    Raises:
        AssertionError: it was given up, or is not there for a long time.
    """
    try:
        if isinstance(reply, ReplyFuture):
            return reply.get(timeout=WAIT_S)
        if isinstance(reply, concurrent.futures.Future):
            return reply.result(timeout=WAIT_S)
    except (pykka.Timeout, TimeoutError, concurrent.futures.CancelledError) as error:
        raise AssertionError(f"a future is not answered: {error!r}") from error
    return reply


class Probe:
    """A backend on a new store, with one endpoint, ``orders``, and a clock set by hand.

    Arguments:
        new_store: as the checks get it.
        ttl: the endpoint's, in milliseconds.
        dedup_for: the endpoint's, in seconds.
    """

    def __init__(self, new_store: NewStore, ttl: int = 1000, dedup_for: float = 10.0) -> None:
        self.now = 10**18
        self.new_backend = new_store()
        self.backend = self.open()
        phases = ["received", "processed"]
        self.endpoint = Endpoint.new(phases, ttl, id="orders", secret="s", dedup_for=dedup_for)
        self.do(CreateEndpoint(self.endpoint))

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self.backend.close()

    def open(self) -> Backend:
        """Another handle on the same store, open."""
        backend = self.new_backend()
        backend.open(lambda: self.now)
        return backend

    def do(self, message: Any, backend: Backend | None = None) -> Any:
        """The reply to a message, waited for if need be."""
        return answer((self.backend if backend is None else backend).execute(message))

    def push(self, *ids: str, phase: str = "", to: str = "orders") -> list[str]:
        """Push callbacks of these ids; the outcomes."""
        callbacks = [Callback.new(b"x", id=id, phase=phase) for id in ids]
        return [str(self.do(Push(to, item, trusted=True)).outcome) for item in callbacks]

    def ids(self, message: Any = None) -> str:
        """The ids that a message for a slice answers with; of the whole queue by default."""
        slice_ = FetchSlice("orders", limit=10**6) if message is None else message
        return " ".join(callback.id for callback in self.do(slice_))

    def holds(self, ids: str) -> None:
        """Raise unless the queue holds just these, in this order."""
        expect(self.ids(), ids, "the queue")
        expect(self.do(Count("orders")), len(ids.split()), "its count")
