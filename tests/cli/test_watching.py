"""Commands that go on: tail -f, top, demo; and how they and others end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from pollin_actors import Application, Callback, Endpoint, Settings, otp
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.cli import main
from pollin_actors.cli.local import Local
from pollin_actors.cli.past import Follower
from pollin_actors.web import admin
from tests.cli.command import TIMEOUT, Running, Serve, environment
from tests.cli.inboxes import TOKEN, Cli, orders, push, sqlite_url
from tests.test_announcements import NEVER_S, Shared
from tests.web.served import served


class Fragile(otp.Actor):
    """Crashes on request."""

    def on_receive(self, message: object) -> None:
        raise RuntimeError("no stock, token=hunter2")


class TestTail:
    def test_what_happens_is_shown_as_it_comes(self, cli: Cli) -> None:
        """Also at endpoints that are made later; a deleted one is no reason to end."""
        push(cli.app, "before")
        command = ("tail", "-f", "--json", "--interval", "0.02", *cli.target)
        with Running(*command, POLLIN_TOKEN=TOKEN) as running:
            assert json.loads(running.line())["callback_id"] == "before"
            push(cli.app, "a")
            assert json.loads(running.line())["callback_id"] == "a"
            cli.app.endpoints.create(Endpoint.new(id="other")).get()
            cli.app.callbacks.push("other", Callback.new(None, id="b")).get()
            assert json.loads(running.line())["endpoint_id"] == "other"
            cli.app.endpoints.delete("other").get()
            cli.app.callbacks.pop("orders", key="a").get()
            record = json.loads(running.line())
            assert (record["callback_id"], record["kind"]) == ("a", "popped")
            assert running.stop() == (130, "", "")

    def test_one_that_is_deleted_ends_it(self, cli: Cli) -> None:
        """If it was asked for by name."""
        push(cli.app, "a")
        command = ("tail", "orders", "-f", "--interval", "0.02", *cli.target)
        with Running(*command, POLLIN_TOKEN=TOKEN) as running:
            assert running.line().endswith("received")
            cli.app.endpoints.delete("orders").get()
            assert "'orders' does not exist" in running.error_line()
            assert running.process.wait(TIMEOUT) == 1

    def test_a_server_that_is_away_is_waited_for(self, app: Application) -> None:
        """That is said once; what happened meanwhile is shown."""
        push(app, "a")
        api = admin(app, token=TOKEN)
        with contextlib.ExitStack() as stack:
            with served(api, "h11", grace=1) as url:
                command = ("tail", "orders", "-f", "--interval", "0.02", "--server", url)
                running = stack.enter_context(Running(*command, POLLIN_TOKEN=TOKEN))
                assert "  a  " in running.line()
            assert running.error_line().endswith("trying again")
            push(app, "b")
            with served(api, "h11", int(url.rpartition(":")[2])):
                assert "  b  " in running.line()
                assert running.error_line() == "pollin: it answers again"
                assert running.stop() == (130, "", "")

    def test_a_backend_that_tells_is_not_looked_at(self) -> None:
        """What another process pushes is shown although nobody looks before the test is over."""
        store = MemoryBackend()
        handles: list[Shared] = []
        for _ in range(2):
            Shared(store, handles)
        settings = Settings(poll_interval=NEVER_S)
        with (
            Application(handles[0], endpoints=[orders()]) as other,
            Application(handles[1], settings=settings) as app,
        ):
            inbox = Local(app, "here", 30.0)
            follower = Follower(inbox, [])
            records = filter(None, follower.follow(NEVER_S))
            # Each is pushed while somebody waits for it, or is about to.
            with ThreadPoolExecutor(1) as pool:
                for id in "abc":
                    pushed = pool.submit(push, other, id)
                    assert next(records)["callback_id"] == id
                    pushed.result()
            del records
            inbox._aside.close()

    def test_a_server_is_asked_once(self, app: Application) -> None:
        """However much happens: it tells by itself."""
        asked: list[str] = []
        api = admin(app, token=TOKEN)

        async def counting(scope: Any, receive: Any, send: Any) -> None:
            asked.append(scope["path"])
            await api(scope, receive, send)

        with served(counting, "h11") as url:
            command = ("tail", "-f", "-n", "0", "--interval", "0.001", "--server", url)
            with Running(*command, POLLIN_TOKEN=TOKEN) as running:
                while "/follow" not in asked:
                    pass
                before = len(asked)
                for number in range(20):
                    push(app, str(number))
                    assert f"  {number}  " in running.line()
                assert len(asked) == before
                assert running.stop() == (130, "", "")

    def test_a_server_ends_although_it_is_followed(self, tmp_path: Path) -> None:
        """In order: its last word is not cut off, and what is stored is all that was shown."""
        with Serve("--admin-token", TOKEN, "--keep", endpoints=3, folder=tmp_path) as server:
            headers = {"authorization": f"Bearer {TOKEN}"}
            with httpx.stream(
                "POST",
                f"{server.url}/admin/follow",
                json={"others": True},
                headers=headers,
                timeout=TIMEOUT,
                trust_env=False,
            ) as answer:
                lines = answer.iter_lines()
                assert next(lines) == ""
                server.send_signal(signal.SIGTERM)
                assert list(lines) == []
            code, _, errors = server.stop()
            assert (code, errors) == (0, "")


class TestTop:
    def test_it_shows_how_things_stand(self, cli: Cli) -> None:
        """Endpoints; on a server its handlers and actors, too."""
        push(cli.app, "a", b"x" * 2_000)
        cli.app.add_handler(lambda callback: None, "orders", phase="done", name="bill")
        (found,) = cli("top", "--once", "--json").lines
        (endpoint,) = found["endpoints"]
        assert (endpoint["id"], endpoint["queued"]) == ("orders", 1)
        assert endpoint["phases"] == {"received": 1, "done": 0, "failed": 0}
        names = [it["name"] for it in found["handlers"]] if cli.remote else found["handlers"]
        assert names == (["bill"] if cli.remote else None)

        shown = cli("top", "--count", "2", "--interval", "0.01").out
        lines = shown.splitlines()
        assert sum(line.startswith("orders ") for line in lines) == 2
        assert sum(line.startswith("bill ") for line in lines) == (2 if cli.remote else 0)
        assert "2.03 kB" in shown

    def test_it_shows_actors(self, cli: Cli) -> None:
        """Those of a server, with what the last crash was; on a backend it says that there are
        none, as they belong to a process."""
        started = threading.Event()

        def told(event: otp.Event) -> None:
            if isinstance(event, otp.Started) and event.restarts:
                started.set()

        cli.app.add_event_hook(told)
        cli.app.start_child(otp.ChildSpec("fragile", Fragile, name="fragile")).get()
        cli.app.tell("fragile", "crash")
        assert started.wait(TIMEOUT)
        for number in range(12):
            cli.app.start_child(otp.ChildSpec(f"a{number}", Fragile)).get()
        (found,) = cli("top", "--once", "--json").lines
        shown = cli("top", "--once").out
        if not cli.remote:
            assert found["actors"] is None
            assert "no actors here: they belong to a process; --server shows" in shown
            return
        [actor] = [it for it in found["actors"]["actors"] if it["path"][-1] == "fragile"]
        assert (actor["restarts"], actor["state"]) == (1, "running")
        assert found["actors"]["total"]["actors"] == len(found["actors"]["actors"]) + 3
        [line] = [line for line in shown.splitlines() if line.startswith("    fragile ")]
        assert re.fullmatch(r" {4}fragile +running +1 +0 +\S.*RuntimeError.*no stock.*", line)
        assert "  actors (and 3 more)" in shown
        assert "actors, 1 restarts, 0 messages wait" in shown
        assert "hunter2" not in shown
        assert "hunter2" not in json.dumps(found)

    def test_changes_per_second(self, cli: Cli) -> None:
        """Between one look and the next."""
        with Running("top", "--interval", "0.05", *cli.target, POLLIN_TOKEN=TOKEN) as running:
            assert "QUEUED" in running.line()
            push(cli.app, "a")
            while "+" not in (line := running.line()):
                pass
            assert line.split()[:2] == ["orders", "1"]
            assert running.stop()[::2] == (130, "")


class TestDemo:
    def test_it_is_lively(self) -> None:
        """Everything that it is to show happens, and is counted."""
        wanted = {
            *("serving", "pushed", "claimed", "acknowledged", "failed", "discarded", "dead"),
            *("receiver", "repeated", "invoice", "401", "actor.crashed"),
        }
        with Running("demo", "--rate", "60", "--seed", "1", "--json") as running:
            seen: set[str] = set()
            while not wanted <= seen:
                event = json.loads(running.line())
                seen |= {event.get("kind", event["event"]), str(event.get("to_phase"))}
                seen.add(event.get("text", "").split("  ")[0])
            code, output, errors = running.stop()
        assert (code, errors) == (0, "")
        summary = json.loads(output.splitlines()[-1])
        assert summary["event"] == "summary"
        assert {"answered 200", "answered 401", "pushed", "dead"} <= set(summary["counted"])

    def test_it_is_served_while_it_runs(self) -> None:
        """Receiver, admin API and dashboard; Ctrl-C ends it with a summary."""
        with Running("demo", "--rate", "30") as running:
            receiver = running.line().split()[1]
            pages = running.line().split()[1].rstrip(",")
            assert pages == f"{receiver}/dashboard"
            login = httpx.get(f"{pages}/login", timeout=TIMEOUT, trust_env=False)
            assert login.status_code == 200
            running.line()
            setting = dict(word.split("=", 1) for word in running.line().split()[1:])
            server, token = setting["POLLIN_SERVER"], setting["POLLIN_TOKEN"]
            assert server == f"{receiver}/admin"
            answer = httpx.get(
                f"{server}/endpoints",
                headers={"authorization": f"Bearer {token}"},
                timeout=TIMEOUT,
                trust_env=False,
            )
            assert [it["id"] for it in answer.json()["endpoints"]] == [
                "demo-orders",
                "demo-builds",
                "demo-payments",
                "demo-visits",
            ]
            code, output, errors = running.stop()
            assert (code, errors) == (0, "")
            assert "answered 200" in output

    def test_on_a_durable_backend(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """What was left is there afterwards; a second run shows nothing of the first."""
        url = sqlite_url(tmp_path)
        shipped: set[str] = set()
        for _ in range(2):
            with Running("demo", "--rate", "40", "--backend", url, "--json") as running:
                while (event := json.loads(running.line())).get("to_phase") != "shipped":
                    assert event.get("callback_id") not in shipped
                shipped.add(event["callback_id"])
                assert running.stop(signal.SIGTERM)[0] == 0
        assert len(shipped) == 2
        assert main(["endpoint", "list", "--backend", url, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["endpoints"]
        assert sum(it["stats"]["queued"] for it in found) > 0


class TestEnds:
    def test_a_pipe_that_nobody_reads(self, app: Application, tmp_path: Path) -> None:
        """Quietly, with the code that a shell gives for it."""
        for number in range(200):
            push(app, str(number), b"x" * 1_000)
        reader, writer = os.pipe()
        os.close(reader)
        for command in (["dump"], ["list", "orders", "--json"], ["fetch", "orders", "--body"]):
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pollin_actors.cli",
                    *command,
                    "--backend",
                    sqlite_url(tmp_path),
                ],
                env=environment(),
                stdout=writer,
                stderr=subprocess.PIPE,
                timeout=TIMEOUT,
                check=False,
            )
            assert (done.returncode, done.stderr) == (141, b""), command
        os.close(writer)

    def test_bodies_are_written_byte_for_byte(self, app: Application, tmp_path: Path) -> None:
        """Where it is no terminal that gets them."""
        body = bytes(range(256))
        push(app, "a", body)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pollin_actors.cli", "fetch", "orders", "--body"),
                *("--backend", sqlite_url(tmp_path)),
            ],
            env=environment(),
            capture_output=True,
            timeout=TIMEOUT,
            check=True,
        )
        assert done.stdout == body

    def test_an_error_of_our_own_is_code_70(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It has a traceback, to be reported."""

        def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("pollin_actors.cli.sign.read_raw", broken)
        assert main(["verify", "--scheme", "none", __file__]) == 70
        assert "ZeroDivisionError" in capsys.readouterr().err

    def test_sigterm_is_not_caught_where_nothing_is_under_way(self, cli: Cli) -> None:
        """It ends the process at once, as any other."""
        push(cli.app, "a")
        with Running("tail", "-f", *cli.target, POLLIN_TOKEN=TOKEN) as running:
            running.line()
            assert running.stop(signal.SIGTERM)[0] == -signal.SIGTERM
