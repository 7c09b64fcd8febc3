"""Forms: only those that we made, for this session, sent from here."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pollin_actors import Application
from tests.web.dashboard.visitor import WRITER, Visitor, push

ENABLE = "/endpoints/orders/disable"


def enabled(app: Application) -> bool:
    endpoint = app.endpoints.find("orders").get()
    assert endpoint is not None
    return endpoint.intake.enabled


def test_a_form_of_ours_is_taken(visitor: Visitor, memory: Application) -> None:
    """What the following are measured against."""
    assert visitor.post(ENABLE, confirmed="1").status_code == 303
    assert not enabled(memory)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://service.example.evil.example"},
        {"origin": "http://["},
        {"referer": "http://["},
        {"origin": "http://service.example", "sec-fetch-site": "cross-site"},
        {"origin": "http://service.example", "sec-fetch-site": "same-site"},
        {"referer": "https://evil.example/dash/"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_other_sites_send_none(
    visitor: Visitor, memory: Application, headers: dict[str, str]
) -> None:
    """Even with the right token in it a form from elsewhere changes nothing."""
    answer = visitor.post(ENABLE, headers=headers, confirmed="1")
    assert answer.status_code == 403
    assert enabled(memory)


@pytest.mark.parametrize("token", ["", "0" * 64, "é", None])
def test_each_form_shows_that_we_made_it(
    visitor: Visitor, memory: Application, token: str | None
) -> None:
    """Without its token, or with another, it changes nothing."""
    fields: dict[str, Any] = {"confirmed": "1"}
    if token is not None:
        fields["form_token"] = token
    headers = {"origin": visitor.base}
    answer = visitor.client.post(f"/dash{ENABLE}", data=fields, headers=headers)
    assert answer.status_code == 403
    assert enabled(memory)


def test_a_form_belongs_to_its_session(memory: Application) -> None:
    """That of somebody else who is logged in by the same token is not taken."""
    with Visitor(memory) as one:
        one.login()
        token = one.form_token()
        one.client.cookies.clear()
        one.login()
        answer = one.post(ENABLE, form_token=token, confirmed="1")
        assert answer.status_code == 403
        assert enabled(memory)


def test_a_host_behind_another_name_is_named(memory: Application) -> None:
    """``origins`` lets in what a proxy in front is called."""
    with Visitor(memory, token=WRITER, origins=["https://ops.example"]) as visitor:
        visitor.login()
        headers = {"origin": "https://ops.example"}
        assert visitor.post(ENABLE, headers=headers, confirmed="1").status_code == 303


def test_ends_of_lines_come_back_as_they_were(visitor: Visitor, memory: Application) -> None:
    """Browsers make all of them CR LF: of three callbacks the one that is meant is moved."""
    keys = ["a\nb", "a\rb", "a\r\nb"]
    for key in keys:
        push(memory, id=key)
    page = visitor.page("/callback", endpoint="orders", key=keys[0])
    field = re.search(r'<input type="hidden" name="(key[^"]*)" value="(a[^"]*)">', page)
    assert field is not None
    name, value = field.groups()
    assert "\n" not in value
    fields = {"endpoint": "orders", "phase_to": "done", name: value}
    visitor.follow(visitor.post("/callback/move", **fields))
    found = {callback.id: callback.phase for callback in memory.callbacks.dump("orders")}
    assert found == {keys[0]: "done", keys[1]: "received", keys[2]: "received"}


def test_what_was_sent_as_a_form_is_not_asked_for_by_a_link(
    visitor: Visitor, memory: Application
) -> None:
    """Neither after a choice of colours there, nor where it could not be done."""
    push(memory, id="one")
    fields = {"endpoint": "orders", "key": "one"}
    page = visitor.post("/callback/delete", **fields).text
    back = re.search(r'name="back" value="([^"]*)"', page)
    assert back is not None
    visitor.follow(visitor.post("/theme", theme="dark", back=back[1]))
    memory.stop()
    answer = visitor.post("/callback/delete", **fields)
    assert answer.status_code == 503
    assert "Try again" not in answer.text


def test_what_is_no_form_is_refused(visitor: Visitor) -> None:
    """JSON, files, too much, no UTF-8, and another method: each says so."""
    send = visitor.client.request
    url, headers = f"/dash{ENABLE}", {"origin": visitor.base}
    form = {**headers, "content-type": "application/x-www-form-urlencoded"}
    assert send("POST", url, json={}, headers=headers).status_code == 415
    assert send("POST", url, content=b"a=" + b"x" * 70_000, headers=form).status_code == 413
    assert send("POST", url, content=b"a=%ff", headers=form).status_code == 400
    assert send("POST", url, content=b"a=b&" * 300, headers=form).status_code == 400
    assert send("PUT", url, headers=headers).status_code == 405
    assert send("GET", url).headers["allow"] == "POST"


def test_colours_are_chosen_without_a_script(visitor: Visitor) -> None:
    """The choice is a form, is kept in a cookie, and leads back."""
    page = visitor.follow(visitor.post("/theme", theme="dark", back="/dash/tree"))
    assert 'data-theme="dark"' in page
    assert "Supervision" in page
    assert 'data-theme="dark"' in visitor.page("/")
    answer = visitor.post("/theme", theme="<script>", back="//evil.example")
    assert answer.headers["location"] == "/dash/"
    assert 'data-theme="auto"' in visitor.page("/")
