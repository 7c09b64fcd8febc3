"""What is only on a terminal: tables in place, a progress bar; and that nothing escapes there."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pollin_actors import Application, Callback, Endpoint, Request
from tests.cli.command import TIMEOUT, environment
from tests.cli.inboxes import push, sqlite_url

pty = pytest.importorskip("pty", reason="terminals are as POSIX has them")


def on_terminal(*arguments: str, program: str = "", stdin: int | None = None) -> tuple[int, str]:
    """Run the command on a terminal: the exit code and what the terminal was sent."""
    ours, theirs = pty.openpty()
    command = ["-c", program] if program else ["-m", "pollin_actors.cli"]
    process = subprocess.Popen(
        [sys.executable, *command, *arguments],
        env=environment(TERM="xterm-256color", COLUMNS="200", LINES="50"),
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = bytearray()

    def read() -> None:
        # The end of a terminal is an error on Linux.
        with contextlib.suppress(OSError):
            while data := os.read(ours, 65536):
                written.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        code = process.wait(TIMEOUT)
    finally:
        process.kill()
        reader.join(TIMEOUT)
        os.close(ours)
    return code, written.decode("utf-8", "replace")


@pytest.fixture
def hostile(app: Application) -> Application:
    """Names and bodies with escape sequences, and with what rich takes for markup."""
    app.endpoints.create(Endpoint.new(["[red]a[/]", "b"], id="[bold]shop")).get()
    request = Request([("x-\x1b[2J", "\x9b31m")], b"\x1b]0;owned\x07[link=x]y[/link]\x9b2J")
    app.callbacks.push("orders", Callback.new(request, id="\x1b[2Jkey")).get()
    return app


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("rich", [True, False], ids=["rich", "plain"])
def test_top(tmp_path: Path, rich: bool) -> None:
    """In place with rich, below each other without; names are text, and no markup."""
    program = "import sys\n" + ("" if rich else "sys.modules['rich'] = None\n")
    program += "from pollin_actors.cli import main; sys.exit(main())"
    target = ("--backend", sqlite_url(tmp_path))
    code, shown = on_terminal("top", "--count", "2", "--interval", "0.01", *target, program=program)
    assert code == 0
    assert "[bold]shop " in shown
    assert "[red]a[/] 0, b 0" in shown
    assert ("\x1b[?1049h" in shown) is rich
    assert ("has it updated in place" in shown) is not rich


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    "arguments",
    [["fetch", "orders"], ["fetch", "orders", "--body"], ["dump"]],
    ids=" ".join,
)
def test_nothing_escapes(tmp_path: Path, arguments: list[str]) -> None:
    """Not even where the body is asked for as it is: a terminal would obey it."""
    code, shown = on_terminal(*arguments, "--backend", sqlite_url(tmp_path))
    assert code == 0
    assert shown.replace("\r\n", "").isprintable(), ascii(shown)


def test_a_progress_bar(app: Application, tmp_path: Path) -> None:
    """Of dumping and of loading; what is asked for is not disturbed."""
    for number in range(20):
        push(app, str(number), b"x" * 1_000)
    target = ("--backend", sqlite_url(tmp_path))
    code, shown = on_terminal("dump", "--output", "dump", *target)
    assert (code, "dumping" in shown) == (0, True)
    code, shown = on_terminal("load", "dump", *target)
    assert (code, "loading" in shown, "duplicates  20" in shown) == (0, True, True)


def test_the_demonstration_in_place() -> None:
    """Tables above, what has happened last below, figures in the end."""
    code, shown = on_terminal("demo", "--seconds", "2", "--rate", "40")
    assert code == 0
    for word in ("ENDPOINT", "HANDLER", "running", "answered 200"):
        assert word in shown
