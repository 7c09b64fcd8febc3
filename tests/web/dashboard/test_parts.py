"""The parts that pages are made of."""

from __future__ import annotations

import ast
import shlex
import subprocess
import sys

import pytest

from pollin_actors import Callback, Request
from pollin_actors.web.crashes import TEXT, redact
from pollin_actors.web.dashboard.bodies import show
from pollin_actors.web.dashboard.charts import chart
from pollin_actors.web.dashboard.curl import curl_of
from pollin_actors.web.dashboard.flows import Bucket
from pollin_actors.web.dashboard.render import coarse, duration, number, size


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "it\'s"}',
        b"@/etc/passwd",
        b"$(touch x) `touch x` $HOME !! \\ %0a",
        "naïve\nlines".encode(),
        b"",
    ],
)
def test_a_command_sends_the_same_again(body: bytes) -> None:
    """A shell hands curl the very bytes, and runs nothing of them."""
    headers = [("content-type", "text/plain; a='b'"), ("x-empty", ""), ("host", "x")]
    callback = Callback.new(Request(headers, body))
    curl = curl_of("or'ders", callback, "https://hooks.example/in")
    assert curl is not None
    # As the shell reads it, with a curl that says what it was given.
    reader = f"{shlex.quote(sys.executable)} -c 'import sys; print(ascii(sys.argv[1:]))'"
    script = f'curl() {{ {reader} "$@"; }}\n{curl.command}'
    said = subprocess.run(
        ["sh", "-c", script], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    given = ast.literal_eval(said)
    assert given[-2:] == ["--data-raw", body.decode()]
    assert "https://hooks.example/in/or%27ders" in given
    assert "content-type: text/plain; a='b'" in given
    assert "x-empty;" in given
    assert not any(value.startswith("host") for value in given)


def test_a_command_holds_no_credentials_and_nothing_for_the_terminal() -> None:
    """Headers that are hidden are left out and named; a body that is not plain text is a file."""
    headers = [
        ("authorization", "Bearer abc"),
        ("x-hub-signature-256", "sha256=def"),
        ("x-own", "**********"),
        ("x-bell", "a\x07b"),
        ("@file", "x"),
    ]
    for body in (b"\x1b[2J", b"\xff", b"x" * 20_000, b"a\rb"):
        curl = curl_of("orders", Callback.new(Request(headers, body)), None)
        assert curl is not None
        assert curl.file
        assert curl.hidden == ("authorization", "x-hub-signature-256", "x-own")
        assert curl.command.splitlines()[0].startswith('curl -i -X POST "$RECEIVER"/orders')
        for part in ("abc", "def", "\x07", "@file", "\x1b"):
            assert part not in curl.command
    assert curl_of("orders", Callback.new({"a": 1}), None) is None


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("no money", "no money"),
        ("password=hunter2 left", "password=********** left"),
        ("{'api_key': 'abc', 'n': 1}", "{'api_key': **********, 'n': 1}"),
        ("Authorization: Bearer abc.def", "Authorization: **********"),
        ("got Bearer abc.def here", "got Bearer ********** here"),
        ("{'password': 'one two', 'n': 1}", "{'password': **********, 'n': 1}"),
        ('secret = "one two"', "secret = **********"),
        ("at postgres://me:hunter2@h/db", "at postgres://**********@h/db"),
        ("at valkey+unix://:hun@ter2@h", "at valkey+unix://**********@h"),
        ("https://example.org/a?b=c@d", "https://example.org/a?b=c@d"),
        ("key whsec_abcDEF123", "key **********"),
        ("at " + "a1" * 20, "at **********"),
        ("a\nb\n  c", "a b c"),
    ],
)
def test_texts_of_crashes_are_redacted(said: str, shown: str) -> None:
    """What looks like a secret is hidden; what is long is cut."""
    assert redact(said) == shown
    assert len(redact("word " * 1_000)) <= TEXT


def test_a_chart_tells_what_is_not_known_from_nothing() -> None:
    """Bars, a line, marks, and words for who does not see them."""
    unknown, nothing = Bucket(None, None, None), Bucket(0, 0, 0)
    made = chart([unknown, nothing, Bucket(10, 5, 2), Bucket(5, 10, 0)], 40, 20)
    assert made.unknown == 10.0
    assert [bar.x for bar in made.came] == [20.0, 30.0]
    assert made.came[0].height == 18.0
    assert len(made.failed) == 1
    assert len(made.lines) == 1
    assert "15 came in, 15 were done, 2 attempts failed" in made.label
    empty = chart([unknown] * 3)
    assert empty.came == ()
    assert empty.unknown == empty.width
    assert chart([nothing] * 3).lines == ()


def test_numbers_are_written_for_people() -> None:
    """Times, sizes and counts, whatever they are."""
    assert [duration(value) for value in (None, 0.0234, 5, 75, 3_700, 200_000)] == [
        "\u2013",
        "23 ms",
        "5 s",
        "1 min 15 s",
        "1 h 1 min",
        "2 d 7 h",
    ]
    assert [coarse(value) for value in (3, 59, 119, 7_200)] == ["0 s", "55 s", "1 min", "2 h"]
    assert [size(value) for value in (0, 999, 12_345, 10**12)] == [
        "0 B",
        "999 B",
        "12.3 kB",
        "1000.0 GB",
    ]
    assert [number(value) for value in (None, 1234567, 0.5)] == [
        "\u2013",
        "1\u202f234\u202f567",
        "0.5",
    ]


def test_json_is_indented_as_it_was_written() -> None:
    """Numbers, names that come twice, and escapes stay as they were."""
    raw = b'{"a":1.10,"a":1e400,"b":[],"c":{ },"d":["\\u0041,{}",[1]]}'
    body = show(Callback.new(Request([], raw)))
    assert body.view == "json"
    assert body.text == (
        '{\n  "a": 1.10,\n  "a": 1e400,\n  "b": [],\n  "c": {},\n'
        '  "d": [\n    "\\u0041,{}",\n    [\n      1\n    ]\n  ]\n}'
    )
