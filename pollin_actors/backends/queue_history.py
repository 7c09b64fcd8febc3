"""What has happened in a queue in memory, and how it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from pollin_actors.backends.checks import kinds_of, natural, text
from pollin_actors.errors import CallbackNotFound
from pollin_actors.records import EndpointStats, Record, RecordPage
from pollin_actors.resources import Callback, Page

if TYPE_CHECKING:
    from collections.abc import Callable

    from pollin_actors import messages
    from pollin_actors.backends.queue_state import QueueState

    Clock: TypeAlias = Callable[[], int]

__all__ = ["children", "history", "history_page", "past_page", "stats"]


def history(queue: QueueState, message: messages.History, time_ns: Clock) -> list[Record]:
    key = text(message, "key")
    queue.begin(time_ns)
    numbers = list(queue.past.names.get(key, ()))
    number = queue.keys.get(key)
    if number is not None and queue.rows[number].keep_ns:
        numbers.append(number)
    return queue.past.records_of(numbers, queue.endpoint.id)


def history_page(queue: QueueState, message: messages.HistoryPage, time_ns: Clock) -> RecordPage:
    after = natural("HistoryPage.after", message.after)
    limit = natural("HistoryPage.limit", message.limit, least=1)
    kinds = kinds_of(message)
    queue.begin(time_ns)
    return RecordPage(*queue.past.page(after, limit, kinds, queue.endpoint.id))


def children(queue: QueueState, message: messages.Children, time_ns: Clock) -> list[Callback]:
    key = text(message, "key")
    queue.begin(time_ns)
    past = queue.past
    if key not in queue.keys and key not in past.names:
        raise CallbackNotFound(queue.endpoint.id, key)
    return [past.life(number).callback for number in past.descendants(key, message.deep)]


def past_page(queue: QueueState, message: messages.PastPage, time_ns: Clock) -> Page:
    after, limit = message.after, natural("PastPage.limit", message.limit, least=1)
    since, until = message.since, message.until
    for name in ("after", "since", "until"):
        value = getattr(message, name)
        if value is not None:
            natural(f"PastPage.{name}", value)
    queue.begin(time_ns)
    numbers = _numbers(queue, after or 0, limit + 1)
    page = numbers[:limit]
    found = [queue.past.life(number).callback for number in page]
    wanted = [
        callback
        for callback in found
        if (since is None or callback.created_at >= since)
        and (until is None or callback.created_at < until)
    ]
    return Page(wanted, page[-1] if len(numbers) > limit else None)


def _numbers(queue: QueueState, after: int, limit: int) -> list[int]:
    kept = [number for number in queue.past.kept if number > after]
    # No more than there are: a slice has bounds.
    wanted = min(limit, len(kept) + len(queue.rows))
    return sorted([*kept, *queue.places.after(after, wanted)])[:wanted]


def stats(queue: QueueState, message: messages.Stats, time_ns: Clock) -> EndpointStats:
    queue.begin(time_ns)
    places = queue.places
    delayed = len(places.holding) - places.claimed
    size = queue.measured().total()
    return EndpointStats(len(queue.rows), size, places.claimed, delayed, queue.expired)
