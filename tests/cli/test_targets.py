"""Which inbox a command works on, and what is said if there is none."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pollin_actors import Application
from pollin_actors.cli import main
from pollin_actors.cli.errors import EXIT_CODES, in_options, of_problem
from pollin_actors.web import admin
from tests.cli.command import pollin
from tests.cli.inboxes import TOKEN, Cli, push, remote_of, sqlite_url
from tests.web.served import served

Capture = pytest.CaptureFixture[str]

READING = [
    ["list", "orders"],
    ["fetch", "orders"],
    ["pop", "orders"],
    ["push", "orders", "--data", "x"],
    ["count", "orders"],
    ["phase", "orders", "a", "done"],
    ["history", "orders", "a"],
    ["tail"],
    ["top", "--once"],
    ["endpoint", "list"],
    ["endpoint", "show", "orders"],
    ["endpoint", "rotate", "orders"],
    ["endpoint", "delete", "orders"],
    ["dead", "list", "orders"],
    ["replay", "orders"],
    ["dump"],
    ["prune"],
    ["forward", "orders", "http://127.0.0.1:1/"],
    ["sign", "--endpoint", "orders", "--url", "http://h/", "--data", "x"],
]
MAKING = [["endpoint", "create", "orders"], ["load", __file__], ["migrate"]]


def said(capsys: Capture, arguments: list[str], code: int) -> str:
    """The one line on stderr."""
    assert main(arguments) == code, capsys.readouterr()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"pollin: [^\n]+\n", captured.err), captured.err
    assert TOKEN not in captured.err
    return captured.err


@pytest.mark.parametrize("arguments", READING, ids=lambda it: " ".join(it[:2]))
def test_nothing_is_made_by_looking(capsys: Capture, arguments: list[str]) -> None:
    """A backend that is not there is an error, and not there afterwards either."""
    assert "there is no inbox at sqlite:///pollin.db" in said(capsys, arguments, 3)
    assert not Path("pollin.db").exists()


@pytest.mark.parametrize("arguments", [*READING, *MAKING], ids=lambda it: " ".join(it[:2]))
def test_memory_is_no_place_to_look(capsys: Capture, arguments: list[str]) -> None:
    """It is empty by nature: that is said, and what to do instead."""
    error = said(capsys, [*arguments, "--backend", "memory://"], 2)
    assert "memory:// is empty here" in error
    assert "--server" in error or arguments[0] == "migrate"


@pytest.mark.parametrize("arguments", READING, ids=lambda it: " ".join(it[:2]))
def test_a_server_that_is_not_there(capsys: Capture, arguments: list[str]) -> None:
    """A code of its own, for who wants to try again."""
    target = ["--server", "http://127.0.0.1:1/admin", "--token", TOKEN]
    if arguments in (["prune"], READING[-1]):
        assert "works on a backend only" in said(capsys, [*arguments, *target], 2)
    else:
        error = said(capsys, [*arguments, *target], 3)
        assert "http://127.0.0.1:1/admin cannot be reached (Connection refused)" in error


class TestChoice:
    @pytest.fixture
    def filled(self, app: Application) -> Application:
        push(app, "a")
        return app

    def count(self, capsys: Capture, *more: str) -> str:
        assert main(["count", "orders", *more]) == 0
        return capsys.readouterr().out

    def test_by_default_a_file_here(self, capsys: Capture) -> None:
        """The same as that of `pollin serve`."""
        assert main(["endpoint", "create", "orders"]) == 0
        capsys.readouterr()
        assert Path("pollin.db").exists()
        assert self.count(capsys) == "0\n"

    def test_the_environment(
        self,
        filled: Application,
        capsys: Capture,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        """An option wins over it."""
        monkeypatch.setenv("POLLIN_BACKEND", sqlite_url(tmp_path))
        assert self.count(capsys) == "1\n"
        with remote_of(filled) as url:
            monkeypatch.setenv("POLLIN_TOKEN", TOKEN)
            assert self.count(capsys, "--server", url) == "1\n"
            monkeypatch.setenv("POLLIN_SERVER", url)
            assert "POLLIN_BACKEND and POLLIN_SERVER" in said(capsys, ["count", "orders"], 2)
            monkeypatch.delenv("POLLIN_BACKEND")
            assert self.count(capsys) == "1\n"
            assert self.count(capsys, "--token", TOKEN) == "1\n"
            assert self.count(capsys, "--backend", sqlite_url(tmp_path)) == "1\n"

    def test_settings_of_the_environment_count(
        self, filled: Application, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """As for an application that reads them."""
        target = ["--backend", sqlite_url(tmp_path)]
        monkeypatch.setenv("POLLIN_MAX_BYTES", "5")
        push_ = ["push", "orders", "--data", "123456", *target]
        assert "expected at most 5 bytes" in said(capsys, push_, 2)
        monkeypatch.setenv("POLLIN_MAX_BYTES", "many")
        assert "POLLIN_MAX_BYTES: expected a whole number" in said(capsys, push_, 2)

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (
                ["--backend", "sqlite:///a", "--server", "http://a"],
                "--backend or --server, got both",
            ),
            (["--token", "a"], "--token belongs to --server"),
            (["--backend", "nothing"], "backend: expected a URL such as memory://"),
            (["--backend", "floppy://a"], "no backend is known for floppy://"),
            (["--server", "http://a"], "--server needs a token"),
            (["--server", "http://a", "--token", "a b"], "--token: expected printable ASCII"),
            (["--server", "http://a", "--token", "ä"], "--token: expected printable ASCII"),
            (["--server", "ftp://a", "--token", "a"], "--server: expected a URL such as"),
            (["--server", "a-secret-token", "--token", "a"], "--server: expected a URL such as"),
            (["--server", "http://", "--token", "a"], "--server: expected a URL such as"),
            (["--server", "http://a:b", "--token", "a"], "--server: expected a URL such as"),
            (["--server", "http://[a", "--token", "a"], "--server: expected a URL such as"),
            (["--server", "http://me:pw@a", "--token", "a"], "without a user"),
            (["--server", "http://a/?token=a", "--token", "a"], "without a user"),
            (["--timeout", "0"], "--timeout: expected a number of seconds > 0"),
            (["--timeout", "nan"], "--timeout: expected a number of seconds > 0"),
        ],
    )
    def test_what_is_wrong_is_said(self, capsys: Capture, arguments: list[str], error: str) -> None:
        """In one line, and without what may be a secret in the wrong place."""
        line = said(capsys, ["count", "orders", *arguments], 2)
        assert error in line
        assert "pw" not in line
        assert "a-secret-token" not in line


@pytest.mark.parametrize(
    "command", [["fetch", "orders"], ["phase", "orders", "a"], ["replay", "orders"]]
)
def test_arguments_that_are_no_text(cli: Cli, command: list[str]) -> None:
    """Bytes of another encoding, as a shell may hand them over, are refused alike."""
    assert "expected text in UTF-8" in cli.fails(*command, "caf\udce9", code=2)
    assert "does not exist" in cli.fails("list", "caf\udce9", code=1)


class TestServers:
    def test_a_wrong_token(self, app: Application, capsys: Capture) -> None:
        """It has to be changed: trying again will not help."""
        with remote_of(app) as url:
            target = ["--server", url, "--token", "another-token-of-nobody"]
            assert "does not accept the token" in said(capsys, ["count", "orders", *target], 2)
            assert "does not accept the token" in said(capsys, ["dump", *target], 2)

    def test_a_path_where_no_api_is(self, app: Application, capsys: Capture) -> None:
        """With the right token: the URL has to be changed."""
        with remote_of(app) as url:
            target = ["--server", f"{url}/elsewhere", "--token", TOKEN]
            assert "is no admin API" in said(capsys, ["count", "orders", *target], 2)

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (200, b"<html>\x1b[2J"),
            (200, b"[" * 100_000),
            (200, b"{}"),
            (200, b"[]"),
            (200, b""),
            (301, b""),
            (404, b"{}"),
            (500, b'{"status": 422, "detail": "x"}'),
            (502, b"Bad gateway"),
        ],
    )
    def test_another_server(self, capsys: Capture, status: int, body: bytes) -> None:
        """Whatever it answers."""
        with Anything(status, body) as url:
            target = ["--server", url, "--token", TOKEN]
            error = said(capsys, ["count", "orders", *target], 3)
            assert "does not answer as an admin API does" in error

    def test_no_answer_in_time(self, capsys: Capture) -> None:
        """That it may have been done is said."""
        with Anything(200, b"{}", silent=True) as url:
            target = ["--server", url, "--token", TOKEN, "--timeout", "0.05"]
            error = said(capsys, ["count", "orders", *target], 3)
            assert "did not answer within 0.05 s: whether it was done is not known" in error

    def test_an_application_that_does_not_run(self, capsys: Capture) -> None:
        """The server is there, its inbox is not."""
        with served(admin(Application(), token=TOKEN), "h11") as url:
            target = ["--server", url, "--token", TOKEN]
            assert "is not running" in said(capsys, ["count", "orders", *target], 3)

    def test_a_path_may_end_with_a_slash(self, app: Application, capsys: Capture) -> None:
        """As people copy it."""
        with remote_of(app) as url:
            assert main(["count", "orders", "--server", f"{url}/", "--token", TOKEN]) == 0
            assert capsys.readouterr().out == "0\n"


class Anything:
    """A server that answers everything the same, or nothing until it is closed."""

    def __init__(self, status: int, body: bytes, silent: bool = False) -> None:
        closing = self._closing = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if silent:
                    closing.wait(60)
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)


def without(missing: tuple[str, ...], *commands: list[str]) -> tuple[int, str, str]:
    """Run commands in one process that lacks packages: the last code, and what was written."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
        "from pollin_actors.cli import main\n"
        f"codes = [main(arguments) for arguments in {commands!r}]\n"
        "sys.exit(max(codes))"
    )
    return pollin(program=["-c", program])


def test_without_httpx_it_says_what_to_install(app: Application, tmp_path: Path) -> None:
    """For a server, and for `forward`, which sends."""
    code, output, errors = without(
        ("httpx",),
        ["count", "orders", "--server", "http://127.0.0.1:1/admin", "--token", TOKEN],
        ["forward", "orders", "http://h/", "--backend", sqlite_url(tmp_path)],
    )
    assert (code, output) == (2, "")
    assert errors.count("\n") == errors.count('pip install "pollin-actors[cli]"') == 2


def test_a_backend_needs_no_extra(app: Application, tmp_path: Path) -> None:
    """Neither httpx nor rich, nor what the server needs."""
    push(app, "a")
    target = ["--backend", sqlite_url(tmp_path)]
    commands = (["list", "orders"], ["top", "--once"], ["dump"], ["tail"], ["doctor"])
    missing = "httpx", "rich", "starlette", "uvicorn", "anyio", "cryptography"
    code, output, errors = without(missing, *[[*command, *target] for command in commands])
    assert (code, errors) == (0, "")
    assert output.count("orders") >= 4


def test_the_help_lists_the_exit_codes(capsys: Capture) -> None:
    """All of them, each with its meaning; and all commands have a help of their own."""
    assert main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for code, text in EXIT_CODES.items():
        assert f"{code.value} {text}" in shown
    for words in (["push"], ["endpoint", "create"], ["dead", "retry"], ["demo"], ["verify"]):
        assert main([*words, "--help"]) == 0
        assert "usage: pollin" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("body.ttl: expected x", "--ttl: expected x"),
        ("Endpoint.dedup_for: expected x", "--dedup-for: expected x"),
        ("body.intake.content_types[0]: expected x", "--content-type[0]: expected x"),
        ("query.key: expected x", "KEY: expected x"),
        ("Settings.pool_size: expected x", "POLLIN_POOL_SIZE: expected x"),
        ("endpoint 'body.ttl: x'", "endpoint 'body.ttl: x'"),
    ],
)
def test_errors_name_the_options(text: str, shown: str) -> None:
    """Fields of the library and of the API become options; quoted texts stay."""
    assert in_options(text) == shown


def test_a_handler_that_is_not_there_says_which_are() -> None:
    """The names come from the server."""
    problem = {"status": 404, "type": "urn:pollin:problem:handler-not-found", "known": ["a"]}
    assert str(of_problem(problem, "x")) == "there is no such handler: expected one of 'a'"
