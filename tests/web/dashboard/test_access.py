"""Who comes in: tokens, roles, sessions, the host's own users."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from pollin_actors import Application
from pollin_actors.errors import InvalidValue, MissingExtra
from pollin_actors.web import dashboard
from pollin_actors.web.admin_api.tokens import read_tokens
from pollin_actors.web.dashboard import sessions
from pollin_actors.web.dashboard.access import Access, Role
from pollin_actors.web.dashboard.attempts import FAILURES, Attempts
from pollin_actors.web.dashboard.service import OPERATIONS
from pollin_actors.web.dashboard.sessions import Sessions
from tests.web.dashboard.visitor import READER, WRITER, Visitor

PATHS = sorted({operation.path for operation in OPERATIONS if operation.method == "GET"})
CHANGES = sorted({operation.path for operation in OPERATIONS if operation.method == "POST"})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"token": "short"},
        {"token": ()},
        {"token": WRITER, "read_only_token": WRITER},
        {"authenticate": "nobody"},
        {"token": WRITER, "origins": ["ops.example"]},
        {"token": WRITER, "origins": ["https://["]},
        {"token": WRITER, "key": "short"},
        {"token": WRITER, "timeout": 0},
    ],
)
def test_it_is_off_unless_somebody_may_see_it(memory: Application, options: Any) -> None:
    """Without a token, or a hook, there is none; what is not acceptable is named."""
    with pytest.raises(InvalidValue):
        dashboard(memory, **options)


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
def test_nobody_sees_anything_without_logging_in(memory: Application, path: str) -> None:
    """Every page leads to the login, also those that do not exist; and from there back."""
    with Visitor(memory) as visitor:
        answer = visitor.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/dash/login")
        assert "orders" not in answer.text


@pytest.mark.parametrize("path", [*CHANGES, "/nowhere"])
def test_nobody_changes_anything_without_logging_in(memory: Application, path: str) -> None:
    """Forms are refused before anything of them is read."""
    with Visitor(memory) as visitor:
        assert visitor.post(path).status_code == 401


@pytest.mark.parametrize("path", CHANGES)
def test_a_reader_changes_nothing(memory: Application, path: str) -> None:
    """Every form needs the role that may change things."""
    with Visitor(memory) as visitor:
        visitor.login(READER)
        answer = visitor.post(path.replace("{endpoint_id}", "orders").replace("{job_id}", "x"))
        assert answer.status_code == 403
        assert "not change anything" in answer.text


def test_a_reader_sees_no_forms_but_his_own(memory: Application) -> None:
    """There are no buttons that would be refused."""
    with Visitor(memory) as visitor:
        visitor.login(READER)
        for path in ("/", "/endpoints/orders", "/callbacks", "/dead-letters", "/quarantine"):
            page = visitor.page(path)
            assert "Read only" in page
            # Colours and logging out.
            assert page.count('method="post"') == 2


def test_a_wrong_token_is_refused(memory: Application) -> None:
    """The page says so, with 401, and does not repeat what was typed."""
    with Visitor(memory) as visitor:
        answer = visitor.post("/login", token="some-other-token-of-old")
        assert answer.status_code == 401
        assert "That is not the token" in answer.text
        assert "some-other-token" not in answer.text
        assert visitor.get("/").status_code == 303


def test_attempts_are_limited(memory: Application) -> None:
    """After some failures even the right token has to wait; who is in stays in."""
    with Visitor(memory) as visitor:
        for _ in range(FAILURES):
            assert visitor.post("/login", token="wrong").status_code == 401
        answer = visitor.post("/login", token=WRITER)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0


def test_attempts_are_forgiven_with_time() -> None:
    """One more for each interval; success forgives the typing errors of one address."""
    attempts = Attempts()
    for _ in range(FAILURES):
        assert attempts.wait("a", 100.0) == 0
        attempts.failed("a", 100.0)
    wait = attempts.wait("a", 100.0)
    assert wait > 0
    assert attempts.wait("b", 100.0) == 0
    assert attempts.wait("a", 100.0 + wait) == 0
    attempts.succeeded("a")
    assert attempts.wait("a", 100.0) == 0


def test_attempts_from_everywhere_are_limited_together() -> None:
    """Who has many addresses is held up all the same, and memory is bounded."""
    attempts = Attempts()
    for number in range(200):
        attempts.failed(f"address {number}", 0.0)
    assert attempts.wait("a new one", 0.0) > 0


def test_the_cookie_is_kept_to_itself(memory: Application) -> None:
    """Not for scripts, not for other sites, not for other paths; over TLS only where there is."""
    with Visitor(memory) as visitor:
        cookie = visitor.post("/login", token=WRITER).headers["set-cookie"].lower()
        for part in ("httponly", "samesite=strict", "path=/dash"):
            assert part in cookie
        assert "secure" not in cookie
    with Visitor(memory, scheme="https") as visitor:
        assert "secure" in visitor.post("/login", token=WRITER).headers["set-cookie"].lower()


def test_the_session_changes_with_the_login(memory: Application) -> None:
    """A cookie that somebody knew before the login is worth nothing after it."""
    with Visitor(memory) as visitor:
        visitor.get("/login")
        before = visitor.client.cookies[visitor.nobody_name]
        visitor.login()
        after = visitor.client.cookies[visitor.cookie_name]
        assert before != after
        for name in (visitor.cookie_name, visitor.nobody_name):
            visitor.client.cookies.clear()
            visitor.client.cookies.set(name, before)
            assert visitor.get("/").status_code == 303


def test_who_comes_from_elsewhere_stays_logged_in(visitor: Visitor) -> None:
    """After a link on another site browsers show no cookie of ours: what is set then leaves the
    session alone."""
    cookie = visitor.client.cookies[visitor.cookie_name]
    visitor.client.cookies.clear()
    visitor.client.cookies.set(visitor.cookie_name, cookie, path="/elsewhere")
    page = visitor.client.get(visitor.get("/callbacks").headers["location"])
    assert "Log in" in page.text
    set_there = page.headers["set-cookie"]
    assert visitor.cookie_name not in set_there
    visitor.client.cookies.set(visitor.cookie_name, cookie)
    assert visitor.get("/").status_code == 200


def test_a_cookie_cannot_be_made_up(visitor: Visitor) -> None:
    """Whatever is changed in it makes it worthless."""
    good = visitor.client.cookies[visitor.cookie_name]
    nonce, until, name, mac = good.split(".")
    for bad in (
        f"{nonce}.{int(until) + 1}.{name}.{mac}",
        f"{nonce}.{until}.-.{mac}",
        f"{nonce}.{until}.{name}.{mac[:-1]}{'0' if mac[-1] != '0' else '1'}",
        "x" * 5000,
        "",
        "....",
    ):
        visitor.client.cookies.clear()
        visitor.client.cookies.set(visitor.cookie_name, bad)
        assert visitor.get("/").status_code == 303, bad[:80]


def test_logging_out_ends_the_session(visitor: Visitor) -> None:
    """Also for who has kept the cookie."""
    cookie = visitor.client.cookies[visitor.cookie_name]
    assert visitor.post("/logout").headers["location"] == "/dash/login"
    visitor.client.cookies.clear()
    visitor.client.cookies.set(visitor.cookie_name, cookie)
    assert visitor.get("/").status_code == 303


def test_dashboards_of_one_host_have_cookies_of_their_own(memory: Application) -> None:
    """Cookies know no ports: who logs in to one, as below `pollin serve`, is not logged out of
    another. All processes of one have the same."""
    another = "another-token-of-writers"
    names = {token: _access(token).mark for token in (WRITER, another)}
    assert len(set(names.values())) == 2
    assert _access(WRITER).mark == names[WRITER]
    with Visitor(memory, token=WRITER) as one, Visitor(memory, token=another) as other:
        one.login()
        other.client.cookies.update(one.client.cookies)
        other.login(another)
        one.client.cookies.update(other.client.cookies)
        for visitor in (one, other):
            assert visitor.get("/").status_code == 200


def test_cookies_do_not_gather_where_the_key_is_new_with_each_process() -> None:
    """Then the next process sets the same one again."""

    def somebody(request: Any) -> Role:
        return Role.READ

    def access(key: str | None) -> Access:
        return Access(None, None, somebody, key, ())

    assert access(None).mark == access(None).mark
    assert access("a-key-that-all-processes-have").mark != access(None).mark


def test_nobody_keeps_others_from_logging_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of nobody are not remembered as ended: there is no end to them."""
    monkeypatch.setattr(sessions, "MOST_ENDED", 10)
    kept = Sessions(_access(WRITER))
    for _ in range(20):
        nobody = kept.begin(1_000.0)
        assert nobody is not None
        kept.end(nobody, 1_000.0)
    begun = kept.begin(1_000.0, WRITER)
    assert begun is not None
    kept.end(begun, 1_000.0)
    assert kept.read(kept.write(begun), 1_001.0) is None


def test_more_ended_sessions_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is valid again: rather those that are as old end with them."""
    monkeypatch.setattr(sessions, "MOST_ENDED", 10)
    kept = Sessions(_access(WRITER))
    many = [kept.begin(1_000.0 + number, WRITER) for number in range(25)]
    for begun in many:
        assert begun is not None
        kept.end(begun, 1_100.0)
        assert len(kept._ended) <= 10
    assert [kept.read(kept.write(it), 1_100.0) for it in many if it is not None] == [None] * 25
    new = kept.begin(1_100.0, WRITER)
    assert new is not None
    assert kept.read(kept.write(new), 1_100.0) == new


def test_sessions_end_with_their_time_and_with_their_token() -> None:
    """After twelve hours, and as soon as the token is not valid any more; not before."""
    both = Sessions(_access(WRITER, "another-token-of-writers"))
    begun = both.begin(1_000.0, WRITER)
    assert begun is not None
    cookie = both.write(begun)
    assert both.read(cookie, 1_000.0) == begun
    assert both.read(cookie, 1_000.0 + sessions.LIFETIME_S) is None
    assert Sessions(_access("another-token-of-writers")).read(cookie, 1_000.0) is None
    # Another process with the same token takes it.
    assert Sessions(_access(WRITER)).read(cookie, 1_000.0) == begun


def _access(*tokens: str) -> Access:
    return Access(read_tokens(tokens), None, None, None, ())


@pytest.mark.parametrize("role", [Role.WRITE, "read"])
def test_a_host_may_have_users_of_its_own(memory: Application, role: str) -> None:
    """The hook says who may do what; there is no login then."""

    def authenticate(request: Any) -> str | None:
        return role if request.headers.get("x-user") == "ada" else None

    with Visitor(memory, authenticate=authenticate) as visitor:
        assert visitor.get("/").status_code == 403
        assert visitor.get("/login").status_code == 404
        visitor.client.headers["x-user"] = "ada"
        assert visitor.get("/").status_code == 200
        answer = visitor.post("/endpoints/orders/enable")
        assert answer.status_code == (303 if role == "write" else 403)


def test_the_hook_may_be_asynchronous_and_a_token_stands_beside_it(memory: Application) -> None:
    """Whom it does not know may log in."""

    async def authenticate(request: Any) -> Role | None:
        return None

    with Visitor(memory, authenticate=authenticate, token=WRITER) as visitor:
        assert visitor.get("/").status_code == 303
        visitor.login()
        assert visitor.get("/").status_code == 200


@pytest.mark.parametrize("said", [ValueError("no database"), "root"])
def test_a_hook_that_fails_lets_nobody_in(memory: Application, said: Any) -> None:
    """An error, or a role that there is not, is an error of the server."""

    def authenticate(request: Any) -> Any:
        if isinstance(said, Exception):
            raise said
        return said

    with Visitor(memory, authenticate=authenticate) as visitor:
        answer = visitor.get("/")
        assert answer.status_code == 500
        assert "no database" not in answer.text


@pytest.mark.parametrize(
    ("following", "place"),
    [
        ("/callbacks?endpoint=orders", "/dash/callbacks?endpoint=orders"),
        ("//evil.example/", "/dash/"),
        ("https://evil.example/", "/dash/"),
        ("/\\evil.example", "/dash/"),
        ("/x\r\nset-cookie: a=b", "/dash/"),
        ("", "/dash/"),
    ],
)
def test_the_login_leads_nowhere_else(memory: Application, following: str, place: str) -> None:
    """Back to the page that was asked for, and never to another site."""
    with Visitor(memory) as visitor:
        answer = visitor.post("/login", token=WRITER, next=following)
        assert answer.headers["location"] == place


def test_nothing_shows_a_token() -> None:
    """Not the repr of what holds them."""
    access = _access(WRITER)
    assert WRITER not in repr(access)
    assert WRITER not in repr(access.of_token(WRITER))


@pytest.mark.parametrize(
    ("module", "package"), [("starlette.applications", "starlette"), ("jinja2", "jinja2")]
)
def test_without_what_it_needs(
    memory: Application, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    """The error says which extra brings it."""
    monkeypatch.setitem(sys.modules, module, None)
    for name in ("service", "render", "answering", "entrances"):
        monkeypatch.delitem(sys.modules, f"pollin_actors.web.dashboard.{name}", raising=False)
    with pytest.raises(MissingExtra) as caught:
        dashboard(memory, token=WRITER)
    assert (caught.value.package, caught.value.extra) == (package, "server")


def test_the_receiver_needs_none_of_it() -> None:
    """Nor does the name of the dashboard, until it is used."""
    program = (
        "import sys; from pollin_actors.web import asgi, dashboard; "
        "assert not {'starlette', 'anyio', 'jinja2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
