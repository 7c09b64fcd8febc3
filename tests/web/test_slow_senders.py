"""Senders that never come to an end, and those beside them who do."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from pollin_actors import Application
from pollin_actors.web import asgi
from tests.web.calls import SECRET, queued
from tests.web.served import served

SLOW = 500
ORDINARY = 200
HEAD = f"POST /orders HTTP/1.1\r\nHost: inbox\r\nX-Pollin-Secret: {SECRET}\r\n".encode()
LONG = HEAD + b"Content-Length: 100000\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
# What a slow sender begins with, and what it adds whenever it adds something.
IN_THE_FIRST_LINE = b"POST /ord", b"e"
IN_THE_HEADERS = HEAD + b"X-Slow: ", b"y"
IN_THE_BODY = LONG, b"z"
IN_THE_CHUNKS = CHUNKED, b"1\r\nz\r\n"
BETWEEN_REQUESTS = b"", b""
WAYS = [IN_THE_FIRST_LINE, IN_THE_HEADERS, IN_THE_BODY, IN_THE_CHUNKS, BETWEEN_REQUESTS]


class Slow:
    """A connection on which a little comes now and then."""

    def __init__(self, url: str, way: tuple[bytes, bytes]) -> None:
        beginning, self._more = way
        address = urlsplit(url)
        self.sock = socket.create_connection((address.hostname, address.port), 60)
        self.sock.sendall(beginning)

    def dribble(self) -> None:
        self.sock.sendall(self._more)

    @property
    def is_open(self) -> bool:
        """Whether nothing has come back, not even the end."""
        self.sock.setblocking(False)
        try:
            self.sock.recv(1)
        except BlockingIOError:
            return True
        return False

    def answer(self) -> bytes:
        """All that comes until the server closes."""
        pieces = []
        with contextlib.suppress(ConnectionError):
            while piece := self.sock.recv(10_000):
                pieces.append(piece)
        return b"".join(pieces)


@contextlib.contextmanager
def slow_senders(url: str, count: int, ways: list[tuple[bytes, bytes]]) -> Iterator[list[Slow]]:
    with contextlib.ExitStack() as stack:
        senders = []
        for number in range(count):
            sender = Slow(url, ways[number % len(ways)])
            stack.callback(sender.sock.close)
            senders.append(sender)
        yield senders


def post(client: http.client.HTTPConnection) -> int:
    client.request("POST", "/orders", b"{}", {"X-Pollin-Secret": SECRET})
    response = client.getresponse()
    response.read()
    return response.status


@pytest.mark.parametrize("implementation", ["h11", "httptools"])
def test_five_hundred_slow_senders_stop_nobody(app: Application, implementation: str) -> None:
    """With 500 connections open whose requests dribble, in the first line, the headers, the body
    or its chunks, 200 of 200 others are answered 200: over one connection, and over new ones."""
    receiver = asgi(app, body_timeout=3_600)
    with served(receiver, implementation) as url, slow_senders(url, SLOW, WAYS) as slow:
        kept = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        statuses = []
        for number in range(ORDINARY):
            slow[number].dribble()
            slow[-1 - number].dribble()
            client = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
            with contextlib.closing(client):
                statuses.append(post(kept if number % 2 else client))
        kept.close()

        assert statuses == [200] * ORDINARY
        assert [sender for sender in slow if not sender.is_open] == []
        assert len(queued(app)) == ORDINARY


@pytest.mark.parametrize("implementation", ["h11", "httptools"])
def test_a_body_that_dribbles_is_ended(app: Application, implementation: str) -> None:
    """After body_timeout it is answered 408 and the connection is closed, however much has come;
    nothing of it is stored."""
    receiver = asgi(app, body_timeout=0.2)
    ways = [IN_THE_BODY, IN_THE_CHUNKS]
    with served(receiver, implementation) as url, slow_senders(url, 50, ways) as slow:
        for sender in slow:
            with contextlib.suppress(ConnectionError):  # it may be over already
                sender.dribble()
        answers = [sender.answer() for sender in slow]

    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 408"] * 50
    assert all(b"connection: close" in answer.lower() for answer in answers)
    assert queued(app) == []
