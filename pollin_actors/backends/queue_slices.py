"""Looking at many callbacks of a queue in memory, and taking many."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from pollin_actors.backends.checks import natural, text
from pollin_actors.backends.queue_rows import Change, ended_row, marked
from pollin_actors.resources import Callback, Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pollin_actors import messages
    from pollin_actors.backends.queue_state import QueueState

    Clock: TypeAlias = Callable[[], int]
    Slice: TypeAlias = messages.PopSlice | messages.FetchSlice | messages.FetchReverse

__all__ = ["count", "dump_page", "fetch_reverse", "fetch_slice", "known_phase", "pop_slice"]


def count(queue: QueueState, message: messages.Count, time_ns: Clock) -> int:
    queue.begin(time_ns)
    phase = message.phase
    if phase is None:
        return len(queue.rows)
    return queue.places.count(known_phase(queue, text(message, "phase")))


def fetch_slice(queue: QueueState, message: messages.FetchSlice, time_ns: Clock) -> list[Callback]:
    return _fetch(queue, message, time_ns, reverse=False)


def fetch_reverse(
    queue: QueueState, message: messages.FetchReverse, time_ns: Clock
) -> list[Callback]:
    return _fetch(queue, message, time_ns, reverse=True)


def _fetch(queue: QueueState, message: Slice, time_ns: Clock, *, reverse: bool) -> list[Callback]:
    queue.begin(time_ns)
    rows = queue.rows
    phase, offset, limit = _bounds(queue, message)
    if phase is None:
        numbers: Iterable[int] = reversed(rows) if reverse else rows
        numbers = islice(numbers, offset, offset + limit)
    else:
        numbers = queue.places.slice(phase, offset, limit, reverse)
    return [rows[number].callback for number in numbers]


def pop_slice(queue: QueueState, message: messages.PopSlice, time_ns: Clock) -> list[Callback]:
    queue.begin(time_ns)
    rows = queue.rows
    phase, offset, limit = _bounds(queue, message)
    if phase is None and not queue.places.holding:
        numbers = list(islice(rows, offset, offset + limit))
    else:
        numbers = queue.places.available(phase, offset, limit)
    if not numbers:
        return []
    now = time_ns()
    found = {number: rows[number] for number in numbers}
    ended = {
        number: ended_row(row, marked(row, number, next(queue.positions), "popped", None, now), now)
        for number, row in found.items()
    }
    queue.commit(Change({}, ended, queue.expired))
    return [row.callback for row in found.values()]


def dump_page(queue: QueueState, message: messages.DumpPage, time_ns: Clock) -> Page:
    after, limit = message.after, natural("DumpPage.limit", message.limit, least=1)
    if after is not None:
        natural("DumpPage.after", after)
    queue.begin(time_ns)
    rows = queue.rows
    # One more than asked for tells whether this page is the last.
    wanted = min(limit, len(rows)) + 1
    numbers = list(islice(rows, wanted)) if after is None else queue.places.after(after, wanted)
    page = numbers[:limit]
    cursor = page[-1] if len(numbers) > limit else None
    return Page([rows[number].callback for number in page], cursor)


def _bounds(queue: QueueState, message: Slice) -> tuple[str | None, int, int]:
    _, phase, offset, limit = message
    name = type(message).__name__
    # No more than there is: islice refuses what does not fit a machine word.
    size = len(queue.rows)
    offset = min(natural(f"{name}.offset", offset), size)
    limit = min(natural(f"{name}.limit", limit), size)
    if phase is not None:
        known_phase(queue, text(message, "phase"))
    return phase, offset, limit


def known_phase(queue: QueueState, phase: str) -> str:
    """Return the phase if it is one of the endpoint's, or was and some callbacks are in it.

    Raises:
        UnknownPhase: it is not.
    """
    if not queue.places.count(phase):
        queue.know(phase)
    return phase
