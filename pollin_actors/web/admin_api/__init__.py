"""The admin API: every operation on endpoints and callbacks over HTTP, as JSON, behind a token."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import TYPE_CHECKING

from pollin_actors.application import Application
from pollin_actors.errors import InvalidValue, MissingExtra
from pollin_actors.secret import Secret
from pollin_actors.settings import DEFAULT_TIMEOUT
from pollin_actors.web.admin_api.tokens import read_tokens

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["admin"]


def admin(
    app: Application,
    *,
    token: str | Secret | Iterable[str | Secret],
    timeout: float = DEFAULT_TIMEOUT,
) -> Starlette:
    """A Starlette application with an HTTP route for each operation; mount it under a prefix of
    its own, never where senders of webhooks come by.

    Every request must show the token as ``Authorization: Bearer <token>``, else it is answered
    401, whatever it asks for. ``GET /openapi.json`` describes all routes (OpenAPI 3.1), and needs
    the token as well. Errors are answered as ``application/problem+json``. Secrets are shown as
    fingerprints; a generated one once, in the answer to the request that had it made.

    The event loop is never blocked. The application is neither started nor stopped here: that is
    the host's business, for example in its lifespan.

    Args:
        app: the application.
        token: what who administers has to know: at least 16 printable ASCII characters without
            white space. Several, while one takes the place of another.
        timeout: seconds that the inbox has for each operation; then the answer is 503.

    Raises:
        InvalidValue: there is no token, or one that is too short; or the timeout is no time.
        MissingExtra: Starlette is not installed.

    Example::

        routes = [Mount("/hooks", asgi(app)), Mount("/admin", admin(app, token=token))]
    """
    tokens = read_tokens(token)
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not number or not isfinite(timeout) or timeout <= 0:
        raise InvalidValue("timeout", "a number of seconds > 0", repr(timeout)[:80])
    try:
        from pollin_actors.web.admin_api.service import build
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "anyio"):
            raise
        raise MissingExtra("starlette", "server") from None
    return build(app, tokens, timeout)
