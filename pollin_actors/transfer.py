"""Endpoints and callbacks as lines of JSON (NDJSON): out of one inbox and into another.

```python
with open("inbox.ndjson", "wb") as file:
    file.writelines(dump(app))

with open("inbox.ndjson", "rb") as file:
    load(other, file)
```
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pollin_actors.application import Application
from pollin_actors.backends.values import tagged, untagged
from pollin_actors.errors import EndpointExists, EndpointNotFound, InvalidValue
from pollin_actors.otp import ReplyFuture
from pollin_actors.resources import Callback, Endpoint, Outcome, PushResult, Request, Secret
from pollin_actors.settings import DEFAULT_TIMEOUT

__all__ = ["Loaded", "dump", "load"]

VERSION = 1
# At most so many callbacks, and so many characters of lines, are under way.
IN_FLIGHT = 256
IN_FLIGHT_SIZE = 8 * 1024 * 1024

_HEADER = {"pollin": "dump", "version": VERSION}
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Loaded(NamedTuple):
    """What became of a dump that was loaded."""

    endpoints: int
    """Endpoints that were created."""
    queued: int
    """Callbacks that were added."""
    duplicates: int
    """Callbacks whose ids were known, and which added nothing."""


def dump(
    app: Application,
    endpoint_ids: Iterable[str] | None = None,
    *,
    secrets: bool = False,
    timeout: float | None = DEFAULT_TIMEOUT,
) -> Iterator[bytes]:
    """The contents of an inbox, a line at a time. Memory stays flat: it reads page by page.

    What is queued all the while comes exactly once; what is pushed or removed meanwhile may come
    or not. The last line says how many lines there were, so that a dump that was cut off is
    noticed. The memory of ids that are no longer queued is not in it.

    Arguments:
        app: a running application.
        endpoint_ids: whose callbacks; None: those of all endpoints.
        secrets: whether the endpoints' secrets are in it. Without them an endpoint that the
            other inbox does not have gets a new one there.
        timeout: seconds for each page that is read.

    Raises:
        EndpointNotFound: there is no such endpoint.
        InvalidValue: a callback holds a value that is not a Request, and not made of what JSON
            has; only the memory backend takes such values.
    """
    if endpoint_ids is None:
        endpoints = app.endpoints.index(timeout=timeout).get()
    else:
        endpoints = [_find(app, endpoint_id, timeout) for endpoint_id in endpoint_ids]
    yield _line(_HEADER)
    for endpoint in endpoints:
        yield _line({"endpoint": _endpoint_fields(endpoint, secrets)})
    callbacks = 0
    for endpoint in endpoints:
        for callback in app.callbacks.dump(endpoint.id, timeout=timeout):
            yield _line({"callback": {"endpoint": endpoint.id, **_callback_fields(callback)}})
            callbacks += 1
    yield _line({"end": {"endpoints": len(endpoints), "callbacks": callbacks}})


def load(
    app: Application, lines: Iterable[bytes | str], *, timeout: float | None = DEFAULT_TIMEOUT
) -> Loaded:
    """Add what :func:`dump` wrote. Memory stays flat.

    Callbacks keep id, phase, time of creation and place; their time to live begins anew.
    Endpoints that exist are left as they are. It is no transaction, but it can be repeated: what
    was added before an error is not added again.

    Arguments:
        app: a running application.
        lines: for example a file that is open for reading.
        timeout: seconds for each callback.

    Raises:
        InvalidValue: a line is not one of a dump, or the end is missing; names the line.
        PollinError: what ``push`` raises, with a note that names the line.
    """
    loading = _Loading(app, timeout)
    for number, line in enumerate(lines, 1):
        if line.strip():
            loading.take(number, line)
    return loading.finish()


class _Loading:
    def __init__(self, app: Application, timeout: float | None) -> None:
        self._app = app
        self._timeout = timeout
        self._under_way: deque[tuple[int, int, ReplyFuture[PushResult]]] = deque()
        self._size = 0
        self._begun = self._ended = False
        self._endpoints = self._created = self._callbacks = self._queued = 0

    def take(self, number: int, line: bytes | str) -> None:
        where = f"line {number} of the dump"
        try:
            fields = json.loads(line)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise InvalidValue(where, "a JSON object", f"{len(line)} characters of something else")
        if not self._begun:
            if fields != _HEADER:
                raise InvalidValue(where, json.dumps(_HEADER), _names(fields))
            self._begun = True
            return
        if self._ended or len(fields) != 1:
            expected = "nothing after the end" if self._ended else "an object with one name"
            raise InvalidValue(where, expected, _names(fields))
        [(kind, content)] = fields.items()
        try:
            if kind == "endpoint":
                self._endpoint(content)
            elif kind == "callback":
                self._callback(number, len(line), content)
            elif kind == "end":
                self._end(content)
            else:
                raise InvalidValue(where, "endpoint, callback or end", repr(kind)[:80])
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, InvalidValue):
                error.add_note(f"at {where}")
                raise
            raise InvalidValue(where, "the fields that dump writes", repr(error)[:80]) from error

    def finish(self) -> Loaded:
        while self._under_way:
            self._settle_first()
        if not self._ended:
            hint = "it was cut off: what was in it is loaded, and the rest is missing"
            raise InvalidValue("the dump", "a line that says it ends", "none", hint)
        return Loaded(self._created, self._queued, self._callbacks - self._queued)

    def _endpoint(self, fields: dict[str, Any]) -> None:
        self._endpoints += 1
        if self._app.endpoints.find(fields["id"], timeout=self._timeout).get() is not None:
            return
        secret = fields.get("secret")
        endpoint = Endpoint(
            id=fields["id"],
            secret=Secret.generate() if secret is None else Secret(secret),
            phases=fields["phases"],
            ttl=fields["ttl"],
            created_at=fields["created_at"],
            dedup_for=fields["dedup_for"],
        )
        try:
            self._app.endpoints.create(endpoint, timeout=self._timeout).get()
        except EndpointExists:
            return  # somebody else was quicker
        self._created += 1

    def _callback(self, number: int, size: int, fields: dict[str, Any]) -> None:
        callback = Callback(fields["id"], _request(fields), fields["phase"], fields["created_at"])
        reply = self._app.callbacks.push(fields["endpoint"], callback, timeout=self._timeout)
        self._under_way.append((number, size, reply))
        self._size += size
        self._callbacks += 1
        while len(self._under_way) >= IN_FLIGHT or self._size > IN_FLIGHT_SIZE:
            self._settle_first()

    def _settle_first(self) -> None:
        number, size, reply = self._under_way.popleft()
        self._size -= size
        try:
            result = reply.get()
        except Exception as error:
            error.add_note(f"at line {number} of the dump; loading it again adds nothing twice")
            raise
        if result.outcome is Outcome.QUEUED:
            self._queued += 1

    def _end(self, fields: dict[str, Any]) -> None:
        found = {"endpoints": self._endpoints, "callbacks": self._callbacks}
        if fields != found:
            hint = "lines are missing, or were added"
            raise InvalidValue("the dump", json.dumps(fields)[:80], json.dumps(found), hint)
        self._ended = True


def _names(fields: dict[str, Any]) -> str:
    """What an error may show of a line: a secret may be in it."""
    return f"an object with {', '.join(map(repr, fields))}"[:80] if fields else "an empty object"


def _find(app: Application, endpoint_id: str, timeout: float | None) -> Endpoint:
    endpoint = app.endpoints.find(endpoint_id, timeout=timeout).get()
    if endpoint is None:
        raise EndpointNotFound(endpoint_id)
    return endpoint


def _line(fields: dict[str, Any]) -> bytes:
    return _encode(fields).encode("ascii") + b"\n"


def _endpoint_fields(endpoint: Endpoint, secrets: bool) -> dict[str, Any]:
    fields = {
        "id": endpoint.id,
        "phases": endpoint.phases,
        "ttl": endpoint.ttl,
        "created_at": endpoint.created_at,
        "dedup_for": endpoint.dedup_for,
    }
    return {**fields, "secret": endpoint.secret.reveal()} if secrets else fields


def _callback_fields(callback: Callback) -> dict[str, Any]:
    fields = {"id": callback.id, "phase": callback.phase, "created_at": callback.created_at}
    request = callback.request
    if type(request) is not Request:
        return {**fields, "value": tagged(request)}
    try:
        body = {"body": request.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": b64encode(request.body).decode("ascii")}
    return {**fields, "headers": request.headers, **body}


def _request(fields: dict[str, Any]) -> Any:
    if "value" in fields:
        return untagged(fields["value"])
    if "body" in fields:
        body = str.encode(fields["body"])
    else:
        body = b64decode(fields["body_base64"], validate=True)
    return Request(fields["headers"], body)
