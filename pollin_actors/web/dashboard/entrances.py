"""Logging in and out, and the choice of colours."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from pollin_actors.web.admin_api.problems import Kind, Problem
from pollin_actors.web.dashboard.answering import (
    THEME_COOKIE,
    THEMES,
    Base,
    pairs_of,
    root_of,
    see_other,
)
from pollin_actors.web.dashboard.sessions import Session
from pollin_actors.web.dashboard.visit import Page, safe_path

__all__ = ["Login", "Logout", "Theme"]

log = structlog.get_logger("pollin_actors")

_NOT_FOUND = Kind(404, "not-found", "There is no such page")
_WRONG_METHOD = Kind(405, "wrong-method", "That is not how this page is asked for")


class Login(Base):
    """Logging in by a token."""

    async def answer(self, request: Request, session: Session | None) -> ASGIApp:
        if not self._door.access.has_tokens:
            raise Problem(_NOT_FOUND, "one does not log in here")
        query = dict(pairs_of(request))
        following = safe_path(query.get("next", "/"))
        if request.method in ("GET", "HEAD"):
            if session is not None and session.role is not None:
                return see_other(root_of(request) + following)
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
            return await self._ask(request, session, following, text, 429, headers)
        begun = self._door.sessions.begin(time.time(), form.get("token", "").strip())
        if begun is None:
            self._door.attempts.failed(address, now)
            with contextlib.suppress(Exception):
                log.warning("dashboard.login_refused", address=address)
            text = "That is not the token."
            return await self._ask(request, session, following, text, 401)
        self._door.attempts.succeeded(address)
        response = see_other(root_of(request) + following)
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


class Logout(Base):
    """Logging out."""

    async def answer(self, request: Request, session: Session | None) -> ASGIApp:
        if request.method != "POST":
            raise Problem(_WRONG_METHOD, "expected POST", headers={"Allow": "POST"})
        await self.form(request, session)
        if session is not None:
            self._door.sessions.end(session, time.time())
        response = see_other(root_of(request) + "/login")
        self.set_cookie(request, response, None)
        return response


class Theme(Base):
    """Light or dark, for those whose system does not say what they want here."""

    async def answer(self, request: Request, session: Session | None) -> ASGIApp:
        if request.method != "POST":
            raise Problem(_WRONG_METHOD, "expected POST", headers={"Allow": "POST"})
        form = await self.form(request, session)
        theme = form.get("theme", "auto")
        root = root_of(request)
        back = form.get("back", "")
        back = back.removeprefix(root) if back.startswith(root) else "/"
        response = see_other(root + safe_path(back))
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
