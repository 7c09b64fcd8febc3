"""The dashboard: the inbox as pages for people, behind a login."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import TYPE_CHECKING

from pollin_actors.application import Application
from pollin_actors.errors import InvalidValue, MissingExtra
from pollin_actors.secret import Secret
from pollin_actors.settings import DEFAULT_TIMEOUT
from pollin_actors.web.admin_api.tokens import read_tokens
from pollin_actors.web.dashboard.access import Access, Authenticate, Role

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["Authenticate", "Role", "dashboard"]

_PACKAGES = ("starlette", "anyio", "jinja2")


def dashboard(
    app: Application,
    *,
    token: str | Secret | Iterable[str | Secret] = (),
    read_only_token: str | Secret | Iterable[str | Secret] = (),
    authenticate: Authenticate | None = None,
    key: str | Secret | None = None,
    origins: Iterable[str] = (),
    receiver: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> Starlette:
    """A Starlette application of pages to look at the inbox and to steer it; mount it under a
    prefix of its own.

    There is none without somebody who may see it: give a token, or ``authenticate``. Who logs in
    with a token gets a signed cookie for twelve hours. No page ever shows a secret, but for a
    generated one, once, to who had it generated.

    The event loop is never blocked. The application is neither started nor stopped here: that is
    the host's business, for example in its lifespan.

    Args:
        app: the application.
        token: lets in those who may change things: at least 16 printable ASCII characters without
            white space; or several.
        read_only_token: the same for those who may look only.
        authenticate: for hosts that have users of their own: called with each request (of
            Starlette), also as an ``async def``; returns a ``Role``, ``"write"`` or ``"read"``, or
            None for nobody. It runs on the event loop, so it must be quick.
        key: what cookies and forms are signed with where there is no token; give the same to all
            processes that serve one dashboard. By default one of this process only.
        origins: further origins whose forms are accepted, such as ``"https://ops.example"``, where
            something in front changes the ``Host`` header.
        receiver: the URL below which webhooks are received, for commands to copy.
        timeout: seconds that the inbox has for each question; then the page says so, with 503.

    Raises:
        InvalidValue: nobody could ever see it, or an argument has a value that it cannot have.
        MissingExtra: Starlette or Jinja is not installed.

    Example::

        routes = [Mount("/hooks", asgi(app)), Mount("/dashboard", dashboard(app, token=token))]
    """
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not number or not isfinite(timeout) or timeout <= 0:
        raise InvalidValue("timeout", "a number of seconds > 0", repr(timeout)[:80])
    writers = read_tokens(token) if token != () else None
    readers = read_tokens(read_only_token) if read_only_token != () else None
    access = Access(writers, readers, authenticate, key, tuple(origins))
    try:
        from pollin_actors.web.dashboard.service import build
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _PACKAGES:
            raise
        raise MissingExtra(missing, "server") from None
    return build(app, access, timeout, receiver)
