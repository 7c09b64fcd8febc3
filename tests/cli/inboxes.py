"""An inbox, and the command run on it: on its backend, or through the admin API of a server."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pollin_actors import Application, Callback, Endpoint, Request
from pollin_actors.cli import main
from pollin_actors.web import admin
from tests.web.served import served

__all__ = ["TOKEN", "Cli", "Ran", "kill", "orders", "push", "remote_of", "sqlite_url"]

TOKEN = "a-token-of-the-tests-only"

# What differs from run to run: generated secrets and ids, positions in time.
_SECRET = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
_FINGERPRINT = re.compile(r"fingerprint\"?:? \"?[0-9a-f]{8}")
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")
_AGE = re.compile(r"\bnow\b|\bin \d+ s\b|\b\d+ s ago\b")
_SPACES = re.compile(" {2,}")
_TIME = re.compile(r"\b1[78]\d{17}\b")


class Ran(NamedTuple):
    """What came of one run of the command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document that was written."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def lines(self) -> list[Any]:
        """The documents that were written, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def like(self) -> tuple[int, str, str]:
        """What has to be the same wherever it ran."""
        return self.code, _alike(self.out), _alike(self.err)


def _alike(text: str) -> str:
    for pattern, word in (
        (_UUID, "UUID"),
        (_SECRET, "SECRET"),
        (_FINGERPRINT, "FINGERPRINT"),
        (_TIME, "TIME"),
        (_MOMENT, "MOMENT"),
        (_AGE, "AGE"),
        (_SPACES, "  "),
    ):
        text = pattern.sub(word, text)
    return text


class Cli:
    """The command, on one inbox.

    Arguments:
        app: which works on the inbox as well.
        capsys: pytest's.
        monkeypatch: pytest's.
        target: the options that say which inbox.
    """

    def __init__(
        self,
        app: Application,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        target: tuple[str, ...],
    ) -> None:
        self.app = app
        self.target = target
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    @property
    def remote(self) -> bool:
        return "--server" in self.target

    def __call__(self, *arguments: str, stdin: bytes = b"", code: int | None = 0) -> Ran:
        """Run a command; its exit code must be ``code``, unless that is None."""
        stream = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        self._capsys.readouterr()
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stream)
            got = main([*arguments, *self.target])
        captured = self._capsys.readouterr()
        ran = Ran(got, captured.out, captured.err)
        if code is not None:
            assert got == code, ran
        return ran

    def json(self, *arguments: str, stdin: bytes = b"", code: int = 0) -> Any:
        """The document that a command answers with."""
        return self(*arguments, "--json", stdin=stdin, code=code).json

    def fails(self, *arguments: str, code: int, stdin: bytes = b"") -> str:
        """The one line on stderr of a command that fails."""
        ran = self(*arguments, code=code, stdin=stdin)
        assert re.fullmatch(r"pollin: [^\n]+\n", ran.err), ran.err
        assert ran.out == ""
        return ran.err


def orders(**more: Any) -> Endpoint:
    return Endpoint.new(["received", "done", "failed"], 0, id="orders", secret="sesame", **more)


def push(app: Application, key: str, body: bytes = b"{}", **more: Any) -> Callback:
    """Push a callback of that id to orders."""
    request = Request([("content-type", "application/json")], body)
    return app.callbacks.push("orders", Callback.new(request, id=key, **more)).get().callback


def kill(app: Application, key: str, reason: str = "no stock") -> None:
    """Have the callback, which is the next one, fail for good."""
    (claim,) = app.callbacks.claim("orders", phase="received", by="worker").get()
    assert claim.key == key
    app.callbacks.nack(claim, reason=reason, dead_letter="failed").get()


@contextlib.contextmanager
def remote_of(app: Application) -> Iterator[str]:
    """A server with the admin API of an application; the value is its URL."""
    with served(admin(app, token=TOKEN), "h11") as url:
        yield url


def sqlite_url(folder: Path) -> str:
    """The URL of a file that no power cut will ever meet."""
    return f"sqlite:///{folder / 'inbox.db'}?durability=normal"
