"""Moving an inbox: dump and load; and keeping it in order: prune and migrate."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pollin_actors import Application, Callback, Endpoint, Kind
from pollin_actors.backends import StoredVersion
from pollin_actors.backends.postgres.schema import VERSION
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.backends.sqlite.migrations import MIGRATIONS
from pollin_actors.backends.valkey.library import library
from pollin_actors.cli import main, prune
from pollin_actors.cli.inbox import Inbox
from pollin_actors.cli.transfer import progress
from pollin_actors.cli.urls import without_credentials
from pollin_actors.errors import BackendUnavailable
from pollin_actors.web import admin
from tests.cli.command import TIMEOUT, Running
from tests.cli.inboxes import TOKEN, Cli, kill, push
from tests.servers import postgres, valkey
from tests.web.served import served


def ids(app: Application) -> list[str]:
    return [callback.id for callback in app.callbacks.dump("orders")]


class TestDump:
    def test_both_ways_write_the_same_lines(self, both: tuple[Cli, Cli]) -> None:
        """To stdout; with headers as they came."""
        backend, server = both
        push(backend.app, "a", b"\xff\n")
        backend("push", "orders", "--id", "b", "-H", "Authorization: s3cret", "--data", "x")
        here, there = backend("dump").out, server("dump").out
        assert here == there == backend("dump", "orders").out
        assert len(here.splitlines()) == 5
        assert "s3cret" in here
        assert "sesame" not in here

    def test_a_file_is_its_owners_and_whole(self, cli: Cli) -> None:
        """Nobody else can read it, and stdout stays empty."""
        push(cli.app, "a")
        ran = cli("dump", "--output", "out.ndjson")
        assert ran.out == ""
        assert ran.err.startswith("written  out.ndjson  ")
        assert Path("out.ndjson").read_text() == cli("dump").out
        assert os.stat("out.ndjson").st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("command", [("dump",), ("endpoint", "list"), ("top", "--once")])
    def test_an_endpoint_that_is_deleted_meanwhile(
        self, cli: Cli, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
    ) -> None:
        """It is left out: that it was there a moment ago is no reason to show nothing."""
        cli.app.endpoints.create(Endpoint.new(id="going")).get()
        listed = Inbox.endpoints

        def meanwhile(inbox: Inbox) -> Any:
            found = listed(inbox)
            cli.app.endpoints.delete("going").get()
            return found

        monkeypatch.setattr(Inbox, "endpoints", meanwhile)
        ran = cli(*command)
        assert "orders" in ran.out
        assert "going" not in ran.out

    def test_a_pipe_stays_one(self, cli: Cli) -> None:
        """It is written into: no file takes its place, nor that of a device, as /dev/null."""
        push(cli.app, "a")
        os.mkfifo("pipe")
        read: list[bytes] = []
        reader = threading.Thread(
            target=lambda: read.append(Path("pipe").read_bytes()), daemon=True
        )
        reader.start()
        ran = cli("dump", "--output", "pipe")
        reader.join(TIMEOUT)
        assert read == [cli("dump").out.encode()]
        assert Path("pipe").is_fifo()
        assert ran.err == f"written  pipe  {len(read[0])} B\n"
        assert not [name for name in os.listdir() if name.startswith(".pipe")]

    def test_what_a_link_points_at_is_written(self, cli: Cli) -> None:
        """The link stays one; one that leads nowhere in the end is said."""
        Path("there").write_text("before")
        Path("link").symlink_to("there")
        cli("dump", "--output", "link")
        assert Path("link").is_symlink()
        assert Path("there").read_text() == cli("dump").out
        Path("loop").symlink_to("loop")
        assert "file 'loop' cannot be used" in cli.fails("dump", "--output", "loop", code=2)

    def test_a_file_that_was_there_stays_if_it_fails(self, cli: Cli) -> None:
        """Nothing half done is left behind."""
        Path("out.ndjson").write_text("before")
        before = os.listdir()
        cli.fails("dump", "nothing", "--output", "out.ndjson", code=1)
        assert Path("out.ndjson").read_text() == "before"
        assert sorted(os.listdir()) == sorted(before)
        said = cli.fails("dump", "--output", "no/such/folder", code=2)
        assert "file 'no/such/folder' cannot be used" in said

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal_leaves_no_part_of_a_file(
        self, app: Application, monkeypatch: pytest.MonkeyPatch, number: int, code: int
    ) -> None:
        """It would hold what headers hold, under a name that nobody looks for."""
        begun, go_on = threading.Event(), threading.Event()

        async def half(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/dump":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                line = b'{"pollin":"dump"}\n' * 10_000
                await send({"type": "http.response.body", "body": line, "more_body": True})
                begun.set()
                await asyncio.to_thread(go_on.wait, TIMEOUT)
            else:
                await api(scope, receive, send)

        api: Any = admin(app, token=TOKEN)
        with served(half, "h11") as url:
            options = ("dump", "--output", "out.ndjson", "--server", url)
            try:
                with Running(*options, POLLIN_TOKEN=TOKEN) as running:
                    assert begun.wait(TIMEOUT)
                    # It was made before anything was asked for.
                    (part,) = Path().glob(".out.ndjson.*")
                    assert running.stop(number) == (code, "", "")
            finally:
                go_on.set()
        assert not part.exists()
        assert not Path("out.ndjson").exists()

    def test_one_that_ends_too_early(
        self,
        app: Application,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A server that fails in the middle can only stop: no file is left that looks whole."""

        async def half(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/dump":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b'{"pollin":"dump"}\n'})
            else:
                await api(scope, receive, send)

        api: Any = admin(app, token=TOKEN)
        monkeypatch.setenv("POLLIN_TOKEN", TOKEN)
        with served(half, "h11") as url:
            cli = Cli(app, capsys, monkeypatch, ("--server", url))
            said = cli.fails("dump", "--output", "out.ndjson", code=3)
        assert "ended the dump too early" in said
        assert not Path("out.ndjson").exists()

    def test_secrets_if_asked_for(self, cli: Cli) -> None:
        """By who can open the backend."""
        if cli.remote:
            said = cli.fails("dump", "--secrets", code=2)
            assert "--secrets works on a backend only (--backend)" in said
        else:
            assert "sesame" in cli("dump", "--secrets").out


class TestLoad:
    def test_what_was_dumped_is_added_once(self, cli: Cli) -> None:
        """From stdin or a file."""
        for key in ("a", "b", "c"):
            push(cli.app, key, key.encode())
        dumped = cli("dump").out.encode()
        cli.app.callbacks.reset("orders").get()

        assert cli.json("load", stdin=dumped) == {"endpoints": 0, "queued": 3, "duplicates": 0}
        Path("dump").write_bytes(dumped)
        assert cli("load", "dump").out == "endpoints   0\nqueued      0\nduplicates  3\n"
        assert ids(cli.app) == ["a", "b", "c"]

    def test_a_dump_that_was_cut_off(self, cli: Cli) -> None:
        """What was in it is loaded, and that the rest is missing is said."""
        push(cli.app, "a")
        first, *_ = cli("dump").out.encode().splitlines(keepends=True)
        assert "was cut off" in cli.fails("load", code=2, stdin=first)
        assert "line 1 of the dump" in cli.fails("load", code=2, stdin=b"\x1b[2Jrubbish")
        assert "cannot be used" in cli.fails("load", "missing", code=2)

    def test_one_that_is_wrong_in_the_middle(self, cli: Cli) -> None:
        """What came before is loaded; that is said, and that it may be loaded again."""
        for key in ("a", "b", "c"):
            push(cli.app, key)
        *lines, c, end = cli("dump").out.encode().splitlines(keepends=True)
        cli.app.callbacks.reset("orders").get()
        said = cli.fails("load", code=2, stdin=b"".join([*lines, b"rubbish\n", c, end]))
        assert "line 5 of the dump" in said
        assert "what came before is loaded; loading it again adds nothing twice" in said
        assert ids(cli.app) == ["a", "b"]
        # Where nothing was added nothing is said of it.
        assert "loaded" not in cli.fails("load", code=2, stdin=b"".join([*lines, b"rubbish\n"]))

    def test_an_interrupt_while_it_waits_for_more(self, cli: Cli) -> None:
        """It ends at once, quietly; what was read is loaded, and can be loaded again."""
        for number in range(100):
            push(cli.app, str(number))
        dumped = cli("dump").out
        cli.app.callbacks.reset("orders").get()
        with (
            Running("load", *cli.target, POLLIN_TOKEN=TOKEN) as running,
            cli.app.callbacks.subscribe("orders", kinds=[Kind.PUSHED]) as pushes,
        ):
            assert running.process.stdin is not None
            running.process.stdin.write(dumped[: len(dumped) // 2])
            running.process.stdin.flush()
            assert next(pushes).callback_id == "0"
            assert running.stop() == (130, "", "")
        assert 0 < cli.json("load", stdin=dumped.encode())["duplicates"] < 100
        assert sorted(ids(cli.app), key=int) == [str(number) for number in range(100)]

    def test_a_new_inbox_is_made(
        self, cli: Cli, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """Out of one, into another that is not there yet."""
        push(cli.app, "a")
        cli("dump", "--output", "dump")
        assert main(["load", "dump", "--backend", "sqlite:///new.db"]) == 0
        with Application("sqlite:///new.db") as other:
            assert ids(other) == ["a"]
        capsys.readouterr()


def test_progress_is_for_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is on stderr otherwise."""
    with progress("loading", 10, "bytes") as advance:
        advance(5)
    assert capsys.readouterr() == ("", "")


class TestPrune:
    def test_a_sweep(self, cli: Cli) -> None:
        """Of a backend; a server sweeps by itself."""
        if cli.remote:
            said = cli.fails("prune", code=2)
            assert "works on a backend only" in said
            assert "a server sweeps by itself" in said
        else:
            assert cli("prune").out == "0 expired\n"

    def test_what_is_old_is_removed(self, cli: Cli) -> None:
        """Wherever it is in the queue, in one phase or all; a dry run only tells."""
        day = 86_400_000_000_000
        push(cli.app, "new")
        for key, phase in (("old", ""), ("done", "done")):
            at = Callback.new(None).created_at - 10 * day
            cli.app.callbacks.push("orders", Callback(key, None, phase, at)).get()

        prune = ("prune", "orders", "--older-than", "7d")
        removed = cli.json(*prune, "--dry-run")["removed"]
        assert [(it["id"], it["phase"]) for it in removed] == [
            ("old", "received"),
            ("done", "done"),
        ]
        assert "2 would be removed, 0 B, the oldest of 10 days ago" in cli(*prune, "--dry-run").out
        assert len(ids(cli.app)) == 3
        assert [it["id"] for it in cli.json(*prune, "--phase", "done")["removed"]] == ["done"]
        assert "1 removed" in cli(*prune).out
        assert ids(cli.app) == ["new"]

    def test_what_does_not_go_together(self, cli: Cli) -> None:
        """A time without an endpoint, and an endpoint without a time."""
        assert "expected ENDPOINT" in cli.fails("prune", "--older-than", "7d", code=2)
        assert "expected --older-than" in cli.fails("prune", "orders", code=2)
        assert "does not exist" in cli.fails("prune", "x", "--older-than", "7d", code=1)


class TestMigrate:
    def run(self, capsys: pytest.CaptureFixture[str], *more: str) -> str:
        assert main(["migrate", "--backend", "sqlite:///a.db", *more]) == 0
        return capsys.readouterr().out

    def test_a_new_one_is_made(self, capsys: pytest.CaptureFixture[str]) -> None:
        """And is then found up to date."""
        latest = len(MIGRATIONS)
        assert self.run(capsys) == f"sqlite:///a.db  made, schema version {latest}\n"
        assert self.run(capsys) == f"sqlite:///a.db  up to date, schema version {latest}\n"

    def test_an_old_one_is_brought_up_to_date(self, capsys: pytest.CaptureFixture[str]) -> None:
        """From which version to which is said; the doctor has seen it before."""
        with closing(sqlite3.connect("a.db", isolation_level=None)) as connection:
            for statement in MIGRATIONS[0]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {0x506F6C6E}")
            connection.execute("PRAGMA user_version = 1")
        assert main(["doctor", "--backend", "sqlite:///a.db"]) == 0
        assert "has schema version 1, and" in capsys.readouterr().out
        assert json.loads(self.run(capsys, "--json")) == {
            "backend": "sqlite:///a.db",
            "created": False,
            "before": 1,
            "after": len(MIGRATIONS),
        }

    @pytest.mark.parametrize("kind", ["postgres", "valkey"])
    def test_a_server_is_looked_at(self, capsys: pytest.CaptureFixture[str], kind: str) -> None:
        """The doctor makes nothing; then it is made, and found up to date."""
        with contextlib.ExitStack() as stack:
            if kind == "postgres":
                url, latest = postgres.new_schema(), f"schema version {VERSION}"
                version: int | str = VERSION
            else:
                # Of its own: another test may have loaded the functions into the shared one.
                server = valkey.Server()
                stack.callback(server.remove)
                url, latest = server.url(), f"functions {library().name}"
                version = latest
            shown = without_credentials(url)
            for _ in range(2):
                assert main(["doctor", "--backend", url]) == 0
                said = capsys.readouterr().out
                assert f"{shown} has nothing yet, and {version} is the latest" in said
            assert main(["migrate", "--backend", url, "--json"]) == 0
            assert json.loads(capsys.readouterr().out) == {
                "backend": shown,
                "created": True,
                "before": None,
                "after": version,
            }
            assert main(["migrate", "--backend", url]) == 0
            assert capsys.readouterr().out == f"{shown}  up to date, {latest}\n"
            assert main(["doctor", "--backend", url]) == 0
            assert f"{shown} is ready" in capsys.readouterr().out

    def test_from_which_version_to_which(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever a backend says of itself, and if it says nothing."""
        found: list[Any] = []

        class Told(SqliteBackend):
            def stored_version(self) -> StoredVersion:
                if not found:
                    raise BackendUnavailable("told", "it does not say", "ask again")
                return StoredVersion(found.pop(0), "functions b")

        backend = Told("a.db")
        monkeypatch.setattr(prune, "durable_backend", lambda url, create: backend)
        told: dict[str, list[Any]] = {
            "brought from functions a to functions b": ["functions a", "functions b"],
            "brought from schema version 1 to 2": [1, 2],
            "made, functions b": [None, "functions b"],
            "up to date, functions b": ["functions b", "functions b"],
            "up to date": [],
        }
        for said, versions in told.items():
            found[:] = versions
            assert self.run(capsys) == f"sqlite:///a.db  {said}\n"

    def test_a_file_of_somebody_else_is_left_alone(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is a backend that is not available."""
        Path("a.db").write_text("a letter to my grandmother, which is longer than a header " * 20)
        assert main(["migrate", "--backend", "sqlite:///a.db"]) == 3
        assert "not a SQLite file, and was left untouched" in capsys.readouterr().err


def test_dead_letters_survive_a_dump(cli: Cli) -> None:
    """As callbacks of their phase: history does not move with them."""
    push(cli.app, "a")
    kill(cli.app, "a")
    assert '"phase":"failed"' in cli("dump").out
