"""One request to the dashboard, read and checked, and what pages answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import quote, urlencode

from pollin_actors.application import Application
from pollin_actors.errors import EndpointNotFound, InvalidValue
from pollin_actors.resources import MAX_ENDPOINT_ID, Endpoint
from pollin_actors.web.dashboard.access import Role
from pollin_actors.web.dashboard.sessions import Session

if TYPE_CHECKING:
    from pollin_actors.web.crashes import Crashes
    from pollin_actors.web.dashboard.flows import Flows
    from pollin_actors.web.dashboard.jobs import Jobs
    from pollin_actors.web.dashboard.places import Directory

__all__ = [
    "Answer",
    "Download",
    "Operation",
    "Page",
    "Redirect",
    "Shared",
    "Urls",
    "Visit",
    "Watch",
    "safe_path",
]

_SAFE_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all pages of a dashboard use.

    Arguments:
        app: the application.
        timeout: seconds that the inbox has for each question.
        receiver: the URL below which webhooks are received; None: not known.
        flows: what came and went.
        crashes: the last crashes.
        jobs: what is done to many callbacks.
        directory: the endpoints.
    """

    app: Application
    timeout: float
    receiver: str | None
    flows: Flows
    crashes: Crashes
    jobs: Jobs
    directory: Directory


class Watch(NamedTuple):
    """When a page has changed, and is to be made again for who watches it."""

    endpoints: tuple[str, ...] = ()
    """After a change at one of these."""
    tree: bool = False
    """After an event of supervision."""
    job: str | None = None
    """After a step of this job."""
    every: float = 2.0
    """Seconds after which it may have changed in any case."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Arguments:
        template: its file.
        context: what the template shows.
        status: of the answer.
        watch: None: it does not change by itself.
        headers: more of the answer.
        changed: whether what was sent was done, and this is its result.
    """

    template: str
    context: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    watch: Watch | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    changed: bool = False


class Redirect(NamedTuple):
    """Go on at another page, by GET."""

    path: str
    parts: tuple[str, ...] = ()
    query: Mapping[str, Any] = {}


class Download(NamedTuple):
    """Bytes to be stored as a file, and never to be shown by the browser."""

    content: bytes
    name: str


Answer: TypeAlias = "Page | Redirect | Download"


@dataclass(slots=True)
class Visit:
    """One request.

    Arguments:
        shared: what all pages use.
        role: what the visitor may do.
        session: the visitor's.
        path: below where the dashboard is mounted.
        parts: the parameters of the path.
        query: the parameters of the URL; of those given twice the last.
        form: the fields of the form that was posted.
    """

    shared: Shared
    role: Role
    session: Session
    path: str
    parts: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def app(self) -> Application:
        return self.shared.app

    @property
    def timeout(self) -> float:
        return self.shared.timeout

    @property
    def may_write(self) -> bool:
        return self.role is Role.WRITE

    def given(self, name: str) -> str:
        """A field of the form, or a parameter of the URL; empty if there is none."""
        return self.form.get(name, self.query.get(name, ""))

    def needed(self, name: str) -> str:
        """The same, and it must be there.

        Raises:
            InvalidValue: it is not.
        """
        value = self.given(name)
        if not value:
            raise InvalidValue(name, "a value", "none")
        return value

    async def endpoint(self, endpoint_id: str) -> Endpoint:
        """The endpoint of an id.

        Raises:
            EndpointNotFound: there is none.
        """
        # An id that no endpoint can have: it never gets as far as the actors.
        if not 0 < len(endpoint_id) <= MAX_ENDPOINT_ID or not endpoint_id.isprintable():
            raise EndpointNotFound(endpoint_id[:MAX_ENDPOINT_ID])
        found = await self.app.endpoints.find(endpoint_id, timeout=self.timeout)
        if found is None:
            raise EndpointNotFound(endpoint_id)
        return found

    async def ask(self, message: Any) -> Any:
        """The reply to a message to an endpoint's actor."""
        mailbox = self.app.callbacks._mailbox(message.endpoint_id)
        return await mailbox.ask(message, self.timeout)


class Operation(NamedTuple):
    """One route."""

    method: str
    path: str
    run: Callable[[Visit], Awaitable[Answer]]
    needs: Role = Role.READ


class Urls:
    """Makes the URLs of a dashboard, for the templates; whatever is in them is escaped.

    Arguments:
        root: the path that the dashboard is mounted at.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def __call__(self, path: str, *parts: str, **query: Any) -> str:
        """``path`` below the root, with ``parts`` behind it, and a query; empty values are left
        out."""
        whole = "/".join([path, *(quote(part, safe="") for part in parts)])
        given = {name: value for name, value in query.items() if value not in (None, "", False)}
        return self.root + whole + (f"?{urlencode(given)}" if given else "")


def safe_path(path: str) -> str:
    """A path below the root that one may be sent to, or ``/``: never another site."""
    return path if len(path) <= 2_000 and _SAFE_PATH.fullmatch(path) else "/"
