"""How the endpoints stand, asked of the backend within the time that a scrape has."""

from __future__ import annotations

import concurrent.futures
from asyncio import _get_running_loop as running_loop  # documented
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from pollin_actors.application import Application
from pollin_actors.errors import BackendUnavailable, PollinError
from pollin_actors.messages import Count, FetchSlice, IndexEndpoints, Stats
from pollin_actors.otp import Later, ReplyFuture, Runtime
from pollin_actors.otp.guard import Guard
from pollin_actors.records import EndpointStats
from pollin_actors.resources import Endpoint
from pollin_actors.state import State
from pollin_actors.telemetry.names import OTHER, Names

__all__ = ["Looks", "Standing", "View"]

Clock: TypeAlias = Callable[[], float]

About: TypeAlias = tuple[Endpoint, tuple[str, ...]]
"""An endpoint as it was when it was asked about, and which of its phases are counted."""

MOST_PHASES = 20
"""Phases of one endpoint that are counted apart; the others are counted together."""

INDEX_SHARE = 20
"""Reading the list of endpoints must not take more than one part in so many of the time."""

REST_S = 60e-6
"""Seconds for which an endpoint is left alone, for each of its callbacks that is claimed or
delayed: a backend may count those one by one. Where there are few, it is asked each time."""

FEW = 1_000

GIVEN_UP_S = 60.0
"""Seconds after which nobody waits for an answer any more, and the question is asked again."""


class Standing(NamedTuple):
    """How an endpoint stood when the backend was asked."""

    stats: EndpointStats
    phases: dict[str, int]
    oldest: dict[str, int | None]
    """Of each phase in which callbacks wait: when its first was made, in nanoseconds."""


class View(NamedTuple):
    """What a scrape sees."""

    endpoints: int | None
    """How many there are; None: nobody knows yet."""
    named: dict[str, Standing]
    """By the endpoint's id."""
    others: list[Standing]
    unanswered: int
    complete: bool
    gone: set[str]
    """Names that endpoints had which were deleted."""
    expired: dict[str, int]
    """How many callbacks have expired, by what endpoints are called. It never goes back."""


NOTHING = View(None, {}, [], 0, False, set(), {})


class Looks:
    """Asks the backend, and keeps what it has said.

    Nothing of it goes through actors: none is woken for it, and none waits. What is not answered in
    time is left to be answered by the next look, and not asked a second time until then. However
    many endpoints there are, a look asks about so many that have a name, and as many of the others,
    in turn.

    Args:
        app: the application.
        names: the endpoints that have a name.
    """

    def __init__(self, app: Application, names: Names) -> None:
        self._app = app
        self._names = names
        self.begin_anew()

    def begin_anew(self) -> None:
        """Nothing is known; also after a fork, where another thread may have been looking."""
        self._guard = Guard()
        self._runtime: Runtime | None = None
        self._view = NOTHING
        # By what endpoints are called, also of those that were deleted or reset since: a number
        # that fell would look as if it had begun anew, and all that is left of it were new.
        self._expired: dict[str, int] = {}
        # How many an endpoint had, as what it was called then, when it was last asked about.
        self._expired_at: dict[tuple[str, str], int] = {}
        self._forget()

    def _forget(self) -> None:
        self._endpoints: dict[str, Endpoint] | None = None
        self._index: _Asked | None = None
        self._index_at = 0.0
        self._known: dict[str, Standing] = {}
        self._asked: dict[str, _Asked] = {}
        # When those may be asked about again that are not to be asked about each time.
        self._rest: dict[str, float] = {}
        # The last of the others that was asked about.
        self._turn: str | None = None

    def look(self, timeout: float) -> View:
        """How everything stands, as far as that is known in ``timeout`` seconds.

        On an event loop nothing is waited for, not even for another thread that is looking.
        """
        if running_loop() is None:
            return self._guard.run(self._look, timeout)
        seen: list[View] = []
        if self._guard.attempt(lambda: seen.append(self._look(0.0))):
            return seen[0]
        return self._view._replace(complete=False, gone=set())

    def _look(self, timeout: float) -> View:
        self._view = view = self._new_view(timeout)
        return view

    def _new_view(self, timeout: float) -> View:
        app = self._app
        runtime = app._runtime
        if runtime is None or app.state is not State.RUNNING:
            return NOTHING
        if runtime is not self._runtime:
            self._runtime = runtime
            self._forget()  # it was stopped meanwhile: what was known is old
        clock = runtime.clock.monotonic
        now = clock()
        until = now + timeout
        gone: set[str] = set()
        # Where nothing is waited for, what was asked by the look before is as new as it can be.
        waits = timeout > 0
        fresh = self._read_index(clock, until, waits, gone)
        if self._endpoints is None:
            return View(None, {}, [], 0, False, gone, {})
        named = [id for id in self._endpoints if self._names.has(id)]
        others = self._others(max(self._names.most, 1))
        wanted = [id for id in (*named, *others) if self._rest.get(id, now) <= now]
        # What was asked by an earlier look, and has no answer, or a failure for one.
        overdue = {id for id in wanted if id in self._asked and not self._answered(id, 0.0, clock)}
        for endpoint_id in wanted:
            self._ask(endpoint_id, now)
        unanswered = 0
        for endpoint_id in wanted:
            answered = self._answered(endpoint_id, until, clock)
            on_its_way = answered is None and not waits and endpoint_id not in overdue
            if not (answered or (on_its_way and endpoint_id in self._known)):
                unanswered += 1
        known = self._known
        return View(
            len(self._endpoints),
            {id: known[id] for id in named if id in known},
            [known[id] for id in self._endpoints if id in known and not self._names.has(id)],
            unanswered,
            fresh and not unanswered,
            gone,
            self._expired.copy(),
        )

    # -- the list of endpoints ---------------------------------------------------------------------

    def _read_index(self, clock: Clock, until: float, waits: bool, gone: set[str]) -> bool:
        """Read the list; whether it is as it should be. Names that are free again are added to
        ``gone``."""
        now = clock()
        answered: bool | None = True
        if self._index is not None:
            answered = self._take_index(0.0, clock, gone)
        if self._index is not None and now >= self._index.at + GIVEN_UP_S:
            self._index = None
        overdue = not answered
        if self._index is None:
            if self._endpoints is not None and now < self._index_at:
                return not overdue
            self._index = self._send(now, None, IndexEndpoints())
            self._index.watch(clock)
        answered = self._take_index(until, clock, gone)
        return bool(answered) or (answered is None and not waits and not overdue)

    def _take_index(self, until: float, clock: Clock, gone: set[str]) -> bool | None:
        """Take the list if it is there by then; False: it cannot be read, None: it is not there."""
        asked = self._index
        assert asked is not None
        answer = asked.answer(until, clock)
        if answer is None:
            return None
        self._index = None
        took = (clock() if asked.ended is None else asked.ended) - asked.at
        self._index_at = clock() + min(took * INDEX_SHARE, GIVEN_UP_S)
        if isinstance(answer, Exception):
            return False
        self._endpoints = {endpoint.id: endpoint for endpoint in answer[0]}
        for kept in (self._known, self._asked, self._rest):
            for endpoint_id in [id for id in kept if id not in self._endpoints]:
                del kept[endpoint_id]
        free = self._names.exist(list(self._endpoints))
        for name in free:
            self._expired.pop(name, None)
        for label, endpoint_id in list(self._expired_at):
            if endpoint_id not in self._endpoints:
                del self._expired_at[label, endpoint_id]
        gone |= free
        return True

    def _others(self, most: int) -> list[str]:
        """Those without a name whose turn it is."""
        assert self._endpoints is not None
        others = [id for id in self._endpoints if not self._names.has(id)]
        if len(others) > most:
            start = others.index(self._turn) + 1 if self._turn in others else 0
            others = [*others[start:], *others[:start]][:most]
            self._turn = others[-1]
        return others

    # -- one endpoint ------------------------------------------------------------------------------

    def _ask(self, endpoint_id: str, now: float) -> None:
        before = self._asked.get(endpoint_id)
        if before is not None and now < before.at + GIVEN_UP_S:
            return  # its answers are on their way
        assert self._endpoints is not None
        endpoint = self._endpoints[endpoint_id]
        # All that have no name are one, whatever their phases.
        phases = endpoint.phases[:MOST_PHASES] if self._names.has(endpoint_id) else ()
        self._asked[endpoint_id] = self._send(
            now,
            (endpoint, phases),
            Stats(endpoint_id),
            *(Count(endpoint_id, phase) for phase in phases),
            *(FetchSlice(endpoint_id, phase, 0, 1) for phase in _waiting(endpoint)),
        )

    def _send(self, now: float, about: About | None, *asked: Any) -> _Asked:
        execute = self._app.backend.execute
        replies: list[Any] = []
        try:
            for message in asked:
                reply = execute(message)
                if isinstance(reply, concurrent.futures.Future):
                    reply = Later(reply).future
                replies.append(reply)
        except Exception as error:
            return _Asked(now, about, error)
        return _Asked(now, about, replies)

    def _answered(self, endpoint_id: str, until: float, clock: Clock) -> bool | None:
        """Whether the figures of an endpoint are new; None: they are not there yet."""
        asked = self._asked[endpoint_id]
        answer = asked.answer(until, clock)
        if answer is None:
            return None
        del self._asked[endpoint_id]
        if isinstance(answer, Exception):
            # Deleted or changed since the list was read: the next list says so.
            return isinstance(answer, PollinError) and not isinstance(answer, BackendUnavailable)
        assert asked.about is not None
        standing = self._known[endpoint_id] = _standing(*asked.about, answer)
        self._count_expired(endpoint_id, standing.stats.expired)
        counted = standing.stats.claimed + standing.stats.delayed
        if counted > FEW:
            self._rest[endpoint_id] = clock() + counted * REST_S
        return True

    def _count_expired(self, endpoint_id: str, expired: int) -> None:
        label = endpoint_id if self._names.has(endpoint_id) else OTHER
        before = self._expired_at.get((label, endpoint_id), 0)
        self._expired_at[label, endpoint_id] = expired
        # Less than before: it was reset, or made anew.
        more = expired - before if expired >= before else expired
        self._expired[label] = self._expired.get(label, 0) + more


class _Asked:
    """Questions that were put to the backend at one time, and what it has answered."""

    __slots__ = ("_replies", "about", "at", "ended")

    def __init__(self, at: float, about: About | None, replies: list[Any] | Exception) -> None:
        self.at = at
        self.about = about
        # When the answers were there, where somebody watches for that.
        self.ended: float | None = None
        self._replies = replies

    def watch(self, clock: Clock) -> None:
        """Remember when the answer comes, for a question that has one."""
        replies = [] if isinstance(self._replies, Exception) else self._replies
        for reply in replies:
            if isinstance(reply, ReplyFuture):
                reply.add_done_callback(lambda _: setattr(self, "ended", clock()))

    def answer(self, until: float, clock: Clock) -> list[Any] | Exception | None:
        """All answers, or why there are none; None: they have not come yet."""
        if isinstance(self._replies, Exception):
            return self._replies
        values = []
        for reply in self._replies:
            if isinstance(reply, ReplyFuture):
                try:
                    values.append(reply.get(timeout=max(until - clock(), 0.0)))
                except Exception as error:
                    # Also where this thread must not wait, as in an actor.
                    return error if reply.done() else None
            else:
                values.append(reply)
        return values


def _waiting(endpoint: Endpoint) -> list[str]:
    """The phases in which callbacks wait for somebody, and not for their end."""
    phases = dict.fromkeys((endpoint.phases[0], *endpoint.consumes))
    return list(islice(phases, MOST_PHASES))


def _standing(endpoint: Endpoint, counted: tuple[str, ...], replies: list[Any]) -> Standing:
    answers: Iterator[Any] = iter(replies)
    stats: EndpointStats = next(answers)
    phases = {phase: next(answers) for phase in counted}
    if len(endpoint.phases) > MOST_PHASES:
        rest = stats.queued - sum(phases.values())
        phases[OTHER] = phases.get(OTHER, 0) + max(0, rest)
    oldest: dict[str, int | None] = {}
    for phase in _waiting(endpoint):
        found = next(answers)
        oldest[phase] = found[0].created_at if found else None
    return Standing(stats, phases, oldest)
