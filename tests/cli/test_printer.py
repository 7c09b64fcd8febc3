"""The built-in consumer: what it shows and pops, and when it leaves callbacks alone."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from pollin_actors import Application, BackendUnavailable, Callback, Endpoint, Request
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.cli.printer import Arrived, Drain, Flush, Printer
from pollin_actors.cli.screen import Screen, one_line, summary
from pollin_actors.messages import Pop
from pollin_actors.otp import ChildSpec

NAME = "printer"


class Broken(io.StringIO):
    """A stream that breaks after some lines."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.left = lines

    def flush(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise BrokenPipeError


@contextlib.contextmanager
def printing(
    stream: io.StringIO, *, keep: bool = False, backend: MemoryBackend | None = None
) -> Iterator[Application]:
    screen = Screen(stream)
    endpoint = Endpoint.new(id="orders")
    app = Application(
        backend or MemoryBackend(),
        endpoints=[endpoint],
        children=[ChildSpec(id=NAME, name=NAME, start=lambda: Printer(app, screen, keep))],
    )
    with app:
        yield app


def push(app: Application, *ids: str) -> None:
    for identifier in ids:
        callback = Callback.new(Request([], b"{}"), id=identifier)
        result = app.callbacks.push("orders", callback).get()
        app.tell(NAME, Arrived.of("orders", result))


def words(stream: io.StringIO) -> list[str]:
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def ids(app: Application) -> list[str]:
    return [callback.id for callback in app.callbacks.fetch("orders", limit=1000).get()]


def flush(app: Application) -> None:
    app.ask(NAME, Flush()).get()


def test_a_duplicate_is_shown_and_nothing_is_popped() -> None:
    """It is the callback that is there already."""
    stream = io.StringIO()
    with printing(stream, keep=True) as app:
        push(app, "a")
    with printing(stream) as app:
        app.callbacks.push("orders", Callback.new(Request([], b"{}"), id="a")).get()
        push(app, "a")
        flush(app)

        assert ids(app) == ["a"]
    assert words(stream)[-1] == "duplicate orders a 2 bytes {}"


@pytest.mark.parametrize("keep", [True, False])
def test_what_is_queued_already_is_shown_at_the_start(keep: bool) -> None:
    """More than a page of it, oldest first; popped unless callbacks are kept."""
    stream = io.StringIO()
    names = [f"c{number}" for number in range(250)]
    with printing(stream, keep=keep) as app:
        for name in names:
            app.callbacks.push("orders", Callback.new("text", id=name)).get()
        app.tell(NAME, Drain("orders", time.time_ns() + 1))
        # Each page sends for the next one, so the third is behind the third of these.
        for _ in range(4):
            flush(app)

        assert ids(app) == (names if keep else [])
    shown = words(stream)
    assert [line for line in shown if line.startswith("queued")] == [
        f"queued orders {name} a str" for name in names
    ]
    assert len(shown) == (250 if keep else 750)


def test_what_arrives_meanwhile_is_shown_once() -> None:
    """Draining leaves what is announced anyway."""
    stream = io.StringIO()
    with printing(stream) as app:
        app.tell(NAME, Drain("orders", 0))
        push(app, "a")
        flush(app)

    assert words(stream) == ["queued orders a 2 bytes {}", "popped orders a", "processed orders a"]


def test_what_somebody_else_has_popped_is_not_shown_as_popped() -> None:
    stream = io.StringIO()
    with printing(stream) as app:
        result = app.callbacks.push("orders", Callback.new("x", id="a")).get()
        app.callbacks.pop("orders").get()
        app.tell(NAME, Arrived.of("orders", result))
        flush(app)

    assert words(stream) == ["queued orders a a str"]


def test_once_nobody_reads_callbacks_stay_in_the_queue() -> None:
    """What is not shown is not popped either; the log says so once."""
    stream = Broken(lines=3)
    with capture_logs() as logs, printing(stream) as app:
        push(app, "a", "b", "c")
        flush(app)

        assert ids(app) == ["b", "c"]
    assert [e["event"] for e in logs if e["log_level"] != "debug"] == ["printer.silenced"]


def test_a_backend_that_fails_costs_no_callback() -> None:
    """The failure is logged, the printer lives, the callback stays."""

    class Failing(MemoryBackend):
        failing = True

        def execute(self, message: Any) -> Any:
            if isinstance(message, Pop) and self.failing:
                self.failing = False
                raise BackendUnavailable("memory", "out of order")
            return super().execute(message)

    stream = io.StringIO()
    with capture_logs() as logs, printing(stream, backend=Failing()) as app:
        push(app, "a", "b")
        flush(app)

        assert ids(app) == ["a"]
    assert [e["event"] for e in logs if e["log_level"] != "debug"] == ["printer.failed"]
    assert words(stream)[-1] == "processed orders b"


def test_without_a_stdout_nothing_is_shown() -> None:
    screen = Screen(None)

    assert screen.broken
    assert not screen.line("x")


def test_characters_that_the_stream_cannot_carry_are_escaped() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")

    assert Screen(stream).line("größe")
    assert raw.getvalue() == b"gr\\xf6\\xdfe\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\nb\tc\0", "a\\nb\\tc\\x00"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 200 + "…"),
        ("\0" * 60, "\\x00" * 50 + "…"),
    ],
)
def test_one_line_cannot_move_the_cursor(text: str, shown: str) -> None:
    assert one_line(text) == shown


@pytest.mark.parametrize("size", range(1, 5))
def test_a_cut_never_splits_a_character(size: int) -> None:
    """Whatever characters a long body is made of, 200 whole ones are shown."""
    character = {1: "a", 2: "ö", 3: "€", 4: "🥖"}[size]
    body = (character * 300).encode()

    assert summary(Request([], body)) == f"{300 * size} bytes  {character * 200}…"
