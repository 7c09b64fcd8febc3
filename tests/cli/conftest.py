"""What the tests of the command share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pollin_actors import Application
from pollin_actors.cli import human
from tests.cli.inboxes import TOKEN, Cli, orders, remote_of, sqlite_url


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command keeps its callbacks in the folder that it is started in."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said by the environment."""
    for name in ("BACKEND", "SERVER", "TOKEN", "SECRET", "ADMIN_TOKEN"):
        monkeypatch.delenv(f"POLLIN_{name}", raising=False)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    """A running application with the endpoint orders, on SQLite."""
    with Application(sqlite_url(tmp_path), endpoints=[orders()]) as running:
        yield running


@pytest.fixture(params=["backend", "server"])
def cli(
    request: pytest.FixtureRequest,
    app: Application,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cli]:
    """The command on the inbox of ``app``: on its file, and through its admin API."""
    if request.param == "backend":
        yield Cli(app, capsys, monkeypatch, ("--backend", sqlite_url(tmp_path)))
        return
    monkeypatch.setenv("POLLIN_TOKEN", TOKEN)
    with remote_of(app) as url:
        yield Cli(app, capsys, monkeypatch, ("--server", url))


@pytest.fixture
def both(
    app: Application,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Cli, Cli]]:
    """The command on one inbox, both ways."""
    monkeypatch.setenv("POLLIN_TOKEN", TOKEN)
    with remote_of(app) as url:
        yield (
            Cli(app, capsys, monkeypatch, ("--backend", sqlite_url(tmp_path))),
            Cli(app, capsys, monkeypatch, ("--server", url)),
        )


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> int:
    """The time stands still for what the command says of times."""
    now = human.now_ns()
    monkeypatch.setattr(human, "now_ns", lambda: now)
    return now
