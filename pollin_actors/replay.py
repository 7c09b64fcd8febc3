"""Replay: what was received before, pushed once more."""

from __future__ import annotations

import contextvars
import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from pollin_actors.calls import Calls, nanoseconds
from pollin_actors.errors import InvalidValue
from pollin_actors.identifiers import uuid7
from pollin_actors.messages import Count, History, HistoryPage, PastPage, Push
from pollin_actors.otp import ReplyFuture
from pollin_actors.otp.mailbox import Mailbox
from pollin_actors.records import Kind, RecordPage
from pollin_actors.resources import MAX_CALLBACK_ID, Callback, Outcome, Page, PushResult
from pollin_actors.settings import DEFAULT_TIMEOUT

__all__ = ["Replay", "ReplayCalls", "ReplayResult"]

IN_FLIGHT = 64
"""Pushes under way at once."""

MAX_IDS = 1_000
MAX_NAME = 200
DIGEST = 32

Filter = Callable[[Callback], Any]


class ReplayResult(NamedTuple):
    """What a replay has done, or would do."""

    matched: int
    """Callbacks that were to be replayed."""
    pushed: int
    """New callbacks that were queued; 0 for a dry run."""
    duplicates: int
    """Those that an earlier replay of that name had pushed already."""
    ids: tuple[str, ...]
    """The ids of the new callbacks, at most the first 1,000."""


class Replay(ReplyFuture[ReplayResult]):
    """A replay that runs: ``.get()`` or ``await`` its ``ReplayResult``.

    Attribute ``name``: what its ids begin with. If it fails, or the process ends, the same call
    with this name goes on where it stopped: what was pushed is not pushed again.
    """

    name: str


class ReplayCalls(Calls):
    """``replay``."""

    def replay(
        self,
        endpoint_id: str,
        *,
        filter: Filter | None = None,
        since: int | datetime | None = None,
        until: int | datetime | None = None,
        into: str | None = None,
        phase: str = "",
        name: str | None = None,
        dry_run: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> Replay:
        """Push again what was pushed before and is still queued or kept.

        Each becomes a new callback with the same request and ordering key, whose ``origin`` is
        ``"endpoint/id"`` and whose id is the replay's name, a colon and the old id, cut and
        completed by a digest if that is too long. What is pushed after the replay has begun is
        not replayed, and neither is what a replay of the same name has made.

        It runs on a thread of its own. To stop it raise an error in ``filter``.

        Args:
            endpoint_id: whose callbacks.
            filter: called with each callback; true says that it is to be replayed. An error in
                it ends the replay, and is the reply.
            since: only those created from then on: nanoseconds since the epoch, or a datetime
                with a time zone.
            until: only those created before.
            into: the endpoint that gets the new ones; by default the same.
            phase: which they start in; by default the endpoint's first.
            name: 1 to 200 characters; by default a new one. Replaying again with the same name
                pushes nothing twice, as long as the endpoint remembers ids.
            dry_run: push nothing, and say what would be. A target or a phase that is not there is
                an error all the same.
            timeout: seconds for each page that is read and for each push.

        Errors: those of ``push``, and whatever ``filter`` raises.

        Raises:
            InvalidValue: an argument has a value that it cannot have.
        """
        plan = _Plan(
            endpoint_id,
            endpoint_id if into is None else into,
            _filter(filter),
            nanoseconds("since", since),
            nanoseconds("until", until),
            _phase(phase),
            uuid7() if name is None else _name(name),
            dry_run,
            timeout,
        )
        mailbox = self._mailbox(plan.source)
        replay = Replay()
        replay.name = plan.name
        replay._target = mailbox
        task = _Replaying(self, plan, replay)
        runtime = mailbox.runtime
        if runtime is not None and runtime.scheduler.simulated:
            runtime.scheduler.submit(task)
        else:
            threading.Thread(target=task.run, name="pollin-replay", daemon=True).start()
        return replay


class _Plan(NamedTuple):
    source: str
    into: str
    filter: Filter
    since: int | None
    until: int | None
    phase: str
    name: str
    dry_run: bool
    timeout: float | None


class _Replaying:
    """One replay at work: a thread's, or in simulated runs the scheduler's."""

    label = "replay"

    def __init__(self, calls: Calls, plan: _Plan, reply: Replay) -> None:
        self._calls = calls
        self._plan = plan
        self._reply = reply
        self._prefix = f"{plan.name}:"
        self._under_way: deque[ReplyFuture[PushResult]] = deque()
        self._matched = self._pushed = self._duplicates = 0
        self._ids: list[str] = []
        # The clock that Callback.new reads: for what has no history.
        self._began_at = time.time_ns()

    def run(self, turns: int = 1, **_: Any) -> None:
        """Do all of it. A simulated run may be started inside an actor's turn: it is not its."""
        contextvars.Context().run(self._run)

    def _run(self) -> None:
        try:
            result = self._replay()
        except BaseException as error:
            # Also SystemExit of a filter: it is the caller's to know, and no end of this thread's.
            self._reply._fail(self._calls._explain(self._plan.source, error))
        else:
            self._reply._settle((result, None))

    def _replay(self) -> ReplayResult:
        # Before anything is looked for, and in a dry run too: that there is somewhere to push to.
        self._ask(Count(self._plan.into, self._plan.phase or None))
        end = self._end()
        after: int | None = None
        while True:
            page = self._page(after)
            callbacks, last = self._before(end, page.callbacks)
            for callback in callbacks:
                self._consider(callback)
            after = page.cursor
            if after is None or last:
                break
        while self._under_way:
            self._settle_first()
        return ReplayResult(self._matched, self._pushed, self._duplicates, tuple(self._ids))

    # -- what was there when it began --------------------------------------------------------------

    def _end(self) -> int:
        """The last position of the history as it is now."""
        position = 0
        while True:
            # No kinds: positions only.
            page: RecordPage = self._ask(
                HistoryPage(self._plan.source, position, 5_000, frozenset())
            )
            if page.cursor <= position:
                return position
            position = page.cursor

    def _page(self, after: int | None) -> Page:
        plan = self._plan
        page: Page = self._ask(PastPage(plan.source, after, since=plan.since, until=plan.until))
        return page

    def _before(self, end: int, callbacks: list[Callback]) -> tuple[list[Callback], bool]:
        """Those of a page that were pushed before we began; whether others follow.

        They come in the order in which they were pushed: one question tells for most pages.
        """
        if not callbacks or not self._is_new(callbacks[-1], end):
            return callbacks, False
        low, high = 0, len(callbacks) - 1
        while low < high:
            middle = (low + high) // 2
            if self._is_new(callbacks[middle], end):
                high = middle
            else:
                low = middle + 1
        return callbacks[:low], True

    def _is_new(self, callback: Callback, end: int) -> bool:
        records = self._ask(History(self._plan.source, callback.id))
        pushed = [record.position for record in records if record.kind is Kind.PUSHED]
        return min(pushed) > end if pushed else callback.created_at > self._began_at

    # -- pushing -----------------------------------------------------------------------------------

    def _consider(self, callback: Callback) -> None:
        if callback.origin is not None and callback.id.startswith(self._prefix):
            return  # made by this replay, or by an earlier one of the same name
        if not self._plan.filter(callback):
            return
        self._matched += 1
        new = self._copy(callback)
        if len(self._ids) < MAX_IDS:
            self._ids.append(new.id)
        if self._plan.dry_run:
            return
        message = Push(self._plan.into, new, None, True)
        self._under_way.append(self._mailbox(self._plan.into).ask(message, self._plan.timeout))
        if len(self._under_way) >= IN_FLIGHT:
            self._settle_first()

    def _copy(self, old: Callback) -> Callback:
        return Callback(
            id=new_id(self._plan.name, old.id),
            request=old.request,
            phase=self._plan.phase,
            created_at=time.time_ns(),
            origin=f"{self._plan.source}/{old.id}",
            ordering_key=old.ordering_key,
        )

    def _settle_first(self) -> None:
        result = self._under_way.popleft().get()
        if result.outcome is Outcome.DUPLICATE:
            self._duplicates += 1
        else:
            self._pushed += 1

    def _ask(self, message: Any) -> Any:
        return self._mailbox(message.endpoint_id).ask(message, self._plan.timeout).get()

    def _mailbox(self, endpoint_id: str) -> Mailbox:
        return self._calls._mailbox(endpoint_id)


def new_id(name: str, old: str) -> str:
    """The id of what is made from a callback; the same for the same name and id."""
    whole = f"{name}:{old}"
    if len(whole) <= MAX_CALLBACK_ID:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:DIGEST]
    return f"{whole[: MAX_CALLBACK_ID - DIGEST - 1]}~{digest}"


def _filter(value: Filter | None) -> Filter:
    if value is None:
        return lambda _: True
    if not callable(value):
        raise InvalidValue("filter", "a function of a callback", f"a {type(value).__name__}")
    return value


def _phase(value: str) -> str:
    if not isinstance(value, str):
        raise InvalidValue("phase", "the name of a phase", f"a {type(value).__name__}")
    return value


def _name(value: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        got = f"{len(value)} characters" if isinstance(value, str) else f"a {type(value).__name__}"
        raise InvalidValue("name", f"1 to {MAX_NAME} printable characters", got)
    return value
