"""What commands work on: an inbox, be it a backend that is opened here or a running server.

Both speak the admin API's language, so that a command is written once and answers the same.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from pollin_actors.cli.errors import NotThere, UserError
from pollin_actors.errors import EndpointNotFound
from pollin_actors.resources import MAX_ENDPOINT_ID, RESERVED_IDS
from pollin_actors.web.admin_api import (
    actor_operations,
    callback_operations,
    claim_operations,
    endpoint_operations,
    handler_operations,
    past_operations,
)
from pollin_actors.web.admin_api.table import Operation

__all__ = ["OPERATIONS", "PAGE", "Claimed", "Inbox", "Json", "only_backend", "only_server"]

Json = dict[str, Any]

PAGE = 1_000
"""What is asked for at once."""

OPERATIONS: dict[str, Operation] = {
    operation.id: operation
    for operation in (
        *endpoint_operations.OPERATIONS,
        *callback_operations.OPERATIONS,
        *claim_operations.OPERATIONS,
        *past_operations.OPERATIONS,
        *handler_operations.OPERATIONS,
        *actor_operations.OPERATIONS,
    )
}
"""Those of the admin API that are no streams."""


class Claimed(NamedTuple):
    """A callback that was claimed, as far as it is to be had."""

    key: str
    token: str
    attempt: int
    headers: list[tuple[str, str]]
    body: bytes | None
    """None: it holds a value that is no request."""
    hidden: int
    """How many headers are missing, because a server hides those with credentials."""


class Inbox(ABC):
    """Endpoints and callbacks, wherever they are. Use it in a ``with``.

    Attributes: ``where``, what to call it in texts, without credentials; ``remote``.
    """

    where: str
    remote: bool

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    @abstractmethod
    def has_handlers(self) -> bool:
        """Whether there are handlers to be looked at, those of its process."""

    @property
    def has_actors(self) -> bool:
        """Whether its process goes on when the command ends, and so has actors worth a look."""
        return self.remote

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""

    def ask(
        self,
        operation: str,
        endpoint_id: str = "",
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """Carry out an operation of the admin API; the answer is its JSON, or None.

        Parameters that are None count as not given.

        Raises:
            CommandError: it was refused, or failed.
        """
        found = OPERATIONS[operation]
        if "{endpoint_id}" in found.path and not _is_id(endpoint_id):
            raise NotThere(str(EndpointNotFound(endpoint_id[:MAX_ENDPOINT_ID])))
        given_query, given_body = _given(query), _given(body)
        try:
            json.dumps([given_query, given_body], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            # What a shell hands over may be bytes of any kind.
            raise UserError("the arguments: expected text in UTF-8, got bytes of another") from None
        return self._ask(found, endpoint_id, given_query, given_body)

    @abstractmethod
    def _ask(self, operation: Operation, endpoint_id: str, query: Json, body: Json) -> Any: ...

    @abstractmethod
    def claim(
        self, endpoint_id: str, phase: str | None, lease: float, wait: float, by: str
    ) -> Claimed | None:
        """Claim the next callback, after waiting for one for at most ``wait`` seconds."""

    @abstractmethod
    def dump(self, endpoint_ids: Sequence[str], secrets: bool) -> Iterator[bytes]:
        """Endpoints and what is queued, as lines of JSON; of all endpoints if none is given."""

    @abstractmethod
    def load(self, lines: Iterable[bytes]) -> Json:
        """Add what a dump holds; the answer counts what was added."""

    @abstractmethod
    def follow(
        self,
        positions: Mapping[str, int],
        *,
        others: bool,
        kinds: Sequence[str] | None,
        interval: float,
    ) -> Iterator[Json | None]:
        """What happens after positions: records, and lines that only say how far was read; None
        says that it is still there. It may end; then go on from where it was.

        Args:
            positions: of each endpoint.
            others: all other endpoints, too, also those that are yet to come.
            kinds: of records; None: all.
            interval: seconds between two looks, where nobody tells of changes.
        """

    @abstractmethod
    def sweep(self) -> int:
        """Remove what has expired now; how many callbacks that were."""

    @abstractmethod
    def scheme_and_secrets(self, endpoint_id: str) -> tuple[Any, tuple[Any, ...]]:
        """How requests to an endpoint are signed, and with which secrets, the newest first."""

    # -- in the words of the commands --------------------------------------------------------------

    def endpoints(self) -> list[Json]:
        """All endpoints, in the order of their creation."""
        found: list[Json] = []
        cursor = None
        while True:
            page = self.ask("list_endpoints", query={"cursor": cursor, "limit": PAGE})
            found += page["endpoints"]
            cursor = page["next"]
            if cursor is None:
                return found

    def endpoint(self, endpoint_id: str) -> Json:
        """One endpoint."""
        found: Json = self.ask("find_endpoint", endpoint_id)
        return found

    def stats(self, endpoint_id: str) -> Json:
        """How it stands."""
        found: Json = self.ask("stats", endpoint_id)
        return found

    def count(self, endpoint_id: str, phase: str | None = None) -> int:
        """How many callbacks are queued, or are in a phase."""
        found: int = self.ask("count", endpoint_id, query={"phase": phase})["count"]
        return found

    def queued(
        self, endpoint_id: str, phase: str | None, offset: int, limit: int, newest: bool = False
    ) -> Iterator[Json]:
        """Callbacks that are queued, oldest first unless the newest are asked for first."""
        operation = "fetch_reverse" if newest else "fetch_slice"
        while limit > 0:
            wanted = min(limit, PAGE)
            query = {"phase": phase, "offset": offset, "limit": wanted}
            page = self.ask(operation, endpoint_id, query=query)["callbacks"]
            yield from page
            if len(page) < wanted:
                return
            offset += wanted
            limit -= wanted

    def walk(self, endpoint_id: str) -> Iterator[Json]:
        """All that is queued, oldest first, also while callbacks come and go."""
        cursor = None
        while True:
            query = {"cursor": cursor, "limit": PAGE}
            page = self.ask("list_callbacks", endpoint_id, query=query)
            yield from page["callbacks"]
            cursor = page["next"]
            if cursor is None:
                return

    def records(
        self, endpoint_id: str, after: int, kinds: Sequence[str] | None = None, limit: int = PAGE
    ) -> Json:
        """A page of records after a position: ``records``, ``position``, ``end``."""
        query = {"after": after, "limit": limit, "kinds": list(kinds) if kinds else None}
        page: Json = self.ask("list_records", endpoint_id, query=query)
        return page

    def all_records(
        self, endpoint_id: str, after: int = 0, kinds: Sequence[str] | None = None
    ) -> Iterator[Json]:
        """All records after a position, oldest first."""
        while True:
            page = self.records(endpoint_id, after, kinds)
            yield from page["records"]
            if page["end"]:
                return
            after = page["position"]


def _is_id(text: str) -> bool:
    return (
        0 < len(text) <= MAX_ENDPOINT_ID
        and text.isprintable()
        and not any(c in "/?#" or c.isspace() for c in text)
        and text not in RESERVED_IDS
    )


def _given(parameters: Mapping[str, Any] | None) -> Json:
    return {name: value for name, value in (parameters or {}).items() if value is not None}


def only_backend(what: str, why: str) -> UserError:
    """The error for what a server does not offer."""
    return UserError(f"{what} works on a backend only (--backend), not on a server: {why}")


def only_server(what: str, why: str) -> UserError:
    """The error for what a backend does not have."""
    return UserError(f"{what} works on a running server only (--server): {why}")
