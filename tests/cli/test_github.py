"""A real GitHub payload, over HTTP, through ``pollin serve``, and out of ``pop``."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from pollin_actors import Application
from pollin_actors.cli import main, serve

PAYLOAD = Path(__file__).parents[1] / "web" / "payloads" / "github_push.json"


def test_a_push_event_comes_back_byte_for_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Body, header values, order and repeats; the command runs as it is, in a thread."""
    apps: list[Application] = []
    servers: list[Any] = []
    listening = threading.Event()
    addresses: list[tuple[str, int]] = []
    make_server, listen = serve._server, serve._listen

    def application(*args: Any, **options: Any) -> Application:
        apps.append(Application(*args, **options))
        return apps[-1]

    def server(receiver: Any) -> Any:
        servers.append(make_server(receiver))
        return servers[-1]

    def listener(host: str, port: int) -> socket.socket:
        sock = listen(host, port)
        addresses.append(sock.getsockname())
        listening.set()
        return sock

    monkeypatch.setattr(serve, "Application", application)
    monkeypatch.setattr(serve, "_server", server)
    monkeypatch.setattr(serve, "_listen", listener)
    monkeypatch.setattr(serve, "_configure_log", lambda: None)
    arguments = ["serve", "--port", "0", "--endpoint", "github", "--secret", "s3cret", "--keep"]
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(arguments)))
    thread.start()
    try:
        assert listening.wait(30)
        body = PAYLOAD.read_bytes()
        headers = [
            ("host", "inbox.example"),
            ("user-agent", "GitHub-Hookshot/044aadd"),
            ("content-length", str(len(body))),
            ("accept", "*/*"),
            ("content-type", "application/json"),
            ("x-github-event", "push"),
            ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "198.51.100.7"),
            ("x-pollin-secret", "s3cret"),
            ("connection", "close"),
        ]
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        with socket.create_connection(addresses[0], timeout=30) as sock:
            sock.sendall(f"POST /github HTTP/1.1\r\n{head}\r\n".encode() + body)
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        callback = apps[0].callbacks.pop("github").get()
        assert callback is not None
        assert callback.request.body == body
        expected = [
            (name, "**********" if name == "x-pollin-secret" else value) for name, value in headers
        ]
        assert list(callback.request.headers) == expected
        assert callback.id in answer.decode()
    finally:
        servers[0].should_exit = True
        thread.join(30)
    assert codes == [0]
