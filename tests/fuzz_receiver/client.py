"""Sends the requests over raw sockets, and reads what is answered."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from tests.fuzz_receiver.book import Book
from tests.fuzz_receiver.cases import Case, Then

__all__ = ["Plan", "send_all"]

CONNECTIONS = 48
DEADLINE_S = 30.0
"""Seconds for one connection with all its requests: each takes milliseconds, even if the machine
has much else to do; but those with a slow body wait for the server's limit."""


@dataclass(slots=True)
class Plan:
    """What is sent over one connection.

    Arguments:
        cases: all but the last leave the connection usable.
        pipelined: all are sent before any answer is read.
    """

    cases: list[Case]
    pipelined: bool


class Wrong(Exception):
    """An answer that should not have been."""


async def send_all(port: int, plans: Iterator[Plan], book: Book) -> None:
    """Go through all plans, many at a time, and note in the book what is answered."""

    async def work() -> None:
        for plan in plans:
            await _send(port, plan, book)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(work())


async def _send(port: int, plan: Plan, book: Book) -> None:
    for case in plan.cases:
        book.sent(case)
    unanswered = iter(plan.cases)
    try:
        async with asyncio.timeout(DEADLINE_S), _connected(port) as (reader, writer):
            if plan.pipelined:
                await _write(writer, [b"".join(b"".join(it.pieces) for it in plan.cases)])
            for case in unanswered:
                if not plan.pipelined:
                    await _write(writer, case.pieces)
                await _answered(reader, writer, case, book)
    except TimeoutError:
        book.failed(plan.cases, "no answer, and the connection is still open")
    except Wrong as error:
        book.failed(plan.cases, str(error))


@contextlib.asynccontextmanager
async def _connected(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _write(writer: asyncio.StreamWriter, pieces: list[bytes]) -> None:
    # Who is refused early may be shut out while still sending.
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()


async def _answered(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, case: Case, book: Book
) -> None:
    """Read what is answered to one request, as far as we stay to read it."""
    if case.then is Then.RESET:
        # Without this, closing would be polite.
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if case.then in (Then.RESET, Then.LEAVE):
        book.answered(case, None)
        return
    if case.then is Then.END:
        with contextlib.suppress(OSError):
            writer.write_eof()
    status = await _status(reader, case.is_head)
    if status is None and case.then is not Then.END:
        raise Wrong(f"{case.kind}: the connection was closed without an answer")
    book.answered(case, status)
    if case.then is Then.END:
        # Bytes too many may be one more request, or several.
        while status is not None:
            status = await _status(reader, case.is_head)
            book.also(case, status)


async def _status(reader: asyncio.StreamReader, is_head: bool) -> int | None:
    """The status of the next answer, which is read to its end; None if there is none."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            status, headers = _parsed(head)
            if status >= 200:
                break
        if "content-length" not in headers:
            # The server's own, to what is malformed: it ends with the connection.
            if headers.get("connection") != "close" or status != 400:
                raise Wrong(f"an answer without a length: {head!r}")
            await reader.read()
        elif not is_head:
            await reader.readexactly(int(headers["content-length"]))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return status


def _parsed(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    version, status, _ = [*first.split(" ", 2), ""][:3]
    if version != "HTTP/1.1" or not status.isdigit():
        raise Wrong(f"no answer of HTTP: {head[:100]!r}")
    pairs = (line.partition(":") for line in lines)
    return int(status), {name.lower(): value.strip() for name, _, value in pairs}
