"""``pollin serve``: up in one line, shows what arrives, and stops when told to."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from pollin_actors.cli import serve
from tests.cli.command import TIMEOUT, Serve, environment
from tests.web.calls import Exchange

BODY = b'{"hello": "world"}'

curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def post(server: Serve, body: bytes = BODY, endpoint: str = "webhooks") -> str:
    """POST as a sender does; the id that was answered."""
    answer = httpx.post(
        f"{server.url}/{endpoint}",
        content=body,
        headers={"Authorization": f"Bearer {server.secret}"},
        timeout=TIMEOUT,
        trust_env=False,
    )
    assert answer.status_code == 200
    identifier: str = answer.json()["id"]
    return identifier


def run_in_shell(line: str) -> str:
    done = subprocess.run(
        ["sh", "-c", line],
        env={**environment(), "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    return done.stdout


class TestBanner:
    def test_it_says_where_it_listens_and_how_to_send(self) -> None:
        """A free port is named as it is, and the curl line has everything in it."""
        with Serve() as server:
            port = server.url.rpartition(":")[2]
            assert 0 < int(port) < 65536
            assert server.banner == [
                f"listening  http://127.0.0.1:{port}",
                "backend    sqlite:///pollin.db",
                f"curl -X POST http://127.0.0.1:{port}/webhooks "
                f"-H 'Authorization: Bearer {server.secret}' "
                "-H 'Content-Type: application/json' -d '{\"hello\": \"world\"}'",
            ]
            assert len(server.secret) == 43

    @curl
    def test_the_curl_line_works_as_it_is(self) -> None:
        """Pasted into a shell, it sends a callback that is shown."""
        with Serve() as server:
            answer = run_in_shell(server.curls[0])
            assert '"outcome": "queued"' in answer
            assert server.line().endswith('18 bytes  {"hello": "world"}')

    @curl
    def test_curl_lines_work_whatever_the_names(self) -> None:
        """Every endpoint has its line, and what is special to shells and URLs is escaped."""
        ids = ["orders", "it's-50%", "größe[1]{a,b}$HOME"]
        options = [part for endpoint in ids for part in ("--endpoint", endpoint)]
        with Serve(*options, "--secret", "it's $HOME `x` \\ größe", endpoints=3) as server:
            for endpoint, line in zip(ids, server.curls, strict=True):
                assert '"outcome": "queued"' in run_in_shell(line)
                for word in ("queued", "popped", "processed"):
                    assert server.line().split()[:2] == [word, endpoint]

    def test_generated_secrets_differ(self) -> None:
        """One per endpoint: who may send to one may not send to the other."""
        with Serve("--endpoint", "a", "--endpoint", "b", endpoints=2) as server:
            first, second = (line.split("Bearer ")[1].split("'")[0] for line in server.curls)
            assert first != second

    def test_the_secret_comes_from_the_option_or_else_the_environment(self) -> None:
        with Serve(POLLIN_SECRET="from-the-environment") as server:
            assert server.secret == "from-the-environment"
        with Serve("--secret", "given", POLLIN_SECRET="from-the-environment") as server:
            assert server.secret == "given"
            post(server)

    @pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
    @pytest.mark.parametrize("host", ["::1", "[::1]"])
    def test_an_ipv6_address_stands_in_brackets(self, host: str) -> None:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
        with Serve("--host", host) as server:
            assert server.url.startswith("http://[::1]:")
            post(server)

    def test_an_address_that_means_all_is_sent_to_as_this_machine(self) -> None:
        with Serve("--host", "0.0.0.0") as server:
            assert server.url.startswith("http://0.0.0.0:")
            assert "POST http://127.0.0.1:" in server.curls[0]


class TestShown:
    def test_what_arrives_is_shown_popped_and_processed(self) -> None:
        with Serve() as server:
            for number in range(3):
                identifier = post(server, b"%d" % number)
                assert [server.line() for _ in range(3)] == [
                    f"queued     webhooks  {identifier}  1 bytes  {number}",
                    f"popped     webhooks  {identifier}",
                    f"processed  webhooks  {identifier}",
                ]

    def test_with_keep_it_stays_in_the_queue(self) -> None:
        """The next line is about the next callback: nothing was popped."""
        with Serve("--keep") as server:
            for body in (b"one", b"two"):
                identifier = post(server, body)
                line = f"queued     webhooks  {identifier}  3 bytes  {body.decode()}"
                assert server.line() == line

    def test_what_is_queued_and_the_secret_outlive_a_kill(self, tmp_path: Path) -> None:
        with Serve("--keep", folder=tmp_path) as server:
            secret, identifier = server.secret, post(server)
        with Serve(folder=tmp_path) as server:
            assert server.secret == secret
            for word in ("queued", "popped", "processed"):
                assert server.line().split()[:3] == [word, "webhooks", identifier]

    def test_a_body_is_one_line_whatever_is_in_it(self) -> None:
        """Control characters are escaped, bytes that are no text replaced, length is bounded."""
        with Serve("--keep") as server:
            post(server, b"a\r\n\x1b[31mred\xff\xe2\x82\xac")
            assert server.line().endswith("  15 bytes  a\\r\\n\\x1b[31mred\ufffd€")
            post(server, "ö".encode() * 5000)
            assert server.line().endswith("  10000 bytes  " + "ö" * 200 + "…")
            post(server, b"")
            assert server.line().endswith("  0 bytes")

    def test_what_is_refused_is_not_shown(self) -> None:
        with Serve() as server:
            refused = httpx.post(
                f"{server.url}/webhooks", content=BODY, timeout=TIMEOUT, trust_env=False
            )
            assert refused.status_code == 401
            identifier = post(server)
            assert identifier in server.line()


class TestStop:
    def test_a_sender_that_is_cut_off_is_told_to_come_again(self) -> None:
        """The server cancels who is not done when its grace ends: the answer is 503."""

        async def cut_off() -> Exchange:
            reading = asyncio.Event()

            async def receiver(scope: Any, receive: Any, send: Any) -> None:
                reading.set()
                await asyncio.Event().wait()

            request = Exchange()
            task = asyncio.create_task(request.through(serve._answering(receiver)))
            await reading.wait()
            task.cancel()
            return await task

        answer = asyncio.run(cut_off())

        assert (answer.status, answer.headers[b"retry-after"]) == (503, b"1")
        assert answer.json["error"]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_stops_it_cleanly(self, number: signal.Signals) -> None:
        """Exit code 0, "stopped" as the last line, nothing on stderr."""
        with Serve() as server:
            post(server)
            code, lines, errors = server.stop(number)

            assert (code, errors) == (0, "")
            # What was acknowledged is shown before.
            assert [line.split()[0] for line in lines] == [
                "queued",
                "popped",
                "processed",
                "stopped",
            ]

    def test_connections_that_are_left_open_do_not_hold_it_up(self) -> None:
        """A client that keeps its connection alive is not waited for."""
        with Serve() as server, httpx.Client(timeout=TIMEOUT, trust_env=False) as client:
            assert client.get(f"{server.url}/healthz").json() == {"status": "ok"}
            code, lines, errors = server.stop()

            assert (code, lines, errors) == (0, ["stopped"], "")

    def test_a_closed_stdout_does_not_stop_it(self) -> None:
        """It goes on receiving, says once that it shows nothing more, and still stops cleanly."""
        with Serve() as server:
            server.stop_reading()
            post(server)
            assert "printer.silenced" in server.error_line()
            post(server)
            code, _, errors = server.stop()

            assert (code, errors) == (0, "")
