"""The dashboard in Chromium: live pages, steering, attacks, and what axe says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from pollin_actors import Application, Callback, Endpoint, otp, web
from pollin_actors.records import Kind
from pollin_actors.resources import Intake
from pollin_actors.web.dashboard import live
from tests.web.dashboard.browser import axe_violations, new_browser, watched
from tests.web.dashboard.visitor import READER, WRITER, push
from tests.web.served import served

ATTACK = "\"'><img src=x onerror=alert(1)><script>alert(2)</script></template>"


class Fragile(otp.Actor):
    def on_receive(self, message: object) -> object:
        if message == "crash":
            raise RuntimeError(f"a crash {ATTACK}")
        return message


class Site(NamedTuple):
    """A service with receiver and dashboard."""

    app: Application
    base: str

    @property
    def url(self) -> str:
        return f"{self.base}/dash"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with new_browser() as browser:
        yield browser


@pytest.fixture
def site() -> Iterator[Site]:
    """With something of everything: an attacker's callbacks, dead letters, a quarantine."""
    orders = Endpoint.new(["received", "done", "failed"], 0, id="orders", secret="change-me")
    later = Endpoint.new(id="later", ttl=0, intake=Intake("github", verify="later"))
    app = Application(
        endpoints=[orders, later], children=[otp.ChildSpec("fragile", Fragile, name="fragile")]
    )

    def fail(callback: Callback) -> None:
        raise ValueError(ATTACK)

    options: dict[str, Any] = {
        "phase": "received",
        "then": "done",
        "dead_letter": "failed",
        "max_attempts": 1,
    }
    app.add_handler(fail, "orders", name="book", **options)
    with app:
        host = Starlette(
            routes=[
                Mount("/hooks", web.asgi(app)),
                Mount("/dash", web.dashboard(app, token=WRITER, read_only_token=READER)),
            ]
        )
        with served(host, "h11") as base:
            push(app, ATTACK.encode(), [("x-attack", ATTACK)], id=ATTACK)
            with app.callbacks.subscribe("orders", kinds=[Kind.DEAD]) as news:
                next(news)
            app.handlers.pause("book").get()
            push(app, b'{"order": 1, "lines": [{"sku": "a"}]}', id="first")
            sent = httpx.post(f"{base}/hooks/later", content=b"unsigned", trust_env=False)
            assert sent.status_code == 200
            with app.callbacks.subscribe("later.unverified", kinds=[Kind.DEAD]) as news:
                next(news)
            yield Site(app, base)


def log_in(page: Page, site: Site, token: str = WRITER) -> None:
    page.goto(f"{site.url}/")
    page.get_by_label("Token of the dashboard").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_a_webhook_is_seen_arriving_and_is_steered(browser: Browser, site: Site) -> None:
    """Log in, see it come, open it, move it, replay it; crash an actor, see the restart."""
    with watched(browser, site.base) as page:
        log_in(page, site)
        page.get_by_role("link", name="Callbacks").click()
        expect(page.locator("#live .text")).to_have_text("Live")
        rows = page.locator("tr[data-key]")
        expect(rows).to_have_count(2)
        answer = httpx.post(
            f"{site.base}/hooks/orders",
            json={"order": 4711},
            headers={"x-pollin-secret": "change-me"},
            trust_env=False,
        )
        key = answer.json()["id"]
        expect(rows).to_have_count(3)
        expect(rows.first).to_contain_text("4711")
        expect(page.locator("#announce")).to_have_text("1 new callback")
        rows.first.get_by_role("link").click()
        expect(page.locator("h1")).to_have_text(key)
        expect(page.locator("pre.body")).to_contain_text('"order": 4711')
        page.get_by_label("Move into").select_option("done")
        page.get_by_role("button", name="Move").click()
        expect(page.get_by_role("status").first).to_have_text("The callback was moved.")
        assert _phase(site.app, key) == "done"
        page.get_by_role("button", name="Replay").click()
        expect(page.locator("h1")).not_to_have_text(key)
        expect(page.locator("#live_state")).to_contain_text(f"orders/{key}")
        page.get_by_role("link", name="Supervision").click()
        expect(page.locator("#live .text")).to_have_text("Live")
        row = page.locator("#live_tree tr", has_text="fragile")
        expect(row).to_contain_text("running")
        site.app.tell("fragile", "crash")
        expect(row).to_contain_text("a crash")
        expect(row.locator("td.num").first).to_have_text("1")
        page.locator("summary", has_text="RuntimeError").click()
        expect(page.locator(".frames")).to_contain_text("test_browser.py")


def _phase(app: Application, key: str) -> str:
    found = app.callbacks.fetch("orders", key=key).get()
    assert found is not None
    return found.phase


def test_live_pages_pause_and_keep_the_focus(browser: Browser, site: Site) -> None:
    """What is focused stays so while rows come in; a button stops and resumes all of it."""
    with watched(browser, site.base) as page:
        log_in(page, site)
        page.goto(f"{site.url}/callbacks?endpoint=orders")
        expect(page.locator("#live .text")).to_have_text("Live")
        link = page.get_by_role("link", name="first")
        link.focus()
        push(site.app, id="second")
        expect(page.get_by_role("link", name="second")).to_be_visible()
        expect(link).to_be_focused()
        page.locator("#live").click()
        expect(page.locator("#live .text")).to_have_text("Paused")
        push(site.app, id="third")
        page.locator("#live").click()
        expect(page.get_by_role("link", name="third")).to_be_visible()


def test_streams_begin_anew_by_themselves(
    browser: Browser, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream ends after a while: what comes between two is not missed."""
    monkeypatch.setattr(live, "LIFE_S", 0.3)
    with watched(browser, site.base) as page:
        log_in(page, site)
        page.goto(f"{site.url}/callbacks?endpoint=orders")
        for number in range(3):
            push(site.app, id=f"number {number}")
            expect(page.get_by_role("link", name=f"number {number}")).to_be_visible()
            with page.expect_event("requestfinished", lambda it: "stream=1" in it.url):
                pass
        expect(page.locator("#live .text")).to_have_text("Live")


def test_attacks_stay_text(browser: Browser, site: Site) -> None:
    """Nothing that a sender, or a crash, says runs or becomes an element, also live."""
    with watched(browser, site.base) as page:
        log_in(page, site)
        for path in ("/callbacks?endpoint=orders", "/dead-letters", "/tree"):
            page.goto(f"{site.url}{path}")
            expect(page.locator("#live .text")).to_have_text("Live")
            push(site.app, ATTACK.encode(), id=f"{ATTACK} at {path}", phase="failed")
            site.app.tell("fragile", "crash")
            if path == "/tree":
                expect(page.locator("#live_crashes li")).not_to_have_count(0)
            else:
                expect(page.get_by_role("link", name=f"{ATTACK} at {path}")).to_be_visible()
            assert page.locator("img").count() == 0
        page.goto(f"{site.url}/callbacks?endpoint=orders&phase=failed")
        page.locator("tr[data-key] a").last.click()
        expect(page.locator("h1")).to_have_text(ATTACK)
        for view in ("Hex", "Text"):
            page.get_by_role("link", name=view).click()
            expect(page.locator("pre.body")).to_be_visible()
        expect(page.locator("pre.body")).to_have_text(ATTACK)
        assert page.locator("img").count() == 0


def test_without_javascript_everything_but_live_works(browser: Browser, site: Site) -> None:
    """Log in, filter, act on all that match, follow the job to its end, log out."""
    with watched(browser, site.base, java_script_enabled=False) as page:
        log_in(page, site)
        assert not page.locator("#live").is_visible()
        page.get_by_role("link", name="Callbacks").click()
        page.get_by_label("Text in body or id").fill("sku")
        page.get_by_role("button", name="Search").click()
        expect(page.locator("tr[data-key]")).to_have_count(1)
        page.get_by_label("Phase, to move into").select_option("done")
        page.get_by_role("button", name="Count them").click()
        # It comes again by itself until they are counted, and until it is done.
        page.get_by_role("button", name="Move 1").click()
        expect(page.locator(".job-state")).to_contain_text("done")
        assert _phase(site.app, "first") == "done"
        page.get_by_role("button", name="Dark").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_a_link_on_another_site_logs_nobody_out(browser: Browser, site: Site) -> None:
    """The browser shows no cookie then, and what it is given then takes the place of none."""
    with watched(browser, "") as page:
        log_in(page, site)
        link = f'<a href="{site.url}/callbacks">there</a>'
        page.route("**/elsewhere", lambda it: it.fulfill(body=link, content_type="text/html"))
        page.goto(site.base.replace("127.0.0.1", "localhost") + "/elsewhere")
        page.get_by_role("link", name="there").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        page.goto(f"{site.url}/")
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_of_ids_that_differ_in_their_line_ends_the_right_one_is_deleted(
    browser: Browser, site: Site
) -> None:
    """A browser sends all of them as CR LF."""
    for key in ("a\nb", "a\rb", "a\r\nb"):
        push(site.app, id=key)
    with watched(browser, site.base) as page:
        log_in(page, site)
        for key, left in (("a%0Ab", ["a\rb", "a\r\nb"]), ("a%0Db", ["a\r\nb"])):
            page.goto(f"{site.url}/callback?endpoint=orders&key={key}")
            page.get_by_role("button", name="Delete").click()
            page.get_by_role("button", name="Delete").click()
            expect(page.get_by_role("status").first).to_have_text("The callback was deleted.")
            found = [callback.id for callback in site.app.callbacks.dump("orders")]
            assert [key for key in found if key[0] == "a"] == left


def test_the_keyboard_is_enough(browser: Browser, site: Site) -> None:
    """Log in and get to the content by keys alone."""
    with watched(browser, site.base) as page:
        page.goto(f"{site.url}/")
        page.keyboard.type(WRITER)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()


PAGES = [
    "/",
    "/endpoints",
    "/endpoints/orders",
    "/callbacks?endpoint=orders",
    "/callbacks?endpoint=later",
    "/callback?endpoint=orders&key=first",
    "/quarantine",
    "/dead-letters",
    "/tree",
]


ERRORS = ["/nowhere", "/jobs/nothing", "/endpoints/nowhere", "/callbacks?phase=nowhere", "/logout"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, site: Site, scheme: str) -> None:
    """On any page, in either colours, also on a small screen."""
    site.app.tell("fragile", "crash")
    # Its script is injected: our own policy would refuse it.
    options: dict[str, Any] = {
        "color_scheme": scheme,
        "bypass_csp": True,
        "reduced_motion": "reduce",
    }
    with watched(browser, site.base, **options) as page:
        page.goto(f"{site.url}/login")
        found = {"/login": axe_violations(page)}
        log_in(page, site)
        for path in PAGES:
            page.goto(f"{site.url}{path}")
            expect(page.locator("#live .text").or_(page.locator("main"))).not_to_have_count(0)
            found[path] = axe_violations(page)
        page.goto(f"{site.url}/callback?endpoint=orders&key=first")
        page.get_by_role("button", name="Delete").click()
        found["confirm"] = axe_violations(page)
        page.goto(f"{site.url}/endpoints/orders")
        page.get_by_label("Senders will be given").check()
        page.get_by_role("button", name="Rotate").click()
        expect(page.locator("#secret")).to_be_visible()
        found["rotated"] = axe_violations(page)
        for state, text in (("ready", "sku"), ("done", "")):
            page.goto(f"{site.url}/callbacks?endpoint=orders&text={text}")
            page.get_by_label("What", exact=True).select_option("replay")
            page.get_by_role("button", name="Count them").click()
            button = page.get_by_role("button", name=re.compile(r"Replay \d"))
            expect(button).to_be_visible()
            if state == "done":
                button.click()
            expect(page.locator(".job-state")).to_contain_text(state)
            found[f"job {state}"] = axe_violations(page)
        page.set_viewport_size({"width": 390, "height": 800})
        page.goto(f"{site.url}/")
        found["small"] = axe_violations(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_where_something_is_wrong(
    browser: Browser, site: Site, scheme: str
) -> None:
    """On the pages that say what: not found, not so, not possible, not now; and a wrong token."""
    options: dict[str, Any] = {"color_scheme": scheme, "bypass_csp": True}
    with watched(browser, site.base, refused=True, **options) as page:
        page.goto(f"{site.url}/login")
        page.get_by_label("Token of the dashboard").fill("another-token-of-old-times")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_be_visible()
        found = {"wrong token": axe_violations(page)}
        log_in(page, site)
        for path in ERRORS:
            page.goto(f"{site.url}{path}")
            expect(page.locator(".problem")).to_be_visible()
            found[path] = axe_violations(page)
        site.app.stop()
        page.goto(f"{site.url}/")
        expect(page.get_by_role("link", name="Try again")).to_be_visible()
        found["stopped"] = axe_violations(page)
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


def test_a_reader_sees_and_cannot_change(browser: Browser, site: Site) -> None:
    """There are no buttons for it."""
    with watched(browser, site.base) as page:
        log_in(page, site, READER)
        page.goto(f"{site.url}/callback?endpoint=orders&key=first")
        expect(page.get_by_text("Read only")).to_be_visible()
        names = [name.strip() for name in page.get_by_role("button").all_inner_texts()]
        assert set(names) <= {"Auto", "Light", "Dark", "Log out", "Copy", "Live", "Connecting"}
