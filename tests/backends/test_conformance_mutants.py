"""Backends that break one rule each, and are right otherwise: the checks find every one of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeAlias

import pytest

from examples import own_backend
from examples.own_backend import ListBackend, natural
from examples.own_backend_queue import NEVER, Queue
from pollin_actors.backends.conformance import check_backend
from pollin_actors.errors import (
    CallbackNotFound,
    EndpointConflict,
    EndpointExists,
    InvalidValue,
    PollinError,
    UnknownPhase,
    WrongSecret,
)
from pollin_actors.messages import (
    Count,
    CreateEndpoint,
    DeleteCallback,
    DeleteEndpoint,
    DumpPage,
    Fetch,
    FetchReverse,
    FetchSlice,
    FindEndpoint,
    Pop,
    PopSlice,
    Push,
    Reset,
    Sweep,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.resources import Callback, Endpoint, Outcome, Page, PushResult

Operation: TypeAlias = Callable[[ListBackend, Any, int], Any]

RIGHT = dict(own_backend.OPERATIONS)
MUTANTS: list[tuple[tuple[type, ...], Operation]] = []


def instead_of(*kinds: type) -> Callable[[Operation], Operation]:
    """Make a mutant of the operation: it carries out the messages of these kinds."""

    def register(operation: Operation) -> Operation:
        MUTANTS.append((kinds, operation))
        return operation

    return register


def right(backend: ListBackend, message: Any, now: int) -> Any:
    """What the operation does where nothing is wrong."""
    return RIGHT[type(message)](backend, message, now)


def pushed(backend: ListBackend, message: Push, now: int, **changes: Any) -> PushResult:
    """Push the callback with some fields changed."""
    old = message.callback
    values = {
        "id": old.id,
        "request": old.request,
        "phase": old.phase,
        "created_at": old.created_at,
    }
    callback = Callback(**{**values, **changes})
    return RIGHT[Push](backend, message._replace(callback=callback), now)  # type: ignore[no-any-return]


def expiry(queue: Queue, now: int) -> float:
    """When a callback that is pushed now would expire."""
    return now + queue.endpoint.ttl * 1_000_000 if queue.endpoint.ttl else NEVER


# -- pushes ----------------------------------------------------------------------------------------


@instead_of(Push)
def duplicates_prolong_the_ttl(backend: ListBackend, message: Push, now: int) -> Any:
    result = right(backend, message, now)
    queue = backend._queue(message, now)
    row = queue.find(message.callback.id)
    if row is not None:
        row.expires_at = expiry(queue, now)
    return result


@instead_of(Push)
def duplicates_of_the_queued_prolong_the_memory(
    backend: ListBackend, message: Push, now: int
) -> Any:
    result = right(backend, message, now)
    queue = backend._queue(message, now)
    if queue.find(message.callback.id) is not None:
        queue.remembered[message.callback.id] = now + round(queue.endpoint.dedup_for * 1e9)
    return result


@instead_of(Push)
def duplicates_of_the_gone_prolong_the_memory(backend: ListBackend, message: Push, now: int) -> Any:
    result = right(backend, message, now)
    queue = backend._queue(message, now)
    if queue.find(message.callback.id) is None:
        queue.remembered[message.callback.id] = now + round(queue.endpoint.dedup_for * 1e9)
    return result


@instead_of(Push)
def duplicates_replace_the_request(backend: ListBackend, message: Push, now: int) -> Any:
    result = right(backend, message, now)
    row = backend._queue(message, now).find(message.callback.id)
    if row is not None:
        row.callback = message.callback.with_phase(row.callback.phase)
    return result


@instead_of(Push)
def duplicates_change_the_phase(backend: ListBackend, message: Push, now: int) -> Any:
    result = right(backend, message, now)
    row = backend._queue(message, now).find(message.callback.id)
    if row is not None and message.callback.phase:
        row.callback = row.callback.with_phase(message.callback.phase)
    return result


@instead_of(Push)
def duplicates_go_to_the_end(backend: ListBackend, message: Push, now: int) -> Any:
    result = right(backend, message, now)
    queue = backend._queue(message, now)
    row = queue.find(message.callback.id)
    if row is not None:
        queue.rows.remove(row)
        queue.rows.append(row)
    return result


@instead_of(Push)
def duplicates_answer_what_was_pushed(backend: ListBackend, message: Push, now: int) -> Any:
    result = right(backend, message, now)
    if result.outcome == Outcome.DUPLICATE:
        return result._replace(callback=message.callback)
    return result


@instead_of(Push)
def duplicates_need_no_secret(backend: ListBackend, message: Push, now: int) -> Any:
    row = backend._queue(message, now).find(message.callback.id)
    if row is not None:
        return PushResult(row.callback, Outcome.DUPLICATE)
    return right(backend, message, now)


@instead_of(Push)
def the_first_secret_counts_for_ever(backend: ListBackend, message: Push, now: int) -> Any:
    queue = backend._queue(message, now)
    first = vars(queue).setdefault("first_secret", queue.endpoint.secret)
    if not message.trusted and not first.matches(message.secret):
        raise WrongSecret(message.endpoint_id)
    return right(backend, message._replace(trusted=True), now)


@instead_of(Push)
def old_secrets_count_as_well(backend: ListBackend, message: Push, now: int) -> Any:
    queue = backend._queue(message, now)
    secrets = vars(queue).setdefault("secrets", [])
    secrets.append(queue.endpoint.secret)
    trusted = message.trusted or any(secret.matches(message.secret) for secret in secrets)
    return right(backend, message._replace(trusted=trusted), now)


def _remembering(error: type[PollinError]) -> Operation:
    def push(backend: ListBackend, message: Push, now: int) -> Any:
        try:
            return right(backend, message, now)
        except error:
            queue = backend._queues[message.endpoint_id]
            queue.remembered[message.callback.id] = now + 1_000_000_000
            raise

    push.__name__ = f"pushes_refused_by_{error.__name__}_are_remembered"
    return push


for _error in (UnknownPhase, WrongSecret):
    instead_of(Push)(_remembering(_error))


@instead_of(Push)
def ids_are_stripped(backend: ListBackend, message: Push, now: int) -> Any:
    return pushed(backend, message, now, id=message.callback.id.strip())


@instead_of(Push)
def ids_are_cut(backend: ListBackend, message: Push, now: int) -> Any:
    return pushed(backend, message, now, id=message.callback.id[:255])


@instead_of(Push)
def ids_are_cut_where_they_are_compared(backend: ListBackend, message: Push, now: int) -> Any:
    return _alike(backend, message, now, lambda id: id[:255])


@instead_of(Push)
def ids_are_queued_without_case(backend: ListBackend, message: Push, now: int) -> Any:
    return _alike(backend, message, now, str.lower)


@instead_of(Push)
def ids_are_remembered_without_case(backend: ListBackend, message: Push, now: int) -> Any:
    queue = backend._queue(message, now)
    key = message.callback.id
    known = {id.lower() for id in queue.remembered if id != key and queue.find(id) is None}
    if key.lower() in known:
        return PushResult(message.callback, Outcome.DUPLICATE)
    return right(backend, message, now)


def _alike(backend: ListBackend, message: Push, now: int, form: Callable[[str], str]) -> Any:
    key = message.callback.id
    for row in backend._queue(message, now).rows:
        if row.callback.id != key and form(row.callback.id) == form(key):
            return PushResult(row.callback, Outcome.DUPLICATE)
    return right(backend, message, now)


@instead_of(Push)
def times_are_rounded(backend: ListBackend, message: Push, now: int) -> Any:
    return pushed(backend, message, now, created_at=message.callback.created_at // 1000 * 1000)


# -- one callback ----------------------------------------------------------------------------------


@instead_of(Fetch, Pop)
def keys_are_found_without_case(backend: ListBackend, message: Any, now: int) -> Any:
    rows = backend._queue(message, now).rows
    for row in rows:
        if isinstance(message.key, str) and row.callback.id.lower() == message.key.lower():
            return right(backend, message._replace(key=row.callback.id), now)
    return right(backend, message, now)


@instead_of(Fetch, Pop)
def keys_are_made_texts(backend: ListBackend, message: Any, now: int) -> Any:
    key = None if message.key is None else str(message.key)
    return right(backend, message._replace(key=key), now)


@instead_of(Fetch, Pop)
def no_text_is_no_key(backend: ListBackend, message: Any, now: int) -> Any:
    if message.key is not None and not isinstance(message.key, str):
        return None
    return right(backend, message, now)


@instead_of(DeleteCallback)
def no_key_deletes_the_oldest(backend: ListBackend, message: DeleteCallback, now: int) -> Any:
    key: str | None = message.key
    if key is None:
        return RIGHT[Pop](backend, Pop(message.endpoint_id), now) is not None
    return right(backend, message, now)


@instead_of(UpdatePhase)
def no_key_changes_the_oldest(backend: ListBackend, message: UpdatePhase, now: int) -> Any:
    rows = backend._queue(message, now).rows
    key: str | None = message.key
    if key is None and rows:
        return right(backend, message._replace(key=rows[0].callback.id), now)
    return right(backend, message, now)


@instead_of(UpdatePhase)
def phase_changes_expect_nothing(backend: ListBackend, message: UpdatePhase, now: int) -> Any:
    return right(backend, message._replace(expect=None), now)


@instead_of(UpdatePhase)
def conflicts_change_the_phase(backend: ListBackend, message: UpdatePhase, now: int) -> Any:
    right(backend, message._replace(expect=None), now)
    return right(backend, message, now)


@instead_of(UpdatePhase)
def conflicts_pass_where_the_phase_stays(
    backend: ListBackend, message: UpdatePhase, now: int
) -> Any:
    row = backend._queue(message, now).find(message.key) if message.key else None
    if row is not None and row.callback.phase == message.phase:
        return row.callback
    return right(backend, message, now)


@instead_of(UpdatePhase)
def phase_changes_restart_the_ttl(backend: ListBackend, message: UpdatePhase, now: int) -> Any:
    callback = right(backend, message, now)
    queue = backend._queue(message, now)
    row = queue.find(message.key)
    if row is not None:
        row.expires_at = expiry(queue, now)
    return callback


@instead_of(UpdatePhase)
def phase_changes_clear_the_ttl(backend: ListBackend, message: UpdatePhase, now: int) -> Any:
    callback = right(backend, message, now)
    row = backend._queue(message, now).find(message.key)
    if row is not None:
        row.expires_at = NEVER
    return callback


@instead_of(UpdatePhase)
def phase_changes_to_the_same_clear_the_ttl(
    backend: ListBackend, message: UpdatePhase, now: int
) -> Any:
    row = backend._queue(message, now).find(message.key) if message.key else None
    if row is not None and row.callback.phase == message.phase:
        row.expires_at = NEVER
    return right(backend, message, now)


@instead_of(UpdatePhase)
def phase_changes_restart_the_memory(backend: ListBackend, message: UpdatePhase, now: int) -> Any:
    callback = right(backend, message, now)
    queue = backend._queue(message, now)
    queue.remembered[message.key] = now + round(queue.endpoint.dedup_for * 1e9)
    return callback


@instead_of(UpdatePhase)
def phases_that_went_cannot_be_left(backend: ListBackend, message: UpdatePhase, now: int) -> Any:
    queue = backend._queue(message, now)
    for row in queue.rows:
        if row.callback.id == message.key:
            queue.known(row.callback.phase)
    return right(backend, message, now)


@instead_of(UpdatePhase)
def keys_of_other_types_are_not_found(backend: ListBackend, message: UpdatePhase, now: int) -> Any:
    key: object = message.key
    if not isinstance(key, str):
        raise CallbackNotFound(message.endpoint_id, str(key))
    return right(backend, message, now)


# -- many callbacks --------------------------------------------------------------------------------


@instead_of(PopSlice, FetchSlice, FetchReverse)
def slices_of_a_phase_have_no_limit(backend: ListBackend, message: Any, now: int) -> Any:
    if message.phase is not None and message.limit == 100:
        message = message._replace(limit=10**6)
    return right(backend, message, now)


@instead_of(FetchReverse)
def reverse_is_not_reversed(backend: ListBackend, message: FetchReverse, now: int) -> Any:
    return right(backend, message, now)[::-1]


@instead_of(PopSlice, FetchSlice, Count)
def phases_are_compared_without_case(backend: ListBackend, message: Any, now: int) -> Any:
    phases = backend._queue(message, now).endpoint.phases
    for phase in phases:
        if message.phase is not None and phase.lower() == message.phase.lower():
            return right(backend, message._replace(phase=phase), now)
    return right(backend, message, now)


@instead_of(DumpPage)
def dumps_leave_out_phases_that_went(backend: ListBackend, message: DumpPage, now: int) -> Any:
    page = right(backend, message, now)
    phases = backend._queue(message, now).endpoint.phases
    return Page([item for item in page.callbacks if item.phase in phases], page.cursor)


@instead_of(DumpPage)
def dumps_end_after_a_full_page(backend: ListBackend, message: DumpPage, now: int) -> Any:
    return Page(right(backend, message, now).callbacks, None)


@instead_of(Reset)
def resets_of_nothing_keep_the_ids(backend: ListBackend, message: Reset, now: int) -> Any:
    return right(backend, message, now) if backend._queue(message, now).rows else 0


@instead_of(Reset)
def resets_keep_the_ids(backend: ListBackend, message: Reset, now: int) -> Any:
    queue = backend._queue(message, now)
    ids = queue.remembered
    count = right(backend, message, now)
    queue.remembered = ids
    return count


@instead_of(Sweep)
def sweeps_do_nothing(backend: ListBackend, message: Sweep, now: int) -> Any:
    natural(message, "limit")
    return 0


@instead_of(Sweep)
def sweeps_remove_and_do_not_say_so(backend: ListBackend, message: Sweep, now: int) -> Any:
    right(backend, message, now)
    return 0


@instead_of(Sweep)
def sweeps_have_a_limit_for_each_endpoint(backend: ListBackend, message: Sweep, now: int) -> Any:
    queues = backend._queues
    swept = 0
    for id, queue in queues.items():
        backend._queues = {id: queue}
        swept += right(backend, message, now)
    backend._queues = queues
    return swept


@instead_of(Sweep)
def sweeps_look_at_the_first_endpoint(backend: ListBackend, message: Sweep, now: int) -> Any:
    queues = backend._queues
    backend._queues = dict([*queues.items()][:1])
    swept = right(backend, message, now)
    backend._queues = queues
    return swept


@instead_of(Sweep)
def sweeps_forget_the_ids(backend: ListBackend, message: Sweep, now: int) -> Any:
    for queue in backend._queues.values():
        for row in queue.rows:
            if row.expires_at <= now:
                queue.remembered.pop(row.callback.id, None)
    return right(backend, message, now)


# -- endpoints -------------------------------------------------------------------------------------


@instead_of(CreateEndpoint)
def endpoints_are_created_without_case(
    backend: ListBackend, message: CreateEndpoint, now: int
) -> Any:
    if isinstance(message.endpoint, Endpoint):
        id = message.endpoint.id
        if id.lower() in [known.lower() for known in backend._queues]:
            raise EndpointExists(id)
    return right(backend, message, now)


@instead_of(FindEndpoint, DeleteEndpoint)
def endpoint_ids_of_other_types_are_unknown(backend: ListBackend, message: Any, now: int) -> Any:
    if not isinstance(message.endpoint_id, str):
        return None if type(message) is FindEndpoint else False
    return right(backend, message, now)


@instead_of(CreateEndpoint, UpdateEndpoint)
def the_field_is_not_named(backend: ListBackend, message: Any, now: int) -> Any:
    if not isinstance(message.endpoint, Endpoint):
        raise InvalidValue("endpoint", "an Endpoint", repr(message.endpoint))
    return right(backend, message, now)


@instead_of(UpdateEndpoint)
def a_changed_ttl_counts_for_the_queued(
    backend: ListBackend, message: UpdateEndpoint, now: int
) -> Any:
    endpoint = right(backend, message, now)
    queue = backend._live(endpoint.id, now)
    for row in queue.rows:
        row.expires_at = expiry(queue, now)
    return endpoint


@instead_of(UpdateEndpoint)
def updates_move_to_the_end(backend: ListBackend, message: UpdateEndpoint, now: int) -> Any:
    endpoint = right(backend, message, now)
    backend._queues[endpoint.id] = backend._queues.pop(endpoint.id)
    return endpoint


@instead_of(UpdateEndpoint)
def updates_expect_nothing(backend: ListBackend, message: UpdateEndpoint, now: int) -> Any:
    return right(backend, message._replace(expect=None), now)


@instead_of(UpdateEndpoint)
def updates_do_not_expect_secrets(backend: ListBackend, message: UpdateEndpoint, now: int) -> Any:
    if isinstance(message.expect, Endpoint) and message.endpoint.id in backend._queues:
        stored = backend._queues[message.endpoint.id].endpoint
        expect = message.expect.replace(secret=stored.secret, old_secrets=stored.old_secrets)
        message = message._replace(expect=expect)
    return right(backend, message, now)


@instead_of(UpdateEndpoint)
def conflicts_change_all_the_same(backend: ListBackend, message: UpdateEndpoint, now: int) -> Any:
    try:
        return right(backend, message, now)
    except EndpointConflict:
        right(backend, message._replace(expect=None), now)
        raise


@pytest.mark.parametrize(("kinds", "operation"), MUTANTS, ids=[m[1].__name__ for m in MUTANTS])
def test_finds_a_wrong_operation(
    kinds: tuple[type, ...], operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend does not pass, and not because the mutant itself fails."""
    for kind in kinds:
        monkeypatch.setitem(own_backend.OPERATIONS, kind, operation)
    finds(ListBackend)


# -- backends as wholes ----------------------------------------------------------------------------


class Late(Future[Any]):
    """Answered by whoever waits for it, as long as the backend is open."""

    def __init__(self, backend: ListBackend, reply: Any) -> None:
        super().__init__()
        self._backend = backend
        self._reply = reply

    def result(self, timeout: float | None = None) -> Any:
        if not self.done() and self._backend._time_ns is not None:
            self.set_result(self._reply)
        return super().result(0)


class LeavesFutures(ListBackend):
    """Whoever did not wait before close() is never answered."""

    def execute(self, message: Any) -> Any:
        return Late(self, super().execute(message))


class CancelsFutures(LeavesFutures):
    """Whoever did not wait before close() is told that it was given up."""

    def __init__(self) -> None:
        super().__init__()
        self._given: list[Future[Any]] = []

    def execute(self, message: Any) -> Any:
        self._given.append(super().execute(message))
        return self._given[-1]

    def close(self) -> None:
        super().close()
        for future in self._given:
            future.cancel()


class ForgetsAtClose(ListBackend):
    """Says that it is durable, and is empty after it was closed."""

    durable = True

    def close(self) -> None:
        super().close()
        self._queues = {}


class OpensOnce(ListBackend):
    """Cannot be opened again after it was closed."""

    _opened = False

    def open(self, time_ns: Callable[[], int]) -> None:
        if not self._opened:
            super().open(time_ns)
        self._opened = True


class StaysOpen(ListBackend):
    """Answers also after close()."""

    def close(self) -> None:
        pass


class ForgetsInANewHandle(ListBackend):
    """Says that it is durable, and every backend has a store of its own."""

    durable = True


@pytest.mark.parametrize(
    "backend",
    [
        LeavesFutures,
        CancelsFutures,
        ForgetsAtClose,
        OpensOnce,
        StaysOpen,
        ForgetsInANewHandle,
    ],
)
def test_finds_a_wrong_backend(backend: type[ListBackend]) -> None:
    """The backend does not pass."""
    finds(backend)


def finds(backend: type[ListBackend]) -> None:
    """A check fails by a comparison, or by an error of the inbox that was not expected."""
    with pytest.raises(AssertionError) as caught:
        check_backend(lambda: backend)
    assert isinstance(caught.value.__cause__, AssertionError | PollinError)
