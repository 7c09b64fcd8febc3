"""What is written down of a run, and what it must look like in the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from pollin_actors import Callback
from pollin_actors.records import Claim, Kind, Record

__all__ = ["Book", "Call", "Span", "check_endpoint", "spans_of"]

ENDS = {
    Kind.ACKNOWLEDGED,
    Kind.FAILED,
    Kind.RELEASED,
    Kind.LAPSED,
    Kind.DEAD,
    Kind.DISCARDED,
}
INTERVENTIONS = {Kind.MOVED, Kind.DELETED}


@dataclass
class Call:
    """A handler's function was called for a callback."""

    endpoint: str
    key: str
    phase: str
    attempt: int
    began: int
    """Nanoseconds since the epoch."""
    ended: int | None = None
    result: str = ""
    """``done PHASE``, ``discard``, ``to PHASE``, or whatever else it came to."""
    number: int | None = None
    """Which claim of this callback it is for, counted from 0, where that is known."""


@dataclass
class Pushed:
    """What is known of a callback from its push on."""

    ordering_key: str | None = None
    not_before: int | None = None
    accepted: bool = False
    """Whether the push was answered."""


@dataclass
class Book:
    """All pushes, claims and calls of a run."""

    pushes: dict[tuple[str, str], Pushed] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    numbers: Counter[tuple[str, str]] = field(default_factory=Counter)
    # By the identity of what a claim holds, which its function is given.
    claimed: dict[int, tuple[Callback, int]] = field(default_factory=dict)

    def note_claim(self, claim: Claim) -> None:
        """A claim was stored, whether or not anybody is told."""
        key = claim.endpoint_id, claim.key
        self.claimed[id(claim.callback)] = claim.callback, self.numbers[key]
        self.numbers[key] += 1


@dataclass
class Span:
    """One claim, from its beginning to its end."""

    phase: str
    attempt: int
    began: int
    ended: int | None = None
    end: Record | None = None
    calls: list[Call] = field(default_factory=list)


class _Walk:
    """Goes through the history of one callback, as an automaton."""

    def __init__(self, consumed: set[str], most: Mapping[str, int | None]) -> None:
        self._consumed = consumed
        self._most = most
        self.phase: str | None = None
        self.spans: list[Span] = []
        self.wrong: list[str] = []
        self._attempts = 0
        self._open: Span | None = None
        self._begun = False

    def take(self, record: Record) -> None:
        kind = record.kind
        if record.from_phase != self.phase:
            self._say(record, f"it is in {self.phase}, not in {record.from_phase}")
        if kind is Kind.PUSHED:
            if self._begun:
                self._say(record, "pushed twice")
        elif kind is Kind.REPEATED:
            if record.to_phase != self.phase:
                self._say(record, f"it is in {self.phase}, not in {record.to_phase}")
        elif self.phase is None:
            self._say(record, "it is not queued")
        elif kind is Kind.CLAIMED:
            self._claim(record)
        elif kind in ENDS:
            self._end(record)
        elif self._open is not None:
            if kind not in INTERVENTIONS:
                self._say(record, "while it is claimed")
            self._close(record)
        if kind is Kind.EXPIRED and record.from_phase in self._consumed:
            self._say(record, "expired before it was handled")
        if record.to_phase != self.phase:
            self._attempts = 0
        self._begun, self.phase = True, record.to_phase

    def _say(self, record: Record, what: str) -> None:
        self.wrong.append(f"{record.callback_id}: {record.kind} at {record.position}: {what}")

    def _claim(self, record: Record) -> None:
        if self._open is not None:
            self._say(record, "claimed twice")
        self._attempts += 1
        if record.attempt != self._attempts:
            self._say(record, f"attempt {record.attempt}, expected {self._attempts}")
        self._open = Span(record.from_phase or "", record.attempt, record.at)
        self.spans.append(self._open)

    def _end(self, record: Record) -> None:
        span = self._open
        if span is None:
            self._say(record, "it is not claimed")
            return
        if record.attempt != span.attempt:
            self._say(record, f"attempt {record.attempt}, expected {span.attempt}")
        if record.kind is Kind.RELEASED:
            self._attempts -= 1
        most = self._most.get(span.phase)
        if record.kind is Kind.DEAD and (most is None or span.attempt < most):
            self._say(record, f"dead after {span.attempt} attempts")
        self._close(record)

    def _close(self, record: Record) -> None:
        assert self._open is not None
        self._open.ended, self._open.end, self._open = record.at, record, None


def spans_of(
    records: list[Record], consumed: set[str], most: Mapping[str, int | None]
) -> tuple[list[Span], list[str]]:
    """The claims of a callback, and what is wrong with its history.

    Args:
        records: of one callback, oldest first.
        consumed: the phases in which handlers take callbacks, where it must not stay.
        most: for each phase the fewest attempts after which it may be dead.
    """
    walk = _Walk(consumed, most)
    for record in records:
        walk.take(record)
    key = records[0].callback_id
    if records[0].kind is not Kind.PUSHED:
        walk.wrong.append(f"{key}: begins with {records[0].kind}")
    if walk._open is not None or walk.phase in consumed:
        walk.wrong.append(f"{key}: stuck in {walk.phase}, {records[-1]}")
    return walk.spans, walk.wrong


def check_endpoint(
    endpoint: str,
    records: list[Record],
    book: Book,
    consumed: set[str],
    most: Mapping[str, int | None],
) -> list[str]:
    """What is wrong with what has happened at an endpoint, once all has come to rest.

    Args:
        endpoint: its id.
        records: its whole history.
        book: what was written down.
        consumed, most: as for ``spans_of``.
    """
    wrong: list[str] = []
    by_key: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_key[record.callback_id].append(record)
    calls: dict[str, list[Call]] = defaultdict(list)
    for call in book.calls:
        if call.endpoint == endpoint:
            calls[call.key].append(call)
    spans: dict[str, list[Span]] = {}
    for key, of_key in by_key.items():
        spans[key], more = spans_of(of_key, consumed, most)
        wrong += more
        wrong += _check_calls(key, spans[key], calls.pop(key, []))
        wrong += _check_times(key, of_key, book.pushes.get((endpoint, key), Pushed()))
    wrong += [f"{key}: called, and has no history" for key in calls]
    for (of, key), pushed in book.pushes.items():
        if of == endpoint and pushed.accepted and key not in by_key:
            wrong.append(f"{key}: its push was answered, and it is lost")
    keys = {key: pushed.ordering_key for (of, key), pushed in book.pushes.items() if of == endpoint}
    wrong += _check_order(records, keys)
    wrong += _check_overlap(spans, keys)
    return wrong


def _check_calls(key: str, spans: list[Span], calls: list[Call]) -> Iterator[str]:
    """Each call has its own claim; what was acknowledged was done."""
    for call in calls:
        span = _span_of(call, spans)
        if span is not None:
            span.calls.append(call)
        else:
            yield f"{key}: called in {call.phase}, attempt {call.attempt}, without a claim"
    for span in spans:
        if len(span.calls) > 1:
            yield f"{key}: called {len(span.calls)} times for attempt {span.attempt}"
        if span.end is None:
            continue
        results = [call.result for call in span.calls]
        kind, to = span.end.kind, span.end.to_phase
        if kind is Kind.RELEASED and results:
            yield f"{key}: released after it was called: {results}"
        told = span.end.reason.startswith(("claimer ended", "no attempt left"))
        if kind in (Kind.FAILED, Kind.DEAD) and not results and not told:
            yield f"{key}: {kind} in attempt {span.attempt} without a call: {span.end.reason!r}"
        if kind is Kind.DISCARDED and results != ["discard"]:
            yield f"{key}: discarded after {results}"
        if kind is Kind.ACKNOWLEDGED and results not in ([f"done {to}"], [f"to {to}"]):
            yield f"{key}: acknowledged to {to} after {results}"


def _span_of(call: Call, spans: list[Span]) -> Span | None:
    """The claim of a call."""
    if call.number is not None:
        span = spans[call.number] if call.number < len(spans) else None
        same = span is not None and (span.phase, span.attempt) == (call.phase, call.attempt)
        return span if same else None
    for span in spans:
        given_back = span.end is not None and span.end.kind is Kind.RELEASED
        if (span.phase, span.attempt) == (call.phase, call.attempt) and not given_back:
            return span
    return None


def _check_times(key: str, records: list[Record], pushed: Pushed) -> Iterator[str]:
    """Nothing is claimed before its time, nor before the time that a handler has named."""
    for record in records:
        early = pushed.not_before is not None and record.at < pushed.not_before
        if record.kind is Kind.CLAIMED and early:
            yield f"{key}: claimed before its time"
    for before, after in pairwise(records):
        if before.at > after.at:
            yield f"{key}: {after.kind} is dated before {before.kind}"
        if before.kind is Kind.FAILED and before.reason.startswith("after "):
            wait = float(before.reason.removeprefix("after "))
            if after.kind is Kind.CLAIMED and after.at < before.at + round(wait * 1e9):
                yield f"{key}: claimed {(after.at - before.at) / 1e9} s after a Retry({wait})"


def _check_order(records: list[Record], keys: dict[str, str | None]) -> Iterator[str]:
    """Of one ordering key and phase the oldest has its turn, and keeps it until it leaves."""
    ages: dict[str, int] = {}
    phases: dict[str, str | None] = {}
    fronts: dict[tuple[str, str], str] = {}
    for record in records:
        id, key = record.callback_id, keys.get(record.callback_id)
        ages.setdefault(id, record.position)
        if key is None:
            continue
        if record.kind is Kind.CLAIMED:
            front = fronts.get((record.from_phase or "", key))
            if front != id:
                yield f"{id}: claimed in {record.from_phase}, and it is the turn of {front}"
        before, phases[id] = phases.get(id), record.to_phase
        if before == record.to_phase:
            continue
        if before is not None and fronts.get((before, key)) == id:
            del fronts[before, key]
            rest = [
                other for other, of in keys.items() if of == key and phases.get(other) == before
            ]
            if rest:
                fronts[before, key] = min(rest, key=ages.__getitem__)
        if record.to_phase is not None:
            fronts.setdefault((record.to_phase, key), id)


def _check_overlap(spans: dict[str, list[Span]], keys: dict[str, str | None]) -> Iterator[str]:
    """Of one ordering key and phase no two functions run at once, for as long as claims hold."""
    busy: list[tuple[str, int, int, str]] = []
    for id, of_id in spans.items():
        key = keys.get(id)
        if key is None:
            continue
        for span in of_id:
            for call in span.calls:
                end = span.ended if span.ended is not None else call.began
                if call.ended is not None:
                    end = min(end, call.ended)
                if end > call.began:
                    busy.append((f"{span.phase} {key}", call.began, end, id))
    for group, of_group in groupby(sorted(busy), key=lambda item: item[0]):
        latest, who = 0, ""
        for _, began, end, id in of_group:
            if began < latest:
                yield f"{id}: runs at the same time as {who}, both of {group}"
            if end > latest:
                latest, who = end, id
