"""Looking for callbacks: by phase, time, header and text, a bounded piece at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NamedTuple

import anyio.to_thread

from pollin_actors.errors import InvalidValue
from pollin_actors.masking import NO_SECRETS, Secrets
from pollin_actors.messages import DumpPage, FetchReverse, PastPage
from pollin_actors.resources import Callback, Page, Request
from pollin_actors.web.admin_api.cursors import read_cursor, write_cursor
from pollin_actors.web.admin_api.table import THREAD_FROM
from pollin_actors.web.admin_api.views import MASK, masked, weight
from pollin_actors.web.dashboard.flows import Ask, first_place
from pollin_actors.web.dashboard.rows import Row, row_of

__all__ = ["PER_PAGE", "Filter", "Found", "Scanned", "find", "read_filter", "scan_page"]

PER_PAGE = 50
SCAN = 500
"""Callbacks that are read at once."""
BUDGET_S = 0.12
"""Seconds that one request looks."""
NEWEST = 100_000
"""How far back the newest can be leafed through; what is older is found from the other end."""
LONGEST = 500
FIRST_STEP = 16
"""How many of the newest are read first; then four times as many, or fewer if they are large."""
STEP_BYTES = 2 * 1024 * 1024

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which callbacks.

    Arguments:
        phase: of this phase only; empty: any.
        since: nanoseconds since the epoch from which on they were created.
        until: before which.
        header: with such a header: its name, or ``name: part of its value``.
        text: with this in the body, or in the id; capitals do not matter.
        kept: also those that have left the queue and are kept.
        newest: newest first; of those that are kept there is no such order.
        secrets: what no header shows, and so none is found by.
    """

    phase: str = ""
    since: int | None = None
    until: int | None = None
    header: str = ""
    text: str = ""
    kept: bool = False
    newest: bool = True
    secrets: Secrets = NO_SECRETS

    @property
    def looks_inside(self) -> bool:
        """Whether each callback has to be looked at."""
        return bool(self.header or self.text or self.since is not None or self.until is not None)

    @property
    def is_bare(self) -> bool:
        """Whether it is the queue as it is, newest first, perhaps of one phase."""
        return self.newest and not self.kept and not self.looks_inside

    def matches(self, callback: Callback) -> bool:
        """Whether a callback is one of those."""
        if self.phase and callback.phase != self.phase:
            return False
        if self.since is not None and callback.created_at < self.since:
            return False
        if self.until is not None and callback.created_at >= self.until:
            return False
        if self.header and not _has_header(callback.request, self.header, self.secrets):
            return False
        return not self.text or _has_text(callback, self.text)


def read_filter(given: Mapping[str, str], secrets: Secrets) -> Filter:
    """The filter that a form or a URL describes.

    Arguments:
        given: its fields.
        secrets: those that no header shows.

    Raises:
        InvalidValue: a field has a value that it cannot have.
    """
    for name in ("phase", "header", "text"):
        if len(given.get(name, "")) > LONGEST:
            got = f"{len(given[name])}"
            raise InvalidValue(name, f"at most {LONGEST} characters", got)
    kept = given.get("kept", "") == "1"
    return Filter(
        phase=given.get("phase", ""),
        since=_read_time("since", given.get("since", "")),
        until=_read_time("until", given.get("until", "")),
        header=given.get("header", "").strip(),
        text=given.get("text", ""),
        kept=kept,
        newest=not kept and given.get("order", "newest") != "oldest",
        secrets=secrets,
    )


def _read_time(name: str, text: str) -> int | None:
    if not text:
        return None
    text = text.removesuffix("Z").replace(" ", "T")
    if _TIME.fullmatch(text):
        try:
            at = datetime.fromisoformat(text).replace(tzinfo=UTC)
            return max(int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1_000, 0)
        except ValueError:
            pass
    expected = "a time in UTC, such as 2026-01-31T23:59"
    raise InvalidValue(name, expected, ascii(text)[:80])


class Found(NamedTuple):
    """What one request has found."""

    rows: list[Row]
    following: str | None
    """The cursor to go on with; None: that was all."""
    looked: int
    """At how many, those of earlier requests included."""
    cut: bool = False
    """There are more, too far from the newest."""
    jumped: bool = False
    """It began near the time that was asked for: what was pushed long after it was created is
    not among them."""


async def find(
    ask: Ask, endpoint_id: str, wanted: Filter, cursor: str | None, whole: bool = False
) -> Found:
    """One page of what matches; fewer where looking takes long.

    Arguments:
        ask: asks the inbox.
        endpoint_id: whose callbacks.
        wanted: which.
        cursor: of the request before.
        whole: look from the very first on, and not from about the time that is asked for.

    Raises:
        InvalidValue: the cursor is none.
    """
    order = "newest" if wanted.newest else "kept" if wanted.kept else "oldest"
    place, looked, jumped = 0, 0, False
    if cursor is not None:
        place, looked = read_cursor(cursor, f"callbacks {order}", int, int)
    elif wanted.since is not None and not wanted.newest and not whole:
        place, jumped = await _near(ask, endpoint_id, wanted), True
    found: list[Row] = []
    until = monotonic() + BUDGET_S
    at: int | None = place
    step = FIRST_STEP
    while at is not None:
        if wanted.newest and at >= NEWEST:
            return Found(found, None, looked, cut=True)
        some = await scan_page(ask, endpoint_id, wanted, at, PER_PAGE - len(found), step)
        at, seen, matching, held = some
        looked += seen
        # Only the lines are kept: the bodies of fifty may be some hundred megabytes.
        found += map(row_of, matching)
        step = min(step * 4, SCAN) if held < STEP_BYTES else max(step // 4, 1)
        # At least one page each time, however late it is: one gets on.
        if len(found) >= PER_PAGE or monotonic() >= until:
            break
    following = None if at is None else write_cursor(f"callbacks {order}", at, looked)
    return Found(found, following, looked, jumped=jumped)


class Scanned(NamedTuple):
    """One page that was read."""

    following: int | None
    """Where the next one begins; None: there is none."""
    seen: int
    """How many were looked at."""
    matching: list[Callback]
    """Those of them that match, at most as many as were wanted."""
    weight: int
    """About how many bytes were read."""


async def scan_page(
    ask: Ask, endpoint_id: str, wanted: Filter, place: int, most: int, step: int = SCAN
) -> Scanned:
    """Read one page, and take what matches.

    Arguments:
        ask: asks the inbox.
        endpoint_id: whose callbacks.
        wanted: which.
        place: where the page begins.
        most: how many are wanted at most.
        step: how many are read at most, where the inbox does not bound what they weigh.
    """
    bare = not (wanted.looks_inside or (wanted.phase and not wanted.newest))
    count = min(most, SCAN) if bare else SCAN
    make: Any = PastPage if wanted.kept else DumpPage
    if wanted.newest:
        count = min(count, step)
        # One more tells whether there are others.
        message = FetchReverse(endpoint_id, wanted.phase or None, place, count + 1)
        rows: list[Callback] = await ask(message)
        following = place + count if len(rows) > count else None
        rows = rows[:count]
    else:
        page: Page = await ask(make(endpoint_id, place or None, count))
        rows, following = page
    held = weight(rows)
    if bare:
        return Scanned(following, len(rows), rows, held)
    if held >= THREAD_FROM:
        matching = await anyio.to_thread.run_sync(_matching, wanted, rows, most)
    else:
        matching = _matching(wanted, rows, most)
    if len(matching) < most or (following is None and matching[-1] is rows[-1]):
        return Scanned(following, len(rows), matching, held)
    # As many as are wanted: it goes on behind the last of them.
    seen = next(n for n, row in enumerate(rows, 1) if row is matching[-1])
    if wanted.newest:
        return Scanned(place + seen, seen, matching, held)
    if seen < len(rows):
        following = (await ask(make(endpoint_id, place or None, seen))).cursor
    return Scanned(following, seen, matching, held)


def _matching(wanted: Filter, rows: list[Callback], most: int) -> list[Callback]:
    found = []
    for row in rows:
        if wanted.matches(row):
            found.append(row)
            if len(found) == most:
                break
    return found


async def _near(ask: Ask, endpoint_id: str, wanted: Filter) -> int:
    """About where a time begins; they stand in the order of their pushes."""
    make: Any = PastPage if wanted.kept else DumpPage
    since = wanted.since or 0

    async def reached(place: int) -> bool:
        page: Page = await ask(make(endpoint_id, place or None, 1))
        return not page.callbacks or page.callbacks[0].created_at >= since

    return await first_place(reached)


def _has_header(request: object, wanted: str, secrets: Secrets) -> bool:
    if not isinstance(request, Request):
        return False
    name, colon, part = wanted.partition(":")
    name, part = name.strip().lower(), part.strip().lower()
    for key, value in request.headers:
        if key.lower() == name and (not colon or _shown(key, value, part, secrets)):
            return True
    return False


def _shown(name: str, value: str, part: str, secrets: Secrets) -> bool:
    # What is hidden is not to be guessed by searching for it either.
    value = masked(name, value, secrets)
    return value != MASK and part in value.lower()


def _has_text(callback: Callback, text: str) -> bool:
    request, lower = callback.request, text.lower()
    if lower in callback.id.lower():
        return True
    if isinstance(request, Request):
        return lower.encode("utf-8", "replace") in request.body.lower()
    if isinstance(request, bytes):
        return lower.encode("utf-8", "replace") in request.lower()
    return isinstance(request, str) and lower in request.lower()
