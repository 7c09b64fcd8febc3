"""What a user gets wrong: one line on stderr that says what to do, and exit code 2."""

from __future__ import annotations

import re
import socket

import pytest

from pollin_actors import cli
from tests.cli.command import pollin


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


def test_an_interrupt_before_it_serves_is_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code is the one that shells use for an interrupted command."""

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_parser", interrupted)

    assert cli.main([]) == 130
    assert capsys.readouterr().err == ""
