"""What senders send is text on every page, whatever is in it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pollin_actors import Application, Callback, Endpoint, Request
from pollin_actors.records import Kind
from pollin_actors.web.dashboard.render import visible
from pollin_actors.web.dashboard.visit import Urls
from tests.web.dashboard.visitor import READER, WRITER, Visitor, orders

ATTACKS = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "'-alert(1)-'",
    "</textarea></pre></template><svg/onload=alert(1)>",
    "{{ 7 * 191 }}{% raw %}",
    "javascript:alert(1)",
    "&lt;script&gt;",
    "a\u202eb\x1b]0;c\x07\u2028d",
    "<!--",
    "]]>",
]
# As ids of endpoints have no white space.
ENDPOINT_ID = "\"><img&src=x`onerror='alert(1)'>{{7*191}}"
PHASE = "<script>alert(2)</script>"
MOVE = {"action": "move", "phase_to": "done"}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_of_it_becomes_markup(attack: str) -> None:
    """In ids, phases, headers, bodies, reasons, ordering keys, names of handlers and claims."""
    endpoint = Endpoint.new([PHASE, "done", "dead"], 0, id=ENDPOINT_ID)
    app = Application(endpoints=[endpoint, orders()])

    def handle(callback: Callback) -> None:
        raise ValueError(attack)

    name = attack if attack.isprintable() else "<b>handler</b>"
    options: dict[str, Any] = {"then": "done", "dead_letter": "dead", "max_attempts": 1}
    app.add_handler(handle, ENDPOINT_ID, name=name, **options)
    with app, Visitor(app) as visitor:
        visitor.login()
        request = Request([("x-attack", attack), ("<b>" + attack[:9], "x")], attack.encode())
        fields: dict[str, Any] = {"id": attack, "ordering_key": attack, "fence": attack}
        app.callbacks.push(ENDPOINT_ID, Callback.new(request, **fields)).get()
        with app.callbacks.subscribe(ENDPOINT_ID, kinds=[Kind.DEAD]) as news:
            next(news)
        child = Callback.new(request, id=f"{attack}/child", parent=attack, phase="done")
        app.callbacks.push(ENDPOINT_ID, child).get()
        where: dict[str, Any] = {"endpoint": ENDPOINT_ID}
        pages = [
            visitor.page("/"),
            visitor.page("/endpoints"),
            visitor.page("/endpoints", text=attack[:100]),
            visitor.client.get(Urls("/dash")("/endpoints", ENDPOINT_ID)).text,
            visitor.page("/callbacks", **where),
            visitor.page("/callbacks", **where, text=attack, header=f"x-attack: {attack}"),
            visitor.page("/callback", **where, key=attack),
            visitor.page("/callback", **where, key=attack, view="text"),
            visitor.page("/dead-letters", **where),
            visitor.page("/tree"),
            visitor.page("/callback", 404, **where, key=f"{attack}!"),
            visitor.post("/callback/delete", **where, key=attack).text,
            visitor.post("/callback/move", **where, key=attack, phase_to=attack).text,
            visitor.follow(visitor.post("/callbacks/act", **where, **MOVE)),
            visitor.page("/login", status=303, next=attack),
        ]
        for page in pages:
            check(page)


def check(page: str) -> None:
    """No element, attribute or URL is there that no template has put there."""
    assert not re.search(r"<(img|b|svg/)[\s>/]", page)
    assert not re.search(r"<script(?! src=\"/dash/static/dashboard\.js\?v=\w+\" defer>)", page)
    assert "onerror='alert" not in re.sub(r'"[^"]*"', "", page)
    assert "1337" not in re.sub(r"\d\d:\d\d:\d\d|[0-9a-f-]{12,}", "", page)
    for url in re.findall(r'(?:src|href|action)="([^"]*)"', page):
        assert url.startswith(("/dash", "#")), url
    # Attributes are not shown: there a key is what it is, and a field what was typed.
    text = re.sub(r'"[^"]*"', "", page)
    for char in "\u202e\x1b\x07\u2028":
        assert char not in text


def test_the_reflected_is_escaped_before_the_login(memory: Application) -> None:
    """What is in the URL stands on the login page as text."""
    with Visitor(memory, token=WRITER, read_only_token=READER) as visitor:
        page = visitor.page("/login", next='/"><script>alert(1)</script>')
        assert "<script>alert" not in page
        page = visitor.page("/login", done="<script>alert(1)</script>")
        assert "alert" not in page


def test_a_notice_is_one_of_ours(visitor: Visitor) -> None:
    """No URL puts words into the mouth of a page."""
    assert "The callback was moved." in visitor.page("/", done="moved")
    assert "send me your token" not in visitor.page("/", done="send me your token")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\u202eb", "a\\u202eb"),
        ("\u200b", "\\u200b"),
        ("naïve 蜂 🐝", "naïve 蜂 🐝"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_is_not_seen_is_written_out(text: str, shown: str) -> None:
    """Characters that hide, reorder or steer a terminal are shown as escapes."""
    assert visible(text) == shown
    assert visible("a\nb", lines=True) == "a\nb"
