"""What all paths have in common: reading requests, and answering with pages."""

from __future__ import annotations

import contextlib
import time
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

import anyio
import anyio.to_thread
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pollin_actors.web.admin_api.problems import Kind, Problem, problem_of
from pollin_actors.web.dashboard.access import Role
from pollin_actors.web.dashboard.door import Door
from pollin_actors.web.dashboard.notices import NOTICES
from pollin_actors.web.dashboard.render import ESCAPED, render
from pollin_actors.web.dashboard.sessions import LIFETIME_S, Session
from pollin_actors.web.dashboard.visit import Page, Shared, Urls

__all__ = [
    "HEADERS",
    "THEMES",
    "THEME_COOKIE",
    "UNFORESEEN",
    "Base",
    "log_unforeseen",
    "pairs_of",
    "path_of",
    "root_of",
    "see_other",
]

THEME_COOKIE = "pollin_theme"
THEMES = ("auto", "light", "dark")
MAX_BODY = 64 * 1024
BODY_TIMEOUT = 30.0

log = structlog.get_logger("pollin_actors")

# Nothing but our own files is ever loaded, nothing inline runs, and nobody may frame us.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types pollin"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Not no-referrer: then browsers would not say where forms come from.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_TOO_LARGE = Kind(413, "too-large", "The form is too large")
_TOO_SLOW = Kind(408, "too-slow", "The form came too slowly")
_WRONG_TYPE = Kind(415, "wrong-type", "That is no form")
UNFORESEEN = Kind(500, "unforeseen", "Something went wrong that nobody has foreseen")
_MALFORMED = Kind(400, "malformed", "The request is malformed")


class Base:
    """One path: an ASGI application that answers with pages."""

    def __init__(self, shared: Shared, door: Door) -> None:
        self._shared = shared
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        session: Session | None = None
        answer: ASGIApp | None
        try:
            session = self._door.session(request)
            answer = await self.answer(request, session)
        except ClientDisconnect:
            return
        except Exception as error:
            answer = await self.problem(request, session, None, error)
        with contextlib.suppress(OSError, ClientDisconnect):  # the client has gone
            await answer(scope, receive, send)

    async def answer(self, request: Request, session: Session | None) -> ASGIApp:
        """What is answered; what it raises becomes a page.

        Arguments:
            request: whatever came.
            session: of who asks; None: no cookie of ours came with it.
        """
        raise NotImplementedError

    async def problem(
        self, request: Request, session: Session | None, role: Role | None, error: Exception
    ) -> Response:
        """The page that says what is wrong."""
        problem = problem_of(error)
        if problem is None:
            log_unforeseen(error, request.scope.get("path", ""))
            problem = Problem(UNFORESEEN, "the log of the server says more")
        page = Page(
            "problem.html", {"problem": problem}, problem.kind.status, headers=problem.headers
        )
        return await self.page(request, session, role, page)

    async def page(
        self, request: Request, session: Session | None, role: Role | None, page: Page
    ) -> Response:
        """A page as an answer; made on a thread, for it may take a while."""
        fresh = None
        if session is None:
            # Of nobody: so that forms belong to somebody.
            session = fresh = self._door.sessions.begin(time.time())
            assert session is not None
        context = self.context(request, session, role, page)
        text = await anyio.to_thread.run_sync(render, page.template, context)
        headers = {**HEADERS, **page.headers}
        response = Response(text, page.status, headers, "text/html; charset=utf-8")
        if fresh is not None:
            self.set_cookie(request, response, fresh)
        return response

    def context(
        self, request: Request, session: Session, role: Role | None, page: Page
    ) -> dict[str, Any]:
        """What every template knows."""
        root, path = root_of(request), path_of(request)
        theme = request.cookies.get(THEME_COOKIE, "auto")
        try:
            pairs = pairs_of(request)
        except Problem:
            pairs = []  # this is the page that says so
        query = [pair for pair in pairs if pair[0] not in ("stream", "done")]
        behind = f"?{urlencode(query)}" if query else ""
        # What was sent as a form cannot be asked for again by a link.
        again = request.method in ("GET", "HEAD")
        # Two slashes at its beginning would be another site.
        here = root + "/" + quote(path, safe="/").lstrip("/") + behind
        return {
            "url": Urls(root),
            "path": path,
            "here": here if again else f"{root}/",
            "again": again,
            "role": role,
            "may_write": role is Role.WRITE,
            "logged_in": session.role is not None,
            "has_tokens": self._door.access.has_tokens,
            "form_token": self._door.sessions.form_token(session),
            "theme": theme if theme in THEMES else "auto",
            "themes": THEMES,
            "notice": NOTICES.get(dict(pairs).get("done", ""), ""),
            "is_live": page.watch is not None,
            "now": time.time_ns(),
            **page.context,
        }

    def set_cookie(self, request: Request, response: Response, session: Session | None) -> None:
        """Have the browser keep a session; None: forget it."""
        common: dict[str, Any] = {
            "path": root_of(request) or "/",
            "secure": request.url.scheme == "https",
            "httponly": True,
            "samesite": "strict",
        }
        if session is None:
            response.delete_cookie(self._door.cookie, **common)
        else:
            value = self._door.sessions.write(session)
            name = self._door.nobody_cookie if session.role is None else self._door.cookie
            response.set_cookie(name, value, max_age=LIFETIME_S, **common)

    async def form(self, request: Request, session: Session | None) -> dict[str, str]:
        """The fields of a form that we made for this session.

        Raises:
            Problem: it is not.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != (
            "application/x-www-form-urlencoded"
        ):
            raise Problem(_WRONG_TYPE, "expected application/x-www-form-urlencoded")
        try:
            with anyio.fail_after(BODY_TIMEOUT):
                raw = await _read(request)
        except TimeoutError:
            raise Problem(_TOO_SLOW, f"expected it within {BODY_TIMEOUT:.0f} s") from None
        fields = dict(_parse(raw))
        self._door.check_form(request, session, fields.get("form_token", ""))
        for name in [name for name in fields if name.endswith(ESCAPED)]:
            fields[name.removesuffix(ESCAPED)] = unquote(fields.pop(name))
        return fields


# -- reading ---------------------------------------------------------------------------------------


def root_of(request: Request) -> str:
    """The path that the dashboard is mounted at, percent-encoded; empty for the root."""
    return quote(str(request.scope.get("root_path", "")).rstrip("/"), safe="/")


def path_of(request: Request) -> str:
    """The path below that, decoded."""
    path, root = str(request.scope["path"]), str(request.scope.get("root_path", ""))
    return path.removeprefix(root) or "/"


def pairs_of(request: Request) -> list[tuple[str, str]]:
    """The parameters of the URL.

    Raises:
        Problem: they cannot be read.
    """
    return _parse(request.scope["query_string"])


def _parse(raw: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            raw.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=200
        )
    except ValueError:
        raise Problem(_MALFORMED, "expected fields in UTF-8, got others") from None


async def _read(request: Request) -> bytes:
    buffer = bytearray()
    async for chunk in request.stream():
        buffer += chunk
        if len(buffer) > MAX_BODY:
            raise Problem(_TOO_LARGE, f"expected at most {MAX_BODY} bytes")
    return bytes(buffer)


def see_other(location: str) -> Response:
    """Go on there, by GET."""
    return Response(status_code=303, headers={**HEADERS, "Location": location})


def log_unforeseen(error: Exception, path: str) -> None:
    """What and where, never with what text: there may be a secret in it."""
    traceback, line = error.__traceback__, ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        line = f"{code.co_filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    # A log that fails is no reason to fail the request.
    with contextlib.suppress(Exception):
        log.error("dashboard.failed", path=path[:200], error=type(error).__name__, at=line)
