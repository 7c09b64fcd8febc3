"""Who comes in, and which forms are ours."""

from __future__ import annotations

import inspect
import time

from starlette.requests import Request

from pollin_actors.web.admin_api.problems import Kind, Problem
from pollin_actors.web.dashboard.access import Access, Role, split_url
from pollin_actors.web.dashboard.attempts import Attempts
from pollin_actors.web.dashboard.live import Streams
from pollin_actors.web.dashboard.sessions import Session, Sessions

__all__ = ["Door"]

COOKIE = "pollin_dashboard"
"""Of who has logged in."""
NOBODY_COOKIE = "pollin_nobody"
"""Of everybody else. Another one: browsers do not show the first after a link on another site, and
what is set then must not take its place."""

_FORM = Kind(403, "form", "This form is not valid")


class Door:
    """Who comes in.

    Arguments:
        access: by what.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self.cookie = COOKIE + access.mark
        self.nobody_cookie = NOBODY_COOKIE + access.mark
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
        now = time.time()
        for name in (self.cookie, self.nobody_cookie):
            found = self.sessions.read(request.cookies.get(name, ""), now)
            if found is not None:
                return found
        return None

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
            origin = referrer
        parts = split_url(origin)
        if parts is None:
            return False
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin.lower() in self.access.origins:
            return True
        # Not the scheme: what ends TLS in front of us knows it, and we may not.
        host = request.headers.get("host", "").lower()
        return bool(host) and parts.netloc.lower() == host
