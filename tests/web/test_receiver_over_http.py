"""The receiver behind a real server: what a sender sends is what a consumer pops."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from pollin_actors import Application
from pollin_actors.web import asgi
from tests.web.calls import SECRET, queued
from tests.web.served import served

GITHUB_PUSH = (Path(__file__).parent / "payloads" / "github_push.json").read_bytes()


@pytest.fixture(params=["h11", "httptools"])
def url(request: pytest.FixtureRequest, app: Application) -> Iterator[str]:
    with served(asgi(app), request.param) as running:
        yield running


def test_the_payload_is_one_that_could_break() -> None:
    """Several kilobytes, with letters beyond ASCII, escapes and white space that JSON parsers
    would not give back."""
    assert len(GITHUB_PUSH) > 8000
    assert not GITHUB_PUSH.isascii()
    assert json.dumps(json.loads(GITHUB_PUSH)).encode() != GITHUB_PUSH


def test_a_github_push_comes_back_byte_for_byte_from_pop(app: Application, url: str) -> None:
    """The body byte for byte, the headers in order, repeated ones kept; only their names are in
    lower case, as servers make them, and the secret is hidden."""
    headers = [
        ("User-Agent", "GitHub-Hookshot/044aadd"),
        ("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-GitHub-Event", "push"),
        ("Authorization", f"Bearer {SECRET}"),
        ("Content-Type", "application/json"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("Accept", "*/*"),
        ("Accept", "application/json"),
    ]
    client = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    with contextlib.closing(client):
        client.putrequest("POST", "/orders", skip_host=True, skip_accept_encoding=True)
        client.putheader("Host", "inbox.example.org")
        for name, value in headers:
            client.putheader(name, value)
        client.putheader("Content-Length", str(len(GITHUB_PUSH)))
        client.endheaders(GITHUB_PUSH)
        response = client.getresponse()
        answer = json.loads(response.read())

    callback = app.callbacks.pop("orders").get()
    assert response.status == 200
    assert callback is not None
    assert answer == {"id": callback.id, "outcome": "queued"}
    assert callback.request.body == GITHUB_PUSH
    expected = [
        ("host", "inbox.example.org"),
        *((name.lower(), value) for name, value in headers),
        ("content-length", str(len(GITHUB_PUSH))),
    ]
    expected[5] = ("authorization", "**********")
    assert list(callback.request.headers) == expected
    assert app.callbacks.pop("orders").get() is None


def test_a_chunked_body_is_put_together(app: Application, url: str) -> None:
    """Without a Content-Length, as senders that stream do."""
    pieces = [GITHUB_PUSH[start : start + 1000] for start in range(0, len(GITHUB_PUSH), 1000)]
    answer = httpx.post(
        f"{url}/orders",
        content=iter(pieces),
        headers={"X-Pollin-Secret": SECRET},
        timeout=60,
        trust_env=False,
    )

    assert answer.status_code == 200
    [callback] = queued(app)
    assert callback.request.body == GITHUB_PUSH
    assert callback.request.header("transfer-encoding") == "chunked"


def test_answers_are_whole_on_the_wire(app: Application, url: str) -> None:
    """One connection carries them all: each has its length right, also without a body."""
    bearer = {"Authorization": f"Bearer {SECRET}"}
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        for method, path, headers, status in [
            ("POST", "/orders", bearer, 200),
            ("POST", "/orders", {}, 401),
            ("POST", "/gone", bearer, 404),
            ("POST", "/orders%2Fmore", bearer, 404),
            ("POST", "/%FF%GG", bearer, 404),
            ("GET", "/orders", {}, 405),
            ("HEAD", "/orders", {}, 405),
            ("HEAD", "/healthz", {}, 200),
            ("GET", "/healthz", {}, 200),
            ("POST", "/orders", bearer, 200),
        ]:
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == status
            assert bool(answer.content) == (method != "HEAD")
    assert len(queued(app)) == 2


def test_a_declared_size_beyond_the_limit_is_refused_without_waiting_for_it(
    app: Application, url: str
) -> None:
    """The answer comes although not one byte of the body was sent."""
    host = urlsplit(url)
    assert host.hostname is not None
    head = (
        "POST /orders HTTP/1.1\r\nHost: inbox\r\n"
        f"Authorization: Bearer {SECRET}\r\nContent-Length: 99999999999\r\n\r\n"
    )
    with socket.create_connection((host.hostname, host.port or 0), timeout=60) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")
    assert queued(app) == []


def test_a_sender_that_hangs_up_leaves_nothing_behind(app: Application, url: str) -> None:
    """Half a body is no body; the next request on another connection is taken."""
    host = urlsplit(url)
    assert host.hostname is not None
    head = (
        "POST /orders HTTP/1.1\r\nHost: inbox\r\n"
        f"Authorization: Bearer {SECRET}\r\nContent-Length: 1000\r\n\r\nhalf of it"
    )
    with socket.create_connection((host.hostname, host.port or 0), timeout=60) as connection:
        connection.sendall(head.encode())
    answer = httpx.post(
        f"{url}/orders",
        content=b"whole",
        headers={"X-Pollin-Secret": SECRET},
        timeout=60,
        trust_env=False,
    )

    assert answer.status_code == 200
    assert [callback.request.body for callback in queued(app)] == [b"whole"]
