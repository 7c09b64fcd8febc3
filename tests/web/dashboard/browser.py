"""A real browser, without a window, and what it must never see."""

from __future__ import annotations

import importlib.resources
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    sync_playwright,
)

__all__ = ["axe_violations", "chromium", "new_browser", "watched"]

_ARGUMENTS = [
    "--no-sandbox",  # it does not run as root otherwise
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str:
    """Where Chromium is; without one the test is skipped, where ``CI`` is set it fails."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        reason = "there is no chromium: install it, for example by apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def new_browser() -> Iterator[Browser]:
    """A browser with a new user data folder, which goes with it."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched(
    browser: Browser, base: str, *, refused: bool = False, **options: Any
) -> Iterator[Page]:
    """A page of a new context; in the end there was no error, and no request to another host.

    With ``refused`` answers may say that something went wrong, as the pages of errors do.
    """
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(20_000)
    wrong: list[str] = []
    page = context.new_page()

    def console(message: ConsoleMessage) -> None:
        about_answer = message.text.startswith("Failed to load resource: the server responded")
        if message.type in ("error", "warning") and not (refused and about_answer):
            wrong.append(message.text)

    def dialog(shown: Dialog) -> None:
        wrong.append(shown.message)
        shown.dismiss()

    def request(sent: Request) -> None:
        if not sent.url.startswith(base):
            wrong.append(sent.url)

    page.on("console", console)
    page.on("dialog", dialog)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", request)
    try:
        yield page
    finally:
        # Streams end with their page: the server is not to wait for them.
        page.goto("about:blank")
        context.close()
    assert wrong == []


def axe_violations(page: Page) -> list[str]:
    """What axe finds that is serious, on a page as it stands."""
    script = importlib.resources.files("axe_playwright_python") / "axe.min.js"
    page.evaluate(script.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical", "moderate")
        for node in violation["nodes"]
    ]
