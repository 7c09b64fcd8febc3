"""The inbox of a backend, opened in this process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pollin_actors import transfer
from pollin_actors.application import Application
from pollin_actors.backends import open_backend
from pollin_actors.backends.interface import Announces, Backend
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.cli.aside import Aside
from pollin_actors.cli.errors import Unavailable, UserError, of_error, of_problem
from pollin_actors.cli.inbox import Claimed, Inbox, Json
from pollin_actors.cli.urls import without_credentials
from pollin_actors.errors import EndpointNotFound, PollinError
from pollin_actors.messages import Sweep
from pollin_actors.otp import OtpError, ReplyFuture
from pollin_actors.records import Claim, Kind
from pollin_actors.resources import Request, Secret
from pollin_actors.settings import Settings
from pollin_actors.signatures import Scheme
from pollin_actors.web.admin_api.following import Following, line_view
from pollin_actors.web.admin_api.problems import problem_of
from pollin_actors.web.admin_api.strict_json import render
from pollin_actors.web.admin_api.table import Call, Operation, Reply
from pollin_actors.web.admin_api.validation import accept

__all__ = ["Local", "durable_backend", "open_local"]

SWEPT_AT_ONCE = 1_000
FOLLOW_S = 60.0
"""Seconds to wait for something to happen; then it is waited for again."""
LINES = 500
"""Lines of a dump that are read at once."""


def durable_backend(url: str, *, create: bool) -> Backend:
    """The backend of a URL, not open yet.

    Args:
        url: as it was given.
        create: whether a file that is not there may be made.

    Raises:
        UserError: it is no URL of a backend, or of one that is empty in every process.
        Unavailable: there is no such file.
    """
    try:
        backend = open_backend(url)
    except (PollinError, OtpError) as error:
        raise of_error(error) from None
    if not backend.durable:
        shown = without_credentials(url)
        raise UserError(
            f"--backend: {shown} is empty here, as it belongs to the process that opens it: give "
            "a durable one, such as sqlite:///pollin.db, or --server to ask the process that has it"
        )
    if isinstance(backend, SqliteBackend) and not create and not backend.path.exists():
        raise Unavailable(
            f"there is no inbox at {without_credentials(url)}: give another --backend, or make it "
            "with `pollin endpoint create`, `pollin serve` or `pollin load`"
        )
    return backend


def open_local(url: str, timeout: float, *, create: bool) -> Local:
    """The inbox of a backend, opened by an application of this process.

    Args:
        url: the backend's.
        timeout: seconds that each operation has.
        create: whether a file that is not there may be made.

    Raises:
        CommandError: it cannot be opened.
    """
    backend = durable_backend(url, create=create)
    try:
        app = Application(settings=Settings.from_env(backend=backend))
        app.start()
    except (PollinError, OtpError) as error:
        raise of_error(error) from None
    return Local(app, without_credentials(url), timeout)


class Local(Inbox):
    """The inbox of an application of this process.

    Args:
        app: which runs, and is stopped by ``close``.
        where: what to call it.
        timeout: seconds that each operation has.
    """

    remote = False

    def __init__(self, app: Application, where: str, timeout: float) -> None:
        self.app = app
        self.where = where
        self._timeout = timeout
        self._aside = Aside()

    @property
    def has_handlers(self) -> bool:
        """Only those that were added in this process."""
        return len(self.app.handlers) > 0

    def close(self) -> None:
        """Stop the application."""
        try:
            self._aside.close()
        finally:
            self.app.stop()

    def _ask(self, operation: Operation, endpoint_id: str, query: Json, body: Json) -> Any:
        with self._refusals():
            # By the checks of the server, with its defaults.
            defaults = {n: it["default"] for n, it in operation.query.items() if "default" in it}
            read = {n: accept(operation.query[n], it, f"query.{n}") for n, it in query.items()}
            taken = {} if operation.body is None else accept(operation.body, body, "body")
            given = {**defaults, **read}
            reply = self._aside.await_(lambda: self._run(operation, endpoint_id, given, taken))
        content = reply.content if isinstance(reply, Reply) else reply
        if content is None:
            return None
        # Written and read again, so that it is what a server would answer.
        return json.loads(render(content() if callable(content) else content))

    async def _run(self, operation: Operation, endpoint_id: str, query: Json, body: Json) -> Any:
        async def nothing() -> None:
            await asyncio.Event().wait()

        call = Call(
            app=self.app,
            timeout=self._timeout,
            mounted_at="",
            endpoint_id=endpoint_id,
            query=query,
            body=body,
            chunks=_no_chunks(),
            gone=nothing,
        )
        reply = await operation.run(call)
        assert isinstance(reply, Reply | dict)
        return reply

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """Errors of the library as a server would answer them; others are bugs, and stay."""
        try:
            yield
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                raise
            raise of_problem(problem.as_fields(), self.where) from error

    def claim(
        self, endpoint_id: str, phase: str | None, lease: float, wait: float, by: str
    ) -> Claimed | None:
        calls = self.app.callbacks

        def ask() -> ReplyFuture[list[Claim]]:
            return calls.claim(
                endpoint_id, phase=phase, lease=lease, wait=wait, by=by, timeout=self._timeout
            )

        def give_back(late: list[Claim]) -> None:
            for claim in late:
                with contextlib.suppress(PollinError, OtpError):
                    calls.release(claim, timeout=self._timeout).get()

        with self._refusals():
            claims = self._aside.await_(ask, give_back)
        return _claimed(claims[0]) if claims else None

    def dump(self, endpoint_ids: Sequence[str], secrets: bool) -> Iterator[bytes]:
        ids = endpoint_ids or None
        lines = transfer.dump(self.app, ids, secrets=secrets, timeout=self._timeout)
        while True:
            # Not around the yield: what happens to a line is not the inbox's doing.
            with self._refusals():
                some = self._aside.run(lambda: list(itertools.islice(lines, LINES)))
            if not some:
                return
            yield from some

    def load(self, lines: Iterable[bytes]) -> Json:
        with self._refusals():
            loaded = self._aside.feed(
                lines, lambda taken: transfer.load(self.app, taken, timeout=self._timeout)
            )
        return loaded._asdict()

    def follow(
        self,
        positions: Mapping[str, int],
        *,
        others: bool,
        kinds: Sequence[str] | None,
        interval: float,
    ) -> Iterator[Json | None]:
        # A backend that tells what others do is looked at as seldom as the application does it.
        told = isinstance(self.app.backend, Announces)
        following = Following(
            self.app,
            positions,
            others=others,
            kinds=None if kinds is None else frozenset(map(Kind, kinds)),
            timeout=self._timeout,
            every=None if told else interval,
        )
        try:
            with self._refusals():
                self._aside.await_(following.check)
            while True:
                yield None
                with self._refusals():
                    lines = self._aside.await_(lambda: following.next(FOLLOW_S))
                yield from [json.loads(render(line_view(line))) for line in lines]
        finally:
            following.close()

    def sweep(self) -> int:
        swept, found = 0, SWEPT_AT_ONCE
        while found == SWEPT_AT_ONCE:
            with self._refusals():
                found = self._aside.run(self._sweep)
            swept += found
        return swept

    def _sweep(self) -> int:
        reply = self.app.backend.execute(Sweep(SWEPT_AT_ONCE))
        return int(reply.get() if isinstance(reply, ReplyFuture) else reply)

    def scheme_and_secrets(self, endpoint_id: str) -> tuple[Scheme, tuple[Secret, ...]]:
        with self._refusals():
            find = self.app.endpoints.find
            endpoint = self._aside.await_(lambda: find(endpoint_id, timeout=self._timeout))
            if endpoint is None:
                raise EndpointNotFound(endpoint_id)
        return endpoint.intake.scheme, endpoint.secrets_at(time.time_ns())


async def _no_chunks() -> Any:
    return
    yield


def _claimed(claim: Claim) -> Claimed:
    request = claim.callback.request
    if not isinstance(request, Request):
        return Claimed(claim.key, claim.token, claim.attempt, [], None, 0)
    headers = list(request.headers)
    return Claimed(claim.key, claim.token, claim.attempt, headers, request.body, 0)
