"""What senders send is text on every page, whatever is in it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pollin_actors import Application, Callback, Endpoint, Request
from pollin_actors.errors import BackendUnavailable
from pollin_actors.records import Kind
from pollin_actors.web import dashboard
from pollin_actors.web.dashboard.render import visible
from pollin_actors.web.dashboard.service import OPERATIONS
from pollin_actors.web.dashboard.visit import Urls
from tests.web.dashboard.visitor import READER, WRITER, Client, Visitor, orders

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


def test_no_link_leads_to_another_site() -> None:
    """Whatever stands in the path: two slashes at its beginning are a host."""

    def authenticate(request: Any) -> None:
        raise BackendUnavailable("users", "away")

    with Application() as app:
        client = Client(dashboard(app, authenticate=authenticate), "http://service.example")
        try:
            answer = client.get("http://service.example//evil.example/")
        finally:
            client.close()
    assert answer.status_code == 503
    links = re.findall(r'(?:href|action|value)="(/[^"]*)"', answer.text)
    assert "/evil.example/" in links
    assert not [link for link in links if link.startswith("//")]


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


TEXT = st.text(max_size=40) | st.sampled_from(["orders", "one", "", "\x00", "\ud800", "1" * 30])
NAMES = ["endpoint", "key", "phase", "since", "until", "header", "text", "kept", "order", "cursor"]
FIELDS = ["action", "phase_to", "into", "back", "name", "secret", "overlap", "confirmed", "page"]
QUERIES = st.dictionaries(st.sampled_from([*NAMES, *FIELDS]), TEXT, max_size=5)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_rubbish_is_no_error_of_ours(visitor: Visitor, data: st.DataObject) -> None:
    """Whatever is asked for: the answer is a page, and never 500."""
    operation = data.draw(st.sampled_from(OPERATIONS))
    path = operation.path
    for name in ("{endpoint_id}", "{job_id}"):
        if name in path:
            part = quote(data.draw(TEXT), safe="", errors="replace")
            path = path.replace(name, part or "x")
    fields = data.draw(QUERIES)
    encoded = urlencode(fields, errors="surrogatepass")
    if operation.method == "GET":
        answer = visitor.client.get(f"/dash{path}?{encoded}")
    else:
        body = f"form_token={visitor.form_token()}&{encoded}"
        headers = {"origin": visitor.base, "content-type": "application/x-www-form-urlencoded"}
        answer = visitor.client.post(f"/dash{path}", content=body, headers=headers)
    assert answer.status_code in (200, 303, 400, 404, 409, 422, 503), answer.text
    if answer.status_code == 503:
        assert "jobs run at once" in answer.text


@pytest.mark.parametrize("query", [b"a=%ff", b"&" * 5_000, b"a=b&" * 500, b"\xff"])
def test_what_cannot_be_read_is_said_on_a_page(visitor: Visitor, query: bytes) -> None:
    """Also where nobody is logged in."""
    for path in ("/", "/login", "/nowhere", "/callbacks"):
        for _ in range(2):
            answer = visitor.client.get(f"/dash{path}?{query.decode('latin-1')}")
            assert answer.status_code < 500
            assert answer.headers["content-security-policy"]
        visitor.client.cookies.clear()
