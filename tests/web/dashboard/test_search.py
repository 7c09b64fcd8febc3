"""Looking for callbacks: what is found, in pieces of bounded work."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from pollin_actors import Application
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import FetchReverse
from pollin_actors.resources import Callback, Request
from pollin_actors.web.dashboard import search
from tests.web.dashboard.visitor import Visitor, orders, push, push_all, text_of

_ROW = re.compile(r'<tr data-key="([^"]*)"')
_NEXT = re.compile(r'href="(/dash/callbacks\?[^"]*cursor=[^"]*)"')


def ids(page: str) -> list[str]:
    return _ROW.findall(page)


def all_pages(visitor: Visitor, **query: Any) -> list[list[str]]:
    """The ids on each page, as one goes on to the next."""
    page = visitor.page("/callbacks", endpoint="orders", **query)
    pages = [ids(page)]
    while (following := _NEXT.search(page)) is not None:
        page = visitor.client.get(following[1].replace("&amp;", "&")).text
        pages.append(ids(page))
        assert len(pages) < 100
    return pages


@pytest.mark.parametrize("query", [{}, {"order": "oldest"}, {"kept": "1"}, {"phase": "received"}])
def test_all_pages_hold_everything_once(inbox: Application, query: dict[str, str]) -> None:
    """In the order that was asked for, fifty to a page."""
    names = [f"c{number:03}" for number in range(130)]
    push_all(inbox, dict.fromkeys(names, b""))
    with Visitor(inbox) as visitor:
        visitor.login()
        pages = all_pages(visitor, **query)
        found = [name for page in pages for name in page]
        assert found == (names[::-1] if not query or "phase" in query else names)
        assert [len(page) for page in pages] == [50, 50, 30]


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_search_is_bounded_and_goes_on(
    inbox: Application, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """Each request looks for a while, answers with what it has found, and says how to go on."""
    monkeypatch.setattr(search, "BUDGET_S", 0.0)
    monkeypatch.setattr(search, "FIRST_STEP", search.SCAN)
    bodies = {f"c{n}": b"needle" if n % 700 == 350 else b"hay" for n in range(2_100)}
    push_all(inbox, bodies)
    with Visitor(inbox) as visitor:
        visitor.login()
        first = visitor.page("/callbacks", endpoint="orders", text="NEEDLE", order=order)
        assert "Search on" in first
        assert "500 looked at" in text_of(first)
        pages = all_pages(visitor, text="NEEDLE", order=order)
        assert 4 < len(pages) < 7
        found = [name for page in pages for name in page]
        assert sorted(found) == ["c1050", "c1750", "c350"]


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_many_matches_are_none_too_few(inbox: Application, order: str) -> None:
    """Where a page is full in the middle of what was read, the next goes on behind it."""
    push_all(inbox, {f"c{n:03}": b"needle" if n % 2 else b"hay" for n in range(700)})
    with Visitor(inbox) as visitor:
        visitor.login()
        pages = all_pages(visitor, text="needle", order=order)
        found = [name for page in pages for name in page]
        wanted = [f"c{number:03}" for number in range(700) if number % 2]
        assert found == (wanted if order == "oldest" else wanted[::-1])
        assert max(map(len, pages)) == 50


def test_what_is_looked_for(inbox: Application) -> None:
    """Phase, header, text in body and id, time; all that is asked for must hold."""
    push(inbox, b'{"who": "Ada"}', [("X-Event", "Order.Created")], id="one")
    push(inbox, b'{"who": "Bob"}', [("x-event", "order.deleted")], id="two", phase="done")
    inbox.callbacks.push("orders", Callback.new("Ada as text", id="three")).get()
    with Visitor(inbox) as visitor:
        visitor.login()

        def found(**query: Any) -> set[str]:
            return set(ids(visitor.page("/callbacks", endpoint="orders", **query)))

        assert found(text="ada") == {"one", "three"}
        assert found(text="TWO") == {"two"}
        assert found(header="x-event") == {"one", "two"}
        assert found(header="x-event: order.cr") == {"one"}
        assert found(header="x-event:", phase="done") == {"two"}
        assert found(header="x-other") == set()
        assert found(since="2020-01-01T00:00") == {"one", "two", "three"}
        assert found(until="2020-01-01T00:00") == set()
        assert found(since="2999-01-01T00:00:00", order="oldest") == set()
        for query in ({"since": "yesterday"}, {"cursor": "x"}, {"text": "x" * 600}):
            assert visitor.get("/callbacks", endpoint="orders", **query).status_code == 422
        assert visitor.get("/callbacks", endpoint="orders", phase="nowhere").status_code == 422


def test_what_is_hidden_is_not_found_either(visitor: Visitor, memory: Application) -> None:
    """Or it could be guessed letter by letter."""
    push(memory, b"", [("authorization", "Bearer abc"), ("x-a", "abc")], id="one")

    def found(header: str) -> list[str]:
        return ids(visitor.page("/callbacks", endpoint="orders", header=header))

    assert found("authorization") == ["one"]
    assert found("authorization: bearer") == []
    assert found("authorization: *") == []
    assert found("x-a: abc") == ["one"]


def test_a_secret_in_a_header_is_not_found_either(visitor: Visitor, memory: Application) -> None:
    """Whatever the header is called, and whether one looks or acts on all that match."""
    push(memory, b"", [("x-custom", "a-secret-that-nobody-shows")], id="one")
    for part in ("a-secret-that-nobody-shows", "a-s", ""):
        query: dict[str, Any] = {"endpoint": "orders", "header": f"x-custom: {part}"}
        assert ids(visitor.page("/callbacks", **query)) == []
        answer = visitor.post("/callbacks/act", action="delete", **query)
        job = visitor.service.state.shared.jobs.find(answer.headers["location"].split("/")[-1])
        for _ in range(10_000):
            visitor.page(f"/jobs/{job.id}")
            if not job.active:
                break
        assert (job.state, job.matched) == ("ready", 0)


def test_a_time_is_jumped_to(inbox: Application) -> None:
    """From the oldest on, it begins near the time that is asked for; the whole can be had."""
    begin = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000_000
    hour = 3_600_000_000_000
    many = [Callback(f"c{n}", Request(), "", begin + n * hour) for n in range(600)]
    for pushed in [inbox.callbacks.push("orders", callback) for callback in many]:
        pushed.get()
    # Pushed late, as out of a dump.
    inbox.callbacks.push("orders", Callback("late", Request(), "", begin + 590 * hour)).get()
    with Visitor(inbox) as visitor:
        visitor.login()
        query: dict[str, Any] = {"since": "2026-01-25T10:00", "order": "oldest"}
        page = visitor.page("/callbacks", endpoint="orders", **query)
        assert ids(page) == [f"c{number}" for number in range(586, 600)] + ["late"]
        assert int(re.findall(r"(\d+) looked at", text_of(page))[0]) < 50
        assert "from the very first on" in page
        whole = visitor.page("/callbacks", endpoint="orders", whole="1", **query)
        assert ids(whole) == ids(page)


def test_the_newest_end_somewhere(
    visitor: Visitor, memory: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leafing back costs more and more: at some point the page says how to go on."""
    monkeypatch.setattr(search, "NEWEST", 100)
    for number in range(120):
        push(memory, id=f"c{number}")
    assert [len(page) for page in all_pages(visitor)] == [50, 50, 0]


class Watched(MemoryBackend):
    """Notes how many are asked for at once."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[int] = []

    def execute(self, message: Any) -> Any:
        if isinstance(message, FetchReverse):
            self.limits.append(message.limit)
        return super().execute(message)


@pytest.mark.parametrize("query", [{}, {"phase": "received"}, {"text": "nothing"}])
def test_large_bodies_are_read_a_few_at_a_time(query: Any) -> None:
    """Of a list only lines are held, and what is read at once stays bounded."""
    backend = Watched()
    with Application(backend, endpoints=[orders()]) as app, Visitor(app) as visitor:
        visitor.login()
        push_all(app, {f"c{n}": b"x" * 1_000_000 for n in range(60)})
        visitor.page("/callbacks", endpoint="orders", **query)
        assert backend.limits[:3] == [17, 5, 2]
        assert max(backend.limits[1:]) == 5
