"""Random operations on what is queued, compared with a model of plain lists."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pollin_actors.backends.conformance import NewBackend
from pollin_actors.backends.interface import Backend
from pollin_actors.errors import (
    CallbackNotFound,
    Full,
    PhaseConflict,
    PollinError,
    UnknownPhase,
)
from pollin_actors.messages import (
    Count,
    CreateEndpoint,
    DeleteCallback,
    DumpPage,
    Fetch,
    FetchReverse,
    FetchSlice,
    Pop,
    PopSlice,
    Push,
    Reset,
    Sweep,
    UpdatePhase,
)
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.records import Kind
from pollin_actors.resources import Callback, Endpoint, Outcome, PushResult
from tests.backends.queue_model import Model

__all__ = ["MS", "New", "QueueRules", "filters", "keys", "news", "phases"]

MS = 10**6
# Most of them mean one that is queued: see ``QueueRules.named``.
keys = st.integers(0, 19)
phases = st.sampled_from(["a", "b", "c"])
filters = st.none() | phases
numbers = st.integers(0, 8)


class New(NamedTuple):
    """What is pushed; the delay is in milliseconds from now."""

    key: int
    phase: str
    size: int
    group: str | None
    delay: int | None
    parent: int | None
    fence: str | None


news = st.builds(
    New,
    keys,
    st.sampled_from(["", "", "", "a", "b", "c"]),
    st.integers(0, 2),
    st.sampled_from([None, None, "k", "k", "l"]),
    st.sampled_from([None, None, None, 0, 5, 30]),
    st.sampled_from([None, None, None, 0, 1, 5, 19]),
    st.sampled_from([None, None, None, "f", "g", "h", "c15"]),
)


class QueueRules(RuleBasedStateMachine):
    """One endpoint, through one or more handles on its store, and the model of it.

    Subclasses say where the store is.
    """

    handle_count = 1

    def new_store(self) -> NewBackend:
        """What makes a handle on a new, empty store."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.now = 10**18
        new_backend = self.new_store()
        self.handles: list[Backend] = [new_backend() for _ in range(self.handle_count)]
        for handle in self.handles:
            handle.open(lambda: self.now)
        self.backend = self.handles[0]
        endpoint = Endpoint.new(["a", "b"], 50, id="e", dedup_for=0.1)
        self.do(CreateEndpoint(endpoint))
        self.model = Model(endpoint)
        self.pushes = 0

    def teardown(self) -> None:
        for handle in self.handles:
            handle.close()

    def do(self, message: Any) -> Any:
        reply = self.backend.execute(message)
        return reply.get(timeout=60) if isinstance(reply, ReplyFuture) else reply

    @precondition(lambda self: self.handle_count > 1)
    @rule(number=st.integers(0, 3))
    def switch(self, number: int) -> None:
        self.backend = self.handles[number % self.handle_count]

    @rule()
    def reopen(self) -> None:
        self.backend.close()
        self.backend.open(lambda: self.now)

    def raises(self, message: Any, error: type[Exception]) -> None:
        try:
            self.do(message)
        except error:
            return
        raise AssertionError(f"{message} did not raise {error.__name__}")

    def named(self, key: int | None) -> str:
        """An id: of what is queued, if there is any, or of a few, one of which may be."""
        items = self.model.items
        if key is not None and key < 14 and items:
            return items[key % len(items)].callback.id
        return f"c{key}"

    @rule(ms=st.sampled_from([1, 5, 5, 5, 10, 20, 50, 100]))
    def wait(self, ms: int) -> None:
        self.now += ms * MS
        self.model.at(self.now)

    # -- pushing and reading -----------------------------------------------------------------------

    @initialize(news=st.lists(news, min_size=4, max_size=8))
    def begin(self, news: list[New]) -> None:
        self.push(news)

    @rule(news=st.lists(news, min_size=2, max_size=6))
    def push(self, news: list[New]) -> None:
        for new in news:
            callback = self.callback(new)
            message = Push("e", callback, self.secret(new.key))
            expected = self.pushed(callback)
            if isinstance(expected, PushResult):
                assert self.do(message) == expected
            else:
                self.raises(message, expected)

    def secret(self, number: int) -> str:
        """One that is valid."""
        secrets = self.model.endpoint.secrets_at(self.now)
        return secrets[number % len(secrets)].reveal()

    def callback(self, new: New) -> Callback:
        self.pushes += 1
        return Callback.new(
            b"x" * new.size,
            id=f"n{self.pushes}" if new.key < 12 else f"c{new.key}",
            phase=new.phase,
            parent=None if new.parent is None else self.named(new.parent),
            ordering_key=new.group,
            not_before=None if new.delay is None else self.now + new.delay * MS,
            fence=new.fence,
        )

    def pushed(self, callback: Callback) -> PushResult | type[PollinError]:
        """Push into the model: what a backend must answer, or what it must raise."""
        model, endpoint = self.model, self.model.endpoint
        if callback.phase and callback.phase not in endpoint.phases:
            return UnknownPhase
        known = model.repeated(callback)
        if known is not None:
            return PushResult(known, Outcome.DUPLICATE)
        root = None if callback.parent is None else model.root(callback.parent)
        if callback.parent is not None and root is None:
            return CallbackNotFound
        callback = callback.with_phase(callback.phase or endpoint.phases[0]).with_root(root)
        if model.full(callback):
            return Full
        model.add(callback, self.now)
        return PushResult(callback, Outcome.QUEUED)

    @rule(mark=st.none() | keys)
    def pop(self, mark: int | None) -> None:
        key = None if mark is None else self.named(mark)
        found = [i for i in self.model.available(self.now) if key in (None, i.callback.id)]
        assert self.do(Pop("e", key)) == (found[0].callback if found else None)
        if found:
            self.model.leave(found[0], Kind.POPPED)

    @rule(mark=st.none() | keys)
    def fetch(self, mark: int | None) -> None:
        key = None if mark is None else self.named(mark)
        item = self.model.find(key)
        self.same(self.do(Fetch("e", key)), item.callback if item else None)

    def same(self, got: Callback | None, expected: Callback | None) -> None:
        assert got == expected
        assert (got and got.attempts) == (expected and expected.attempts)

    @rule(mark=keys)
    def delete(self, mark: int) -> None:
        key = self.named(mark)
        item = self.model.find(key)
        assert self.do(DeleteCallback("e", key)) is (item is not None)
        if item is not None:
            self.model.leave(item, Kind.DELETED)

    @rule(phase=filters, offset=numbers, limit=numbers, reverse=st.booleans())
    def slices(self, phase: str | None, offset: int, limit: int, reverse: bool) -> None:
        message = (FetchReverse if reverse else FetchSlice)("e", phase, offset, limit)
        expected = self.model.filtered(phase)
        if expected is None:
            self.raises(message, UnknownPhase)
        else:
            ordered = expected[::-1] if reverse else expected
            assert self.do(message) == ordered[offset : offset + limit]

    @rule(phase=filters, offset=st.integers(0, 3), limit=st.integers(0, 2))
    def pop_slices(self, phase: str | None, offset: int, limit: int) -> None:
        message = PopSlice("e", phase, offset, limit)
        if not self.model.known(phase):
            self.raises(message, UnknownPhase)
            return
        items = self.model.available(self.now, phase)[offset : offset + limit]
        assert self.do(message) == [item.callback for item in items]
        for item in items:
            self.model.leave(item, Kind.POPPED)

    @rule(mark=keys, phase=phases, expect=st.none() | st.none() | phases)
    def update_phase(self, mark: int, phase: str, expect: str | None) -> None:
        key = self.named(mark)
        message = UpdatePhase("e", key, phase, expect)
        item = self.model.find(key)
        if phase not in self.model.endpoint.phases:
            self.raises(message, UnknownPhase)
        elif item is None:
            self.raises(message, CallbackNotFound)
        elif expect not in (None, item.callback.phase):
            self.raises(message, PhaseConflict)
        else:
            if phase != item.callback.phase:
                self.model.enter(item, Kind.MOVED, phase, self.now)
            self.same(self.do(message), item.callback)
            # Its time may have been over while it was claimed.
            self.model.at(self.now)

    @rule(limit=numbers)
    def sweep(self, limit: int) -> None:
        assert 0 <= self.do(Sweep(limit)) <= limit

    @precondition(operator.attrgetter("model.items"))
    @rule(chance=st.integers(0, 9))
    def reset(self, chance: int) -> None:
        if chance:
            return
        assert self.do(Reset("e")) == len(self.model.items)
        self.model.reset()

    # A rule and no invariant: looking at the queue is itself an operation that may drop things.
    @rule(phase=filters, limit=st.integers(1, 5))
    def holds_the_same(self, phase: str | None, limit: int) -> None:
        expected = self.model.filtered(None)
        assert self.do(FetchSlice("e", limit=100)) == expected
        in_phase = self.model.filtered(phase)
        if in_phase is None:
            self.raises(Count("e", phase), UnknownPhase)
        else:
            assert self.do(Count("e", phase)) == len(in_phase)
        found: list[Callback] = []
        page = self.do(DumpPage("e", None, limit))
        while page.cursor is not None:
            assert len(page.callbacks) <= limit
            found += page.callbacks
            page = self.do(DumpPage("e", page.cursor, limit))
        assert [*found, *page.callbacks] == expected
