"""The callbacks of one endpoint, in memory: the operations that are used most."""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappush
from typing import TYPE_CHECKING, TypeAlias

from pollin_actors.backends.checks import check_expected, has_only_fence, rotated, text
from pollin_actors.backends.id_memory import IdMemory, fence_key
from pollin_actors.backends.ordered_index import OrderedIndex
from pollin_actors.backends.past import Past
from pollin_actors.backends.places import Places
from pollin_actors.backends.queue_pushes import like_fence, push_again, push_rarely
from pollin_actors.backends.queue_rows import Change, Ended, Row, read_terms
from pollin_actors.backends.queue_state import DELETED, OneAtATime, QueueState, Resetting
from pollin_actors.errors import UnknownPhase, WrongSecret
from pollin_actors.resources import Callback, Endpoint, Outcome, PushResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from pollin_actors import messages

    Clock: TypeAlias = Callable[[], int]

__all__ = ["CallbackQueue", "OneAtATime"]

# A named tuple's own constructor takes four times as long.
_new_tuple = tuple.__new__
_QUEUED = Outcome.QUEUED


class CallbackQueue(QueueState):
    """The queue of one endpoint. Every method but the properties is called inside ``guard``."""

    __slots__ = ()

    # -- what is done most -------------------------------------------------------------------------

    def push(self, message: messages.Push, time_ns: Clock) -> PushResult:
        if self.pending is not None:
            self.settle()
        _, callback, secret, trusted = message
        endpoint, ttl_ns, dedup_ns, keep_ns, limited = self.terms
        if not (trusted or endpoint.secret.matches(secret) or endpoint.accepts(secret, time_ns())):
            raise WrongSecret(endpoint.id)
        phase = callback.phase
        if not phase:
            phase = endpoint.phases[0]
            callback = callback.with_phase(phase)
        elif phase not in endpoint.phases:
            raise UnknownPhase(endpoint.id, phase, endpoint.phases)
        now = time_ns()
        expiries = self.expiries
        if expiries and expiries[0][0] <= now:
            self.expire(now)
        fence = callback.fence
        if (
            limited
            or callback.attempts
            or not (callback.is_plain or (fence and has_only_fence(callback)))
        ):
            return push_rarely(self, message.callback, now)
        key = callback.id
        keys = self.keys
        if key in keys:
            return push_again(self, callback, keys[key], now)
        ids = self.ids
        if key in ids.recent or ids.older:
            if ids.remembers(key, now):
                return push_again(self, message.callback, like_fence(self, fence), now)
            ids.recent.pop(key, None)
        if fence is not None:
            known = like_fence(self, fence)
            if known is not None or ids.remembers(fence_key(fence), now):
                return push_again(self, message.callback, known, now)
            ids.recent.pop(fence_key(fence), None)
        expires_at = now + ttl_ns if ttl_ns and phase not in endpoint.consumes else None
        until = now + dedup_ns if dedup_ns else None
        # Never given out twice, also after an interrupt: the count only grows.
        number = next(self.positions)
        row: Row = _new_tuple(
            Row, (callback, expires_at, until, keep_ns, now, phase, None, None, 0, 0)
        )
        self.pending = message
        self.rows[number] = row
        keys[key] = number
        index = self.places.indexes.get(phase)
        if index is None:
            index = self.places.indexes[phase] = OrderedIndex()
        index.add(number)
        if expires_at is not None:
            heappush(expiries, (expires_at, number))
        if until is not None:
            # The bound first: it must hold also if an interrupt comes in between.
            if until < ids.next_purge:
                ids.next_purge = until
            ids.recent[key] = until
            if fence is not None:
                ids.recent[fence_key(fence)] = until
        if fence is not None:
            self.past.add_fence(fence, number)
        if ids.next_purge <= now:
            ids.purge(now)
        if keep_ns:
            self.past.log.append(number)
        if self.sizes is not None:
            self.sizes.add(number, row)
        self.pending = None
        return _new_tuple(PushResult, (callback, _QUEUED))

    def pop(self, message: messages.Pop, time_ns: Clock) -> Callback | None:
        if self.pending is not None:
            self.settle()
        expiries, places = self.expiries, self.places
        if places.dues or (expiries and expiries[0][0] <= time_ns()):
            self.bring_to(time_ns())
        number: int | None
        key = message.key
        if key is None:
            number = places.first() if places.holding else next(iter(self.rows), None)
        else:
            number = self.keys.get(key if key.__class__ is str else text(message, "key"))
            if number in places.holding:
                return None
        return None if number is None else self._take(number, "popped", time_ns)

    def delete_callback(self, message: messages.DeleteCallback, time_ns: Clock) -> bool:
        self.begin(time_ns)
        number = self.keys.get(text(message, "key"))
        if number is None:
            return False
        self._take(number, "deleted", time_ns)
        return True

    def _take(self, number: int, kind: str, time_ns: Clock) -> Callback:
        rows, places = self.rows, self.places
        row = rows[number]
        callback, _, _, keep_ns, pushed_at, pushed_phase, before, _, _, repeats = row
        ended = None
        if keep_ns:
            now = time_ns()
            # As marked() and ended_row() make them, without the calls.
            event = (next(self.positions), number, kind, callback.phase, None, now, "", 0, "")
            parts = (callback, now + keep_ns, pushed_at, pushed_phase, (event, before), repeats)
            ended = _new_tuple(Ended, parts)
        self.pending = kind
        if ended is not None:
            self.past.kept[number] = ended
        del rows[number]
        del self.keys[callback.id]
        if callback.ordering_key is None and number not in places.holding:
            places.indexes[callback.phase].discard(number)
        else:
            places.remove(number, row)
        if ended is not None:
            self.past.ended(number, before, ended)
            if self.sizes is not None:
                self.sizes.remove(number, callback.phase)
            if len(self.expiries) > 2 * len(rows) + 64:
                self.compact_expiries()
        else:
            self._forget_row(number, row, None)
        self.pending = None
        return callback

    def fetch(self, message: messages.Fetch, time_ns: Clock) -> Callback | None:
        if self.pending is not None:
            self.settle()
        expiries = self.expiries
        if expiries and expiries[0][0] <= (now := time_ns()):
            self.expire(now)
        key = message.key
        if key is None:
            for row in self.rows.values():
                return row[0]
            return None
        number = self.keys.get(key if key.__class__ is str else text(message, "key"))
        if number is None:
            return self.past.last(key) if message.kept else None
        return self.rows[number][0]

    # -- the endpoint ------------------------------------------------------------------------------

    def reset(self, message: messages.Reset, time_ns: Clock) -> int:
        self.begin(time_ns)
        removed = len(self.rows)
        event = (next(self.positions), 0, "reset", None, None, time_ns(), "", 0, "")
        self.pending = Resetting(event)
        self.settle()
        return removed

    def update_endpoint(self, message: messages.UpdateEndpoint, time_ns: Clock) -> Endpoint:
        self.begin(time_ns)
        check_expected(message, self.endpoint)
        terms = read_terms(message.endpoint)
        if terms.dedup_ns != self.terms.dedup_ns:
            self.ids.delay_changed()
        self.terms = terms
        self.places.drop_empty()
        return message.endpoint

    def rotate(self, message: messages.RotateSecret, time_ns: Clock) -> Endpoint:
        self.begin(time_ns)
        endpoint = rotated(message, self.endpoint, time_ns())
        self.terms = read_terms(endpoint)
        return endpoint

    def consume(self, message: messages.Consume, time_ns: Clock) -> Endpoint:
        self.begin(time_ns)
        phase = text(message, "phase")
        self.know(phase)
        endpoint = self.endpoint
        if phase in endpoint.consumes:
            return endpoint
        endpoint = endpoint.replace(consumes=(*endpoint.consumes, phase))
        rows = self.rows
        changed = {
            number: rows[number]._replace(expires_at=None)
            for number in self.places.slice(phase, 0, len(rows), False)
        }
        self.commit(Change(changed, {}, self.expired, terms=read_terms(endpoint)))
        return endpoint

    def delete_endpoint(self) -> bool:
        if self.pending is DELETED:
            return False
        self.pending = DELETED
        limit, self.rows = self.past.limit, OrderedDict()
        self.places, self.past = Places(self.rows, {}), Past(self.rows, limit)
        self.keys, self.expiries, self.cursors = {}, [], {}
        self.ids = IdMemory()
        self.sizes = None
        return True
