"""One endpoint as plain lists: what a backend must answer, and what it must have written down."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pollin_actors.records import MAX_REPEATS, Kind, Record
from pollin_actors.resources import Callback, Endpoint

__all__ = ["NEVER", "Item", "Model", "Noted"]

NEVER = float("inf")
OF_CLAIMS = {
    Kind.CLAIMED,
    Kind.ACKNOWLEDGED,
    Kind.FAILED,
    Kind.RELEASED,
    Kind.LAPSED,
    Kind.DEAD,
    Kind.DISCARDED,
}
# When these are written down is left to the backend.
BY_TIME = {Kind.LAPSED, Kind.EXPIRED}


class Noted(NamedTuple):
    """What a record must say, but for its position and its time."""

    kind: Kind
    key: str
    before: str | None
    after: str | None
    attempt: int


@dataclass
class Item:
    """One callback, queued or kept."""

    callback: Callback
    expires_at: float
    kept: bool
    front: bool = False
    retry_at: int = 0
    token: str = ""
    until: int = 0
    lapsed: bool = False
    repeats: int = 0

    @property
    def due(self) -> int:
        return max(self.retry_at, self.callback.not_before or 0)

    @property
    def group(self) -> tuple[str, str] | None:
        key = self.callback.ordering_key
        return None if key is None else (self.callback.phase, key)

    def available(self, now: int) -> bool:
        return self.front and not self.token and self.due <= now


@dataclass
class Model:
    """The queue, what has left it, the ids with their times, the records and the cursors."""

    endpoint: Endpoint
    items: list[Item] = field(default_factory=list)
    past: list[Item] = field(default_factory=list)
    remembered: dict[str, float] = field(default_factory=dict)
    fences: dict[str, float] = field(default_factory=dict)
    noted: list[Noted] = field(default_factory=list)
    cursors: dict[str, int] = field(default_factory=dict)
    expired: int = 0

    # -- looking -----------------------------------------------------------------------------------

    def known(self, phase: str | None) -> bool:
        phases = {*self.endpoint.phases, *(item.callback.phase for item in self.items)}
        return phase is None or phase in phases

    def filtered(self, phase: str | None) -> list[Callback] | None:
        """The callbacks of a phase, or None where the phase is unknown."""
        found = [i.callback for i in self.items if phase in (None, i.callback.phase)]
        return found if self.known(phase) else None

    def find(self, key: str | None) -> Item | None:
        return next((item for item in self.items if key in (None, item.callback.id)), None)

    def available(self, now: int, phase: str | None = None) -> list[Item]:
        items = [item for item in self.items if phase in (None, item.callback.phase)]
        return [item for item in items if item.available(now)]

    def everything(self) -> list[Callback]:
        """Queued or kept, in the order of the pushes."""
        return [item.callback for item in self.past if item.kept or item in self.items]

    def below(self, key: str, deep: bool) -> list[Callback]:
        parents, size = {key}, 0
        while deep and size != len(parents):
            size = len(parents)
            parents |= {item.id for item in self.everything() if item.parent in parents}
        return [item for item in self.everything() if item.parent in parents]

    def wakes_at(self, now: int, phase: str | None) -> float | None:
        """When something becomes available that is not now, if nobody does anything."""
        there = {item.callback.id for item in self.available(now, phase)}
        times = {time for i in self.items for time in (i.until, i.due, i.expires_at)}
        for time in sorted(time for time in times if now < time < NEVER):
            later = Model(self.endpoint, [replace(item) for item in self.items])
            later.at(int(time))
            if any(item.callback.id not in there for item in later.available(int(time), phase)):
                return time
        return None

    # -- changes -----------------------------------------------------------------------------------

    def at(self, now: int) -> None:
        for item in [*self.items]:
            if item.token and item.until <= now:
                self.note(item, Kind.LAPSED, item.callback.phase)
                item.token, item.lapsed = "", True
            if not item.token and item.expires_at <= now:
                self.leave(item, Kind.EXPIRED)
                self.expired += 1
        self.remembered = {key: until for key, until in self.remembered.items() if until > now}
        self.fences = {fence: until for fence, until in self.fences.items() if until > now}

    def note(self, item: Item, kind: Kind, after: str | None) -> None:
        if item.kept:
            before = None if kind == Kind.PUSHED else item.callback.phase
            attempt = item.callback.attempts if kind in OF_CLAIMS else 0
            self.noted.append(Noted(kind, item.callback.id, before, after, attempt))

    def expiry(self, now: int) -> float:
        return now + self.endpoint.ttl * 10**6 if self.endpoint.ttl else NEVER

    def root(self, parent: str) -> str | None:
        """The root of a child of this one, None if it is neither queued nor kept."""
        found = [item for item in self.everything() if item.id == parent]
        return (found[-1].root or found[-1].id) if found else None

    def full(self, callback: Callback) -> bool:
        endpoint, consumes = self.endpoint, self.endpoint.consumes
        if consumes and callback.phase not in consumes:
            return False
        held = [i.callback for i in self.items if not consumes or i.callback.phase in consumes]
        if endpoint.capacity is not None and len(held) >= endpoint.capacity:
            return True
        limit = endpoint.capacity_bytes
        return limit is not None and sum(item.size for item in held) + callback.size > limit

    def add(self, callback: Callback, now: int) -> None:
        endpoint = self.endpoint
        ends = NEVER if callback.phase in endpoint.consumes else self.expiry(now)
        item = Item(callback, ends, endpoint.keep_for > 0)
        self.items.append(item)
        self.past.append(item)
        if endpoint.dedup_for:
            self.remembered[callback.id] = until = now + round(endpoint.dedup_for * 10**9)
            if callback.fence is not None:
                self.fences[callback.fence] = until
        self.note(item, Kind.PUSHED, callback.phase)
        self.turns()

    def repeated(self, callback: Callback) -> Callback | None:
        """The reply's callback if this one adds nothing, of which a note is taken; else None."""
        queued = _like(callback, self.items)
        known = callback.id in self.remembered or callback.fence in self.fences
        if queued is None and not known:
            return None
        item = queued or _like(callback, [item for item in self.past if item.kept])
        if item is not None and item.kept and item.repeats < MAX_REPEATS:
            item.repeats += 1
            phase = queued.callback.phase if queued else None
            self.noted.append(Noted(Kind.REPEATED, item.callback.id, phase, phase, 0))
        return queued.callback if queued else callback

    def leave(self, item: Item, kind: Kind) -> None:
        self.note(item, kind, None)
        self.items = [other for other in self.items if other is not item]
        item.token = ""
        self.turns()

    def enter(self, item: Item, kind: Kind, phase: str, now: int) -> None:
        self.note(item, kind, phase)
        item.token, item.lapsed = "", False
        if phase == item.callback.phase:
            return
        item.callback = item.callback.with_phase(phase)
        item.retry_at, item.front = 0, False
        if self.endpoint.consumes:
            item.expires_at = NEVER if phase in self.endpoint.consumes else self.expiry(now)
        self.turns()

    def turns(self) -> None:
        """Where nobody has the turn the oldest gets it."""
        taken = {item.group for item in self.items if item.front}
        for item in self.items:
            if item.group is None or item.group not in taken:
                item.front = True
                taken.add(item.group)

    def reset(self) -> None:
        self.items, self.past, self.remembered, self.fences = [], [], {}, {}
        self.noted = [Noted(Kind.RESET, "", None, None, 0)]
        self.cursors, self.expired = {}, 0

    # -- records -----------------------------------------------------------------------------------

    def check(self, records: list[Record]) -> None:
        """Raise unless these are the records, in their order; of what time does, in any.

        A lapse need only be there where the callback was then taken.
        """
        positions = [record.position for record in records]
        assert positions == sorted(set(positions))
        found = [Noted(r.kind, r.callback_id, r.from_phase, r.to_phase, r.attempt) for r in records]
        assert _acts(found) == _acts(self.noted)
        for key in {noted.key for noted in [*found, *self.noted]}:
            _same_but_for_lapses(_of(key, found), _of(key, self.noted))


def _acts(noted: list[Noted]) -> list[Noted]:
    return [item for item in noted if item.kind not in BY_TIME]


def _of(key: str, noted: list[Noted]) -> list[Noted]:
    # That the same came again changes nothing, so a lapse may come to be known after it.
    return [item for item in noted if item.key == key and item.kind != Kind.REPEATED]


def _like(callback: Callback, items: list[Item]) -> Item | None:
    """The last of these with its id, or else with its fence."""
    found = [item for item in items if item.callback.id == callback.id]
    if not found and callback.fence is not None:
        found = [item for item in items if item.callback.fence == callback.fence]
    return found[-1] if found else None


def _same_but_for_lapses(found: list[Noted], expected: list[Noted]) -> None:
    rest = iter(found)
    got = next(rest, None)
    following = [*expected[1:], None]
    for wanted, after in zip(expected, following, strict=True):
        if got == wanted:
            got = next(rest, None)
            continue
        taken = after is not None and after.kind in (Kind.CLAIMED, Kind.POPPED)
        assert wanted.kind == Kind.LAPSED, f"expected {wanted} of {expected}, got {found}"
        assert not taken, f"expected {wanted} of {expected}, got {found}"
    assert got is None, f"expected {expected}, got {found}"
