"""Sessions: who has logged in, in a signed cookie, and forms that belong to a session."""

from __future__ import annotations

import hmac
import re
import secrets
from typing import NamedTuple

from pollin_actors.web.dashboard.access import Access, Role

__all__ = ["LIFETIME_S", "Session", "Sessions"]

LIFETIME_S = 12 * 3600
"""Seconds after which one has to log in again."""

MOST_ENDED = 10_000

_NOBODY = "-"
_SHAPE = re.compile(
    r"([A-Za-z0-9_-]{22})\.([0-9]{1,12})\.([0-9a-f]{12}|-)\.([0-9a-f]{64})", re.ASCII
)


class Session(NamedTuple):
    """What a cookie says."""

    nonce: str
    until: int
    """Seconds since the epoch."""
    name: str
    """Of the token that was shown; ``-`` for none."""
    role: Role | None
    """None for who has not logged in; forms belong to a session all the same."""


class Sessions:
    """Makes and reads cookies and the tokens of forms. Nothing of a session is stored here, but
    that it was ended.

    Arguments:
        access: whose keys.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        # Logged out before its time, here: nonce, and until when that matters.
        self._ended: dict[str, int] = {}
        # Those of tokens that would not be valid after this are not valid now.
        self._all_until = 0

    def begin(self, now: float, token: str | None = None) -> Session | None:
        """A new session: of who shows a token, or of nobody; None: there is no such token.

        Arguments:
            now: seconds since the epoch.
            token: what was shown.
        """
        until, nonce = int(now) + LIFETIME_S, secrets.token_urlsafe(16)
        if token is None:
            return Session(nonce, until, _NOBODY, None)
        found = self._access.of_token(token)
        return None if found is None else Session(nonce, until, found.name, found.role)

    def write(self, session: Session) -> str:
        """The value of the cookie."""
        text = f"{session.nonce}.{session.until}.{session.name}"
        return f"{text}.{self._mac(session.name, text)}"

    def read(self, cookie: str, now: float) -> Session | None:
        """The session of a cookie; None if it is none of ours, is over, or its token is not
        valid any more."""
        match = _SHAPE.fullmatch(cookie)
        if match is None:
            return None
        nonce, until, name, mac = match.groups()
        expected = self._mac(name, f"{nonce}.{until}.{name}")
        if expected is None or not hmac.compare_digest(expected, mac):
            return None
        token = None if name == _NOBODY else self._access.of_name(name)
        session = Session(nonce, int(until), name, None if token is None else token.role)
        return None if self.is_over(session, now) else session

    def end(self, session: Session, now: float) -> None:
        """Log out: this session is not valid any more, in this process."""
        if session.role is None:
            return  # of nobody: there is nothing to end, and anybody has as many as he likes
        if len(self._ended) >= MOST_ENDED:
            self._ended = {n: until for n, until in self._ended.items() if until > now}
        if len(self._ended) >= MOST_ENDED:
            # More than are remembered: then all that are as old have ended, and none goes on.
            self._all_until = max(self._all_until, *self._ended.values(), session.until)
            self._ended.clear()
        self._ended[session.nonce] = session.until

    def is_over(self, session: Session, now: float) -> bool:
        """Whether a session is not valid any more: its time has passed, or it was ended here."""
        if session.until <= now or session.nonce in self._ended:
            return True
        return session.role is not None and session.until <= self._all_until

    def form_token(self, session: Session) -> str:
        """What every form of a session holds."""
        text = f"form.{session.nonce}.{session.name}"
        return hmac.digest(self._access.root_key, text.encode(), "sha256").hex()

    def accepts_form(self, session: Session, token: str) -> bool:
        """Whether a form was made for this session."""
        return hmac.compare_digest(self.form_token(session).encode(), token.encode())

    def _mac(self, name: str, text: str) -> str | None:
        if name == _NOBODY:
            key = self._access.root_key
        else:
            token = self._access.of_name(name)
            if token is None:
                return None
            key = token.key
        return hmac.digest(key, f"session.{text}".encode(), "sha256").hex()
