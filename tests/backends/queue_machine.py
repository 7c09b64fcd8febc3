"""Random operations on any backend, compared with a model that is a plain list."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from pollin_actors.backends.conformance import NewBackend
from pollin_actors.backends.interface import Backend
from pollin_actors.errors import CallbackNotFound, PhaseConflict, UnknownPhase
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
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.resources import Callback, Endpoint

__all__ = ["Model", "QueueMachine"]

keys = st.sampled_from([f"c{number}" for number in range(12)])
phases = st.sampled_from(["a", "b", "c"])
filters = st.none() | phases
numbers = st.integers(0, 8)


@dataclass
class Model:
    """The queue as a list of [callback, expires_at], and the ids with their times."""

    endpoint: Endpoint
    rows: list[tuple[Callback, float]] = field(default_factory=list)
    remembered: dict[str, float] = field(default_factory=dict)

    def at(self, now: int) -> None:
        self.rows = [row for row in self.rows if row[1] > now]
        self.remembered = {key: until for key, until in self.remembered.items() if until > now}

    def filtered(self, phase: str | None) -> list[Callback] | None:
        """The callbacks of a phase, or None where the phase is unknown."""
        found = [row[0] for row in self.rows if phase is None or row[0].phase == phase]
        known = phase is None or phase in self.endpoint.phases
        return found if found or known else None

    def remove(self, gone: list[Callback]) -> None:
        names = {callback.id for callback in gone}
        self.rows = [row for row in self.rows if row[0].id not in names]

    def find(self, key: str | None) -> Callback | None:
        return next((row[0] for row in self.rows if key in (None, row[0].id)), None)


class QueueMachine(RuleBasedStateMachine):
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

    @rule(ms=st.sampled_from([1, 10, 50, 100]))
    def wait(self, ms: int) -> None:
        self.now += ms * 1_000_000
        self.model.at(self.now)

    @rule(key=keys, phase=st.just("") | phases)
    def push(self, key: str, phase: str) -> None:
        model, endpoint = self.model, self.model.endpoint
        callback = Callback.new(b"x", id=key, phase=phase)
        message = Push("e", callback, endpoint.secret)
        if phase and phase not in endpoint.phases:
            self.raises(message, UnknownPhase)
            return
        reply = self.do(message)
        stored = model.find(key)
        if stored is not None or key in model.remembered:
            assert reply == (stored or callback, "duplicate")
            return
        stored = callback.with_phase(phase or endpoint.phases[0])
        assert reply == (stored, "queued")
        never = float("inf")
        model.rows.append((stored, self.now + endpoint.ttl * 10**6 if endpoint.ttl else never))
        if endpoint.dedup_for:
            model.remembered[key] = self.now + round(endpoint.dedup_for * 10**9)

    @rule(key=st.none() | keys)
    def pop(self, key: str | None) -> None:
        expected = self.model.find(key)
        assert self.do(Pop("e", key)) == expected
        self.model.remove([expected] if expected else [])

    @rule(key=st.none() | keys)
    def fetch(self, key: str | None) -> None:
        assert self.do(Fetch("e", key)) == self.model.find(key)

    @rule(key=keys)
    def delete(self, key: str) -> None:
        expected = self.model.find(key)
        assert self.do(DeleteCallback("e", key)) is (expected is not None)
        self.model.remove([expected] if expected else [])

    @rule(phase=filters, offset=numbers, limit=numbers, kind=st.sampled_from([0, 1, 2]))
    def slices(self, phase: str | None, offset: int, limit: int, kind: int) -> None:
        message = (FetchSlice, FetchReverse, PopSlice)[kind]("e", phase, offset, limit)
        expected = self.model.filtered(phase)
        if expected is None:
            self.raises(message, UnknownPhase)
            return
        if isinstance(message, FetchReverse):
            expected = expected[::-1]
        expected = expected[offset : offset + limit]
        assert self.do(message) == expected
        if isinstance(message, PopSlice):
            self.model.remove(expected)

    @rule(phase=filters)
    def count(self, phase: str | None) -> None:
        expected = self.model.filtered(phase)
        if expected is None:
            self.raises(Count("e", phase), UnknownPhase)
        else:
            assert self.do(Count("e", phase)) == len(expected)

    @rule(limit=st.integers(1, 5))
    def dump(self, limit: int) -> None:
        found: list[Callback] = []
        page = self.do(DumpPage("e", None, limit))
        while True:
            assert len(page.callbacks) <= limit
            found += page.callbacks
            if page.cursor is None:
                break
            page = self.do(DumpPage("e", page.cursor, limit))
        assert found == self.model.filtered(None)

    @rule(key=keys, phase=phases, expect=st.none() | phases)
    def update_phase(self, key: str, phase: str, expect: str | None) -> None:
        message = UpdatePhase("e", key, phase, expect)
        stored = self.model.find(key)
        if phase not in self.model.endpoint.phases:
            self.raises(message, UnknownPhase)
        elif stored is None:
            self.raises(message, CallbackNotFound)
        elif expect not in (None, stored.phase):
            self.raises(message, PhaseConflict)
        else:
            changed = stored.with_phase(phase)
            assert self.do(message) == changed
            self.model.rows = [
                (changed, until) if row.id == key else (row, until)
                for row, until in self.model.rows
            ]

    @rule(
        names=st.permutations(["a", "b", "c"]),
        length=st.integers(1, 3),
        ttl=st.sampled_from([0, 20, 50]),
        dedup_for=st.sampled_from([0.0, 0.03, 0.1, 0.3]),
    )
    def update(self, names: list[str], length: int, ttl: int, dedup_for: float) -> None:
        endpoint = self.model.endpoint.replace(phases=names[:length], ttl=ttl, dedup_for=dedup_for)
        assert self.do(UpdateEndpoint(endpoint)) == endpoint
        self.model.endpoint = endpoint

    @rule(limit=numbers)
    def sweep(self, limit: int) -> None:
        assert 0 <= self.do(Sweep(limit)) <= limit

    @precondition(operator.attrgetter("model.rows"))
    @rule()
    def reset(self) -> None:
        assert self.do(Reset("e")) == len(self.model.rows)
        self.model.rows = []
        self.model.remembered = {}

    # A rule and no invariant: looking at the queue is itself an operation that may drop things.
    @rule()
    def holds_the_same(self) -> None:
        expected = self.model.filtered(None)
        assert self.do(FetchSlice("e", limit=100)) == expected
        assert self.do(Count("e")) == len(expected or ())
