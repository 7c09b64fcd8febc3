"""What the checks are written with: a store, a clock that is set by hand, and comparisons."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import pykka

from pollin_actors.backends.interface import Backend
from pollin_actors.messages import (
    ClaimSlice,
    Count,
    CreateEndpoint,
    Fetch,
    FetchSlice,
    History,
    HistoryPage,
    Push,
    Release,
    Sweep,
)
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.records import Claim, Record
from pollin_actors.resources import Callback, Endpoint

__all__ = [
    "MS",
    "SECOND",
    "Check",
    "NewBackend",
    "NewStore",
    "Probe",
    "answer",
    "at_once",
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
JOIN_S = 120.0


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


def at_once(act: Callable[[int], None], count: int = 4) -> None:
    """Call ``act(number)`` on that many threads at once; raise if one of them does."""
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            act(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
    expect(failures, [], "errors")


class Probe:
    """A backend on a new store, with one endpoint, ``orders``, and a clock set by hand.

    Arguments:
        new_store: as the checks get it.
        ttl: the endpoint's, in milliseconds.
        dedup_for: the endpoint's, in seconds.
        fields: others of its fields.
    """

    def __init__(
        self, new_store: NewStore, ttl: int = 1000, dedup_for: float = 10.0, **fields: Any
    ) -> None:
        self.now = 10**18
        self.new_backend = new_store()
        self.backend = self.open()
        phases = ["received", "processed"]
        plain = Endpoint.new(phases, ttl, id="orders", secret="s", dedup_for=dedup_for)
        self.endpoint = plain.replace(**fields)
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

    def reopen(self) -> None:
        """Go on with a new handle on the store, as after a restart."""
        self.backend.close()
        self.backend = self.open()

    def push(self, *ids: str, phase: str = "", to: str = "orders", **fields: Any) -> list[str]:
        """Push callbacks of these ids, with these other fields; the outcomes."""
        callbacks = [Callback.new(b"x", id=id, phase=phase).replace(**fields) for id in ids]
        return [str(self.do(Push(to, item, trusted=True)).outcome) for item in callbacks]

    def claim(self, limit: int = 1, phase: str | None = None, lease: float = 30.0) -> list[Claim]:
        """Claim as ``w``."""
        claims: list[Claim] = self.do(ClaimSlice("orders", phase, limit, lease, "w")).claims
        return claims

    def get(self, key: str | None = None) -> Callback:
        """The callback with this id, or the oldest, which must be there."""
        found: Callback | None = self.do(Fetch("orders", key))
        if found is None:
            raise AssertionError(f"callback {key}: expected it in the queue, got None")
        return found

    def take(self, key: str, lease: float = 30.0, phase: str | None = None) -> Claim:
        """Claim the first that is available, which must be the one with this id."""
        claims = self.claim(1, phase, lease)
        expect([claim.key for claim in claims], [key], "what was claimed")
        return claims[0]

    def offers(self, ids: str, phase: str | None = None) -> None:
        """Raise unless just these are available, in this order; they are given back at once."""
        claims = self.claim(10**6, phase)
        expect(" ".join(claim.key for claim in claims), ids, "what is available")
        for claim in claims:
            self.do(Release("orders", claim.key, claim.token))

    def becomes(self, key: str, after: int) -> Claim:
        """Wait from ``next_at`` to ``next_at`` until a callback is available, and claim it.

        Raise unless it is the one with this id, that many nanoseconds from now.
        """
        due = self.now + after
        for _ in range(20):
            claims, next_at = self.do(ClaimSlice("orders", None, 1, 30.0, "w"))
            if claims:
                expect((claims[0].key, self.now - due), (key, 0), "what came, and how late")
                found: Claim = claims[0]
                return found
            if next_at is None or not self.now < next_at <= due:
                raise AssertionError(f"next_at: expected up to {due}, got {next_at}")
            self.now = next_at
        raise AssertionError(f"{key} is not available after twenty times of next_at")

    def records(self, after: int = 0, count: int | None = None) -> list[Record]:
        """All records after a position; raise unless there are so many."""
        found: list[Record] = self.do(HistoryPage("orders", after, 10**6)).records
        if count is not None:
            expect(len(found), count, f"the number of records in {found}")
        return found

    def kinds(self, key: str) -> str:
        """What happened to the callbacks of an id, in one line."""
        return " ".join(str(record.kind) for record in self.do(History("orders", key)))

    def sweep(self) -> None:
        """Sweep until there is nothing left to do."""
        for _ in range(3):
            self.do(Sweep(10**6))

    def ids(self, message: Any = None) -> str:
        """The ids that a message for a slice answers with; of the whole queue by default."""
        slice_ = FetchSlice("orders", limit=10**6) if message is None else message
        return " ".join(callback.id for callback in self.do(slice_))

    def holds(self, ids: str) -> None:
        """Raise unless the queue holds just these, in this order."""
        expect(self.ids(), ids, "the queue")
        expect(self.do(Count("orders")), len(ids.split()), "its count")
