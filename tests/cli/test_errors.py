"""What a user gets wrong: one line on stderr that says what to do, and exit code 2."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import socket
import sys
from pathlib import Path

import pytest

from pollin_actors import Application, cli
from pollin_actors.cli import dispatch
from tests.cli.command import pollin
from tests.cli.inboxes import orders, push, sqlite_url


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND; see `pollin --help`"),
        (["sing"], "invalid choice: 'sing'"),
        (["serve", "--loud"], "unrecognized arguments: --loud"),
        (["serve", "--po", "1"], "unrecognized arguments: --po 1"),
        (["serve", "--port", "http"], "--port: expected a number from 0 to 65535, got 'http'"),
        (["serve", "--port", "65536"], "from 0 to 65535, got '65536'"),
        (["serve", "--port", "-1"], "--port"),
        (["serve", "--ttl", "soon"], "--ttl: invalid int value: 'soon'"),
        (["serve", "--ttl", "-5"], "--ttl: expected an int of milliseconds, at least 0"),
        (["serve", "--phases", ""], "--phases: expected a str of 1 to 100 characters"),
        (["serve", "--phases", "a,b,a"], "--phases: expected one or more different names, got 'a'"),
        (["serve", "--endpoint", "a/b"], "--endpoint: expected printable characters"),
        (["serve", "--endpoint", "healthz"], "--endpoint: expected an id that is not reserved"),
        (["serve", "--endpoint", ""], "--endpoint: expected a str of 1 to 200 characters"),
        (["serve", "--backend", "floppy://a"], "no backend is known for floppy://: expected one"),
        (["serve", "--backend", "user:pw-tale"], "--backend: expected a URL such as memory://"),
        (["serve", "--backend", "memory://x"], "--backend: expected memory://"),
        (["serve", "--backend", "sqlite:///a%00b"], "--backend: expected a path without null"),
        (
            ["serve", "--backend", "sqlite:///a?durability=none"],
            "--backend: durability: expected full or normal, got 'none'",
        ),
        (["serve", "--host", ""], "--host: expected an address or a name"),
        (["serve", "--host", "no such host"], "--host: 'no such host' cannot be used"),
        (["serve", "--secret", ""], "--secret: expected a text that is not empty"),
        (["serve", "--secret", "line\nbreak"], "--secret: expected printable characters"),
        (["serve", "--secret", " tale "], "--secret: expected printable characters"),
    ],
)
def test_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert cli.main(arguments) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"pollin: [^\n]+\n", captured.err)
    assert said in captured.err
    assert "tale" not in captured.err


def test_a_port_in_use_is_named_and_another_one_suggested(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing was started by then."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert cli.main(["serve", "--port", str(port)]) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"pollin: cannot listen on http://127.0.0.1:{port} (")
    assert captured.err.count("\n") == 1
    assert "choose another --port" in captured.err


def test_without_the_extra_it_says_what_to_install() -> None:
    """A process in which uvicorn cannot be imported."""
    program = (
        "import sys; sys.modules['uvicorn'] = None; "
        "from pollin_actors.cli import main; sys.exit(main())"
    )
    code, output, errors = pollin("serve", "--port", "0", program=["-c", program])

    assert (code, output) == (2, "")
    assert errors == (
        "pollin: the package 'uvicorn' is not installed: run "
        '`pip install "pollin-actors[server]"`\n'
    )


def test_a_user_error_in_a_process_of_its_own() -> None:
    """The exit code is the process's, and there is no traceback."""
    code, output, errors = pollin("serve", "--phases", "a,a")

    assert (code, output) == (2, "")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_questions_are_answered_on_stdout_with_code_0(
    capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert cli.main([option]) == 0

    captured = capsys.readouterr()
    assert "pollin" in captured.out
    assert captured.err == ""


def test_help_of_serve_names_every_option_and_its_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["serve", "--help"]) == 0

    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "--endpoint ID",
        "(default: webhooks)",
        "(default: 127.0.0.1)",
        "(default: 8080)",
        "(default: sqlite:///pollin.db)",
        "(default: received,processed)",
        "(default: 0)",
        "POLLIN_SECRET",
        "--keep",
    ):
        assert words in shown


class Full(io.RawIOBase):
    """A file on a disk that is full."""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "arguments",
    [
        ("count", "orders"),
        ("list", "orders", "--json"),
        ("fetch", "orders", "--body"),
        ("dump",),
        ("endpoint", "list"),
    ],
    ids=" ".join,
)
def test_an_output_that_is_full(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    """It is no error of the command: one line says what cannot be written, and why."""
    url = sqlite_url(tmp_path)
    with Application(url, endpoints=[orders()]) as app:
        push(app, "a", b"x" * 100_000)
    stdout = io.TextIOWrapper(io.BufferedWriter(Full()), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        assert cli.main([*arguments, "--backend", url]) == 2
    said = capsys.readouterr().err
    assert said == (
        "pollin: what is asked for cannot be written to stdout (No space left on device)\n"
    )
    with contextlib.suppress(OSError):
        stdout.close()


def test_nobody_needs_to_read_what_is_beside_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit codes are the same where stderr takes nothing."""
    url = sqlite_url(tmp_path)
    with Application(url, endpoints=[orders()]):
        pass
    stderr = io.TextIOWrapper(io.BufferedWriter(Full()), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        assert cli.main(["dump", "--output", "out", "--backend", url]) == 0
        assert cli.main(["count", "nothing", "--backend", url]) == 1
        assert cli.main(["count", "--backend", url]) == 2
    with contextlib.suppress(OSError):
        stderr.close()
    assert capsys.readouterr().out == ""


def test_an_interrupt_while_it_is_imported_is_no_traceback() -> None:
    """That takes a quarter of a second, in which one may think better of it."""
    program = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name == 'structlog':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from pollin_actors.cli import main\n"
        "sys.exit(main())\n"
    )
    assert pollin("--version", program=["-c", program]) == (130, "", "")


def test_an_interrupt_before_it_serves_is_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code is the one that shells use for an interrupted command."""

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dispatch, "new_parser", interrupted)

    assert cli.main([]) == 130
    assert capsys.readouterr().err == ""
