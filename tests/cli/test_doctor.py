"""`pollin doctor`: it finds what is wrong, and its exit code tells."""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pollin_actors import Application, Endpoint
from pollin_actors.cli import doctor, main
from tests.cli.inboxes import Cli, sqlite_url

Capture = pytest.CaptureFixture[str]


def run(capsys: Capture, *arguments: str, code: int = 0) -> dict[str, list[tuple[str, str]]]:
    """What was found, by what was looked at."""
    assert main(["doctor", "--json", *arguments]) == code, capsys.readouterr()
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is (code == 0)
    found: dict[str, list[tuple[str, str]]] = {}
    for check in document["checks"]:
        found.setdefault(check["what"], []).append((check["state"], check["text"]))
    return found


def test_all_is_well(cli: Cli) -> None:
    """On a backend and on a server; in text, too."""
    checks: list[Any] = cli.json("doctor")["checks"]
    names = {it["what"] for it in checks if it["state"] == "ok"}
    # Whoever tests need not have every extra.
    assert {it["state"] for it in checks if not it["what"].startswith("[")} == {"ok"}
    assert {"python", "pollin-actors", "pykka", "sqlite", "[server]", "[cli]", "clock"} <= names
    assert ("server" if cli.remote else "backend") in names
    assert cli("doctor").out.splitlines()[0].startswith("ok     python")


def test_nothing_there_yet_is_no_fault(capsys: Capture) -> None:
    """And nothing is made by looking."""
    assert run(capsys)["file"] == [("note", "pollin.db is not there yet: what needs it makes it")]
    assert not Path("pollin.db").exists()


def test_a_folder_that_is_missing(capsys: Capture) -> None:
    """A backend that cannot be made is wrong, and what to do is said."""
    found = run(capsys, "--backend", "sqlite:///no/where/a.db", code=1)
    assert found["file"][0][0] == "wrong"
    assert "is not there: make it" in found["file"][0][1]


def test_a_file_that_others_can_read(app: Application, capsys: Capture, tmp_path: Path) -> None:
    """Secrets are in it: that is noted, with the command that mends it."""
    os.chmod(tmp_path / "inbox.db", 0o644)
    (found,) = run(capsys, "--backend", sqlite_url(tmp_path))["file"]
    assert found[0] == "note"
    assert "has mode 644, and holds secrets: `chmod 600` it" in found[1]


def test_a_file_that_is_none_of_ours(capsys: Capture) -> None:
    """It is reported as wrong, instead of ending the command."""
    Path("a.db").write_text("a letter, and a long one at that, to somebody " * 50)
    found = run(capsys, "--backend", "sqlite:///a.db", code=1)
    assert found["inbox"][0][0] == "wrong"
    assert "not a SQLite file" in found["inbox"][0][1]


def test_memory_is_not_durable(capsys: Capture) -> None:
    """That is noted, and no fault."""
    found = run(capsys, "--backend", "memory://")
    assert found["backend"] == [("note", "memory:// is not durable: it ends with its process")]


def test_a_server_that_is_away(capsys: Capture) -> None:
    """It is reported as wrong, instead of ending the command."""
    target = ("--server", "http://127.0.0.1:1/admin", "--token", "x" * 16)
    assert "cannot be reached" in run(capsys, *target, code=1)["inbox"][0][1]


def test_a_clock_that_is_behind(app: Application, capsys: Capture, tmp_path: Path) -> None:
    """What was made later than now."""
    later = Endpoint.new(id="later")
    app.endpoints.create(later.replace(created_at=later.created_at + 3_600 * 10**9)).get()
    found = run(capsys, "--backend", sqlite_url(tmp_path), code=1)
    assert ("wrong", "an endpoint was created 60 min from now: this clock is behind") in [
        (state, text.replace("1 h", "60 min")) for state, text in found["clock"]
    ]


def test_a_clock_that_was_never_set(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time before this was written is none."""
    monkeypatch.setattr(doctor, "time", SimpleNamespace(time=lambda: 1_000.0))
    assert run(capsys, code=1)["clock"][0][0] == "wrong"


def test_settings(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What means nothing, and what cannot be; values are not shown, as they may be secrets."""
    monkeypatch.setenv("POLLIN_BACKENDS", "hunter2")
    monkeypatch.setenv("POLLIN_SECRET", "hunter2")
    found = run(capsys)["settings"]
    assert found == [
        ("note", "POLLIN_BACKENDS is set, and means nothing: misspelt?"),
        ("ok", "POLLIN_SECRET"),
    ]
    monkeypatch.setenv("POLLIN_SHUTDOWN", "never")
    assert run(capsys, code=1)["settings"][-1][0] == "wrong"


def test_extras_that_are_missing(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said; it is no fault."""

    def without_rich(package: str) -> str:
        if package == "rich":
            raise PackageNotFoundError
        return version(package)

    monkeypatch.setattr(doctor, "version", without_rich)
    ((state, text),) = run(capsys)["[cli]"]
    assert state == "note"
    assert text == 'rich not installed: pip install "pollin-actors[cli]"'
