"""One endpoint of the backend in ``own_backend.py``: its callbacks, and what becomes of them.

Every change of a callback goes through few methods here, which keep its record as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from uuid import uuid4

from pollin_actors.backends.checks import repeat_reason
from pollin_actors.errors import CallbackNotFound, CursorConflict, Full, PollinError, UnknownPhase
from pollin_actors.records import MAX_REPEATS, Claim, Kind, Record
from pollin_actors.resources import Callback, Endpoint, Outcome, PushResult

NEVER = float("inf")
OF_CLAIMS = frozenset(
    {
        Kind.CLAIMED,
        Kind.ACKNOWLEDGED,
        Kind.FAILED,
        Kind.RELEASED,
        Kind.LAPSED,
        Kind.DEAD,
        Kind.DISCARDED,
    }
)


class Row:
    """One callback, queued or kept after it has left the queue."""

    def __init__(self, position: int, callback: Callback, keep_ns: int) -> None:
        self.position = position
        self.callback = callback
        self.expires_at = NEVER
        # Whether it is its turn among those of one ordering key.
        self.front = False
        self.retry_at = 0
        # The claim; without a token there is none.
        self.token = ""
        self.by = ""
        self.until = 0
        self.keep_ns = keep_ns
        # Once it has left the queue.
        self.forget_at = NEVER

    @property
    def group(self) -> tuple[str, str] | None:
        """One at a time of these; None is no group."""
        key = self.callback.ordering_key
        return None if key is None else (self.callback.phase, key)

    @property
    def due(self) -> int:
        """When it need not wait for its time any more."""
        return max(self.retry_at, self.callback.not_before or 0)

    @property
    def gone_at(self) -> float:
        """When it expires: not while it is claimed."""
        return max(self.expires_at, self.until) if self.token else self.expires_at

    def available(self, now: int) -> bool:
        return self.front and not self.token and self.due <= now


def like(callback: Callback, rows: list[Row]) -> Row | None:
    """The last of these rows that has the id of a callback, or else its fence."""
    fence = callback.fence
    found = [row for row in rows if row.callback.id == callback.id]
    if not found and fence is not None:
        found = [row for row in rows if row.callback.fence == fence]
    return found[-1] if found else None


class Queue:
    """One endpoint with what is queued, oldest first, and all that is known of its past."""

    def __init__(self, endpoint: Endpoint, positions: Iterator[int]) -> None:
        self.endpoint = endpoint
        self.positions = positions
        self.rows: list[Row] = []
        self.kept: list[Row] = []
        # The record that all was removed has no row.
        self.history: list[tuple[Row | None, Record]] = []
        self.remembered: dict[str, float] = {}
        self.fences: dict[str, float] = {}
        self.cursors: dict[str, int] = {}
        self.expired = 0

    # -- looking -----------------------------------------------------------------------------------

    def known(self, phase: str) -> None:
        if phase not in self.endpoint.phases:
            raise UnknownPhase(self.endpoint.id, phase, self.endpoint.phases)

    def find(self, key: str) -> Row | None:
        return next((row for row in self.rows if row.callback.id == key), None)

    def in_phase(self, phase: str | None) -> list[Row]:
        rows = [row for row in self.rows if phase in (None, row.callback.phase)]
        if not rows and phase is not None:
            self.known(phase)
        return rows

    def all(self) -> list[Row]:
        """Queued and kept, in the order in which they were pushed."""
        return sorted(chain(self.rows, self.kept), key=lambda row: row.position)

    def next_at(self, now: int) -> int | None:
        """When more may become available by itself: a lease, a delay or a life ends."""
        times: set[float] = set()
        for row in self.rows:
            times.update([row.due, row.until if row.token else 0])
            if row.group is not None:  # others may wait until it is gone
                times.add(row.gone_at)
        return min((int(time) for time in times if now < time < NEVER), default=None)

    # -- time --------------------------------------------------------------------------------------

    def pass_time(self, now: int) -> None:
        """Let end what ends by itself."""
        self.expire(now, len(self.rows))
        self.remembered = {id: until for id, until in self.remembered.items() if until > now}
        self.fences = {fence: until for fence, until in self.fences.items() if until > now}
        self.forget(now)

    def expire(self, now: int, limit: int) -> int:
        """End leases, and remove what has expired, but no more than the limit; how many it were."""
        for row in self.rows:
            if row.token and row.until <= now:
                self.record(row, now, Kind.LAPSED, row.callback.phase)
                row.token = ""
        due = [row for row in self.rows if row.gone_at <= now][:limit]
        for row in due:
            self.leave(row, now, Kind.EXPIRED)
        self.expired += len(due)
        return len(due)

    def forget(self, now: int) -> None:
        """Forget what was kept for long enough, and its records."""
        self.kept = [row for row in self.kept if row.forget_at > now]
        self.history = [
            (row, record) for row, record in self.history if row is None or row.forget_at > now
        ]

    def expiry(self, now: int) -> float:
        return now + self.endpoint.ttl * 1_000_000 if self.endpoint.ttl else NEVER

    # -- changes -----------------------------------------------------------------------------------

    def push(self, callback: Callback, now: int) -> PushResult:
        endpoint = self.endpoint
        if callback.phase:
            self.known(callback.phase)
        queued = like(callback, self.rows)
        if queued is not None:
            self.repeat(queued, callback, now, queued.callback.phase)
            return PushResult(queued.callback, Outcome.DUPLICATE)
        if callback.id in self.remembered or callback.fence in self.fences:
            kept = like(callback, self.kept)
            if kept is not None:
                self.repeat(kept, callback, now, None)
            return PushResult(callback, Outcome.DUPLICATE)
        phase = callback.phase or endpoint.phases[0]
        callback = callback.with_phase(phase).with_root(self.root_for(callback))
        self.check_room(callback)
        row = Row(next(self.positions), callback, round(endpoint.keep_for * 1e9))
        if phase not in endpoint.consumes:
            row.expires_at = self.expiry(now)
        self.rows.append(row)
        self.remembered[callback.id] = now + round(endpoint.dedup_for * 1e9)
        if callback.fence is not None:
            self.fences[callback.fence] = self.remembered[callback.id]
        self.record(row, now, Kind.PUSHED, phase, callback.origin or "")
        self.next_fronts()
        return PushResult(callback, Outcome.QUEUED)

    def repeat(self, row: Row, callback: Callback, now: int, phase: str | None) -> None:
        """Write down, a few times, that the same came again."""
        repeats = [1 for of, record in self.history if of is row and record.kind == Kind.REPEATED]
        if len(repeats) < MAX_REPEATS:
            reason = repeat_reason(callback, row.callback.id)
            self.record(row, now, Kind.REPEATED, phase, reason)

    def root_for(self, callback: Callback) -> str | None:
        if callback.parent is None:
            return None
        found = [row.callback for row in self.all() if row.callback.id == callback.parent]
        if not found:
            raise CallbackNotFound(self.endpoint.id, callback.parent)
        return found[-1].root or found[-1].id

    def check_room(self, callback: Callback) -> None:
        """Count what is queued, or only what handlers have still to take where there are any."""
        endpoint, consumes = self.endpoint, self.endpoint.consumes
        if consumes and callback.phase not in consumes:
            return
        counted = [r.callback for r in self.rows if not consumes or r.callback.phase in consumes]
        limit = endpoint.capacity
        if limit is not None and len(counted) >= limit:
            raise Full(endpoint.id, "callbacks", len(counted), limit)
        size, limit = sum(item.size for item in counted), endpoint.capacity_bytes
        if limit is not None and size + callback.size > limit:
            raise Full(endpoint.id, "bytes", size, limit)

    def claim(self, row: Row, now: int, until: int, by: str) -> Claim:
        row.callback = row.callback.with_attempts(row.callback.attempts + 1)
        row.token, row.until, row.by = uuid4().hex, until, by
        self.record(row, now, Kind.CLAIMED, row.callback.phase)
        return Claim(self.endpoint.id, row.callback, row.token, until)

    def enter(self, row: Row, now: int, kind: Kind, phase: str, reason: str = "") -> None:
        """Put a callback into a phase; whoever had claimed it has not any more."""
        self.record(row, now, kind, phase, reason)
        row.token = ""
        if phase == row.callback.phase:
            return
        row.callback = row.callback.with_phase(phase)
        row.retry_at = 0
        row.front = False
        if self.endpoint.consumes:
            consumed = phase in self.endpoint.consumes
            row.expires_at = NEVER if consumed else self.expiry(now)
        self.next_fronts()

    def leave(self, row: Row, now: int, kind: Kind, reason: str = "") -> Callback:
        """Take a callback out of the queue, and keep it for a while."""
        self.record(row, now, kind, None, reason)
        row.token = ""
        self.rows.remove(row)
        row.forget_at = now + row.keep_ns
        if row.keep_ns:
            self.kept.append(row)
        self.next_fronts()
        return row.callback

    def next_fronts(self) -> None:
        """Where nobody has the turn, it is the oldest's."""
        taken = {row.group for row in self.rows if row.front}
        for row in self.rows:
            if row.group is None or row.group not in taken:
                row.front = True
                taken.add(row.group)

    def record(self, row: Row, now: int, kind: Kind, phase: str | None, reason: str = "") -> None:
        """Write down what happens to a callback, before it happens: then the claim is known."""
        if not row.keep_ns:
            return
        callback = row.callback
        before = None if kind == Kind.PUSHED else callback.phase
        if kind == Kind.REPEATED:
            before = phase
        attempt, by = (callback.attempts, row.by) if kind in OF_CLAIMS else (0, "")
        position, id = next(self.positions), self.endpoint.id
        record = Record(position, id, callback.id, kind, before, phase, now, by, attempt, reason)
        self.history.append((row, record))

    def move_cursor(
        self, name: str, position: int, expect: int | None, pushes: tuple[Callback, ...], now: int
    ) -> tuple[PushResult, ...]:
        at = self.cursors.get(name, 0)
        if expect is not None and expect != at:
            raise CursorConflict(self.endpoint.id, name, expect, at)
        before = self.rows[:], self.history[:], dict(self.remembered), dict(self.fences)
        try:
            results = tuple([self.push(callback, now) for callback in pushes])
        except PollinError:
            self.rows, self.history, self.remembered, self.fences = before
            raise
        self.cursors[name] = position
        return results

    def reset(self, now: int) -> int:
        count = len(self.rows)
        self.rows, self.kept, self.history = [], [], []
        self.remembered, self.cursors, self.expired = {}, {}, 0
        self.fences = {}
        position, id = next(self.positions), self.endpoint.id
        record = Record(position, id, "", Kind.RESET, None, None, now, "", 0, "")
        self.history.append((None, record))
        return count
