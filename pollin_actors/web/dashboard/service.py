"""The routes of the dashboard on Starlette: who may come in, and what is sent back."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import anyio
import anyio.to_thread
import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pollin_actors.application import Application
from pollin_actors.web.admin_api.problems import Kind, Problem, problem_of
from pollin_actors.web.dashboard import (
    callback,
    callbacks,
    dead_letters,
    endpoints,
    overview,
    supervision,
    unverified,
)
from pollin_actors.web.dashboard.access import Access, Role
from pollin_actors.web.dashboard.attempts import Attempts
from pollin_actors.web.dashboard.crashes import Crashes
from pollin_actors.web.dashboard.flows import Flows
from pollin_actors.web.dashboard.jobs import Jobs
from pollin_actors.web.dashboard.live import Stream, Streams
from pollin_actors.web.dashboard.notices import NOTICES
from pollin_actors.web.dashboard.render import FOLDER, STATIC, fragments, render, static_digest
from pollin_actors.web.dashboard.sessions import LIFETIME_S, Session, Sessions
from pollin_actors.web.dashboard.visit import (
    Answer,
    Download,
    Operation,
    Page,
    Redirect,
    Shared,
    Urls,
    Visit,
    Watch,
    safe_path,
)

__all__ = ["OPERATIONS", "build"]

COOKIE = "pollin_dashboard"
THEME_COOKIE = "pollin_theme"
THEMES = ("auto", "light", "dark")
MAX_BODY = 64 * 1024
BODY_TIMEOUT = 30.0

log = structlog.get_logger("pollin_actors")

OPERATIONS: tuple[Operation, ...] = (
    *overview.OPERATIONS,
    *endpoints.OPERATIONS,
    *callbacks.OPERATIONS,
    *callback.OPERATIONS,
    *unverified.OPERATIONS,
    *dead_letters.OPERATIONS,
    *supervision.OPERATIONS,
)

# Nothing but our own files is ever loaded, nothing inline runs, and nobody may frame us.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types pollin"
)
_HEADERS = {
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

_FORBIDDEN = Kind(403, "forbidden", "You may look, but not change anything")
_NOBODY = Kind(403, "forbidden", "You may not see this")
_LOGGED_OUT = Kind(401, "logged-out", "You are not logged in")
_FORM = Kind(403, "form", "This form is not valid")
_NOT_FOUND = Kind(404, "not-found", "There is no such page")
_WRONG_METHOD = Kind(405, "wrong-method", "That is not how this page is asked for")
_TOO_LARGE = Kind(413, "too-large", "The form is too large")
_TOO_SLOW = Kind(408, "too-slow", "The form came too slowly")
_WRONG_TYPE = Kind(415, "wrong-type", "That is no form")
_UNFORESEEN = Kind(500, "unforeseen", "Something went wrong that nobody has foreseen")
_TOO_OFTEN = Kind(429, "too-often", "Too many attempts")


def build(app: Application, access: Access, timeout: float, receiver: str | None) -> Starlette:
    """The Starlette application.

    Arguments:
        app: whose endpoints and callbacks.
        access: who may come in.
        timeout: seconds that the inbox has for each question.
        receiver: the URL below which webhooks are received; None: not known.
    """
    shared = Shared(app, timeout, receiver, Flows(app), Crashes(app), Jobs(app, timeout))
    door = Door(access)
    resources: dict[str, _Resource] = {}
    for operation in OPERATIONS:
        resource = resources.setdefault(operation.path, _Resource(shared, door))
        resource.operations[operation.method] = operation
    routes = [
        Route("/login", _Login(shared, door)),
        Route("/logout", _Logout(shared, door)),
        Route("/theme", _Theme(shared, door)),
        Route("/static/{name}", _static),
        *(Route(path, resource) for path, resource in resources.items()),
        Route("/{path:path}", _Resource(shared, door)),
    ]
    starlette = Starlette(routes=routes)
    starlette.router.redirect_slashes = False
    return starlette


class Door:
    """Who comes in.

    Arguments:
        access: by what.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self.sessions = Sessions(access)
        self.attempts = Attempts()
        self.streams = Streams()

    async def role(self, request: Request, session: Session | None) -> Role | None:
        """What who asks may do; None: nothing."""
        if self.access.authenticate is not None:
            said = self.access.authenticate(request)
            if inspect.isawaitable(said):
                said = await said
            if said is not None:
                return Role(said)
        return None if session is None else session.role

    def session(self, request: Request) -> Session | None:
        """The session that the request shows, if it is one."""
        values = request.cookies.get(COOKIE, "")
        return self.sessions.read(values, time.time()) if values else None

    def check_form(self, request: Request, session: Session | None, token: str) -> None:
        """See whether a form is one that we made, for this session.

        Raises:
            Problem: it is not.
        """
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site")
        if not self._own(request, origin) or site not in (None, "same-origin", "none"):
            raise Problem(_FORM, "it was sent from another site: nothing was changed")
        if session is None or not self.sessions.accepts_form(session, token):
            detail = "it was made for another session, or long ago: nothing was changed; go back, "
            raise Problem(_FORM, f"{detail}load the page again and repeat it")

    def _own(self, request: Request, origin: str | None) -> bool:
        if origin is None:
            # Browsers say where forms come from; what says neither is none.
            referrer = request.headers.get("referer")
            if referrer is None:
                return request.headers.get("sec-fetch-site") is None
            parts = urlsplit(referrer)
            origin = f"{parts.scheme}://{parts.netloc}"
        if origin.lower() in self.access.origins:
            return True
        # Not the scheme: what ends TLS in front of us knows it, and we may not.
        host = request.headers.get("host", "").lower()
        return bool(host) and urlsplit(origin).netloc.lower() == host


class _Base:
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
        raise NotImplementedError

    async def problem(
        self, request: Request, session: Session | None, role: Role | None, error: Exception
    ) -> Response:
        """The page that says what is wrong."""
        problem = problem_of(error)
        if problem is None:
            _log(error, request.scope.get("path", ""))
            problem = Problem(_UNFORESEEN, "the log of the server says more")
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
        headers = {**_HEADERS, **page.headers}
        response = Response(text, page.status, headers, "text/html; charset=utf-8")
        if fresh is not None:
            self.set_cookie(request, response, fresh)
        return response

    def context(
        self, request: Request, session: Session, role: Role | None, page: Page
    ) -> dict[str, Any]:
        """What every template knows."""
        root = _root(request)
        theme = request.cookies.get(THEME_COOKIE, "auto")
        query = [pair for pair in _pairs(request) if pair[0] not in ("stream", "done")]
        return {
            "url": Urls(root),
            "path": _path(request),
            "here": root + quote(_path(request), safe="/") + (f"?{urlencode(query)}" if query else ""),
            "role": role,
            "may_write": role is Role.WRITE,
            "logged_in": session.role is not None,
            "has_tokens": self._door.access.has_tokens,
            "form_token": self._door.sessions.form_token(session),
            "theme": theme if theme in THEMES else "auto",
            "themes": THEMES,
            "notice": NOTICES.get(request.query_params.get("done", ""), ""),
            "is_live": page.watch is not None,
            "now": time.time_ns(),
            **page.context,
        }

    def set_cookie(self, request: Request, response: Response, session: Session | None) -> None:
        """Have the browser keep a session; None: forget it."""
        common: dict[str, Any] = {
            "path": _root(request) or "/",
            "secure": request.url.scheme == "https",
            "httponly": True,
            "samesite": "strict",
        }
        if session is None:
            response.delete_cookie(COOKIE, **common)
        else:
            value = self._door.sessions.write(session)
            response.set_cookie(COOKIE, value, max_age=LIFETIME_S, **common)

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
        return fields


class _Resource(_Base):
    """A page, and what its forms do."""

    def __init__(self, shared: Shared, door: Door) -> None:
        super().__init__(shared, door)
        self.operations: dict[str, Operation] = {}

    async def answer(self, request: Request, session: Session | None) -> ASGIApp:
        role = await self._door.role(request, session)
        if role is None:
            return await self._turned_away(request, session)
        try:
            return await self._answer(request, session, role)
        except Exception as error:
            if isinstance(error, ClientDisconnect):
                raise
            return await self.problem(request, session, role, error)

    async def _answer(self, request: Request, session: Session | None, role: Role) -> ASGIApp:
        method = "GET" if request.method == "HEAD" else request.method
        operation = self.operations.get(method)
        if operation is None:
            if not self.operations:
                raise Problem(_NOT_FOUND, "look in the navigation for the pages there are")
            allowed = ", ".join(sorted(self.operations))
            raise Problem(_WRONG_METHOD, f"expected {allowed}", headers={"Allow": allowed})
        form: Mapping[str, str] = {}
        if method == "POST":
            form = await self.form(request, session)
        if operation.needs is Role.WRITE and role is not Role.WRITE:
            raise Problem(_FORBIDDEN, "log in with the token of those who may change things")
        if session is None:
            session = self._door.sessions.begin(time.time())
            assert session is not None
            answer = await self._run(operation, request, session, role, form)
            if isinstance(answer, Response):
                self.set_cookie(request, answer, session)
            return answer
        return await self._run(operation, request, session, role, form)

    async def _run(
        self,
        operation: Operation,
        request: Request,
        session: Session,
        role: Role,
        form: Mapping[str, str],
    ) -> ASGIApp:
        query = dict(_pairs(request))
        visit = Visit(
            self._shared, role, session, _path(request), request.path_params, query, form
        )
        if "stream" in query and request.method == "GET":
            return self._stream(operation, request, visit)
        return await self._response(request, visit, await operation.run(visit))

    async def _response(self, request: Request, visit: Visit, answer: Answer) -> Response:
        if isinstance(answer, Redirect):
            path = Urls(_root(request))(answer.path, *answer.parts, **answer.query)
            return Response(status_code=303, headers={**_HEADERS, "Location": path})
        if isinstance(answer, Download):
            headers = {
                **_HEADERS,
                "Content-Security-Policy": "default-src 'none'; sandbox",
                "Content-Disposition": f'attachment; filename="{answer.name}"',
            }
            return Response(answer.content, 200, headers, "application/octet-stream")
        return await self.page(request, visit.session, visit.role, answer)

    def _stream(self, operation: Operation, request: Request, visit: Visit) -> ASGIApp:
        if self._door.streams.full:
            detail = "others look at live pages already: this one does not change by itself"
            raise Problem(Kind(503, "busy", "Too many live pages"), detail)

        async def look() -> tuple[Watch | None, Mapping[str, str]]:
            page = await operation.run(visit)
            if not isinstance(page, Page):
                return None, {}
            context = self.context(request, visit.session, visit.role, page)
            parts = await anyio.to_thread.run_sync(fragments, page.template, context)
            return page.watch, parts

        def words(error: Exception) -> str:
            problem = problem_of(error)
            if problem is None:
                _log(error, request.scope.get("path", ""))
                return _UNFORESEEN.title
            return problem.kind.title

        left = visit.session.until - time.time()
        until = time.monotonic() + (left if visit.session.role is not None else LIFETIME_S)
        return Stream(self._shared, self._door.streams, look, words, _HEADERS, until)

    async def _turned_away(self, request: Request, session: Session | None) -> ASGIApp:
        if not self._door.access.has_tokens:
            problem = Problem(_NOBODY, "the service that this belongs to has not let you in")
            return await self.problem(request, session, None, problem)
        query = dict(_pairs(request))
        if request.method not in ("GET", "HEAD") or "stream" in query:
            problem = Problem(_LOGGED_OUT, "log in, and repeat it")
            return await self.problem(request, session, None, problem)
        path = quote(_path(request), safe="/") + (f"?{urlencode(query)}" if query else "")
        following = "" if path == "/" else path
        location = Urls(_root(request))("/login", next=following)
        return Response(status_code=303, headers={**_HEADERS, "Location": location})


class _Login(_Base):
    """Logging in by a token."""

    async def answer(self, request: Request, session: Session | None) -> ASGIApp:
        if not self._door.access.has_tokens:
            raise Problem(_NOT_FOUND, "one does not log in here")
        query = dict(_pairs(request))
        following = safe_path(query.get("next", "/"))
        if request.method in ("GET", "HEAD"):
            if session is not None and session.role is not None:
                return _see_other(_root(request) + following)
            return await self._ask(request, session, following)
        if request.method != "POST":
            raise Problem(_WRONG_METHOD, "expected GET, POST", headers={"Allow": "GET, POST"})
        form = await self.form(request, session)
        following = safe_path(form.get("next", "/"))
        address, now = request.client.host if request.client else "", time.monotonic()
        wait = self._door.attempts.wait(address, now)
        if wait:
            text = f"Too many attempts: wait {wait} s, then try again."
            headers = {"Retry-After": str(wait)}
            return await self._ask(request, session, following, text, _TOO_OFTEN.status, headers)
        begun = self._door.sessions.begin(time.time(), form.get("token", "").strip())
        if begun is None:
            self._door.attempts.failed(address, now)
            with contextlib.suppress(Exception):
                log.warning("dashboard.login_refused", address=address)
            text = "That is not the token."
            return await self._ask(request, session, following, text, 401)
        self._door.attempts.succeeded(address)
        response = _see_other(_root(request) + following)
        # A new session: one that somebody knew before is worth nothing.
        self.set_cookie(request, response, begun)
        return response

    async def _ask(
        self,
        request: Request,
        session: Session | None,
        following: str,
        text: str = "",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        context = {"next": following, "wrong": text}
        return await self.page(
            request, session, None, Page("login.html", context, status, headers=headers or {})
        )


class _Logout(_Base):
    async def answer(self, request: Request, session: Session | None) -> ASGIApp:
        if request.method != "POST":
            raise Problem(_WRONG_METHOD, "expected POST", headers={"Allow": "POST"})
        await self.form(request, session)
        if session is not None:
            self._door.sessions.end(session, time.time())
        response = _see_other(_root(request) + "/login")
        self.set_cookie(request, response, None)
        return response


class _Theme(_Base):
    async def answer(self, request: Request, session: Session | None) -> ASGIApp:
        if request.method != "POST":
            raise Problem(_WRONG_METHOD, "expected POST", headers={"Allow": "POST"})
        form = await self.form(request, session)
        theme = form.get("theme", "auto")
        root = _root(request)
        back = form.get("back", "")
        back = back.removeprefix(root) if back.startswith(root) else "/"
        response = _see_other(root + safe_path(back))
        response.set_cookie(
            THEME_COOKIE,
            theme if theme in THEMES else "auto",
            max_age=365 * 86_400,
            path=root or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return response


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    kind = STATIC.get(name)
    if kind is None or request.method not in ("GET", "HEAD"):
        return Response(status_code=404, headers=_HEADERS)
    content = await anyio.to_thread.run_sync((FOLDER / "static" / name).read_bytes)
    headers = dict(_HEADERS)
    if request.query_params.get("v") == static_digest(name):
        headers["Cache-Control"] = "private, max-age=31536000, immutable"
    return Response(content, 200, headers, kind)


# -- reading ---------------------------------------------------------------------------------------


def _root(request: Request) -> str:
    return quote(str(request.scope.get("root_path", "")).rstrip("/"), safe="/")


def _path(request: Request) -> str:
    path, root = str(request.scope["path"]), str(request.scope.get("root_path", ""))
    return path.removeprefix(root) or "/"


def _pairs(request: Request) -> list[tuple[str, str]]:
    return _parse(request.scope["query_string"])


def _parse(raw: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            raw.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=200
        )
    except ValueError:
        kind = Kind(400, "malformed", "The request is malformed")
        raise Problem(kind, "expected fields in UTF-8, got others") from None


async def _read(request: Request) -> bytes:
    buffer = bytearray()
    async for chunk in request.stream():
        buffer += chunk
        if len(buffer) > MAX_BODY:
            raise Problem(_TOO_LARGE, f"expected at most {MAX_BODY} bytes")
    return bytes(buffer)


def _see_other(location: str) -> Response:
    return Response(status_code=303, headers={**_HEADERS, "Location": location})


def _log(error: Exception, path: str) -> None:
    """What and where, never with what text: there may be a secret in it."""
    traceback, line = error.__traceback__, ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        line = f"{code.co_filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    # A log that fails is no reason to fail the request.
    with contextlib.suppress(Exception):
        log.error("dashboard.failed", path=path[:200], error=type(error).__name__, at=line)
