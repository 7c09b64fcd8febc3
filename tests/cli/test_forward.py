"""`pollin forward`: callbacks reach a URL at least once, whatever that answers."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pollin_actors import Application, Callback, Request
from tests.cli.command import TIMEOUT, Running
from tests.cli.inboxes import TOKEN, Cli, push, remote_of


class Target:
    """Where callbacks are forwarded to."""

    def __init__(self) -> None:
        self.requests: list[tuple[list[tuple[str, str]], bytes]] = []
        self.statuses: list[int] = []
        """What is answered, one after the other; then 204."""
        self.during: Callable[[], object] = lambda: None
        """Called while a request is under way."""
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                target.requests.append((self.headers.items(), body))
                target.reached.set()
                target.go_on.wait(TIMEOUT)
                target.during()
                self.send_response(target.statuses.pop(0) if target.statuses else 204)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook?a=%20b"

    def close(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(TIMEOUT)


@pytest.fixture
def target() -> Iterator[Target]:
    opened = Target()
    yield opened
    opened.close()


def phases(app: Application) -> dict[str, str]:
    return {it.id: it.phase for it in app.callbacks.dump("orders")}


def test_headers_and_body_come_as_they_were(cli: Cli, target: Target) -> None:
    """But for what belongs to a connection; id and attempt come with them."""
    headers = [
        ("Content-Type", "text/plain"),
        ("X-A", "1"),
        ("X-A", "2"),
        ("Host", "elsewhere"),
        ("Content-Length", "999"),
        ("Connection", "close"),
    ]
    body = bytes(range(256))
    callback = Callback.new(Request(headers, body), id="größe/1\n")
    cli.app.callbacks.push("orders", callback).get()

    ran = cli("forward", "orders", target.url, "--drain")

    assert ran.out == "delivered  größe/1\\n  attempt 1  HTTP 204\n"
    ((got, received),) = target.requests
    assert received == body
    assert [pair for pair in got if pair[0].lower() not in ("host", "content-length")] == [
        ("Content-Type", "text/plain"),
        ("X-A", "1"),
        ("X-A", "2"),
        ("x-pollin-callback", "gr%C3%B6%C3%9Fe/1%0A"),
        ("x-pollin-attempt", "1"),
    ]
    assert cli.app.callbacks.count("orders").get() == 0


def test_credentials_are_hidden_by_a_server_only(cli: Cli, target: Target) -> None:
    """They are left out, rather than sent wrong, and that is said once."""
    for key in ("a", "b"):
        request = Request([("X-Signature", "s3cret"), ("X-A", "1")], b"")
        cli.app.callbacks.push("orders", Callback.new(request, id=key)).get()

    ran = cli("forward", "orders", target.url, "--drain")

    for got, _ in target.requests:
        assert dict(got).get("X-Signature") == (None if cli.remote else "s3cret")
    assert ran.err.count("a server hides headers") == (1 if cli.remote else 0)


def test_what_is_done_goes_on(cli: Cli, target: Target) -> None:
    """Into the phase --then; only what is in --phase is taken, oldest first, --count of it."""
    for key in ("a", "b", "c"):
        push(cli.app, key, key.encode())
    push(cli.app, "d", phase="done")

    found = cli("forward", "orders", target.url, "--then", "done", "--count", "2", "--json").lines

    assert found == [
        {"key": key, "attempt": 1, "status": 204, "reason": None, "outcome": "delivered"}
        for key in ("a", "b")
    ]
    assert phases(cli.app) == {"a": "done", "b": "done", "c": "received", "d": "done"}
    assert [body for _, body in target.requests] == [b"a", b"b"]


@pytest.mark.parametrize("status", [302, 400, 404, 500, 503])
def test_another_answer_is_a_failure(cli: Cli, target: Target, status: int) -> None:
    """It is tried again, later; redirects are not followed."""
    push(cli.app, "a")
    target.statuses = [status]

    ran = cli("forward", "orders", target.url, "--count", "1", code=1)

    assert ran.out == f"failed     a  attempt 1  HTTP {status}\n"
    callback = cli.app.callbacks.fetch("orders", key="a").get()
    assert callback is not None
    assert (callback.phase, callback.attempts) == ("received", 1)
    (record,) = [it for it in cli.app.callbacks.history("orders", key="a").get() if it.reason]
    assert (record.kind, record.reason) == ("failed", f"HTTP {status}")


def test_it_is_tried_again_until_it_is_delivered(cli: Cli, target: Target) -> None:
    """By the same run, which waits for it."""
    push(cli.app, "a")
    target.statuses = [500]

    ran = cli("forward", "orders", target.url, "--count", "2", code=1)

    assert [line.split("  ")[0].strip() for line in ran.out.splitlines()] == ["failed", "delivered"]
    assert [dict(got)["x-pollin-attempt"] for got, _ in target.requests] == ["1", "2"]


def test_the_last_attempt_is_dead(cli: Cli, target: Target) -> None:
    """It goes into the phase for dead letters, where `dead list` finds it."""
    push(cli.app, "a")
    target.statuses = [500]
    more = ("--dead-letter", "failed", "--max-attempts", "1", "--drain")
    assert cli("forward", "orders", target.url, *more, code=1).out.startswith("dead ")
    assert phases(cli.app) == {"a": "failed"}
    assert len(cli.json("dead", "list", "orders")["dead"]) == 1


def test_nobody_there_and_values(cli: Cli) -> None:
    """What cannot be sent has failed, with the reason."""
    cli.app.callbacks.push("orders", Callback.new({"a": 1}, id="value")).get()
    push(cli.app, "a")
    # Once each: else the first may come again before the second.
    once = ("--drain", "--dead-letter", "failed", "--max-attempts", "1")
    ran = cli("forward", "orders", "http://127.0.0.1:1/", *once, code=1)
    first, second = ran.out.splitlines()
    assert first.endswith("it holds a value that is no request, and cannot be sent")
    assert second.endswith("cannot be reached (Connection refused)")


@pytest.mark.parametrize("name", ["x-own", "authorization", "a b", "", ":query", "蜂"])
def test_a_header_that_http_cannot_carry(cli: Cli, target: Target, name: str) -> None:
    """It has failed, for a reason that names the header and never says what is in it."""
    headers = [(name, "s3cret\r\nX-Evil: 1" if name.isascii() else "s3cret")]
    cli.app.callbacks.push("orders", Callback.new(Request(headers, b""), id="a")).get()
    once = ("--drain", "--dead-letter", "failed", "--max-attempts", "1")
    backend = cli.remote and name == "authorization"  # a server has hidden it before
    ran = cli("forward", "orders", target.url, *once, code=0 if backend else 1)
    records = cli.app.callbacks.history("orders", key="a").get()
    if not backend:
        assert f"its header {name!a} is none of HTTP" in ran.out
    for text in (ran.out, ran.err, str(records)):
        assert "s3cret" not in text
    assert len(target.requests) == backend


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, 0x80, 0x9B, 0xFF])
def test_no_reason_shows_what_a_header_holds(cli: Cli, target: Target, code: int) -> None:
    """Whatever HTTP thinks of a character in it."""
    request = Request([("x-own", f"s3cret{chr(code)}more")], b"")
    cli.app.callbacks.push("orders", Callback.new(request, id="a")).get()
    once = ("--drain", "--dead-letter", "failed", "--max-attempts", "1")
    ran = cli("forward", "orders", target.url, *once, code=None)
    assert ran.code in (0, 1)
    records = cli.app.callbacks.history("orders", key="a").get()
    for text in (ran.out, ran.err, str(records)):
        assert "s3cret" not in text


def test_white_space_around_values_is_none_of_them(cli: Cli, target: Target) -> None:
    """HTTP says so, and refuses to carry it."""
    request = Request([("x-a", " \tb ")], b"")
    cli.app.callbacks.push("orders", Callback.new(request)).get()
    cli("forward", "orders", target.url, "--drain")
    assert dict(target.requests[0][0])["x-a"] == "b"


def test_what_is_wrong_is_said_before_anything_is_sent(cli: Cli, target: Target) -> None:
    """Phases, options and URLs are looked at first."""
    push(cli.app, "a")
    for arguments, code, said in (
        (["orders", target.url, "--then", "nothing"], 2, "--then: expected a phase of"),
        (["orders", target.url, "--phase", "nothing"], 2, "--phase: expected a phase of"),
        (
            ["orders", target.url, "--max-attempts", "2"],
            2,
            "--max-attempts: expected --dead-letter",
        ),
        (["orders", "ftp://x"], 2, "URL: expected one of http or https"),
        (["orders", "http://["], 2, "URL: expected one of http or https"),
        (["orders", "http://127.0.0.1:99999/"], 2, "URL: expected one of http or https"),
        (["orders", target.url, "--answer-within", "1e300"], 2, "--answer-within: expected a"),
        (["nothing", target.url], 1, "does not exist"),
    ):
        assert said in cli.fails("forward", *arguments, code=code)
    assert target.requests == []


def test_a_claim_that_is_lost_meanwhile(cli: Cli, target: Target) -> None:
    """Somebody has moved the callback: it is left where it is."""
    push(cli.app, "a")
    target.during = lambda: cli.app.callbacks.update_phase("orders", key="a", phase="done").get()
    assert cli("forward", "orders", target.url, "--drain", code=1).out.startswith("lost ")
    assert phases(cli.app) == {"a": "done"}


def test_a_server_that_goes_while_one_is_under_way(
    app: Application,
    target: Target,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody knows whether it counts: it will come again, and that is said."""
    push(app, "a")
    monkeypatch.setenv("POLLIN_TOKEN", TOKEN)
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(remote_of(app))
        target.during = stack.close
        ran = Cli(app, capsys, monkeypatch, ("--server", url))(
            "forward", "orders", target.url, "--count", "1", code=1
        )
    assert ran.out.startswith("unknown ")
    assert "a will come again" in ran.err
    assert app.callbacks.stats("orders").get().claimed == 1


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
def test_a_signal_gives_back_what_is_under_way(
    cli: Cli, target: Target, number: int, code: int
) -> None:
    """As if it had not been tried; the command ends quietly."""
    push(cli.app, "a")
    target.go_on.clear()
    with Running("forward", "orders", target.url, *cli.target, POLLIN_TOKEN=TOKEN) as running:
        assert target.reached.wait(TIMEOUT)
        assert running.stop(number) == (code, "", "")
    callback = cli.app.callbacks.fetch("orders", key="a").get()
    assert callback is not None
    assert callback.attempts == 0
    assert [it.id for it in cli.app.callbacks.pop("orders", limit=1).get()] == ["a"]


def test_a_signal_while_it_waits(cli: Cli, target: Target) -> None:
    """It ends quietly; of a backend nothing is claimed for nobody afterwards."""
    push(cli.app, "a")
    with Running("forward", "orders", target.url, *cli.target, POLLIN_TOKEN=TOKEN) as running:
        assert running.line().startswith("delivered")
        assert running.stop() == (130, "", "")
    if not cli.remote:  # a server hears only a little later that its client has gone
        push(cli.app, "b")
        assert [it.id for it in cli.app.callbacks.pop("orders", limit=1).get()] == ["b"]
