"""Looking: list, fetch, count, history, tail, endpoint list and show; both ways alike."""

from __future__ import annotations

import pytest

from pollin_actors import Application, Callback, Endpoint
from pollin_actors.web.admin_api.views import MASK
from tests.cli.inboxes import Cli, kill, push

HOSTILE = b"\x1b]0;owned\x07\x1b[2J\r\x9b31mred \xe2\x80\xae\xff<b>[bold]"


@pytest.fixture
def filled(app: Application) -> Application:
    """Three callbacks, one of them dead, one moved, one with a sub event."""
    push(app, "one", b'{"n": 1}')
    kill(app, "one")
    push(app, "two", HOSTILE)
    push(app, "three", b"\xff\xfe")
    app.callbacks.update_phase("orders", key="three", phase="done").get()
    push(app, "four", b"sub", parent="two")
    app.endpoints.create(Endpoint.new(id="größe[1]{a,b}$HOME")).get()
    return app


COMMANDS = [
    ["list", "orders"],
    ["list", "orders", "--phase", "received"],
    ["list", "orders", "--newest", "--limit", "2"],
    ["list", "orders", "--offset", "1", "--limit", "1"],
    ["list", "größe[1]{a,b}$HOME"],
    ["fetch", "orders"],
    ["fetch", "orders", "three"],
    ["fetch", "orders", "three", "--kept"],
    ["fetch", "orders", "nothing"],
    ["count", "orders"],
    ["count", "orders", "--phase", "done"],
    ["count", "orders", "--phase", "nothing"],
    ["history", "orders", "one"],
    ["history", "orders", "four", "--tree"],
    ["history", "orders", "nothing"],
    ["tail"],
    ["tail", "orders", "-n", "2"],
    ["tail", "orders", "--kind", "dead", "--kind", "moved"],
    ["tail", "orders", "-n", "0"],
    ["endpoint", "list"],
    ["endpoint", "show", "orders"],
    ["endpoint", "show", "größe[1]{a,b}$HOME"],
    ["endpoint", "show", "nothing"],
    ["dead", "list", "orders"],
    ["dead", "list", "orders", "--phase", "done"],
    ["replay", "orders", "--dry-run", "--name", "again"],
    ["replay", "orders", "one", "--dry-run", "--name", "again", "--since", "1h"],
    ["replay", "orders", "nothing", "--dry-run", "--name", "again"],
    ["list", "a/b"],
    ["list", ".."],
    ["list", "x" * 300],
]


@pytest.mark.usefixtures("filled", "frozen")
def test_both_ways_say_the_same(both: tuple[Cli, Cli]) -> None:
    """On the backend and through a server: letter for letter, in text and in JSON."""
    backend, server = both
    for command in COMMANDS:
        for arguments in (command, [*command, "--json"]):
            here, there = backend(*arguments, code=None), server(*arguments, code=None)
            assert here == there, arguments
            assert here.code in (0, 1), (arguments, here)


@pytest.mark.usefixtures("filled")
def test_nothing_that_a_sender_sent_moves_the_cursor(cli: Cli) -> None:
    """Escape sequences, of 7 and 8 bits, and what turns the direction of text: all are escaped."""
    for command in COMMANDS:
        for arguments in (command, [*command, "--json"]):
            ran = cli(*arguments, code=None)
            for text in (ran.out, ran.err):
                shown = text.replace("\n", "")
                assert shown.isprintable(), (arguments, ascii(shown))


def test_errors_with_hostile_names(cli: Cli) -> None:
    """What is quoted in an error is on its one line, and printable."""
    for name in ("a\x1b[31m", "\x9b2J", "a\nb", "\u202e"):
        for arguments in (["list", name], ["fetch", "orders", name], ["history", "orders", name]):
            said = cli.fails(*arguments, code=1)
            assert said[:-1].isprintable(), ascii(said)


class TestList:
    def test_it_has_a_line_for_each(self, cli: Cli, frozen: int) -> None:
        """With the beginning of the body."""
        push(cli.app, "one", b'{"n": 1}')
        push(cli.app, "two", b"x" * 1500)

        first, second = cli("list", "orders").out.splitlines()[1:]

        assert first.split("  ")[0] == "one"
        assert first.endswith('  now  0         36 B     {"n": 1}')
        assert "1.53 kB" in second
        assert second.endswith("x" * 60 + "…")

    def test_more_than_a_page(self, cli: Cli) -> None:
        """Pages of the API are put together; what is left out is said."""
        pushes = [
            cli.app.callbacks.push("orders", Callback.new(None, id=str(number)))
            for number in range(1_005)
        ]
        pushes[0].join(*pushes[1:]).get()
        found = cli.json("list", "orders", "--limit", "1003")

        assert [it["id"] for it in found["callbacks"]] == [str(number) for number in range(1_003)]
        assert found["count"] == 1_005
        assert "3 of 1005" in cli("list", "orders", "--limit", "3").err

    def test_nothing_there_is_no_error(self, cli: Cli) -> None:
        """An empty queue is an answer: nothing on stdout, a remark beside it."""
        ran = cli("list", "orders", "--phase", "done")
        assert (ran.out, ran.err) == ("", "nothing is queued in phase 'done'\n")
        assert cli.json("list", "orders") == {"callbacks": [], "count": 0}


class TestFetch:
    def test_credentials_are_hidden(self, cli: Cli) -> None:
        """On a backend, too, where they would be to be had."""
        cli("push", "orders", "-H", "Authorization: Bearer s3cret", "--data", "x", "--id", "k")
        for ran in (cli("fetch", "orders", "k"), cli("fetch", "orders", "k", "--json")):
            assert "s3cret" not in ran.out
            assert MASK in ran.out

    def test_the_body_alone(self, cli: Cli) -> None:
        """With nothing added, for a program."""
        push(cli.app, "one", b"a\r\n\tb")
        assert cli("fetch", "orders", "one", "--body").out == "a\r\n\tb"

    def test_what_has_left_is_found_if_asked_for(self, cli: Cli) -> None:
        """As long as it is kept."""
        push(cli.app, "one")
        cli.app.callbacks.pop("orders").get()

        assert "holds no callback 'one'" in cli.fails("fetch", "orders", "one", code=1)
        assert cli.json("fetch", "orders", "one", "--kept")["id"] == "one"

    def test_values_that_are_no_requests(self, cli: Cli) -> None:
        """They are shown, and have no body to be written."""
        cli.app.callbacks.push("orders", Callback.new({"a": [1]}, id="value")).get()
        assert "{'a': [1]}" in cli("fetch", "orders", "value").out
        assert "has no body" in cli.fails("fetch", "orders", "value", "--body", code=1)


class TestHistory:
    @pytest.mark.usefixtures("frozen")
    def test_it_tells_what_happened(self, cli: Cli) -> None:
        """A row for each record: what, from where to where, by whom, why."""
        push(cli.app, "one")
        kill(cli.app, "one", "no \x1b[31mstock")

        rows = [line.split() for line in cli("history", "orders", "one").out.splitlines()]

        assert [row[2:] for row in rows[1:]] == [
            ["pushed", "one", "received"],
            ["claimed", "one", "received", "worker", "1"],
            ["dead", "one", "received", "→", "failed", "worker", "1", "no", "\\x1b[31mstock"],
        ]

    def test_the_whole_event(self, cli: Cli) -> None:
        """From any of them, in the order in which it happened."""
        push(cli.app, "root")
        push(cli.app, "leaf", parent="root")
        found = cli.json("history", "orders", "leaf", "--tree")["records"]
        assert [it["callback_id"] for it in found] == ["root", "leaf"]


class TestTail:
    @pytest.mark.parametrize("number", [1, 2, 3, 5, 8, 100, 1_500])
    def test_the_last_ones_are_found(self, cli: Cli, number: int) -> None:
        """However many, and however far positions lie apart."""
        app = cli.app
        app.endpoints.create(Endpoint.new(id="other")).get()
        for each in range(8):
            push(app, str(each))
            # Positions are the whole file's: gaps.
            others = [Callback.new(None, id=f"{each} {more}") for more in range(each**2)]
            pushes = [app.callbacks.push("other", callback) for callback in others]
            for pushed in pushes:
                pushed.get()

        found = cli("tail", "orders", "-n", str(number), "--json").lines

        assert [it["callback_id"] for it in found] == [str(n) for n in range(8)][-number:]

    def test_an_endpoint_without_history(self, cli: Cli) -> None:
        """Nothing is shown, and it is no error."""
        assert cli("tail", "orders").out == ""

    def test_of_several_the_last_of_all(self, cli: Cli) -> None:
        """In the order in which things happened, whichever endpoint's they are."""
        cli.app.endpoints.create(Endpoint.new(id="other")).get()
        for key in ("a", "b", "c"):
            push(cli.app, key)
            cli.app.callbacks.push("other", Callback.new(None, id=key)).get()
        found = cli("tail", "-n", "3", "--json").lines
        assert [(it["endpoint_id"], it["callback_id"]) for it in found] == [
            ("other", "b"),
            ("orders", "c"),
            ("other", "c"),
        ]
