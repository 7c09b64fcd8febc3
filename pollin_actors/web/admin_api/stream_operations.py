"""Dumps as lines of JSON, out and in, as streams: memory stays flat."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread

from pollin_actors import transfer
from pollin_actors.web.admin_api import schemas as s
from pollin_actors.web.admin_api.problems import Kind, Problem
from pollin_actors.web.admin_api.schemas import array, ref
from pollin_actors.web.admin_api.table import Call, ClientGone, Lines, Operation

__all__ = ["OPERATIONS"]

PIECE = 64 * 1024
MAX_LOADS = 4
CHUNK_TIMEOUT = 30.0

_BUSY = Kind(503, "busy", "Others load dumps already")
_TOO_LONG = Kind(413, "too-large", "A line is too long")
_TOO_SLOW = Kind(408, "too-slow", "The request came too slowly")

_places = threading.BoundedSemaphore(MAX_LOADS)


async def dump(call: Call) -> Lines:
    lines = transfer.dump(call.app, call.query.get("endpoint_id"), timeout=call.timeout)
    pieces = _pieces(lines)
    # What is wrong from the start is answered as a problem.
    first = await anyio.to_thread.run_sync(next, pieces, b"")
    return Lines(first, pieces)


async def load(call: Call) -> dict[str, Any]:
    places = _places
    if not places.acquire(blocking=False):
        raise Problem(_BUSY, f"expected at most {MAX_LOADS} dumps to be loaded at once: try later")
    place = _Place(places)
    lines = _Lines(call.chunks, 6 * call.app.settings.max_bytes + PIECE)

    def work() -> transfer.Loaded:
        with place:
            return transfer.load(call.app, lines, timeout=call.timeout)

    try:
        # A thread of its own: one that waits for a slow client is taken from nobody.
        own = anyio.CapacityLimiter(1)
        loaded = await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=own)
    finally:
        # Whoever is cancelled does not wait for the thread, which then has the place for longer.
        lines.stop()
        place.leave()
    return loaded._asdict()


class _Place:
    """One of the places for those who load: given back once, by the thread if that has begun."""

    def __init__(self, places: threading.BoundedSemaphore) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._begun = self._left = False

    def __enter__(self) -> None:
        with self._lock:
            if self._left:
                raise ClientGone
            self._begun = True

    def __exit__(self, *error: object) -> None:
        self._places.release()

    def leave(self) -> None:
        """The request has ended."""
        with self._lock:
            if self._begun or self._left:
                return
            self._left = True
        self._places.release()


def _pieces(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Several lines at a time: each piece is one change of threads."""
    held, size = [], 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= PIECE:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


class _Lines:
    """The lines of a body, for a thread; the next piece is read when all before were taken."""

    def __init__(self, chunks: AsyncIterator[bytes], limit: int) -> None:
        self._chunks = chunks
        self._limit = limit
        self._stopped = False
        self._reading: anyio.CancelScope | None = None

    def stop(self) -> None:
        """On the event loop: there are no more lines, for whomever has not had them all."""
        self._stopped = True
        if self._reading is not None:
            self._reading.cancel()

    def __iter__(self) -> Iterator[bytes]:
        rest = bytearray()
        while (chunk := anyio.from_thread.run(self._next)) is not None:
            begin = len(rest)
            rest += chunk
            end = rest.rfind(b"\n", begin) + 1
            if end:
                whole = bytes(rest[:end])
                del rest[:end]
                for line in whole.splitlines():
                    self._go_on()
                    yield line
            if len(rest) > self._limit:
                detail = f"expected lines of at most {self._limit} bytes, got a longer one"
                raise Problem(_TOO_LONG, detail, {"limit": self._limit})
        if rest:
            yield bytes(rest)

    def _go_on(self) -> None:
        if self._stopped:
            raise ClientGone

    async def _next(self) -> bytes | None:
        self._go_on()
        try:
            with anyio.fail_after(CHUNK_TIMEOUT) as self._reading:
                return await anext(self._chunks, None)
        except TimeoutError:
            detail = f"expected more of the body within {CHUNK_TIMEOUT:.0f} s, got nothing"
            raise Problem(_TOO_SLOW, detail) from None
        raise ClientGone


OPERATIONS = (
    Operation(
        id="dump",
        method="GET",
        path="/dump",
        summary="Endpoints without their secrets, and all that is queued, as lines of JSON.",
        run=dump,
        query={"endpoint_id": array(s.ENDPOINT_ID, minItems=1, maxItems=1_000)},
        replies={200: {"type": "string"}},
        errors=(404,),
        streams="reply",
    ),
    Operation(
        id="load",
        method="POST",
        path="/load",
        summary="Add what a dump holds; repeated, it adds nothing twice.",
        run=load,
        body={"type": "string"},
        replies={200: ref("Loaded")},
        errors=(404, 408, 409),
        streams="body",
    ),
)
