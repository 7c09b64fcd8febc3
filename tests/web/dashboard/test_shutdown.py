"""Servers end although somebody looks at a live page."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
import sys
from urllib.parse import urlencode

from tests.web.dashboard.visitor import WRITER

PROGRAM = f"""
import sys
import uvicorn
from pollin_actors import Application, Endpoint, web

with Application(endpoints=[Endpoint.new(id="orders")]) as app:
    dashboard = web.dashboard(app, token={WRITER!r})
    uvicorn.run(dashboard, fd=int(sys.argv[1]), http="h11", lifespan="off", log_level="warning")
"""


def test_a_live_page_does_not_hold_up_the_end() -> None:
    """A signal ends uvicorn within seconds, not when the stream would have ended."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port, fd = sock.getsockname()[1], sock.fileno()
        command = [sys.executable, "-c", PROGRAM, str(fd)]
        process = subprocess.Popen(command, pass_fds=[fd])
    try:
        cookie = _log_in(port)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/?stream=1", headers={"cookie": cookie})
        answer = connection.getresponse()
        assert answer.status == 200
        while answer.fp.readline() != b"event: parts\n":
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) in (0, -signal.SIGTERM)
        connection.close()
    finally:
        process.kill()
        process.wait()


def _log_in(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/login")
    answer = connection.getresponse()
    cookie = (answer.getheader("set-cookie") or "").partition(";")[0]
    found = re.search(r'name="form_token" value="(\w+)"', answer.read().decode())
    assert found is not None
    body = urlencode({"form_token": found[1], "token": WRITER})
    headers = {"cookie": cookie, "content-type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/login", body, headers)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 303
    connection.close()
    return (answer.getheader("set-cookie") or "").partition(";")[0]
