"""The routes of the dashboard on Starlette: who may come in, and what is sent back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from urllib.parse import quote, urlencode

import anyio.to_thread
import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pollin_actors.application import Application
from pollin_actors.web.admin_api.problems import Kind, Problem, problem_of
from pollin_actors.web.crashes import Crashes
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
from pollin_actors.web.dashboard.answering import (
    HEADERS,
    UNFORESEEN,
    Base,
    log_unforeseen,
    pairs_of,
    path_of,
    root_of,
)
from pollin_actors.web.dashboard.door import Door
from pollin_actors.web.dashboard.entrances import Login, Logout, Theme
from pollin_actors.web.dashboard.flows import Flows
from pollin_actors.web.dashboard.jobs import Jobs
from pollin_actors.web.dashboard.live import Stream
from pollin_actors.web.dashboard.places import Directory
from pollin_actors.web.dashboard.render import FOLDER, STATIC, fragments, static_digest
from pollin_actors.web.dashboard.sessions import LIFETIME_S, Session
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
)

__all__ = ["OPERATIONS", "build"]

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

_FORBIDDEN = Kind(403, "forbidden", "You may look, but not change anything")
_NOBODY = Kind(403, "forbidden", "You may not see this")
_LOGGED_OUT = Kind(401, "logged-out", "You are not logged in")
_NOT_FOUND = Kind(404, "not-found", "There is no such page")
_WRONG_METHOD = Kind(405, "wrong-method", "That is not how this page is asked for")
_BUSY = Kind(503, "busy", "Too many live pages")


def build(app: Application, access: Access, timeout: float, receiver: str | None) -> Starlette:
    """The Starlette application.

    Arguments:
        app: whose endpoints and callbacks.
        access: who may come in.
        timeout: seconds that the inbox has for each question.
        receiver: the URL below which webhooks are received; None: not known.
    """
    jobs = Jobs(app, timeout)
    shared = Shared(app, timeout, receiver, Flows(app), app.companion(Crashes), jobs, Directory())
    door = Door(access)
    resources: dict[str, _Resource] = {}
    for operation in OPERATIONS:
        resource = resources.setdefault(operation.path, _Resource(shared, door))
        resource.operations[operation.method] = operation
    routes = [
        Route("/login", Login(shared, door)),
        Route("/logout", Logout(shared, door)),
        Route("/theme", Theme(shared, door)),
        Route("/static/{name}", _static),
        *(Route(path, resource) for path, resource in resources.items()),
        Route("/{path:path}", _Resource(shared, door)),
    ]
    starlette = Starlette(routes=routes)
    starlette.router.redirect_slashes = False
    starlette.state.shared, starlette.state.door = shared, door
    return starlette


class _Resource(Base):
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
        query = dict(pairs_of(request))
        visit = Visit(
            self._shared, role, session, path_of(request), request.path_params, query, form
        )
        if "stream" in query and request.method == "GET":
            return self._stream(operation, request, visit)
        answer = await operation.run(visit)
        changed = isinstance(answer, Redirect) or (isinstance(answer, Page) and answer.changed)
        if operation.needs is Role.WRITE and changed:
            client = request.client.host if request.client else ""
            with contextlib.suppress(Exception):
                log.info("dashboard.changed", path=visit.path[:300], address=client)
        return await self._response(request, visit, answer)

    async def _response(self, request: Request, visit: Visit, answer: Answer) -> Response:
        if isinstance(answer, Redirect):
            path = Urls(root_of(request))(answer.path, *answer.parts, **answer.query)
            return Response(status_code=303, headers={**HEADERS, "Location": path})
        if isinstance(answer, Download):
            headers = {
                **HEADERS,
                "Content-Security-Policy": "default-src 'none'; sandbox",
                "Content-Disposition": f'attachment; filename="{answer.name}"',
            }
            return Response(answer.content, 200, headers, "application/octet-stream")
        return await self.page(request, visit.session, visit.role, answer)

    def _stream(self, operation: Operation, request: Request, visit: Visit) -> ASGIApp:
        if self._door.streams.full:
            detail = "others look at live pages already: this one does not change by itself"
            raise Problem(_BUSY, detail)

        async def look() -> tuple[Watch | None, Mapping[str, str]]:
            if self._door.sessions.is_over(visit.session, time.time()):
                return None, {}  # who has logged out sees no more
            page = await operation.run(visit)
            if not isinstance(page, Page):
                return None, {}
            context = self.context(request, visit.session, visit.role, page)
            parts = await anyio.to_thread.run_sync(fragments, page.template, context)
            return page.watch, parts

        def words(error: Exception) -> str:
            problem = problem_of(error)
            if problem is None:
                log_unforeseen(error, request.scope.get("path", ""))
                return UNFORESEEN.title
            return problem.kind.title

        left = visit.session.until - time.time()
        until = time.monotonic() + (left if visit.session.role is not None else LIFETIME_S)
        return Stream(self._shared, self._door.streams, look, words, HEADERS, until)

    async def _turned_away(self, request: Request, session: Session | None) -> ASGIApp:
        if not self._door.access.has_tokens:
            problem = Problem(_NOBODY, "the service that this belongs to has not let you in")
            return await self.problem(request, session, None, problem)
        query = dict(pairs_of(request))
        if request.method not in ("GET", "HEAD") or "stream" in query:
            problem = Problem(_LOGGED_OUT, "log in, and repeat it")
            return await self.problem(request, session, None, problem)
        path = quote(path_of(request), safe="/") + (f"?{urlencode(query)}" if query else "")
        following = "" if path == "/" else path
        location = Urls(root_of(request))("/login", next=following)
        return Response(status_code=303, headers={**HEADERS, "Location": location})


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    kind = STATIC.get(name)
    if kind is None or request.method not in ("GET", "HEAD"):
        return Response(status_code=404, headers=HEADERS)
    content = await anyio.to_thread.run_sync((FOLDER / "static" / name).read_bytes)
    headers = dict(HEADERS)
    if request.query_params.get("v") == static_digest(name):
        headers["Cache-Control"] = "private, max-age=31536000, immutable"
    return Response(content, 200, headers, kind)
