"""Random operations of every kind on any backend, compared with a model of plain lists."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from pollin_actors.errors import (
    CallbackNotFound,
    ClaimLost,
    CursorConflict,
    PollinError,
    UnknownPhase,
    WrongSecret,
)
from pollin_actors.messages import (
    Ack,
    Children,
    ClaimSlice,
    Consume,
    Extend,
    FindCursor,
    HistoryPage,
    MoveCursor,
    Nack,
    PastPage,
    Push,
    Release,
    RotateSecret,
    Stats,
    Sweep,
    UpdateEndpoint,
)
from pollin_actors.records import Kind, Record
from pollin_actors.resources import Callback, PushResult, Secret
from tests.backends.queue_model import NEVER, Item
from tests.backends.queue_rules import MS, New, QueueRules, filters, keys, news, phases

__all__ = ["QueueMachine"]

leases = st.sampled_from([0.005, 0.02, 0.2])


class QueueMachine(QueueRules):
    """What is queued, and besides: claims, the fields of the endpoint, cursors, and the past.

    Subclasses say where the store is.
    """

    def __init__(self) -> None:
        super().__init__()
        # Every token there ever was, and whose it is.
        self.tokens: list[tuple[str, str]] = []

    # -- claims ------------------------------------------------------------------------------------

    @rule(phase=filters, limit=st.integers(0, 5), lease=leases)
    def claim(self, phase: str | None, limit: int, lease: float) -> None:
        message = ClaimSlice("e", phase, limit, lease, "w")
        if not self.model.known(phase):
            self.raises(message, UnknownPhase)
            return
        items = self.model.available(self.now, phase)[:limit]
        claims, next_at = self.do(message)
        assert [claim.key for claim in claims] == [item.callback.id for item in items]
        for claim, item in zip(claims, items, strict=True):
            item.callback = item.callback.with_attempts(item.callback.attempts + 1)
            item.token, item.until, item.lapsed = claim.token, self.now + round(lease * 1e9), False
            self.same(claim.callback, item.callback)
            assert claim.until == item.until
            self.model.note(item, Kind.CLAIMED, item.callback.phase)
            self.tokens.append((item.callback.id, claim.token))
        wakes_at = self.model.wakes_at(self.now, phase)
        assert next_at is None or next_at > self.now
        if wakes_at is not None:
            assert next_at is not None
            assert next_at <= wakes_at

    @rule(
        number=st.integers(0, 9),
        how=st.sampled_from(["ack", "nack", "nack", "release", "extend"]),
        then=filters,
        discard=st.booleans(),
        ms=st.sampled_from([0, 5, 30]),
        lease=leases,
    )
    def settle(
        self, number: int, how: str, then: str | None, discard: bool, ms: int, lease: float
    ) -> None:
        if not self.tokens:
            self.claim(None, 2, lease)
        if not self.tokens:
            return
        key, token, item = self.claimed(number)
        if item is not None and then == item.callback.phase:
            then = None
        if how == "ack":
            self.ack(Ack("e", key, token, then, discard, "why"), item)
        elif how == "nack":
            self.nack(Nack("e", key, token, ms / 1000, "why", then), item)
        elif how == "release":
            self.release(Release("e", key, token), item)
        else:
            self.extend(Extend("e", key, token, lease), item)
        self.model.at(self.now)

    def claimed(self, number: int) -> tuple[str, str, Item | None]:
        """A key and a token: mostly of a claim that holds, then with the item."""
        held = [item for item in self.model.items if item.token]
        if held and number < 8:
            item = held[number % len(held)]
            return item.callback.id, item.token, item
        key, token = self.tokens[-1 - number % len(self.tokens)]
        found = self.model.find(key)
        return key, token, found if found is not None and found.token == token else None

    def ack(self, message: Ack, item: Item | None) -> None:
        if self.refused(message, message.then, item) or item is None:
            return
        assert self.do(message) is None
        if message.discard:
            self.model.leave(item, Kind.DISCARDED)
        elif message.then is None:
            self.model.leave(item, Kind.ACKNOWLEDGED)
        else:
            self.model.enter(item, Kind.ACKNOWLEDGED, message.then, self.now)

    def nack(self, message: Nack, item: Item | None) -> None:
        dead = message.dead_letter
        if self.refused(message, dead, item) or item is None:
            return
        assert self.do(message) is None
        if dead is not None:
            self.model.enter(item, Kind.DEAD, dead, self.now)
        else:
            self.model.enter(item, Kind.FAILED, item.callback.phase, self.now)
            item.retry_at = self.now + round(message.retry_in * 1e9)

    def release(self, message: Release, item: Item | None) -> None:
        if self.refused(message, None, item) or item is None:
            return
        assert self.do(message) is None
        self.model.enter(item, Kind.RELEASED, item.callback.phase, self.now)
        item.callback = item.callback.with_attempts(item.callback.attempts - 1)

    def extend(self, message: Extend, item: Item | None) -> None:
        if self.refused(message, None, item) or item is None:
            return
        item.until = self.now + round(message.lease * 1e9)
        assert self.do(message) == item.until

    def refused(self, message: Any, phase: str | None, item: Item | None) -> bool:
        if phase is not None and phase not in self.model.endpoint.phases:
            self.raises(message, UnknownPhase)
        elif item is None:
            self.raises(message, ClaimLost)
        else:
            return False
        return True

    # -- the endpoint ------------------------------------------------------------------------------

    @rule(
        names=st.permutations(["a", "b", "c"]),
        length=st.sampled_from([1, 2, 3, 3]),
        ttl=st.sampled_from([0, 0, 20, 50]),
        dedup_for=st.sampled_from([0.0, 0.03, 0.1, 0.3]),
        consumed=st.sampled_from([0, 0, 1, 2]),
    )
    def update(
        self, names: list[str], length: int, ttl: int, dedup_for: float, consumed: int
    ) -> None:
        self.set(
            phases=names[:length], ttl=ttl, dedup_for=dedup_for, consumes=names[:length][:consumed]
        )

    @rule(
        capacity=st.sampled_from([None, None, None, 5]),
        capacity_bytes=st.sampled_from([None, None, None, 6]),
        keep_for=st.sampled_from([0.0, 1e6, 1e6]),
    )
    def limit(self, capacity: int | None, capacity_bytes: int | None, keep_for: float) -> None:
        self.set(capacity=capacity, capacity_bytes=capacity_bytes, keep_for=keep_for)

    def set(self, **changes: Any) -> None:
        endpoint = self.model.endpoint.replace(**changes)
        assert self.do(UpdateEndpoint(endpoint)) == endpoint
        self.model.endpoint = endpoint

    @rule(secret=st.sampled_from("stu"), ms=st.sampled_from([-5, 0, 10, 50]))
    def rotate(self, secret: str, ms: int) -> None:
        endpoint = self.model.endpoint
        message = RotateSecret("e", Secret(secret), self.now + ms * MS)
        self.model.endpoint = endpoint.rotated(message.secret, self.now, message.until)
        assert self.do(message) == self.model.endpoint
        for old in (endpoint.secret, *(old.secret for old in endpoint.old_secrets)):
            if not self.model.endpoint.accepts(old, self.now):
                self.raises(Push("e", Callback.new(b"x"), old), WrongSecret)

    @rule(phase=phases)
    def consume(self, phase: str) -> None:
        endpoint = self.model.endpoint
        if phase not in endpoint.phases:
            self.raises(Consume("e", phase), UnknownPhase)
            return
        if phase not in endpoint.consumes:
            self.model.endpoint = endpoint.replace(consumes=(*endpoint.consumes, phase))
            for item in self.model.items:
                if item.callback.phase == phase:
                    item.expires_at = NEVER
        assert self.do(Consume("e", phase)) == self.model.endpoint

    # -- cursors and history -----------------------------------------------------------------------

    @rule(
        name=st.sampled_from(["x", "y"]),
        position=st.integers(0, 3),
        expect=st.none() | st.integers(0, 3),
        pushes=st.lists(news, max_size=3),
    )
    def move_cursor(self, name: str, position: int, expect: int | None, pushes: list[New]) -> None:
        callbacks = tuple([self.callback(new) for new in pushes])
        message = MoveCursor("e", name, position, expect, callbacks)
        model = self.model
        if expect not in (None, model.cursors.get(name, 0)):
            self.raises(message, CursorConflict)
        elif (results := self.all_pushed(callbacks)) is not None:
            assert self.do(message) == results
            model.cursors[name] = position
        else:
            self.raises(message, PollinError)
        assert self.do(FindCursor("e", name)) == model.cursors.get(name, 0)

    def all_pushed(self, callbacks: tuple[Callback, ...]) -> tuple[PushResult, ...] | None:
        """Push all into the model, or none of them: then None."""
        model = self.model
        before = [*model.items], [*model.past], {**model.remembered}, [*model.noted]
        fences, repeats = {**model.fences}, [(item, item.repeats) for item in model.past]
        results = [self.pushed(callback) for callback in callbacks]
        found = tuple([result for result in results if isinstance(result, PushResult)])
        if len(found) == len(results):
            return found
        model.items, model.past, model.remembered, model.noted = before
        model.fences = fences
        for item, number in repeats:
            item.repeats = number
        return None

    @rule(limit=st.integers(1, 50), mark=keys, deep=st.booleans())
    def looks_back(self, limit: int, mark: int, deep: bool) -> None:
        self.do(Sweep(10**6))
        self.history(limit)
        self.past(limit)
        self.children(self.named(mark), deep)
        self.stats()

    def history(self, limit: int) -> None:
        found: list[Record] = []
        after = 0
        while True:
            page = self.do(HistoryPage("e", after, limit))
            assert len(page.records) <= limit
            found += page.records
            if not page.records:
                break
            after = page.cursor
        self.model.check(found)

    def past(self, limit: int) -> None:
        found: list[Callback] = []
        page = self.do(PastPage("e", None, limit))
        while page.cursor is not None:
            found += page.callbacks
            page = self.do(PastPage("e", page.cursor, limit))
        assert [*found, *page.callbacks] == self.model.everything()

    def children(self, key: str, deep: bool) -> None:
        message = Children("e", key, deep)
        if key in [item.id for item in self.model.everything()]:
            assert self.do(message) == self.model.below(key, deep)
        else:
            self.raises(message, CallbackNotFound)

    def stats(self) -> None:
        items = self.model.items
        stats = self.do(Stats("e"))
        size = sum(item.callback.size for item in items)
        assert (stats.queued, stats.size) == (len(items), size)
        claimed = sum(1 for item in items if item.token)
        lapsed = sum(1 for item in items if item.lapsed)
        assert claimed <= stats.claimed <= claimed + lapsed
        available = len(self.model.available(self.now))
        assert stats.delayed == len(items) - claimed - available
        assert stats.expired == self.model.expired
