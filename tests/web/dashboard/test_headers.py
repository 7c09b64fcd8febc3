"""What every answer says to the browser."""

from __future__ import annotations

import re

import pytest

from pollin_actors import Application
from tests.web.dashboard.visitor import Visitor, push

PAGES = [
    "/",
    "/endpoints",
    "/endpoints/orders",
    "/callbacks",
    "/callbacks?endpoint=orders&text=x&order=oldest",
    "/callback?endpoint=orders&key=one",
    "/quarantine",
    "/dead-letters?endpoint=orders&phase=failed",
    "/tree",
    "/login",
    "/nowhere",
    "/callback/body?endpoint=orders&key=one",
    "/static/dashboard.js",
    "/static/nothing",
]


@pytest.fixture
def full(visitor: Visitor, memory: Application) -> Visitor:
    push(memory, b'{"a": 1}', [("x-a", "b")], id="one")
    return visitor


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_kept_framed_or_guessed(full: Visitor, path: str) -> None:
    """Nothing but our own files is loaded, nothing inline runs, nobody frames it."""
    headers = full.get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "*" not in policy
    if "/body" not in path:
        assert "frame-ancestors 'none'" in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", [path for path in PAGES if "static" not in path])
def test_pages_hold_nothing_inline(full: Visitor, path: str) -> None:
    """No script, no style and no handler stands in a page, and nothing from other hosts."""
    page = full.get(path).text
    assert not re.search(r"<script(?![^>]* src=)", page)
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
    for url in re.findall(r'(?:src|href|action)="([^"]*)"', page):
        assert url.startswith(("/dash", "#")), url


def test_a_body_is_downloaded_and_never_shown(full: Visitor, memory: Application) -> None:
    """Whatever it is, and whatever it is called."""
    push(memory, b"<script>alert(1)</script>", [("content-type", "text/html")], id='"a.html')
    answer = full.get("/callback/body", endpoint="orders", key='"a.html')
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="body.bin"'
    assert "sandbox" in answer.headers["content-security-policy"]


def test_static_files_are_kept_by_version(full: Visitor) -> None:
    """A version of a file may be kept; without its digest nothing is."""
    page = full.page("/")
    urls = re.findall(r'(?:href|src)="(/dash/static/[^"]*)"', page)
    assert len(urls) == 3
    for url in urls:
        answer = full.client.get(url)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert full.get("/static/%2e%2e/service.py").status_code in (303, 404)


def test_a_page_is_the_same_without_javascript(full: Visitor) -> None:
    """What scripts make work is hidden until they do."""
    page = full.page("/callback", endpoint="orders", key="one")
    for button in re.findall(r"<button[^>]*>", page):
        if 'type="button"' in button:
            assert " hidden" in button
