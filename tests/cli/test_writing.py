"""Changing: push, pop, phase, endpoints, dead letters, replay; both ways alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pollin_actors import Application, Callback, Endpoint
from pollin_actors.cli import dead as dead_command
from tests.cli.inboxes import TOKEN, Cli, kill, orders, push, remote_of

# A session, whose every step says the same on a backend and through a server.
SESSION: list[tuple[list[str], bytes]] = [
    (["endpoint", "create", "shop", "--phases", "new,sent", "--ttl", "2d", "--capacity", "3"], b""),
    (["endpoint", "create", "shop"], b""),
    (["endpoint", "create", "signed", "--intake", "github", "--secret", "-"], b"from stdin\n"),
    (["endpoint", "show", "shop"], b""),
    (["push", "shop", "--id", "a", "-H", "content-type: text/plain"], b"\xff\x00a"),
    (["push", "shop", "--id", "a"], b"again"),
    (["push", "shop", "--id", "b", "--phase", "sent", "--ordering-key", "k"], b"b"),
    (["push", "shop", "--id", "c", "--parent", "a", "--data", "c"], b""),
    (["push", "shop", "--id", "d"], b"too many"),
    (["push", "shop", "--id", "e", "--phase", "nothing"], b""),
    (["push", "nothing"], b""),
    (["list", "shop"], b""),
    (["phase", "shop", "a", "sent", "--expect", "sent"], b""),
    (["phase", "shop", "a", "sent", "--expect", "new"], b""),
    (["phase", "shop", "z", "sent"], b""),
    (["phase", "shop", "a", "nothing"], b""),
    (["history", "shop", "a", "--tree"], b""),
    (["pop", "shop", "a"], b""),
    (["pop", "shop", "a"], b""),
    (["pop", "shop", "--phase", "sent"], b""),
    (["pop", "shop", "--limit", "5"], b""),
    (["pop", "shop"], b""),
    (["replay", "shop", "--name", "again"], b""),
    (["replay", "shop", "--name", "again"], b""),
    (["pop", "shop", "--limit", "9"], b""),
    (["endpoint", "disable", "shop"], b""),
    (["endpoint", "list"], b""),
    (["endpoint", "enable", "shop"], b""),
    (["endpoint", "rotate", "shop", "--overlap", "1h"], b""),
    (["endpoint", "rotate", "shop", "--secret", "given-by-me", "--overlap", "0"], b""),
    (["endpoint", "rotate", "nothing"], b""),
    (["push", "shop", "--id", "f"], b"f"),
    (["endpoint", "delete", "shop"], b""),
    (["endpoint", "delete", "shop", "--force"], b""),
    (["endpoint", "delete", "shop"], b""),
    (["endpoint", "create", "bad/id"], b""),
    (["endpoint", "create", "bad", "--phases", "a,a"], b""),
    (["endpoint", "create", "bad", "--intake", "carrier-pigeon"], b""),
    (["endpoint", "create", "bad", "--intake", "standard", "--secret", "weak"], b""),
    (["tail", "-n", "100"], b""),
]


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("json", [False, True], ids=["text", "json"])
def test_a_session_goes_the_same_both_ways(
    json: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every step answers the same, but for what is generated."""
    ran = []
    for name in ("backend", "server"):
        url = f"sqlite:///{tmp_path / name}.db?durability=normal"
        with Application(url, endpoints=[orders()]) as app, remote_of(app) as api:
            monkeypatch.setenv("POLLIN_TOKEN", TOKEN)
            target = ("--backend", url) if name == "backend" else ("--server", api)
            cli = Cli(app, capsys, monkeypatch, target)
            more = ["--json"] if json else []
            ran.append([cli(*it, *more, stdin=stdin, code=None).like for it, stdin in SESSION])
    for (arguments, _), here, there in zip(SESSION, *ran, strict=True):
        assert here == there, arguments
    codes = [code for code, _, _ in ran[0]]
    assert "".join(map(str, codes)) == "0100000011101011001001000000001020122220"


class TestPush:
    def test_bytes_and_headers_come_as_they_are(self, cli: Cli, tmp_path: Path) -> None:
        """From a file; order and repeats of headers are kept."""
        (tmp_path / "body").write_bytes(bytes(range(256)))
        pushed = cli.json("push", "orders", "body", "-H", "A: 1", "-H", "B: 2:3", "-H", "A: 4")

        stored = cli.app.callbacks.fetch("orders", key=pushed["callback"]["id"]).get()
        assert stored is not None
        assert stored.request.headers == (("A", "1"), ("B", "2:3"), ("A", "4"))
        assert stored.request.body == bytes(range(256))

    def test_it_says_id_and_outcome(self, cli: Cli) -> None:
        """A known id is a duplicate, and no error."""
        assert cli("push", "orders", "--id", "a").out == "queued  orders  a\n"
        assert cli("push", "orders", "--id", "a").out == "duplicate  orders  a\n"

    def test_a_delay(self, cli: Cli) -> None:
        """It is not available before."""
        cli("push", "orders", "--id", "a", "--delay", "1h")
        assert "no callback that is available" in cli.fails("pop", "orders", code=1)
        assert "not before  20" in cli("fetch", "orders", "a").out

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["missing-file"], "file 'missing-file' cannot be read (No such file or directory)"),
            (["."], "file '.' cannot be read (Is a directory)"),
            (["body", "--data", "x"], "expected FILE or --data, got both"),
            (["--data", "x", "-H", "no colon"], "--header: expected 'Name: value'"),
            (["--data", "x", "-H", "a: b\nc: d"], "--header: expected 'Name: value'"),
            (["--data", "x", "--delay", "soon"], "--delay: expected a duration such as 90s"),
            (["--data", "x", "--id", ""], "--id: expected 1 to 500 characters"),
        ],
    )
    def test_what_is_wrong_is_said(self, cli: Cli, arguments: list[str], said: str) -> None:
        """One line, with the option that has to be changed."""
        assert said in cli.fails("push", "orders", *arguments, code=2)


class TestPop:
    def test_the_body_alone(self, cli: Cli) -> None:
        """It is written as it is, and the callback is gone."""
        push(cli.app, "a", b"one")
        assert cli("pop", "orders", "--body").out == "one"
        assert cli.app.callbacks.count("orders").get() == 0

    def test_nothing_is_an_answer_in_json_too(self, cli: Cli) -> None:
        """A document, and the exit code for nothing there."""
        assert cli.json("pop", "orders", code=1) == {"callbacks": []}

    def test_what_does_not_go_together(self, cli: Cli) -> None:
        """Nothing is taken then."""
        assert "got both" in cli.fails("pop", "orders", "a", "--limit", "2", code=2)
        assert "one callback" in cli.fails("pop", "orders", "--body", "--limit", "2", code=2)


class TestEndpoint:
    def test_a_generated_secret_is_shown_once(self, cli: Cli) -> None:
        """It is the right one, and is shown by nothing else."""
        created, secret = cli("endpoint", "create", "new").out.splitlines()
        assert created == "created  new"
        endpoint = cli.app.endpoints.find("new").get()
        assert endpoint is not None
        assert secret == f"secret  {endpoint.secret.reveal()}"

        rotated = cli.json("endpoint", "rotate", "new")
        changed = cli.app.endpoints.find("new").get()
        assert changed is not None
        assert rotated["secret"] == changed.secret.reveal() != endpoint.secret.reveal()
        for shown in (["endpoint", "show", "new"], ["endpoint", "list"], ["dump"]):
            for more in ([], ["--json"]):
                if shown != ["dump"] or not more:
                    text = cli(*shown, *more).out
                    assert endpoint.secret.reveal() not in text
                    assert changed.secret.reveal() not in text

    @pytest.mark.parametrize("stdin", [b"", b"\n"])
    def test_an_empty_secret_from_stdin(self, cli: Cli, stdin: bytes) -> None:
        """It is no secret, and no endpoint is made."""
        said = cli.fails("endpoint", "create", "a", "--secret", "-", code=2, stdin=stdin)
        assert "got nothing" in said

    def test_all_settings(self, cli: Cli) -> None:
        """Every option arrives in the endpoint."""
        cli(
            *("endpoint", "create", "all", "--phases", "a, b", "--ttl", "90s"),
            *("--dedup-for", "2h", "--keep-for", "1d", "--capacity", "5", "--capacity-bytes", "6"),
            *("--intake", "stripe?tolerance=60", "--verify", "later", "--rate", "7.5"),
            *("--burst", "8", "--content-type", "a/b", "--content-type", "c/d"),
        )
        found = cli.app.endpoints.find("all").get()
        assert found is not None
        assert (found.phases, found.ttl, found.dedup_for) == (("a", "b"), 90_000, 7_200)
        assert (found.keep_for, found.capacity, found.capacity_bytes) == (86_400, 5, 6)
        assert found.intake.as_fields() == {
            "scheme": "stripe?tolerance=60.0",
            "verify": "later",
            "content_types": ["a/b", "c/d"],
            "rate": 7.5,
            "burst": 8,
        }

    def test_handlers_are_paused_where_they_are(self, app: Application, cli: Cli) -> None:
        """On a server; a backend has none, and says what can be done."""
        app.add_handler(lambda callback: None, "orders", name="ship")
        app.add_handler(lambda callback: None, "orders", phase="done", name="bill")
        if not cli.remote:
            said = cli.fails("endpoint", "pause", "orders", code=2)
            assert "works on a running server only (--server)" in said
            assert "`pollin endpoint disable`" in said
            return
        assert cli.json("endpoint", "pause", "orders", "--handler", "ship")["handlers"] == [
            {"name": "ship", "endpoint_id": "orders", "phase": None, "state": "paused", "held": 0}
        ]
        assert [it.state for it in app.handlers] == ["paused", "running"]
        assert "paused" in cli("endpoint", "pause", "orders").out
        assert [it.state for it in app.handlers] == ["paused", "paused"]
        cli("endpoint", "resume", "orders")
        assert [it.state for it in app.handlers] == ["running", "running"]
        said = cli.fails("endpoint", "pause", "orders", "--handler", "x", code=1)
        assert "expected one of 'ship', 'bill'" in said

    def test_a_server_without_handlers(self, app: Application, cli: Cli) -> None:
        """There is nothing to pause: that is said, rather than passed over."""
        if cli.remote:
            assert "has no handler" in cli.fails("endpoint", "pause", "orders", code=1)
            assert "does not exist" in cli.fails("endpoint", "pause", "nothing", code=1)

    def test_one_that_holds_something_is_not_deleted_by_accident(self, cli: Cli) -> None:
        """It takes --force."""
        push(cli.app, "a")
        assert "holds 1 callbacks" in cli.fails("endpoint", "delete", "orders", code=2)
        cli("endpoint", "delete", "orders", "--force")
        assert cli.app.endpoints.find("orders").get() is None


class TestDead:
    @pytest.fixture
    def dead(self, cli: Cli) -> Cli:
        """Two dead letters, one that was moved away, and one that is just in that phase."""
        for key in ("a", "b", "c"):
            push(cli.app, key)
            kill(cli.app, key, f"no {key}\x1b[2J")
        push(cli.app, "d")
        for key, phase in (("c", "done"), ("d", "failed")):
            cli.app.callbacks.update_phase("orders", key=key, phase=phase).get()
        return cli

    def test_they_are_found_with_their_reasons(self, dead: Cli) -> None:
        """Only those that died and still are where they were put."""
        found = dead.json("dead", "list", "orders")["dead"]
        assert [(it["callback"]["id"], it["record"]["reason"]) for it in found] == [
            ("a", "no a\x1b[2J"),
            ("b", "no b\x1b[2J"),
        ]
        assert "no a\\x1b[2J" in dead("dead", "list", "orders").out

    def test_retry_puts_them_back(self, dead: Cli) -> None:
        """Into the phase in which they failed, or another one."""
        assert dead("dead", "retry", "orders", "b").out == "retried  orders  b  received\n"
        assert dead.json("dead", "retry", "orders", "--all", "--to", "done") == {"retried": ["a"]}
        phases = {it.id: it.phase for it in dead.app.callbacks.dump("orders")}
        assert phases == {"a": "done", "b": "received", "c": "done", "d": "failed"}
        assert dead("dead", "retry", "orders", "--all").err.endswith("has no dead letters\n")

    def test_discard_removes_them(self, dead: Cli) -> None:
        """And nothing else."""
        assert dead.json("dead", "discard", "orders", "--all") == {"discarded": ["a", "b"]}
        assert [it.id for it in dead.app.callbacks.dump("orders")] == ["c", "d"]

    @pytest.mark.parametrize("action", ["retry", "discard"])
    @pytest.mark.parametrize("named", [True, False])
    def test_somebody_else_was_quicker(
        self, dead: Cli, monkeypatch: pytest.MonkeyPatch, action: str, named: bool
    ) -> None:
        """It is left as it is and said, and the others are done; what was named was to be there."""
        listed = dead_command.dead_letters

        def meanwhile(*arguments: Any) -> Any:
            found = listed(*arguments)
            dead.app.callbacks.update_phase("orders", key="a", phase="done").get()
            return found

        monkeypatch.setattr(dead_command, "dead_letters", meanwhile)
        which = ("a", "b") if named else ("--all",)
        ran = dead("dead", action, "orders", *which, "--json", code=1 if named else 0)
        assert list(ran.json.values()) == [["b"]]
        assert "'a'" in ran.err
        assert ran.err.endswith("; it was left as it is\n")
        left = {it.id: it.phase for it in dead.app.callbacks.dump("orders")}
        assert left["a"] == "done"
        assert left.get("b") == ("received" if action == "retry" else None)

    def test_a_phase_that_is_not_there(self, dead: Cli) -> None:
        """It is none of those that have gone."""
        said = dead.fails("dead", "retry", "orders", "--all", "--to", "nothing", code=1)
        assert "has no phase 'nothing'" in said

    def test_what_is_none_is_left_alone(self, dead: Cli) -> None:
        """Also those that come before it."""
        for action in ("retry", "discard"):
            said = dead.fails("dead", action, "orders", "a", "d", code=1)
            assert "callback 'd' is no dead letter" in said
        assert "got neither" in dead.fails("dead", "retry", "orders", code=2)
        assert "got both" in dead.fails("dead", "discard", "orders", "a", "--all", code=2)
        assert len(dead.json("dead", "list", "orders")["dead"]) == 2


class TestReplay:
    def test_a_dry_run_pushes_nothing(self, cli: Cli) -> None:
        """It says what would be pushed."""
        push(cli.app, "a")
        shown = cli("replay", "orders", "--dry-run", "--name", "n").out
        assert "pushed   nothing: a dry run" in shown
        assert "  n:a\n" in shown
        assert cli.app.callbacks.count("orders").get() == 1

    def test_some_into_another_endpoint(self, cli: Cli) -> None:
        """Queued or popped, into a phase, with their origin."""
        cli.app.endpoints.create(Endpoint.new(["x", "y"], id="other")).get()
        for key in ("a", "b", "c"):
            push(cli.app, key)
        cli.app.callbacks.pop("orders", key="b").get()

        cli("replay", "orders", "b", "c", "--into", "other", "--phase", "y", "--name", "n")

        copies = list(cli.app.callbacks.dump("other"))
        assert [(it.id, it.phase, it.origin) for it in copies] == [
            ("n:b", "y", "orders/b"),
            ("n:c", "y", "orders/c"),
        ]

    def test_times(self, cli: Cli) -> None:
        """From and until, absolute and relative, with zones."""
        cli.app.callbacks.push("orders", Callback("old", None, "", 1_000_000_000_000)).get()
        push(cli.app, "new")
        for bounds, ids in (
            (["--since", "1h"], ["n:new"]),
            (["--until", "2001-01-01"], ["n:old"]),
            (["--since", "1970-01-01T00:16:40", "--until", "1970-01-01T00:16:41Z"], ["n:old"]),
            (["--since", "1970-01-01T01:16:40+01:00"], ["n:old", "n:new"]),
        ):
            found = cli.json("replay", "orders", "--dry-run", "--name", "n", *bounds)
            assert found["ids"] == ids
        assert "--since: expected a time" in cli.fails(
            "replay", "orders", "--since", "yesterday", code=2
        )

    def test_nothing_to_replay_is_code_1(self, cli: Cli) -> None:
        """So that a script notices."""
        assert cli.json("replay", "orders", code=1)["matched"] == 0
